package oversqlite_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

func TestAttachStartsEmpty(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, c := w.device("ann").attached()
	if c.Outcome != oversqlite.StartedEmpty || c.Restore != nil || c.Status.Authority != oversqlite.AuthoritativeEmpty {
		t.Fatalf("%+v", c)
	}
	// The scope is initialized now: the next device takes the server's rows, of which there are none, and its own go.
	b := w.device("ann").open()
	b.note("of an anonymous database")
	told := b.Subscribe(oversqlite.WithKinds(oversqlite.KindLocalRowsDropped))
	defer told.Close()
	c = b.attach()
	if e := <-told.C(); e != (oversqlite.LocalRowsDropped{Rows: 1}) {
		t.Fatalf("told: %+v", e)
	}
	if c.Outcome != oversqlite.UsedRemoteState || c.Restore == nil || c.Restore.DroppedLocalRows != 1 || c.Restore.RowCount != 0 {
		t.Fatalf("%+v %+v", c, c.Restore)
	}
	if got := b.dump(); got != "" {
		t.Fatal(got)
	}
	a.note("first")
	converged(a, b)
}

func TestAttachResumesWithoutNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.note("one")
	a.sync()
	a.note("two")
	before, err := a.SourceInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	b := w.deviceAt("ann", a.path).open()
	c := b.attach()
	if c.Outcome != oversqlite.ResumedAttachedState || c.Status.Authority != oversqlite.AuthoritativeMaterialized || c.Status.Pending.PendingRowCount != 1 {
		t.Fatalf("%+v", c)
	}
	if n := b.wire.requests.Load(); n != 0 {
		t.Fatalf("%d requests", n)
	}
	after, err := b.SourceInfo(t.Context())
	if err != nil || after != before || after.CurrentSourceID == "" {
		t.Fatalf("%+v %+v %v", before, after, err)
	}
	if r := b.sync(); r.Push != oversqlite.Committed {
		t.Fatalf("%+v", r)
	}
}

func TestAttachRetriesLaterWhileAnotherDeviceSeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *devserver.Config) { c.LeaseTTL = 30 * time.Second })
	a := w.device("ann").open()
	a.note("of a")
	a.attach()
	b := w.device("ann").open()
	b.note("of b")
	r, err := b.Attach(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	later, ok := r.(oversqlite.RetryLater)
	if !ok || later.RetryAfter < time.Second || later.RetryAfter > 30*time.Second {
		t.Fatalf("%#v", r)
	}
	// Nothing has changed: still anonymous, the row still pending.
	if _, err := b.Sync(t.Context()); !errors.As(err, new(*oversqlite.AttachRequiredError)) {
		t.Fatal(err)
	}
	a.sync()
	if c := b.attach(); c.Outcome != oversqlite.UsedRemoteState || c.Restore.DroppedLocalRows != 1 {
		t.Fatalf("%+v", c)
	}
	converged(a, b)
}

func TestAttachOfAnotherUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	var binding *oversqlite.AttachBindingConflictError
	if _, err := a.Attach(t.Context(), "bob"); !errors.As(err, &binding) || binding.AttachedUserID != "ann" || binding.RequestedUserID != "bob" {
		t.Fatal(err)
	}
	if _, err := a.Attach(t.Context(), ""); !errors.As(err, new(*oversqlite.ConfigError)) {
		t.Fatal(err)
	}
}

// An Attach that replaces local rows is finished after an interruption, by the same user only.
func TestInterruptedReplaceIsFinished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	for range 5 {
		a.note("n")
	}
	a.sync()

	b := w.device("ann", func(c *oversqlite.Config) { c.Retry.MaxElapsed = 20 * time.Millisecond }).open()
	b.note("dropped")
	fault := w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointSnapshotPage, Status: 503})
	var exhausted *oversqlite.RetryExhaustedError
	if _, err := b.Attach(t.Context(), "ann"); !errors.As(err, &exhausted) || !exhausted.Retryable() || exhausted.Attempts == 0 {
		t.Fatal(err)
	}
	fault.Remove()
	// The application's writes would be lost: they are refused.
	if _, err := b.DB().Exec(`INSERT INTO notes (id, title) VALUES ('x', 'x')`); err == nil {
		t.Fatal("a write was taken in the middle of a replacement")
	}
	_ = b.Close()

	b = w.deviceAt("ann", b.path).open()
	var conflict *oversqlite.AttachLocalStateConflictError
	if _, err := b.Attach(t.Context(), "bob"); !errors.As(err, &conflict) || conflict.PendingUserID != "ann" {
		t.Fatal(err)
	}
	if c := b.attach(); c.Outcome != oversqlite.UsedRemoteState || c.Restore.RowCount != 5 || c.Restore.DroppedLocalRows != 1 {
		t.Fatalf("%+v", c.Restore)
	}
	converged(a, b)
}

func TestDetachCancelsAReplace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready("ann").sync()
	b := w.device("ann", func(c *oversqlite.Config) { c.Retry.MaxElapsed = time.Microsecond }).open()
	id := b.note("mine")
	fault := w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointSnapshotCreate, Status: 502})
	if _, err := b.Attach(t.Context(), "ann"); err == nil {
		t.Fatal("attached")
	}
	fault.Remove()
	if r, err := b.Detach(t.Context()); err != nil || r.Outcome != oversqlite.Detached {
		t.Fatalf("%+v %v", r, err)
	}
	b.exec(`UPDATE notes SET title = 'still mine' WHERE id = ?`, id)
}

// The server lost a user's rows. The first device that attaches again seeds them, with a new identity; another keeps what
// it had not pushed.
func TestServerLosesTheScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.note("one")
	a.note("two")
	a.sync()
	b := w.ready("ann")
	before, _ := a.SourceInfo(t.Context())
	if err := w.server.Forget("ann"); err != nil {
		t.Fatal(err)
	}
	a.note("three")
	id := b.note("of b")
	var lost *oversqlite.AttachRequiredError
	if _, err := a.Sync(t.Context()); !errors.As(err, &lost) || lost.Reason == "" || lost.Operation != "Sync" {
		t.Fatal(err)
	}
	if _, err := b.PullToStable(t.Context()); !errors.As(err, &lost) {
		t.Fatal(err)
	}
	if c := a.attach(); c.Outcome != oversqlite.SeededFromLocal || c.Status.Pending.PendingRowCount != 3 {
		t.Fatalf("%+v", c)
	}
	after, _ := a.SourceInfo(t.Context())
	if after.CurrentSourceID == before.CurrentSourceID {
		t.Fatal("the source is the old one")
	}
	a.sync()
	if c := b.attach(); c.Outcome != oversqlite.UsedRemoteState || c.Status.Pending.PendingRowCount != 1 {
		t.Fatalf("%+v", c)
	}
	converged(a, b)
	if a.title(id) != "of b" {
		t.Fatal("what b had not pushed is gone")
	}
}

// A lease whose rows were deleted again before they were pushed.
func TestLeaseThatTurnsOutUnused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.device("ann").open()
	id := a.note("gone before it was sent")
	a.attach()
	a.exec(`DELETE FROM notes WHERE id = ?`, id)
	if status, err := a.PendingSyncStatus(t.Context()); err != nil || !status.BlocksDetach {
		t.Fatalf("%+v %v", status, err)
	}
	if r := a.sync(); r.Push != oversqlite.NoChange || r.Status.Authority != oversqlite.AuthoritativeEmpty || r.Status.Pending.HasPendingSyncData {
		t.Fatalf("%+v", r)
	}
	a.note("real")
	b := w.ready("ann")
	converged(a, b)
}

// A lease that ran out before its rows were pushed: nothing is lost, and the next Attach goes around what is here.
func TestLeaseRunsOut(t *testing.T) {
	t.Parallel()
	clock := newClock()
	w := newWorld(t, func(c *devserver.Config) { c.Now, c.LeaseTTL, c.TokenTTL = clock.now, time.Minute, 1000*time.Hour })
	a := w.device("ann").open()
	id := a.note("of a")
	a.attach()
	clock.advance(time.Hour)
	b := w.device("ann").open()
	b.note("of b")
	if c := b.attach(); c.Outcome != oversqlite.SeededFromLocal {
		t.Fatalf("%+v", c)
	}
	b.sync()
	var lost *oversqlite.AttachRequiredError
	if _, err := a.Sync(t.Context()); !errors.As(err, &lost) || lost.Reason == "" {
		t.Fatal(err)
	}
	if c := a.attach(); c.Outcome != oversqlite.UsedRemoteState || c.Restore.DroppedLocalRows != 0 {
		t.Fatalf("%+v", c)
	}
	converged(a, b)
	if b.title(id) != "of a" {
		t.Fatal("what a had not pushed is gone")
	}
}

func TestAttachChecksTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("wrong base URL", func(t *testing.T) {
		t.Parallel()
		d := w.device("ann", func(c *oversqlite.Config) { c.ServerURL += "/nowhere" }).open()
		var unsupported *oversqlite.LifecycleUnsupportedError
		if _, err := d.Attach(t.Context(), "ann"); !errors.As(err, &unsupported) || unsupported.Status != http.StatusNotFound {
			t.Fatal(err)
		}
	})
	t.Run("other tables", func(t *testing.T) {
		t.Parallel()
		d := w.device("ann", func(c *oversqlite.Config) { c.Tables = c.Tables[:1] }).open()
		var mismatch *oversqlite.TableContractMismatchError
		if _, err := d.Attach(t.Context(), "ann"); !errors.As(err, &mismatch) || len(mismatch.ServerOnlyTables) != 1 || mismatch.ServerOnlyTables[0] != "main.tags" {
			t.Fatal(err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		d := w.device("ann", func(c *oversqlite.Config) {
			c.ServerURL, c.Retry.MaxElapsed = "http://127.0.0.1:1", 10*time.Millisecond
		}).open()
		var exhausted *oversqlite.RetryExhaustedError
		if _, err := d.Attach(t.Context(), "ann"); !errors.As(err, &exhausted) || exhausted.LastErr == nil {
			t.Fatal(err)
		}
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Parallel()
		d := w.device("ann", func(c *oversqlite.Config) { c.HTTPClient = &http.Client{Transport: w.conns} }).open()
		var auth *oversqlite.AuthError
		if _, err := d.Attach(t.Context(), "ann"); !errors.As(err, &auth) || auth.Status != http.StatusUnauthorized {
			t.Fatal(err)
		}
		if s := d.Status(); !errors.As(s.LastError, &auth) {
			t.Fatalf("%+v", s)
		}
		if err := d.Resume(); err != nil {
			t.Fatal(err)
		}
		if s := d.Status(); s.LastError != nil {
			t.Fatalf("%+v", s)
		}
	})
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		d := w.device("ann").open()
		ctx, cancel := context.WithCancel(t.Context())
		d.wire.set(func(r *http.Request) { cancel(); <-r.Context().Done() }, nil)
		if _, err := d.Attach(ctx, "ann"); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		d.wire.set(nil, nil)
		d.attach()
	})
}
