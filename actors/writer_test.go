package actors

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// writerRig asks a writer and waits for its answers.
type writerRig struct {
	system  *actor.ActorSystem
	asker   *actor.PID
	writer  *actor.PID
	answers chan messages.WriterDone
	failed  chan any
	told    chan messages.TablesChanged
}

func newWriterRig(t *testing.T, open func(context.Context) (database, error)) *writerRig {
	t.Helper()
	r := &writerRig{system: newSystem(), answers: make(chan messages.WriterDone, 10), failed: make(chan any, 10), told: make(chan messages.TablesChanged, 10)}
	ready := make(chan *actor.PID, 1)
	r.asker = r.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor {
		return &asker{rig: r, ready: ready, props: writerProps(zap.NewNop(), new(World), open)}
	}))
	r.writer = <-ready
	t.Cleanup(func() {
		if err := r.system.Root.StopFuture(r.asker).Wait(); err != nil {
			t.Error(err)
		}
		r.system.Shutdown()
		time.Sleep(2 * time.Second) // see newRig
	})
	return r
}

type asker struct {
	rig   *writerRig
	ready chan *actor.PID
	props *actor.Props
}

func (a *asker) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		a.ready <- c.Spawn(a.props)
	case messages.Do:
		c.Request(a.rig.writer, m)
	case messages.TablesChanged:
		a.rig.told <- m
	case messages.WriterDone:
		a.rig.answers <- m
	}
}

func (a *asker) HandleFailure(_ *actor.ActorSystem, s actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	a.rig.failed <- reason
	s.RestartChildren(child)
}

func (r *writerRig) do(c messages.Command) messages.WriterDone {
	return r.doWithin(context.Background(), c)
}

func (r *writerRig) doWithin(ctx context.Context, c messages.Command) messages.WriterDone {
	r.system.Root.Send(r.asker, messages.Do{Ref: 7, Command: c, Cancel: ctx})
	return <-r.answers
}

func TestTheWriterOwnsTheDatabase(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var opened []*recordingDB
		broken := errors.New("cannot be opened")
		r := newWriterRig(t, func(context.Context) (database, error) {
			if opened == nil {
				opened = []*recordingDB{}
				return nil, broken
			}
			opened = append(opened, &recordingDB{})
			return opened[len(opened)-1], nil
		})
		mustBe[*messages.OpenRequiredError](t, r.do(messages.LoadState{}).Err)
		if d := r.do(messages.OpenDatabase{}); !errors.Is(d.Err, broken) || d.Result != nil {
			t.Errorf("opening what cannot be opened: %+v", d)
		}
		first := r.do(messages.OpenDatabase{})
		if first.Err != nil || first.Ref != 7 || first.Result != database(opened[0]) {
			t.Errorf("opened: %+v", first)
		}
		if again := r.do(messages.OpenDatabase{}); again.Result != first.Result || len(opened) != 1 {
			t.Errorf("opened again: %+v", again)
		}
		if d := r.do(messages.LoadState{}); d.Err != nil || d.Result == nil {
			t.Errorf("%+v", d)
		}
		if d := r.do(messages.CloseDatabase{}); d.Err != nil || opened[0].closed != 1 {
			t.Errorf("closed: %+v", d)
		}
		if d := r.do(messages.CloseDatabase{}); d.Err != nil || opened[0].closed != 1 {
			t.Errorf("closed again: %+v", d)
		}
		if d := r.do(messages.OpenDatabase{}); d.Err != nil || len(opened) != 2 {
			t.Errorf("opened anew: %+v", d)
		}
		r.system.Root.Stop(r.writer)
		synctest.Wait()
		if opened[1].closed != 1 {
			t.Error("a writer that stops does not close its database")
		}
	})
}

// writtenDB has a state that tells of writes.
type writtenDB struct {
	recordingDB
	written local.TableSet
}

func (d *writtenDB) State(context.Context) (local.State, error) {
	return local.State{Written: d.written}, nil
}

func TestTheWriterTellsWhatWasWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := &writtenDB{}
		r := newWriterRig(t, func(context.Context) (database, error) { return db, nil })
		r.do(messages.OpenDatabase{})
		r.do(messages.LoadState{})
		if len(r.told) != 0 {
			t.Errorf("told of nothing: %+v", <-r.told)
		}
		db.written = local.TableSet{"notes", "users"}
		r.do(messages.LoadState{})
		select {
		case got := <-r.told:
			if want := (messages.TablesChanged{Cause: messages.CauseLocal, Tables: db.written}); !reflect.DeepEqual(got, want) {
				t.Errorf("%+v", got)
			}
		default:
			t.Error("not told before the answer")
		}
	})
}

func TestAPanicIsAnsweredAndCostsNoDatabase(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := &recordingDB{}
		opened := 0
		r := newWriterRig(t, func(context.Context) (database, error) { opened++; return db, nil })
		r.do(messages.OpenDatabase{})
		db.panics = "out of memory"
		d := r.do(messages.LoadState{})
		if p := mustBe[*panicked](t, d.Err); p.cause != "out of memory" || len(p.stack) == 0 || d.Result != nil {
			t.Errorf("%+v", d)
		}
		if p := (<-r.failed).(*panicked); p.cause != "out of memory" {
			t.Errorf("the supervisor hears of %v", p)
		}
		db.panics = nil
		if d := r.do(messages.LoadState{}); d.Err != nil || opened != 1 || db.closed != 0 {
			t.Errorf("%+v, opened %d, closed %d", d, opened, db.closed)
		}
	})
}

func TestACancelledCommandIsNotExecuted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := &recordingDB{}
		r := newWriterRig(t, func(context.Context) (database, error) { return db, nil })
		r.do(messages.OpenDatabase{})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if d := r.doWithin(ctx, messages.RequeueOutbox{}); !errors.Is(d.Err, context.Canceled) || len(db.called) != 0 {
			t.Errorf("%+v after %v", d, db.called)
		}
		// Without a context a command is carried out whatever happens.
		r.system.Root.Send(r.asker, messages.Do{Command: messages.RequeueOutbox{}})
		if d := <-r.answers; d.Err != nil || len(db.called) != 1 {
			t.Errorf("%+v after %v", d, db.called)
		}
	})
}

// What was applied before a bundle that cannot be is answered together with the error.
func TestProgressIsAnsweredWithItsError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broken := &wire.ProtocolError{Operation: "pull", Reason: "garbage"}
		db := &brokenDB{applied: local.Applied{Bundles: 2, Checkpoint: 7}, err: broken}
		r := newWriterRig(t, func(context.Context) (database, error) { return db, nil })
		r.do(messages.OpenDatabase{})
		for _, c := range []messages.Command{messages.ApplyBundles{Contract: wire.ClassicContract}, messages.ApplyStaged{Contract: wire.ClassicContract}} {
			if d := r.do(c); d.Err != error(broken) || d.Result.(local.Applied).Checkpoint != 7 {
				t.Errorf("%T: %+v", c, d)
			}
		}
		if d := r.do(messages.LoadState{}); d.Err != error(broken) || d.Result != nil {
			t.Errorf("%+v", d)
		}
	})
}

// brokenDB applies a part and fails.
type brokenDB struct {
	recordingDB
	applied local.Applied
	err     error
}

func (d *brokenDB) State(context.Context) (local.State, error) { return local.State{}, d.err }
func (d *brokenDB) ApplyBundles(context.Context, wire.Contract, []wire.Bundle, ...local.Displacement) (local.Applied, error) {
	return d.applied, d.err
}
func (d *brokenDB) ApplyStaged(context.Context, wire.Contract, wire.BundleMeta, ...local.Displacement) (local.Applied, error) {
	return d.applied, d.err
}

func TestABlockBeginsWhenItIsWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := &recordingDB{}
		r := newWriterRig(t, func(context.Context) (database, error) { return db, nil })
		r.do(messages.OpenDatabase{})
		now, before := time.Now(), time.Unix(1, 0)
		blocked := &local.Blocked{Code: "x"}
		r.do(messages.SetUploadBlocked{Blocked: blocked})
		if !db.blocked.Since.Equal(now) || !blocked.Since.IsZero() {
			t.Errorf("since %v; the message says %v now", db.blocked.Since, blocked.Since)
		}
		r.do(messages.SetUploadBlocked{Blocked: &local.Blocked{Code: "x", Since: before}})
		if !db.blocked.Since.Equal(before) {
			t.Errorf("since %v", db.blocked.Since)
		}
		r.do(messages.SetUploadBlocked{})
		if db.blocked != nil {
			t.Errorf("blocked: %v", db.blocked)
		}
	})
}

// commands has one of each command that is a transaction, with the method that executes it where that has another name.
var commands = map[messages.Command]string{
	messages.LoadState{}: "State", messages.AttachSeeding{}: "", messages.AttachEmpty{}: "", messages.BeginRemoteReplace{}: "",
	messages.AttachKeepingIntents{}: "", messages.PinContract{}: "", messages.ResetScope{}: "", messages.DropLease{}: "", messages.LoseLease{}: "",
	messages.RequireReattach{}: "", messages.CancelReplace{}: "", messages.Detach{}: "", messages.Uninstall{}: "", messages.SetRebuildGate{}: "",
	messages.SetSourceRecovery{}: "", messages.ReserveAnother{}: "", messages.RotateSource{}: "", messages.SetUploadBlocked{}: "", messages.Settle{}: "", &messages.Resolve{}: "",
	&messages.Freeze{}: "", messages.OutboxRows{}: "", messages.MarkCommitted{}: "", &messages.TakeConflict{}: "",
	messages.RequeueOutbox{}: "", messages.DoubtCommit{Gate: "gate"}: "", messages.ReplayFrozen{Contract: wire.ClassicContract}: "", &messages.Replay{Contract: wire.ClassicContract}: "",
	&messages.StageBundlePage{}: "", messages.ReplayStaged{Contract: wire.ClassicContract}: "", &messages.ApplyBundles{Contract: wire.ClassicContract}: "",
	messages.ApplyStaged{Contract: wire.ClassicContract}: "", messages.BeginStage{}: "", &messages.StageSnapshotPage{}: "",
	messages.IsolateOutbox{}: "", messages.SetAsideUnfit{}: "", messages.LoadQuarantine{}: "Quarantined",
	&messages.RetryQuarantined{}: "", &messages.DiscardQuarantined{}: "",
	messages.CompleteStage{}: "", messages.ApplySnapshot{Contract: wire.ClassicContract}: "",
}

// TestEveryCommandIsExecutedByItsMethod reads the list of commands from the source of messages, so that one that is
// added there and forgotten in execute is found.
func TestEveryCommandIsExecutedByItsMethod(t *testing.T) {
	t.Parallel()
	declared := map[string]bool{"OpenDatabase": true, "CloseDatabase": true}
	file, err := parser.ParseFile(token.NewFileSet(), "../messages/writer.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	forgotten := map[string]bool{}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "command" {
			if name := f.Recv.List[0].Type.(*ast.Ident).Name; !declared[name] {
				forgotten[name] = true
			}
		}
	}
	for c, method := range commands {
		value := reflect.Indirect(reflect.ValueOf(c))
		name := value.Type().Name()
		delete(forgotten, name)
		if method == "" {
			method = name
		}
		db := &recordingDB{}
		if _, err := execute(context.Background(), db, value.Interface().(messages.Command)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(db.called) != 1 || db.called[0] != method {
			t.Errorf("%s calls %v", name, db.called)
		}
	}
	if len(forgotten) > 0 {
		t.Errorf("not executed: %v", forgotten)
	}
}

func TestUnknownCommandsAndContractsAreRefused(t *testing.T) {
	t.Parallel()
	var unknown struct{ messages.Command }
	if _, err := execute(context.Background(), &recordingDB{}, unknown); err == nil {
		t.Error("an unknown command is executed")
	}
	if _, err := execute(context.Background(), &recordingDB{}, messages.ReplayStaged{Contract: "none"}); err == nil {
		t.Error("a bundle is read in an unknown contract")
	}
}

// recordingDB notes which of its methods is called.
type recordingDB struct {
	mu      sync.Mutex
	called  []string
	blocked *local.Blocked
	panics  any
	closed  int
}

func (d *recordingDB) note(method string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.panics != nil {
		panic(d.panics)
	}
	d.called = append(d.called, method)
	return nil
}

func (d *recordingDB) State(context.Context) (local.State, error) {
	return local.State{}, d.note("State")
}
func (d *recordingDB) AttachSeeding(context.Context, string, string, wire.ContractName) error {
	return d.note("AttachSeeding")
}
func (d *recordingDB) AttachEmpty(context.Context, string, wire.ContractName) error {
	return d.note("AttachEmpty")
}
func (d *recordingDB) BeginRemoteReplace(context.Context, string, wire.ContractName) error {
	return d.note("BeginRemoteReplace")
}
func (d *recordingDB) AttachKeepingIntents(context.Context, string, wire.ContractName) error {
	return d.note("AttachKeepingIntents")
}
func (d *recordingDB) PinContract(context.Context, wire.ContractName) error {
	return d.note("PinContract")
}
func (d *recordingDB) ResetScope(context.Context, string) error { return d.note("ResetScope") }
func (d *recordingDB) DropLease(context.Context) error          { return d.note("DropLease") }
func (d *recordingDB) LoseLease(context.Context) error          { return d.note("LoseLease") }
func (d *recordingDB) RequireReattach(context.Context) error    { return d.note("RequireReattach") }
func (d *recordingDB) CancelReplace(context.Context) error      { return d.note("CancelReplace") }
func (d *recordingDB) Detach(context.Context) (local.Detached, error) {
	return local.Detached{}, d.note("Detach")
}
func (d *recordingDB) Uninstall(context.Context) error              { return d.note("Uninstall") }
func (d *recordingDB) SetRebuildGate(context.Context, string) error { return d.note("SetRebuildGate") }
func (d *recordingDB) SetSourceRecovery(context.Context, string, string) error {
	return d.note("SetSourceRecovery")
}
func (d *recordingDB) ReserveAnother(context.Context) (string, error) {
	return "", d.note("ReserveAnother")
}
func (d *recordingDB) RotateSource(context.Context, wire.ContractName) (local.Rotation, error) {
	return local.Rotation{}, d.note("RotateSource")
}
func (d *recordingDB) SetUploadBlocked(_ context.Context, b *local.Blocked) error {
	d.blocked = b
	return d.note("SetUploadBlocked")
}
func (d *recordingDB) Settle(context.Context, int) (local.Settled, error) {
	return local.Settled{}, d.note("Settle")
}
func (d *recordingDB) Resolve(context.Context, []local.Resolution) (local.ResolutionsApplied, error) {
	return local.ResolutionsApplied{}, d.note("Resolve")
}
func (d *recordingDB) Freeze(context.Context, local.FreezeRequest) (local.Frozen, error) {
	return local.Frozen{}, d.note("Freeze")
}
func (d *recordingDB) OutboxRows(context.Context, int64, int64, int64) ([]wire.PushRow, error) {
	return nil, d.note("OutboxRows")
}
func (d *recordingDB) MarkCommitted(context.Context, wire.BundleMeta, bool) (bool, error) {
	return false, d.note("MarkCommitted")
}
func (d *recordingDB) TakeConflict(context.Context, wire.Conflict) (local.ConflictTaken, error) {
	return local.ConflictTaken{}, d.note("TakeConflict")
}
func (d *recordingDB) RequeueOutbox(context.Context) error { return d.note("RequeueOutbox") }
func (d *recordingDB) DoubtCommit(_ context.Context, gate string) error {
	if gate != "gate" {
		return errors.New("the gate is " + gate)
	}
	return d.note("DoubtCommit")
}
func (d *recordingDB) IsolateOutbox(context.Context, local.Reason) ([]local.SetAside, error) {
	return nil, d.note("IsolateOutbox")
}
func (d *recordingDB) SetAsideUnfit(context.Context, wire.ContractName) ([]local.SetAside, error) {
	return nil, d.note("SetAsideUnfit")
}
func (d *recordingDB) Quarantined(context.Context) ([]local.SetAside, error) {
	return nil, d.note("Quarantined")
}
func (d *recordingDB) RetryQuarantined(context.Context, []int64, bool) error {
	return d.note("RetryQuarantined")
}
func (d *recordingDB) DiscardQuarantined(context.Context, []int64) (local.Discarded, error) {
	return local.Discarded{}, d.note("DiscardQuarantined")
}
func (d *recordingDB) ReplayFrozen(context.Context, wire.Contract, wire.BundleMeta) (bool, local.Replayed, error) {
	return true, local.Replayed{}, d.note("ReplayFrozen")
}
func (d *recordingDB) Replay(context.Context, wire.Contract, wire.Bundle, bool) (local.Replayed, error) {
	return local.Replayed{}, d.note("Replay")
}
func (d *recordingDB) StageBundlePage(context.Context, wire.BundleMeta, int64, []wire.Row) error {
	return d.note("StageBundlePage")
}
func (d *recordingDB) ReplayStaged(context.Context, wire.Contract, wire.BundleMeta, bool) (local.Replayed, error) {
	return local.Replayed{}, d.note("ReplayStaged")
}
func (d *recordingDB) ApplyBundles(context.Context, wire.Contract, []wire.Bundle, ...local.Displacement) (local.Applied, error) {
	return local.Applied{}, d.note("ApplyBundles")
}
func (d *recordingDB) ApplyStaged(context.Context, wire.Contract, wire.BundleMeta, ...local.Displacement) (local.Applied, error) {
	return local.Applied{}, d.note("ApplyStaged")
}
func (d *recordingDB) BeginStage(context.Context, wire.SnapshotSession) error {
	return d.note("BeginStage")
}
func (d *recordingDB) StageSnapshotPage(context.Context, wire.SnapshotSession, int64, []wire.Row) error {
	return d.note("StageSnapshotPage")
}
func (d *recordingDB) CompleteStage(context.Context, wire.SnapshotSession) error {
	return d.note("CompleteStage")
}
func (d *recordingDB) ApplySnapshot(context.Context, wire.Contract, wire.SnapshotSession, ...local.Displacement) (local.Restored, error) {
	return local.Restored{}, d.note("ApplySnapshot")
}
func (d *recordingDB) Close() error { d.closed++; return nil }
