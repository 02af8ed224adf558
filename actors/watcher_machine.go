package actors

import (
	"errors"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
)

// watchStage is what the answer that the watch machine waits for is about, or would be about after the wait.
type watchStage uint8

const (
	watchOff       watchStage = iota
	watchLoading              // LoadState; also while it waits to open the stream again
	watchOpening              // watchRequest that the server has not taken yet
	watchStreaming            // watchRequest that it has
)

// watchMachine decides how the stream of changes is kept open: from the checkpoint that is on disk, again after a delay
// whenever it ends, and no more once the server has refused it for good. See SPEC.md for its transitions.
//
// It reads and never writes. What an answer says about the scope or the credentials is as true of the next pull, and the
// session decides when that is.
type watchMachine struct {
	flow
	stage watchStage
	epoch uint64
	lease bool  // the scope is still to be seeded from here
	told  int64 // the last hint of this stream; 0: none
}

func newWatchMachine(ref uint64) *watchMachine { return &watchMachine{flow: flow{ref: ref}} }

// step implements machine.
func (m *watchMachine) step(ev event) []effect {
	m.begin()
	switch e := ev.(type) {
	case evWatch:
		m.end()
		m.epoch = e.Epoch
		m.emit(fxProgressed{e.Failures})
		m.stage = watchLoading
		m.tell(messages.LoadState{})
	case evUnwatch:
		m.end()
	case evStreamOpened:
		if e.ref == m.ref && m.stage == watchOpening {
			m.stage = watchStreaming
			m.report(messages.WatchOpened{Epoch: m.epoch})
		}
	case evStreamed:
		if e.ref == m.ref && m.stage == watchStreaming {
			m.heard(e.streamed)
		}
	case evFailure:
		if e.ref == m.ref && m.waker == workerWakes {
			m.lose(e.err, e.after)
		}
	default:
		if o, ended := m.came(ev); ended {
			m.take(o)
		}
	}
	return m.out
}

// end ends the watch without a word.
func (m *watchMachine) end() {
	if m.stage != watchOff {
		m.emit(fxAbandon{})
		m.stage = watchOff
		m.rest()
	}
}

func (m *watchMachine) take(o outcome) {
	switch {
	case o.final:
		m.refuse(o.err)
	case o.err == nil:
		m.loaded(o.result.(local.State))
	case m.stage == watchLoading:
		m.unread(o.err)
	default:
		m.refused(o.err)
	}
}

// loaded opens the stream from what is on disk.
func (m *watchMachine) loaded(s local.State) {
	err := gateError(transport.OpWatch, s)
	var attach *messages.AttachRequiredError
	switch {
	case errors.As(err, &attach):
		m.refuse(err)
	case err != nil:
		// Somebody will recover the source, under whatever id: that is on disk then, and a look there costs little.
		m.lose(err, 0)
	default:
		m.stage, m.told = watchOpening, 0
		m.lease = s.Attachment.InitializationID != ""
		m.ask(watchRequest{source: s.Attachment.CurrentSourceID, after: s.Attachment.Checkpoint})
	}
}

// unread takes an error of the database that does not pass by itself in a moment.
func (m *watchMachine) unread(err error) {
	var closed *messages.OpenRequiredError
	if errors.Is(err, messages.ErrClosed) || errors.As(err, &closed) {
		m.refuse(err)
		return
	}
	m.lose(err, 0)
}

// heard takes what the stream has brought.
func (m *watchMachine) heard(s streamed) {
	if s.proved {
		m.emit(fxProgressed{})
	}
	if s.seq != 0 && s.seq != m.told {
		m.told = s.seq
		m.report(messages.WatchHint{Epoch: m.epoch, Seq: s.seq})
	}
	if s.beat {
		m.report(messages.WatchAlive{Epoch: m.epoch})
	}
}

// refused takes an answer that does not pass by itself in a moment. Only what is known to be for good ends the watch: a
// network that one has to log in to answers in place of any server, a gateway says 404 while a server is being replaced, and
// a server that cannot stream today may tomorrow. A server without the endpoint says so with its capabilities, and is not asked.
func (m *watchMachine) refused(err error) {
	f := transport.Classify(err)
	switch {
	case f.Class == transport.Auth:
		m.refuse(runError(err))
	case f.Class == transport.Code && f.Code == "bundle_change_watch_forbidden":
		m.refuse(err)
	case f.Class == transport.Code && (f.Code == "scope_uninitialized" || f.Code == "scope_initializing") && !m.lease:
		m.refuse(&messages.AttachRequiredError{Operation: transport.OpWatch, Reason: f.Code})
	default:
		m.lose(err, f.RetryAfter)
	}
}

// lose lets the delay pass that is due after a failure, then begins again with what is on disk by then.
func (m *watchMachine) lose(err error, floor time.Duration) {
	m.stage = watchLoading
	m.given = fxTell{command: messages.LoadState{}}
	m.delay(transport.OpWatch, err, floor)
}

// refuse ends the watch for good.
func (m *watchMachine) refuse(err error) {
	m.stage = watchOff
	m.rest()
	m.report(messages.WatchRefused{Epoch: m.epoch, Err: err})
}
