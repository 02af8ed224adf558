package sqlite

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite/local"
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
	// RestAfter is how long the engine's connection stays open unused. Defaults to 1 s; negative: until Close.
	RestAfter time.Duration
	// NewID makes source ids. Defaults to random UUIDs.
	NewID func() string
	// Now is the clock of what is noted with rows. Defaults to time.Now.
	Now func() time.Time
	// Report is told of an error that no caller is there for: of a connection that closes by itself, or after another error.
	// It may be called from any goroutine. Nil: nobody is told.
	Report func(operation string, err error)
	// Committed, unless nil, is called for every transaction that the application commits over App or Write, and by a
	// State that came too early for one. It is a wake-up, no more: once State has been read after the last call, nothing
	// that was committed has been missed. The transaction is not visible yet when it is called, and may fail even now; one
	// that found nothing to change is told of, too.
	//
	// It runs inside SQLite, on the goroutine that commits or reads the state, at times on several at once: it must not
	// block, panic, or call anything of this package. It is not called any more once Close has returned.
	Committed func()
}

// withDefaults fills what was left out.
func (c Config) withDefaults() Config {
	if c.Synchronous == "" {
		c.Synchronous = "FULL"
	}
	if c.BusyTimeout == 0 {
		c.BusyTimeout = defaultBusyTimeout
	}
	if c.RestAfter == 0 {
		c.RestAfter = restAfter
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// TableConfig names a managed table and its sync key.
type TableConfig struct {
	Name string
	Key  string
}

// DB is an open local database. See the package comment for who may call what.
type DB struct {
	cfg    Config
	owner  *owner
	conn   *conn // open while it is held
	rest   resting
	opened bool              // Open has succeeded
	shape  *shape            // of the schema as Open found it
	tables []*table          // parents first
	byName map[string]*table // by lower-case name
	// watched are the tables with triggers of the application's, as of a version of the schema.
	watched struct {
		tables  map[*table]bool
		version int64
	}

	// gate serialises our transactions with those of Write. Capacity 1; a token in it is the right to write.
	gate chan struct{}
	// mayCommit lets the connection of Write commit. It belongs to whoever is in the gate.
	mayCommit bool
	commits   commits
	glance    glance
	wall      func() time.Time // what the file system's times are compared with
	version   uint64           // counts the looks after which another connection may have committed

	life      *life
	closeOnce sync.Once
	closeErr  error
	// uninstalled is set when there is nothing left for operations to work on.
	uninstalled atomic.Bool

	poolsOnce sync.Once
	appPools  atomic.Pointer[appPools] // nil until the application first asks for a connection
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

// enter waits for the right to write and keeps the database open until the returned function is called.
func (db *DB) enter(ctx context.Context) (leave func(), err error) {
	if err := db.begin(); err != nil {
		return nil, err
	}
	select {
	case db.gate <- struct{}{}:
		return func() { <-db.gate; db.life.end() }, nil
	case <-db.life.done:
		err = local.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	db.life.end()
	return nil, err
}

// begin counts an operation. After Uninstall there is nothing left for any to work on.
func (db *DB) begin() error {
	if db.uninstalled.Load() {
		return local.ErrClosed
	}
	return db.life.begin()
}

// write runs fn in one transaction of the engine's connection, serialised with Write. op names it in errors.
func (db *DB) write(ctx context.Context, op string, d durability, fn func() error) error {
	leave, err := db.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	release, err := db.hold(ctx)
	if err != nil {
		return db.failCtx(ctx, op, err)
	}
	defer release()
	if !keepsSight[op] { // as far as lastBlind knows
		clear(db.conn.sees)
	}
	if d == durable {
		// synchronous cannot change inside a transaction.
		if err := db.conn.raw.Exec(`PRAGMA synchronous=FULL`); err != nil {
			return db.fail(op, err)
		}
		defer func() { _ = db.conn.raw.Exec(`PRAGMA synchronous=NORMAL`) }()
	}
	return db.failCtx(ctx, op, db.conn.tx(ctx, op, fn))
}

// read runs fn, which must not write, in one read transaction of the engine's connection: everything it sees belongs
// together. It does not wait for the application's writes.
func (db *DB) read(ctx context.Context, op string, fn func() error) error {
	release, err := db.hold(ctx)
	if err != nil {
		return db.failCtx(ctx, op, err)
	}
	defer release()
	return db.failCtx(ctx, op, db.conn.view(ctx, fn))
}

// Close waits for the operation that runs, if any, and releases everything: connections, memory, the file and its
// ownership. Operations that wait for their turn, and later ones, get local.ErrClosed. It may be called more than
// once and from any goroutine, except from inside the function given to Write.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.life.finish()
		var errs []error
		if pools := db.appPools.Load(); pools != nil {
			errs = append(errs, pools.close())
		}
		errs = append(errs, db.sleep(), db.owner.release())
		if err := errors.Join(errs...); err != nil {
			db.closeErr = databaseError("close", db.owner.path, err)
		}
	})
	return db.closeErr
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
