package oversqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
)

// A context that has ended before the call ends the call, and starts nothing.
func TestCallsWithAContextThatHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	requests := d.wire.requests.Load()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs := everyCall(ctx, d.Engine)
	delete(errs, "Resume") // has no context
	errs["Open"], errs["Restart"] = d.Open(ctx), d.Restart(ctx)
	for name, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := d.wire.requests.Load() - requests; n != 0 {
		t.Errorf("%d requests", n)
	}
	d.sync()
}

// Many goroutines open, attach, sync and detach the same engine, and one closes it.
func TestEverybodyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.device("ann")
	ctx := t.Context()
	var all sync.WaitGroup
	failures := make(chan error, 1000)
	calls := []func() error{
		func() error { return d.Open(ctx) },
		func() error { _, err := d.Attach(ctx, "ann"); return err },
		func() error { _, err := d.Sync(ctx); return err },
		func() error { _, err := d.PullToStable(ctx); return err },
		func() error { _, err := d.SyncThenDetach(ctx); return err },
		func() error { _, err := d.Detach(ctx); return err },
		func() error { return d.Restart(ctx) },
		func() error { d.Kick(); return nil },
		func() error {
			return d.Write(ctx, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO notes (id, title) VALUES (lower(hex(randomblob(16))), 't')`)
				return err
			})
		},
	}
	start := func(n int) {
		for range n {
			for i, call := range calls {
				all.Go(func() {
					err := call()
					var (
						open    *oversqlite.OpenRequiredError
						attach  *oversqlite.AttachRequiredError
						unready = errors.As(err, &open) || errors.As(err, &attach) || errors.Is(err, oversqlite.ErrClosed)
					)
					if err != nil && !unready {
						failures <- fmt.Errorf("call %d: %w", i, err)
					}
				})
			}
		}
	}
	start(8)
	all.Wait()
	start(8)
	all.Go(func() { _ = d.Close() })
	all.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	// Whatever had been committed here is here or on the server.
	d.start()
	d.open().attach()
	d.sync()
	if s, err := d.PendingSyncStatus(ctx); err != nil || s.HasPendingSyncData {
		t.Errorf("%+v %v", s, err)
	}
}

// Close waits for a Write under way; those that come later are told.
func TestWriteDuringClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	inside, goOn := make(chan struct{}), make(chan struct{})
	writing, closing := make(chan error, 1), make(chan struct{})
	go func() {
		writing <- d.Write(context.Background(), func(tx *sql.Tx) error {
			close(inside)
			<-goOn
			_, err := tx.Exec(`INSERT INTO notes (id, title) VALUES ('k', 'kept')`)
			return err
		})
	}()
	<-inside
	handle := d.DB()
	go func() { _ = d.Close(); close(closing) }()
	if _, err := d.Sync(t.Context()); err != nil && !errors.Is(err, oversqlite.ErrClosed) {
		t.Error(err)
	}
	close(goOn)
	<-closing
	if err := <-writing; err != nil {
		t.Errorf("the write that was under way: %v", err)
	}
	if err := d.Write(t.Context(), func(*sql.Tx) error { return nil }); !errors.Is(err, oversqlite.ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
	if err := handle.PingContext(t.Context()); err == nil {
		t.Error("the connections are open")
	}
	if err := d.DB().PingContext(t.Context()); err == nil {
		t.Error("there are connections after Close")
	}
	d.start()
	if d.open().title("k") != "kept" {
		t.Error("the row is gone")
	}
}

// An application that keeps a transaction open does not hang the engine for ever: the call ends with an error that says
// that it may be tried again, and nothing has been removed.
func TestUninstallWhileTheApplicationWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann", func(c *oversqlite.Config) { c.BusyTimeout = 50 * time.Millisecond })
	tx, err := d.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`INSERT INTO notes (id, title) VALUES ('k', 'kept')`); err != nil {
		t.Fatal(err)
	}
	var busy *oversqlite.DatabaseError
	if err := d.UninstallSync(t.Context()); !errors.As(err, &busy) || !busy.Retryable() {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if r := d.sync(); r.Push != oversqlite.Committed {
		t.Errorf("%+v", r)
	}
	if err := d.UninstallSync(t.Context()); err != nil {
		t.Error(err)
	}
}

// What a failed call says of the state, and what the status says after it, is the state that the failure left.
func TestStatusAfterAFailedPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann")
	d.exec(`INSERT INTO notes (id, title, stars) VALUES ('k', 'too many', 9007199254740993)`)
	r, err := d.PushPending(t.Context())
	var rejected *oversqlite.PushRejectedError
	if !errors.As(err, &rejected) || rejected.Table != "notes" {
		t.Fatal(err)
	}
	if r.Status.Pending.PendingRowCount != 1 {
		t.Errorf("%+v", r)
	}
	if s := d.Status(); s.UploadBlocked == nil || s.UploadBlocked.Code != rejected.Code || s.UploadBlocked.Since.IsZero() || s.Pending.Rows != 1 || s.LastError == nil {
		t.Errorf("%+v", s)
	}
	d.exec(`UPDATE notes SET stars = 5 WHERE id = 'k'`)
	if r, err = d.PushPending(t.Context()); err != nil || r.Outcome != oversqlite.Committed {
		t.Fatal(r, err)
	}
	if s := d.Status(); s.UploadBlocked != nil || s.Pending.Rows != 0 || s.LastError != nil || s.Phase != oversqlite.PhaseIdle {
		t.Errorf("%+v", s)
	}
}
