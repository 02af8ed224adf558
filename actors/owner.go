package actors

import (
	"context"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/oversqlite/oversqlite/messages"
)

// owner is the shell of a machine: it feeds it events and carries out its effects. It decides nothing.
//
// It never blocks, so it can be cancelled, kicked and stopped whatever it waits for. When its machine panics, its
// supervisor, the session, learns it and ends the run; a restart begins with a machine that knows nothing.
type owner struct {
	requester
	machine  machine
	writer   *actor.PID
	session  *actor.PID
	upload   bool
	announce func(actor.Context, messages.Waiting) // tells the session that this owner waits

	run   messages.RunID // the last one
	waits bool           // a wait was reported and is not over
	// unanswered is set when requests have failed, until the server answers one.
	unanswered bool
	told       uint64             // ref of the last command
	release    context.CancelFunc // interrupts it
}

func newOwner(cfg ownerConfig, m machine) *owner {
	o := &owner{requester: newRequester(cfg.network, cfg.retry), machine: m, writer: cfg.writer}
	o.announce = o.waiting
	return o
}

// incarnations keeps the refs of an owner's incarnations apart: answers to one that was restarted must not be taken
// for answers to its successor.
var incarnations atomic.Uint64

func firstRef() uint64 { return incarnations.Add(1) << 32 }

// Receive implements actor.Actor.
func (o *owner) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		o.session = c.Parent()
		o.begin(c)
	case *actor.Stopping, *actor.Restarting:
		o.abandonAll()
		o.end()
	case messages.Push:
		o.run = m.Run
		o.feed(c, evStartPush{m})
	case messages.Pull:
		o.run = m.Run
		o.feed(c, evStartPull{m})
	case messages.Snapshot:
		o.run = m.Run
		o.feed(c, evStartSnapshot{m})
	case messages.Cancel:
		o.feed(c, evCancelRun{run: m.Run})
	case messages.Kick:
		for ev, held := o.kick(); held; ev, held = o.kick() { // a request that hangs, then the wait after it
			o.feed(c, ev)
		}
	case messages.WriterDone:
		if m.Ref == o.told {
			o.releaseCommand()
			o.network.metrics.applied(m.Result)
		}
		o.feed(c, evAnswer{ref: m.Ref, result: m.Result, err: m.Err})
	case *actor.DeadLetterResponse:
		// The writer is gone, and the engine with it.
		o.feed(c, evAnswer{ref: o.told, err: messages.ErrClosed})
	default:
		if a, ok := m.(answered); ok && a.ref == o.ref && a.served {
			o.answeredAgain(c)
		}
		if ev, ours := o.receive(m); ours && ev != nil {
			o.feed(c, ev)
		}
	}
}

// feed steps the machine, and goes on as long as an effect brings an event at once.
func (o *owner) feed(c actor.Context, ev event) {
	for ev != nil {
		if _, over := ev.(evWaitOver); over {
			o.resumed(c)
		}
		var next event
		for _, e := range o.machine.step(ev) {
			if at := o.carryOut(c, e); at != nil {
				next = at
			}
		}
		ev = next
	}
}

// carryOut carries out an effect. It returns the event that the effect brings at once, if any; of the effects of a step
// at most one does.
func (o *owner) carryOut(c actor.Context, e effect) event {
	switch e := e.(type) {
	case fxTell:
		o.abandonAll()
		var ctx context.Context
		ctx, o.release = context.WithCancel(o.base)
		o.told = e.ref
		c.Request(o.writer, messages.Do{Ref: e.ref, Command: e.command, Cancel: ctx})
	case fxAsk:
		o.request(c, e.ref, e.request)
	case fxWait:
		waiting, exhausted := o.wait(e.ref, e.operation, e.err, e.after, e.oneShot)
		if exhausted != nil {
			return evExhausted{ref: e.ref, err: exhausted}
		}
		o.announce(c, waiting)
	case fxAbandon:
		o.abandonAll()
		o.resumed(c)
	case fxProgressed:
		o.retries.progressed(e.failures)
		o.unanswered = o.unanswered || e.failures > 0
	case fxDiscard:
		o.discard(c, e.request)
	case fxReport:
		c.Send(o.session, e.message)
	}
	return nil
}

// waiting tells that a wait has begun.
func (o *owner) waiting(c actor.Context, w messages.Waiting) {
	w.Run, w.Upload = o.run, o.upload
	o.waits, o.unanswered = true, true
	c.Send(o.session, w)
}

// answeredAgain tells that the server answers again.
func (o *owner) answeredAgain(c actor.Context) {
	if o.unanswered {
		o.unanswered = false
		c.Send(o.session, messages.Answered{Run: o.run})
	}
}

// resumed tells that a wait is over.
func (o *owner) resumed(c actor.Context) {
	if o.waits {
		o.waits = false
		c.Send(o.session, messages.Resumed{Run: o.run, Upload: o.upload})
	}
}

// abandonAll ends the outstanding effect: request, wait, or transaction, which then did not happen or is done.
func (o *owner) abandonAll() {
	o.abandon()
	o.releaseCommand()
}

func (o *owner) releaseCommand() {
	if o.release != nil {
		o.release()
		o.release = nil
	}
}
