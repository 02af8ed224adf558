package actors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// heldUp is what an engine waits for in one of the phases below: it blocks until its context ends, as a request and an
// interrupted transaction do.
type heldUp struct {
	reached chan struct{}
	once    sync.Once
}

func (h *heldUp) wait(ctx context.Context) error {
	h.once.Do(func() { close(h.reached) })
	<-ctx.Done()
	return ctx.Err()
}

// phases are the kinds of effects that a call can be waiting for: what sets them up, and the call.
var phases = []struct {
	name  string
	verb  Verb
	setUp func(*heldUp, *sessionDB, *sessionServer)
}{
	{"opening", VerbOpen, nil}, // see holdOpening
	{"capabilities", VerbSync, func(h *heldUp, _ *sessionDB, s *sessionServer) {
		s.capabilities = func(ctx context.Context) (wire.Capabilities, error) { return wire.Capabilities{}, h.wait(ctx) }
	}},
	{"connect", VerbAttach, func(h *heldUp, d *sessionDB, s *sessionServer) {
		d.state.Attachment.Binding, d.state.Attachment.UserID = local.Anonymous, ""
		s.connect = func(ctx context.Context, _ bool) (wire.ConnectResponse, error) {
			return wire.ConnectResponse{}, h.wait(ctx)
		}
	}},
	{"a delay before connect", VerbAttach, func(h *heldUp, d *sessionDB, s *sessionServer) {
		d.state.Attachment.Binding, d.state.Attachment.UserID = local.Anonymous, ""
		s.connect = func(context.Context, bool) (wire.ConnectResponse, error) {
			h.once.Do(func() { close(h.reached) })
			return wire.ConnectResponse{}, errNoNetwork
		}
	}},
	{"create", VerbPushPending, func(h *heldUp, d *sessionDB, s *sessionServer) {
		pending(d)
		s.createPush = func(ctx context.Context, _ wire.CreatePushRequest) (wire.CreatePushResponse, error) {
			return wire.CreatePushResponse{}, h.wait(ctx)
		}
	}},
	{"chunk", VerbPushPending, func(h *heldUp, d *sessionDB, s *sessionServer) {
		pending(d)
		s.pushChunk = func(ctx context.Context, _ int64, _ []wire.PushRow) error { return h.wait(ctx) }
	}},
	{"commit", VerbSync, func(h *heldUp, d *sessionDB, s *sessionServer) {
		pending(d)
		s.commitPush = func(ctx context.Context) (wire.BundleMeta, error) { return wire.BundleMeta{}, h.wait(ctx) }
	}},
	{"a delay before commit", VerbSyncThenDetach, func(h *heldUp, d *sessionDB, s *sessionServer) {
		pending(d)
		s.commitPush = func(context.Context) (wire.BundleMeta, error) {
			h.once.Do(func() { close(h.reached) })
			return wire.BundleMeta{}, &wire.HTTPError{Operation: "commit", Status: 503, RetryAfter: 10 * time.Minute}
		}
	}},
	{"the resolver", VerbPushPending, func(h *heldUp, d *sessionDB, s *sessionServer) {
		d.settle = func() local.Settled {
			return local.Settled{Conflicts: []local.Conflict{{Table: "posts", LocalOp: wire.OpUpdate}}}
		}
	}},
	{"pull", VerbPullToStable, func(h *heldUp, _ *sessionDB, s *sessionServer) {
		s.pull = func(ctx context.Context, _ wire.PullRequest) (wire.PullPage, error) {
			return wire.PullPage{}, h.wait(ctx)
		}
	}},
	{"a delay before pull", VerbSync, func(h *heldUp, _ *sessionDB, s *sessionServer) {
		s.pull = func(context.Context, wire.PullRequest) (wire.PullPage, error) {
			h.once.Do(func() { close(h.reached) })
			return wire.PullPage{}, errNoNetwork
		}
	}},
	{"a transaction", VerbPushPending, func(h *heldUp, d *sessionDB, _ *sessionServer) {
		d.freezeWithin = func(ctx context.Context) error { return h.wait(ctx) }
	}},
	{"a snapshot", VerbRebuild, func(h *heldUp, d *sessionDB, s *sessionServer) {
		s.createSnapshot = func(ctx context.Context) (wire.SnapshotSession, error) { return wire.SnapshotSession{}, h.wait(ctx) }
	}},
}

func pending(d *sessionDB) {
	d.freeze = func() (local.Frozen, error) {
		return local.Frozen{Outbox: local.Outbox{State: local.OutboxPrepared, SourceID: "src", SourceBundleID: 1, RowCount: 1}}, nil
	}
}

// inPhase brings an engine to where it waits, and hands the caller's result over.
func inPhase(t *testing.T, i int) (e *Engine, db *sessionDB, leave context.CancelFunc, done chan error) {
	t.Helper()
	p := phases[i]
	system := newSystem()
	settleSystem(t, system)
	db = newSessionDB()
	server := newServer()
	server.createPush = func(context.Context, wire.CreatePushRequest) (wire.CreatePushResponse, error) {
		return wire.CreatePushResponse{PushID: "p"}, nil
	}
	server.pushChunk = func(context.Context, int64, []wire.PushRow) error { return nil }
	server.deletePush = func(context.Context, string) error { return nil }
	h := &heldUp{reached: make(chan struct{})}
	retry := testRetry
	retry.MaxElapsed = time.Hour
	opening := p.verb == VerbOpen
	e = NewEngine(Options{
		Client: server, Retry: retry, System: system, Log: noLog, ResolveTimeout: time.Hour,
		NewSourceID: func() string { return "fresh" },
		Resolve: func(ctx context.Context, _ local.Conflict) (local.Resolution, error) {
			return local.Resolution{}, h.wait(ctx)
		},
		open: func(ctx context.Context) (database, error) {
			if opening {
				opening = false
				return nil, h.wait(ctx)
			}
			return db, nil
		},
	})
	t.Cleanup(e.Close)
	if p.setUp != nil {
		p.setUp(h, db, server)
		mustAsk(t, e, VerbOpen)
		if p.verb != VerbAttach {
			mustAsk(t, e, VerbAttach)
		}
	}
	ctx, leave := context.WithCancel(context.Background())
	t.Cleanup(leave)
	done = make(chan error, 1)
	go func() { _, err := e.Ask(ctx, p.verb, userOf(p.verb)); done <- err }()
	<-h.reached
	synctest.Wait()
	return e, db, leave, done
}

// Close ends whatever an engine waits for, at once: the caller is told, every other caller too, and the database is closed.
func TestCloseInEveryPhase(t *testing.T) {
	t.Parallel()
	for i, p := range phases {
		t.Run(p.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				e, db, _, done := inPhase(t, i)
				if s := e.Status(); s.Phase == messages.PhaseIdle || s.Reason == "" {
					t.Errorf("it waits, and the status says %s (%s)", s.Phase, s.Reason)
				}
				queued := make(chan error, 1)
				go func() { _, err := e.Ask(context.Background(), VerbDetach, ""); queued <- err }()
				synctest.Wait()
				begun := time.Now()
				e.Close()
				for _, c := range []chan error{done, queued} {
					if err := <-c; !errors.Is(err, messages.ErrClosed) {
						t.Errorf("a caller is told %v", err)
					}
				}
				if d := time.Since(begun); d > time.Millisecond {
					t.Errorf("Close took %v", d)
				}
				if db.closed > 1 || db.closed == 0 && p.verb != VerbOpen {
					t.Errorf("the database was closed %d times", db.closed)
				}
			})
		})
	}
}

// A caller who leaves gets his context's error at once; the run, which nobody waits for, ends, and the next call is served.
func TestLeavingInEveryPhase(t *testing.T) {
	t.Parallel()
	for i, p := range phases {
		t.Run(p.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				e, db, leave, done := inPhase(t, i)
				begun := time.Now()
				leave()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("he is told %v", err)
				}
				synctest.Wait()
				s := e.Status()
				if idle := s.Phase == messages.PhaseIdle || p.verb == VerbOpen && s.Phase == messages.PhaseClosed; !idle || s.Attempt != 0 || !s.WaitingUntil.IsZero() {
					t.Errorf("nobody waits, and the status says %+v", s)
				}
				if d := time.Since(begun); d > time.Millisecond {
					t.Errorf("it took %v", d)
				}
				if p.verb == VerbOpen {
					mustAsk(t, e, VerbOpen)
				}
				if r := mustAsk(t, e, VerbPendingSyncStatus); r.State.Attachment.CurrentSourceID != "src" {
					t.Errorf("%+v", r.State)
				}
				_ = db
			})
		})
	}
}

// A server that asks for an hour ends a call of a minute at once, with the time at which it may be asked again.
func TestAServerThatAsksForMoreTimeThanACallHas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		server := newServer()
		requests := 0
		server.pull = func(context.Context, wire.PullRequest) (wire.PullPage, error) {
			requests++
			return wire.PullPage{}, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Hour}
		}
		e := newTestEngine(t, system, newSessionDB(), server)
		mustAsk(t, e, VerbOpen)
		mustAsk(t, e, VerbAttach)
		begun := time.Now()
		_, err := e.Ask(t.Context(), VerbSync, "")
		exhausted := mustBe[*messages.RetryExhaustedError](t, err)
		if time.Since(begun) != 0 || requests != 1 || exhausted.Attempts != 1 {
			t.Errorf("after %v and %d requests: %v", time.Since(begun), requests, err)
		}
		if in := exhausted.NextRetryAt.Sub(begun); in < time.Hour || in > time.Hour+6*time.Minute {
			t.Errorf("the next attempt is due in %v", in)
		}
		mustBe[*wire.HTTPError](t, err)
		if s := e.Status(); s.Phase != messages.PhaseIdle || s.Attempt != 0 || !s.WaitingUntil.IsZero() || s.LastError == nil {
			t.Errorf("%+v", s)
		}
		server.pull = nothingNew
		// What the server said holds for the next call as well, which learns it without a request, unless the application
		// knows better.
		_, err = e.Ask(t.Context(), VerbSync, "")
		exhausted = mustBe[*messages.RetryExhaustedError](t, err)
		if held := mustBe[*messages.HeldBackError](t, err); requests != 1 || !held.Until.Equal(exhausted.NextRetryAt) || !held.Retryable() {
			t.Errorf("after %d requests: %v", requests, err)
		}
		mustBe[*wire.HTTPError](t, err)
		e.Kick()
		mustAsk(t, e, VerbSync)
		if s := e.Status(); s.LastError != nil {
			t.Errorf("all is well, and the last error is %v", s.LastError)
		}
	})
}

// A hundred callers of every verb at once: each gets an answer, and the database is closed once.
func TestManyCallers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		db := newSessionDB()
		e := newTestEngine(t, system, db, newServer())
		mustAsk(t, e, VerbOpen) // else Close may come before every Open
		verbs := []Verb{VerbOpen, VerbAttach, VerbSync, VerbPushPending, VerbPullToStable, VerbSyncStatus, VerbPendingSyncStatus,
			VerbSourceInfo, VerbResume, VerbRestart, VerbDetach, VerbSyncThenDetach}
		var all sync.WaitGroup
		answers := make(chan error, 1200)
		for i := range 100 {
			for _, v := range verbs {
				all.Go(func() {
					_, err := e.Ask(context.Background(), v, userOf(v))
					switch err.(type) {
					case nil, *messages.OpenRequiredError, *messages.AttachRequiredError:
					default:
						if !errors.Is(err, messages.ErrClosed) {
							err = fmt.Errorf("%s: %w", v, err)
							answers <- err
						}
					}
				})
			}
			e.PauseUploads(i%2 == 0)
			e.PauseDownloads(i%3 == 0)
			e.Kick()
			if i == 90 {
				all.Go(e.Close)
			}
		}
		all.Wait()
		close(answers)
		for err := range answers {
			t.Error(err)
		}
		if db.closed != 1 {
			t.Errorf("the database was closed %d times", db.closed)
		}
	})
}
