package actors

import (
	"errors"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// An event is what a machine is told: that a run is to start or to end, or what came of the effect it waits for.
type event interface{ event() }

type (
	// evStartPush, evStartPull and evStartSnapshot begin a run.
	evStartPush     struct{ messages.Push }
	evStartPull     struct{ messages.Pull }
	evStartSnapshot struct{ messages.Snapshot }
	// evCancelRun ends a run.
	evCancelRun struct{ run messages.RunID }

	// evWatch and evUnwatch begin and end a watch.
	evWatch   struct{ messages.Watch }
	evUnwatch struct{}

	// evAnswer is what the writer or the worker answered.
	evAnswer struct {
		ref    uint64
		result any
		err    error
	}
	// evStreamOpened is a watch that the server has taken; it goes on.
	evStreamOpened struct{ ref uint64 }
	// evStreamed is what a watch that goes on has brought.
	evStreamed struct {
		ref uint64
		streamed
	}
	// evFailure is a request that may succeed later.
	evFailure struct {
		ref   uint64
		after time.Duration
		err   error
	}
	// evBroken is a worker that panicked too often.
	evBroken struct {
		ref   uint64
		cause any
		stack []byte
	}
	// evWaitOver ends a wait.
	evWaitOver struct{ ref uint64 }
	// evExhausted says that a wait would be longer than the run may last.
	evExhausted struct {
		ref uint64
		err *messages.RetryExhaustedError
	}
)

func (evStartPush) event()     {}
func (evStartPull) event()     {}
func (evStartSnapshot) event() {}
func (evCancelRun) event()     {}
func (evWatch) event()         {}
func (evUnwatch) event()       {}
func (evAnswer) event()        {}
func (evStreamOpened) event()  {}
func (evStreamed) event()      {}
func (evFailure) event()       {}
func (evBroken) event()        {}
func (evWaitOver) event()      {}
func (evExhausted) event()     {}

// An effect is what a machine wants done. tell, ask and wait are answered by events with the same ref, and a machine
// has at most one of them outstanding; the others are done at once and have no answer.
type effect interface{ effect() }

type (
	// fxTell has the writer execute a command.
	fxTell struct {
		ref     uint64
		command messages.Command
	}
	// fxAsk has the worker make a request.
	fxAsk struct {
		ref     uint64
		request request
	}
	// fxWait lets the delay pass that is due after a failure.
	fxWait struct {
		ref       uint64
		operation string
		err       error
		after     time.Duration
		oneShot   bool
	}

	// fxAbandon ends whatever is outstanding.
	fxAbandon struct{}
	// fxProgressed says that delays start small again, or go on from so many failures that came before.
	fxProgressed struct{ failures int }
	// fxDiscard has a request made whose outcome matters to nobody.
	fxDiscard struct{ request request }
	// fxReport tells the session something.
	fxReport struct{ message messages.Session }
)

func (fxTell) effect()       {}
func (fxAsk) effect()        {}
func (fxWait) effect()       {}
func (fxAbandon) effect()    {}
func (fxProgressed) effect() {}
func (fxDiscard) effect()    {}
func (fxReport) effect()     {}

// machine decides. It is plain data: no clock, no I/O, no goroutine, and the same events bring the same effects.
type machine interface {
	// step takes an event and returns what is to be done, in this order. The slice is valid until the next call.
	step(event) []effect
}

// waker is what ends a state.
type waker uint8

const (
	nobody waker = iota // idle: a new run
	writerWakes
	workerWakes
	timerWakes
)

// flow is the part that machines share: one outstanding effect, and its repetition after a transient failure. It is
// plain data; what an answer is for, the embedding machine keeps in its stage.
type flow struct {
	run     messages.RunID // 0: idle
	oneShot bool

	ref   uint64 // of the last effect that has an answer; refs are never used twice
	waker waker
	given effect // fxTell or fxAsk: what is outstanding, or will be again after a wait

	// Of the run.
	link  messages.Link
	state local.State // as it was when the run began

	out []effect
}

// begin forgets the effects of the step before: they hold rows, and an idle engine is to hold none.
func (f *flow) begin() {
	clear(f.out[:cap(f.out)])
	f.out = f.out[:0]
}

func (f *flow) emit(e effect) { f.out = append(f.out, e) }

func (f *flow) report(m messages.Session) { f.emit(fxReport{m}) }

func (f *flow) reportTables(cause messages.Cause, tables local.TableSet) {
	if len(tables) > 0 {
		f.report(messages.TablesChanged{Cause: cause, Tables: tables})
	}
}

// call is what every request of the run carries.
func (f *flow) call() call {
	return call{contract: f.link.Contract, source: f.state.Attachment.CurrentSourceID}
}

// contract is the dialect that the run speaks. The session has checked that there is one.
func (f *flow) contract() wire.Contract {
	k, err := wire.ContractByName(f.link.Contract)
	if err != nil {
		panic(err)
	}
	return k
}

// tell has the writer execute a command.
func (f *flow) tell(c messages.Command) {
	f.ref++
	e := fxTell{ref: f.ref, command: c}
	f.waker, f.given = writerWakes, e
	f.emit(e)
}

// ask has the worker make a request.
func (f *flow) ask(r request) {
	f.ref++
	e := fxAsk{ref: f.ref, request: r}
	f.waker, f.given = workerWakes, e
	f.emit(e)
}

// askLater has the worker make a request after the delay that is due for a failure.
func (f *flow) askLater(r request, cause error) {
	f.given = fxAsk{request: r}
	f.delay(r.operation(), cause, 0)
}

// delay lets the delay pass that is due after a failure; what was given is given again after it.
func (f *flow) delay(operation string, cause error, floor time.Duration) {
	f.ref++
	f.waker = timerWakes
	f.emit(fxWait{ref: f.ref, operation: operation, err: cause, after: floor, oneShot: f.oneShot})
}

// rest makes the flow idle.
func (f *flow) rest() { f.run, f.waker, f.given = 0, nobody, nil }

// outcome is what came of an effect. final is set for an error that ends the run whatever it was doing.
type outcome struct {
	result any
	err    error
	final  bool
}

// came takes an event about the outstanding effect. It reports true when the effect has come to an end; a failure
// that may pass is repeated after a delay instead. Events about effects that were abandoned do nothing.
func (f *flow) came(ev event) (outcome, bool) {
	switch e := ev.(type) {
	case evAnswer:
		if e.ref != f.ref || f.waker != writerWakes && f.waker != workerWakes {
			break
		}
		var database *local.DatabaseError
		if f.waker == writerWakes && errors.As(e.err, &database) && database.Transient {
			f.delay(database.Operation, e.err, 0)
			break
		}
		return outcome{result: e.result, err: e.err}, true
	case evFailure:
		if e.ref == f.ref && f.waker == workerWakes {
			f.delay(f.given.(fxAsk).request.operation(), e.err, e.after)
		}
	case evWaitOver:
		if e.ref != f.ref || f.waker != timerWakes {
			break
		}
		switch given := f.given.(type) {
		case fxTell:
			f.tell(given.command)
		case fxAsk:
			f.ask(given.request)
		}
	case evExhausted:
		if e.ref == f.ref && f.waker == timerWakes {
			return outcome{err: e.err, final: true}, true
		}
	case evBroken:
		if e.ref == f.ref && f.waker == workerWakes {
			f.report(messages.ChildFailed{Child: "worker", Cause: e.cause, Stack: e.stack})
			return outcome{err: &messages.EngineFailedError{Cause: e.cause, Stack: e.stack}, final: true}, true
		}
	}
	return outcome{}, false
}

// runError types an error that ends a run: what concerns credentials is the same for every request.
func runError(err error) error {
	if failure := transport.Classify(err); failure.Class == transport.Auth {
		auth := &messages.AuthError{Status: failure.Status, Err: err}
		var refused *wire.HTTPError
		if errors.As(err, &refused) {
			auth.Operation = refused.Operation
		}
		return auth
	}
	return err
}
