package actors

import (
	"slices"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// This file holds the part of the session machine that decides what runs without a caller. It decides by looking, not by
// remembering: after every event tend compares what there is to do with what is being done, so nothing that is wanted
// depends on one event having been taken the right way.

// AutoConfig is what background sync is started with. Everything is filled in: defaults are the root package's business.
type AutoConfig struct {
	UserID       string        // attached by itself; "": Attach is waited for
	Debounce     time.Duration // after a local commit
	MaxDelay     time.Duration // as long as commits keep coming
	PollInterval time.Duration // nominal
	Watch        bool          // where the server offers it
}

// lane is one of the things that background sync does. Each has its own pace: what holds uploads up says nothing of
// downloads. An earlier lane goes first.
type lane uint8

const (
	laneAttach lane = iota
	lanePush
	lanePull
	lanes
)

var laneVerbs = [lanes]Verb{VerbAttach, VerbPushPending, VerbPullToStable}

// background is what the machine knows of its background sync.
type background struct {
	on    bool
	auto  AutoConfig
	rests bool  // detached on purpose: attaches again when it is asked to
	auth  error // the server refused the credentials: nothing is asked of it until they may have changed
	pace  [lanes]pace

	listening bool      // the commit signal is on
	window    window    // of local commits that nobody has looked at
	blind     int       // looks in a row that failed
	vain      int       // signals in a row after which nothing new was found
	pull      bool      // something calls for a pull
	hinted    int64     // the newest bundle that the stream has told of since the last pull began
	pollAt    time.Time // when the server is asked; zero while the stream does instead
	stream    stream
	failures  int // in a row of requests that found the server away; 0: it is there, as far as is known

	alarm    time.Time // armed; zero: none
	alarmRef uint64
	stoppers []uint64 // calls of Stop
}

// startAuto begins background sync, or goes on with another configuration.
func (m *sessionMachine) startAuto(c evCalled) {
	err := m.refusal(c.Verb)
	if user := c.Auto.UserID; err == nil && user != "" && m.user != "" && user != m.user {
		err = &messages.AttachBindingConflictError{AttachedUserID: m.user, RequestedUserID: user}
	}
	if err == nil {
		m.bg.on, m.bg.auto, m.bg.rests = true, c.Auto, false
		m.bg.pollAt = time.Time{}
		m.free()
		m.takeUp()
	}
	m.answer(c.ID, Result{State: m.state}, err)
}

// stopAuto ends background sync. The call is answered when nothing of it is left.
func (m *sessionMachine) stopAuto(id uint64) {
	m.bg.stoppers = append(m.bg.stoppers, id)
	m.forgetAuto()
}

// forgetAuto forgets background sync but for what is still to be brought to an end.
func (m *sessionMachine) forgetAuto() {
	b := &m.bg
	m.deafen()
	*b = background{stream: stream{state: b.stream.state, epoch: b.stream.epoch}, alarm: b.alarm, alarmRef: b.alarmRef, stoppers: b.stoppers}
}

// deafen switches the commit signal off.
func (m *sessionMachine) deafen() {
	if m.bg.listening {
		m.bg.listening = false
		m.emit(fxListen{})
	}
}

// takeUp looks at everything that may have happened while nobody did.
func (m *sessionMachine) takeUp() {
	if m.bg.on {
		m.openWindow(m.now)
		m.catchUp()
	}
}

// catchUp calls for a pull, unless the stream is about to tell whether there is anything to pull.
func (m *sessionMachine) catchUp() {
	if m.bg.stream.state != streamOpen && !m.streamWanted() {
		m.bg.pull = true
	}
}

// free forgets what holds background sync up: the application has seen to it, or says that it is over.
func (m *sessionMachine) free() {
	m.bg.auth, m.bg.stream.refused = nil, nil
	m.bg.failures, m.bg.stream.attempt = 0, 0
	m.bg.pace = [lanes]pace{}
}

// kickAuto ends every delay between runs. What waits for credentials still does: the network is not what it lacks.
func (m *sessionMachine) kickAuto() {
	if !m.bg.on {
		return
	}
	m.bg.pace = [lanes]pace{}
	m.bg.pull = true // even if there is a stream: it may be dead, and nobody knows yet
}

// pauseAuto goes on when a pause ends: what it held up is tried at once.
func (m *sessionMachine) pauseAuto(p evPaused) {
	if p.Paused || !m.bg.on {
		return
	}
	for _, l := range []lane{lanePush, lanePull} {
		if m.bg.pace[l].hold == holdDelay {
			m.bg.pace[l] = pace{}
		}
	}
	if !p.Uploads {
		m.catchUp()
	}
}

// active reports whether background sync may do anything.
func (m *sessionMachine) active() bool {
	return m.bg.on && m.life == lifeOpen && !m.stopping
}

// wants reports whether there is something to do in a lane.
func (m *sessionMachine) wants(l lane) bool {
	b := &m.bg
	switch l {
	case laneAttach:
		return m.user == "" && b.auto.UserID != "" && !b.rests
	case lanePush:
		return m.user != "" && !m.uploadsPaused && (b.window.open || m.unsent())
	default:
		return m.user != "" && !m.downloadsPaused && (b.pull || b.hinted > m.state.Attachment.Checkpoint || m.unsettled())
	}
}

// unsent reports whether there is anything that a push would send, or make up its mind about.
func (m *sessionMachine) unsent() bool {
	p := m.state.Pending
	return p.Dirty > 0 || p.Outbox > 0 || p.Lease
}

// unsettled reports whether a snapshot is due.
func (m *sessionMachine) unsettled() bool {
	return m.state.Attachment.RebuildRequired || m.state.Operation.Kind == local.SourceRecovery
}

// wakes returns when a lane may run. It reports false when it has nothing to do or waits for the application.
func (m *sessionMachine) wakes(l lane) (time.Time, bool) {
	b := &m.bg
	if b.auth != nil || !m.wants(l) || b.pace[l].hold == holdApplication {
		return time.Time{}, false
	}
	p, w := &b.pace[l], &b.window
	if l == lanePush && w.open && (w.signalled || p.hold == holdNone) && w.due.After(p.at) {
		return w.due, true
	}
	return p.at, true
}

// tend brings what is being done in line with what there is to do. It comes after every event.
func (m *sessionMachine) tend() {
	if m.bg.on { // a Start came meanwhile: what Stop waits for may be gone, and is about to be there anew
		m.tendStoppers()
	}
	m.tendStream()
	m.tendPoll()
	m.giveWay()
	for m.active() && m.current == nil && len(m.queue) == 0 {
		l, ready := m.nextLane()
		if !ready {
			break
		}
		m.runLane(l)
	}
	m.tendWindow()
	m.tendStream() // again: who asks a server that is away may be another by now
	m.tendAlarm()
	m.tendStoppers()
}

// nextLane returns the first lane whose time has come.
func (m *sessionMachine) nextLane() (lane, bool) {
	next := lanes
	for l := range lanes {
		if at, ok := m.wakes(l); ok && !at.After(m.now) && (next == lanes || m.bg.pace[next].last) {
			next = l
		}
	}
	return next, next < lanes
}

// runLane starts a run that nobody asked for.
func (m *sessionMachine) runLane(l lane) {
	b := &m.bg
	r := &sessionRun{verb: laneVerbs[l], auto: true, lane: l, tried: b.pace[l].tried}
	switch l {
	case laneAttach:
		r.user = b.auto.UserID
	case lanePull:
		b.pull, b.hinted = false, 0
	}
	if l == lanePush || b.window.open && !b.window.due.After(m.now) {
		m.closeWindow() // every run begins by reading the state
	}
	b.pace[l].last = false
	m.lastRun++
	r.id = m.lastRun
	m.current, r.since = r, m.now
	r.plan = m.planFor(r)
	m.proceed()
}

// giveWay ends a background run that stands in the way: of a foreground call while it only waits, of a pause likewise, of
// another lane in the end, and of Stop at once. What it was for stays wanted.
func (m *sessionMachine) giveWay() {
	r := m.current
	if r == nil || !r.background() || r.abandoned {
		return
	}
	paused := r.lane == lanePush && m.uploadsPaused || r.lane == lanePull && m.downloadsPaused
	at, ok := m.makesWay()
	r.yields = ok && !at.After(m.now) && len(m.queue) == 0 && !paused
	if m.bg.on && (m.waiting == nil || len(m.queue) == 0 && !paused && !r.yields) {
		return
	}
	if w := m.waiting; w != nil {
		// What the server asked for holds, unless the other finds otherwise.
		r.until, r.failures, r.err = w.Until, w.Attempt, w.Err
	}
	r.abandoned = true
	m.emit(fxCancel{Effect: r.outstanding})
}

// tendPoll calls for a pull when one is due. While the stream is open, and a pull has been answered since, there is no need
// of it, nor of a timer: what other processes commit, of which nothing else tells, is looked for with the stream's heartbeats then.
func (m *sessionMachine) tendPoll() {
	b := &m.bg
	switch {
	case !m.active() || m.user == "" || b.auth != nil || b.stream.state == streamOpen && !b.stream.vouched:
		b.pollAt = time.Time{}
	case b.pollAt.IsZero():
		b.pollAt = m.nextPoll()
	case !b.pollAt.After(m.now) && (m.current == nil || m.stands(lanePull)):
		b.pollAt = m.nextPoll()
		if m.downloadsPaused {
			m.look()
		} else {
			b.pull = true // reads the state as well
		}
	}
}

// nextPoll scatters polls, so that clients that began together do not stay together.
func (m *sessionMachine) nextPoll() time.Time {
	return m.now.Add(time.Duration(float64(m.bg.auto.PollInterval) * (0.9 + 0.2*m.cfg.chance())))
}

// tendAlarm keeps the one alarm that background sync needs: at the first moment at which time alone changes what there is
// to do. While something runs, its end is what is waited for.
func (m *sessionMachine) tendAlarm() {
	b := &m.bg
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if m.active() {
		sooner(b.window.due)
		if m.stands(lanePull) {
			sooner(b.pollAt)
		}
		if at, ok := m.makesWay(); ok {
			sooner(at)
		}
		if m.current == nil && len(m.queue) == 0 {
			sooner(b.pollAt)
			for l := range lanes {
				if t, ok := m.wakes(l); ok {
					sooner(t)
				}
			}
		}
	}
	if !at.Equal(b.alarm) {
		b.alarm = at
		b.alarmRef++
		m.emit(fxAlarm{Ref: b.alarmRef, At: at})
	}
}

// tendStoppers answers Stop when nothing is left of background sync.
func (m *sessionMachine) tendStoppers() {
	b := &m.bg
	if len(b.stoppers) == 0 || m.stopping || b.stream.state != streamNone {
		return
	}
	if r := m.current; r != nil && r.background() && !b.on {
		return
	}
	for _, id := range b.stoppers {
		m.answer(id, Result{State: m.state}, nil)
	}
	b.stoppers = nil
}

// dropStopper forgets a call of Stop.
func (m *sessionMachine) dropStopper(id uint64) {
	m.bg.stoppers = slices.DeleteFunc(m.bg.stoppers, func(c uint64) bool { return c == id })
}
