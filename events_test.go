package oversqlite_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// until receives events until one satisfies the condition.
func until(t *testing.T, s *oversqlite.Subscription, want string, ok func(oversqlite.Event) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e, open := <-s.C():
			if !open {
				t.Fatalf("no event: %s", want)
			}
			if ok(e) {
				return
			}
		case <-deadline:
			t.Fatalf("no event: %s", want)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann", func(c *oversqlite.Config) { c.Resolver = oversqlite.ClientWins })
	const key = "44444444-4444-4444-8444-444444444444"
	a.exec(`INSERT INTO notes (id, title) VALUES (?, 'base')`, key)
	a.sync()
	b := w.ready("ann")
	b.exec(`UPDATE notes SET title = 'remote' WHERE id = ?`, key)
	b.note("another")
	b.sync()
	states := a.Subscribe(oversqlite.WithKinds(oversqlite.KindStateChanged), oversqlite.WithBuffer(500))
	tables := a.Subscribe(oversqlite.WithKinds(oversqlite.KindTablesChanged, oversqlite.KindConflictResolved), oversqlite.WithBuffer(500))
	defer states.Close()
	defer tables.Close()
	a.exec(`UPDATE notes SET title = 'local' WHERE id = ?`, key)
	if _, err := a.PendingSyncStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, tables, "the local write", func(e oversqlite.Event) bool {
		c, ok := e.(oversqlite.TablesChanged)
		return ok && c.Cause == oversqlite.CauseLocal && slices.Equal(c.Tables, []string{"notes"})
	})
	a.sync()
	until(t, tables, "the conflict", func(e oversqlite.Event) bool {
		c, ok := e.(oversqlite.ConflictResolved)
		return ok && c.Table == "notes" && c.Resolution == "keep_local"
	})
	b.sync()
	b.note("a third")
	b.sync()
	a.sync()
	until(t, tables, "the pull", func(e oversqlite.Event) bool {
		c, ok := e.(oversqlite.TablesChanged)
		return ok && c.Cause == oversqlite.CausePull && slices.Equal(c.Tables, []string{"notes"})
	})
	until(t, states, "pushing", func(e oversqlite.Event) bool {
		return e.(oversqlite.StateChanged).To == oversqlite.PhasePushing
	})
	until(t, states, "idle again", func(e oversqlite.Event) bool {
		c := e.(oversqlite.StateChanged)
		return c.To == oversqlite.PhaseIdle && c.From != oversqlite.PhaseIdle
	})
	a.note("of its own")
	a.sync()
	until(t, tables, "the push", func(e oversqlite.Event) bool {
		c, ok := e.(oversqlite.TablesChanged)
		return ok && c.Cause == oversqlite.CausePushReplay && slices.Equal(c.Tables, []string{"notes"})
	})
	if states.Dropped()+tables.Dropped() != 0 {
		t.Fatal("events were dropped")
	}
	if _, err := a.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, tables, "the detach", func(e oversqlite.Event) bool {
		c, ok := e.(oversqlite.TablesChanged)
		return ok && c.Cause == oversqlite.CauseDetach
	})
}

// Each phase of a push, a pull and a snapshot that a subscriber has seen anything of ends at 100 %, also for one who does not
// receive anything until it is all over.
func TestProgressEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	small := func(c *oversqlite.Config) {
		c.Limits = oversqlite.Limits{PushChunkRows: 2, CommittedRows: 2, PullBundles: 1, SnapshotRows: 2}
	}
	a, b := w.ready("ann", small), w.ready("ann", small)
	// A weight of 1.5 has the server's numbers compared and not only hashed, so that what was pushed is fetched.
	fill := func(d *device, n int) {
		for range n {
			d.exec(`INSERT INTO notes (id, title, weight) VALUES (?, 'x', 1.5)`, uuid.NewString())
		}
	}
	fill(b, 1)
	b.sync()
	for range 5 {
		fill(b, 7)
		b.sync()
	}
	fast := a.Subscribe(oversqlite.WithBuffer(5000))
	slow := a.Subscribe(oversqlite.WithBuffer(1))
	fill(a, 15)
	a.sync()
	if _, err := a.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill(a, 15)
	a.sync()
	_ = a.Close()
	ends := func(s *oversqlite.Subscription) (last map[oversqlite.Phase]oversqlite.ProgressMade, steps int) {
		last = map[oversqlite.Phase]oversqlite.ProgressMade{}
		for e := range s.C() {
			if p, ok := e.(oversqlite.ProgressMade); ok {
				last[p.Phase] = p
				steps++
			}
		}
		for phase, p := range last {
			if phase != oversqlite.PhaseSettling && (p.Total == 0 || p.Done != p.Total) {
				t.Errorf("%s ends with %d of %d", phase, p.Done, p.Total)
			}
		}
		return last, steps
	}
	last, steps := ends(fast)
	for _, phase := range []oversqlite.Phase{
		oversqlite.PhasePushing, oversqlite.PhaseReplaying, oversqlite.PhasePulling, oversqlite.PhaseStagingSnapshot, oversqlite.PhaseApplyingSnapshot,
	} {
		if last[phase].Total == 0 {
			t.Errorf("nothing was told of %s", phase)
		}
	}
	if steps < 20 || fast.Dropped() != 0 {
		t.Errorf("%d steps, %d dropped", steps, fast.Dropped())
	}
	if _, steps := ends(slow); steps == 0 || slow.Dropped() == 0 {
		t.Errorf("%d steps, %d dropped: the subscriber was not slow", steps, slow.Dropped())
	}
}

// While a request waits to be repeated the status says why, for what, until when; Kick ends the wait.
func TestStatusOfAWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.sync()
	a.note("one")
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Status: 503, RetryAfter: time.Hour, Times: 1})
	a.cfg.Retry.MaxElapsed = -1
	_ = a.Close()
	a = w.deviceAt("ann", a.path, func(c *oversqlite.Config) { c.Retry.MaxElapsed = -1 }).open()
	a.attach()
	events := a.Subscribe(oversqlite.WithKinds(oversqlite.KindBackoffScheduled, oversqlite.KindProgress))
	done := make(chan error, 1)
	go func() { _, err := a.Sync(context.Background()); done <- err }()
	until(t, events, "the wait", func(e oversqlite.Event) bool {
		b, ok := e.(oversqlite.BackoffScheduled)
		return ok && b.Attempt == 1 && b.Err != nil && time.Until(b.Until) > 50*time.Minute
	})
	s := a.Status()
	if s.Attempt != 1 || time.Until(s.WaitingUntil) < 50*time.Minute || s.LastError == nil || s.Reason == "" || s.Phase == oversqlite.PhaseIdle || s.AttachedUser != "ann" || s.LastProgressAt.IsZero() {
		t.Fatalf("%+v", s)
	}
	a.Kick()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); s.Phase != oversqlite.PhaseIdle || !s.WaitingUntil.IsZero() || s.LastError != nil || s.Pending.Rows != 0 || s.Checkpoint == 0 {
		t.Fatalf("%+v", s)
	}
}

func TestStatusCountsPendingRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.note("one")
	if _, err := a.PendingSyncStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); s.Pending.Rows != 1 || s.Pending.OldestAge < 0 || s.Pending.OldestAge > time.Minute {
		t.Fatalf("%+v", s.Pending)
	}
}

// A network stack that panics takes its engine down, not the process, and not its neighbour. Restart brings it back.
func TestEngineFailsAndRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, neighbour := w.ready("ann"), w.ready("bob")
	a.note("one")
	var broken atomic.Bool
	broken.Store(true)
	a.wire.set(func(*http.Request) {
		if broken.Load() {
			panic("the transport is broken")
		}
	}, nil)
	var failed *oversqlite.EngineFailedError
	if _, err := a.Sync(t.Context()); !errors.As(err, &failed) || failed.Cause != "the transport is broken" || len(failed.Stack) == 0 {
		t.Fatal(err)
	}
	if s := a.Status(); s.Phase != oversqlite.PhaseFailed || s.Failure == nil {
		t.Fatalf("%+v", s)
	}
	if _, err := a.SyncStatus(t.Context()); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	neighbour.note("fine")
	neighbour.sync()
	broken.Store(false)
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := a.sync(); r.Push != oversqlite.Committed {
		t.Fatalf("%+v", r)
	}
	if a.title("nobody") != "" {
		t.Fatal("DB does not work after Restart")
	}
}
