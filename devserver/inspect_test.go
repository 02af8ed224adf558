package devserver_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/oversqlite/oversqlite/devserver"
)

func run(sqls ...string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		for _, s := range sqls {
			if _, err := tx.Exec(s); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestExecWrite(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{Dir: t.TempDir()})
	d := newDevice(t, s, web, "u", "s")
	write := func(sqls ...string) error { return s.ExecWrite(t.Context(), "u", "w", run(sqls...)) }
	// A scope that was never seen becomes initialized, and the spelling is PostgreSQL's whatever the SQL wrote.
	if err := write(`INSERT INTO users (id, name, email, created_at) VALUES ('`+uid(1)+`', 'n', 'e', '2026-01-02 03:04:05.5')`,
		`INSERT INTO categories VALUES ('`+uid(2)+`', 'c', NULL), ('`+uid(3)+`', 'c', '`+uid(2)+`')`); err != nil {
		t.Fatal(err)
	}
	resolution(t, d.connect(true), "remote_authoritative")
	rows := list(d.do("GET", "/sync/committed-bundles/1/rows", nil, 200, "")["rows"])
	if len(rows) != 3 || rows[0]["payload"].(object)["created_at"] != "2026-01-02T03:04:05.5+00:00" {
		t.Error(rows)
	}
	// Coalesced: one row a key, by what it was and is, where it was first touched.
	if err := write(
		`INSERT INTO categories VALUES ('`+uid(4)+`', 'passing', NULL)`, `DELETE FROM categories WHERE id = '`+uid(4)+`'`,
		`UPDATE users SET name = 'a'`, `UPDATE users SET name = 'b'`,
		`DELETE FROM categories WHERE id = '`+uid(2)+`'`, `INSERT INTO categories VALUES ('`+uid(3)+`', 'again', NULL)`); err != nil {
		t.Fatal(err)
	}
	want := []string{"users UPDATE " + uid(1), "categories DELETE " + uid(2), "categories UPDATE " + uid(3)}
	if got := d.rows(2); !slices.Equal(got, want) {
		t.Error(got)
	}
	// A changed key is a delete and an insert; a replaced row is an update; DELETE without WHERE is seen.
	if err := write(`UPDATE users SET id = '` + uid(9) + `'`); err != nil {
		t.Fatal(err)
	}
	if got := d.rows(3); !slices.Equal(got, []string{"users DELETE " + uid(1), "users INSERT " + uid(9)}) {
		t.Error(got)
	}
	if err := write(`INSERT OR REPLACE INTO users (id, name, email) VALUES ('`+uid(9)+`', 'r', 'e')`, `DELETE FROM categories`); err != nil {
		t.Fatal(err)
	}
	if got := d.rows(4); !slices.Equal(got, []string{"users UPDATE " + uid(9), "categories DELETE " + uid(3)}) {
		t.Error(got)
	}
	pull := list(d.do("GET", "/sync/pull?after_bundle_seq=3", nil, 200, "")["bundles"])
	if len(pull) != 1 || pull[0]["source_id"] != "w" || pull[0]["source_bundle_id"] != 4.0 {
		t.Error(pull)
	}
	// A statement that fails inside a function that goes on leaves no trace of its own.
	if err := s.ExecWrite(t.Context(), "u", "w", func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO users (id, name, email) VALUES ('` + uid(5) + `', 'x', 'e'), ('` + uid(6) + `', NULL, 'e')`)
		if err == nil {
			t.Error("a NULL name was accepted")
		}
		return run(`UPDATE users SET name = 'after'`)(tx)
	}); err != nil {
		t.Fatal(err)
	}
	if got := d.rows(5); !slices.Equal(got, []string{"users UPDATE " + uid(9)}) {
		t.Error(got)
	}
}

func TestExecWriteFailures(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	insert := run(`INSERT INTO users (id, name, email) VALUES ('` + uid(1) + `', 'n', 'e')`)
	ctx := t.Context()
	d.connect(true)
	if err := s.ExecWrite(ctx, "u", "w", insert); !errors.Is(err, devserver.ErrScopeInitializing) {
		t.Error("while a client seeds:", err)
	}
	d.connect(false)
	boom := errors.New("boom")
	if err := s.ExecWrite(ctx, "u", "w", func(tx *sql.Tx) error { return errors.Join(insert(tx), boom) }); !errors.Is(err, boom) {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	if err := s.ExecWrite(cancelled, "u", "w", func(tx *sql.Tx) error { cancel(); return insert(tx) }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.ExecWrite(cancelled, "u", "w", insert); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.ExecWrite(ctx, "u", "w", func(tx *sql.Tx) error { return errors.Join(insert(tx), run(`ROLLBACK`)(tx)) }); err == nil {
		t.Error("a transaction that fn undid itself was committed")
	}
	// What fn wrote after undoing the transaction itself cannot be taken back, but no bundle is made of it.
	if err := s.ExecWrite(ctx, "undoer", "w", func(tx *sql.Tx) error { return errors.Join(insert(tx), run(`ROLLBACK`)(tx), insert(tx)) }); err == nil {
		t.Error("a transaction that fn undid itself was committed")
	}
	if info, err := s.Scope(ctx, "undoer"); err != nil || info.LastBundleSeq != 0 {
		t.Error(info, err)
	}
	if err := s.ExecWrite(ctx, "u", "w", run(`INSERT INTO posts (id, title, content, author_id) VALUES ('`+uid(1)+`', 't', 'c', '`+uid(9)+`')`)); err == nil {
		t.Error("a dangling reference was committed")
	}
	if err := s.ExecWrite(ctx, "u", "w", func(tx *sql.Tx) error { _ = insert(tx); panic("in fn") }); err == nil {
		t.Error("a panic got lost")
	}
	if err := s.ExecWrite(ctx, "", "w", insert); err == nil {
		t.Error("a write for nobody")
	}
	if dump, err := s.Dump(ctx, "u"); err != nil || len(dump) != 0 {
		t.Error("something stuck:", dump, err)
	}
	if info, err := s.Scope(ctx, "u"); err != nil || info.LastBundleSeq != 0 || info.State != "initialized" {
		t.Error(info, err)
	}
	d.do("POST", "/sync/snapshot-sessions", object{"source_replacement": object{"previous_source_id": "s", "new_source_id": "s2", "reason": "source_retired"}}, 200, "")
	if err := s.ExecWrite(ctx, "u", "s", insert); err == nil {
		t.Error("a retired source wrote")
	}
	if err := s.ExecWrite(ctx, "u", "w", insert); err != nil {
		t.Error(err)
	}
}

func TestInspection(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", t.TempDir()} {
		s, web := start(t, devserver.Config{Dir: dir})
		d := newDevice(t, s, web, "u", "s")
		d.connect(false)
		d.push(userRow("INSERT", 2, 0, "b"), userRow("INSERT", 1, 0, "a"))
		d.push(userRow("UPDATE", 2, 1, "c"))
		ctx := t.Context()
		dump, err := s.Dump(ctx, "u")
		if err != nil || len(dump) != 1 || len(dump["business.users"]) != 2 {
			t.Fatal(dump, err)
		}
		want := fmt.Sprintf(`{"created_at":%q,"email":"u2@example.com","id":%q,"name":"c","updated_at":%q}`, when, uid(2), when)
		if got := string(dump["business.users"][1]); got != want {
			t.Errorf("%s\n%s", got, want)
		}
		if versions, err := s.LiveVersions(ctx, "u", "users"); err != nil || versions[uid(1)] != 1 || versions[uid(2)] != 2 {
			t.Error(versions, err)
		}
		if _, err := s.Rows(ctx, "u", "nope"); err == nil {
			t.Error("rows of no table")
		}
		if _, err := s.LiveVersions(ctx, "", "users"); err == nil {
			t.Error("rows of nobody")
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Dump(cancelled, "u"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := s.Forget("u"); err != nil {
			t.Fatal(err)
		}
		d.do("GET", "/sync/pull", nil, 409, "scope_uninitialized")
		if dump, err := s.Dump(ctx, "u"); err != nil || len(dump) != 0 {
			t.Error(dump, err)
		}
		if err := s.Forget("never seen"); err != nil {
			t.Error(err)
		}
	}
}
