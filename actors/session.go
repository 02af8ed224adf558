package actors

import (
	"context"
	"runtime/debug"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/sqlite"
	"github.com/oversqlite/oversqlite/wire"
)

// session is the shell of the session machine: it brings the machine its events and carries out its effects. It is
// the supervisor of the writer, the uploader and the puller, and makes the two requests of an Attach through a worker
// of its own. It never blocks, so it answers whatever the others are doing.
type session struct {
	engine  *Engine
	log     *zap.Logger
	metrics *Metrics
	record  record
	machine *sessionMachine
	network *network
	requester

	// callers are those who wait, by the number of their call.
	callers map[uint64]chan<- answer

	events      []any // to be given to the machine
	dispatching bool
	shown       Status // as last published

	children children
	opening  opening
	// interrupt ends the session's own transaction, the writer's answer to which has interruptRef; nil when none runs.
	interrupt    context.CancelFunc
	interruptRef uint64
	asked        asked
	tries        uint64 // numbers what the requester is given

	alarm func() // stops the alarm; nil: none is set
}

// asked is the request of the session's own that is under way, a new reference for each attempt.
type asked struct {
	ref     uint64 // of the machine's effect; 0: none
	effect  sessionEffect
	request request
	// failures in a row are what came before it.
	failures int
}

// opening is an open effect under way.
type opening struct {
	ref    uint64 // of the machine's effect; 0: none
	loaded bool   // the database is open, its state is being read
}

// openRef marks the writer's answers to the two commands of opening.
const openRef = 1 << 63

func newSession(e *Engine) *session {
	o := &e.options
	s := &session{
		engine:  e,
		log:     o.Log,
		metrics: o.Metrics,
		callers: map[uint64]chan<- answer{},
		network: &network{client: o.Client, visitor: e.visitor, resolve: o.Resolve, resolveTimeout: o.ResolveTimeout, log: o.Log, metrics: o.Metrics, world: o.World},
	}
	s.requester = newRequester(s.network, o.Retry)
	s.machine = s.newMachine()
	s.shown = s.machine.status()
	s.metrics.phase("", s.shown.Phase)
	return s
}

func (s *session) newMachine() *sessionMachine {
	o := &s.engine.options
	m := newSessionMachine(sessionConfig{
		contract: o.Contract, tables: o.tables(), serverURL: o.ServerURL, newID: o.NewSourceID, recover: o.AutoRecover,
		retry: o.Retry, chance: o.World.chance,
	})
	m.uploadsPaused, m.downloadsPaused = s.engine.uploadsPaused.Load(), s.engine.downloadsPaused.Load()
	return m
}

// Receive implements actor.Actor.
func (s *session) Receive(c actor.Context) {
	defer s.contain(c)
	if ev, ours := s.requester.receive(c.Message()); ours {
		s.requested(c, ev)
		return
	}
	switch m := c.Message().(type) {
	case *actor.Started:
		s.requester.begin(c)
		s.children.init(s, c)
	case *actor.Stopping:
		s.requester.end()
		s.interruptNow()
		s.children.forget()
		s.setAlarm(fxAlarm{})
	case *actor.Stopped:
		s.forgotten()
		s.abandonCallers()
		s.engine.ended()
	case *actor.Terminated:
		name := s.children.name(m.Who)
		last := s.children.terminated(c, m.Who)
		if name == ChildWatcher {
			s.dispatch(c, evUnwatched{})
		}
		if last {
			s.engine.db.Store(nil)
			s.dispatch(c, evStopped{})
		}
	case ask:
		s.callers[m.call.ID] = m.answers
		s.dispatch(c, m.call)
	case evLeft:
		delete(s.callers, m.ID)
		s.dispatch(c, m)
	case messages.WriterDone:
		s.written(c, m)
	case messages.PushDone:
		s.children.progressed(ChildUploader, m.Err)
		s.dispatch(c, m)
	case messages.PullDone:
		s.children.progressed(ChildPuller, m.Err)
		s.dispatch(c, m)
	case childFailed:
		s.childFailed(c, m)
	case childDue:
		s.children.revive(m)
	case messages.WatchOpened:
		s.children.progressed(ChildWatcher, nil)
		s.dispatch(c, m)
	case evWritten:
		s.dispatch(c, evWritten{Commits: s.engine.commits.Load()})
	case evAlarm:
		s.dispatch(c, evAlarm{Ref: m.Ref, Commits: s.engine.commits.Load()})
	case evPaused, evKicked, messages.Session:
		s.dispatch(c, m)
	}
}

// dispatch gives the machine an event and carries out what it wants done.
func (s *session) dispatch(c actor.Context, event any) {
	s.events = append(s.events, event)
	if s.dispatching {
		return
	}
	s.dispatching = true
	for len(s.events) > 0 {
		event := s.events[0]
		s.events = s.events[1:]
		for _, e := range s.machine.step(s.engine.options.World.now(), event) {
			s.perform(c, e)
		}
	}
	s.events = nil
	s.dispatching = false
	s.notedAside()
	s.show()
}

func (s *session) perform(c actor.Context, effect sessionEffect) {
	switch e := effect.(type) {
	case fxReply:
		s.show() // who is answered finds the status as it is now
		s.answer(e.ID, answer{result: e.Result, err: e.Err})
	case fxOpen:
		s.open(c, e)
	case fxDo:
		s.write(c, e.Ref, e.Command, true)
	case fxCapabilities:
		s.ask(c, asked{ref: e.Ref, effect: e, request: capabilitiesRequest{call{source: e.SourceID}}, failures: e.Failures})
	case fxConnect:
		s.ask(c, asked{ref: e.Ref, effect: e, request: connectRequest{call: call{contract: e.Contract, source: e.SourceID}, hasPending: e.Pending}, failures: e.Failures})
	case fxPush:
		c.Send(s.children.give(c, ChildUploader, e.Run), e.Push)
	case fxPull:
		c.Send(s.children.give(c, ChildPuller, e.Run), e.Pull)
	case fxSnapshot:
		c.Send(s.children.give(c, ChildPuller, e.Run), e.Snapshot)
	case fxCancel:
		s.cancelEffect(c, e.Effect)
	case fxKick:
		s.kickAll(c)
	case fxStop:
		s.stopAll(c)
	case fxTerminate:
		c.Stop(c.Self())
	case fxPublish:
		s.show() // who is told of something finds it in the status
		s.noted(e.Event)
		s.engine.hub.publish(e.Event)
	case fxRan:
		s.ran(e)
	case fxListen:
		s.engine.listening.Store(e.On)
	case fxAlarm:
		s.setAlarm(e)
	case fxWatch:
		c.Send(s.children.get(c, ChildWatcher), e.Watch)
	case fxUnwatch:
		c.Stop(s.children.get(c, ChildWatcher))
	}
}

// setAlarm sets the alarm, or none.
func (s *session) setAlarm(e fxAlarm) {
	if s.alarm != nil {
		s.alarm()
		s.alarm = nil
	}
	if e.At.IsZero() {
		return
	}
	world := &s.engine.options.World
	root, self := s.requester.system.Root, s.requester.self
	s.alarm = world.afterFunc(e.At.Sub(world.now()), func() { root.Send(self, evAlarm{Ref: e.Ref}) })
}

func (s *session) answer(id uint64, a answer) {
	if ch, ok := s.callers[id]; ok {
		delete(s.callers, id)
		ch <- a // capacity 1, one answer each
	}
}

// show stores the status and tells subscribers when something worth telling has changed.
func (s *session) show() {
	now := s.machine.status()
	s.engine.status.Store(&now)
	before := s.shown
	s.notedStatus(&before, &now)
	if now.differs(&before) {
		s.shown = now
		s.engine.hub.publish(StateChanged{From: before.Phase, To: now.Phase, Reason: now.Reason, Err: now.LastError})
	}
}

// write gives the writer a command. Its answer is a messages.WriterDone.
func (s *session) write(c actor.Context, ref uint64, command messages.Command, interruptible bool) {
	do := messages.Do{Ref: ref, Command: command}
	if _, read := command.(messages.LoadState); interruptible && !read {
		var ctx context.Context
		ctx, s.interrupt = context.WithCancel(context.Background())
		s.interruptRef = ref
		do.Cancel = ctx
	}
	c.Request(s.children.get(c, ChildWriter), do)
}

func (s *session) interruptNow() {
	if s.interrupt != nil {
		s.interrupt()
		s.interrupt = nil
	}
}

// open opens the database anew and reads its state.
func (s *session) open(c actor.Context, e fxOpen) {
	s.opening = opening{ref: e.Ref}
	s.engine.db.Store(nil)
	s.write(c, 0, messages.CloseDatabase{}, false)
	s.write(c, e.Ref|openRef, messages.OpenDatabase{}, true)
}

// written takes the writer's answers: those to the commands of opening, and those for the machine.
func (s *session) written(c actor.Context, m messages.WriterDone) {
	if m.Ref == s.interruptRef {
		s.interruptNow() // it has ended: gives its context back
	}
	if m.Ref&openRef == 0 {
		s.dispatch(c, m)
		return
	}
	if s.opening.ref == 0 || m.Ref != s.opening.ref|openRef {
		return
	}
	switch {
	case m.Err != nil:
		s.opened(c, evOpened{Err: m.Err})
	case !s.opening.loaded:
		s.opening.loaded = true
		db, _ := m.Result.(*sqlite.DB) // nil in tests only
		s.engine.db.Store(db)
		s.write(c, m.Ref, messages.LoadState{}, false)
	default:
		s.opened(c, evOpened{State: m.Result.(local.State)})
	}
}

func (s *session) opened(c actor.Context, e evOpened) {
	e.Ref = s.opening.ref
	s.opening = opening{}
	if e.Err != nil {
		s.engine.db.Store(nil)
	}
	s.dispatch(c, e)
}

// ask has a request of the session's own made.
func (s *session) ask(c actor.Context, a asked) {
	s.requester.retries.progressed(a.failures) // a new operation begins with short delays, unless the server is away
	s.asked = a
	s.try(c)
}

// try has what is asked for requested, each time under a number of its own: of one that was abandoned something may still be
// heard.
func (s *session) try(c actor.Context) {
	s.tries++
	s.requester.request(c, s.tries, s.asked.request)
}

// requested takes what came of a request of the session's own.
func (s *session) requested(c actor.Context, ev event) {
	switch e := ev.(type) {
	case evAnswer:
		s.askedDone(c, e.result, runError(e.err))
	case evFailure:
		waiting, exhausted := s.requester.wait(e.ref, s.asked.request.operation(), e.err, e.after, !s.inBackground())
		if exhausted != nil {
			s.askedDone(c, nil, exhausted)
			return
		}
		if r := s.machine.current; r != nil {
			waiting.Run = r.id
		}
		s.dispatch(c, waiting)
	case evWaitOver:
		if r := s.machine.current; r != nil {
			s.dispatch(c, messages.Resumed{Run: r.id})
		}
		s.try(c)
	case evBroken:
		s.askedDone(c, nil, context.Canceled)
		s.dispatch(c, evCrashed{Cause: e.cause, Stack: e.stack})
	}
}

func (s *session) askedDone(c actor.Context, result any, err error) {
	a := s.asked
	s.asked = asked{}
	switch a.effect.(type) {
	case fxCapabilities:
		r, _ := result.(wire.Capabilities)
		s.dispatch(c, evCapable{Ref: a.ref, Capabilities: r, Err: err})
	case fxConnect:
		r, _ := result.(wire.ConnectResponse)
		s.dispatch(c, evConnected{Ref: a.ref, Response: r, Err: err})
	}
}

// inBackground reports whether nobody waits for the current run.
func (s *session) inBackground() bool {
	r := s.machine.current
	return r != nil && r.background()
}

// cancelEffect ends an effect; its answer says so.
func (s *session) cancelEffect(c actor.Context, effect sessionEffect) {
	switch e := effect.(type) {
	case fxDo, fxOpen:
		s.interruptNow()
	case fxCapabilities, fxConnect:
		s.requester.abandon()
		s.askedDone(c, nil, context.Canceled)
	case fxPush:
		c.Send(s.children.get(c, ChildUploader), messages.Cancel{Run: e.Run})
	case fxPull:
		c.Send(s.children.get(c, ChildPuller), messages.Cancel{Run: e.Run})
	case fxSnapshot:
		c.Send(s.children.get(c, ChildPuller), messages.Cancel{Run: e.Run})
	}
}

// kickAll ends every backoff delay.
func (s *session) kickAll(c actor.Context) {
	s.network.visitor.kick()
	for ev, held := s.requester.kick(); held; ev, held = s.requester.kick() { // a request that hangs, then the wait after it
		s.requested(c, ev)
	}
	for _, child := range []Child{ChildUploader, ChildPuller, ChildWatcher} {
		if pid := s.children.pid(child); pid != nil {
			c.Send(pid, messages.Kick{})
		}
	}
}

// stopAll ends whatever runs and stops the children: first those who give the writer work, then the writer, which
// closes the database.
func (s *session) stopAll(c actor.Context) {
	s.requester.abandon()
	s.asked = asked{}
	s.opening = opening{}
	s.interruptNow()
	if s.children.stop(c) {
		s.events = append(s.events, evStopped{})
	}
}

// contain keeps a panic of this actor or its machine from reaching its supervisor: the engine fails, with everything it
// has stopped and everybody told.
func (s *session) contain(c actor.Context) {
	r := recover()
	if r == nil {
		return
	}
	p := asPanicked(r)
	if len(p.stack) == 0 {
		p.stack = debug.Stack()
	}
	failPanicked(s.log, "the session panicked", p)
	s.events, s.dispatching = nil, false
	failure := &messages.EngineFailedError{Cause: p.cause, Stack: p.stack}
	for id := range s.callers {
		s.answer(id, answer{err: failure})
	}
	before := s.machine
	s.machine = s.newMachine()
	s.machine.user = before.user
	s.machine.bg.on, s.machine.bg.auto, s.machine.bg.rests = before.bg.on, before.bg.auto, before.bg.rests
	s.machine.life = lifeOpen
	s.dispatch(c, evCrashed{Cause: p.cause, Stack: p.stack})
	if before.life == lifeClosing {
		s.dispatch(c, evCalled{Verb: VerbClose})
	}
}

// abandonCallers answers those who are left when the session ends.
func (s *session) abandonCallers() {
	for id := range s.callers {
		s.answer(id, answer{err: s.engine.gone()})
	}
}

// HandleFailure implements actor.SupervisorStrategy. It runs on the session's goroutine.
func (s *session) HandleFailure(system *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any) {
	name := s.children.name(child)
	if name == "" {
		s.requester.HandleFailure(system, supervisor, child, rs, reason, message)
		return
	}
	failPanicked(s.log, "a child of the session panicked", reason, zap.String(keyChild, string(name)))
	system.Root.Send(s.requester.self, childFailed{child: name, run: s.children.of(name).run, reason: asPanicked(reason)})
}

// childFailed lets a failed child wait a little before it is brought back, or gives it up.
func (s *session) childFailed(c actor.Context, m childFailed) {
	s.dispatch(c, evLost{Child: m.child, Run: m.run, Err: m.reason})
	if !s.children.failed(m.child) {
		s.dispatch(c, evCrashed{Cause: m.reason.cause, Stack: m.reason.stack})
	}
}
