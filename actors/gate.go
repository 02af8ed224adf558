package actors

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/oversqlite/oversqlite/transport"
)

const (
	// outageStreak is how many engines have to fail one after the other, with none served between, before that is the
	// server's failure. Fewer than that are no storm, and need no gate.
	outageStreak = 32
	// doubtStreak is how many engines have to be told that the server is unavailable, one after the other, when the word of one
	// is not enough.
	doubtStreak = 8
	// doubtFactor and leastDoubt say for how long it is not: that many times as long as the word of one closed the gate.
	doubtFactor = 10
	leastDoubt  = time.Minute
	// firstPause and longestPause bound how long an outage of which the server does not say when it ends is left alone: doubled
	// each time it has not ended.
	firstPause   = time.Second
	longestPause = 30 * time.Second
	// longestClosing bounds for how long a server can keep all engines of a process away with one word, which may be a clock's or
	// a gateway's mistake: one of them asks again after that.
	longestClosing = time.Hour
	// longestScatter bounds by how much the first turn is put off beyond what the server asked for, at random, for the other
	// processes that were told the same.
	longestScatter = time.Minute
	// firstWindow is how many engines may go back to the server before the first of them has been served. Each that is
	// served makes room for one more at once.
	firstWindow = 10
	// firstStall and longestStall bound how long the next one waits when the window is full: doubled each time, until one
	// is served.
	firstStall   = 100 * time.Millisecond
	longestStall = 2 * time.Second
	// leastWatch is for how long after a closing turns are given at least, that is how soon those come who do not wait yet.
	leastWatch = 10 * time.Second
	// turnKept is how late an engine may come for its turn. After that it gets another, behind those who wait.
	turnKept = 2 * time.Second
)

// gate is what the engines of a process know together about one server: whether it serves, and if it does not, whose turn
// it is to ask again. While it serves the gate is open and costs an atomic load or two a request.
//
// The gate closes when the server says that it is unavailable and until when, or when many engines in a row fail without
// one being served. While it is closed nothing is sent. After that engines are let in one by one, in the order in which
// they came to the gate: at a rate that doubles every other second, and never more of them than the window of unanswered
// ones, which grows with each that is served. An engine that was let in is free until the gate closes again: what it
// asks for then is its ordinary load. When nobody waits any more the gate is open.
//
// It has no timer and no goroutine: who is not let in is told when to come again. A turn that nobody comes for is lost.
//
// All methods are safe for concurrent use.
type gate struct {
	now  func() time.Time
	rand func() float64 // 0 ≤ x < 1

	flags atomic.Uint32 // gatePaced, gateStreak: who finds none of them need not lock

	mu sync.Mutex
	// term numbers the closings. What is known of an earlier term, who was let in above all, is void.
	term  uint64
	cause error // what closed it

	ramp     ramp      // closed until its start
	reopened time.Time // its start, as it was at first
	next     uint64    // ticket to be given
	head     uint64    // tickets below it have had their turn
	valid    uint64    // tickets below it are of a time before the gate was last open

	window, trials int // how many may be unanswered, and are
	stall          time.Duration
	served         bool // somebody, since the gate closed
	pauses         int  // in a row without an end of the outage

	streak   int    // of engines that failed
	streakID uint64 // numbers the streaks, from 1
	// servedTerm is the last term in which somebody was served, and refuted the number of engines whose word that was against.
	servedTerm uint64
	refuted    int
	doubt      time.Time // until then the word of one engine closes an open gate no more
}

// The flags of a gate.
const (
	gatePaced  = 1 << iota // it is not open
	gateStreak             // somebody has failed
)

func newGate(now func() time.Time, rand func() float64) *gate {
	return &gate{now: now, rand: rand, next: 1, streakID: 1}
}

// visitor is one engine at its gate. The gate of a nil visitor is always open.
type visitor struct {
	gate  *gate
	alone bool // nobody shares the gate
	// marked is set while the gate has something against it that ends when it is served: a claim or a refutation.
	marked atomic.Bool

	// Guarded by the gate.
	ticket   uint64 // its place among those who wait; 0: none
	admitted uint64 // the term in which it was let in
	kicked   uint64 // the term in which it need not wait, until it has heard from the server
	streak   uint64 // the streak in which it was counted
	claim    uint64 // the term that its word began, until it is served; 0: none
	refuted  bool
}

// pass is the permission to make one request.
type pass struct {
	term  uint64 // 0: the gate was open
	trial bool   // it is the first of an engine in this term
	kick  bool   // it is out of turn: who makes it is let in only once it is served
}

// enter asks for permission to make a request. When there is none, turn is when to ask again.
func (v *visitor) enter() (p pass, turn time.Time, cause error) {
	if v == nil || v.gate.flags.Load()&gatePaced == 0 {
		return pass{}, time.Time{}, nil
	}
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.paced():
		return pass{}, time.Time{}, nil
	case v.admitted == g.term:
		return pass{term: g.term}, time.Time{}, nil
	case v.kicked == g.term:
		return g.outOfTurn(v)
	}
	now := g.now()
	g.queue(v, now)
	switch {
	case now.Before(g.ramp.turn(v.ticket)):
	case g.trials >= g.window:
		g.putOff(v.ticket, now)
	default:
		return g.admit(v), time.Time{}, nil
	}
	return pass{}, g.scattered(v.ticket), g.cause
}

// mayEnter reports whether a request that need not be made at all may be made: it takes nobody's turn.
func (v *visitor) mayEnter() bool {
	if v == nil || v.gate.flags.Load()&gatePaced == 0 {
		return true
	}
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	return !v.gate.paced() || v.admitted == v.gate.term
}

// kick lets what the engine has to ask pass at once, until the outcome of the first such request: the application knows
// better. When one is served, the gate is no longer closed.
func (v *visitor) kick() {
	if v == nil || v.gate.flags.Load()&gatePaced == 0 {
		return
	}
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.kicked = v.gate.term
}

// left tells what came of a request for which there was a pass. turn is when the engine is to come again, zero when the
// gate has no say in it; closed reports that this outcome closed the gate.
func (v *visitor) left(p pass, err error) (turn time.Time, closed bool) {
	if v == nil || err == nil && v.gate.flags.Load() == 0 && !v.marked.Load() {
		return time.Time{}, false
	}
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	current := g.paced() && p.term == g.term
	if current && p.trial {
		g.trials--
	}
	f := transport.Classify(err)
	if p.kick && (f.Sign == transport.Serving || f.Sign == transport.Failing || f.Sign == transport.Unavailable) {
		v.kicked = 0
	}
	switch f.Sign {
	case transport.Serving:
		g.hasServed(v, p, current)
	case transport.Failing, transport.Unavailable:
		closed = g.hasFailed(v, f, err, current)
		if g.paced() && v.admitted != g.term {
			g.queue(v, g.now())
			turn = g.scattered(v.ticket)
		}
	}
	g.setFlags()
	return turn, closed
}

// lost tells that a stream which was open has ended, or that it was not by itself: what a request would tell that failed
// so. turn is when to come again, zero when the gate has no say in it.
func (v *visitor) lost(err error) (turn time.Time) {
	if err != nil {
		turn, _ = v.left(pass{}, err)
	}
	return turn
}

// leave ends a visitor. What it waited for is lost, and what it said no longer counts.
func (v *visitor) leave() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.gate.absolve(v)
}

func (g *gate) paced() bool { return g.cause != nil }

func (g *gate) setFlags() {
	var flags uint32
	if g.paced() {
		flags |= gatePaced
	}
	if g.streak > 0 {
		flags |= gateStreak
	}
	g.flags.Store(flags)
}

// queue gives an engine a ticket, unless it has a good one.
func (g *gate) queue(v *visitor, now time.Time) {
	if v.ticket >= g.valid && v.ticket != 0 && now.Sub(g.ramp.turn(v.ticket)) <= turnKept {
		return
	}
	v.ticket = g.next
	if turn := g.ramp.turn(v.ticket); turn.Before(now) {
		// Turns that nobody wanted are not saved up. When the last of them is long over, so are those that were missed.
		if now.Sub(turn) > turnKept {
			g.valid = v.ticket
		}
		g.ramp.move(v.ticket, now)
	}
	g.next++
}

// scattered is when to come for a turn: at some time between it and the next one.
func (g *gate) scattered(ticket uint64) time.Time {
	turn := g.ramp.turn(ticket)
	gap := g.ramp.turn(max(ticket, g.ramp.first) + 1).Sub(g.ramp.turn(max(ticket, g.ramp.first)))
	return turn.Add(time.Duration(g.rand() * float64(gap)))
}

// putOff moves the turn of a ticket, and all later ones, because too many are unanswered. After it there is room for one
// more: a request that takes its time must not hold up everybody else.
func (g *gate) putOff(ticket uint64, now time.Time) {
	g.ramp.move(ticket, now.Add(g.stall))
	g.stall = min(2*g.stall, longestStall)
	g.window++
}

// admit lets an engine in whose turn it is.
func (g *gate) admit(v *visitor) pass {
	g.head = max(g.head, v.ticket+1)
	v.ticket, v.kicked, v.admitted = 0, 0, g.term
	g.trials++
	return pass{term: g.term, trial: true}
}

// outOfTurn lets in who need not wait, within the window: an application may well say so to all of its engines at once.
// Those who find it full come again as if the gate had just opened, as it will if one of the others is served.
func (g *gate) outOfTurn(v *visitor) (pass, time.Time, error) {
	if g.trials < g.window {
		g.trials++
		return pass{term: g.term, trial: true, kick: true}, time.Time{}, nil
	}
	now := g.now()
	g.queue(v, now)
	hoped := ramp{start: now.Add(firstStall), first: g.head, rate: rampRate}
	turn := hoped.turn(v.ticket)
	if due := g.ramp.turn(v.ticket); due.Before(turn) {
		turn = now.Add(firstStall) // its turn had come as it is
	}
	return pass{}, turn, g.cause
}

// hasServed notes that an engine was served.
func (g *gate) hasServed(v *visitor, p pass, current bool) {
	g.absolve(v)
	if g.paced() && !current {
		return // it was let in before the gate closed, so it says nothing about now
	}
	g.endStreak()
	if !current {
		return
	}
	now := g.now()
	if p.trial {
		g.window++
		g.stall = firstStall
	}
	g.served, g.servedTerm = true, g.term
	v.ticket, v.admitted = 0, g.term
	if p.kick && now.Before(g.ramp.start) {
		g.ramp.start, g.reopened = now, now
	}
	if !g.ramp.turn(g.next).After(now) && now.Sub(g.reopened) >= leastWatch {
		g.open()
	}
}

// hasFailed notes that an engine was not served. It reports true when that closes the gate.
func (g *gate) hasFailed(v *visitor, f transport.Failure, err error, current bool) bool {
	now := g.now()
	unavailable := f.Sign == transport.Unavailable
	if unavailable && g.believes(v, now) {
		wasClosed := g.closedAt(now)
		if !g.close(now, f.RetryAfter, err) {
			return false
		}
		g.doubt = g.reopened.Add(max(doubtFactor*f.RetryAfter, leastDoubt))
		v.claim = g.term
		v.marked.Store(true)
		return !wasClosed
	}
	if g.paced() && !current {
		return false // it was let in before the gate closed, so it says nothing about now
	}
	if v.streak != g.streakID {
		v.streak = g.streakID
		g.streak++
	}
	switch {
	case g.paced() && !g.served: // the outage is not over
	case unavailable && g.streak >= doubtStreak:
	case g.streak >= outageStreak:
	default:
		return false
	}
	pause := min(firstPause<<min(g.pauses, 10), longestPause)
	g.pauses++
	return g.close(now, max(f.RetryAfter, pause), err)
}

// believes reports whether the word of one engine is enough to close the gate.
//
// It is not for some time after it was: a server that refuses a request now and then, to shed load, and serves the others
// is not unavailable. Nor is it once the server was found to serve others while it told one engine again that it is
// unavailable: then that is about users, until that engine has been served itself.
func (g *gate) believes(v *visitor, now time.Time) bool {
	if v.claim != 0 && g.servedTerm >= v.claim && !v.refuted {
		v.refuted = true
		g.refuted++
	}
	if g.refuted > 0 {
		return false
	}
	serving := !g.paced() || g.served
	return !serving || !now.Before(g.doubt)
}

// absolve forgets what the gate has against an engine.
func (g *gate) absolve(v *visitor) {
	if v.refuted {
		g.refuted--
	}
	v.claim, v.refuted = 0, false
	v.marked.Store(false)
}

func (g *gate) endStreak() {
	if g.streak > 0 {
		g.streak = 0
		g.streakID++
	}
}

func (g *gate) closedAt(now time.Time) bool { return g.paced() && now.Before(g.ramp.start) }

// close closes the gate for a time. It reports false when it was closed for as long as it is.
func (g *gate) close(now time.Time, after time.Duration, cause error) bool {
	after = min(after, longestClosing)
	if g.paced() && !now.Add(after).After(g.ramp.start) {
		return false
	}
	if !g.paced() {
		// Tickets of the last time are void.
		g.valid, g.head = g.next, g.next
	}
	g.term++
	g.cause = cause
	scatter := time.Duration(g.rand() * float64(min(after/10, longestScatter)))
	g.reopened = now.Add(after + scatter)
	g.ramp = ramp{start: g.reopened, first: g.head, rate: rampRate}
	g.window, g.trials, g.stall, g.served = firstWindow, 0, firstStall, false
	g.endStreak()
	return true
}

// open ends all watching of who asks when.
func (g *gate) open() {
	g.cause, g.pauses = nil, 0
}
