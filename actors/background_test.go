package actors

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// testAuto polls every minute, as by default.
var testAuto = AutoConfig{UserID: "ann", Debounce: 20 * time.Millisecond, MaxDelay: 500 * time.Millisecond, PollInterval: time.Minute}

// autoEngine is an engine with background sync, and how often its alarm is set.
func autoEngine(t *testing.T, db *sessionDB, server endpoints, auto AutoConfig) (*Engine, *atomic.Int64) {
	t.Helper()
	system := newSystem()
	settleSystem(t, system)
	timers := new(atomic.Int64)
	e := NewEngine(Options{
		Client: server, Retry: RetryConfig{Initial: time.Second, Max: time.Minute, Multiplier: 2, MaxElapsed: time.Minute}, System: system, Log: noLog,
		ResolveTimeout: time.Second, NewSourceID: func() string { return "fresh" },
		World: World{AfterFunc: func(d time.Duration, f func()) func() {
			timers.Add(1) // by the session alone: nothing fails here
			timer := time.AfterFunc(d, f)
			return func() { timer.Stop() }
		}},
		open: func(context.Context) (database, error) { return db, nil },
	})
	t.Cleanup(e.Close)
	mustAsk(t, e, VerbOpen)
	if err := e.Start(t.Context(), auto); err != nil {
		t.Fatal(err)
	}
	return e, timers
}

// K23: an engine that has nothing to do wakes up for its polls and for nothing else.
func TestADayOfIdlePolls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db, server := newSessionDB(), newServer()
		var pulls, loads atomic.Int64
		server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
			pulls.Add(1)
			return nothingNew(ctx, r)
		}
		db.load = func(context.Context) (local.State, error) { loads.Add(1); return db.state, nil }
		_, timers := autoEngine(t, db, server, testAuto)
		synctest.Wait()
		before, read, asked := timers.Load(), loads.Load(), pulls.Load()
		time.Sleep(24 * time.Hour) // virtual
		synctest.Wait()
		polls := pulls.Load() - asked
		if polls < 24*60*9/10 || polls > 24*60*11/10 {
			t.Errorf("%d polls in a day", polls)
		}
		if woken := timers.Load() - before; woken != polls {
			t.Errorf("woken %d times for %d polls", woken, polls)
		}
		if read := loads.Load() - read; read > 3*polls {
			t.Errorf("the state was read %d times for %d polls", read, polls)
		}
	})
}

// A server that takes no pushes, because what stands before it does not let them through, takes nothing else away: pulls go on, in
// turns with the pushes that are repeated ever more seldom.
func TestPullsGoOnWhilePushesFail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db, server := newSessionDB(), newServer()
		db.state.Pending.Dirty = 1
		db.freeze = func() (local.Frozen, error) {
			return local.Frozen{Outbox: local.Outbox{State: local.OutboxPrepared, SourceID: "source", SourceBundleID: 1, RowCount: 1}}, nil
		}
		var pulls, pushes atomic.Int64
		server.createPush = func(context.Context, wire.CreatePushRequest) (wire.CreatePushResponse, error) {
			pushes.Add(1)
			return wire.CreatePushResponse{}, &wire.HTTPError{Operation: transport.OpCreatePush, Status: 502}
		}
		server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
			pulls.Add(1)
			return nothingNew(ctx, r)
		}
		autoEngine(t, db, server, testAuto)
		time.Sleep(time.Hour) // virtual
		synctest.Wait()
		if n := pulls.Load(); n < 25 {
			t.Errorf("%d pulls in an hour, with polls a minute apart", n)
		}
		if n := pushes.Load(); n < 25 || n > 75 {
			t.Errorf("%d attempts to push in an hour, at most a minute apart", n)
		}
	})
}

// Commits that come together are pushed together; those that keep coming are pushed all the same.
func TestCommitsAreGathered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newSessionDB()
		var pushes []time.Duration
		var begun time.Time
		var mu sync.Mutex // the application writes while the engine reads
		db.load = func(context.Context) (local.State, error) {
			mu.Lock()
			defer mu.Unlock()
			return db.state, nil
		}
		db.freeze = func() (local.Frozen, error) {
			mu.Lock()
			defer mu.Unlock()
			pushes = append(pushes, time.Since(begun))
			db.state.Pending.Dirty = 0
			return local.Frozen{Outbox: local.Outbox{State: local.OutboxNone}}, nil
		}
		e, _ := autoEngine(t, db, newServer(), testAuto)
		synctest.Wait()
		commit := func() {
			mu.Lock()
			db.state.Pending.Dirty++
			mu.Unlock()
			e.committed()
		}

		mu.Lock()
		begun = time.Now()
		mu.Unlock()
		for range 5 {
			commit()
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		if len(pushes) != 1 || pushes[0] < 20*time.Millisecond || pushes[0] > 60*time.Millisecond {
			t.Errorf("five commits in 25 ms were pushed after %v", pushes)
		}
		pushes, begun = nil, time.Now()
		mu.Unlock()
		for time.Since(begun) < 2*time.Second {
			commit()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(pushes) < 4 || len(pushes) > 5 || pushes[0] < 400*time.Millisecond || pushes[0] > 520*time.Millisecond {
			t.Errorf("commits for two seconds were pushed after %v", pushes)
		}
	})
}

// A background run goes on for as long as it takes, and never sooner than the server asks.
func TestBackgroundOutlastsTenMinutes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db, server := newSessionDB(), newServer()
		begun := time.Now()
		var up atomic.Bool
		var mu sync.Mutex
		var asked []time.Duration
		server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Since(begun))
			switch {
			case up.Load():
				return nothingNew(ctx, r)
			case len(asked) == 3:
				return wire.PullPage{}, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: 3 * time.Minute}
			default:
				return wire.PullPage{}, errNoNetwork
			}
		}
		e, _ := autoEngine(t, db, server, testAuto)
		for time.Since(begun) < 10*time.Minute {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if s := e.Status(); s.WaitingUntil.Before(time.Now()) || s.Attempt == 0 || s.LastError == nil || len(s.WokenBy) == 0 {
				t.Fatalf("after %v: %+v", time.Since(begun), s)
			}
		}
		up.Store(true)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if s := e.Status(); s.Phase != messages.PhaseIdle || s.LastError != nil {
			t.Errorf("not back within the longest delay: %+v", s)
		}
		mu.Lock()
		defer mu.Unlock()
		if gap := asked[3] - asked[2]; gap < 3*time.Minute || gap > 3*time.Minute+20*time.Second {
			t.Errorf("asked again %v after a Retry-After of 3 minutes", gap)
		}
		// 1, 2 s, then 3 minutes, then 8, 16, 32, 60 … s: 13 requests at most in ten minutes, and the one that succeeds.
		if len(asked) > 16 {
			t.Errorf("%d requests during the outage: %v", len(asked), asked)
		}
	})
}

// An engine that failed goes on in the background after Restart, without being started again.
func TestRestartGoesOnInTheBackground(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db, server := newSessionDB(), newServer()
		var pulls atomic.Int64
		server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
			pulls.Add(1)
			return nothingNew(ctx, r)
		}
		e, _ := autoEngine(t, db, server, testAuto)
		synctest.Wait()
		e.tell(evCrashed{Cause: "boom"})
		e.tell(messages.ChildFailed{Child: "test", Cause: "boom"})
		synctest.Wait()
		if s := e.Status(); s.Phase != messages.PhaseFailed || len(s.WokenBy) != 1 || s.WokenBy[0] != WakerRestart {
			t.Fatalf("%+v", s)
		}
		if err := e.Start(t.Context(), testAuto); !errors.As(err, new(*messages.EngineFailedError)) {
			t.Fatal(err)
		}
		before := pulls.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if pulls.Load() != before {
			t.Error("a failed engine polls")
		}
		mustAsk(t, e, VerbRestart)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if pulls.Load()-before < 2 || e.Status().AttachedUser != "ann" {
			t.Errorf("%d polls after Restart; %+v", pulls.Load()-before, e.Status())
		}
		mustAsk(t, e, VerbStop)
		before = pulls.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if pulls.Load() != before {
			t.Error("it polls after Stop")
		}
	})
}

// A call that is refused before it begins has found out nothing: an Attach that waits is made when it was to be made, neither
// sooner than the server asked nor, however often such calls come, later.
func TestCallsOutOfOrderDoNotMoveAnAttach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db, server := newSessionDB(), newServer()
		db.state.Attachment.Binding, db.state.Attachment.UserID = local.Anonymous, ""
		begun := time.Now()
		var mu sync.Mutex
		var asked []time.Duration
		server.connect = func(context.Context, bool) (wire.ConnectResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Since(begun))
			if len(asked) > 1 {
				return wire.ConnectResponse{Resolution: wire.ResolutionRetry, RetryAfterSeconds: 60}, nil
			}
			return wire.ConnectResponse{}, &wire.HTTPError{Operation: "connect", Status: 429, RetryAfter: 10 * time.Minute}
		}
		e, _ := autoEngine(t, db, server, testAuto)
		for time.Since(begun) < 30*time.Minute {
			time.Sleep(5 * time.Second)
			if _, err := e.Ask(t.Context(), VerbSync, ""); !errors.As(err, new(*messages.AttachRequiredError)) {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(asked) < 2 || asked[1] < 10*time.Minute || asked[1] > 11*time.Minute+5*time.Second {
			t.Errorf("asked after %v, though the server wanted 10 minutes", asked)
		}
		// A minute and a tenth at most from one to the next.
		if len(asked) < 2+19*10/11-1 {
			t.Errorf("asked %d times in half an hour: %v", len(asked), asked)
		}
	})
}
