package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
	sqlitedriver "github.com/ncruces/go-sqlite3/driver"

	"github.com/oversqlite/oversqlite/internal/failpoint"
)

const (
	// appIdleTime is how long a connection of the application's stays open unused. It holds half a megabyte or more,
	// and opening one costs about a millisecond.
	appIdleTime  = 30 * time.Second
	appIdleConns = 4

	// appPragmas set up a connection of the application's. recursive_triggers makes REPLACE fire the delete triggers of
	// the rows it evicts, without which their deletion would not be captured. The cache keeps captured rows with random
	// keys from being written to the log and read back within one large transaction; it grows with use only.
	appPragmas = `PRAGMA foreign_keys = ON;
PRAGMA recursive_triggers = ON;
PRAGMA cache_size = -20000;
PRAGMA journal_size_limit = 4194304;
`
	// writePragmas are for the connection of Write alone. SQLite notes the pages that a statement with triggers changes,
	// to be able to undo it, in a file as soon as one statement in the transaction has changed many: a quarter of the
	// time of a large one. In memory it also sorts in memory, which an application's arbitrary query must not.
	writePragmas = `PRAGMA temp_store = MEMORY;
`
)

// App returns the application's connections. Writes over any of them are captured. Foreign keys are enforced,
// transactions begin IMMEDIATE, and a lock that the engine holds is waited for, up to a minute. No connection is
// opened before the first use, and unused ones are closed after a while. It is closed by Close. The commit hook of
// every connection is the engine's.
func (db *DB) App() *sql.DB { return db.pools().app }

// pools makes the application's connection pools on first use: an engine that only syncs has none.
func (db *DB) pools() *appPools {
	db.poolsOnce.Do(func() {
		pools := &appPools{app: db.pool("", nil), write: db.pool(writePragmas, func() bool { return db.mayCommit })}
		pools.app.SetMaxIdleConns(appIdleConns)
		pools.write.SetMaxOpenConns(1)
		db.appPools.Store(pools)
		// Close sees the pools, or this sees that it is closed.
		if db.life.begin() != nil {
			_ = pools.close()
			return
		}
		db.life.end()
	})
	return db.appPools.Load()
}

type appPools struct{ app, write *sql.DB }

func (p *appPools) close() error { return errors.Join(p.app.Close(), p.write.Close()) }

// pool makes a pool of connections that announce what they commit, if mayCommit allows it; nil: it does.
func (db *DB) pool(pragmas string, mayCommit func() bool) *sql.DB {
	pool, err := sqlitedriver.Open(fileURI(db.owner.path, "_txlock=immediate"), func(c *sqlite3.Conn) error {
		db.watchCommits(c, mayCommit)
		return c.Exec(appPragmas + pragmas + `PRAGMA synchronous = ` + db.cfg.Synchronous)
	})
	if err != nil { // a name of ours that does not parse
		pool = sql.OpenDB(brokenConnector{err})
	}
	pool.SetConnMaxIdleTime(appIdleTime)
	return pool
}

// fileURI names a file for SQLite, which decodes %HH in it: every byte of the path can be told from a separator.
func fileURI(file, query string) string {
	path := filepath.ToSlash(file)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/… on Windows
	}
	if disk := failpoint.Disk(file); disk != "" {
		query += "&vfs=" + disk
	}
	return "file://" + (&url.URL{Path: path}).EscapedPath() + "?" + query
}

// Write runs fn in one transaction of an application's connection, serialised with the engine's own transactions, so
// that neither ever finds the database busy because of the other. fn must use tx and nothing else for the database,
// and must neither commit nor roll it back: that is done by Write, according to what fn returns. A panic in fn rolls
// back and goes on. The error of fn is returned as it is.
//
// fn must not call into the engine. Safe for concurrent use.
func (db *DB) Write(ctx context.Context, fn func(tx *sql.Tx) error) (err error) {
	pool := db.pools().write
	leave, err := db.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c, err := pool.Conn(ctx)
	if err != nil {
		return db.failCtx(ctx, "write", err)
	}
	defer func() { _ = c.Close() }()

	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return db.failCtx(ctx, "write", err)
	}
	finished := false
	defer func() {
		if !finished { // fn panicked, or ended the goroutine
			_ = tx.Rollback()
		}
	}()
	err = fn(tx)
	finished = true
	if err != nil {
		_ = tx.Rollback()
		return err
	}
	failpoint.At(failpoint.BeforeCommit, "write")
	// When the context of a single statement ends, SQLite rolls the whole transaction back, and what fn executes after
	// that would be committed statement by statement. So nothing may commit on this connection but this.
	db.mayCommit = true
	defer func() { db.mayCommit = false }()
	if err := tx.Commit(); err != nil {
		_ = tx.Rollback()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, sqlite3.ERROR) || errors.Is(err, sql.ErrTxDone) {
			err = errors.Join(errLostTransaction, err)
		}
		return db.failCtx(ctx, "write", err)
	}
	failpoint.At(failpoint.AfterCommit, "write")
	return nil
}

var errLostTransaction = errors.New("sqlite: the transaction was ended by something else than Write: a statement that was cancelled, or fn itself")

// brokenConnector makes a pool that answers every use with the same error.
type brokenConnector struct{ err error }

func (b brokenConnector) Connect(context.Context) (driver.Conn, error) { return nil, b.err }
func (b brokenConnector) Driver() driver.Driver                        { return &sqlitedriver.SQLite{} }
