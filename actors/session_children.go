package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/sqlite"
)

// maxChildFailures is how often in a row a child may panic before the engine is given up.
const maxChildFailures = 5

// Delays before a child that panicked is brought back: doubled from the first to the last.
const (
	firstRevival = 100 * time.Millisecond
	lastRevival  = 5 * time.Second
)

// childFailed tells the session that a child panicked and is suspended.
type childFailed struct {
	child  Child
	run    messages.RunID // the run it was last given
	reason *panicked
}

// childDue tells the session that a child's time to come back has come.
type childDue struct {
	child Child
	epoch int
}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: a timer may fire while the session ends.
func (childFailed) IgnoreDeadLetterLogging() {}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging.
func (childDue) IgnoreDeadLetterLogging() {}

// children holds a session's children. They are spawned when they are first needed: an engine that is only open has
// a writer and no other.
type children struct {
	props      func(Child) *actor.Props
	system     *actor.ActorSystem
	world      *World
	self       *actor.PID
	supervisor actor.Supervisor

	writer, uploader, puller, watcher child
	stopping                          bool
}

// child is one of them.
type child struct {
	pid      *actor.PID
	run      messages.RunID // the run it was last given
	failures int            // in a row
	epoch    int            // of the timer
	timer    func()         // stops it; nil: none
}

func (ch *children) init(s *session, c actor.Context) {
	ch.system, ch.self, ch.world = c.ActorSystem(), c.Self(), &s.engine.options.World
	ch.supervisor = c.(actor.Supervisor) // every actor's context is one; the interface does not say so
	ch.props = s.propsFor
}

// propsFor says how a child is made.
func (s *session) propsFor(name Child) *actor.Props {
	o := &s.engine.options
	if name == ChildWriter {
		open := o.open
		if open == nil {
			open = func(ctx context.Context) (database, error) { return sqlite.Open(ctx, o.Database) }
		}
		return writerProps(s.log, &o.World, open)
	}
	cfg := ownerConfig{
		log: s.log, network: s.network, retry: o.Retry, limits: o.Limits, strict: o.StrictPulls, isolate: o.Isolate,
		writer: s.children.writer.pid,
	}
	switch name {
	case ChildUploader:
		return uploaderProps(cfg)
	case ChildWatcher:
		return watcherProps(cfg)
	default:
		return pullerProps(cfg)
	}
}

func (ch *children) of(name Child) *child {
	switch name {
	case ChildWriter:
		return &ch.writer
	case ChildUploader:
		return &ch.uploader
	case ChildWatcher:
		return &ch.watcher
	default:
		return &ch.puller
	}
}

func (ch *children) pid(name Child) *actor.PID { return ch.of(name).pid }

// get returns a child, which it spawns if there is none.
func (ch *children) get(c actor.Context, name Child) *actor.PID {
	k := ch.of(name)
	if k.pid == nil {
		k.pid = c.Spawn(ch.props(name))
	}
	return k.pid
}

// give returns a child that is about to be given a run.
func (ch *children) give(c actor.Context, name Child, run messages.RunID) *actor.PID {
	pid := ch.get(c, name)
	ch.of(name).run = run
	return pid
}

// name returns whose pid it is, "" for none of them.
func (ch *children) name(pid *actor.PID) Child {
	for _, name := range []Child{ChildWriter, ChildUploader, ChildPuller, ChildWatcher} {
		if k := ch.of(name); k.pid != nil && k.pid.Equal(pid) {
			return name
		}
	}
	return ""
}

// progressed notes that a child has done its work: what it failed at before no longer counts.
func (ch *children) progressed(name Child, err error) {
	if err == nil {
		ch.of(name).failures = 0
	}
}

// failed arms the timer after which a child is brought back. It reports false when the child has failed too often.
func (ch *children) failed(name Child) bool {
	k := ch.of(name)
	if ch.stopping || k.pid == nil {
		return true
	}
	k.failures++
	if k.failures >= maxChildFailures {
		return false
	}
	k.epoch++
	due := childDue{child: name, epoch: k.epoch}
	root, self := ch.system.Root, ch.self
	k.timer = ch.world.afterFunc(min(firstRevival<<(k.failures-1), lastRevival), func() { root.Send(self, due) })
	return true
}

// revive restarts a child whose time has come. It has answered whatever it failed at, and keeps its mailbox.
func (ch *children) revive(due childDue) {
	if k := ch.of(due.child); !ch.stopping && k.pid != nil && k.epoch == due.epoch {
		ch.supervisor.RestartChildren(k.pid)
	}
}

// stop begins to stop the children and reports true when there is none.
func (ch *children) stop(c actor.Context) bool {
	ch.stopping = true
	ch.forget()
	if ch.gone() {
		ch.stopping = false
		return true
	}
	ch.stopNext(c)
	return false
}

// stopNext stops those who give the writer work, and the writer once they are gone.
func (ch *children) stopNext(c actor.Context) {
	if ch.idle() {
		if ch.writer.pid != nil {
			c.Stop(ch.writer.pid)
		}
		return
	}
	for _, k := range []*child{&ch.uploader, &ch.puller, &ch.watcher} {
		if k.pid != nil {
			c.Stop(k.pid)
		}
	}
}

func (ch *children) gone() bool { return ch.writer.pid == nil && ch.idle() }

// idle reports whether nobody is left who gives the writer work.
func (ch *children) idle() bool {
	return ch.uploader.pid == nil && ch.puller.pid == nil && ch.watcher.pid == nil
}

// terminated notes that a child is gone. It reports true when the last of those that were to be stopped is.
func (ch *children) terminated(c actor.Context, pid *actor.PID) bool {
	name := ch.name(pid)
	if name == "" {
		return false
	}
	if k := ch.of(name); k.timer != nil {
		k.timer()
	}
	*ch.of(name) = child{}
	if !ch.stopping {
		return false
	}
	if ch.gone() {
		ch.stopping = false
		return true
	}
	if ch.idle() {
		ch.stopNext(c)
	}
	return false
}

// forget stops every timer.
func (ch *children) forget() {
	for _, k := range []*child{&ch.writer, &ch.uploader, &ch.puller, &ch.watcher} {
		if k.timer != nil {
			k.timer()
		}
	}
}
