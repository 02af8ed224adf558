package sqlite

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/goleak"

	"github.com/oversqlite/oversqlite/internal/race"
)

func TestMain(m *testing.M) {
	if os.Getenv(ownerChildEnv) != "" {
		ownerChild() // does not return
	}
	race.FewProperties(10)
	goleak.VerifyTestMain(m)
}

// usersDDL is the smallest useful schema.
const usersDDL = `CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL)`

// businessDDL is a schema with everything that makes syncing hard: chains, cycles and self-references of foreign
// keys, cascades, BLOB keys and every column kind.
const businessDDL = `
CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, email TEXT NOT NULL,
  created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, title TEXT NOT NULL, content TEXT NOT NULL,
  author_id TEXT REFERENCES users(id) DEFERRABLE INITIALLY DEFERRED,
  created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE categories (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL,
  parent_id TEXT REFERENCES categories(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE teams (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL,
  captain_member_id TEXT REFERENCES team_members(id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE team_members (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL,
  team_id TEXT NOT NULL REFERENCES teams(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE files (id BLOB PRIMARY KEY NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE file_reviews (id BLOB PRIMARY KEY NOT NULL, review TEXT NOT NULL,
  file_id BLOB NOT NULL REFERENCES files(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE typed_rows (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, note TEXT NULL, count_value INTEGER NULL,
  small_count INTEGER NULL, medium_count INTEGER NULL, exact_amount TEXT NULL, enabled_flag INTEGER NOT NULL,
  rating REAL NULL, float4_value REAL NULL, data BLOB NULL, created_at TEXT NULL)`

// businessTables are the tables of businessDDL, all with the key id.
var businessTables = []string{"users", "posts", "categories", "teams", "team_members", "files", "file_reviews", "typed_rows"}

// tables configures tables by name, each with the key id.
func tables(names ...string) []TableConfig {
	var out []TableConfig
	for _, n := range names {
		out = append(out, TableConfig{Name: n, Key: "id"})
	}
	return out
}

// testConfig makes a database file with the given schema and returns a configuration for it: schema main,
// synchronous NORMAL.
func testConfig(t testing.TB, ddl string, tableConfigs ...TableConfig) Config {
	t.Helper()
	cfg := Config{Path: filepath.Join(t.TempDir(), "app.db"), Schema: "main", Tables: tableConfigs, Synchronous: "NORMAL"}
	plain(t, cfg.Path, ddl)
	return cfg
}

// plain executes SQL on a file over a connection that is not the engine's nor of its pool, and closes it.
func plain(t testing.TB, path string, script string) {
	t.Helper()
	c, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Exec(script); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// mustOpen opens a database that the end of the test closes.
func mustOpen(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// testDB opens a new database with the given schema; the tables have the key id.
func testDB(t testing.TB, ddl string, names ...string) *DB {
	t.Helper()
	return mustOpen(t, testConfig(t, ddl, tables(names...)...))
}

// businessDB opens a new database with the business schema.
func businessDB(t testing.TB) *DB {
	t.Helper()
	cfg := testConfig(t, businessDDL, tables(businessTables...)...)
	cfg.Schema = "business"
	return mustOpen(t, cfg)
}

// exec executes the application's SQL.
func exec(t testing.TB, db *DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.App().ExecContext(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// inTx executes the application's statements in one transaction.
func inTx(t testing.TB, db *DB, statements ...string) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		for _, s := range statements {
			if _, err := tx.ExecContext(t.Context(), s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// asServer executes SQL on the engine's connection in apply mode: as if a pull had done it. Row state is the caller's.
func asServer(t testing.TB, db *DB, statements ...string) {
	t.Helper()
	err := db.applying(t.Context(), "test", func() error {
		for _, s := range statements {
			if err := db.conn.raw.Exec(s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// serverRow puts a row that the server has at version into the table, with its row state. values is the SQL list of
// the row's values, the key first, e.g. `'u1', 'Ada'`.
func serverRow(t testing.TB, db *DB, table, values string, version int64) {
	t.Helper()
	tb := db.byName[table]
	asServer(t, db,
		`INSERT OR REPLACE INTO `+quote(tb.local)+` VALUES (`+values+`)`,
		fmt.Sprintf(`INSERT OR REPLACE INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted)
SELECT '%s', '%s', %s, %d, 0 FROM %s AS r ORDER BY r.rowid DESC LIMIT 1`, tb.Schema, tb.Name, tb.keyJSON("r"), version, quote(tb.local)))
}

// rows answers a query as text, a line a row, columns separated by "|", NULL as "∅", blobs as x'…'.
func rows(t testing.TB, db *DB, query string, args ...any) []string {
	t.Helper()
	r, err := db.App().QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer r.Close()
	columns, err := r.Columns()
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for r.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := r.Scan(values...); err != nil {
			t.Fatal(err)
		}
		line := make([]string, len(columns))
		for i, v := range values {
			switch v := (*v.(*any)).(type) {
			case nil:
				line[i] = "∅"
			case []byte:
				line[i] = fmt.Sprintf("x'%x'", v)
			default:
				line[i] = fmt.Sprint(v)
			}
		}
		out = append(out, strings.Join(line, "|"))
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// dirty answers the dirty rows in order: table, key, op, base, payload.
func dirty(t testing.TB, db *DB) []string {
	t.Helper()
	return rows(t, db, `SELECT table_name, key_json, op, base_row_version, payload FROM _sync_dirty_rows ORDER BY dirty_ordinal, table_name, key_json`)
}

// number answers a query with one integer.
func number(t testing.TB, db *DB, query string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := db.App().QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// dump answers the whole content of the tables, business or private, for comparing two states.
func dump(t testing.TB, db *DB, names ...string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, n := range names {
		out[n] = rows(t, db, `SELECT * FROM `+quote(n)+` ORDER BY 1`)
	}
	return out
}

// dumpFile answers everything in a file as text: schema and content, without opening an engine.
func dumpFile(t testing.TB, path string) map[string][]string {
	t.Helper()
	c, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out := map[string][]string{}
	read := func(name, sql string) {
		s, _, err := c.Prepare(sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		defer s.Close()
		for s.Step() {
			var line []string
			for i := range s.ColumnCount() {
				line = append(line, s.ColumnText(i))
			}
			out[name] = append(out[name], strings.Join(line, "|"))
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
	read("sqlite_schema", `SELECT type, name, sql FROM sqlite_schema ORDER BY type, name`)
	read("", `SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'`)
	names := out[""]
	delete(out, "")
	for _, name := range names {
		read(name, `SELECT * FROM `+ident(name)+` ORDER BY 1`)
	}
	return out
}

// same fails the test when got and want differ.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func goexit() { runtime.Goexit() }

func numGoroutine() int { return runtime.NumGoroutine() }

func freeMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}

// ask answers the first column of the first row, as text.
func ask(t *testing.T, path, sql string) string {
	t.Helper()
	c, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, _, err := c.Prepare(sql)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.Step() {
		t.Fatalf("%s: no row: %v", sql, s.Err())
	}
	return s.ColumnText(0)
}
