package messages

import "time"

// Watcher is what the watcher receives from its session.
type Watcher interface{ watcher() }

// Watch asks for the stream of changes to be kept open until Unwatch, in place of one that was asked for before. Whenever
// it ends it is opened again, after a supervised delay and from the checkpoint that is on disk by then.
type Watch struct {
	Epoch uint64 // carried back by everything that is told about it
}

// Unwatch ends the stream. Nothing more is told about it.
type Unwatch struct{}

func (Watch) watcher()   {}
func (Unwatch) watcher() {}
func (Kick) watcher()    {}

// WatchOpened tells that the server streams changes from here on: what it has committed by now, and the client lacks, it
// tells of at once.
type WatchOpened struct{ Epoch uint64 }

// WatchHint tells that the server has committed bundles up to Seq. It is a hint to pull, never data.
type WatchHint struct {
	Epoch uint64
	Seq   int64
}

// WatchLost tells that the stream ended, or could not be opened, and when that is tried again. Changes go unseen until
// WatchOpened: they have to be polled for.
type WatchLost struct {
	Epoch   uint64
	Err     error
	Attempt int
	Until   time.Time
}

// WatchRefused tells that the stream is over for good: the server does not offer it to this client, or refuses it for a
// reason that no repetition mends. Nothing more is told about it.
type WatchRefused struct {
	Epoch uint64
	Err   error
}

func (WatchOpened) session()  {}
func (WatchHint) session()    {}
func (WatchLost) session()    {}
func (WatchRefused) session() {}
