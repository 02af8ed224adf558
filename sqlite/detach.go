package sqlite

import (
	"context"
	"slices"
	"strings"

	"github.com/oversqlite/oversqlite/local"
)

// Detach takes the user's data out of the database and makes it anonymous, with a fresh source: rows of every table
// that is managed or ever was, and everything known about them. While anything is unsynced it changes nothing and says
// so.
//
// A remote replace that is pending is called off instead: the rows it was to replace are still there and stay. An
// anonymous database has nothing to detach and stays as it is, with one exception: rows that belong to a user whose
// lease was lost are that user's unsynced data. Durable: the fresh source is named by the next connect.
func (db *DB) Detach(ctx context.Context) (local.Detached, error) {
	var out local.Detached
	err := db.write(ctx, "detach", durable, func() (err error) {
		out = local.Detached{}
		st, err := db.state()
		if err != nil {
			return err
		}
		out.Pending = st.Pending
		switch {
		case st.Operation.Kind == local.RemoteReplace:
			return db.cancelReplace()
		case st.Attachment.Binding != local.Attached && !st.KeepIntents:
			return nil
		case st.Pending.Any():
			out.Blocked = true
			return nil
		}
		out.Tables, err = db.clear(st.Attachment.CurrentSourceID)
		return err
	})
	if err != nil {
		return local.Detached{}, err
	}
	return out, nil
}

// clear removes the user's rows and everything known about them, and makes the database anonymous.
func (db *DB) clear(source string) (tables local.TableSet, err error) {
	names, err := db.managedNames()
	if err != nil {
		return nil, err
	}
	if err := db.conn.run(`UPDATE _sync_apply_state SET apply_mode = 1`); err != nil {
		return nil, err
	}
	for _, name := range names {
		// Not through conn.run: tables that are managed no more are no bounded set of statements.
		before := db.conn.raw.TotalChanges()
		if err := db.conn.raw.Exec(`DELETE FROM ` + quote(name)); err != nil {
			return nil, err
		}
		if db.conn.raw.TotalChanges() != before {
			tables = append(tables, strings.ToLower(name))
		}
	}
	slices.Sort(tables)
	if err := db.conn.run(`UPDATE _sync_apply_state SET apply_mode = 0`); err != nil {
		return nil, err
	}
	if err := db.clearOutbox(); err != nil {
		return nil, err
	}
	for _, t := range []string{"_sync_row_state", "_sync_dirty_rows", "_sync_quarantine", "_sync_displaced", "_sync_shadow", "_sync_base_rows", "_sync_bundle_stage"} {
		if err := db.conn.run(`DELETE FROM ` + t); err != nil {
			return nil, err
		}
	}
	if err := db.clearOperation(); err != nil {
		return nil, err
	}
	if err := db.unbind(); err != nil {
		return nil, err
	}
	if err := db.clearEngineState(engineKeepIntents); err != nil {
		return nil, err
	}
	return tables, db.rotateSource(source, "")
}

// Uninstall removes the engine's tables and triggers and leaves the application's rows as they are. Unsynced changes
// stay in those rows but are known as such no more. After it, only Close and the application's own connections work.
func (db *DB) Uninstall(ctx context.Context) error {
	err := db.write(ctx, "uninstall", relaxed, func() error {
		triggers, err := db.conn.ourTriggers()
		if err != nil {
			return err
		}
		for name := range triggers {
			if err := db.conn.raw.Exec(`DROP TRIGGER ` + quote(name)); err != nil {
				return err
			}
		}
		if err := db.dropCapture(); err != nil {
			return err
		}
		db.conn.forget() // a table with a prepared statement on it can be dropped, but the statement is of no use any more
		for _, t := range metadataTables {
			if err := db.conn.raw.Exec(`DROP TABLE IF EXISTS ` + t.name); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		db.uninstalled.Store(true)
	}
	return err
}
