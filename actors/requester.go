package actors

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
)

const (
	// maxPanics is how often in a row a worker may panic for no reason we know before its owner gives it up.
	maxPanics = 5
	// discardTimeout bounds a best-effort request.
	discardTimeout = 10 * time.Second
	// hungAfter is for how long nothing of a request may have moved before a Kick ends it and has it made again. It is twice as
	// long each time, until one is answered: who kicks all the time is not to keep a server from ever finishing what takes it long.
	hungAfter = 5 * time.Second
	// mostHung bounds how often it is doubled: a request ends by itself before.
	mostHung = 6
)

// errHung ends a request that seems to hang when somebody knows better than to wait.
var errHung = errors.New("nothing has moved for a while, and it was asked for now")

// requester is embedded in an actor that makes requests: it has one of them at a time made by a leaf worker, which
// it supervises, and turns the worker's failures into delays.
//
// Everything it learns reaches its owner as an event, through the owner's mailbox and receive. All methods are to be
// called on the owner's goroutine. The owner calls begin on Started, end on Stopping and on Restarting, and offers
// every message to receive.
type requester struct {
	network *network
	retries *retries
	leaf    func(*network) *actor.Props // of the worker

	system *actor.ActorSystem
	self   *actor.PID
	base   context.Context //nolint:containedctx // ends with the owner
	stop   context.CancelFunc

	worker     *actor.PID // nil until the first request
	supervisor actor.Supervisor
	failed     bool // the worker failed and is suspended until it is restarted
	panics     int  // unexpected ones in a row

	ref    uint64             // of the outstanding request; 0: none
	cancel context.CancelFunc // of the outstanding request

	asking   request             // what is outstanding
	began    time.Time           // when it was given
	activity *transport.Activity // of it
	lasts    bool                // it goes on answering: that nothing moves means nothing
	hung     int                 // in a row that a Kick has ended

	turn time.Time // when the gate expects the next attempt at what failed last; zero: it has no say in it

	due   uint64 // ref of the wait; 0: none
	timer func() // stops it; nil: none
}

func newRequester(n *network, cfg RetryConfig) requester {
	return requester{network: n, retries: newRetries(cfg, &n.world), leaf: workerProps}
}

// timerDue tells an owner that a wait is over.
type timerDue struct{ ref uint64 }

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: a timer may fire while its owner ends.
func (timerDue) IgnoreDeadLetterLogging() {}

// workerFailed tells an owner that its worker failed.
type workerFailed struct {
	ref    uint64
	reason any // *RetryLater, or what the worker panicked with
}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: owners end while workers fail.
func (workerFailed) IgnoreDeadLetterLogging() {}

func (r *requester) begin(c actor.Context) {
	r.system, r.self = c.ActorSystem(), c.Self()
	r.base, r.stop = context.WithCancel(context.Background())
}

// end cancels whatever is under way, best-effort requests included. The worker, a child, ends with its owner.
func (r *requester) end() {
	r.abandon()
	if r.stop != nil {
		r.stop()
	}
}

// request gives the worker a request, in place of whatever is outstanding. The events about it carry ref, which must
// not be that of another request that is or was abandoned.
func (r *requester) request(c actor.Context, ref uint64, req request) {
	r.abandon()
	if r.worker == nil {
		r.worker = c.Spawn(r.leaf(r.network))
	}
	r.restart()
	r.activity = &transport.Activity{}
	ctx, cancel := context.WithCancel(transport.WithActivity(r.base, r.activity))
	r.ref, r.cancel, r.turn = ref, cancel, time.Time{}
	r.asking, r.began, r.lasts = req, r.network.world.now(), false
	c.Send(r.worker, job{ref: ref, ctx: ctx, request: req})
}

// restart brings a failed worker back.
func (r *requester) restart() {
	if r.failed {
		r.failed = false
		r.supervisor.RestartChildren(r.worker)
	}
}

// discard has a request made whose outcome matters to nobody, by a worker of its own: it delays nothing.
func (r *requester) discard(c actor.Context, req request) {
	ctx, cancel := context.WithTimeout(r.base, discardTimeout)
	c.Send(c.Spawn(workerProps(r.network)), job{ctx: ctx, request: req, discard: cancel})
}

// wait arms the timer for the next attempt at an operation, after the delay that is due, and returns what there is to
// tell about it. A one-shot call that has no time left gets an error instead, and nothing is armed.
func (r *requester) wait(ref uint64, operation string, cause error, floor time.Duration, oneShot bool) (messages.Waiting, *messages.RetryExhaustedError) {
	r.abandon()
	var (
		delay     time.Duration
		exhausted *messages.RetryExhaustedError
	)
	if r.turn.IsZero() {
		delay, exhausted = r.retries.next(operation, cause, floor, oneShot)
	} else {
		delay, exhausted = r.retries.turn(operation, cause, r.turn, oneShot)
	}
	r.turn = time.Time{}
	if exhausted != nil {
		return messages.Waiting{}, exhausted
	}
	r.due = ref
	root, self := r.system.Root, r.self
	world := &r.network.world
	r.timer = world.afterFunc(delay, func() { root.Send(self, timerDue{ref: ref}) })
	return messages.Waiting{Reason: operation, Err: cause, Attempt: r.retries.attempts, Until: world.now().Add(delay)}, nil
}

// kick ends a wait now, or a request that seems to hang, which failed then. It reports false when there is neither.
func (r *requester) kick() (event, bool) {
	switch {
	case r.due != 0:
		ref := r.due
		r.abandon()
		return evWaitOver{ref: ref}, true
	case r.hangs():
		ref, asked := r.ref, r.asking
		r.abandon()
		r.hung = min(r.hung+1, mostHung)
		return evFailure{ref: ref, err: &transport.NetworkError{Operation: asked.operation(), Err: errHung}}, true
	default:
		return nil, false
	}
}

// hangs reports whether nothing of the outstanding request has moved for so long that it may as well be made again. That is
// safe for every request, as after any other in which the connection was lost.
func (r *requester) hangs() bool {
	if _, resolving := r.asking.(resolveRequest); r.ref == 0 || r.lasts || resolving {
		return false
	}
	last := r.began
	if moved := r.activity.Last(); moved.After(last) {
		last = moved
	}
	return r.network.world.now().Sub(last) >= hungAfter<<r.hung
}

// abandon ends the outstanding request or wait; nothing more is heard of it.
func (r *requester) abandon() {
	if r.cancel != nil {
		r.cancel()
		r.ref, r.cancel, r.asking = 0, nil, nil
	}
	if r.timer != nil {
		r.timer()
		r.due, r.timer = 0, nil
	}
}

// receive turns a message of the worker or the timer into an event. ours is false for any other message; the event
// is nil when the message is about a request or wait that was abandoned.
func (r *requester) receive(message any) (ev event, ours bool) {
	switch m := message.(type) {
	case answered:
		if m.ref != r.ref {
			return nil, true
		}
		r.panics, r.hung = 0, 0
		r.abandon()
		return evAnswer{ref: m.ref, result: m.result, err: m.err}, true
	case workerFailed:
		if m.ref != r.ref {
			if r.ref != 0 {
				// It failed on an abandoned request while the current one is waiting in its mailbox.
				r.restart()
			}
			return nil, true
		}
		r.abandon()
		return r.failure(m), true
	case timerDue:
		if m.ref != r.due {
			return nil, true
		}
		r.abandon()
		return evWaitOver{ref: m.ref}, true
	default:
		return nil, false
	}
}

func (r *requester) failure(m workerFailed) event {
	if later, ok := m.reason.(*RetryLater); ok {
		r.panics, r.turn = 0, later.Turn
		return evFailure{ref: m.ref, after: later.After, err: later.Err}
	}
	r.panics++
	p := asPanicked(m.reason)
	if r.panics >= maxPanics {
		r.panics = 0
		return evBroken{ref: m.ref, cause: p.cause, stack: p.stack}
	}
	return evFailure{ref: m.ref, err: p}
}

// supervises reports whether a failed child is this requester's worker.
func (r *requester) supervises(child *actor.PID) bool {
	return r.worker != nil && r.worker.Equal(child)
}

// HandleFailure implements actor.SupervisorStrategy for the worker. It runs on the owner's goroutine. The worker stays
// suspended until there is a request for it again.
func (r *requester) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	if !r.supervises(child) {
		supervisor.StopChildren(child)
		return
	}
	if _, ok := reason.(*RetryLater); !ok {
		failPanicked(r.network.log, "a worker panicked", reason)
	}
	r.supervisor, r.failed = supervisor, true
	var ref uint64
	if j, ok := actor.UnwrapEnvelopeMessage(message).(job); ok {
		ref = j.ref
	}
	r.system.Root.Send(r.self, workerFailed{ref: ref, reason: reason})
}
