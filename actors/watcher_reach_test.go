package actors

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/messages"
)

// watchAnswers is what can come of what the watch machine asks for. Every answer that it tells apart is among them.
var watchAnswers = map[string][]string{
	"LoadState": {
		"state checkpoint=5", "state lease=L", "state anonymous", "state reattach", "state replace", "state rebuild", "state recovery=source_retired",
		"state recovery=bored", "fails", "fails with=busy", "fails with=closed", "fails with=notopen",
	},
	"watch": {
		"opened", "streamed seq=7", "streamed beat", "streamed seq=9 beat proved", "later", "later after=30", "broken",
		"refused status=403 code=bundle_change_watch_forbidden", "refused status=503 code=bundle_change_watch_disabled", "refused status=401",
		"refused code=scope_uninitialized", "refused code=scope_initializing", "refused status=400 code=other", "fails with=protocol",
		"fails with=nothing", "fails with=nothing status=405", "fails with=nothing status=501", "fails with=nothing status=302", "fails with=certificate",
	},
}

// watched is a watch machine and what the world owes it, kept apart from what it believes.
type watched struct {
	*stage
	owed    waker  // who has something of the machine's to answer
	streams bool   // the server has taken the watch
	rested  bool   // a wait, or the session, lies between now and the last request
	epoch   uint64 // of the watch that nobody has ended; 0: none
}

func newWatched() *watched { return &watched{stage: newWatchStage(), rested: true} }

func (w *watched) clone() *watched {
	c, m := *w, *w.watch
	m.out = nil
	c.stage = &stage{machine: &m, flow: &m.flow, watch: &m}
	return &c
}

func (w *watched) signature() string {
	m := w.watch
	return fmt.Sprint(m.stage, m.waker, outstanding(m.given), m.lease, m.told, w.streams, w.epoch)
}

// alphabet returns everything that can happen in a state. The session may do all it can do at any time.
func (w *watched) alphabet() []string {
	can := []string{"watch epoch=1", "watch epoch=2", "unwatch"}
	switch w.owed {
	case timerWakes:
		return append(can, "due")
	case writerWakes:
		return append(can, watchAnswers["LoadState"]...)
	case workerWakes:
		for _, line := range watchAnswers["watch"] {
			switch {
			case line == "opened" && w.streams, strings.HasPrefix(line, "streamed") && !w.streams:
			default:
				can = append(can, line)
			}
		}
	}
	return can
}

// take steps and checks what must hold after each step: something is owed to a watch that is neither ended nor refused, and to
// no other; nothing but the session leads from one request to the next without a wait; and what is told is told about the
// watch that there is.
func (w *watched) take(t *testing.T, line string, trail []string) {
	t.Helper()
	told := 0
	switch {
	case strings.HasPrefix(line, "watch"):
		w.rested = true
		w.epoch = uint64(line[len(line)-1] - '0')
	case line == "unwatch":
		w.epoch = 0
	case line == "opened":
		w.streams = true
		told++
	case strings.HasPrefix(line, "streamed"):
	default:
		w.owed, w.streams = nobody, false
	}
	for _, e := range w.tell(t, line) {
		switch e := e.(type) {
		case fxTell:
			w.owes(t, writerWakes, e.ref, trail)
		case fxAsk:
			w.owes(t, workerWakes, e.ref, trail)
			if !w.rested {
				t.Fatalf("a request right after the one before: %q", trail)
			}
			w.rested, w.streams = false, false
		case fxWait:
			w.owes(t, timerWakes, e.ref, trail)
			w.rested = true
		case fxAbandon:
			w.owed, w.streams = nobody, false
		case fxReport:
			told -= w.heard(t, e.message, line, trail)
		}
	}
	if told > 0 {
		t.Fatalf("nobody is told that the watch is open: %q", trail)
	}
	m := w.watch
	if off := w.epoch == 0; off != (w.owed == nobody) || off != (m.stage == watchOff) || w.owed != m.waker || off != (m.given == nil) {
		t.Fatalf("watch %d, stage %d: %d is owed and %d waited for, after %q", w.epoch, m.stage, w.owed, m.waker, trail)
	}
}

func (w *watched) owes(t *testing.T, who waker, ref uint64, trail []string) {
	t.Helper()
	if w.owed != nobody || ref != w.flow.ref || who != w.flow.waker {
		t.Fatalf("%d is owed besides %d, or not what the machine waits for, after %q", who, w.owed, trail)
	}
	w.owed = who
}

// heard checks what the session is told, and returns 1 for news that a watch is open.
func (w *watched) heard(t *testing.T, m messages.Session, line string, trail []string) int {
	t.Helper()
	var epoch uint64
	opened := 0
	switch m := m.(type) {
	case messages.WatchOpened:
		epoch, opened = m.Epoch, 1
	case messages.WatchHint:
		epoch = m.Epoch
	case messages.WatchAlive:
		epoch = m.Epoch
	case messages.WatchRefused:
		if epoch = m.Epoch; m.Err == nil {
			t.Fatalf("refused without a reason after %q", trail)
		}
		defer func() { w.epoch = 0 }()
	case messages.ChildFailed:
		if line != "broken" {
			t.Fatalf("a child fails by itself after %q", trail)
		}
		return 0
	}
	if epoch == 0 || epoch != w.epoch {
		t.Fatalf("%T about watch %d while there is %d, after %q", m, epoch, w.epoch, trail)
	}
	return opened
}

// ignore checks that what is not meant for this state changes nothing, in any state.
func (w *watched) ignore(t *testing.T, trail []string) {
	t.Helper()
	before, ref := w.signature(), w.flow.ref
	var strangers []event
	for _, r := range []uint64{ref - 1, ref + 1} {
		strangers = append(strangers, evAnswer{ref: r}, evFailure{ref: r}, evWaitOver{ref: r}, evExhausted{ref: r}, evBroken{ref: r},
			evStreamOpened{ref: r}, evStreamed{ref: r, streamed: streamed{seq: 1, beat: true, proved: true}})
	}
	if w.owed != timerWakes {
		strangers = append(strangers, evWaitOver{ref: ref}, evExhausted{ref: ref})
	}
	if w.owed != workerWakes {
		strangers = append(strangers, evFailure{ref: ref}, evBroken{ref: ref})
	}
	if w.owed != workerWakes && w.owed != writerWakes {
		strangers = append(strangers, evAnswer{ref: ref})
	}
	if !w.streams {
		strangers = append(strangers, evStreamed{ref: ref, streamed: streamed{seq: 1, beat: true, proved: true}})
	}
	if w.streams || w.owed != workerWakes {
		strangers = append(strangers, evStreamOpened{ref: ref})
	}
	for _, ev := range append(strangers, evCancelRun{run: 1}, evCancelRun{}) {
		if effects := w.machine.step(ev); len(effects) != 0 {
			t.Fatalf("%T brings %d effects after %q", ev, len(effects), trail)
		}
	}
	if after := w.signature(); after != before || w.flow.ref != ref {
		t.Fatalf("an event that is not meant for it changes the machine after %q", trail)
	}
}

// TestEveryReachableStateOfAWatchHasOneWaker enumerates the states of the watch machine, with everything that can happen
// in each.
func TestEveryReachableStateOfAWatchHasOneWaker(t *testing.T) {
	t.Parallel()
	type node struct {
		*watched
		trail []string
	}
	seen, stages := map[string]bool{}, map[string]bool{}
	nodes := []node{{watched: newWatched()}}
	for len(nodes) > 0 {
		n := nodes[0]
		nodes = nodes[1:]
		for _, line := range n.alphabet() {
			w, trail := n.clone(), append(slices.Clip(n.trail), line)
			w.take(t, line, trail)
			if sig := w.signature(); !seen[sig] {
				seen[sig] = true
				nodes = append(nodes, node{w, trail})
				w.ignore(t, trail)
				stages[fmt.Sprint(w.watch.stage, w.owed)] = true
			}
		}
	}
	reached := slices.Sorted(maps.Keys(stages))
	want := slices.Sorted(slices.Values([]string{
		fmt.Sprint(watchOff, nobody), fmt.Sprint(watchLoading, writerWakes), fmt.Sprint(watchLoading, timerWakes),
		fmt.Sprint(watchOpening, workerWakes), fmt.Sprint(watchStreaming, workerWakes),
	}))
	if !slices.Equal(reached, want) {
		t.Errorf("reached %v, want %v", reached, want)
	}
	t.Logf("%d states", len(seen))
}

// TestRandomWatches goes where the enumeration does not: to the same state by long ways.
func TestRandomWatches(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(walkSeed(t), 3))
	for range 200 {
		w := newWatched()
		var trail []string
		for range 200 {
			alphabet := w.alphabet()
			line := alphabet[r.IntN(len(alphabet))]
			trail = append(trail, line)
			w.take(t, line, trail)
			w.ignore(t, trail)
		}
	}
}
