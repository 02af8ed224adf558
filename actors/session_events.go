package actors

import (
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// The events of the session machine, beside those of messages.Session and messages.WriterDone.
type (
	// evCalled is a caller asking for a verb. ID is unique in the session's lifetime.
	evCalled struct {
		ID   uint64
		Verb Verb
		User string     // VerbAttach
		IDs  []int64    // VerbRetryQuarantined, VerbDiscardQuarantined
		Auto AutoConfig // VerbStart
	}
	// evLeft is a caller who waits no longer.
	evLeft struct{ ID uint64 }

	// evOpened answers an fxOpen.
	evOpened struct {
		Ref   uint64
		State local.State
		Err   error
	}
	// evCapable answers an fxCapabilities.
	evCapable struct {
		Ref          uint64
		Capabilities wire.Capabilities
		Err          error
	}
	// evConnected answers an fxConnect.
	evConnected struct {
		Ref      uint64
		Response wire.ConnectResponse
		Err      error
	}
	// evStopped answers an fxStop: every child is gone and the database is closed.
	evStopped struct{}

	// evLost tells that the uploader or the puller panicked in a run. It has been answered as a rule; this is for when
	// it has not.
	evLost struct {
		Child Child
		Run   messages.RunID
		Err   error
	}
	// evCrashed tells that something panicked more often than it may. The engine stops until Restart.
	evCrashed struct {
		Cause any
		Stack []byte
	}

	// evPaused sets or clears a pause flag.
	evPaused struct{ Uploads, Paused bool }
	// evKicked ends a backoff delay.
	evKicked struct{}

	// evWritten tells that something was committed over the application's connections, once after fxListen. Commits counts
	// the commits so far.
	evWritten struct{ Commits uint64 }
	// evAlarm tells that the alarm of that number has come.
	evAlarm struct {
		Ref     uint64
		Commits uint64
	}
	// evUnwatched answers an fxUnwatch: the watcher is gone and its stream is closed.
	evUnwatched struct{}
)

// Child names a child of a session, or the session's own requests.
type Child string

// The children.
const (
	ChildWriter   Child = "writer"
	ChildUploader Child = "uploader"
	ChildPuller   Child = "puller"
	ChildWatcher  Child = "watcher"
)

// sessionEffect is something the session machine wants done. fxOpen, fxDo, fxCapabilities, fxConnect, fxPush, fxPull,
// fxSnapshot, fxUnwatch and fxStop are answered by exactly one event, with the same reference where there is one. The others
// have no answer.
type sessionEffect interface{ sessionEffect() }

type (
	// fxReply answers a caller.
	fxReply struct {
		ID     uint64
		Result Result
		Err    error
	}
	// fxOpen opens the database and starts the children; what was open before is closed first.
	fxOpen struct{ Ref uint64 }
	// fxDo gives the writer a command.
	fxDo struct {
		Ref     uint64
		Command messages.Command
	}
	// fxCapabilities asks the server what it can do.
	fxCapabilities struct {
		Ref      uint64
		SourceID string
		Failures int // in a row, that came before
	}
	// fxConnect asks the server who is to initialize the scope.
	fxConnect struct {
		Ref      uint64
		Contract wire.ContractName
		SourceID string
		Pending  bool // has_local_pending_rows
		Failures int  // in a row, that came before
	}
	// fxPush, fxPull and fxSnapshot give the uploader and the puller their run.
	fxPush     struct{ messages.Push }
	fxPull     struct{ messages.Pull }
	fxSnapshot struct{ messages.Snapshot }
	// fxCancel ends the effect that is outstanding for the current run; its answer comes all the same.
	fxCancel struct{ Effect sessionEffect }
	// fxKick ends every backoff delay below.
	fxKick struct{}
	// fxStop cancels whatever runs, stops the children in order and closes the database.
	fxStop struct{}
	// fxTerminate ends the session itself.
	fxTerminate struct{}
	// fxPublish hands an event to the subscribers.
	fxPublish struct{ Event Event }
	// fxRan tells that a run has ended, for log and metrics.
	fxRan struct {
		Verb   Verb
		Result Result
		Began  time.Time
		Err    error
	}

	// fxListen switches the commit signal on, for one evWritten, or off.
	fxListen struct{ On bool }
	// fxAlarm sets the one alarm, in place of the one before; no At: none.
	fxAlarm struct {
		Ref uint64
		At  time.Time
	}
	// fxWatch has the watcher keep a stream open. It is told of by messages.WatchOpened and the like.
	fxWatch struct{ messages.Watch }
	// fxUnwatch ends the watcher.
	fxUnwatch struct{}
)

func (fxReply) sessionEffect()        {}
func (fxOpen) sessionEffect()         {}
func (fxDo) sessionEffect()           {}
func (fxCapabilities) sessionEffect() {}
func (fxConnect) sessionEffect()      {}
func (fxPush) sessionEffect()         {}
func (fxPull) sessionEffect()         {}
func (fxSnapshot) sessionEffect()     {}
func (fxCancel) sessionEffect()       {}
func (fxKick) sessionEffect()         {}
func (fxStop) sessionEffect()         {}
func (fxTerminate) sessionEffect()    {}
func (fxPublish) sessionEffect()      {}
func (fxRan) sessionEffect()          {}
func (fxListen) sessionEffect()       {}
func (fxAlarm) sessionEffect()        {}
func (fxWatch) sessionEffect()        {}
func (fxUnwatch) sessionEffect()      {}
