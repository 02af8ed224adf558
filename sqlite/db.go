package sqlite

import (
	"context"
	"database/sql"
	"time"

	"go.uber.org/zap"
)

// Config says what to open and what is to be synced.
type Config struct {
	Path   string // database file, created if absent
	Schema string // remote schema name of every managed table
	Tables []TableConfig
	// Synchronous of the application's connections: "FULL" (default) or "NORMAL".
	Synchronous string
	// BusyTimeout is how long a transaction of ours waits for one of the application's. Defaults to 10 s.
	BusyTimeout time.Duration
	Logger      *zap.Logger // nil: silent
}

// TableConfig names a managed table and its sync key.
type TableConfig struct {
	Name string
	Key  string
}

// DB is an open local database. See the package comment for who may call what.
type DB struct {
	cfg    Config
	log    *zap.Logger
	conn   *conn
	app    *sql.DB
	tables []*table          // parents first
	byName map[string]*table // by lower-case name
	// gate serialises our transactions with those of Write. Capacity 1; a token in it is the right to write.
	gate chan struct{}
}

// durability says whether a transaction must be on disk before write returns.
type durability bool

const (
	// relaxed: a power cut may take the transaction back (never tear it); every state that leaves is one that
	// recovery handles.
	relaxed durability = false
	// durable: what was written is named in a request that is sent next.
	durable durability = true
)

// write runs fn in one transaction of the engine's connection, serialised with Write. op names it in errors.
func (db *DB) write(ctx context.Context, op string, d durability, fn func() error) error {
	select {
	case db.gate <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-db.gate }()
	if d == durable {
		// synchronous cannot change inside a transaction.
		if err := db.conn.raw.Exec(`PRAGMA synchronous=FULL`); err != nil {
			return db.fail(op, err)
		}
		defer func() { _ = db.conn.raw.Exec(`PRAGMA synchronous=NORMAL`) }()
	}
	return db.fail(op, db.conn.tx(ctx, fn))
}

// applying is write with the capture triggers switched off for the length of the transaction.
func (db *DB) applying(ctx context.Context, op string, fn func() error) error {
	return db.write(ctx, op, relaxed, func() error {
		if err := db.conn.run(`UPDATE _sync_apply_state SET apply_mode = 1`); err != nil {
			return err
		}
		if err := fn(); err != nil {
			return err
		}
		return db.conn.run(`UPDATE _sync_apply_state SET apply_mode = 0`)
	})
}
