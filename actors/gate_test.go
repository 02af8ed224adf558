package actors

import (
	"container/heap"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// crowd is many engines at one gate, in virtual time: a discrete simulation in which nothing runs but the gate.
type crowd struct {
	gate    *gate
	time    time.Time
	rand    *rand.Rand
	agenda  agenda
	engines []*member
	answer  func(c *crowd, m *member) error // the server
	trip    func(c *crowd) time.Duration    // how long an answer takes

	sent     []time.Time // requests, in order
	answered []time.Time
	asks     int // of the gate
}

// member is an engine that has one thing to ask.
type member struct {
	*visitor
	began, served time.Time
	requests      int
	asks          int
	gone          bool
}

type appointment struct {
	at time.Time
	no int // those of one instant come in the order in which they were made
	do func()
}

type agenda struct {
	list []appointment
	made int
}

func (a *agenda) Len() int { return len(a.list) }
func (a *agenda) Less(i, j int) bool {
	if !a.list[i].at.Equal(a.list[j].at) {
		return a.list[i].at.Before(a.list[j].at)
	}
	return a.list[i].no < a.list[j].no
}
func (a *agenda) Swap(i, j int) { a.list[i], a.list[j] = a.list[j], a.list[i] }
func (a *agenda) Push(x any)    { a.list = append(a.list, x.(appointment)) }
func (a *agenda) Pop() any {
	last := a.list[len(a.list)-1]
	a.list = a.list[:len(a.list)-1]
	return last
}

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newCrowd(n int, seed uint64) *crowd {
	c := &crowd{time: epoch, rand: rand.New(rand.NewPCG(seed, seed))}
	c.gate = newGate(func() time.Time { return c.time }, c.rand.Float64)
	c.trip = func(*crowd) time.Duration { return 50 * time.Millisecond }
	for range n {
		c.engines = append(c.engines, &member{visitor: &visitor{gate: c.gate}})
	}
	return c
}

// backoff is an engine's own delay after a failure about which the gate says nothing.
func (c *crowd) backoff(err error) time.Duration {
	return max(transport.Classify(err).RetryAfter, 500*time.Millisecond) + time.Duration(c.rand.Int64N(int64(time.Second)))
}

func (c *crowd) after(d time.Duration, do func()) {
	c.agenda.made++
	heap.Push(&c.agenda, appointment{c.time.Add(max(0, d)), c.agenda.made, do})
}

// wants has an engine want something after a delay.
func (c *crowd) wants(m *member, d time.Duration) {
	c.after(d, func() { m.began, m.served = c.time, time.Time{}; c.ask(m) })
}

// ask is what a worker and its owner do.
func (c *crowd) ask(m *member) {
	if m.gone {
		return
	}
	c.asks++
	m.asks++
	p, turn, cause := m.enter()
	if !turn.IsZero() {
		if cause == nil {
			panic("held back for no reason")
		}
		c.after(turn.Sub(c.time), func() { c.ask(m) })
		return
	}
	c.send(m, p)
}

func (c *crowd) send(m *member, p pass) {
	m.requests++
	c.sent = append(c.sent, c.time)
	err := c.answer(c, m)
	c.after(c.trip(c), func() {
		turn, _ := m.left(p, err)
		if err == nil {
			m.served = c.time
			c.answered = append(c.answered, c.time)
			return
		}
		d := c.backoff(err)
		if !turn.IsZero() {
			d = turn.Sub(c.time)
		}
		c.after(d, func() { c.ask(m) })
	})
}

// run lets everything happen that is due within d.
func (c *crowd) run(d time.Duration) {
	end := c.time.Add(d)
	for len(c.agenda.list) > 0 && !c.agenda.list[0].at.After(end) {
		next := heap.Pop(&c.agenda).(appointment)
		if next.at.After(c.time) { // else the machine was asleep
			c.time = next.at
		}
		next.do()
	}
	c.time = end
}

// between counts the requests in [from, to).
func (c *crowd) between(from, to time.Duration) int {
	n := 0
	for _, at := range c.sent {
		if d := at.Sub(epoch); d >= from && d < to {
			n++
		}
	}
	return n
}

// unserved counts the engines that were not served.
func (c *crowd) unserved() int {
	n := 0
	for _, m := range c.engines {
		if m.served.IsZero() && !m.gone {
			n++
		}
	}
	return n
}

// waits returns how long the engines waited, shortest first.
func (c *crowd) waits(from time.Time) []time.Duration {
	var w []time.Duration
	for _, m := range c.engines {
		if !m.gone {
			w = append(w, m.served.Sub(from))
		}
	}
	slices.Sort(w)
	return w
}

// withinTimetable reports the first moment at which more requests had been made since a start than a rate allows that
// doubles from there on; -1: none. Each comes at some time between its turn and the next, so the start may have been so much
// before the first. Extra are those that may come besides, by the rounding of turns one.
func withinTimetable(sent []time.Time, extra int) int {
	r := ramp{start: sent[0].Add(-time.Second / rampRate), rate: rampRate}
	for i, at := range sent {
		if at.Before(r.turn(uint64(max(0, i-extra)))) {
			return i
		}
	}
	return -1
}

var unavailable = &wire.HTTPError{Operation: transport.OpPull, Status: 503, RetryAfter: 30 * time.Second}

// One of many engines is told that the server is away for 30 seconds: the others learn it from that one.
func TestOneRetryAfterIsLearntByAll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := oneOutage{
			engines:  rapid.IntRange(1, 1000).Draw(t, "engines"),
			seed:     rapid.Uint64().Draw(t, "seed"),
			arrivals: time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "arrivals")),
			trip:     time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(300*time.Millisecond)).Draw(t, "trip")),
		}
		o.inFlight = rapid.IntRange(1, min(o.engines, 20)).Draw(t, "in flight")
		o.play(t)
	})
}

// The same with ten thousand of them.
func TestTenThousandEnginesLearnOneRetryAfter(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	for _, arrivals := range []time.Duration{time.Millisecond, 40 * time.Second} {
		o := oneOutage{engines: 10_000, seed: seed, arrivals: arrivals, trip: 50 * time.Millisecond, inFlight: 1}
		t.Logf("seed %d, arrivals within %v", seed, arrivals)
		o.play(t)
	}
}

// oneOutage is an outage of 30 seconds, of which the first to ask are told.
type oneOutage struct {
	engines, inFlight int
	seed              uint64
	arrivals, trip    time.Duration
}

func (o oneOutage) play(t rapid.TB) {
	t.Helper()
	c := newCrowd(o.engines, o.seed)
	c.trip = func(*crowd) time.Duration { return o.trip }
	told := 0
	c.answer = func(c *crowd, _ *member) error {
		if c.time.Sub(epoch) < 30*time.Second {
			told++
			return unavailable
		}
		return nil
	}
	for i, m := range c.engines {
		if i < o.inFlight {
			c.wants(m, 0)
			continue
		}
		c.wants(m, o.trip+1+time.Duration(c.rand.Int64N(int64(o.arrivals))))
	}
	c.run(10 * time.Minute)
	if told != o.inFlight || c.between(1, 30*time.Second) != 0 {
		t.Fatalf("%d requests met the outage, %d of them after it was known; %d were under way", told, c.between(1, 30*time.Second), o.inFlight)
	}
	if n := c.unserved(); n > 0 {
		t.Fatalf("%d engines were never served", n)
	}
	first := c.sent[o.inFlight]
	if d := first.Sub(epoch); d > 34*time.Second {
		t.Fatalf("the first goes back after %v", d)
	}
	if i := withinTimetable(c.sent[o.inFlight:], 1); i >= 0 {
		t.Fatalf("request %d after the outage is more than the rate allows", i)
	}
	// The timetable, and what the window adds to it until the first answers are there.
	w := c.waits(first)
	last := w[o.engines-1]
	ideal := (&ramp{start: first, rate: rampRate}).turn(uint64(o.engines)).Sub(first)
	ideal = max(ideal, epoch.Add(o.arrivals).Sub(first))
	if last > ideal*5/4+10*o.trip+time.Second {
		t.Fatalf("the last is served %v after the first went back, ideal were %v", last, ideal)
	}
	for _, m := range c.engines {
		if m.requests > 2 {
			t.Fatalf("an engine needed %d requests", m.requests)
		}
	}
	if o.arrivals < 30*time.Second && last > 3*w[o.engines/2]+time.Second {
		t.Fatalf("the last waits %v after the first went back, most of them %v", last, w[o.engines/2])
	}
	t.Logf("first request %v after the outage; after that: median %v, longest %v, ideal %v; %.2f questions to the gate an engine",
		first.Sub(epoch)-30*time.Second, w[o.engines/2], last, ideal, float64(c.asks)/float64(o.engines))
}

// Whatever the server does meanwhile, in the end it serves, and then everybody is served: none much later than most.
func TestNobodyStarvesAtTheGate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		engines := rapid.IntRange(1, 2000).Draw(t, "engines")
		c := newCrowd(engines, rapid.Uint64().Draw(t, "seed"))
		answers := []error{nil, unavailable, &wire.HTTPError{Operation: "pull", Status: 503}, &transport.NetworkError{Err: io.EOF},
			&wire.HTTPError{Operation: "pull", Status: 429, RetryAfter: 5 * time.Second}, &wire.HTTPError{Operation: "watch", Status: 503, RetryAfter: time.Second},
			&wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Second}, errors.New("garbage")}
		bad := rapid.SliceOfN(rapid.IntRange(0, len(answers)-1), 1, 8).Draw(t, "answers")
		outage := time.Duration(rapid.IntRange(1, 300).Draw(t, "outage")) * time.Second
		hangs := rapid.Bool().Draw(t, "hangs")
		leaving := rapid.IntRange(0, 30).Draw(t, "leaving %")
		c.answer = func(c *crowd, _ *member) error {
			if c.time.Sub(epoch) < outage {
				return answers[bad[c.rand.IntN(len(bad))]]
			}
			return nil
		}
		c.trip = func(c *crowd) time.Duration {
			if hangs && c.time.Sub(epoch) < outage {
				return time.Duration(c.rand.Int64N(int64(20 * time.Second)))
			}
			return time.Duration(c.rand.Int64N(int64(200 * time.Millisecond)))
		}
		for _, m := range c.engines {
			c.wants(m, time.Duration(c.rand.Int64N(int64(outage))))
			switch at := time.Duration(c.rand.Int64N(int64(outage))); {
			case c.rand.IntN(100) < leaving:
				c.after(at, func() { m.gone = true })
			case c.rand.IntN(100) < 2:
				c.after(at, m.kick)
			}
		}
		c.run(outage + time.Hour)
		if n := c.unserved(); n > 0 {
			t.Fatalf("%d of %d engines were never served", n, engines)
		}
		over := epoch.Add(outage)
		longest := time.Duration(0)
		for _, m := range c.engines {
			if !m.gone {
				longest = max(longest, m.served.Sub(over))
			}
		}
		// A pause of the gate's own and its scatter, the server's wish and its scatter, and the timetable with those who left.
		ideal := (&ramp{start: epoch, rate: rampRate}).turn(uint64(2 * engines)).Sub(epoch)
		if longest > 45*time.Second+2*ideal+20*time.Second {
			t.Fatalf("the last is served %v after the outage", longest)
		}
		// An open gate in the end, with nothing left against anybody.
		for range 2 {
			for _, m := range c.engines {
				if !m.gone {
					c.wants(m, time.Duration(c.rand.Int64N(int64(time.Second))))
				}
			}
			c.run(time.Minute)
		}
		for _, m := range c.engines {
			if m.gone {
				m.leave()
			}
		}
		if g := c.gate; c.unserved() < engines && (g.flags.Load() != 0 || g.refuted != 0) && anyoneLeft(c) {
			t.Fatalf("the gate is not open: flags %b, %d refuted, %d trials, window %d", g.flags.Load(), g.refuted, g.trials, g.window)
		}
	})
}

func anyoneLeft(c *crowd) bool {
	return slices.ContainsFunc(c.engines, func(m *member) bool { return !m.gone })
}

// Ten thousand streams are cut at once because the server restarts. It is back after five seconds.
func TestCutStreamsComeBackOneByOne(t *testing.T) {
	t.Parallel()
	c := newCrowd(10_000, 1)
	c.answer = func(c *crowd, _ *member) error {
		if c.time.Sub(epoch) < 5*time.Second {
			return &transport.NetworkError{Operation: transport.OpWatch, Err: io.EOF}
		}
		return nil
	}
	for _, m := range c.engines {
		c.after(time.Duration(c.rand.Int64N(int64(50*time.Millisecond))), func() {
			d := c.backoff(io.EOF)
			if turn := m.lost(io.EOF); !turn.IsZero() {
				d = turn.Sub(c.time)
			}
			c.wants(m, d)
		})
	}
	c.run(5 * time.Second)
	down := len(c.sent)
	if down > outageStreak {
		t.Errorf("%d requests while the server was down", down)
	}
	c.run(time.Minute)
	if n := c.unserved(); n > 0 {
		t.Errorf("%d streams did not come back", n)
	}
	if i := withinTimetable(c.sent[down:], 1); i >= 0 {
		t.Errorf("request %d is more than the rate allows", i)
	}
	w := c.waits(epoch)
	t.Logf("%d requests while it was down; back after it: median %v, last %v", down, w[5000]-5*time.Second, w[9999]-5*time.Second)
	if w[9999] > 25*time.Second {
		t.Errorf("the last stream is back after %v", w[9999])
	}
}

// A machine that was suspended wakes up, and all turns are over: they do not all come at once.
func TestTurnsThatWereMissedAreLost(t *testing.T) {
	t.Parallel()
	c := newCrowd(2000, 10)
	c.trip = func(*crowd) time.Duration { return time.Millisecond }
	c.answer = func(c *crowd, _ *member) error {
		if len(c.sent) == 1 {
			return unavailable
		}
		return nil
	}
	for i, m := range c.engines {
		c.wants(m, time.Duration(i)*time.Millisecond)
	}
	for len(c.sent) < 500 { // and as many more are welcome at once
		c.run(100 * time.Millisecond)
	}
	before := len(c.sent)
	c.time = c.time.Add(45 * time.Second)
	awake := c.time
	c.run(time.Minute)
	if n := c.unserved(); n > 0 || len(c.sent) != len(c.engines)+1 {
		t.Fatalf("%d were not served, %d requests", n, len(c.sent))
	}
	// The rate is what it was when the last turn was given: that of ticket 2000, 743 a second, and growing.
	if d := c.sent[2000].Sub(awake); d < time.Second {
		t.Errorf("%d requests within %v", 2000-before, d)
	}
}

// Who comes too late for his turn goes behind those who wait: any number of late ones would else come beside the others.
func TestALateEngineGoesBehindTheOthers(t *testing.T) {
	t.Parallel()
	c := newCrowd(1000, 12)
	c.answer = func(c *crowd, _ *member) error {
		if len(c.sent) == 1 {
			return &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Second}
		}
		return nil
	}
	for i, m := range c.engines {
		c.wants(m, time.Duration(i)*600*time.Microsecond)
	}
	c.run(900 * time.Millisecond)
	late := c.engines[200]
	late.gone = true
	c.run(4500 * time.Millisecond)
	if c.unserved() == 0 {
		t.Fatal("nobody waits any more")
	}
	if _, turn, _ := late.enter(); turn.Before(c.gate.ramp.turn(c.gate.next - 1)) {
		t.Errorf("let in at %v", turn.Sub(c.time))
	}
}

// Turns that nobody wanted are not saved up for those who come later all at once.
func TestUnusedTurnsAreLost(t *testing.T) {
	t.Parallel()
	c := newCrowd(601, 11)
	c.trip = func(*crowd) time.Duration { return time.Millisecond }
	c.answer = func(c *crowd, _ *member) error {
		if len(c.sent) == 1 {
			return &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Second}
		}
		return nil
	}
	for i, m := range c.engines {
		switch {
		case i == 0:
			c.wants(m, 0)
		case i <= 300: // have had their turns, and made room for as many, when the others come
			c.wants(m, 10*time.Millisecond)
		default:
			c.wants(m, 8*time.Second)
		}
	}
	c.run(time.Minute)
	if n := c.unserved(); n > 0 {
		t.Fatalf("%d were not served", n)
	}
	if d := c.sent[len(c.sent)-1].Sub(epoch) - 8*time.Second; d < 1400*time.Millisecond { // the rate goes on from 154 a second
		t.Errorf("300 requests within %v", d)
	}
}

// A server that accepts and does not answer is not given all ten thousand.
func TestAServerThatHangsIsNotGivenEverybody(t *testing.T) {
	t.Parallel()
	c := newCrowd(10_000, 2)
	c.answer = func(c *crowd, _ *member) error {
		if len(c.sent) == 1 {
			return unavailable
		}
		return nil
	}
	c.trip = func(c *crowd) time.Duration {
		if len(c.sent) == 1 {
			return 0
		}
		return max(50*time.Millisecond, 2*time.Minute-c.time.Sub(epoch)) // it answers after two minutes
	}
	for i, m := range c.engines {
		c.wants(m, time.Duration(i)*time.Millisecond)
	}
	c.run(2*time.Minute - 1)
	if n := len(c.sent); n > firstWindow+60 {
		t.Errorf("%d requests wait for their answers", n)
	}
	if n := c.asks / 10_000; n > 60 {
		t.Errorf("each engine comes %d times in vain", n)
	}
	t.Logf("%d unanswered requests; an engine comes %.1f times to the gate", len(c.sent)-1, float64(c.asks)/10_000)
	c.run(time.Minute)
	if n := c.unserved(); n > 0 {
		t.Errorf("%d were never served", n)
	}
}

// Kick of one engine is a probe: served, it opens the gate for those who come after it.
func TestAKickIsAProbe(t *testing.T) {
	t.Parallel()
	c := newCrowd(30, 3)
	up := false
	c.answer = func(*crowd, *member) error {
		if up {
			return nil
		}
		return &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Hour}
	}
	c.wants(c.engines[0], 0)
	c.run(time.Second)
	c.engines[1].kick()
	c.wants(c.engines[1], 0)
	c.wants(c.engines[2], 0)
	c.run(time.Second)
	if len(c.sent) != 2 {
		t.Fatalf("%d requests: only the kicked one passes", len(c.sent))
	}
	up = true
	c.engines[1].kick()
	c.ask(c.engines[1])
	c.run(time.Second)
	if c.engines[1].served.IsZero() || len(c.sent) != 3 {
		t.Fatal("the kicked one was not served")
	}
	for _, m := range c.engines[3:] {
		c.wants(m, 0)
	}
	c.run(10 * time.Second)
	if c.unserved() != 2 { // those whose turn is in an hour
		t.Errorf("%d were not served", c.unserved())
	}
	c.wants(c.engines[3], 0)
	c.run(time.Second)
	if c.gate.flags.Load() != 0 {
		t.Error("the gate is not open")
	}
}

// An engine may have two to ask when it is kicked, a push and the stream: neither takes the other's permission.
func TestAKickIsForAllThatWaits(t *testing.T) {
	t.Parallel()
	c := newCrowd(1, 6)
	v := c.engines[0].visitor
	v.left(pass{}, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Hour})
	if _, turn, _ := v.enter(); turn.IsZero() {
		t.Fatal("the gate is open")
	}
	v.kick()
	stream, _, cause := v.enter()
	push, _, other := v.enter()
	if cause != nil || other != nil {
		t.Fatal(cause, other)
	}
	v.left(stream, &wire.HTTPError{Operation: "watch", Status: 500})
	if _, _, cause := v.enter(); cause == nil {
		t.Error("it knows no better any more, and still passes")
	}
	v.left(push, nil)
	if _, _, cause := v.enter(); cause != nil {
		t.Error(cause)
	}
}

// All are kicked at once: as many pass as fit, and they do not all come at once then either.
func TestAKickOfAllIsNoStorm(t *testing.T) {
	t.Parallel()
	c := newCrowd(2000, 4)
	up := false
	c.answer = func(*crowd, *member) error {
		if up {
			return nil
		}
		return &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Hour}
	}
	c.wants(c.engines[0], 0)
	c.run(time.Second)
	up = true
	for _, m := range c.engines {
		m.kick()
		c.wants(m, 0)
	}
	c.run(time.Minute)
	if n := c.unserved(); n > 0 {
		t.Errorf("%d were not served", n)
	}
	if i := withinTimetable(c.sent[1:], firstWindow+1); i >= 0 {
		t.Errorf("request %d is more than the rate allows", i)
	}
}

// A server whose storage for one user is down says "unavailable" to that user for ever. The others must not suffer.
func TestOneSickUserDoesNotCloseTheGateAgainAndAgain(t *testing.T) {
	t.Parallel()
	c := newCrowd(200, 5)
	sick := c.engines[:5]
	c.answer = func(c *crowd, m *member) error {
		if slices.Contains(sick, m) {
			return &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: 5 * time.Second}
		}
		return nil
	}
	for _, m := range sick {
		c.wants(m, time.Duration(c.rand.Int64N(int64(10*time.Second))))
	}
	for _, m := range c.engines[5:] {
		for at := time.Duration(0); at < 10*time.Minute; at += 10 * time.Second {
			c.wants(m, at+time.Duration(c.rand.Int64N(int64(10*time.Second))))
		}
	}
	c.run(2 * time.Minute)
	terms := c.gate.term
	c.run(8 * time.Minute)
	if terms > 10 || c.gate.term != terms {
		t.Errorf("the gate closed %d times in two minutes and %d times after them", terms, c.gate.term-terms)
	}
	if c.gate.refuted == 0 {
		t.Error("nobody was refuted")
	}
	// Once the sick are served, a single word closes the gate again.
	sick = nil
	c.run(time.Minute)
	c.answer = func(*crowd, *member) error { return unavailable }
	c.wants(c.engines[7], 0)
	c.run(time.Second)
	if c.gate.refuted != 0 || c.gate.term != terms+1 {
		t.Errorf("%d are still refuted, term %d", c.gate.refuted, c.gate.term)
	}
}

// A server that sheds load refuses one request in fifty, politely, and serves the others. They must go on being served.
func TestAServerThatShedsLoadIsNotLeftAlone(t *testing.T) {
	t.Parallel()
	c := newCrowd(2000, 9)
	shed := 0
	c.answer = func(c *crowd, _ *member) error {
		if c.rand.IntN(50) == 0 {
			shed++
			return &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: 5 * time.Second}
		}
		return nil
	}
	const minutes = 30
	for _, m := range c.engines {
		for at := time.Duration(0); at < minutes*time.Minute; at += time.Minute {
			c.wants(m, at+time.Duration(c.rand.Int64N(int64(time.Minute))))
		}
	}
	c.run((minutes + 5) * time.Minute)
	if n := len(c.answered); n < 2000*minutes {
		t.Errorf("%d of %d were served", n, 2000*minutes)
	}
	if c.gate.term > minutes+5 {
		t.Errorf("the gate closed %d times in %d minutes for %d refusals", c.gate.term, minutes, shed)
	}
}

// A shorter wish that comes later does not open the gate earlier, a longer one closes it longer.
func TestTheLongestWishCounts(t *testing.T) {
	t.Parallel()
	c := newCrowd(4, 6)
	wish := func(d time.Duration) error { return &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: d} }
	passes := make([]pass, 3)
	for i := range passes {
		passes[i], _, _ = c.engines[i].enter()
	}
	c.engines[0].left(passes[0], wish(30*time.Second))
	c.engines[1].left(passes[1], wish(10*time.Second))
	if _, turn, _ := c.engines[3].enter(); turn.Sub(c.time) < 30*time.Second {
		t.Errorf("let in after %v", turn.Sub(c.time))
	}
	c.engines[2].left(passes[2], wish(1000*time.Hour))
	if _, turn, _ := c.engines[3].enter(); turn.Sub(c.time) < longestClosing || turn.Sub(c.time) > longestClosing+2*longestScatter {
		t.Errorf("let in after %v", turn.Sub(c.time))
	}
}

// What many are told is not about one of them.
func TestManyRefusalsOfUsersCloseTheGate(t *testing.T) {
	t.Parallel()
	c := newCrowd(100, 7)
	c.answer = func(*crowd, *member) error {
		return &wire.HTTPError{Operation: "pull", Status: 429, RetryAfter: 20 * time.Second}
	}
	for range 3 { // one of them again and again
		c.wants(c.engines[0], 0)
		c.run(time.Minute)
	}
	if c.gate.term != 0 {
		t.Fatal("one user closed the gate for all")
	}
	for i, m := range c.engines[1:] {
		c.wants(m, time.Duration(i)*100*time.Millisecond)
	}
	c.run(15 * time.Second)
	if c.gate.term != 1 || len(c.sent) > 200 {
		t.Errorf("closed %d times, %d requests", c.gate.term, len(c.sent))
	}
}

// Requests of an open gate lock nothing and allocate nothing.
func TestAnOpenGateCostsNothing(t *testing.T) {
	c := newCrowd(1, 8)
	v := c.engines[0].visitor
	c.gate.mu.Lock() // whoever locks hangs
	defer c.gate.mu.Unlock()
	if n := testing.AllocsPerRun(1000, func() {
		p, turn, _ := v.enter()
		if !turn.IsZero() {
			t.Fatal("held back")
		}
		v.left(p, nil)
		v.kick()
		if !v.mayEnter() {
			t.Fatal("held back")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var none *visitor
	if _, turn, _ := none.enter(); !turn.IsZero() || !none.mayEnter() {
		t.Error("the gate of nobody is closed")
	}
	none.left(pass{}, io.EOF)
	none.kick()
}

// Many goroutines at one gate that opens and closes: for the race detector, and no ticket may be taken twice.
func TestAGateIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	g := newGate(time.Now, rand.Float64)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			v := &visitor{gate: g}
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 500 {
				p, turn, _ := v.enter()
				if !turn.IsZero() {
					v.kick()
					continue
				}
				switch r.IntN(8) {
				case 0:
					v.left(p, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Millisecond})
				case 1:
					v.left(p, io.EOF)
				case 2:
					v.lost(io.EOF)
					v.left(p, nil)
				default:
					v.left(p, nil)
				}
				v.mayEnter()
			}
			v.leave()
		})
	}
	all.Wait()
	if g.trials < 0 || g.trials > g.window {
		t.Errorf("%d trials, window %d", g.trials, g.window)
	}
	if g.refuted != 0 {
		t.Errorf("%d are refuted, and nobody is left", g.refuted)
	}
}

// A turn is a time after the one before, at the rate of that moment.
func TestTheTimetable(t *testing.T) {
	t.Parallel()
	r := ramp{start: epoch, first: 7, rate: rampRate}
	for ticket, want := range map[uint64]time.Duration{0: 0, 7: 0, 8: 19931 * time.Microsecond, 7 + 144: 1997304 * time.Microsecond, 7 + 10_000: 12271510 * time.Microsecond} {
		if got := r.turn(ticket).Sub(epoch); (got - want).Abs() > time.Millisecond {
			t.Errorf("ticket %d at %v, want %v", ticket, got, want)
		}
	}
	before := r.turn(7)
	for ticket := uint64(8); ticket < 20_000; ticket++ {
		at := r.turn(ticket)
		gap, want := at.Sub(before).Seconds(), 1/r.rateOf(ticket-1)
		if gap > want || gap < want*0.98 {
			t.Fatalf("ticket %d comes %v s after the one before, want %v", ticket, gap, want)
		}
		before = at
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://Example.com/v1": "http://example.com:80", "https://example.com": "https://example.com:443", "HTTP://example.com:8080/a/b": "http://example.com:8080",
		"http://[::1]:7": "http://::1:7", "": "", "nonsense": "", "http://%zz": "",
	} {
		if got := originOf(url); got != want {
			t.Errorf("%q is of %q, want %q", url, got, want)
		}
	}
	system, other := newSystem(), newSystem()
	const url = "http://origin.test/a"
	a, b, c, d := visit(system, &World{}, url), visit(system, &World{}, "http://origin.test:80/b"), visit(system, &World{}, "http://origin.test:81"), visit(other, &World{}, url)
	if a.gate != b.gate || a.gate == c.gate || a.gate == d.gate {
		t.Error("the wrong engines share a gate")
	}
	if x, y := visit(system, &World{}, ""), visit(system, &World{}, ""); x.gate == y.gate {
		t.Error("servers without an address share a gate")
	}
	own := &World{Now: time.Now}
	if d := visit(system, own, url); d.gate == a.gate || !d.alone {
		t.Error("an engine in a world of its own shares a gate")
	} else {
		depart(system, url, d)
	}
	depart(system, url, a)
	if e := visit(system, &World{}, url); e.gate != b.gate {
		t.Error("the gate went before its last engine")
	}
	for range 2 {
		depart(system, url, b)
	}
	depart(system, "http://origin.test:81", c)
	depart(other, url, d)
	origins.mu.Lock()
	defer origins.mu.Unlock()
	for key := range origins.of {
		if key.system == system || key.system == other {
			t.Errorf("the gate of %s is left", key.origin)
		}
	}
}

func BenchmarkOpenGate(b *testing.B) {
	v := &visitor{gate: newGate(time.Now, rand.Float64)}
	b.ReportAllocs()
	for b.Loop() {
		p, _, _ := v.enter()
		v.left(p, nil)
	}
}

func BenchmarkClosedGate(b *testing.B) {
	g := newGate(time.Now, rand.Float64)
	first := &visitor{gate: g}
	first.left(pass{}, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Hour})
	v := &visitor{gate: g}
	b.ReportAllocs()
	for b.Loop() {
		v.enter()
	}
}
