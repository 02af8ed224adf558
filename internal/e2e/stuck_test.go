package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// Histories that the model test found, each of which ended in a state that no further call got out of.

// openDevice opens a device of a user and leaves it unattached.
func openDevice(t *testing.T, w *world, user string) *oversqlite.Engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device.db")
	if err := createSchema(path); err != nil {
		t.Fatal(err)
	}
	e, err := oversqlite.New(engineConfig(path, w.url, w.token(t, user), http.DefaultTransport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

func appWrite(t *testing.T, e *oversqlite.Engine, q string, args ...any) {
	t.Helper()
	if err := e.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(q, args...); return err }); err != nil {
		t.Fatal(err)
	}
}

func mustSync(t *testing.T, e *oversqlite.Engine) {
	t.Helper()
	if _, err := e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// roundTrip is a function as a RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// forgetHistory moves the server's floor to its last bundle.
func forgetHistory(t *testing.T, w *world, user string) {
	t.Helper()
	s, err := w.server.Scope(t.Context(), user)
	if err == nil {
		err = w.server.SetRetentionFloor(user, s.LastBundleSeq)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sameAsServer(t *testing.T, w *world, user string, engines ...*oversqlite.Engine) {
	t.Helper()
	there, err := serverDump(t.Context(), w.server, user)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range engines {
		here, err := localDump(t.Context(), e.DB())
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(here, there); d != "" {
			t.Errorf("device %d (-) and server (+) differ:\n%s", i, d)
		}
		if p, err := e.PendingSyncStatus(t.Context()); err != nil || p.HasPendingSyncData {
			t.Errorf("device %d: pending %+v, %v", i, p, err)
		}
	}
}

// A device that has never pulled a bundle, and a server that remembers none of those it has: the answer to a pull is
// empty although there is something to come.
func TestCheckpointZeroBehindAForgottenHistory(t *testing.T) {
	const user = "zero"
	w := newWorld(t, devserver.Config{InMemory: true})
	early, late := openDevice(t, w, user), openDevice(t, w, user)
	attach(t.Context(), t, early, user)
	attach(t.Context(), t, late, user)
	appWrite(t, late, `INSERT INTO categories (id, name) VALUES ('c0000000-0000-4000-8000-000000000001', 'c')`)
	mustSync(t, late)
	forgetHistory(t, w, user)
	r, err := early.PullToStable(t.Context())
	if err != nil || r.Outcome != oversqlite.AppliedSnapshot {
		t.Fatalf("%+v, %v", r, err)
	}
	sameAsServer(t, w, user, early, late)
}

// A new row over a tombstone that the device knows nothing of, and a server that remembers so little that every pull ends
// in a snapshot: a snapshot does not know of tombstones, but the refused push has told.
func TestNewRowOverATombstoneBehindAForgottenHistory(t *testing.T) {
	const user = "tombstone"
	const insert = `INSERT INTO categories (id, name) VALUES ('c0000000-0000-4000-8000-000000000001', ?)`
	w := newWorld(t, devserver.Config{InMemory: true})
	a, b := openDevice(t, w, user), openDevice(t, w, user)
	attach(t.Context(), t, a, user)
	appWrite(t, a, insert, "first")
	mustSync(t, a)
	appWrite(t, a, `DELETE FROM categories`)
	mustSync(t, a)
	attach(t.Context(), t, b, user)
	appWrite(t, b, insert, "again")
	appWrite(t, a, `INSERT INTO categories (id, name) VALUES ('c0000000-0000-4000-8000-000000000002', 'other')`)
	mustSync(t, a)
	forgetHistory(t, w, user)
	mustSync(t, b)
	mustSync(t, a)
	sameAsServer(t, w, user, a, b)
}

// A rebuild of a database that holds the lease to seed a scope: there is no snapshot of such a scope, and to ask for one
// would have it give up the lease that it holds itself.
func TestRebuildOfADatabaseThatIsToSeed(t *testing.T) {
	const user = "seed"
	w := newWorld(t, devserver.Config{InMemory: true})
	e := openDevice(t, w, user)
	appWrite(t, e, `INSERT INTO categories (id, name) VALUES ('c0000000-0000-4000-8000-000000000001', 'mine')`)
	attach(t.Context(), t, e, user)
	if r, err := e.Rebuild(t.Context()); err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	mustSync(t, e)
	sameAsServer(t, w, user, e)
}

// The server forgets a user between the answer to connect and the snapshot that is to replace what is here. There is nothing any
// more that could take its place: the next Attach asks again, and brings it to the server.
func TestAttachToAScopeThatIsLostMeanwhile(t *testing.T) {
	const user = "lost"
	w := newWorld(t, devserver.Config{InMemory: true})
	first := openDevice(t, w, user)
	attach(t.Context(), t, first, user)
	addCategory(t, first, 1, "theirs")
	mustSync(t, first)

	path := filepath.Join(t.TempDir(), "second.db")
	if err := createSchema(path); err != nil {
		t.Fatal(err)
	}
	p := &phone{path: path, answer: func(r *http.Request, _ *http.Response) {
		if strings.HasSuffix(r.URL.Path, "/connect") {
			if err := w.server.Forget(user); err != nil {
				t.Error(err)
			}
		}
	}}
	e, err := oversqlite.New(engineConfig(path, w.url, w.token(t, user), p))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if err := e.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	addCategory(t, e, 2, "mine")
	_, err = e.Attach(t.Context(), user)
	var again *oversqlite.AttachRequiredError
	if !errors.As(err, &again) || again.Reason != "scope_uninitialized" {
		t.Fatal(err)
	}
	p.answering(nil)
	if r, err := e.Attach(t.Context(), user); err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	mustSync(t, e)
	sameAsServer(t, w, user, e)
	if names := categories(t, w, user); !slices.Equal(names, []string{"mine"}) {
		t.Error(names)
	}
}

// A push in pieces, and an application that writes faster than pieces leave: what is written during the call waits for
// the next one.
func TestPushInPiecesEnds(t *testing.T) {
	const user = "pieces"
	w := newWorld(t, devserver.Config{InMemory: true})
	path := filepath.Join(t.TempDir(), "device.db")
	if err := createSchema(path); err != nil {
		t.Fatal(err)
	}
	var e *oversqlite.Engine
	n, bundles := 0, 0
	write := func() {
		for range 4 {
			n++
			appWrite(t, e, `INSERT INTO categories (id, name) VALUES (?, 'c')`, fmt.Sprintf("c0000000-0000-4000-8000-%012d", n))
		}
	}
	cfg := engineConfig(path, w.url, w.token(t, user), roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/commit") && bundles < 40 {
			bundles++
			write()
		}
		return http.DefaultTransport.RoundTrip(r)
	}))
	cfg.Limits.PushRows = 2
	var err error
	if e, err = oversqlite.New(cfg); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	attach(t.Context(), t, e, user)
	write()
	if _, err := e.PushPending(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if bundles >= 40 {
		t.Errorf("4 rows were pending, and the push went on for %d bundles", bundles)
	}
}
