package actors

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/messages"
)

// SharedSystem is the actor system of every engine that is not given another. One costs 6 ms and 3 MB, so a process
// has one, made when the first engine needs it and kept.
var SharedSystem = sync.OnceValue(func() *actor.ActorSystem { return NewSystem(zap.NewNop()) })

// NewSystem makes an actor system that is fit for engines and logs to log.
func NewSystem(log *zap.Logger) *actor.ActorSystem {
	return actor.NewActorSystem(
		actor.WithLoggerFactory(systemLogger(log)),
		// Each time dead letters begin to come, the system starts a goroutine that lives this long. Dead letters are
		// ordinary here: what is left of a run that was cancelled.
		actor.WithDeadLetterThrottleInterval(1),
	)
}

// roots holds the root actor of every actor system that has engines.
var roots struct {
	mu sync.Mutex
	of map[*actor.ActorSystem]*root
}

// root is the root actor of the engines of one system, and how many there are of them.
type root struct {
	pid     *actor.PID
	engines int
}

// acquire returns the root actor of a system for one more engine. Where the world runs the actors, the root actor does what it
// is told on the spot.
func acquire(system *actor.ActorSystem, world *World) *actor.PID {
	roots.mu.Lock()
	defer roots.mu.Unlock()
	r := roots.of[system]
	if r == nil {
		props := actor.PropsFromProducer(func() actor.Actor { return &engines{of: map[string]*Engine{}} }, actor.WithMailbox(actor.UnboundedLockfree()))
		if world.Dispatcher != nil {
			props.Configure(actor.WithDispatcher(actor.NewSynchronizedDispatcher(1)))
		}
		r = &root{pid: system.Root.Spawn(props)}
		if roots.of == nil {
			roots.of = map[*actor.ActorSystem]*root{}
		}
		roots.of[system] = r
	}
	r.engines++
	return r.pid
}

// release gives an engine's share in the root actor back; the last one stops it.
func release(system *actor.ActorSystem) {
	roots.mu.Lock()
	defer roots.mu.Unlock()
	r := roots.of[system]
	r.engines--
	if r.engines == 0 {
		delete(roots.of, system)
		system.Root.Stop(r.pid)
	}
}

// engines is the root actor: the only spawner of sessions, and their supervisor. It is written by hand, and does not
// sit under a guardian, because a guardian that fails takes the process with it.
type engines struct {
	of map[string]*Engine // by the id of their session
}

// spawnSession asks the root actor for a session.
type spawnSession struct {
	engine *Engine
	reply  chan<- *actor.PID // capacity 1
}

// Receive implements actor.Actor.
func (r *engines) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case spawnSession:
		pid := c.Spawn(propsOf(m.engine.options.Log, &m.engine.options.World, func() actor.Actor { return newSession(m.engine) }))
		r.of[pid.Id] = m.engine
		m.reply <- pid
	case *actor.Terminated:
		delete(r.of, m.Who.Id)
	}
}

// HandleFailure implements actor.SupervisorStrategy. A session contains its own panics, so one that fails all the
// same is beyond repair: it is stopped, and its callers learn why. Its neighbours notice nothing.
func (r *engines) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	p := asPanicked(reason)
	if e := r.of[child.Id]; e != nil {
		e.failure.CompareAndSwap(nil, &messages.EngineFailedError{Cause: p.cause, Stack: p.stack})
		failPanicked(e.options.Log, "a session failed", p)
	}
	supervisor.StopChildren(child)
}
