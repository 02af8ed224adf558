package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/local"
)

// Every refused configuration names the place and the remedy, and leaves the file exactly as it was.
func TestOpenRefusesWhatCannotBeSynced(t *testing.T) {
	t.Parallel()
	const posts = `; CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL REFERENCES users(id))`
	for name, c := range map[string]struct {
		ddl    string
		config func(*Config)
		says   []string
	}{
		"no path":            {usersDDL, func(c *Config) { c.Path = "" }, []string{"Path"}},
		"in memory":          {usersDDL, func(c *Config) { c.Path = ":memory:" }, []string{"Path", "file on disk"}},
		"uri":                {usersDDL, func(c *Config) { c.Path = "file:x.db" }, []string{"Path"}},
		"no schema":          {usersDDL, func(c *Config) { c.Schema = " " }, []string{"Schema"}},
		"nul in schema":      {usersDDL, func(c *Config) { c.Schema = "a\x00b" }, []string{"Schema", "NUL"}},
		"synchronous":        {usersDDL, func(c *Config) { c.Synchronous = "OFF" }, []string{"Synchronous"}},
		"busy timeout":       {usersDDL, func(c *Config) { c.BusyTimeout = -1 }, []string{"BusyTimeout"}},
		"no tables":          {usersDDL, func(c *Config) { c.Tables = nil }, []string{"Tables", "at least one"}},
		"blank table":        {usersDDL, func(c *Config) { c.Tables[0].Name = " " }, []string{"blank"}},
		"qualified":          {usersDDL, func(c *Config) { c.Tables[0].Name = "main.users" }, []string{"must not include a schema qualifier"}},
		"private":            {usersDDL + `; CREATE TABLE _sync_mine (id TEXT PRIMARY KEY NOT NULL)`, func(c *Config) { c.Tables[0].Name = "_Sync_mine" }, []string{"_sync_"}},
		"duplicate":          {usersDDL, func(c *Config) { c.Tables = append(c.Tables, TableConfig{"USERS", "id"}) }, []string{"duplicate table"}},
		"no key":             {usersDDL, func(c *Config) { c.Tables[0].Key = "" }, []string{"users", "syncKeyColumnName or syncKeyColumns explicitly"}},
		"two keys":           {usersDDL, func(c *Config) { c.Tables[0].Key = "id,name" }, []string{"must declare exactly one sync key column"}},
		"no such table":      {usersDDL, func(c *Config) { c.Tables[0].Name = "people" }, []string{"people", "does not exist"}},
		"no such column":     {usersDDL, func(c *Config) { c.Tables[0].Key = "uid" }, []string{"does not contain configured primary key column uid"}},
		"not the key":        {usersDDL, func(c *Config) { c.Tables[0].Key = "name" }, []string{"name", "is not the primary key"}},
		"view":               {usersDDL + `; CREATE VIEW people AS SELECT * FROM users`, func(c *Config) { c.Tables[0].Name = "people" }, []string{"people", "view"}},
		"no primary key":     {`CREATE TABLE users (id TEXT NOT NULL)`, nil, []string{"exactly one primary key column"}},
		"composite":          {`CREATE TABLE users (id TEXT NOT NULL, b TEXT NOT NULL, PRIMARY KEY (id, b))`, nil, []string{"exactly one primary key column"}},
		"integer":            {`CREATE TABLE users (id INTEGER PRIMARY KEY NOT NULL)`, nil, []string{"TEXT PRIMARY KEY or BLOB PRIMARY KEY"}},
		"numeric affinity":   {`CREATE TABLE users (id UUID PRIMARY KEY NOT NULL)`, nil, []string{"TEXT PRIMARY KEY or BLOB PRIMARY KEY"}},
		"no type":            {`CREATE TABLE users (id PRIMARY KEY NOT NULL)`, nil, []string{"TEXT PRIMARY KEY or BLOB PRIMARY KEY"}},
		"nullable":           {`CREATE TABLE users (id TEXT PRIMARY KEY)`, nil, []string{"users", "id", "NOT NULL", "repair or recreate the local application database before sync initialization"}},
		"collation":          {`CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL COLLATE NOCASE)`, nil, []string{"users", "id", "NOCASE", "BINARY"}},
		"generated key":      {`CREATE TABLE users (a TEXT, x TEXT PRIMARY KEY NOT NULL, id TEXT AS (a))`, nil, []string{"id", "is generated"}},
		"scope column":       {`CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, _sync_scope_id TEXT)`, nil, []string{"reserved server column _sync_scope_id"}},
		"folded columns":     {`CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, "é" TEXT, "É" TEXT)`, nil, []string{"lower case"}},
		"not closed":         {usersDDL + posts, func(c *Config) { c.Tables = tables("posts") }, []string{"managed tables are not FK-closed: posts.user_id -> users.id"}},
		"not closed, no key": {usersDDL + `; CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, u TEXT REFERENCES users)`, func(c *Config) { c.Tables = tables("posts") }, []string{"managed tables are not FK-closed: posts.u -> users"}},
		"composite reference": {`CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, a TEXT, UNIQUE (id, a));
CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, b TEXT, FOREIGN KEY (id, b) REFERENCES users(id, a))`, func(c *Config) { c.Tables = tables("users", "posts") }, []string{"unsupported composite foreign keys", "posts -> users"}},
		"reference to nothing":  {usersDDL + `; CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, u TEXT REFERENCES users(uid))`, func(c *Config) { c.Tables = tables("users", "posts") }, []string{"users.uid"}},
		"schema in no encoding": {usersDDL, func(c *Config) { c.Schema = "m\xff" }, []string{"Schema", "UTF-8"}},
		"table in no encoding":  {"CREATE TABLE \"t\xff\" (id TEXT PRIMARY KEY NOT NULL)", func(c *Config) { c.Tables = tables("t\xff") }, []string{"UTF-8", "rename"}},
		"column in no encoding": {"CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, \"n\xff\" TEXT)", nil, []string{"users", "UTF-8", "rename"}},
		"folded tables":         {`CREATE TABLE "é" (id TEXT PRIMARY KEY NOT NULL); CREATE TABLE "É" (x)`, func(c *Config) { c.Tables = tables("é") }, []string{"é", "É", "lower case"}},
		"trigger name":          {usersDDL + `; CREATE TRIGGER TRG_users_ai AFTER INSERT ON users BEGIN SELECT 1; END`, nil, []string{"users", "trg_users_ai", "rename"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, c.ddl, tables("users")...)
			path := cfg.Path
			if c.config != nil {
				c.config(&cfg)
			}
			before := dumpFile(t, path)
			bytes, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			db, err := Open(t.Context(), cfg)
			if err == nil {
				_ = db.Close()
				t.Fatal("was opened")
			}
			var bad *local.ConfigError
			if !errors.As(err, &bad) || bad.Retryable() {
				t.Fatalf("got %v, want a ConfigError", err)
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(bytes) != string(after) {
				t.Error("the file has changed")
			}
			same(t, "content", dumpFile(t, path), before)
			noResidue(t, filepath.Dir(path), "app.db")
		})
	}
}

// noResidue fails the test when dir holds anything but the files named.
func noResidue(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("left behind: %v, want %v", got, names)
	}
}

func TestOpenOfNoFileLeavesNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Open(t.Context(), Config{Path: filepath.Join(dir, "new.db"), Schema: "main", Tables: tables("users")})
	var bad *local.ConfigError
	if !errors.As(err, &bad) || bad.Table != "users" {
		t.Fatalf("got %v, want a ConfigError about users", err)
	}
	noResidue(t, dir)
}

// A file that cannot be a database is told apart from a wrong configuration.
func TestOpenOfUnusableFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		text:                               "not an SQLite database",
		filepath.Join(dir, "no", "app.db"): "directory",
		filepath.Join(dir):                 "cannot be opened",
	} {
		_, err := Open(t.Context(), Config{Path: path, Schema: "main", Tables: tables("users")})
		var bad *local.DatabaseError
		if !errors.As(err, &bad) || bad.Operation != "open" || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want a DatabaseError that says %q", path, err, says)
		}
	}
	noResidue(t, dir, "text.db")
}

// Private tables that somebody edited are refused with the table's name, and stay as they are.
func TestOpenRefusesGarbageInMetadata(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, table string }{
		"binding":         {`PRAGMA ignore_check_constraints = 1; UPDATE _sync_attachment_state SET binding_state = 'perhaps'`, "_sync_attachment_state"},
		"checkpoint":      {`UPDATE _sync_attachment_state SET last_bundle_seq_seen = -1`, "_sync_attachment_state"},
		"checkpoint text": {`UPDATE _sync_attachment_state SET last_bundle_seq_seen = 'many'`, "_sync_attachment_state"},
		"rebuild":         {`UPDATE _sync_attachment_state SET rebuild_required = 2`, "_sync_attachment_state"},
		"nobody":          {`UPDATE _sync_attachment_state SET binding_state = 'attached'`, "_sync_attachment_state"},
		"blank source":    {`INSERT INTO users VALUES ('u', 'n'); UPDATE _sync_attachment_state SET current_source_id = ''`, "_sync_attachment_state"},
		"odd source":      {`UPDATE _sync_attachment_state SET current_source_id = 'a b'`, "_sync_attachment_state"},
		"unknown source":  {`DELETE FROM _sync_source_state`, "_sync_attachment_state"},
		"source number":   {`UPDATE _sync_source_state SET next_source_bundle_id = 0`, "_sync_source_state"},
		"source name":     {`INSERT INTO _sync_source_state (source_id) VALUES ('ü')`, "_sync_source_state"},
		"operation":       {`PRAGMA ignore_check_constraints = 1; UPDATE _sync_operation_state SET kind = 'dance'`, "_sync_operation_state"},
		"replace nobody":  {`UPDATE _sync_operation_state SET kind = 'remote_replace'`, "_sync_operation_state"},
		"stage":           {`UPDATE _sync_operation_state SET snapshot_row_count = -3`, "_sync_operation_state"},
		"stage flag":      {`UPDATE _sync_operation_state SET snapshot_stage_complete = 'yes'`, "_sync_operation_state"},
		"outbox":          {`PRAGMA ignore_check_constraints = 1; UPDATE _sync_outbox_bundle SET state = 'sent'`, "_sync_outbox_bundle"},
		"outbox number":   {`UPDATE _sync_outbox_bundle SET remote_bundle_seq = -1`, "_sync_outbox_bundle"},
		"outbox source":   {`UPDATE _sync_outbox_bundle SET state = 'prepared'`, "_sync_outbox_bundle"},
		"outbox proof":    {`UPDATE _sync_outbox_bundle SET state = 'committed_remote', source_id = 's', source_bundle_id = 1`, "_sync_outbox_bundle"},
		"outbox rows":     {`UPDATE _sync_outbox_bundle SET row_count = 1`, "_sync_outbox_bundle"},
		"missing table":   {`DROP TABLE _sync_row_state`, "_sync_row_state"},
		"older outbox": {`DROP TABLE _sync_outbox_bundle; CREATE TABLE _sync_outbox_bundle (singleton_key INTEGER NOT NULL PRIMARY KEY, state TEXT,
source_id TEXT, source_bundle_id INTEGER, initialization_id TEXT, canonical_request_hash TEXT, row_count INTEGER, remote_bundle_hash TEXT, remote_bundle_seq INTEGER)`, "_sync_outbox_bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, usersDDL, tables("users")...)
			reopen(t, cfg)
			plain(t, cfg.Path, c.sql)
			before := dumpFile(t, cfg.Path)
			_, err := Open(t.Context(), cfg)
			var bad *local.DatabaseError
			if !errors.As(err, &bad) || bad.Table != c.table || bad.Reason == "" {
				t.Fatalf("got %v, want a DatabaseError about %s", err, c.table)
			}
			if name == "older outbox" && !strings.Contains(err.Error(), "canonical_json_contract") {
				t.Errorf("%v does not name the column", err)
			}
			same(t, "content", dumpFile(t, cfg.Path), before)
		})
	}
}

// reopen opens and closes a database.
func reopen(t testing.TB, cfg Config) {
	t.Helper()
	db, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A private table of the application's is not ours, whatever its name.
func TestApplicationTablesWithOurPrefixStay(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL+`; CREATE TABLE _sync_audit_log (id INTEGER PRIMARY KEY, message TEXT); INSERT INTO _sync_audit_log VALUES (1, 'keep me')`, "users")
	if err := db.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "log", rows(t, db, `SELECT message FROM _sync_audit_log`), []string{"keep me"})
}
