package oversqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// everyCall makes every call of the API that can be out of order.
func everyCall(ctx context.Context, e *oversqlite.Engine) map[string]error {
	errs := map[string]error{}
	_, errs["Attach"] = e.Attach(ctx, "ann")
	_, errs["Detach"] = e.Detach(ctx)
	_, errs["SyncThenDetach"] = e.SyncThenDetach(ctx)
	errs["UninstallSync"] = e.UninstallSync(ctx)
	_, errs["Sync"] = e.Sync(ctx)
	_, errs["PushPending"] = e.PushPending(ctx)
	_, errs["PullToStable"] = e.PullToStable(ctx)
	_, errs["Rebuild"] = e.Rebuild(ctx)
	_, errs["SourceInfo"] = e.SourceInfo(ctx)
	_, errs["SyncStatus"] = e.SyncStatus(ctx)
	_, errs["PendingSyncStatus"] = e.PendingSyncStatus(ctx)
	errs["Resume"] = e.Resume()
	errs["Write"] = e.Write(ctx, func(*sql.Tx) error { return nil })
	return errs
}

func TestCallsOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.device("ann")
	for name, err := range everyCall(t.Context(), d.Engine) {
		var required *oversqlite.OpenRequiredError
		if !errors.As(err, &required) || required.Operation != name {
			t.Errorf("%s before Open: %v", name, err)
		}
	}
	if s := d.Status(); s.Phase != oversqlite.PhaseClosed {
		t.Errorf("%+v", s)
	}
	if _, err := d.DB().Exec(`SELECT 1`); !errors.As(err, new(*oversqlite.OpenRequiredError)) {
		t.Errorf("DB before Open: %v", err)
	}
	d.open()
	ctx := t.Context()
	errs := map[string]error{}
	_, errs["Detach"] = d.Detach(ctx)
	_, errs["SyncThenDetach"] = d.SyncThenDetach(ctx)
	_, errs["Sync"] = d.Sync(ctx)
	_, errs["PushPending"] = d.PushPending(ctx)
	_, errs["PullToStable"] = d.PullToStable(ctx)
	_, errs["Rebuild"] = d.Rebuild(ctx)
	_, errs["SyncStatus"] = d.SyncStatus(ctx)
	for name, err := range errs {
		var required *oversqlite.AttachRequiredError
		if !errors.As(err, &required) || required.Operation != name {
			t.Errorf("%s before Attach: %v", name, err)
		}
	}
	if _, err := d.PendingSyncStatus(ctx); err != nil {
		t.Error(err)
	}
	if info, err := d.SourceInfo(ctx); err != nil || info.CurrentSourceID == "" {
		t.Errorf("%+v %v", info, err)
	}
	if err := d.Open(ctx); err != nil {
		t.Errorf("a second Open: %v", err)
	}
}

func TestCallsAfterClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	sub := d.Subscribe()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	errs := everyCall(t.Context(), d.Engine)
	errs["Open"] = d.Open(t.Context())
	errs["Restart"] = d.Restart(t.Context())
	for name, err := range errs {
		if !errors.Is(err, oversqlite.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	d.Kick()
	d.PauseUploads()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if s := d.Status(); s.Phase != oversqlite.PhaseClosed {
		t.Errorf("%+v", s)
	}
	for range sub.C() { // ends, because Close closed it
	}
	if _, open := <-d.Subscribe().C(); open {
		t.Error("a subscription of a closed engine delivers")
	}
	if _, err := d.DB().Exec(`SELECT 1`); err == nil {
		t.Error("DB works after Close")
	}
}

func TestCloseOfAnEngineThatWasNeverOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.device("ann")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Open(t.Context()); !errors.Is(err, oversqlite.ErrClosed) {
		t.Fatal(err)
	}
}

// K15: a status call does not wait for a sync's network time, and Close ends it.
func TestK15_StatusAndCloseDuringASync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	d.note("one")
	entered := make(chan struct{})
	var once sync.Once
	d.wire.set(func(r *http.Request) {
		once.Do(func() { close(entered) })
		<-r.Context().Done()
	}, nil)
	syncing := make(chan error, 1)
	go func() { _, err := d.Sync(context.Background()); syncing <- err }()
	queued := make(chan error, 1)
	<-entered
	go func() { _, err := d.PullToStable(context.Background()); queued <- err }()
	if s, err := d.SyncStatus(t.Context()); err != nil || s.Pending.PendingRowCount == 0 {
		t.Fatalf("%+v %v", s, err)
	}
	if s := d.Status(); s.Phase == oversqlite.PhaseIdle || s.Phase == oversqlite.PhaseClosed {
		t.Fatalf("%+v", s)
	}
	d.note("written meanwhile")
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(func() { _ = d.Close() })
	}
	if err := <-syncing; !errors.Is(err, oversqlite.ErrClosed) {
		t.Fatal(err)
	}
	if err := <-queued; !errors.Is(err, oversqlite.ErrClosed) {
		t.Fatal(err)
	}
	closing.Wait()
	// The file is free, and nothing is lost.
	e := w.deviceAt("ann", d.path).open()
	if s, err := e.PendingSyncStatus(t.Context()); err != nil || s.PendingRowCount < 2 {
		t.Fatalf("%+v %v", s, err)
	}
}

func TestDetach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	d.note("one")
	before, _ := d.SourceInfo(t.Context())
	if r, err := d.Detach(t.Context()); err != nil || r.Outcome != oversqlite.BlockedUnsyncedData || r.PendingRowCount != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	r, err := d.SyncThenDetach(t.Context())
	if err != nil || !r.IsSuccess() || r.SyncRounds != 1 || r.RemainingPendingRowCount != 0 || r.LastSync.Push != oversqlite.Committed {
		t.Fatalf("%+v %v", r, err)
	}
	if got := d.dump(); got != "" {
		t.Fatalf("rows are left: %s", got)
	}
	after, _ := d.SourceInfo(t.Context())
	if after.CurrentSourceID == before.CurrentSourceID {
		t.Fatal("the source was not rotated")
	}
	// Another user takes the database over.
	d.note("of nobody yet")
	if r, err := d.Attach(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	} else if c := r.(oversqlite.Connected); c.Outcome != oversqlite.UsedRemoteState || c.Restore.RowCount != 1 || c.Restore.DroppedLocalRows != 1 {
		t.Fatalf("%+v", c.Restore)
	}
}

func TestSyncThenDetachThatStaysBlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	d.note("one")
	d.PauseUploads()
	r, err := d.SyncThenDetach(t.Context())
	if err != nil || r.IsSuccess() || r.Detach.Outcome != oversqlite.BlockedUnsyncedData || r.RemainingPendingRowCount != 1 || r.SyncRounds != 2 || r.LastSync.Push != oversqlite.SkippedPaused {
		t.Fatalf("%+v %v", r, err)
	}
	d.ResumeUploads()
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCreate, Status: 400, Code: "invalid_request"})
	r, err = d.SyncThenDetach(t.Context())
	if !errors.As(err, new(*oversqlite.PushRejectedError)) || r.IsSuccess() || r.RemainingPendingRowCount == 0 {
		t.Fatalf("%+v %v", r, err)
	}
}

func TestUninstallAndOpenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	id := d.note("stays")
	d.sync()
	if err := d.UninstallSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Sync(t.Context()); !errors.As(err, new(*oversqlite.OpenRequiredError)) {
		t.Fatal(err)
	}
	var left int
	if err := d.DB().QueryRow(`SELECT COUNT(*) FROM sqlite_schema WHERE name LIKE '\_sync\_%' ESCAPE '\'`).Scan(&left); err != nil || left != 0 {
		t.Fatalf("%d objects left: %v", left, err)
	}
	d.open()
	if d.title(id) != "stays" {
		t.Fatal("the row is gone")
	}
	if s, err := d.PendingSyncStatus(t.Context()); err != nil || s.PendingRowCount != 1 {
		t.Fatalf("a fresh start captures what is there: %+v %v", s, err)
	}
}

func TestOneEngineADatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.device("ann").open()
	b := w.deviceAt("ann", a.path)
	var owned *oversqlite.DatabaseOwnedError
	if err := b.Open(t.Context()); !errors.As(err, &owned) || !owned.ThisProcess || !owned.Retryable() {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b.open()
}

func TestFilesThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	garbage := filepath.Join(t.TempDir(), "garbage.db")
	if err := os.WriteFile(garbage, []byte("this is no database, and long enough to be taken for one by nobody at all, not even on a bad day......"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{garbage, filepath.Join(t.TempDir(), "missing", "x.db"), t.TempDir()} {
		d := w.deviceAt("ann", path)
		if err := d.Open(t.Context()); !errors.As(err, new(*oversqlite.DatabaseError)) {
			t.Errorf("%s: %v", path, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	// A database without the tables.
	d := w.deviceAt("ann", filepath.Join(t.TempDir(), "new.db"))
	if err := d.Open(t.Context()); !errors.As(err, new(*oversqlite.ConfigError)) {
		t.Error(err)
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	err := d.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'in a transaction')`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mine := errors.New("changed my mind")
	err = d.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec(`UPDATE notes SET title = 'x'`); err != nil {
			return err
		}
		return mine
	})
	if !errors.Is(err, mine) || d.title("n1") != "in a transaction" {
		t.Fatal(err)
	}
	if r := d.sync(); r.Push != oversqlite.Committed {
		t.Fatalf("%+v", r)
	}
}
