package sqlite

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// commits is what is known of the transactions of the application's connections that commit.
//
// SQLite tells of a commit before it happens. It also tells of it afterwards, by the hook of the write-ahead log, but not
// always: an INSERT … RETURNING of which one row is read and no end, as QueryRow does, is committed by the reset of its
// statement, and nothing is told; nor would that hook outlive a PRAGMA wal_autocheckpoint of the application's. So
// whoever looks after the first signal may look too early.
//
// What makes it sound: SQLite has one writer at a time, and announces a commit with the write lock held. Whoever takes that
// lock after an announcement finds the commit made, or failed. State does so when there was an announcement since
// it last did, without waiting; and when the lock is not to be had, it asks to be called again.
type commits struct {
	mu        sync.Mutex
	announced uint64
	written   map[*table]uint64 // the newest announced commit that changed rows of a table

	settled uint64 // of the announced, the commits that have come to their end; the writer's own
	told    uint64 // of the settled, those whose tables a State has told
}

// announce notes that a transaction that changed rows of tables is about to commit.
func (c *commits) announce(tables map[*table]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announced++
	for t := range tables {
		c.written[t] = c.announced
	}
}

// sinceTold returns how many commits have been announced, and the tables changed by those that have not been told.
func (c *commits) sinceTold() (announced uint64, tables local.TableSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := map[*table]bool{}
	for t, n := range c.written {
		if n > c.told {
			changed[t] = true
		}
	}
	return c.announced, tableSet(changed)
}

// untold reports whether there is an announced commit that no State has told of.
func (c *commits) untold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.announced != c.told
}

// writing is what the transaction of a connection of the application's has changed so far. What a savepoint takes back
// stays in it.
type writing struct {
	managed map[string]*table // by the names that SQLite gives them
	tables  map[*table]bool
	last    string // the table of the row before: they come in crowds
}

func (w *writing) row(table string) {
	if table == w.last || strings.HasPrefix(table, metadataPrefix) { // every other row is one of ours
		return
	}
	w.last = table
	if t := w.managed[table]; t != nil {
		w.tables[t] = true
	}
}

func (w *writing) clear() {
	w.last = ""
	clear(w.tables)
}

// watchCommits makes a connection of the application's announce what it commits. gate says whether it may; nil: always.
func (db *DB) watchCommits(raw *sqlite3.Conn, gate func() bool) {
	w := &writing{managed: map[string]*table{}, tables: map[*table]bool{}}
	keyed := false
	for _, t := range db.tables {
		w.managed[t.local] = t
		keyed = keyed || t.keyed
	}
	if keyed { // of tables without a rowid the cheaper hook does not tell
		raw.PreUpdateHook(func(d sqlite3.PreUpdateData) { w.row(d.Table) })
	} else {
		raw.UpdateHook(func(_ sqlite3.AuthorizerActionCode, _, table string, _ int64) { w.row(table) })
	}
	raw.RollbackHook(w.clear)
	raw.CommitHook(func() bool {
		if gate != nil && !gate() {
			return false
		}
		db.commits.announce(w.tables)
		w.clear()
		db.signal()
		return true
	})
}

// signal calls Config.Committed, unless the database is closed, and lets Close wait for it.
func (db *DB) signal() {
	if db.cfg.Committed == nil || db.begin() != nil {
		return
	}
	defer db.life.end()
	db.cfg.Committed()
}

// overtaken reports whether what is read from now on holds every transaction that has been announced. It does not wait for
// one that is under way.
func (db *DB) overtaken(ctx context.Context, announced uint64) (bool, error) {
	if announced == db.commits.settled {
		return true, nil
	}
	select {
	case db.gate <- struct{}{}: // else Write would meet our lock
		defer func() { <-db.gate }()
	default:
		return false, nil
	}
	if err := db.conn.tryLock(ctx, db.cfg.BusyTimeout); err != nil {
		if errors.Is(err, sqlite3.BUSY) && ctx.Err() == nil {
			err = nil
		}
		return false, err
	}
	db.commits.settled = announced
	return true, nil
}

// dataVersion returns a number that stays the same as long as no connection but the engine's own commits. SQLite's is
// comparable within one connection only, and the engine's comes and goes.
func (db *DB) dataVersion() (uint64, error) {
	_, err := db.conn.one(`PRAGMA data_version`, func(s *sqlite3.Stmt) error {
		if v := s.ColumnInt64(0); v != db.conn.dataVersion {
			db.conn.dataVersion = v
			db.version++
		}
		return nil
	})
	return db.version, err
}
