package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

func TestFirstOpenCapturesWhatExists(t *testing.T) {
	t.Parallel()
	// Named so that neither the configured nor the alphabetical order is parents first.
	cfg := testConfig(t, `CREATE TABLE zparents (id TEXT PRIMARY KEY NOT NULL, n INTEGER);
CREATE TABLE achildren (id TEXT PRIMARY KEY NOT NULL, p TEXT REFERENCES zparents);
INSERT INTO zparents VALUES ('b', 2), ('a', 1); INSERT INTO achildren VALUES ('c', 'a')`, tables("achildren", "zparents")...)
	db := mustOpen(t, cfg)
	same(t, "dirty", rows(t, db, `SELECT dirty_ordinal, table_name, op, base_row_version, payload FROM _sync_dirty_rows ORDER BY 1`), []string{
		`1|zparents|INSERT|0|{"id":"a","n":"1"}`, `2|zparents|INSERT|0|{"id":"b","n":"2"}`, `3|achildren|INSERT|0|{"id":"c","p":"a"}`})
	mustVerify(t, db)
	st, err := db.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(st.Attachment.CurrentSourceID) || st.NextSourceBundleID != 1 {
		t.Errorf("source %q, next %d", st.Attachment.CurrentSourceID, st.NextSourceBundleID)
	}
}

func TestReopenChangesNothing(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, businessDDL, tables(businessTables...)...)
	db := mustOpen(t, cfg)
	exec(t, db, `INSERT INTO users (id, name, email) VALUES ('u', 'U', 'e')`)
	exec(t, db, `UPDATE _sync_apply_state SET apply_mode = 1`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := dumpFile(t, cfg.Path)
	before["_sync_apply_state"] = []string{"1|0"}
	reopen(t, cfg)
	same(t, "content", dumpFile(t, cfg.Path), before)
	noResidue(t, filepath.Dir(cfg.Path), "app.db")
}

// A table that becomes managed later has its rows captured then, and only those that nobody knows.
func TestTablesThatBecomeManagedLater(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL+`; CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL); INSERT INTO notes VALUES ('n')`, tables("users")...)
	db := mustOpen(t, cfg)
	if err := db.AttachEmpty(t.Context(), "me", "classic"); err != nil {
		t.Fatal(err)
	}
	serverRow(t, db, "users", `'u', 'U'`, 3)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Tables = tables("users", "notes")
	db = mustOpen(t, cfg)
	same(t, "dirty", dirty(t, db), []string{`notes|{"id":"n"}|INSERT|0|{"id":"n"}`})
	st := state(t, db)
	same(t, "gate", []any{st.Attachment.RebuildRequired, st.Operation.Reason}, []any{true, local.ReasonResume})
	mustVerify(t, db)
}

func state(t testing.TB, db *DB) local.State {
	t.Helper()
	st, err := db.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Managed columns that changed, or triggers that were gone for a while, set the rebuild gate of an attached database,
// and the triggers are made to fit.
func TestSchemaDrift(t *testing.T) {
	t.Parallel()
	const recreate = `CREATE TABLE u2 (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL); INSERT INTO u2 SELECT * FROM users; DROP TABLE users; ALTER TABLE u2 RENAME TO users;`
	for name, c := range map[string]struct {
		sql     string
		attach  bool
		rebuild bool
		payload string
	}{
		"nothing":          {``, true, false, `{"id":"u","name":"new"}`},
		"column added":     {`ALTER TABLE users ADD COLUMN age INTEGER`, true, true, `{"id":"u","name":"new","age":null}`},
		"anonymous":        {`ALTER TABLE users ADD COLUMN age INTEGER`, false, false, `{"id":"u","name":"new","age":null}`},
		"column renamed":   {`ALTER TABLE users RENAME COLUMN name TO nick; ALTER TABLE users ADD COLUMN name TEXT`, true, true, `{"id":"u","nick":"Ada","name":"new"}`},
		"generated column": {`ALTER TABLE users ADD COLUMN len INTEGER AS (length(name))`, true, false, `{"id":"u","name":"new"}`},
		"index":            {`CREATE INDEX i ON users (name)`, true, false, `{"id":"u","name":"new"}`},
		"recreated":        {recreate, true, true, `{"id":"u","name":"new"}`},
		"old trigger":      {`DROP TRIGGER trg_users_au; CREATE TRIGGER trg_users_au AFTER UPDATE ON users BEGIN DELETE FROM _sync_dirty_rows; END`, true, false, `{"id":"u","name":"new"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, usersDDL, tables("users")...)
			db := mustOpen(t, cfg)
			if c.attach {
				if err := db.AttachEmpty(t.Context(), "me", "classic"); err != nil {
					t.Fatal(err)
				}
			}
			serverRow(t, db, "users", `'u', 'Ada'`, 3)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			plain(t, cfg.Path, c.sql)
			db = mustOpen(t, cfg)
			st := state(t, db)
			same(t, "gate", st.Attachment.RebuildRequired, c.rebuild)
			if c.rebuild {
				same(t, "reason", st.Operation.Reason, local.ReasonResume)
			}
			same(t, "dirty", dirty(t, db), []string{})
			exec(t, db, `UPDATE users SET name = 'new'`)
			same(t, "dirty", dirty(t, db), []string{`users|{"id":"u"}|UPDATE|3|` + c.payload})
			mustVerify(t, db)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			before := dumpFile(t, cfg.Path)
			reopen(t, cfg)
			same(t, "after another open", dumpFile(t, cfg.Path), before)
		})
	}
}

// The reason of an operation in progress is not overwritten by drift.
func TestDriftKeepsAReasonThatIsThere(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	db := mustOpen(t, cfg)
	must(t, db.AttachEmpty(t.Context(), "me", "classic"))
	must(t, db.SetRebuildGate(t.Context(), local.ReasonHistoryPruned))
	must(t, db.Close())
	plain(t, cfg.Path, `ALTER TABLE users ADD COLUMN age INTEGER`)
	same(t, "reason", state(t, mustOpen(t, cfg)).Operation.Reason, local.ReasonHistoryPruned)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A database in which another client of the family keeps the dirty rows, under ordinals that need not differ, is taken
// over: the rows keep their order, and what comes after them has ordinals of its own.
func TestDirtyRowsOfAnotherLayout(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]string{
		"rowid":         `, PRIMARY KEY (schema_name, table_name, key_json)); CREATE INDEX theirs ON _sync_dirty_rows (dirty_ordinal)`,
		"without rowid": `, PRIMARY KEY (schema_name, table_name, key_json)) WITHOUT ROWID`,
		"no key":        `)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, usersDDL, tables("users")...)
			db := mustOpen(t, cfg)
			exec(t, db, `INSERT INTO users VALUES ('c', '1'), ('a', '2'), ('b', '3')`)
			serverRow(t, db, "users", `'k', 'known'`, 4)
			exec(t, db, `DELETE FROM users WHERE id = 'k'`)
			want := dirty(t, db)
			exec(t, db, `UPDATE _sync_dirty_rows SET updated_at = '2026-01-02T03:04:05.678Z'`)
			must(t, db.Close())
			plain(t, cfg.Path, `CREATE TABLE kept AS SELECT * FROM _sync_dirty_rows; DROP TABLE _sync_dirty_rows; CREATE TABLE _sync_dirty_rows (key_json TEXT NOT NULL, schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL, op TEXT NOT NULL, base_row_version INTEGER NOT NULL, payload TEXT, dirty_ordinal INTEGER NOT NULL DEFAULT 0, updated_at TEXT NOT NULL`+layout+`;
INSERT INTO _sync_dirty_rows SELECT key_json, schema_name, table_name, CASE op WHEN 'INSERT' THEN 'UPDATE' ELSE op END, base_row_version, payload, (dirty_ordinal + 3) / 2, updated_at FROM kept; DROP TABLE kept`)
			want[0], want[1] = want[1], want[0] // of those that share an ordinal the one with the lesser key
			for range 2 {
				db = mustOpen(t, cfg)
				same(t, "dirty", dirty(t, db), want)
				same(t, "times", rows(t, db, `SELECT DISTINCT updated_at FROM _sync_dirty_rows`), []string{"2026-01-02T03:04:05.678Z"})
				mustVerify(t, db)
				must(t, db.Close())
			}
			db = mustOpen(t, cfg)
			exec(t, db, `INSERT INTO users VALUES ('d', '4')`)
			exec(t, db, `UPDATE users SET name = '5' WHERE id = 'c'`)
			same(t, "order", rows(t, db, `SELECT dirty_ordinal FROM _sync_dirty_rows ORDER BY 1`), []string{"1", "2", "3", "4", "5"})
			same(t, "last", rows(t, db, `SELECT key_json ->> 'id' FROM _sync_dirty_rows ORDER BY dirty_ordinal DESC LIMIT 1`), []string{"d"})
			mustVerify(t, db)
		})
	}
}

// Tables can leave the configuration when they have nothing unsynced; their triggers go with them.
func TestTablesThatAreManagedNoMore(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL+`; CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL)`, tables("users", "notes")...)
	db := mustOpen(t, cfg)
	exec(t, db, `INSERT INTO notes VALUES ('n')`)
	must(t, db.Close())
	fewer := cfg
	fewer.Tables = tables("users")
	_, err := Open(t.Context(), fewer)
	var bad *local.ConfigError
	if !errors.As(err, &bad) || bad.Table != "notes" {
		t.Fatalf("got %v, want a ConfigError about notes", err)
	}
	plain(t, cfg.Path, `UPDATE _sync_apply_state SET apply_mode = 1; DELETE FROM notes; DELETE FROM _sync_dirty_rows`)
	db = mustOpen(t, fewer)
	same(t, "triggers", rows(t, db, `SELECT COUNT(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'notes'`), []string{"0"})
	exec(t, db, `INSERT INTO notes VALUES ('free')`)
	same(t, "dirty", dirty(t, db), []string{})
}

func TestAnotherRemoteSchemaIsRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	db := mustOpen(t, cfg)
	must(t, db.AttachEmpty(t.Context(), "me", "classic"))
	must(t, db.Close())
	other := cfg
	other.Schema = "other"
	var bad *local.ConfigError
	if _, err := Open(t.Context(), other); !errors.As(err, &bad) || bad.Field != "Schema" {
		t.Fatalf("attached: got %v", err)
	}
	plain(t, cfg.Path, `UPDATE _sync_attachment_state SET binding_state = 'anonymous'; INSERT INTO users VALUES ('u', 'U')`)
	if _, err := Open(t.Context(), other); !errors.As(err, &bad) || bad.Field != "Schema" {
		t.Fatalf("unsynced rows: got %v", err)
	}
	plain(t, cfg.Path, `DELETE FROM users; DELETE FROM _sync_dirty_rows`)
	st := state(t, mustOpen(t, other))
	same(t, "attachment", []any{st.Attachment.Binding, st.Attachment.UserID, st.Attachment.Schema}, []any{local.Anonymous, "", ""})
}

func TestOpenIsInterruptible(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	noResidue(t, filepath.Dir(cfg.Path), "app.db")
}

// An application that holds a transaction for too long is named as the cause, and the next try succeeds.
func TestOpenWhileTheApplicationWrites(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	cfg.BusyTimeout = 1
	c, err := sqlite3.Open(cfg.Path)
	must(t, err)
	defer c.Close()
	must(t, c.Exec(`BEGIN IMMEDIATE`))
	_, err = Open(t.Context(), cfg)
	var bad *local.DatabaseError
	if !errors.As(err, &bad) || !bad.Retryable() {
		t.Fatalf("got %v, want a transient DatabaseError", err)
	}
	must(t, c.Exec(`ROLLBACK`))
	reopen(t, cfg)
}

func TestOddPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b.db", "what?.db", "100%.db", "#1.db", "naïve☃.db", "a&b=c;d.db", `back\slash.db`} {
		if runtime.GOOS == "windows" && strings.ContainsAny(name, `?\`) {
			continue
		}
		dir := filepath.Join(t.TempDir(), "dir with space%20")
		must(t, os.Mkdir(dir, 0o700))
		cfg := Config{Path: filepath.Join(dir, name), Schema: "main", Tables: tables("users")}
		plain(t, filepath.Join(dir, "x.db"), usersDDL)
		must(t, os.Rename(filepath.Join(dir, "x.db"), cfg.Path))
		db, err := Open(t.Context(), cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		exec(t, db, `INSERT INTO users VALUES ('u', 'U')`)
		same(t, name, dirty(t, db), []string{`users|{"id":"u"}|INSERT|0|{"id":"u","name":"U"}`})
		must(t, db.Close())
		noResidue(t, dir, name)
	}
}

// The errors of SQLite are told apart by their codes.
func TestDatabaseErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[sqlite3.ErrorCode]struct {
		says      string
		transient bool
	}{
		sqlite3.BUSY: {"busy", true}, sqlite3.LOCKED: {"busy", true}, sqlite3.FULL: {"disk is full", true}, sqlite3.READONLY: {"read-only", false},
		sqlite3.CANTOPEN: {"cannot be opened", false}, sqlite3.NOTADB: {"not an SQLite", false}, sqlite3.CORRUPT: {"damaged", false},
		sqlite3.IOERR: {"disk", true}, sqlite3.NOMEM: {"memory", true}, sqlite3.MISUSE: {"", false},
	} {
		var bad *local.DatabaseError
		err := databaseError("op", "path", code)
		if !errors.As(err, &bad) || bad.Transient != want.transient || !strings.Contains(bad.Reason, want.says) || !errors.Is(err, code) {
			t.Errorf("%v: got %v", code, err)
		}
	}
	for err, says := range map[error]string{os.ErrNotExist: "directory", os.ErrPermission: "read-only"} {
		if got := databaseError("op", "path", &os.PathError{Op: "open", Path: "p", Err: err}); !strings.Contains(got.Error(), says) {
			t.Errorf("%v: got %v", err, got)
		}
	}
	if err := databaseError("op", "path", sqlite3.INTERRUPT); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, err := range []error{context.DeadlineExceeded, local.ErrClosed, &local.ConfigError{}, &local.DatabaseOwnedError{}, sql.ErrTxDone} {
		if got := databaseError("op", "path", err); !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
}
