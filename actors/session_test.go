package actors

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// sessionServer is a server that answers an Attach as well.
type sessionServer struct {
	fakeServer
	capabilities func(context.Context) (wire.Capabilities, error)
	connect      func(context.Context, bool) (wire.ConnectResponse, error)
}

func (s *sessionServer) Capabilities(ctx context.Context, _ string) (wire.Capabilities, error) {
	return s.capabilities(ctx)
}

func (s *sessionServer) Connect(ctx context.Context, _ wire.Contract, _ string, pending bool) (wire.ConnectResponse, error) {
	return s.connect(ctx, pending)
}

// newServer answers everything, with nothing.
func newServer() *sessionServer {
	s := &sessionServer{
		capabilities: func(context.Context) (wire.Capabilities, error) { return parseCapabilities([]string{"no-specs"}), nil },
		connect: func(context.Context, bool) (wire.ConnectResponse, error) {
			return wire.ConnectResponse{Resolution: wire.InitializeEmpty}, nil
		},
	}
	s.pull = nothingNew
	return s
}

// sessionDB is a database attached to ann, with nothing to push.
type sessionDB struct{ fakeDB }

func newSessionDB() *sessionDB {
	d := &sessionDB{}
	d.state = attached(5)
	d.state.Attachment.UserID = "ann"
	d.freeze = func() (local.Frozen, error) {
		return local.Frozen{Outbox: local.Outbox{State: local.OutboxNone}}, nil
	}
	return d
}

func (d *sessionDB) AttachEmpty(_ context.Context, user string, _ wire.ContractName) error {
	d.state.Attachment.Binding, d.state.Attachment.UserID = local.Attached, user
	return nil
}

// newTestEngine makes an engine on a fake database and a fake server.
func newTestEngine(t testing.TB, system *actor.ActorSystem, db database, server endpoints) *Engine {
	t.Helper()
	retry := testRetry
	retry.MaxElapsed = 20 * time.Minute
	e := NewEngine(Options{
		Client: server, Retry: retry, System: system, Log: zap.NewNop(), ResolveTimeout: time.Second,
		NewSourceID: func() string { return "fresh" },
		open:        func(context.Context) (database, error) { return db, nil },
	})
	t.Cleanup(e.Close)
	return e
}

func mustAsk(t testing.TB, e *Engine, v Verb) Result {
	t.Helper()
	r, err := e.Ask(t.Context(), v, userOf(v))
	if err != nil {
		t.Fatalf("%s: %v", v, err)
	}
	return r
}

func userOf(v Verb) string {
	if v == VerbAttach {
		return "ann"
	}
	return ""
}

// settleSystem lets the virtual second pass in which an actor system throttles its log.
func settleSystem(t *testing.T, system *actor.ActorSystem) {
	t.Cleanup(func() {
		system.Shutdown()
		time.Sleep(2 * time.Second)
	})
}

func TestSessionServesItsVerbs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		db := newSessionDB()
		e := newTestEngine(t, system, db, newServer())
		mustAsk(t, e, VerbOpen)
		if r := mustAsk(t, e, VerbAttach); r.Attach != AttachResumed {
			t.Fatalf("%+v", r)
		}
		if r := mustAsk(t, e, VerbSync); r.Sync.Committed || r.Sync.Downloads != messages.PullAtTarget {
			t.Fatalf("%+v", r)
		}
		mustAsk(t, e, VerbSyncStatus)
		mustAsk(t, e, VerbRestart) // nothing to bring back
		e.Close()
		e.Close()
		if db.closed != 1 {
			t.Fatalf("the database was closed %d times", db.closed)
		}
		if _, err := e.Ask(t.Context(), VerbSync, ""); !errors.Is(err, messages.ErrClosed) {
			t.Fatal(err)
		}
	})
}

// The requests of an Attach wait as every request does: as long as the server says, visibly, until kicked, and not for
// ever.
func TestAttachBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		db, server := newSessionDB(), newServer()
		db.state.Attachment.Binding, db.state.Attachment.UserID = local.Anonymous, ""
		failures := 0
		server.capabilities = func(context.Context) (wire.Capabilities, error) {
			failures++
			if failures < 3 {
				return wire.Capabilities{}, &wire.HTTPError{Operation: "capabilities", Status: 503, RetryAfter: 5 * time.Minute}
			}
			return parseCapabilities([]string{"no-specs"}), nil
		}
		e := newTestEngine(t, system, db, server)
		sub := e.Subscribe(16, KindBackoffScheduled)
		mustAsk(t, e, VerbOpen)
		begun := time.Now()
		done := make(chan error, 1)
		go func() { _, err := e.Ask(context.Background(), VerbAttach, "ann"); done <- err }()
		first := (<-sub.C()).(BackoffScheduled)
		synctest.Wait()
		s := e.Status()
		if s.Attempt != 1 || s.LastError == nil || !s.WaitingUntil.Equal(first.Until) || time.Until(s.WaitingUntil) < 5*time.Minute || s.Phase != messages.PhaseConnecting {
			t.Fatalf("%+v", s)
		}
		<-sub.C() // it waited, tried again, and waits again
		if d := time.Since(begun); d < 5*time.Minute || d > 6*time.Minute {
			t.Fatalf("tried again after %v", d)
		}
		e.Kick()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d > 6*time.Minute {
			t.Fatalf("the kick came to nothing: %v", d)
		}
		if s := e.Status(); s.Attempt != 0 || !s.WaitingUntil.IsZero() || s.LastError != nil || s.AttachedUser != "ann" {
			t.Fatalf("%+v", s)
		}

		mustAsk(t, e, VerbSync)
		server.connect = func(context.Context, bool) (wire.ConnectResponse, error) {
			return wire.ConnectResponse{}, errNoNetwork
		}
		db.state.ReattachRequired = true
		var exhausted *messages.RetryExhaustedError
		if _, err := e.Ask(t.Context(), VerbAttach, "ann"); !errors.As(err, &exhausted) || exhausted.Attempts < 5 {
			t.Fatal(err)
		}
	})
}

func TestLeavingAnAttachCancelsItsRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		db, server := newSessionDB(), newServer()
		db.state.Attachment.Binding, db.state.Attachment.UserID = local.Anonymous, ""
		cut := make(chan struct{})
		server.connect = func(ctx context.Context, _ bool) (wire.ConnectResponse, error) {
			<-ctx.Done()
			close(cut)
			return wire.ConnectResponse{}, ctx.Err()
		}
		e := newTestEngine(t, system, db, server)
		mustAsk(t, e, VerbOpen)
		ctx, leave := context.WithTimeout(t.Context(), time.Minute)
		defer leave()
		if _, err := e.Ask(ctx, VerbAttach, "ann"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		<-cut
		synctest.Wait()
		if s := e.Status(); s.Phase != messages.PhaseIdle {
			t.Fatalf("%+v", s)
		}
	})
}

// A panic in the session itself stops that engine and nobody else, tells everybody why, and Restart brings it back.
func TestSessionContainsItsPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		db := newSessionDB()
		blocked := make(chan struct{})
		server := newServer()
		server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
			select {
			case <-blocked:
				return nothingNew(ctx, r)
			case <-ctx.Done():
				return wire.PullPage{}, ctx.Err()
			}
		}
		e := newTestEngine(t, system, db, server)
		neighbour := newTestEngine(t, system, newSessionDB(), newServer())
		for _, e := range []*Engine{e, neighbour} {
			mustAsk(t, e, VerbOpen)
			mustAsk(t, e, VerbAttach)
		}
		done := make(chan error, 1)
		go func() { _, err := e.Ask(context.Background(), VerbPullToStable, ""); done <- err }()
		synctest.Wait()
		e.PauseUploads(true)
		// A verdict that comes without what it is about: the machine panics.
		e.tell(messages.PullDone{Run: 3, Verdict: messages.PullNeedsPush})
		var failed *messages.EngineFailedError
		if err := <-done; !errors.As(err, &failed) || !strings.Contains(string(failed.Stack), "collided") {
			t.Fatalf("%v\n%s", err, failed.Stack)
		}
		synctest.Wait()
		if s := e.Status(); s.Phase != messages.PhaseFailed || s.Failure == nil || !s.UploadsPaused {
			t.Fatalf("%+v", s)
		}
		if db.closed != 1 {
			t.Fatal("the database of a failed engine is open")
		}
		if _, err := e.Ask(t.Context(), VerbSync, ""); !errors.As(err, &failed) {
			t.Fatal(err)
		}
		mustAsk(t, neighbour, VerbSync)
		close(blocked)
		mustAsk(t, e, VerbRestart)
		mustAsk(t, e, VerbSync) // still attached
		if s := e.Status(); s.Phase != messages.PhaseIdle || s.Failure != nil {
			t.Fatalf("%+v", s)
		}
	})
}

// Close comes to an end whatever has gone wrong before, and whatever goes wrong meanwhile.
func TestCloseOfAFailedEngine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		e := newTestEngine(t, system, newSessionDB(), newServer())
		mustAsk(t, e, VerbOpen)
		e.tell(messages.ChildFailed{Child: "worker", Cause: "boom"})
		synctest.Wait()
		if s := e.Status(); s.Phase != messages.PhaseFailed {
			t.Fatalf("%+v", s)
		}
		e.Close()

		e = newTestEngine(t, system, newSessionDB(), newServer())
		// Not open: naming this verb in the refusal panics. Then Close.
		_, err := e.Ask(t.Context(), Verb(200), "")
		if !errors.As(err, new(*messages.EngineFailedError)) {
			t.Fatal(err)
		}
		e.Close()
	})
}

// A child that panics comes back after a delay; one that does it again and again takes the engine down.
func TestChildrenThatPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		server := newServer()
		e := newTestEngine(t, system, newSessionDB(), server)
		mustAsk(t, e, VerbOpen)
		mustAsk(t, e, VerbAttach)
		mustAsk(t, e, VerbSync)
		for _, child := range []Child{ChildWriter, ChildUploader, ChildPuller} {
			e.tell(childFailed{child: child, reason: &panicked{cause: "boom"}})
		}
		time.Sleep(time.Second)
		mustAsk(t, e, VerbSync)

		// It panicked before it could answer: its run ends all the same.
		server.pull = func(ctx context.Context, _ wire.PullRequest) (wire.PullPage, error) {
			<-ctx.Done()
			return wire.PullPage{}, ctx.Err()
		}
		done := make(chan error, 1)
		go func() { _, err := e.Ask(context.Background(), VerbPullToStable, ""); done <- err }()
		synctest.Wait()
		e.tell(childFailed{child: ChildPuller, run: 5, reason: &panicked{cause: "boom"}})
		if err := <-done; !errors.As(err, new(*messages.EngineFailedError)) {
			t.Fatal(err)
		}
		if s := e.Status(); s.Phase == messages.PhaseFailed {
			t.Fatalf("%+v", s)
		}
		for range maxChildFailures {
			e.tell(childFailed{child: ChildPuller, reason: &panicked{cause: "again"}})
		}
		synctest.Wait()
		if s := e.Status(); s.Phase != messages.PhaseFailed || s.Failure.Cause != "again" {
			t.Fatalf("%+v", s)
		}
		server.pull = nothingNew
		mustAsk(t, e, VerbRestart)
		mustAsk(t, e, VerbSync)
	})
}

// A session that fails although it contains its panics is stopped by the root actor, and its callers learn why.
func TestRootStopsASessionThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		e := newTestEngine(t, system, newSessionDB(), newServer())
		r := &engines{of: map[string]*Engine{e.session.Id: e}}
		r.HandleFailure(system, stopper{system}, e.session, nil, "beyond repair", nil)
		<-e.done
		var failed *messages.EngineFailedError
		if _, err := e.Ask(t.Context(), VerbOpen, ""); !errors.As(err, &failed) || failed.Cause != "beyond repair" {
			t.Fatal(err)
		}
		e.Close()
	})
}

// stopper is a supervisor that can stop children and nothing else.
type stopper struct{ system *actor.ActorSystem }

func (s stopper) Children() []*actor.PID          { return nil }
func (s stopper) EscalateFailure(_, _ any)        {}
func (s stopper) RestartChildren(...*actor.PID)   {}
func (s stopper) ResumeChildren(...*actor.PID)    {}
func (s stopper) StopChildren(pids ...*actor.PID) { s.system.Root.Stop(pids[0]) }

// The last engine of a system takes its root actor along.
func TestRootActorGoesWithItsLastEngine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		count := func() int {
			roots.mu.Lock()
			defer roots.mu.Unlock()
			if r := roots.of[system]; r != nil {
				return r.engines
			}
			return 0
		}
		a := newTestEngine(t, system, newSessionDB(), newServer())
		b := newTestEngine(t, system, newSessionDB(), newServer())
		a.Close()
		if n := count(); n != 1 {
			t.Fatal(n)
		}
		b.Close()
		if n := count(); n != 0 {
			t.Fatal(n)
		}
	})
}

func TestObservations(t *testing.T) {
	t.Parallel()
	m := newSessionMachine(sessionConfig{})
	kinds := func(event any) (kinds []Kind) {
		for _, e := range m.step(time.Unix(1, 0), event) {
			kinds = append(kinds, e.(fxPublish).Event.Kind())
		}
		return kinds
	}
	if got := kinds(messages.TablesChanged{Cause: messages.CausePull, Tables: local.TableSet{"a"}}); !slices.Equal(got, []Kind{KindTablesChanged}) {
		t.Error(got)
	}
	if got := kinds(messages.TablesChanged{Cause: messages.CausePull}); got != nil {
		t.Error(got)
	}
	if got := kinds(messages.ConflictResolved{Table: "a", Resolution: local.KeepMerged}); !slices.Equal(got, []Kind{KindConflictResolved}) {
		t.Error(got)
	}
	if got := kinds(messages.Progress{Phase: messages.PhasePulling, Done: 1}); !slices.Equal(got, []Kind{KindProgress}) {
		t.Error(got)
	}
	if got := kinds(messages.Waiting{Run: 9}); got != nil { // of a run that is over
		t.Error(got)
	}
	if got := kinds(messages.Resumed{Run: 9}); got != nil {
		t.Error(got)
	}
	m.step(time.Unix(2, 0), messages.StateChanged{State: attached(8)})
	if s := m.status(); s.Checkpoint != 8 || !s.LastProgressAt.Equal(time.Unix(1, 0)) {
		t.Errorf("%+v", s)
	}
	m.life = lifeOpen
	if got := kinds("something else"); got != nil {
		t.Error(got)
	}
}

// An idle engine costs its actors and no goroutine.
func BenchmarkIdleEngines(b *testing.B) {
	const n = 10_000
	system := NewSystem(zap.NewNop())
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		goroutines := runtime.NumGoroutine()
		engines := make([]*Engine, n)
		for i := range engines {
			engines[i] = newTestEngine(b, system, newSessionDB(), newServer())
			mustAsk(b, engines[i], VerbOpen)
			mustAsk(b, engines[i], VerbAttach)
			mustAsk(b, engines[i], VerbSync)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(engines)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/engine")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/n, "goroutines/engine")
		for _, e := range engines {
			e.Close()
		}
	}
}
