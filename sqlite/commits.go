package sqlite

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"
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
	announced atomic.Uint64
	settled   uint64 // of those announced, the ones that have come to their end; the writer's own
}

// watchCommits makes a connection of the application's announce what it commits. gate says whether it may; nil: always.
func (db *DB) watchCommits(raw *sqlite3.Conn, gate func() bool) {
	raw.CommitHook(func() bool {
		if gate != nil && !gate() {
			return false
		}
		db.commits.announced.Add(1)
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
func (db *DB) overtaken(ctx context.Context) (bool, error) {
	announced := db.commits.announced.Load()
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
