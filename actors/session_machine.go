package actors

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// lifecycle is how far an engine has come.
type lifecycle uint8

const (
	lifeNew     lifecycle = iota // nothing is open
	lifeOpen                     // the database is open
	lifeFailed                   // stopped after a crash, waiting for Restart
	lifeClosing                  // Close was called
	lifeClosed
)

// sessionConfig is what a session machine has to know of its engine.
type sessionConfig struct {
	contract  wire.ContractName // "": whatever the server speaks
	tables    []wire.TableSpec  // as configured
	serverURL string            // named in errors
	newID     func() string     // makes source ids
	recover   bool              // a source that is at its end is replaced without being asked
	retry     RetryConfig       // of the delays between background runs
	chance    func() float64    // in [0, 1): scatters what many clients would else do at once
}

// sessionMachine decides what an engine does. It is pure: step takes an event and the time at which it came and returns
// effects; the shell carries them out and brings their outcomes back as events.
//
// Calls queue and run one at a time. A caller joins a queued run of the same verb, or the run in flight as long as that
// has not begun to freeze or to pull (Verb.shareable); so whoever is answered was served by a run that began
// after the call. A run that nobody waits for is cancelled.
type sessionMachine struct {
	cfg sessionConfig

	life         lifecycle
	stopping     bool   // an fxStop is outstanding
	user         string // attached in this process; "" none
	attachReason string // why an attachment of this process ended by itself
	link         *serverLink
	state        local.State // as last read

	uploadsPaused, downloadsPaused bool

	current *sessionRun
	queue   []*sessionRun
	reads   []sessionRead
	closers []uint64

	failure *messages.EngineFailedError

	bg background
	// checked is when a pull or a connect has last shown the checkpoint to be one of the server's. Zero: a stream has ended since.
	checked time.Time

	lastRef uint64
	lastRun messages.RunID

	// What only the status shows.
	phase          messages.Phase
	waiting        *messages.Waiting
	lastProgressAt time.Time
	lastErr        error
	errors         uint64 // counts the changes of lastErr

	now time.Time
	out []sessionEffect
}

// serverLink is what is known of the server for as long as a user stays attached.
type serverLink struct {
	contract wire.ContractName
	limits   wire.Limits
	fleeting bool // asked for anew by every run
	watch    bool // it offers a stream of changes
}

// sessionRead is one transaction beside whatever runs, on its way through the writer.
type sessionRead struct {
	ref  uint64
	call uint64 // that it serves
	look bool   // of background sync: it serves no call
}

func newSessionMachine(cfg sessionConfig) *sessionMachine {
	return &sessionMachine{cfg: cfg}
}

// step takes one event and returns what is to be done. The slice is the machine's until the next step.
func (m *sessionMachine) step(now time.Time, event any) []sessionEffect {
	m.now = now
	m.out = m.out[:0]
	switch e := event.(type) {
	case evCalled:
		m.call(e)
	case evLeft:
		m.leave(e.ID)
	case evOpened:
		m.openDone(e)
	case messages.WriterDone:
		m.writerDone(e)
	case evCapable:
		m.capabilitiesDone(e)
	case evConnected:
		m.connectDone(e)
	case messages.PushDone:
		m.pushDone(e)
	case messages.PullDone:
		m.pullDone(e)
	case messages.ChildFailed:
		m.crash(e.Cause, e.Stack)
	case evCrashed:
		m.crash(e.Cause, e.Stack)
	case evLost:
		m.lost(e)
	case evStopped:
		m.allStopped()
	case evPaused:
		m.pause(e)
	case evKicked:
		m.kick()
	case evWritten:
		m.written(e)
	case evAlarm:
		m.alarmed(e)
	case evUnwatched:
		m.unwatched()
	default:
		if !m.hear(event) {
			m.observe(event)
		}
	}
	m.startNext()
	m.tend()
	return m.out
}

func (m *sessionMachine) emit(e sessionEffect) { m.out = append(m.out, e) }

func (m *sessionMachine) answer(id uint64, result Result, err error) {
	m.emit(fxReply{ID: id, Result: result, Err: err})
}

// call takes a caller in: it is answered at once, joins a run, or queues a new one.
func (m *sessionMachine) call(c evCalled) {
	if c.Verb == VerbClose {
		m.close(c.ID)
		return
	}
	if m.life == lifeClosing || m.life == lifeClosed {
		m.answer(c.ID, Result{}, messages.ErrClosed)
		return
	}
	switch {
	case c.Verb == VerbResume:
		err := m.refusal(c.Verb)
		if err == nil {
			m.clearError()
			m.free()
			m.kick()
		}
		m.answer(c.ID, Result{State: m.state}, err)
	case c.Verb == VerbStart:
		m.startAuto(c)
	case c.Verb == VerbStop:
		m.stopAuto(c.ID)
	case c.aside() != nil:
		if err := m.refusal(c.Verb); err != nil {
			m.answer(c.ID, Result{}, err)
			return
		}
		m.read(c.ID, c.aside())
	default:
		m.enqueue(c)
	}
}

// kick ends every delay.
func (m *sessionMachine) kick() {
	m.kickAuto()
	m.emit(fxKick{})
}

// read has the writer serve a call beside whatever runs.
func (m *sessionMachine) read(call uint64, c messages.Command) {
	m.lastRef++
	m.reads = append(m.reads, sessionRead{ref: m.lastRef, call: call})
	m.emit(fxDo{Ref: m.lastRef, Command: c})
}

// enqueue lets a caller join a run or queues a new one for him.
func (m *sessionMachine) enqueue(c evCalled) {
	if r := m.current; r != nil && r.is(c) && !r.abandoned && m.joinable(r) {
		r.callers = append(r.callers, c.ID)
		return
	}
	for _, r := range m.queue {
		if r.is(c) {
			r.callers = append(r.callers, c.ID)
			return
		}
	}
	m.queue = append(m.queue, &sessionRun{verb: c.Verb, user: c.User, callers: []uint64{c.ID}})
}

// joinable reports whether another caller of the same verb may join the current run. One that nobody asked for becomes
// his, and ends as his calls do, unless it has already been told to go on for ever.
func (m *sessionMachine) joinable(r *sessionRun) bool {
	if r.background() {
		return !r.begun && m.waiting == nil
	}
	return !r.begun || r.verb.shareable()
}

// refusal says why a verb cannot be served in the present state, or nil. It is the one place that decides.
func (m *sessionMachine) refusal(v Verb) error {
	switch {
	case m.life == lifeFailed && v != VerbRestart:
		return m.failure
	case m.life == lifeNew && v != VerbOpen && v != VerbRestart:
		return &messages.OpenRequiredError{Operation: v.String()}
	case v.needsAttachment() && m.user == "":
		return &messages.AttachRequiredError{Operation: v.String(), Reason: m.attachReason}
	default:
		return nil
	}
}

// leave drops a caller. A run that nobody waits for any more is cancelled.
func (m *sessionMachine) leave(id uint64) {
	// A read costs one transaction that is already queued: it runs, its answer goes nowhere.
	m.reads = slices.DeleteFunc(m.reads, func(r sessionRead) bool { return r.call == id && !r.look })
	m.closers = slices.DeleteFunc(m.closers, func(c uint64) bool { return c == id })
	m.dropStopper(id)
	for i, r := range m.queue {
		if r.drop(id) {
			if len(r.callers) == 0 {
				m.queue = slices.Delete(m.queue, i, i+1)
			}
			return
		}
	}
	if r := m.current; r != nil && r.drop(id) && len(r.callers) == 0 {
		r.abandoned = true
		m.emit(fxCancel{Effect: r.outstanding})
	}
}

// startNext starts the next run when none is under way.
func (m *sessionMachine) startNext() {
	for m.current == nil && !m.stopping && len(m.queue) > 0 {
		r := m.queue[0]
		m.queue = slices.Delete(m.queue, 0, 1)
		m.current, r.since = r, m.now
		if err := m.refusal(r.verb); err != nil {
			m.finish(err)
			continue
		}
		m.lastRun++
		r.id = m.lastRun
		r.plan = m.planFor(r)
		m.proceed()
	}
}

// finish ends the current run and answers its callers.
func (m *sessionMachine) finish(err error) {
	r := m.current
	m.current = nil
	m.waiting = nil
	m.phase = ""
	if p, ok := err.(*panicked); ok { //nolint:errorlint // one inside another error is the application's
		err = &messages.EngineFailedError{Cause: p.cause, Stack: p.stack}
	}
	if err != nil {
		m.noteError(err)
		r.result.Sync.State = m.state // as far as it is known: nothing was read at the end
	} else {
		m.clearError()
		m.lastProgressAt = m.now
	}
	r.result.State = m.state
	m.emit(fxRan{Verb: r.verb, Result: r.result, Began: r.since, Err: err})
	m.learn(r, err)
	for _, id := range r.callers {
		m.answer(id, r.result, err)
	}
}

// noteError keeps an error for the status. Calls out of order say nothing of the engine's health.
func (m *sessionMachine) noteError(err error) {
	var open *messages.OpenRequiredError
	var attach *messages.AttachRequiredError
	if errors.As(err, &open) || errors.As(err, &attach) {
		return
	}
	if err != context.Canceled { //nolint:errorlint // the bare value is what a cancelled run is answered with
		m.lastErr = err
		m.errors++
	}
}

func (m *sessionMachine) clearError() {
	if m.lastErr != nil {
		m.lastErr = nil
		m.errors++
	}
}

// close answers everybody with ErrClosed and stops what runs.
func (m *sessionMachine) close(id uint64) {
	if m.life == lifeClosed {
		m.answer(id, Result{}, nil)
		return
	}
	m.closers = append(m.closers, id)
	if m.life == lifeClosing {
		return
	}
	m.life = lifeClosing
	m.dismiss(messages.ErrClosed)
	for _, stopper := range m.bg.stoppers {
		m.answer(stopper, Result{}, messages.ErrClosed)
	}
	m.bg.stoppers = nil
	m.forgetAuto()
	m.stop()
}

// crash answers everybody with the cause and stops what runs until Restart.
func (m *sessionMachine) crash(cause any, stack []byte) {
	if m.life == lifeClosing || m.life == lifeClosed || m.life == lifeFailed {
		return
	}
	m.life = lifeFailed
	m.failure = &messages.EngineFailedError{Cause: cause, Stack: stack}
	m.noteError(m.failure)
	m.dismiss(m.failure)
	m.stop()
}

// dismiss answers every caller but those of Close.
func (m *sessionMachine) dismiss(err error) {
	if r := m.current; r != nil {
		m.current = nil
		m.emit(fxRan{Verb: r.verb, Began: r.since, Err: err})
		for _, id := range r.callers {
			m.answer(id, Result{}, err)
		}
	}
	for _, r := range m.queue {
		for _, id := range r.callers {
			m.answer(id, Result{}, err)
		}
	}
	for _, r := range m.reads {
		if !r.look {
			m.answer(r.call, Result{}, err)
		}
	}
	m.queue, m.reads, m.waiting, m.phase = nil, nil, nil, ""
}

func (m *sessionMachine) stop() {
	if !m.stopping {
		m.stopping = true
		m.deafen()
		m.emit(fxStop{})
	}
}

func (m *sessionMachine) allStopped() {
	m.stopping = false
	if m.life != lifeClosing {
		return
	}
	m.life = lifeClosed
	for _, id := range m.closers {
		m.answer(id, Result{}, nil)
	}
	m.closers = nil
	m.emit(fxTerminate{})
}

func (m *sessionMachine) pause(p evPaused) {
	if p.Uploads {
		m.uploadsPaused = p.Paused
	} else {
		m.downloadsPaused = p.Paused
	}
	m.pauseAuto(p)
}

// observe takes what the children tell beside their answers.
func (m *sessionMachine) observe(event any) {
	switch e := event.(type) {
	case messages.StateChanged:
		m.state = e.State
	case messages.Waiting:
		if m.current != nil && e.Run == m.current.id {
			m.waiting = &e
			m.waits(e)
			m.phase, _ = m.current.at.action.phase() // what was done before the request that waits is over
			m.noteError(e.Err)
			m.emit(fxPublish{BackoffScheduled{Operation: e.Reason, Attempt: e.Attempt, Until: e.Until, Err: e.Err}})
		}
	case messages.Resumed:
		if m.current != nil && e.Run == m.current.id {
			m.waiting = nil
		}
	case messages.Answered:
		if m.current != nil && e.Run == m.current.id {
			m.served()
		}
	case messages.Progress:
		m.lastProgressAt = m.now
		if m.current != nil && e.Run == m.current.id {
			m.gotOn()
			m.phase = e.Phase
		}
		m.emit(fxPublish{Progressed{Phase: e.Phase, Done: e.Done, Total: e.Total}})
	case messages.TablesChanged:
		if e.Cause != messages.CauseLocal {
			m.lastProgressAt = m.now
		}
		if len(e.Tables) > 0 {
			m.emit(fxPublish{TablesChanged{Tables: e.Tables, Cause: e.Cause}})
		}
	case messages.RowsQuarantined:
		for _, r := range e.Rows {
			m.emit(fxPublish{RowQuarantined{ID: r.ID, Table: r.Table, Code: r.Code, Origin: string(r.Origin), Displaced: r.Displaced}})
		}
	case messages.ConflictResolved:
		m.emit(fxPublish{ConflictResolved{Table: e.Table, Resolution: resolutionNames[e.Resolution]}})
	}
}

var resolutionNames = map[local.ResolutionKind]string{
	local.AcceptServer: "accept_server",
	local.KeepLocal:    "keep_local",
	local.KeepMerged:   "keep_merged",
}

// lost ends a run whose child panicked before it could answer. Whatever it had done is on disk; the next run goes on
// from there.
func (m *sessionMachine) lost(e evLost) {
	if e.Child == ChildWatcher {
		m.watcherLost(e.Err)
		return
	}
	if r := m.current; r != nil && r.id == e.Run && servedBy(r.outstanding) == e.Child && m.settled(e.Err) {
		m.proceed()
	}
}

// servedBy names the child that an effect is addressed to.
func servedBy(e sessionEffect) Child {
	switch e.(type) {
	case fxDo:
		return ChildWriter
	case fxPush:
		return ChildUploader
	case fxPull, fxSnapshot:
		return ChildPuller
	default:
		return ""
	}
}
