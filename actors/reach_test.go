package actors

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/messages"
)

// What can come of an effect, by what was asked for. Every answer that a machine tells apart is among them.
var (
	pushAnswers = map[string][]string{
		"LoadState": {
			"state", "state dirty=1", "state lease=L", "state prepared=2", "state prepared=1 lease=L", "state prepared=1 blocked=x", "state dirty=20",
			"state committed=7", "state rebuild", "state reattach", "state anonymous", "state recovery=source_retired",
			"fails", "fails with=busy",
		},
		"Settle":           {"settled", "settled conflicts=1", "fails with=intent", "fails", "fails with=busy"},
		"Resolve":          {"resolved applied=1 tables=posts", "resolved stale=1", "resolved needspull", "fails with=resolution", "fails"},
		"Freeze":           {"frozen", "frozen rows=2", "frozen rows=1 more", "frozen rows=1 lease=L", "frozen unsettled", "fails with=intent", "fails"},
		"OutboxRows":       {"rows n=1", "rows n=0", "fails"},
		"MarkCommitted":    {"marked", "marked behind", "fails", "fails with=busy"},
		"DropLease":        {"done", "fails"},
		"ReplayFrozen":     {"proved", "proved foreign", "proved rebuild", "unproved", "fails"},
		"StageBundlePage":  {"done", "fails"},
		"Replay":           {"replayed tables=posts", "replayed foreign", "replayed rebuild", "fails"},
		"ReplayStaged":     {"replayed", "replayed foreign", "replayed rebuild", "fails"},
		"TakeConflict":     {"taken base=1", "taken base=2", "taken settled", "fails with=protocol", "fails"},
		"RequeueOutbox":    {"done", "fails"},
		"DoubtCommit":      {"done", "fails"},
		"SetAsideUnfit":    {"aside", "aside n=0", "fails"},
		"IsolateOutbox":    {"aside", "fails", "fails with=busy"},
		"RetryQuarantined": {"done", "fails"},
		"SetUploadBlocked": {"done", "fails", "fails with=busy"}, "SetSourceRecovery": {"done", "fails"},
		"SetRebuildGate": {"done", "fails"}, "LoseLease": {"done", "fails"}, "RequireReattach": {"done", "fails"},

		"resolve conflicts": {"decided", "fails with=resolver", "broken"},
		"create push session": {
			"staging", "already", "refused code=history_pruned", "refused code=source_retired replacedby=o",
			"refused status=400 code=push_session_invalid", "refused code=initialization_stale", "refused code=scope_uninitialized",
			"refused status=401", "refused status=400 code=other", "fails with=protocol", "later", "broken",
		},
		"upload push chunk": {
			"done", "refused status=404 code=push_session_not_found", "refused code=push_chunk_out_of_order",
			"refused status=413 code=too_large", "later", "broken",
		},
		"commit push session": {
			"committed", "refused code=push_conflict", "refused code=push_conflict table=posts", "refused status=410 code=push_session_expired",
			"refused status=500 code=push_session_commit_failed", "refused code=source_sequence_changed", "refused status=400 code=push_commit_invalid", "later", "broken",
		},
		"fetch committed rows": {
			"page n=2", "page n=1 more", "page n=0 next=-1 more", "fails with=large", "refused code=history_pruned",
			"refused status=404 code=committed_bundle_not_found", "refused code=scope_uninitialized", "refused code=source_retired", "refused status=400 code=other", "later", "broken",
		},
	}
	pullAnswers = map[string][]string{
		"LoadState": {
			"state checkpoint=5", "state checkpoint=5 dirty=1", "state lease=L", "state committed=7", "state rebuild", "state reattach",
			"state replace", "state replace=staged", "state recovery=source_retired", "state recovery=source_retired reserved=fresh",
			"state recovery=history_pruned reserved=fresh replacedby=o", "state recovery=bored", "fails", "fails with=busy",
		},
		"ApplyBundles":    {"applied checkpoint=7", "applied checkpoint=6 collision=7", "applied diverged", "applied foreign", "applied rebuild", "applied", "fails", "fails with=busy"},
		"ApplyStaged":     {"applied checkpoint=6", "applied collision=6", "applied diverged", "applied foreign", "fails"},
		"StageBundlePage": {"done", "fails"}, "SetRebuildGate": {"done", "fails", "fails with=busy"}, "BeginStage": {"done", "fails"},
		"StageSnapshotPage": {"done", "fails"}, "CompleteStage": {"done", "fails"}, "ApplySnapshot": {"restored tables=posts", "restored rotated=fresh", "fails with=collision", "fails"},
		"RequireReattach": {"done", "fails"}, "CancelReplace": {"done", "fails"}, "SetSourceRecovery": {"done", "fails"},
		"ReserveAnother": {"reserved", "fails"}, "RotateSource": {"rotated", "fails"},

		"pull": {
			"bundles from=6 to=7 stable=8 more", "bundles from=8 to=8 stable=8", "bundles stable=5", "bundles from=7 to=7 stable=7", "fails with=behind", "fails with=large",
			"refused code=history_pruned", "refused code=scope_uninitialized", "refused code=source_retired", "refused status=401", "fails with=protocol", "later", "broken",
		},
		"fetch committed rows": {
			"page seq=6 n=2", "page seq=6 n=2 more", "page n=0 next=-1 more", "fails with=large", "refused status=404 code=committed_bundle_not_found",
			"refused code=history_pruned", "later", "broken",
		},
		"create snapshot session": {"session rows=2", "session rows=0", "refused code=source_retired", "refused code=source_retired replacedby=o",
			"refused code=source_retired replacedby=fresh", "refused code=source_replacement_invalid", "refused code=source_sequence_changed", "refused code=scope_initializing", "refused status=401", "later", "broken"},
		"fetch snapshot page": {"snapshotpage n=1 more", "snapshotpage n=1", "snapshotpage n=2", "fails with=large", "refused status=410 code=snapshot_session_expired", "later", "broken"},
	}
)

// explorer walks through a machine.
type explorer struct {
	push    bool
	isolate bool
	answers map[string][]string
	starts  []string
}

var explorers = map[string]explorer{
	"push":    {push: true, answers: pushAnswers, starts: []string{"push run=1"}},
	"isolate": {push: true, isolate: true, answers: pushAnswers, starts: []string{"push run=1"}},
	"only":    {push: true, answers: pushAnswers, starts: []string{"push run=1 only=1"}},
	"pull":    {answers: pullAnswers, starts: []string{"pull run=1", "snapshot run=1"}},
}

// alphabet returns everything that can happen in a state.
func (x explorer) alphabet(t *testing.T, s *stage) []string {
	t.Helper()
	switch s.flow.waker {
	case nobody:
		return x.starts
	case timerWakes:
		return []string{"due", "exhausted", "cancel run=1"}
	case writerWakes, workerWakes:
		asked := outstanding(s.flow.given)
		answers := x.answers[asked]
		if answers == nil {
			t.Fatalf("nothing is known about what can come of %q", asked)
		}
		return append(slices.Clip(answers), "cancel run=1")
	default:
		t.Fatalf("waker %d", s.flow.waker)
		return nil
	}
}

func outstanding(e effect) string {
	switch e := e.(type) {
	case fxTell:
		return strings.TrimPrefix(fmt.Sprintf("%T", e.command), "messages.")
	case fxAsk:
		return e.request.operation()
	default:
		return ""
	}
}

// signature identifies a state; counters count as none or some.
func (s *stage) signature() string {
	some := func(n int) bool { return n > 0 }
	f := s.flow
	shared := fmt.Sprintf("%d %s", f.waker, outstanding(f.given))
	if m := s.push; m != nil {
		if m.stage == pushFetching {
			shared += fmt.Sprint(some(m.notFound), m.doubted)
		}
		return fmt.Sprint(m.stage, shared, m.committed, m.withoutLease, some(m.sessions), some(m.commitFailures),
			some(m.stale), m.outbox.State, m.outbox.InitializationID, m.next, m.hasMore, m.state.UploadBlocked != nil,
			m.refusedBy != nil, m.quarantine.signature())
	}
	m := s.pull
	return fmt.Sprint(m.stage, shared, m.applied, m.hasMore, m.checkpoint, m.target, m.bundles, m.open, m.voids, m.session.RowCount, min(m.after, 3),
		m.state.Operation.Kind, m.state.Operation.ReplacedBy != "", m.snapshot, m.reserved, min(m.pageRows, 2))
}

// take steps and checks what must hold after each step: an idle machine has answered its run, and any other has
// exactly one effect outstanding, which is what wakes it.
func (x explorer) take(t *testing.T, s *stage, line string, trail []string) {
	t.Helper()
	if s.push != nil && s.push.notFound > 0 {
		s.push.notFound = maxNotFound // what comes in between is as the first time
	}
	busy := s.flow.run != 0
	starting := line == "" || slices.Contains(x.starts, line)
	effects := s.tell(t, line)
	awaited, done := 0, 0
	for _, e := range effects {
		switch e := e.(type) {
		case fxTell:
			awaited++
			if e.ref != s.flow.ref || s.flow.waker != writerWakes {
				t.Fatalf("a command that is not what the machine waits for, after %q", trail)
			}
		case fxAsk:
			awaited++
			if e.ref != s.flow.ref || s.flow.waker != workerWakes {
				t.Fatalf("a request that is not what the machine waits for, after %q", trail)
			}
		case fxWait:
			awaited++
			if e.ref != s.flow.ref || s.flow.waker != timerWakes {
				t.Fatalf("a wait that is not what the machine waits for, after %q", trail)
			}
		case fxReport:
			switch e.message.(type) {
			case messages.PushDone, messages.PullDone:
				done++
			}
		}
	}
	idle := s.flow.waker == nobody
	if idle != (s.flow.run == 0) || idle != (s.flow.given == nil) || s.push != nil && idle != (s.push.stage == pushIdle) || s.pull != nil && idle != (s.pull.stage == pullIdle) {
		t.Fatalf("neither idle nor busy after %q", trail)
	}
	switch {
	case idle && (awaited != 0 || done != 1):
		t.Fatalf("idle with %d effects outstanding and %d answers, after %q", awaited, done, trail)
	case !idle && (awaited != 1 || done != 0):
		t.Fatalf("busy with %d effects outstanding and %d answers, after %q", awaited, done, trail)
	case !busy && !starting:
		t.Fatalf("stepped while idle by %q", line)
	}
}

// ignore checks that what is not meant for this state changes nothing.
func (x explorer) ignore(t *testing.T, s *stage, trail []string) {
	t.Helper()
	before, ref := s.signature(), s.flow.ref
	strangers := []event{
		evAnswer{ref: ref + 1}, evAnswer{ref: ref - 1}, evFailure{ref: ref - 1}, evWaitOver{ref: ref - 1}, evExhausted{ref: ref - 1},
		evBroken{ref: ref - 1}, evCancelRun{run: 99},
	}
	if s.flow.waker != timerWakes {
		strangers = append(strangers, evWaitOver{ref: ref}, evExhausted{ref: ref})
	}
	if s.flow.waker == timerWakes || s.flow.waker == nobody {
		strangers = append(strangers, evAnswer{ref: ref}, evFailure{ref: ref}, evBroken{ref: ref})
	}
	if s.flow.waker != nobody {
		strangers = append(strangers, s.event(x.starts[0]))
	}
	for _, ev := range strangers {
		if effects := s.machine.step(ev); len(effects) != 0 {
			t.Fatalf("%T brings %d effects after %q", ev, len(effects), trail)
		}
	}
	if after := s.signature(); after != before || s.flow.ref != ref {
		t.Fatalf("an event that is not meant for it changes the machine after %q", trail)
	}
}

// TestEveryReachableStateHasOneWaker enumerates the states of the machines, breadth first, and checks in each that
// exactly one thing wakes it and that nothing else touches it.
func TestEveryReachableStateHasOneWaker(t *testing.T) {
	t.Parallel()
	const most = 50_000
	for name, x := range explorers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			stages := map[string]bool{}
			type node struct {
				stage *stage
				trail []string
			}
			nodes := []node{{stage: newStage(x.push, false, x.isolate)}}
			for len(nodes) > 0 && len(seen) < most {
				n := nodes[0]
				nodes = nodes[1:]
				for _, line := range x.alphabet(t, n.stage) {
					s := n.stage.clone()
					trail := append(slices.Clip(n.trail), line)
					x.take(t, s, line, trail)
					if sig := s.signature(); !seen[sig] {
						seen[sig] = true
						nodes = append(nodes, node{s, trail})
						x.ignore(t, s, trail)
						stages[s.stageName()] = true
					}
				}
			}
			t.Logf("%d states", len(seen))
			if len(nodes) > 0 {
				t.Errorf("more than %d states", most)
			}
			x.checkStages(t, stages)
		})
	}
}

// signature identifies how far a search is.
func (q *quarantining) signature() string {
	return fmt.Sprint(q.search.narrowing(), len(q.suspects) > 0, q.chance, q.second, q.probe > 0)
}

// clone copies a machine, which is plain data.
func (s *stage) clone() *stage {
	if s.push != nil {
		m := *s.push
		m.refused, m.out = maps.Clone(m.refused), nil
		q := &m.quarantine
		q.suspects, q.aside, q.doubtful = slices.Clone(q.suspects), slices.Clone(q.aside), slices.Clone(q.doubtful)
		return &stage{machine: &m, flow: &m.flow, push: &m}
	}
	m := *s.pull
	m.out = nil
	return &stage{machine: &m, flow: &m.flow, pull: &m}
}

func (s *stage) stageName() string {
	wakers := [...]string{"nobody", "writer", "worker", "timer"}
	if s.push != nil {
		return fmt.Sprintf("%d/%s", s.push.stage, wakers[s.flow.waker])
	}
	return fmt.Sprintf("%d/%s", s.pull.stage, wakers[s.flow.waker])
}

// never reports whether a stage of the push machine is beyond reach for how it is set up.
func (x explorer) never(s pushStage) bool {
	switch s {
	case pushSettingAside, pushIsolating, pushRetrying:
		return !x.isolate
	case pushUnblocking:
		return strings.Contains(x.starts[0], "only")
	default:
		return false
	}
}

// checkStages fails when a stage is never reached.
func (x explorer) checkStages(t *testing.T, reached map[string]bool) {
	t.Helper()
	last := int(pullEnding)
	if x.push {
		last = int(pushEnding)
	}
	for i := range last + 1 {
		found := x.push && x.never(pushStage(i))
		for name := range reached {
			found = found || strings.HasPrefix(name, fmt.Sprintf("%d/", i))
		}
		if !found {
			t.Errorf("stage %d is never reached", i)
		}
	}
}

// walkSeed is the seed of what is random in a test: OVERSQLITE_SEED, or another one every time.
func walkSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if v := os.Getenv("OVERSQLITE_SEED"); v != "" {
		if _, err := fmt.Sscan(v, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("OVERSQLITE_SEED=%d", seed)
	return seed
}

// TestRandomWalks goes where the enumeration, which counts only to one, does not.
func TestRandomWalks(t *testing.T) {
	t.Parallel()
	seed := walkSeed(t)
	for name, x := range explorers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			for range 60 {
				s := newStage(x.push, false, x.isolate)
				var trail []string
				for range 300 {
					alphabet := x.alphabet(t, s)
					line := alphabet[r.IntN(len(alphabet))]
					if strings.HasPrefix(line, "cancel") && r.IntN(8) > 0 {
						line = alphabet[0]
					}
					trail = append(trail, line)
					x.take(t, s, line, trail)
					x.ignore(t, s, trail)
				}
			}
		})
	}
}

// TestEveryRunEnds lets the server and the application always answer the same way, whatever that is, and checks that
// the run ends all the same, or waits: every loop has a bound.
func TestEveryRunEnds(t *testing.T) {
	t.Parallel()
	seed := walkSeed(t)
	for name, x := range explorers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			for range 3000 {
				always := map[string]string{"timer": "due"}
				for _, asked := range slices.Sorted(maps.Keys(x.answers)) {
					always[asked] = x.answers[asked][r.IntN(len(x.answers[asked]))]
				}
				s := newStage(x.push, false, x.isolate)
				s.tell(t, x.starts[r.IntN(len(x.starts))])
				for steps := 0; s.flow.waker != nobody; steps++ {
					line := always[outstanding(s.flow.given)]
					if s.flow.waker == timerWakes {
						line = "due"
					}
					if endless(line) {
						break
					}
					if steps > 2000 {
						t.Fatalf("the run does not end with %v", always)
					}
					s.tell(t, line)
				}
			}
		})
	}
}

// endless reports whether an answer is one that only the world can end: no network, a busy database, a server that
// always has one page or row more, an application that always has one conflict more.
func endless(line string) bool {
	return line == "later" || strings.HasSuffix(line, "busy") || strings.HasSuffix(line, " more") || strings.HasPrefix(line, "resolved applied")
}
