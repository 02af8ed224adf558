package devserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
)

// metaSchema is what the server keeps beside the business tables of a user.
const metaSchema = `
CREATE TABLE _server_scope (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  user_id TEXT NOT NULL,
  state TEXT NOT NULL,                -- uninitialized, initializing, initialized
  lease_id TEXT NOT NULL DEFAULT '',
  lease_source TEXT NOT NULL DEFAULT '',
  lease_expires INTEGER NOT NULL DEFAULT 0, -- Unix nanoseconds
  last_seq INTEGER NOT NULL DEFAULT 0,
  floor INTEGER NOT NULL DEFAULT 0,
  contract TEXT NOT NULL DEFAULT ''   -- the dialect in which bundles are spelled
);
CREATE TABLE _server_source (
  source_id TEXT PRIMARY KEY,
  last_bundle_id INTEGER NOT NULL DEFAULT 0,
  replaced_by TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE _server_bundle (
  seq INTEGER PRIMARY KEY,
  source_id TEXT NOT NULL,
  source_bundle_id INTEGER NOT NULL,
  row_count INTEGER NOT NULL,
  hash TEXT NOT NULL,
  request_hash TEXT NOT NULL DEFAULT '', -- of the push, in the dialect that has one
  UNIQUE (source_id, source_bundle_id)
);
-- Rows as they are sent; id = bundle seq << 24 | ordinal.
CREATE TABLE _server_bundle_row (id INTEGER PRIMARY KEY, row TEXT NOT NULL);
-- The version of every row there ever was, tombstones included.
CREATE TABLE _server_row (
  tab TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  PRIMARY KEY (tab, key)
) WITHOUT ROWID;
-- Staged rows; id = session number << 24 | ordinal.
CREATE TABLE _server_push_row (
  id INTEGER PRIMARY KEY,
  tab TEXT NOT NULL,
  key TEXT NOT NULL,
  op TEXT NOT NULL,
  base INTEGER NOT NULL,
  payload TEXT
);
-- Snapshot rows as they are sent; id = session number << 32 | 1-based ordinal.
CREATE TABLE _server_snapshot_row (id INTEGER PRIMARY KEY, row TEXT NOT NULL);
`

const (
	ordinalBits  = 24
	maxPushRows  = 1<<ordinalBits - 1
	snapshotBits = 32
)

// store is one user's open database: a single connection, used by one goroutine at a time. The same connection is
// reached in two ways: as raw for the server's own work and as sc for transactions of Server.ExecWrite.
type store struct {
	db      *sql.DB
	sc      *sql.Conn
	raw     *sqlite3.Conn
	stmts   map[string]*sqlite3.Stmt
	tables  []*table
	byName  map[string]*table // by SQLite name
	dialect dialect
	capture capture
}

// openStore opens the database behind dsn and creates what is missing in it. fresh asks for the remains of push and
// snapshot sessions to be swept: those of an earlier process are void.
func openStore(dsn, userID, schema string, tables []*table, d dialect, fresh bool) (_ *store, err error) {
	db, err := driver.Open(dsn)
	if err != nil {
		return nil, err
	}
	st := &store{db: db, stmts: map[string]*sqlite3.Stmt{}, tables: tables, byName: map[string]*table{}, dialect: d}
	for _, t := range tables {
		st.byName[t.Name] = t
	}
	defer func() {
		if err != nil {
			_ = st.close()
		}
	}()
	if st.sc, err = db.Conn(context.Background()); err != nil {
		return nil, err
	}
	err = st.sc.Raw(func(c any) error {
		rc, ok := c.(driver.Conn)
		if !ok {
			return fmt.Errorf("devserver: unexpected driver connection %T", c)
		}
		st.raw = rc.Raw()
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err = st.raw.Exec(`PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY`); err != nil {
		return nil, err
	}
	if err = st.tx(func() error { return st.prepareDatabase(userID, schema, fresh) }); err != nil {
		return nil, err
	}
	return st, nil
}

func (st *store) prepareDatabase(userID, schema string, fresh bool) error {
	known, err := query(st.raw, `SELECT name FROM sqlite_schema WHERE name = '_server_scope'`)
	if err != nil {
		return err
	}
	if len(known) == 0 {
		if err := st.raw.Exec(metaSchema + schema); err != nil {
			return err
		}
		return st.run(`INSERT INTO _server_scope (id, user_id, state, contract) VALUES (1, ?, ?, ?)`, userID, stateUninitialized, string(st.dialect.name))
	}
	if err := st.upgrade(); err != nil {
		return err
	}
	spelled, err := query(st.raw, `SELECT contract FROM _server_scope`)
	if err != nil {
		return err
	}
	if len(spelled) == 1 && spelled[0] != string(st.dialect.name) {
		return fmt.Errorf("devserver: the database of user %q was written by a server that speaks the contract %q", userID, spelled[0])
	}
	owner, err := query(st.raw, `SELECT user_id FROM _server_scope`)
	if err != nil {
		return err
	}
	if len(owner) != 1 || owner[0] != userID {
		return fmt.Errorf("devserver: the database of user %q belongs to %q", userID, owner)
	}
	if fresh {
		return st.raw.Exec(`DELETE FROM _server_push_row; DELETE FROM _server_snapshot_row`)
	}
	return nil
}

// upgrade adds what databases of earlier versions lack. Those spoke the classic contract.
func (st *store) upgrade() error {
	has, err := query(st.raw, `SELECT name FROM pragma_table_info('_server_scope') WHERE name = 'contract'`)
	if err != nil || len(has) > 0 {
		return err
	}
	return st.raw.Exec(`ALTER TABLE _server_scope ADD COLUMN contract TEXT NOT NULL DEFAULT 'classic';
ALTER TABLE _server_bundle ADD COLUMN request_hash TEXT NOT NULL DEFAULT ''`)
}

func (st *store) close() error {
	for _, s := range st.stmts {
		_ = s.Close()
	}
	clear(st.stmts)
	var err error
	if st.sc != nil {
		err = st.sc.Close()
	}
	return errors.Join(err, st.db.Close())
}

// stmt returns the kept prepared statement for sql, which must come from a bounded set.
func (st *store) stmt(sql string) (*sqlite3.Stmt, error) {
	if s := st.stmts[sql]; s != nil {
		return s, nil
	}
	s, _, err := st.raw.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", sql, err)
	}
	st.stmts[sql] = s
	return s, nil
}

// each runs a query and hands every row to fn.
func (st *store) each(sql string, fn func(*sqlite3.Stmt) error, args ...any) error {
	s, err := st.stmt(sql)
	if err != nil {
		return err
	}
	defer finish(s)
	for i, a := range args {
		if err := bind(s, i+1, a); err != nil {
			return err
		}
	}
	for s.Step() {
		if fn == nil {
			continue
		}
		if err := fn(s); err != nil {
			return err
		}
	}
	return s.Err()
}

func (st *store) run(sql string, args ...any) error { return st.each(sql, nil, args...) }

// finish readies a kept statement for its next use. Reset repeats the error of the last step, which was seen.
func finish(s *sqlite3.Stmt) {
	_ = s.Reset()
	_ = s.ClearBindings()
}

func bind(s *sqlite3.Stmt, param int, arg any) error {
	switch v := arg.(type) {
	case nil:
		return s.BindNull(param)
	case int64:
		return s.BindInt64(param, v)
	case int:
		return s.BindInt(param, v)
	case bool:
		return s.BindBool(param, v)
	case string:
		return s.BindText(param, v)
	case []byte:
		return s.BindRawText(param, v)
	}
	return fmt.Errorf("devserver: cannot bind a %T", arg)
}

// tx runs fn in a write transaction. Every foreign key is checked when it commits.
func (st *store) tx(fn func() error) (err error) {
	if err := st.raw.Exec(`BEGIN IMMEDIATE; PRAGMA defer_foreign_keys = ON`); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // an error or a panic
			_ = st.raw.Exec(`ROLLBACK`)
		}
	}()
	if err := fn(); err != nil {
		return err
	}
	if err := st.raw.Exec(`COMMIT`); err != nil {
		return err
	}
	done = true
	return nil
}
