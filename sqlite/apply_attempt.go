package sqlite

import (
	"context"
	"errors"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

// care is how much an attempt at laying rows down finds out before it writes. Each attempt that fails for want of care
// is rolled back and made again with more.
type care uint8

const (
	// trusting: where nothing local is in the way, every row is taken to be newer than what is here.
	trusting care = iota
	// looking: the version of every row is looked up.
	looking
	// careful: bundle by bundle, each behind a savepoint, so as to find out what collides with what.
	careful
)

// Why an attempt is made again.
var (
	// errKnown says that a row is not newer than what is here: the database is ahead of its checkpoint, because a push of
	// its own was replayed while the bundles before it were still to come.
	errKnown = errors.New("sqlite: rows are known already")
	// errCareful says that rows cannot be laid down the fast way: something collides.
	errCareful = errors.New("sqlite: rows collide")
)

// attempts runs fn in a transaction in apply mode, and again in another one with more care as often as that is what it
// asks for. rows is about how many rows it writes. The error stop is returned although the transaction is committed.
func (db *DB) attempts(ctx context.Context, op string, rows int, fn func(care) (stop error, err error)) error {
	// The preparations and the transactions are for one connection, which must not be closed in between.
	release, err := db.hold(ctx)
	if err != nil {
		return db.failCtx(ctx, op, err)
	}
	defer release()
	undo, err := db.prepareBulk(rows)
	defer undo()
	if err != nil {
		return db.failCtx(ctx, op, err)
	}
	for how := trusting; ; {
		var stop error
		err = db.applying(ctx, op, func() (err error) {
			stop, err = fn(how)
			return err
		})
		switch {
		case how < looking && errors.Is(err, errKnown):
			how = looking
		case how < careful && errors.Is(err, errCareful):
			how = careful
		case err != nil:
			return err
		default:
			return stop
		}
	}
}

// manyRows is from how many rows on it pays to prepare the connection for them.
const manyRows = 500

// The connection's settings while many rows are written, and those it always has. The log is copied into the database
// half as often: pages that one transaction after the other touches are then copied once for several.
const (
	bulkPragmas  = `PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -8000`
	usualPragmas = `PRAGMA wal_autocheckpoint = 1000; PRAGMA cache_size = -2000`
)

// prepareBulk prepares the connection for rows of the server. The returned function undoes what must not last.
//
// The triggers of ours do nothing in apply mode but take a third of the time of a write, so for much work triggers
// are switched off, for which every statement is compiled anew, unless the application has some of its own on these
// tables: those have a right to fire.
func (db *DB) prepareBulk(rows int) (undo func(), err error) {
	undo = func() {}
	defer db.conn.catch(&err)
	scratch := snapshotScratch
	if db.hasReferences() {
		scratch += `;` + referenceScratch
	}
	if err := db.conn.raw.Exec(scratch); err != nil || rows < manyRows {
		return undo, err
	}
	undo = db.endBulk
	if err := db.conn.raw.Exec(bulkPragmas); err != nil {
		return undo, err
	}
	if watched, err := db.watchedTables(); err != nil || len(watched) > 0 {
		return undo, err
	}
	_, err = db.conn.raw.Config(sqlite3.DBCONFIG_ENABLE_TRIGGER, false)
	db.conn.triggersOff = err == nil
	return undo, err
}

// endBulk makes the connection what it always is. One that cannot be made that is not used again.
func (db *DB) endBulk() {
	db.conn.triggersOff = false
	if db.conn.broken {
		return
	}
	var err error
	defer db.conn.catch(&err)
	_, terr := db.conn.raw.Config(sqlite3.DBCONFIG_ENABLE_TRIGGER, true)
	if err = errors.Join(terr, db.conn.raw.Exec(usualPragmas)); err != nil {
		db.conn.broken = true
	}
}

// watchedTables returns the tables on which triggers fire that are not ours. It is asked for every transaction, and
// answers from memory as long as the schema stays.
func (db *DB) watchedTables() (map[*table]bool, error) {
	var version int64
	if _, err := db.conn.one(`PRAGMA schema_version`, func(s *sqlite3.Stmt) error {
		version = s.ColumnInt64(0)
		return nil
	}); err != nil || db.watched.tables != nil && db.watched.version == version {
		return db.watched.tables, err
	}
	ours, err := db.conn.ourTriggers()
	if err != nil {
		return nil, err
	}
	tables := map[*table]bool{}
	if _, err := db.conn.each(`SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'`, func(s *sqlite3.Stmt) error {
		if t := db.byName[strings.ToLower(s.ColumnText(1))]; t != nil {
			if _, ok := ours[s.ColumnText(0)]; !ok {
				tables[t] = true
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	db.watched.tables, db.watched.version = tables, version
	return tables, nil
}
