package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

// TestACopyOfADatabaseFindsItsNumberTaken: in the uniform contract the hash of the request tells at once. The outbox is kept,
// pulls go on, and Rebuild carries it over to another source.
func TestACopyOfADatabaseFindsItsNumberTaken(t *testing.T) {
	const user = "copied"
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := newWorld(t, devserver.Config{InMemory: true, Contract: wire.UniformContract})
	dir := t.TempDir()
	open := func(name string) *oversqlite.Engine {
		e, err := oversqlite.New(engineConfig(filepath.Join(dir, name), w.url, w.token(t, user), http.DefaultTransport))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := e.Open(ctx); err != nil {
			t.Fatal(err)
		}
		attach(ctx, t, e, user)
		return e
	}
	write := func(e *oversqlite.Engine, id, name string) {
		t.Helper()
		if _, err := e.DB().ExecContext(ctx, `INSERT INTO users (id, name, email) VALUES (?, ?, ? || '@x')`, id, name, name); err != nil {
			t.Fatal(err)
		}
	}
	sync := func(e *oversqlite.Engine) {
		t.Helper()
		if _, err := e.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	const first, ours, theirs = "10000000-0000-4000-8000-000000000001", "10000000-0000-4000-8000-000000000002", "10000000-0000-4000-8000-000000000003"
	if err := createSchema(filepath.Join(dir, "a.db")); err != nil {
		t.Fatal(err)
	}
	a := open("a.db")
	write(a, first, "first")
	sync(a)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.db"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := open("a.db"), open("b.db")
	write(a, ours, "ours")
	sync(a)
	write(b, theirs, "theirs")

	var taken *oversqlite.SourceSequenceMismatchError
	var named *oversqlite.RequestHashError
	for range 2 { // it stays so
		if _, err := b.PushPending(ctx); !errors.As(err, &taken) || !errors.As(err, &named) || taken.SourceBundleID != 2 {
			t.Fatalf("%v", err)
		}
	}
	if s := b.Status(); s.UploadBlocked == nil || s.UploadBlocked.Code != "source_sequence_mismatch" {
		t.Errorf("%+v", s.UploadBlocked)
	}
	before, err := b.SourceInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if before.SourceRecoveryRequired || before.RebuildRequired {
		t.Errorf("%+v: nothing is decided without the application", before)
	}
	if _, err := b.Rebuild(ctx); err != nil {
		t.Fatal(err)
	}
	after, err := b.SourceInfo(ctx)
	if err != nil || after.CurrentSourceID == before.CurrentSourceID {
		t.Errorf("%+v, %v", after, err)
	}
	sync(b)
	sync(a)
	there, err := serverDump(ctx, w.server, user)
	if err != nil || len(there) != 3 {
		t.Fatalf("%d rows on the server, %v", len(there), err)
	}
	for name, e := range map[string]*oversqlite.Engine{"a": a, "b": b} {
		here, err := localDump(ctx, e.DB())
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(here, there); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if s := b.Status(); s.UploadBlocked != nil {
		t.Errorf("still held: %+v", s.UploadBlocked)
	}
}
