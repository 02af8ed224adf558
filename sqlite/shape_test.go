package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// rowsOf returns what a query answers, over a connection of its own.
func rowsOf(t testing.TB, path, query string) (out []string) {
	t.Helper()
	raw, err := sqlite3.Open(path)
	must(t, err)
	c := &conn{raw: raw, stmts: map[string]*sqlite3.Stmt{}}
	_, err = c.each(query, func(s *sqlite3.Stmt) error {
		row := ""
		for i := range s.ColumnCount() {
			row += s.ColumnText(i) + "|"
		}
		out = append(out, row)
		return nil
	})
	must(t, err)
	must(t, c.close())
	return out
}

// Whatever is taken from a database that has been opened is back after the next Open, which looks at the text of the schema
// and at no more than a few rows.
func TestOpenRepairs(t *testing.T) {
	t.Parallel()
	const inOrder = `SELECT type, name, sql FROM sqlite_schema ORDER BY name`
	cfg := testConfig(t, usersDDL, tables("users")...)
	reopen := func(t *testing.T) (db *DB) {
		t.Helper()
		db, err := Open(t.Context(), cfg)
		must(t, err)
		must(t, db.Verify(t.Context()))
		must(t, db.Close())
		return db
	}
	reopen(t)
	schema := rowsOf(t, cfg.Path, inOrder)
	if db := reopen(t); !db.shape.installed {
		t.Fatal("what Open has installed it does not know again")
	}
	check := func(what, damage string) {
		t.Run(what, func(t *testing.T) {
			plain(t, cfg.Path, damage)
			reopen(t)
			same(t, "schema", rowsOf(t, cfg.Path, inOrder), schema)
			for _, table := range []string{"_sync_attachment_state", "_sync_operation_state", "_sync_outbox_bundle", "_sync_apply_state"} {
				same(t, table, rowsOf(t, cfg.Path, `SELECT singleton_key FROM `+table), []string{"1|"})
			}
			same(t, "apply mode", rowsOf(t, cfg.Path, `SELECT apply_mode FROM _sync_apply_state`), []string{"0|"})
			same(t, "source", rowsOf(t, cfg.Path, `SELECT count(*) FROM _sync_attachment_state WHERE current_source_id <> ''`), []string{"1|"})
			same(t, "managed", rowsOf(t, cfg.Path, `SELECT table_name FROM _sync_managed_tables`), []string{"users|"})
		})
	}
	dropped := 0
	for _, object := range schema {
		kind, name, _ := strings.Cut(object, "|")
		name, _, _ = strings.Cut(name, "|")
		if strings.HasPrefix(name, "sqlite_") || name == "users" || kind == "table" && !slices.Contains(ownTables, name) {
			continue
		}
		dropped++
		check("without "+name, `DROP `+kind+` `+quote(name))
	}
	if want := len(ownTables) + len(captureObjects) + len(triggerSuffixes) + 2; dropped != want {
		t.Errorf("%d objects, not %d", dropped, want)
	}
	for _, table := range []string{"_sync_operation_state", "_sync_outbox_bundle", "_sync_apply_state"} {
		check("without a row in "+table, `DELETE FROM `+table)
	}
	check("without an attachment", `DELETE FROM _sync_attachment_state; DELETE FROM _sync_source_state`)
	check("apply mode", `UPDATE _sync_apply_state SET apply_mode = 1`)
	check("not managed", `DELETE FROM _sync_managed_tables`)
	check("a trigger of a table that is no longer managed", `CREATE TRIGGER trg_gone_ai AFTER INSERT ON users BEGIN INSERT INTO _sync_base_rows VALUES ('', '', '', ''); END`)
	check("another capture", `CREATE VIEW _sync_capture_former AS SELECT 1`)
	check("bound although anonymous", `UPDATE _sync_attachment_state SET last_bundle_seq_seen = 7`)
	same(t, "checkpoint", rowsOf(t, cfg.Path, `SELECT last_bundle_seq_seen FROM _sync_attachment_state`), []string{"0|"})
}

// Databases of one schema share what follows from it, and a schema that is nearly the same is told from it.
func TestShapes(t *testing.T) {
	t.Parallel()
	open := func(ddl, schema string, names ...string) (*DB, error) {
		cfg := testConfig(t, ddl, tables(names...)...)
		cfg.Schema = schema
		db, err := Open(t.Context(), cfg)
		if err == nil {
			t.Cleanup(func() { must(t, db.Close()) })
		}
		return db, err
	}
	first, err := open(usersDDL, "main", "users")
	must(t, err)
	again, err := open(usersDDL, "main", "users")
	must(t, err)
	if first.tables[0] != again.tables[0] {
		t.Error("a schema was read twice")
	}
	other, err := open(usersDDL, "other", "users")
	must(t, err)
	wider, err := open(strings.Replace(usersDDL, ")", ", age INTEGER)", 1), "main", "users")
	must(t, err)
	if got := []string{first.tables[0].Schema, other.tables[0].Schema}; !slices.Equal(got, []string{"main", "other"}) {
		t.Error(got)
	}
	if a, b := len(first.tables[0].Columns), len(wider.tables[0].Columns); a+1 != b {
		t.Error(a, b)
	}
	var bad *local.ConfigError
	if _, err := open(usersDDL+`; CREATE TABLE child (id TEXT PRIMARY KEY NOT NULL, user TEXT REFERENCES users)`, "main", "child"); !errors.As(err, &bad) {
		t.Error(err)
	}
	for i := range maxShapes + 1 { // as many as come are read, and no more are kept
		_, err := open(usersDDL, fmt.Sprint("schema", i), "users")
		must(t, err)
	}
	shapes.Lock()
	defer shapes.Unlock()
	if n := len(shapes.of); n > maxShapes {
		t.Error(n)
	}
}

// An Open that finds everything in order leaves its connection to whoever comes next.
func TestOpenKeepsItsConnection(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	cfg.RestAfter = -1
	for i := range 2 {
		db := mustOpen(t, cfg)
		if open := db.conn.raw != nil; open != (i > 0) {
			t.Errorf("Open %d: the connection is open: %v", i, open)
		}
		if i > 0 {
			same(t, "synchronous", pragma(t, db, "synchronous"), "1")
		}
		must(t, db.Close())
	}
}

func pragma(t *testing.T, db *DB, name string) (value string) {
	t.Helper()
	_, err := db.conn.one(`PRAGMA `+name, func(s *sqlite3.Stmt) error {
		value = s.ColumnText(0)
		return nil
	})
	must(t, err)
	return value
}
