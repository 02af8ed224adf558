package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
)

// inspection is a read transaction on a database file that somebody else may have open. It never writes, creates
// nothing but SQLite's own shared-memory file, and sees one consistent state.
type inspection struct {
	db     *sql.DB
	tx     *sql.Tx
	tables map[string]bool // names of all tables
}

// inspect opens a database file for looking at it.
func inspect(ctx context.Context, path string) (*inspection, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &usageError{problem: fmt.Sprintf("%s: there is no such file", path)}
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, &usageError{problem: fmt.Sprintf("%s is a folder", path), hint: "Name the database file in it."}
	}
	in, err := openReadOnly(ctx, path, "")
	// A database in WAL mode on read-only media has no place for its shared memory. Without a log beside it, nobody
	// can be writing to it either.
	if errors.Is(err, sqlite3.CANTOPEN) && empty(path+"-wal") {
		in, err = openReadOnly(ctx, path, "&immutable=1")
	}
	if errors.Is(err, sqlite3.NOTADB) {
		return nil, &usageError{problem: fmt.Sprintf("%s is no SQLite database", path)}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return in, nil
}

// empty reports whether a file holds nothing or is not there.
func empty(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Size() == 0
}

func openReadOnly(ctx context.Context, path, more string) (in *inspection, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite3", fileURI(path)+"?mode=ro&_pragma=busy_timeout(5000)"+more)
	if err != nil {
		return nil, err
	}
	in = &inspection{db: db, tables: map[string]bool{}}
	defer func() {
		if err != nil {
			in.close()
			in = nil
		}
	}()
	if in.tx, err = db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}); err != nil {
		return in, err
	}
	return in, in.each(ctx, `SELECT name FROM sqlite_schema WHERE type = 'table'`, func(rows *sql.Rows) error {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		in.tables[name] = true
		return nil
	})
}

// fileURI is SQLite's name of the file at an absolute path, to which parameters can be added.
func fileURI(path string) string {
	path = filepath.ToSlash(path)
	if path[0] != '/' {
		path = "/" + path // C:/…
	}
	return "file://" + (&url.URL{Path: path}).EscapedPath()
}

func (in *inspection) close() {
	if in.tx != nil {
		_ = in.tx.Rollback()
	}
	_ = in.db.Close()
}

// synced reports whether an engine ever opened the database.
func (in *inspection) synced() bool { return in.tables["_sync_attachment_state"] }

// each calls fn for every row of a query.
func (in *inspection) each(ctx context.Context, query string, fn func(*sql.Rows) error) error {
	rows, err := in.tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one reads a query's only row; dest stays as it is when there is none, or when the table it needs is not there.
func (in *inspection) one(ctx context.Context, table, query string, dest ...any) error {
	if !in.tables[table] {
		return nil
	}
	err := in.tx.QueryRowContext(ctx, query).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// managed returns the synced tables with their sync keys, by name.
func (in *inspection) managed(ctx context.Context) (schema string, keys map[string]string, err error) {
	keys = map[string]string{}
	if !in.tables["_sync_managed_tables"] {
		return "", keys, nil
	}
	err = in.each(ctx, `SELECT m.schema_name, m.table_name, p.name FROM _sync_managed_tables m, pragma_table_info(m.table_name) p WHERE p.pk = 1`,
		func(rows *sql.Rows) error {
			var table, key string
			if err := rows.Scan(&schema, &table, &key); err != nil {
				return err
			}
			keys[table] = key
			return nil
		})
	return schema, keys, err
}

// errNotSynced is a file that no engine has opened yet.
func errNotSynced(path string) error {
	return &usageError{
		problem: fmt.Sprintf("%s has no sync state: no oversqlite engine has ever opened it", path),
		hint:    "Name the database of a synced application, or sync this one first: oversqlite sync --help.",
	}
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
