package sim

import (
	"bytes"
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// loop is virtual time: what is to happen, when, and one goroutine on which it does. Nothing happens beside it, so a seed
// decides everything.
type loop struct {
	now    time.Time
	events eventHeap
	last   uint64 // numbers the events: of those due at one time the oldest comes first
	r      *rand.Rand

	lane *lane   // that runs now, nil outside of actors
	idle []*lane // lanes that have nothing to do
	all  []*lane

	trace *trace
}

// event is something that is to happen.
type event struct {
	at    time.Time
	seq   uint64
	owner *life // whose it is; nil: the world's
	fn    func()
	index int // in the heap; -1: it has happened, or never will
}

type eventHeap []*event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *eventHeap) Push(x any) {
	e := x.(*event) //nolint:forcetypeassert // heap.Push is called below only
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}

// epoch is when every run begins.
var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newLoop(seed uint64, t *trace) *loop {
	return &loop{now: epoch, r: rand.New(rand.NewPCG(seed, 1)), trace: t} //nolint:gosec // chance is to be the same each time
}

// after lets fn happen after d. What an owner waits for is counted.
func (l *loop) after(d time.Duration, owner *life, fn func()) *event {
	l.last++
	e := &event{at: l.now.Add(max(d, 0)), seq: l.last, owner: owner, fn: fn}
	heap.Push(&l.events, e)
	if owner != nil {
		owner.awaits++
	}
	return e
}

// drop lets an event not happen.
func (l *loop) drop(e *event) {
	if e.index < 0 {
		return
	}
	heap.Remove(&l.events, e.index)
	if e.owner != nil {
		e.owner.awaits--
	}
}

// step lets the next event happen. It reports false when there is none before end.
func (l *loop) step(end time.Time) bool {
	if len(l.events) == 0 || l.events[0].at.After(end) {
		return false
	}
	e := heap.Pop(&l.events).(*event) //nolint:forcetypeassert // see Push
	if e.at.After(l.now) {
		l.now = e.at
	}
	if e.owner != nil {
		e.owner.awaits--
	}
	e.fn()
	return true
}

// between returns a duration of at least low and less than high.
func (l *loop) between(low, high time.Duration) time.Duration {
	return low + time.Duration(l.r.Int64N(int64(high-low)))
}

// chance is true with probability p.
func (l *loop) chance(p float64) bool { return p > 0 && l.r.Float64() < p }

// pick returns one of several.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// lane is a coroutine on which actors run. One whose actor waits, for an answer of the network, is put aside and another
// one taken; so everybody else goes on, and still no two things ever happen at once.
type lane struct {
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	job    func() // nil: none, or done
	ended  bool   // the run is over: whoever waits gets no answer any more
}

// run lets fn run until it returns or waits.
func (l *loop) run(fn func()) {
	var n *lane
	if k := len(l.idle); k > 0 {
		n, l.idle = l.idle[k-1], l.idle[:k-1]
	} else {
		n = &lane{}
		n.resume, n.stop = iter.Pull(n.work)
		l.all = append(l.all, n)
	}
	n.job = fn
	l.enter(n)
}

// enter lets a lane go on.
func (l *loop) enter(n *lane) {
	before := l.lane
	l.lane = n
	n.resume()
	l.lane = before
	if n.job == nil {
		l.idle = append(l.idle, n)
	}
}

// wait puts the running lane aside until it is entered again.
func (l *loop) wait() *lane {
	n := l.lane
	if !n.yield(struct{}{}) {
		n.ended = true
	}
	return n
}

// work does one job after the other.
func (n *lane) work(yield func(struct{}) bool) {
	n.yield = yield
	for {
		n.job()
		n.job = nil
		if n.ended || !yield(struct{}{}) {
			return
		}
	}
}

// close ends all lanes. To be called when nothing waits on them any more.
func (l *loop) close() {
	for _, n := range l.all {
		n.stop()
	}
}

// trace is what happens in a run, a line each. Its hash is the run's identity.
type trace struct {
	now  *time.Time
	hash interface {
		io.Writer
		Sum64() uint64
	}
	out   io.Writer // nil: nobody reads it
	line  []byte
	dir   []byte // another one each time: it is left out
	lines int
}

func newTrace(out io.Writer) *trace { return &trace{hash: fnv.New64a(), out: out} }

// note adds a line.
func (t *trace) note(format string, args ...any) {
	t.line = append(t.line[:0], t.now.Sub(epoch).String()...)
	t.line = append(t.line, ' ')
	t.line = fmt.Appendf(t.line, format, args...)
	t.line = append(bytes.ReplaceAll(t.line, t.dir, nil), '\n')
	t.lines++
	_, _ = t.hash.Write(t.line)
	if t.out != nil {
		_, _ = t.out.Write(t.line)
	}
}

// finding is a run that went wrong: it is panicked with and caught by Run.
type finding struct {
	rule string // S1 … S8, L1 … L6, or what else should not be
	text string
}

func fail(rule, format string, args ...any) { panic(found(rule, format, args...)) }

func found(rule, format string, args ...any) *finding {
	return &finding{rule: rule, text: fmt.Sprintf(format, args...)}
}

// caught turns what a run panicked with into a finding.
func caught(r any) *finding {
	if f, ok := r.(*finding); ok {
		return f
	}
	return &finding{rule: "panic", text: fmt.Sprintf("%v\n%s", r, debug.Stack())}
}
