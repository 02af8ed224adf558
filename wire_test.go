package oversqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// at runs fn the first time a request whose path ends like that has been answered, before the engine sees the answer.
func (d *device) at(path string, fn func()) {
	var once sync.Once
	d.wire.set(nil, func(r *http.Request) {
		if strings.Contains(r.URL.Path, path) {
			once.Do(fn)
		}
	})
}

func rowsOf(t *testing.T, w *world, user string) []json.RawMessage {
	t.Helper()
	rows, err := w.server.Rows(t.Context(), user, "notes")
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// K1: the answer to a commit is lost; the next call finds that it was committed, and says so.
func TestK1_LostCommitAnswer(t *testing.T) {
	t.Parallel()
	for _, fault := range []devserver.Fault{
		{Endpoint: devserver.EndpointPushCommit, CutAfter: true, Times: 1},
		{Endpoint: devserver.EndpointPushCommit, AfterProcessing: true, Status: 504, Times: 1},
		{Endpoint: devserver.EndpointPushCommit, AfterProcessing: true, Status: 502, Times: 1},
	} {
		t.Run(fmt.Sprint(fault.Status), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.ready("ann")
			b := w.ready("ann")
			a.exec(`INSERT INTO notes (id, title, weight) VALUES ('k', 'once', 0.30000000000000004)`)
			injected := w.server.Inject(fault)
			if r := a.sync(); r.Push != oversqlite.Committed {
				t.Fatalf("%+v", r)
			}
			if injected.Hits() != 1 {
				t.Fatal("the fault did not strike")
			}
			converged(a, b)
			if n := len(rowsOf(t, w, "ann")); n != 1 {
				t.Fatalf("%d rows on the server", n)
			}
		})
	}
}

// The same, and the process dies before it can ask again.
func TestK1_LostCommitAnswerAndRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann", func(c *oversqlite.Config) { c.Retry.MaxElapsed = time.Microsecond })
	id := a.note("once")
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, CutAfter: true, Times: 1})
	var exhausted *oversqlite.RetryExhaustedError
	if _, err := a.Sync(t.Context()); !errors.As(err, &exhausted) {
		t.Fatal(err)
	}
	_ = a.Close()
	a = w.deviceAt("ann", a.path).open()
	a.attach()
	a.exec(`UPDATE notes SET title = 'twice' WHERE id = ?`, id)
	b := w.ready("ann")
	converged(a, b)
	if b.title(id) != "twice" {
		t.Fatal("the later edit is gone")
	}
}

// K2: an edit made while the answer to a pull is on the wire is not overwritten.
func TestK2_EditWhileAPullIsOnTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann", func(c *oversqlite.Config) { c.Resolver = oversqlite.ClientWins })
	id := a.note("base")
	a.sync()
	b := w.ready("ann")
	b.exec(`UPDATE notes SET title = 'remote' WHERE id = ?`, id)
	b.sync()
	a.at("/sync/pull", func() { a.exec(`UPDATE notes SET title = 'local' WHERE id = ?`, id) })
	if _, err := a.PullToStable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.title(id) != "local" {
		t.Fatal("the edit was overwritten")
	}
	if s, _ := a.PendingSyncStatus(t.Context()); s.PendingRowCount != 1 {
		t.Fatalf("%+v", s)
	}
	converged(a, b)
	if b.title(id) != "local" {
		t.Fatal("the edit was lost")
	}
}

// K3: the same in a rebuild, whose window is much larger: inserts, edits and deletions made meanwhile stay.
func TestK3_WritesWhileASnapshotIsOnTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann", func(c *oversqlite.Config) {
		c.Resolver, c.Limits.SnapshotRows = oversqlite.ClientWins, 2
	})
	var ids []string
	for i := range 9 {
		ids = append(ids, a.note(fmt.Sprint("note ", i)))
	}
	a.sync()
	b := w.ready("ann")
	b.exec(`UPDATE notes SET body = 'remote'`)
	b.sync()
	a.at("/sync/snapshot-sessions/", func() {
		a.note("inserted meanwhile")
		a.exec(`UPDATE notes SET title = 'edited meanwhile' WHERE id = ?`, ids[0])
		a.exec(`DELETE FROM notes WHERE id = ?`, ids[1])
	})
	r, err := a.Rebuild(t.Context())
	if err != nil || r.Outcome != oversqlite.AppliedSnapshot || r.Restore == nil || r.Restore.RowCount != 9 || r.Status.Pending.PendingRowCount != 3 {
		t.Fatalf("%+v %v", r, err)
	}
	if a.title(ids[0]) != "edited meanwhile" || a.title(ids[1]) != "" {
		t.Fatal("a local write was undone")
	}
	converged(a, b)
	if b.title(ids[0]) != "edited meanwhile" || b.title(ids[1]) != "" {
		t.Fatal("a local write was lost")
	}
}

// Edits made while a push is on the wire belong to the next one.
func TestEditWhileAPushIsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/sync/push-sessions", "/chunks", "/commit"} {
		t.Run(strings.Trim(path, "/"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.ready("ann")
			b := w.ready("ann")
			id := a.note("frozen")
			gone := a.note("frozen too")
			a.at(path, func() {
				a.exec(`UPDATE notes SET title = 'edited' WHERE id = ?`, id)
				a.exec(`DELETE FROM notes WHERE id = ?`, gone)
			})
			a.sync()
			if a.title(id) == "frozen" || a.title(gone) != "" {
				t.Fatal("an edit was overwritten by its own push")
			}
			converged(a, b)
			if b.title(id) != "edited" || b.title(gone) != "" {
				t.Fatal("the edit was lost")
			}
		})
	}
}

// K12: an application that writes all the time does not keep anybody from syncing.
func TestK12_WritingAllTheTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	b := w.ready("ann")
	stop := make(chan struct{})
	var writing sync.WaitGroup
	written := 0
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := a.DB().Exec(`INSERT INTO notes (id, title) VALUES (?, ?)`, fmt.Sprintf("a%d", i), "x"); err != nil {
				t.Error(err)
				return
			}
			if i%3 == 0 {
				err := a.Write(context.Background(), func(tx *sql.Tx) error {
					_, err := tx.Exec(`UPDATE notes SET stars = stars + 1 WHERE id = ?`, fmt.Sprintf("a%d", i/2))
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
			written++
		}
	})
	for i := range 15 {
		b.note(fmt.Sprint("of b ", i))
		b.sync()
		if r := a.sync(); r.Remote == oversqlite.SkippedPaused {
			t.Fatalf("%+v", r)
		}
	}
	close(stop)
	writing.Wait()
	if written == 0 {
		t.Fatal("nothing was written")
	}
	converged(a, b)
}

func TestHundredConcurrentCallers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.sync()
	before := a.wire.requests.Load()
	a.note("one")
	var callers sync.WaitGroup
	for i := range 100 {
		callers.Go(func() {
			var err error
			switch i % 5 {
			case 0, 1, 2:
				_, err = a.Sync(context.Background())
			case 3:
				_, err = a.PullToStable(context.Background())
			default:
				_, err = a.SyncStatus(context.Background())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	// They share runs: two of each verb if everybody comes at once, a few more if they trickle in.
	if n := a.wire.requests.Load() - before; n > 100 {
		t.Fatalf("%d requests for 80 callers", n)
	}
	if s, err := a.PendingSyncStatus(t.Context()); err != nil || s.HasPendingSyncData {
		t.Fatalf("%+v %v", s, err)
	}
}

// A caller who leaves does not disturb those who stay; when nobody stays the run ends.
func TestCallersLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.note("one")
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var cut = make(chan struct{})
	a.wire.set(func(r *http.Request) {
		once.Do(func() {
			close(entered)
			select {
			case <-release:
			case <-r.Context().Done():
				close(cut)
			}
		})
	}, nil)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := a.Sync(ctx); left <- err }()
	<-entered
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-cut // the request was cancelled with its last caller
	close(release)
	if r := a.sync(); r.Push != oversqlite.Committed {
		t.Fatalf("%+v", r)
	}
	expired, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Sync(expired); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestPaused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	b := w.ready("ann")
	a.sync()
	a.note("one")
	b.note("two")
	b.sync()
	before := a.wire.requests.Load()
	a.PauseUploads()
	a.PauseDownloads()
	if s := a.Status(); !s.UploadsPaused || !s.DownloadsPaused {
		t.Fatalf("%+v", s)
	}
	r, err := a.Sync(t.Context())
	if err != nil || r.Push != oversqlite.SkippedPaused || r.Remote != oversqlite.SkippedPaused || r.Status.Pending.PendingRowCount != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if p, err := a.PushPending(t.Context()); err != nil || p.Outcome != oversqlite.SkippedPaused {
		t.Fatalf("%+v %v", p, err)
	}
	for _, call := range []func(context.Context) (oversqlite.RemoteSyncReport, error){a.PullToStable, a.Rebuild} {
		if p, err := call(t.Context()); err != nil || p.Outcome != oversqlite.SkippedPaused {
			t.Fatalf("%+v %v", p, err)
		}
	}
	if n := a.wire.requests.Load() - before; n != 0 {
		t.Fatalf("%d requests while paused", n)
	}
	a.ResumeUploads()
	if r = a.sync(); r.Push != oversqlite.Committed || r.Remote != oversqlite.SkippedPaused {
		t.Fatalf("%+v", r)
	}
	a.ResumeDownloads()
	if r = a.sync(); r.Remote != oversqlite.AppliedIncremental {
		t.Fatalf("%+v", r)
	}
	converged(a, b)
}

// The cost of a sync in requests.
func TestRequestsOfASync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.sync()
	count := func() int64 {
		before := a.wire.requests.Load()
		a.sync()
		return a.wire.requests.Load() - before
	}
	if n := count(); n != 1 {
		t.Fatalf("%d requests for a sync with nothing to do", n)
	}
	a.note("one")
	if n := count(); n > 5 {
		t.Fatalf("%d requests for a sync of one row", n)
	}
}

func TestHistoryIsPruned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.note("one")
	a.sync()
	b := w.ready("ann")
	for range 5 {
		a.note("more")
		a.sync()
	}
	b.note("not pushed yet")
	if err := w.server.SetRetentionFloor("ann", 5); err != nil {
		t.Fatal(err)
	}
	r, err := b.PullToStable(t.Context())
	if err != nil || r.Outcome != oversqlite.AppliedSnapshot || r.Restore == nil || r.Restore.DroppedLocalRows != 0 || !r.Status.Pending.HasPendingSyncData {
		t.Fatalf("%+v %v", r, err)
	}
	converged(a, b)
}

func TestPullStrict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann", func(c *oversqlite.Config) { c.PullPolicy = oversqlite.PullStrict })
	a.note("one")
	var dirty *oversqlite.DirtyStateRejectedError
	if _, err := a.PullToStable(t.Context()); !errors.As(err, &dirty) || dirty.DirtyRows != 1 {
		t.Fatal(err)
	}
	if r := a.sync(); r.Push != oversqlite.Committed {
		t.Fatalf("%+v", r)
	}
}

// Something the server refuses for good: everything is kept, downloads go on, and a changed row gets through.
func TestPushRejected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	b := w.ready("ann")
	id := a.note("bad")
	fault := w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Status: 400, Code: "push_commit_invalid"})
	other := b.note("comes in all the same")
	if _, err := b.Sync(t.Context()); err == nil {
		t.Fatal("pushed")
	}
	fault.Remove()
	b.sync()
	fault = w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Status: 400, Code: "push_commit_invalid"})
	var rejected *oversqlite.PushRejectedError
	r, err := a.Sync(t.Context())
	if !errors.As(err, &rejected) || rejected.Code != "push_commit_invalid" || rejected.Status != 400 {
		t.Fatal(err)
	}
	if r.Remote != oversqlite.AppliedIncremental || a.title(other) == "" {
		t.Fatalf("%+v", r)
	}
	if s := a.Status(); s.UploadBlocked == nil || s.UploadBlocked.Code != "push_commit_invalid" || s.Phase != oversqlite.PhaseIdle {
		t.Fatalf("%+v", s)
	}
	fault.Remove()
	a.exec(`UPDATE notes SET title = 'good' WHERE id = ?`, id)
	converged(a, b)
	if s := a.Status(); s.UploadBlocked != nil || b.title(id) != "good" {
		t.Fatalf("%+v", s)
	}
}

// K13: rows that swap a unique value in one bundle arrive.
func TestK13_UniqueValuesSwap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	a.exec(`INSERT INTO notes (id, title, slug) VALUES ('1', 'one', 'x'), ('2', 'two', 'y')`)
	a.sync()
	b := w.ready("ann")
	err := w.server.ExecWrite(t.Context(), "ann", "server", func(tx *sql.Tx) error {
		for _, q := range []string{`UPDATE notes SET slug = NULL WHERE id = '1'`, `UPDATE notes SET slug = 'x' WHERE id = '2'`, `UPDATE notes SET slug = 'y' WHERE id = '1'`} {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	converged(a, b)
}

// K5, K11: what the wire cannot carry exactly is not sent, never altered, and does not block for good.
func TestK5K11_ValuesTheWireCannotCarry(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"an integer beyond 2^53": `stars = 9007199254740993`,
		"NUL in text":            `body = 'a' || char(0) || 'b'`,
		"an infinite real":       `weight = 9e999`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a, b := w.ready("ann"), w.ready("ann")
			bad, good := a.note("bad"), a.note("good")
			a.exec(`UPDATE notes SET `+set+` WHERE id = ?`, bad)
			other := b.note("of b")
			b.sync()
			r, err := a.Sync(t.Context())
			var rejected *oversqlite.PushRejectedError
			if !errors.As(err, &rejected) || !strings.HasSuffix(rejected.Table, "notes") || rejected.Code == "" {
				t.Fatalf("%T %v", err, err)
			}
			if !errors.As(err, new(*oversqlite.ValueError)) {
				t.Fatalf("the column is not named: %v", err)
			}
			if r.Remote != oversqlite.AppliedIncremental || a.title(other) == "" || r.Status.Pending.PendingRowCount != 2 {
				t.Fatalf("%+v", r)
			}
			if s := a.Status(); s.UploadBlocked == nil {
				t.Fatalf("%+v", s)
			}
			a.exec(`UPDATE notes SET stars = 1, body = NULL, weight = NULL WHERE id = ?`, bad)
			converged(a, b)
			if b.title(good) == "" || a.Status().UploadBlocked != nil {
				t.Fatal("still blocked")
			}
		})
	}
}
