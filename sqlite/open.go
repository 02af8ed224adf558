package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

const (
	// maxMemory bounds what SQLite may take for one connection, in bytes. It is address space, used only as far as
	// needed.
	maxMemory = 256 << 20

	defaultBusyTimeout = 10 * time.Second

	// enginePragmas set up the engine's connection. The cache grows to 2 MB when there is much to write and its memory
	// comes back only when the connection closes. The log is checkpointed every 4 MB and cut back to that size.
	enginePragmas = `PRAGMA foreign_keys = OFF;
PRAGMA synchronous = NORMAL;
PRAGMA cache_size = -2000;
PRAGMA wal_autocheckpoint = 1000;
PRAGMA journal_size_limit = 4194304`
)

// Open takes ownership of the database file, checks the configuration against its schema, and creates or repairs
// everything the engine keeps in it: private tables, triggers, a source id. Rows that exist when a table becomes
// managed are captured as inserts.
//
// It changes nothing unless everything is in order: a file that did not exist does not exist after an error.
//
// Errors: *local.ConfigError, *local.DatabaseOwnedError, *local.DatabaseError.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if err := checkConfig(&cfg); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	owner, err := own(cfg.Path)
	if err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, owner: owner, gate: make(chan struct{}, 1), life: newLife(), wall: time.Now,
		commits: commits{written: map[*table]uint64{}}, conn: &conn{stmts: map[string]*sqlite3.Stmt{}}}
	_, err = os.Stat(owner.path)
	created := errors.Is(err, os.ErrNotExist)
	if err := db.open(ctx); err != nil {
		cerr := db.Close()
		if created {
			for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
				_ = os.Remove(owner.path + suffix)
			}
		}
		if cerr != nil {
			db.report("close after a failed open", cerr)
		}
		return nil, db.fail("open", err)
	}
	return db, nil
}

func (db *DB) open(ctx context.Context) (err error) {
	defer recoverTo(&err)
	release, err := db.hold(ctx)
	if err != nil {
		return err
	}
	defer func() {
		release()
		if err != nil || db.shape == nil || !db.shape.installed {
			err = errors.Join(err, db.sleep()) // what it took to set everything up is given back at once
		}
	}()
	old := db.conn.raw.SetInterrupt(ctx)
	defer db.conn.raw.SetInterrupt(old)
	// Everything is checked before the journal mode is changed, which no transaction can take back, and again in the
	// transaction that rests on it.
	if err := db.validate(); err != nil {
		return err
	}
	if err := db.useWAL(); err != nil {
		return err
	}
	// A source id that is made here is named by the next request.
	if err := db.conn.raw.Exec(`PRAGMA synchronous = FULL`); err != nil {
		return err
	}
	defer func() { _ = db.conn.raw.Exec(`PRAGMA synchronous = NORMAL`) }()
	err = db.conn.tx(ctx, "open", func() error {
		if err := db.validate(); err != nil {
			return err
		}
		return db.prepare()
	})
	db.opened = err == nil
	return err
}

// connect opens a connection for the engine.
func (db *DB) connect(ctx context.Context) (_ *sqlite3.Conn, err error) {
	defer recoverTo(&err)
	mode := "mode=rwc"
	if db.opened {
		mode = "mode=rw" // a file that has been removed is not to come back empty
	}
	name := fileURI(db.owner.path, mode)
	raw, err := sqlite3.OpenContext(sqlite3.WithMaxMemory(ctx, maxMemory), name)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(raw.BusyTimeout(db.cfg.BusyTimeout), raw.Exec(enginePragmas)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return raw, nil
}

// useWAL switches the file to a write-ahead log.
func (db *DB) useWAL() error {
	var mode string
	_, err := db.conn.one(`PRAGMA journal_mode = WAL`, func(s *sqlite3.Stmt) error {
		mode = s.ColumnText(0)
		return nil
	})
	if err == nil && mode != "wal" {
		err = &local.DatabaseError{Operation: "open", Path: db.owner.path,
			Reason: fmt.Sprintf("the file cannot be switched to a write-ahead log (it stays in %q): keep it on a local disk", mode)}
	}
	return err
}

// prepare creates or repairs what the engine keeps in the database. It runs in a transaction.
func (db *DB) prepare() error {
	if ready, err := db.singletons(); err != nil {
		return err
	} else if !ready {
		if err := db.install(); err != nil {
			return err
		}
	}
	if err := db.normalise(); err != nil {
		return err
	}
	return db.manage()
}

// singletons reports whether there is nothing to install: no object, and no row of those that are always there. A crash
// of another client, or whoever edits a file, may leave apply mode on.
func (db *DB) singletons() (ready bool, err error) {
	if !db.shape.installed {
		return false, nil
	}
	_, err = db.conn.one(`SELECT (SELECT COUNT(*) FROM _sync_attachment_state) = 1 AND (SELECT COUNT(*) FROM _sync_operation_state) = 1
  AND (SELECT COUNT(*) FROM _sync_outbox_bundle) = 1 AND (SELECT COUNT(*) FROM _sync_apply_state) = 1 AND NOT EXISTS (SELECT 1 FROM _sync_apply_state WHERE apply_mode <> 0)`, func(s *sqlite3.Stmt) error {
		ready = s.ColumnBool(0)
		return nil
	})
	return ready, err
}

// install creates or repairs the private tables, their rows that are always there, and the shared half of the capture.
func (db *DB) install() error {
	if err := db.arrangeDirtyRows(); err != nil {
		return err
	}
	for _, sql := range metadata {
		if err := db.conn.raw.Exec(sql); err != nil {
			return err
		}
	}
	if err := db.conn.run(`UPDATE _sync_apply_state SET apply_mode = 0 WHERE apply_mode <> 0`); err != nil {
		return err
	}
	return db.installCapture()
}

// normalise gives the database a source and clears what an anonymous database cannot have.
func (db *DB) normalise() error {
	current := ""
	clean := false
	if _, err := db.conn.one(`SELECT current_source_id, binding_state = 'attached' OR NOT (`+boundColumns+`) FROM _sync_attachment_state`, func(s *sqlite3.Stmt) error {
		current, clean = s.ColumnText(0), s.ColumnBool(1)
		return nil
	}); err != nil {
		return err
	}
	if current == "" {
		if _, err := db.freshSource(); err != nil {
			return err
		}
	}
	if clean {
		return nil
	}
	return db.conn.run(`UPDATE _sync_attachment_state
SET attached_user_id = '', schema_name = '', last_bundle_seq_seen = 0, rebuild_required = 0, pending_initialization_id = ''
WHERE ` + boundColumns)
}

// boundColumns is the condition that columns say something that only an attached database can have.
const boundColumns = `attached_user_id <> '' OR schema_name <> '' OR last_bundle_seq_seen <> 0 OR rebuild_required <> 0 OR pending_initialization_id <> ''`

// freshSource makes a new source the current one and returns its id.
func (db *DB) freshSource() (string, error) {
	id := db.cfg.NewID()
	if err := db.conn.run(`INSERT INTO _sync_source_state (source_id) VALUES (?)`, id); err != nil {
		return "", err
	}
	return id, db.conn.run(`UPDATE _sync_attachment_state SET current_source_id = ?`, id)
}

// recoverTo turns a panic into an error, where no connection is left to be thought of.
func recoverTo(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("sqlite: panic: %v", r)
	}
}
