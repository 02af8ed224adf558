package messages

import "time"

// Watcher is what the watcher receives from its session.
type Watcher interface{ watcher() }

// Watch asks for the stream of changes to be kept open until Unwatch, in place of one that was asked for before. Whenever
// it ends it is opened again, after a supervised delay and from the checkpoint that is on disk by then.
type Watch struct {
	Epoch uint64 // carried back by everything that is told about it
	// Failures is how often in a row a stream was lost before: delays go on from there.
	Failures int
}

// Unwatch ends the stream. Nothing more is told about it.
type Unwatch struct{}

func (Watch) watcher()   {}
func (Unwatch) watcher() {}
func (Kick) watcher()    {}

// WatchOpened tells that the server streams changes from here on: what it has committed by now, and the client lacks, it
// tells of at once.
type WatchOpened struct{ Epoch uint64 }

// WatchHint tells that the server has committed bundles up to Seq. It is a hint to pull, never data. Our own pushes are among
// them: at or below the checkpoint there is nothing to do. Hints that arrive together are told as one, with the last Seq.
type WatchHint struct {
	Epoch uint64
	Seq   int64
}

// WatchAlive tells that a heartbeat has come, at most once a second however many a server sends. It asks for nothing; it is
// the clock of an engine that has no other: while a stream is open there is no poll, hence no timer at whose expiry to look
// whether another process has written to the database (PRAGMA data_version). Commits of this process need no look.
type WatchAlive struct{ Epoch uint64 }

// WatchLost tells that the stream ended, or could not be opened, and when that is tried again. Changes go unseen until
// WatchOpened: they have to be polled for.
type WatchLost struct {
	Epoch   uint64
	Err     error
	Attempt int
	Until   time.Time
}

// WatchRefused tells that the stream is over for good, and nothing more is told about it: the server forbids it to this
// client, an AuthError, or an AttachRequiredError. The last is told, not recorded: the watcher
// writes nothing, for a push may be under way. A pull meets the same answer and records it.
type WatchRefused struct {
	Epoch uint64
	Err   error
}

func (WatchOpened) session()  {}
func (WatchHint) session()    {}
func (WatchAlive) session()   {}
func (WatchLost) session()    {}
func (WatchRefused) session() {}
