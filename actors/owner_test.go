package actors

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

func TestRetryAfterOfAnHourIsHonoured(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		var asked []time.Duration
		r.server.pull = func(ctx context.Context, p wire.PullRequest) (wire.PullPage, error) {
			if asked = append(asked, r.elapsed()); len(asked) == 1 {
				return wire.PullPage{}, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Hour}
			}
			return nothingNew(ctx, p)
		}
		r.send(messages.Pull{Run: 1, Link: testLink})
		w := hear[messages.Waiting](r)
		if w.Run != 1 || w.Upload || w.Reason != "pull" || w.Attempt != 1 || w.Err == nil || w.Until.Sub(r.start) < time.Hour {
			t.Errorf("waiting says %+v", w)
		}
		hear[messages.Resumed](r)
		if d := hear[messages.PullDone](r); d.Err != nil || d.Verdict != messages.PullAtTarget {
			t.Errorf("done: %+v", d)
		}
		if len(asked) != 2 || asked[1] < time.Hour || asked[1] > time.Hour+6*time.Minute+time.Second {
			t.Errorf("asked at %v", asked)
		}
	})
}

func TestDelaysGrowAndProgressMakesThemSmall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		var asked []time.Duration
		r.server.pull = func(_ context.Context, p wire.PullRequest) (wire.PullPage, error) {
			asked = append(asked, r.elapsed())
			if len(asked) < 5 {
				return wire.PullPage{}, errNoNetwork
			}
			return wire.PullPage{StableSeq: 5}, nil
		}
		for run := messages.RunID(1); run < 3; run++ {
			asked, r.start = nil, time.Now()
			r.send(messages.Pull{Run: run, Link: testLink})
			if d := hear[messages.PullDone](r); d.Err != nil || d.Run != run {
				t.Fatalf("done: %+v", d)
			}
			want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}
			for i := range want {
				if asked[i] != want[i] {
					t.Fatalf("run %d asked at %v, want %v", run, asked, want)
				}
			}
		}
	})
}

func TestKickEndsAWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		var up atomic.Bool
		r.server.pull = func(ctx context.Context, p wire.PullRequest) (wire.PullPage, error) {
			if !up.Load() {
				return wire.PullPage{}, &wire.HTTPError{Operation: "pull", Status: 429, RetryAfter: time.Hour}
			}
			return nothingNew(ctx, p)
		}
		r.send(messages.Kick{}) // nothing to end
		r.send(messages.Pull{Run: 1, Link: testLink})
		hear[messages.Waiting](r)
		up.Store(true)
		r.send(messages.Kick{})
		if d := hear[messages.PullDone](r); d.Err != nil || r.elapsed() > time.Minute {
			t.Errorf("done: %+v after %v", d, r.elapsed())
		}
	})
}

func TestCancelInTheMiddleOfARequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		under := make(chan context.Context, 1)
		r.server.pull = func(ctx context.Context, p wire.PullRequest) (wire.PullPage, error) {
			under <- ctx
			return untilCanceled(ctx, p)
		}
		r.send(messages.Pull{Run: 1, Link: testLink})
		ctx := <-under
		r.send(messages.Cancel{Run: 1})
		if d := hear[messages.PullDone](r); !errors.Is(d.Err, context.Canceled) || d.Run != 1 {
			t.Errorf("done: %+v", d)
		}
		<-ctx.Done()
		r.server.pull = nothingNew
		r.send(messages.Pull{Run: 2, Link: testLink})
		if d := hear[messages.PullDone](r); d.Err != nil || d.Run != 2 {
			t.Errorf("the next run: %+v", d)
		}
	})
}

func TestCancelInsideAWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		r.server.pull = func(context.Context, wire.PullRequest) (wire.PullPage, error) {
			return wire.PullPage{}, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Hour}
		}
		r.send(messages.Pull{Run: 1, Link: testLink})
		hear[messages.Waiting](r)
		r.send(messages.Cancel{Run: 1})
		hear[messages.Resumed](r)
		if d := hear[messages.PullDone](r); !errors.Is(d.Err, context.Canceled) {
			t.Errorf("done: %+v", d)
		}
		// The worker, which failed, is brought back by the next request.
		r.server.pull = nothingNew
		r.send(messages.Pull{Run: 2, Link: testLink})
		if d := hear[messages.PullDone](r); d.Err != nil || d.Run != 2 || r.elapsed() > time.Minute {
			t.Errorf("the next run: %+v", d)
		}
	})
}

func TestCancelInterruptsATransaction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		under := make(chan context.Context, 1)
		r.db.load = func(ctx context.Context) (local.State, error) {
			under <- ctx
			<-ctx.Done()
			return local.State{}, ctx.Err()
		}
		r.send(messages.Pull{Run: 1, Link: testLink})
		<-under
		r.send(messages.Cancel{Run: 1})
		if d := hear[messages.PullDone](r); !errors.Is(d.Err, context.Canceled) {
			t.Errorf("done: %+v", d)
		}
	})
}

func TestStopInsideAWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		r.server.pull = func(context.Context, wire.PullRequest) (wire.PullPage, error) {
			return wire.PullPage{}, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Hour}
		}
		fired := 0
		r.system.EventStream.Subscribe(func(m any) {
			if letter, ok := m.(*actor.DeadLetterEvent); ok {
				if _, ok := letter.Message.(timerDue); ok {
					fired++
				}
			}
		})
		r.send(messages.Pull{Run: 1, Link: testLink})
		hear[messages.Waiting](r)
		r.stop()
		if r.elapsed() > time.Second {
			t.Errorf("stopping took %v", r.elapsed())
		}
		time.Sleep(2 * time.Hour)
		if fired != 0 {
			t.Error("a timer was left behind")
		}
	})
}

func TestStopInTheMiddleOfARequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		under := make(chan struct{}, 1)
		r.server.pull = func(ctx context.Context, p wire.PullRequest) (wire.PullPage, error) {
			under <- struct{}{}
			return untilCanceled(ctx, p)
		}
		r.send(messages.Pull{Run: 1, Link: testLink})
		<-under
		r.stop()
		if r.elapsed() > time.Second {
			t.Errorf("stopping took %v", r.elapsed())
		}
	})
}

func TestOneShotGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		r.server.pull = func(context.Context, wire.PullRequest) (wire.PullPage, error) { return wire.PullPage{}, errNoNetwork }
		r.send(messages.Pull{Run: 1, Link: testLink, OneShot: true})
		d := hear[messages.PullDone](r)
		e := mustBe[*messages.RetryExhaustedError](t, d.Err)
		// Attempts at 0, 1, 3, 7, 15, 31 s; the next would be at 63 s.
		if e.Attempts != 6 || e.Operation != "pull" || !errors.Is(e, errNoNetwork) || r.elapsed() != 31*time.Second {
			t.Errorf("%+v after %v", e, r.elapsed())
		}
		if !e.NextRetryAt.Equal(r.start.Add(63 * time.Second)) {
			t.Errorf("the next attempt would be after %v", e.NextRetryAt.Sub(r.start))
		}
	})
}

func TestAWorkerThatPanicsIsBroughtBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		n := 0
		r.server.pull = func(ctx context.Context, p wire.PullRequest) (wire.PullPage, error) {
			if n++; n < maxPanics {
				panic("boom")
			}
			return nothingNew(ctx, p)
		}
		r.send(messages.Pull{Run: 1, Link: testLink})
		if w := hear[messages.Waiting](r); mustBe[*panicked](t, w.Err).cause != "boom" {
			t.Errorf("waiting: %+v", w)
		}
		if d := hear[messages.PullDone](r); d.Err != nil {
			t.Errorf("done: %+v", d)
		}
	})
}

func TestAWorkerThatPanicsForEverFailsTheEngine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		n := 0
		r.server.pull = func(context.Context, wire.PullRequest) (wire.PullPage, error) { n++; panic("boom") }
		r.send(messages.Pull{Run: 1, Link: testLink})
		f := hear[messages.ChildFailed](r)
		if f.Cause != "boom" || len(f.Stack) == 0 {
			t.Errorf("failed: %+v", f)
		}
		if e := mustBe[*messages.EngineFailedError](t, hear[messages.PullDone](r).Err); e.Cause != "boom" || n != maxPanics {
			t.Errorf("%+v after %d panics", e, n)
		}
	})
}

// A request that was abandoned may end in any way, at any time later: nobody takes its end for that of another.
func TestAbandonedRequestsAreNotHeardOf(t *testing.T) {
	t.Parallel()
	ends := map[string]func() (wire.PullPage, error){
		"answers": func() (wire.PullPage, error) { return wire.PullPage{StableSeq: 99}, nil },
		"fails":   func() (wire.PullPage, error) { return wire.PullPage{}, errNoNetwork },
		"panics":  func() (wire.PullPage, error) { panic("late") },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, pullerProps)
				under, release := make(chan struct{}), make(chan struct{})
				var n atomic.Int32
				r.server.pull = func(ctx context.Context, p wire.PullRequest) (wire.PullPage, error) {
					if n.Add(1) > 1 {
						return nothingNew(ctx, p)
					}
					close(under)
					<-release // does not heed its context
					return end()
				}
				r.send(messages.Pull{Run: 1, Link: testLink})
				<-under
				r.send(messages.Cancel{Run: 1})
				hear[messages.PullDone](r)
				r.send(messages.Pull{Run: 2, Link: testLink})
				synctest.Wait() // the second request waits in the worker's mailbox
				close(release)
				if d := hear[messages.PullDone](r); d.Err != nil || d.Run != 2 || d.Verdict != messages.PullAtTarget {
					t.Errorf("done: %+v", d)
				}
				if n.Load() != 2 {
					t.Errorf("%d requests", n.Load())
				}
			})
		})
	}
}

func TestABusyDatabaseIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		r.server.pull = nothingNew
		n := 0
		r.db.load = func(context.Context) (local.State, error) {
			if n++; n < 4 {
				return local.State{}, &local.DatabaseError{Operation: "read", Transient: true}
			}
			return r.db.state, nil
		}
		r.send(messages.Pull{Run: 1, Link: testLink})
		if d := hear[messages.PullDone](r); d.Err != nil || n != 4 || r.elapsed() != 7*time.Second {
			t.Errorf("done: %+v after %v and %d reads", d, r.elapsed(), n)
		}
	})
}

func TestAPanicInATransactionIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		r.server.pull = nothingNew
		r.db.load = func(context.Context) (local.State, error) { panic("out of memory") }
		r.send(messages.Pull{Run: 1, Link: testLink})
		if e := mustBe[*panicked](t, hear[messages.PullDone](r).Err); e.cause != "out of memory" {
			t.Errorf("%v", e)
		}
		if reason := <-r.parent.failed; reason.(*panicked).cause != "out of memory" {
			t.Errorf("the supervisor hears of %v", reason)
		}
		r.db.load = nil // the database is the same after the restart
		r.send(messages.Pull{Run: 2, Link: testLink})
		if d := hear[messages.PullDone](r); d.Err != nil {
			t.Errorf("done: %+v", d)
		}
	})
}

// A machine that panics costs its run; its supervisor hears of it and a new machine takes the next run.
func TestAnOwnerThatPanicsStartsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pullerProps)
		r.server.pull = func(_ context.Context, p wire.PullRequest) (wire.PullPage, error) {
			return wire.PullPage{StableSeq: 6, Bundles: []wire.Bundle{{BundleMeta: wire.BundleMeta{Seq: 6, RowCount: -1}}}}, nil
		}
		r.db.state.Attachment.Checkpoint = 5
		r.send(evStartPull{}) // not a message of its: ignored
		r.send(messages.Pull{Run: 1, Link: testLink})
		// ApplyBundles is not defined, which panics in the writer; its answer is an error.
		if d := hear[messages.PullDone](r); d.Err == nil {
			t.Errorf("done: %+v", d)
		}
		<-r.parent.failed
		r.send(messages.WriterDone{Ref: 1}) // of an incarnation before
		r.send(explode{})
		r.server.pull = nothingNew
		r.send(messages.Pull{Run: 2, Link: testLink})
		if d := hear[messages.PullDone](r); d.Err != nil || d.Run != 2 {
			t.Errorf("done: %+v", d)
		}
	})
}

// explode is a message that an owner does not know.
type explode struct{}

func TestAMachineThatPanicsIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(cfg ownerConfig) *actor.Props {
			first := true
			return propsOf(cfg.log, &cfg.network.world, func() actor.Actor {
				o := newOwner(cfg, newPullMachine(cfg.limits, false, firstRef()))
				if first {
					first = false
					o.machine = faultyMachine{}
				}
				return o
			})
		})
		r.server.pull = nothingNew
		r.send(messages.Pull{Run: 1, Link: testLink})
		if p := (<-r.parent.failed).(*panicked); p.cause != "faulty" || len(p.stack) == 0 {
			t.Errorf("the supervisor hears of %v", p)
		}
		r.send(messages.Pull{Run: 2, Link: testLink})
		if d := hear[messages.PullDone](r); d.Err != nil || d.Run != 2 {
			t.Errorf("done: %+v", d)
		}
	})
}

type faultyMachine struct{}

func (faultyMachine) step(event) []effect { panic("faulty") }

func TestAWriterThatIsGoneEndsTheRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gone := actor.NewPID("nonhost", "nobody")
		r := newRig(t, func(cfg ownerConfig) *actor.Props {
			cfg.writer = gone
			return pullerProps(cfg)
		})
		r.send(messages.Snapshot{Run: 1, Link: testLink})
		if d := hear[messages.PullDone](r); !errors.Is(d.Err, messages.ErrClosed) {
			t.Errorf("done: %+v", d)
		}
	})
}

func TestAPushFromEndToEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, uploaderProps)
		r.db.freeze = func() (local.Frozen, error) {
			return local.Frozen{Outbox: local.Outbox{State: local.OutboxPrepared, SourceID: "src", SourceBundleID: 1, RowCount: 2}}, nil
		}
		r.server.createPush = func(context.Context, wire.CreatePushRequest) (wire.CreatePushResponse, error) {
			return wire.CreatePushResponse{PushID: "p"}, nil
		}
		var starts []int64
		r.server.pushChunk = func(_ context.Context, start int64, _ []wire.PushRow) error {
			starts = append(starts, start)
			return nil
		}
		r.server.commitPush = func(context.Context) (wire.BundleMeta, error) {
			return wire.BundleMeta{Seq: 6, SourceID: "src", SourceBundleID: 1, Hash: "h"}, nil
		}
		r.send(messages.Push{Run: 1, Link: testLink})
		if c := hear[messages.TablesChanged](r); c.Cause != messages.CausePushReplay {
			t.Errorf("changed: %+v", c)
		}
		if d := hear[messages.PushDone](r); d.Err != nil || d.Verdict != messages.PushCommitted || !d.Committed {
			t.Errorf("done: %+v", d)
		}
		if len(starts) != 2 || starts[1] != 1 {
			t.Errorf("chunks from %v", starts)
		}
	})
}

// Giving up a session is best effort: it delays neither the answer nor the next run, and a stop ends it.
func TestGivingUpASessionDelaysNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, uploaderProps)
		r.db.state.Outbox = local.Outbox{State: local.OutboxPrepared, SourceID: "src", SourceBundleID: 1, RowCount: 1}
		r.server.createPush = func(context.Context, wire.CreatePushRequest) (wire.CreatePushResponse, error) {
			return wire.CreatePushResponse{PushID: "p"}, nil
		}
		r.server.pushChunk = func(context.Context, int64, []wire.PushRow) error {
			return &wire.HTTPError{Operation: "upload push chunk", Status: 401}
		}
		given := make(chan string, 10)
		ended := make(chan struct{}, 10)
		var calls atomic.Int64
		r.server.deletePush = func(ctx context.Context, id string) error {
			second := calls.Add(1) == 2
			given <- id
			<-ctx.Done()
			ended <- struct{}{}
			if second {
				panic("late")
			}
			return ctx.Err()
		}
		for run := messages.RunID(1); run < 4; run++ {
			r.send(messages.Push{Run: run, Link: testLink})
			mustBe[*messages.AuthError](t, hear[messages.PushDone](r).Err)
			if r.elapsed() != 0 {
				t.Fatalf("run %d ended after %v", run, r.elapsed())
			}
			synctest.Wait()
			if run == 2 {
				<-ended
				<-ended
				if r.elapsed() != discardTimeout {
					t.Errorf("given up after %v", r.elapsed())
				}
				r.start = time.Now()
			}
		}
		if n, first := len(given), <-given; n != 3 || first != "p" {
			t.Errorf("%d given up, the first is %q", n, first)
		}
		r.stop()
		<-ended
		if r.elapsed() > time.Second {
			t.Errorf("stopping took %v", r.elapsed())
		}
	})
}
