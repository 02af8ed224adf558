package actors

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// fakeServer is a server of which a test defines what it needs.
type fakeServer struct {
	endpoints
	pull           func(context.Context, wire.PullRequest) (wire.PullPage, error)
	createPush     func(context.Context, wire.CreatePushRequest) (wire.CreatePushResponse, error)
	pushChunk      func(context.Context, int64, []wire.PushRow) error
	commitPush     func(context.Context) (wire.BundleMeta, error)
	deletePush     func(context.Context, string) error
	createSnapshot func(context.Context) (wire.SnapshotSession, error)
	watch          func(ctx context.Context, source string, after int64) (*transport.Stream, error)
}

func (s *fakeServer) Watch(ctx context.Context, source string, after int64) (*transport.Stream, error) {
	return s.watch(ctx, source, after)
}

func (s *fakeServer) CreateSnapshot(ctx context.Context, _ wire.Contract, _ string, _ *wire.SourceReplacement) (wire.SnapshotSession, error) {
	return s.createSnapshot(ctx)
}

func (s *fakeServer) Pull(ctx context.Context, _ wire.Contract, _ string, r wire.PullRequest) (wire.PullPage, error) {
	return s.pull(ctx, r)
}

func (s *fakeServer) CreatePush(ctx context.Context, _ wire.Contract, _ string, r wire.CreatePushRequest) (wire.CreatePushResponse, error) {
	return s.createPush(ctx, r)
}

func (s *fakeServer) PushChunk(ctx context.Context, _ wire.Contract, _, _ string, start int64, rows []wire.PushRow) error {
	return s.pushChunk(ctx, start, rows)
}

func (s *fakeServer) CommitPush(ctx context.Context, _ wire.Contract, _, _ string, _ wire.CreatePushRequest) (wire.BundleMeta, error) {
	return s.commitPush(ctx)
}

func (s *fakeServer) DeletePush(ctx context.Context, _, pushID string) error {
	return s.deletePush(ctx, pushID)
}

// fakeDB is a database of which a test defines what it needs.
type fakeDB struct {
	database
	state        local.State
	load         func(context.Context) (local.State, error)
	settle       func() local.Settled
	freeze       func() (local.Frozen, error)
	freezeWithin func(context.Context) error // before freeze
	opened       int
	closed       int
}

func (d *fakeDB) State(ctx context.Context) (local.State, error) {
	if d.load != nil {
		return d.load(ctx)
	}
	return d.state, nil
}

func (d *fakeDB) Settle(context.Context, int) (local.Settled, error) {
	if d.settle != nil {
		return d.settle(), nil
	}
	return local.Settled{}, nil
}

func (d *fakeDB) Freeze(ctx context.Context, _ local.FreezeRequest) (local.Frozen, error) {
	if d.freezeWithin != nil {
		if err := d.freezeWithin(ctx); err != nil {
			return local.Frozen{}, err
		}
	}
	return d.freeze()
}
func (d *fakeDB) SetRebuildGate(context.Context, string) error { return nil }
func (d *fakeDB) Detach(context.Context) (local.Detached, error) {
	d.state.Attachment.Binding, d.state.Attachment.UserID = local.Anonymous, ""
	return local.Detached{}, nil
}
func (d *fakeDB) OutboxRows(context.Context, int64, int64, int64) ([]wire.PushRow, error) {
	return make([]wire.PushRow, 1), nil
}
func (d *fakeDB) MarkCommitted(context.Context, wire.BundleMeta, bool) (bool, error) {
	return false, nil
}
func (d *fakeDB) ReplayFrozen(context.Context, wire.Contract, wire.BundleMeta) (bool, local.Replayed, error) {
	return true, local.Replayed{Tables: local.TableSet{"posts"}}, nil
}
func (d *fakeDB) Close() error { d.closed++; return nil }

// attached is the state of a database with nothing to push.
func attached(checkpoint int64) local.State {
	s := local.State{Attachment: local.Attachment{CurrentSourceID: "src", Binding: local.Attached, Checkpoint: checkpoint}}
	s.Operation.Kind, s.Outbox.State = local.NoOperation, local.OutboxNone
	return s
}

var noLog = zap.NewNop()

// testRetry has no jitter of its own, so that tests can say when what happens.
var testRetry = RetryConfig{Initial: time.Second, Max: time.Minute, Multiplier: 2}

var testLink = messages.Link{Contract: wire.ClassicContract, SourceID: "src"}

// parent stands in for a session: it spawns the writer and one owner, restarts what fails, and hands on what it is
// told.
type parent struct {
	spawn  func(actor.Context) *actor.PID
	heard  chan messages.Session
	ready  chan *actor.PID
	failed chan any
}

func (p *parent) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		p.ready <- p.spawn(c)
	case messages.Session:
		p.heard <- m
	}
}

func (p *parent) HandleFailure(_ *actor.ActorSystem, s actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	p.failed <- reason
	s.RestartChildren(child)
}

// rig is an owner with its writer, a fake database and a fake server.
type rig struct {
	t      *testing.T
	system *actor.ActorSystem
	root   *actor.PID
	owner  *actor.PID
	parent *parent
	db     *fakeDB
	server *fakeServer
	start  time.Time
}

func newSystem() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithLoggerFactory(systemLogger(zap.NewNop())))
}

// newRig is to be called inside a bubble.
func newRig(t *testing.T, props func(ownerConfig) *actor.Props) *rig {
	t.Helper()
	r := &rig{t: t, system: newSystem(), db: &fakeDB{state: attached(5)}, server: &fakeServer{}, start: time.Now()}
	cfg := ownerConfig{
		log: zap.NewNop(), retry: testRetry,
		network: &network{client: r.server, log: zap.NewNop(), resolveTimeout: time.Second},
	}
	cfg.retry.MaxElapsed = time.Minute
	r.parent = &parent{
		heard: make(chan messages.Session, 1000), ready: make(chan *actor.PID, 1), failed: make(chan any, 100),
		spawn: func(c actor.Context) *actor.PID {
			cfg.writer = c.Spawn(writerProps(cfg.log, &cfg.network.world, func(context.Context) (database, error) { r.db.opened++; return r.db, nil }))
			c.Request(cfg.writer, messages.Do{Command: messages.OpenDatabase{}})
			return c.Spawn(props(cfg))
		},
	}
	r.root = r.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return r.parent }))
	r.owner = <-r.parent.ready
	t.Cleanup(func() {
		r.stop()
		// An answer to somebody who is gone makes the actor system throttle its log for a second.
		time.Sleep(2 * time.Second)
	})
	return r
}

// stop ends everything. Nothing may be left, or the bubble does not end.
func (r *rig) stop() {
	if r.root != nil {
		if err := r.system.Root.StopFuture(r.root).Wait(); err != nil {
			r.t.Errorf("the actors do not stop: %v", err)
		}
		r.root = nil
		// A test may end before the writer has come to open it.
		if r.db.closed != r.db.opened || r.db.opened > 1 {
			r.t.Errorf("the database was opened %d times and closed %d times", r.db.opened, r.db.closed)
		}
		r.system.Shutdown()
	}
}

func (r *rig) send(m any) { r.system.Root.Send(r.owner, m) }

// hear returns the next message of a type; those of other types are passed over.
func hear[M messages.Session](r *rig) M {
	r.t.Helper()
	for {
		select {
		case m := <-r.parent.heard:
			if m, ok := m.(M); ok {
				return m
			}
		case <-time.After(48 * time.Hour): // virtual
			var none M
			r.t.Fatalf("no %T", none)
		}
	}
}

// elapsed is virtual time since the rig was made.
func (r *rig) elapsed() time.Duration { return time.Since(r.start) }

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

var errNoNetwork = &wire.HTTPError{Operation: "pull", Status: 503}

func nothingNew(context.Context, wire.PullRequest) (wire.PullPage, error) {
	return wire.PullPage{StableSeq: 5}, nil
}

// untilCanceled is a server that never answers.
func untilCanceled(ctx context.Context, _ wire.PullRequest) (wire.PullPage, error) {
	<-ctx.Done()
	return wire.PullPage{}, ctx.Err()
}

func mustBe[E error](t *testing.T, err error) E {
	t.Helper()
	var want E
	if !errors.As(err, &want) {
		t.Fatalf("got %v (%T), want a %T", err, err, want)
	}
	return want
}
