package contracts

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver"
)

// appSchemas are the application's tables, by the names under which fixtures ask for them.
var appSchemas = map[string]string{
	"users":       usersTable,
	"users-posts": usersTable + `CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL REFERENCES users(id), title TEXT NOT NULL);`,
	"immediate-authors-profiles-cycle": `CREATE TABLE authors (id TEXT PRIMARY KEY NOT NULL, profile_id TEXT NOT NULL REFERENCES profiles(id), name TEXT NOT NULL);
CREATE TABLE profiles (id TEXT PRIMARY KEY NOT NULL, author_id TEXT NOT NULL REFERENCES authors(id), bio TEXT NOT NULL);`,
	"typed-rows": `CREATE TABLE typed_rows (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, note TEXT NULL, count_value INTEGER NULL,
enabled_flag INTEGER NOT NULL, rating REAL NULL, data BLOB NULL, created_at TEXT NULL);`,
}

const usersTable = `CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL);
`

// appTables says what fixtures call the content of a table.
var appTables = map[string]string{"users": "users", "posts": "posts", "authors": "authors", "profiles": "profiles", "typedRows": "typed_rows"}

// plain runs statements over a connection that knows nothing of the engine, each on its own.
func plain(t testing.TB, file string, statements ...string) {
	t.Helper()
	db := openPlain(t, file)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func openPlain(t testing.TB, file string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

// script runs statements in one transaction of the application's with deferred foreign keys, as fixtures mean their SQL;
// in apply mode nothing of it is captured.
func script(ctx context.Context, db *sql.DB, statements []string, applyMode bool) error {
	if len(statements) == 0 {
		return nil
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	all := []string{`PRAGMA defer_foreign_keys = ON`}
	if applyMode {
		all = append(all, `UPDATE _sync_apply_state SET apply_mode = 1 WHERE singleton_key = 1`)
	}
	all = append(all, statements...)
	if applyMode {
		all = append(all, `UPDATE _sync_apply_state SET apply_mode = 0 WHERE singleton_key = 1`)
	}
	for _, s := range all {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return &scriptError{s, err}
		}
	}
	return tx.Commit()
}

type scriptError struct {
	statement string
	err       error
}

func (e *scriptError) Error() string { return e.statement + ": " + e.err.Error() }
func (e *scriptError) Unwrap() error { return e.err }

// statements splits a schema file.
func statements(schema string) []string {
	var kept []string
	for line := range strings.Lines(schema) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			kept = append(kept, line)
		}
	}
	var out []string
	for s := range strings.SplitSeq(strings.Join(kept, ""), ";") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// rowsOf returns what a query finds, a row an object of its columns.
func rowsOf(t testing.TB, db *sql.DB, query string) []object {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	out := []object{}
	for rows.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		o := object{}
		for i, name := range columns {
			o[name] = values[i]
		}
		out = append(out, o)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

// value returns the first column of the first row.
func value(t testing.TB, db *sql.DB, query string) any {
	t.Helper()
	var v any
	if err := db.QueryRowContext(context.Background(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}
