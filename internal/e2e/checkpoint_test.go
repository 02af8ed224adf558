package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// A push is committed and answered, but what was committed cannot be fetched before the server has forgotten it: a
// snapshot settles it, edits made since go on, and the call says that something was committed.
func TestReplayOfAForgottenPush(t *testing.T) {
	t.Parallel()
	const user = "replay"
	w := newWorld(t, devserver.Config{InMemory: true})
	p := openPhone(t, w, user, filepath.Join(t.TempDir(), "first.db"), false)
	// A time with nanoseconds comes back in microseconds, so that only the rows prove what was committed.
	const nanoseconds = "2026-03-24T18:42:11.123456789Z"
	appWrite(t, p.Engine, `INSERT INTO users (id, name, email, created_at, updated_at) VALUES (?, 'n', 'e', ?, ?)`, categoryID(1), nanoseconds, nanoseconds)
	p.losing(func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/committed-bundles/") })
	if _, err := p.PushPending(t.Context()); err == nil {
		t.Fatal("the answer was not lost")
	}
	p.losing(nil)
	appWrite(t, p.Engine, `UPDATE users SET name = 'since'`)
	forgetHistory(t, w, user)
	source := p.source(t)
	r, err := p.PushPending(t.Context())
	if err != nil || r.Outcome != oversqlite.Committed {
		t.Fatalf("%+v, %v", r, err)
	}
	mustSync(t, p.Engine)
	sameAsServer(t, w, user, p.Engine)
	if p.source(t) != source {
		t.Error("the source was replaced")
	}
}

// The answer to the commit of a seed is lost. The scope is initialized by it, so that the lease is refused when the
// device asks again.
func TestSeedWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	const user = "seed"
	w := newWorld(t, devserver.Config{InMemory: true})
	path := filepath.Join(t.TempDir(), "first.db")
	if err := createSchema(path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+path)
	if err == nil {
		_, err = db.Exec(`INSERT INTO categories (id, name) VALUES (?, 'anonymous')`, categoryID(1))
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	p := openPhone(t, w, user, path, false)
	p.losing(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/commit") })
	if _, err := p.PushPending(t.Context()); err == nil {
		t.Fatal("the answer was not lost")
	}
	p.losing(nil)
	addCategory(t, p.Engine, 2, "since")
	mustSync(t, p.Engine)
	sameAsServer(t, w, user, p.Engine)
	if names := categories(t, w, user); !slices.Equal(names, []string{"anonymous", "since"}) {
		t.Error(names)
	}
}

// The server loses the scope and another device seeds it anew. This device's changes are laid around what is there, and
// pushed under a fresh source, for the server does not know the old one's numbers.
func TestScopeSeededAnewByAnotherDevice(t *testing.T) {
	t.Parallel()
	const user = "anew"
	eachWay(t, func(t *testing.T, auto bool) {
		w := newWorld(t, devserver.Config{InMemory: true})
		first := openPhone(t, w, user, filepath.Join(t.TempDir(), "first.db"), auto)
		second := openPhone(t, w, user, filepath.Join(t.TempDir(), "second.db"), auto)
		for n := range 3 {
			addCategory(t, second.Engine, n, "known")
			second.sync(t)
		}
		first.sync(t)
		appWrite(t, second.Engine, `UPDATE categories SET name = 'pending' WHERE id = ?`, categoryID(1))
		addCategory(t, second.Engine, 4, "pending")
		if err := w.server.Forget(user); err != nil {
			t.Fatal(err)
		}
		for i, p := range []*phone{first, second} {
			var lost *oversqlite.AttachRequiredError
			if _, err := p.Engine.PullToStable(t.Context()); i == 0 && !errors.As(err, &lost) {
				t.Fatal(err)
			}
			attach(t.Context(), t, p.Engine, user)
			p.sync(t)
		}
		first.sync(t)
		sameAsServer(t, w, user, first.Engine, second.Engine)
		if names := categories(t, w, user); !slices.Contains(names, "pending") {
			t.Errorf("%s", names)
		}
	})
}

// A table gets a column that the server has had all along: what stands here in it is a default, until a rebuild brings
// what the server has. Pending changes of the table survive it.
func TestColumnThatComesLater(t *testing.T) {
	t.Parallel()
	const user = "column"
	w := newWorld(t, devserver.Config{
		InMemory: true, Schema: `CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, name TEXT, later TEXT DEFAULT 'server')`,
		Tables: []devserver.Table{{Schema: "business", Name: "things", Key: "id"}},
	})
	path := filepath.Join(t.TempDir(), "first.db")
	change := func(q string) {
		t.Helper()
		db, err := sql.Open("sqlite3", "file:"+path)
		if err == nil {
			_, err = db.Exec(q)
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	open := func() *oversqlite.Engine {
		t.Helper()
		cfg := engineConfig(path, w.url, w.token(t, user), http.DefaultTransport)
		cfg.Tables = []oversqlite.Table{{Name: "things", Key: "id"}}
		e, err := oversqlite.New(cfg)
		if err == nil {
			err = e.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		attach(t.Context(), t, e, user)
		return e
	}
	change(`CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, name TEXT)`)
	e := open()
	appWrite(t, e, `INSERT INTO things VALUES ('1', 'a'), ('2', 'a')`)
	mustSync(t, e)
	appWrite(t, e, `UPDATE things SET name = 'pending' WHERE id = '2'`)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	change(`ALTER TABLE things ADD COLUMN later TEXT`)
	e = open()
	defer e.Close()
	if info, err := e.SourceInfo(t.Context()); err != nil || !info.RebuildRequired || info.SourceRecoveryRequired {
		t.Fatalf("%+v, %v", info, err)
	}
	mustSync(t, e)
	var got string
	if err := e.DB().QueryRow(`SELECT group_concat(id || name || ifnull(later, '-'), ' ') FROM (SELECT * FROM things ORDER BY id)`).Scan(&got); err != nil || !strings.HasPrefix(got, "1aserver 2pending") {
		t.Errorf("%s, %v", got, err)
	}
	rows, err := w.server.Rows(t.Context(), user, "things")
	if err != nil || len(rows) != 2 || !strings.Contains(string(rows[1]), "pending") {
		t.Errorf("%s, %v", rows, err)
	}
}

// A pull brings bundles 2 and 4. What was in 3 is lost, and a snapshot says what is there; its download is interrupted, and
// the engine closed. The gate and its reason are on disk, and the next call goes on without being told.
func TestGapInThePull(t *testing.T) {
	t.Parallel()
	const user = "gap"
	w := newWorld(t, devserver.Config{InMemory: true})
	path := filepath.Join(t.TempDir(), "first.db")
	p := openPhone(t, w, user, path, false)
	addCategory(t, p.Engine, 1, "known")
	p.sync(t)
	for n := range 3 {
		if err := w.server.ExecWrite(t.Context(), user, "office", func(tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO categories (id, name) VALUES (?, 'theirs')`, categoryID(10+n))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	addCategory(t, p.Engine, 2, "pending")
	p.answering(func(r *http.Request, resp *http.Response) {
		if !strings.HasSuffix(r.URL.Path, "/sync/pull") {
			return
		}
		var page map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
			t.Error(err)
		}
		page["bundles"] = slices.DeleteFunc(page["bundles"].([]any), func(b any) bool { return b.(map[string]any)["bundle_seq"] == 3.0 })
		body, err := json.Marshal(page)
		if err != nil {
			t.Error(err)
		}
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	})
	p.losing(func(r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/snapshot-sessions/") && r.Method == http.MethodGet
	})
	if _, err := p.PullToStable(t.Context()); err == nil {
		t.Fatal("the answer was not lost")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var gate, kind, reason string
	if err := db.QueryRow(`SELECT rebuild_required, kind, reason FROM _sync_attachment_state, _sync_operation_state`).Scan(&gate, &kind, &reason); err != nil ||
		gate != "1" || kind != "none" || reason != "history_pruned" {
		t.Errorf("gate %s, kind %s, reason %s, %v", gate, kind, reason, err)
	}
	p = openPhone(t, w, user, path, false)
	r, err := p.PullToStable(t.Context())
	if err != nil || r.Outcome != oversqlite.AppliedSnapshot {
		t.Fatalf("%+v, %v", r, err)
	}
	mustSync(t, p.Engine)
	sameAsServer(t, w, user, p.Engine)
	if names := categories(t, w, user); len(names) != 5 || !slices.Contains(names, "pending") {
		t.Error(names)
	}
}
