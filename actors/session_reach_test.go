package actors

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/messages"
)

// sessionWalk drives a session machine and checks, after every event, what must hold in every reachable state:
// whatever is not idle has exactly one effect outstanding, which somebody will answer; every caller is answered once.
type sessionWalk struct {
	*sessionPlayer
	trail   []string
	waiting map[uint64]bool // calls without an answer
	calls   uint64
	stopOut bool        // an fxStop is outstanding
	reads   []uint64    // refs of reads outstanding that serve calls
	signal  bool        // the commit signal is on
	watcher streamState // what there is of a watcher: streamNone, streamOpening or streamEnding
	// unpulled is set by a hint until a pull begins, and again when that fails.
	unpulled, pulling bool
	surprises, waits  int                    // how many may still come; of waits, below 0: any number
	pending           map[sessionEffect]bool // effects given and not answered, reads and stop excepted
	ended             bool
}

func newSessionWalk(recover bool) *sessionWalk {
	p := newSessionPlayer("")
	p.machine.cfg.recover = recover
	p.machine.cfg.newID = func() string { return "fresh" } // ids are no states of their own
	return &sessionWalk{sessionPlayer: p, waiting: map[uint64]bool{}, pending: map[sessionEffect]bool{}}
}

func (w *sessionWalk) take(t *testing.T, line string) {
	t.Helper()
	w.trail = append(w.trail, line)
	if surprising(line) {
		w.surprises--
	}
	if strings.HasPrefix(line, "waiting") && w.waits > 0 {
		w.waits--
	}
	words := strings.Fields(line)
	current := w.machine.current
	switch words[0] {
	case "call":
		w.waiting[number(words[1])] = true
	case "leave":
		delete(w.waiting, number(words[1]))
	case "stopped":
		w.stopOut, w.watcher = false, streamNone
	case "written":
		w.signal = false
	case "unwatched":
		w.watcher = streamNone
	case "hint":
		w.unpulled = w.unpulled || w.machine.bg.stream.state == streamOpen
	case "error":
		w.unpulled, w.pulling = w.unpulled || w.pulling, false
	case "pulled":
		w.pulling = false
	}
	var event any
	var err error
	if words[0] == "read" {
		ref := w.reads[0]
		w.reads = w.reads[1:]
		event = messages.WriterDone{Ref: ref, Result: parseState(words[1:])}
	} else if event, err = w.parse(line); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if answers(words[0]) && current != nil {
		delete(w.pending, w.out)
	}
	reading := len(w.machine.reads)
	for _, e := range w.step(event) {
		switch e := e.(type) {
		case fxReply:
			if !w.waiting[e.ID] && words[0] != "leave" && slices.Contains(w.trail, fmt.Sprint("leave ", e.ID)) == false {
				w.fail(t, "call %d is answered twice", e.ID)
			}
			delete(w.waiting, e.ID)
		case fxStop:
			if w.stopOut {
				w.fail(t, "stops while stopping")
			}
			w.stopOut = true
			w.reads, w.looks = nil, nil // the answers come to nothing
			clear(w.pending)
		case fxTerminate:
			w.ended = true
		case fxListen:
			w.signal = e.On
		case fxWatch:
			w.watcher = streamOpening
		case fxUnwatch:
			if w.watcher == streamNone {
				w.fail(t, "ends a watcher that is not there")
			}
			w.watcher = streamEnding
		case fxDo:
			if w.isLook(e) {
				continue
			}
			if len(w.machine.reads) > reading && w.machine.reads[len(w.machine.reads)-1].ref == e.Ref {
				w.reads = append(w.reads, e.Ref)
				w.out = nil
				if r := w.machine.current; r != nil {
					w.out = r.outstanding
				}
				continue
			}
			w.pending[e] = true
		case fxPull, fxSnapshot:
			w.unpulled, w.pulling = false, w.unpulled
			w.pending[e] = true
		case fxOpen, fxCapabilities, fxConnect, fxPush:
			w.pending[e] = true
		}
	}
	if !w.machine.active() || w.machine.user == "" {
		w.unpulled, w.pulling = false, false // whoever goes on takes up whatever there is
	}
	w.check(t)
}

// answers reports whether a line answers the outstanding effect of the run.
func answers(word string) bool {
	switch word {
	case "ok", "state", "error", "capable", "connect", "detached", "blocked", "pushed", "pulled":
		return true
	default:
		return false
	}
}

func (w *sessionWalk) fail(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Fatalf("%s, after:\n%s", fmt.Sprintf(format, args...), strings.Join(w.trail, "\n"))
}

func (w *sessionWalk) check(t *testing.T) {
	t.Helper()
	m := w.machine
	switch {
	case m.current != nil && m.current.outstanding == nil:
		w.fail(t, "a run waits for nothing")
	case m.current != nil && len(w.pending) != 1:
		w.fail(t, "a run waits for %d effects", len(w.pending))
	case m.current != nil && !w.pending[m.current.outstanding]:
		w.fail(t, "a run waits for an effect that was not given")
	case m.current == nil && len(w.pending) != 0:
		w.fail(t, "effects are outstanding for no run")
	case m.current == nil && len(m.queue) > 0 && !m.stopping:
		w.fail(t, "runs are queued and none runs")
	case m.stopping != w.stopOut:
		w.fail(t, "stopping without a stop, or the other way round")
	case len(m.closers) > 0 && !m.stopping:
		w.fail(t, "somebody waits for an end that nobody brings")
	case len(m.reads) != len(w.reads)+len(w.looks) && !m.stopping:
		w.fail(t, "%d reads, %d commands for them", len(m.reads), len(w.reads)+len(w.looks))
	case len(m.bg.stoppers) > 0 && m.current == nil && !m.stopping && w.watcher != streamEnding:
		w.fail(t, "a Stop waits for nothing")
	}
	w.checkAuto(t)
	known := map[uint64]bool{}
	for _, c := range append(slices.Clone(m.closers), m.bg.stoppers...) {
		known[c] = true
	}
	for _, r := range m.reads {
		if !r.look {
			known[r.call] = true
		}
	}
	for _, r := range append(slices.Clone(m.queue), m.current) {
		if r != nil {
			for _, c := range r.callers {
				known[c] = true
			}
		}
	}
	for id := range w.waiting {
		if !known[id] {
			w.fail(t, "call %d is forgotten", id)
		}
	}
	s := m.status()
	if s.Phase == "" || s.Reason == "" {
		w.fail(t, "a status without a phase or a reason: %+v", s)
	}
	if s.Phase == messages.PhaseIdle && m.current != nil {
		w.fail(t, "the status says idle while %s runs", m.current.verb)
	}
}

// choices are the lines that can come next. States that differ in what the database holds come as answers to reads.
//
// With few, what is taken while a run is under way is limited to what could disturb it, so that all states can be
// visited.
func (w *sessionWalk) choices(calls, few bool) []string {
	var lines []string
	states := []string{"", "user=ann dirty=1", "user=ann lease", "user=ann reattach live", "keep dirty=1", "replace=ann", "replace=ann staged",
		"replace=bob", "user=ann recovery=source_retired", "user=ann gate", "user=bob", "user=ann outbox=jcs_uniform_numeric_strings_v1"}
	if len(w.reads) > 0 {
		lines = append(lines, "read user=ann dirty=1")
	}
	if w.stopOut {
		lines = append(lines, "stopped")
	}
	if r := w.machine.current; r != nil {
		lines = append(lines, "error down", "error canceled", "error panic")
		switch e := r.outstanding.(type) {
		case fxOpen:
			for _, s := range states {
				lines = append(lines, "state "+s)
			}
		case fxDo:
			switch e.Command.(type) {
			case messages.LoadState:
				for _, s := range states {
					lines = append(lines, "state "+s)
				}
			case messages.Detach:
				lines = append(lines, "detached", "blocked 3", "blocked 2")
			default:
				lines = append(lines, "ok")
			}
		case fxCapabilities:
			lines = append(lines, "capable", "capable version=v2")
		case fxConnect:
			lines = append(lines, "connect remote_authoritative", "connect initialize_local", "connect initialize_empty", "connect retry_later", "connect nonsense")
		case fxPush:
			lines = append(lines, "pushed nochange", "pushed committed", "pushed needs-pull", "pushed needs-rebuild", "pushed lease-unused", "error rejected", "error lost")
			if !few || r.verb == VerbSync {
				lines = append(lines, "error retired", "error mismatch")
			}
		case fxPull, fxSnapshot:
			lines = append(lines, "pulled at-target", "pulled incremental", "pulled snapshot", "pulled needs-push 4 k1", "pulled needs-push 5 k2", "error lost")
			if r.at.action == actSnapshot && (!few || r.verb == VerbSync || r.verb == VerbRebuild) {
				lines = append(lines, "error retired", "error diverged", "pulled snapshot fresh", "pulled needs-push 4 k1 rotated=fresh")
			}
		}
		for _, id := range r.callers {
			lines = append(lines, fmt.Sprint("leave ", id))
		}
	}
	for _, id := range w.machine.closers {
		lines = append(lines, fmt.Sprint("leave ", id))
	}
	switch {
	case calls && few && w.machine.current != nil:
		w.calls++
		lines = append(lines, fmt.Sprint("call ", w.calls, " Close"), fmt.Sprint("call ", w.calls, " Sync"), "crash")
	case calls && few:
		w.calls++
		for _, v := range []string{"Open", "Attach ann", "Sync", "PushPending", "PullToStable", "Rebuild", "Detach", "SyncThenDetach", "UninstallSync", "Restart", "Close"} {
			lines = append(lines, fmt.Sprint("call ", w.calls, " ", v))
		}
		lines = append(lines, "pause downloads", "resume downloads", "crash")
	case calls:
		w.calls++
		for _, v := range []string{"Open", "Attach ann", "Attach bob", "Sync", "PushPending", "PullToStable", "Rebuild", "Detach", "SyncThenDetach", "UninstallSync", "Restart", "SyncStatus", "PendingSyncStatus", "Resume", "Close"} {
			lines = append(lines, fmt.Sprint("call ", w.calls, " ", v))
		}
		lines = append(lines, "pause uploads", "pause downloads", "resume uploads", "resume downloads", "crash", "kick")
	}
	return lines
}

// signature tells states apart as far as decisions go.
func (w *sessionWalk) signature() string {
	m := w.machine
	s := fmt.Sprint(m.life, m.stopping, m.user != "", m.link != nil, m.uploadsPaused, m.downloadsPaused, len(m.closers) > 0, len(m.reads) > 0)
	if r := m.current; r != nil {
		s += fmt.Sprint(r.verb, r.user, r.at.action, r.plan, r.begun, r.abandoned, r.fresh, r.held != nil, r.collision != nil, r.recovered, r.diverged, min(r.rebuilds, 2), min(r.collisions, 2), r.result.Rounds)
	}
	if len(m.queue) > 0 {
		s += " then something"
	}
	return s + w.autoSignature()
}

// clone copies a walk, so that it can go on in two ways.
func (w *sessionWalk) clone() *sessionWalk {
	c, p, m := *w, *w.sessionPlayer, *w.machine
	c.sessionPlayer, p.machine = &p, &m
	c.trail, c.reads = slices.Clone(w.trail), slices.Clone(w.reads)
	c.waiting, c.pending = maps.Clone(w.waiting), maps.Clone(w.pending)
	p.looks, m.bg.stoppers = slices.Clone(w.looks), slices.Clone(m.bg.stoppers)
	m.out = nil
	m.reads, m.closers = slices.Clone(m.reads), slices.Clone(m.closers)
	m.queue = slices.Clone(m.queue)
	for i := range m.queue {
		m.queue[i] = m.queue[i].clone()
	}
	if m.current != nil {
		m.current = m.current.clone()
	}
	return &c
}

func (r *sessionRun) clone() *sessionRun {
	c := *r
	c.callers, c.plan = slices.Clone(r.callers), slices.Clone(r.plan)
	return &c
}

// TestEverySessionStateHasOneWaker walks through every state of the session machine that can be reached with one
// caller at a time and a second one now and then.
func TestEverySessionStateHasOneWaker(t *testing.T) {
	t.Parallel()
	race.Skip(t, "a machine runs on one goroutine")
	// Recovering by itself, there is more to do than without.
	explore(t, newSessionWalk(true), 50_000, func(w *sessionWalk) []string { return w.choices(true, true) })
}

// explore visits every state that can be reached from one by the lines that choices names. limit is far more than there are.
func explore(t *testing.T, start *sessionWalk, limit int, choices func(*sessionWalk) []string) {
	t.Helper()
	seen := map[string]bool{}
	frontier := []*sessionWalk{start}
	for len(frontier) > 0 && len(seen) < limit {
		from := frontier[0]
		frontier = frontier[1:]
		for _, line := range choices(from) {
			w := from.clone()
			w.take(t, line)
			if w.ended {
				continue
			}
			if s := w.signature(); !seen[s] {
				seen[s] = true
				frontier = append(frontier, w)
			}
		}
	}
	t.Logf("%d states", len(seen))
	if len(frontier) > 0 {
		t.Fatalf("more states than %d: something grows without bound, last after:\n%s", limit, strings.Join(frontier[0].trail, "\n"))
	}
}

// TestSessionWalks walks at random, with many callers, and then lets everything succeed: every call must end.
func TestSessionWalks(t *testing.T) {
	t.Parallel()
	const seed = 7
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	walks := 1500
	if testing.Short() || race.Enabled {
		walks = 300
	}
	for range walks {
		w := newSessionWalk(random.IntN(2) == 0)
		for range 80 {
			lines := w.choices(random.IntN(3) == 0 || w.machine.current == nil, false)
			if len(lines) == 0 || w.ended {
				break
			}
			w.take(t, lines[random.IntN(len(lines))])
		}
		w.settle(t)
	}
}

// settle answers everything with success until nothing is outstanding.
func (w *sessionWalk) settle(t *testing.T) {
	t.Helper()
	for range 400 {
		r := w.machine.current
		switch {
		case w.ended:
		case w.stopOut:
			w.take(t, "stopped")
			continue
		case len(w.reads) > 0:
			w.take(t, "read user=ann")
			continue
		case r != nil:
			w.take(t, success(r))
			continue
		}
		if len(w.waiting) > 0 && !w.ended {
			w.fail(t, "all is quiet and %d calls wait", len(w.waiting))
		}
		return
	}
	w.fail(t, "it does not come to rest")
}

func success(r *sessionRun) string {
	switch e := r.outstanding.(type) {
	case fxDo:
		switch e.Command.(type) {
		case messages.LoadState:
			return "state user=ann"
		case messages.Detach:
			return "detached"
		default:
			return "ok"
		}
	case fxCapabilities:
		return "capable"
	case fxConnect:
		return "connect initialize_empty"
	case fxPush:
		return "pushed nochange"
	case fxPull, fxSnapshot:
		return "pulled at-target"
	default:
		return "state user=ann"
	}
}
