package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// errNotHere is the cause of a transition that the durable state does not allow: the caller acted on an old state.
var errNotHere = errors.New("the database is not in a state for this")

// AttachSeeding attaches the database to a user with a lease to seed the scope. Every local row is an intent already.
// Durable: the lease is named by the push that follows.
func (db *DB) AttachSeeding(ctx context.Context, userID, initializationID string, contract wire.ContractName) error {
	return db.write(ctx, "attach to seed", durable, func() error {
		if initializationID == "" {
			return fmt.Errorf("%w: no lease", errNotHere)
		}
		return db.attach(userID, initializationID, contract)
	})
}

// AttachEmpty attaches the database to a user whose scope is initialized and empty. Rows written meanwhile are intents
// like any others.
func (db *DB) AttachEmpty(ctx context.Context, userID string, contract wire.ContractName) error {
	// On disk before the application hears of it: what it wrote after a power cut had taken it back would be an anonymous
	// row's, which the next Attach replaces.
	return db.write(ctx, "attach empty", durable, func() error { return db.attach(userID, "", contract) })
}

// AttachKeepingIntents attaches the database to an initialized scope around the intents that are here, as a lost lease
// or scope left them: the rebuild gate is set, and the rebuild lays the snapshot around them.
func (db *DB) AttachKeepingIntents(ctx context.Context, userID string, contract wire.ContractName) error {
	return db.write(ctx, "attach around intents", durable, func() error {
		if err := db.attach(userID, "", contract); err != nil {
			return err
		}
		return db.setRebuildGate(local.ReasonResume)
	})
}

// attach binds the database to a user. What was remembered of a lost lease or scope has been dealt with.
func (db *DB) attach(userID, initializationID string, contract wire.ContractName) error {
	if err := db.mayAttach(userID); err != nil {
		return err
	}
	if err := db.conn.run(`UPDATE _sync_attachment_state SET binding_state = 'attached', attached_user_id = ?, schema_name = ?, pending_initialization_id = ?`,
		userID, db.cfg.Schema, initializationID); err != nil {
		return err
	}
	if err := db.clearEngineState(engineReattachRequired, engineKeepIntents, engineUploadBlocked); err != nil {
		return err
	}
	return db.pin(contract)
}

// mayAttach refuses to bind a database that is bound already, or in the middle of something.
func (db *DB) mayAttach(userID string) error {
	a, err := db.attachment()
	if err != nil {
		return err
	}
	op, err := db.operation()
	if err != nil {
		return err
	}
	reattach, err := db.engineState(engineReattachRequired)
	if err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(userID) == "":
		return fmt.Errorf("%w: no user", errNotHere)
	case op.Kind == local.RemoteReplace:
		return fmt.Errorf("%w: a remote replace is pending", errNotHere)
	case a.Binding == local.Attached && (a.UserID != userID || reattach == ""):
		return fmt.Errorf("%w: it is attached", errNotHere)
	}
	return nil
}

// BeginRemoteReplace records that the local rows are to be replaced by a snapshot of the user's scope. The application
// cannot write from now on. The rows and their intents stay as they are until the snapshot is applied, so that Detach
// can still call it off. Durable.
func (db *DB) BeginRemoteReplace(ctx context.Context, userID string, contract wire.ContractName) error {
	return db.write(ctx, "begin remote replace", durable, func() error {
		if err := db.mayAttach(userID); err != nil {
			return err
		}
		if err := db.requeueOutbox(); err != nil {
			return err
		}
		if err := db.unbind(); err != nil {
			return err
		}
		if err := db.clearOperation(); err != nil {
			return err
		}
		if err := db.conn.run(`UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = ?`, userID); err != nil {
			return err
		}
		return db.setEngineState(engineContract, string(contract))
	})
}

// CancelReplace calls a remote replace off: the server has nothing any more that could take the place of the local rows, which
// are all there, and anonymous. The next attach asks the server again. It changes nothing when none is pending.
func (db *DB) CancelReplace(ctx context.Context) error {
	return db.write(ctx, "call a remote replace off", relaxed, func() error {
		op, err := db.operation()
		if err != nil || op.Kind != local.RemoteReplace {
			return err
		}
		return db.cancelReplace()
	})
}

// cancelReplace is CancelReplace inside a transaction, where one is pending.
func (db *DB) cancelReplace() error {
	if err := db.clearOperation(); err != nil {
		return err
	}
	return db.unbind()
}

// unbind makes the database anonymous. Rows, intents and the source stay.
func (db *DB) unbind() error {
	if err := db.conn.run(`UPDATE _sync_attachment_state SET binding_state = 'anonymous', attached_user_id = '', schema_name = '',
  last_bundle_seq_seen = 0, rebuild_required = 0, pending_initialization_id = ''`); err != nil {
		return err
	}
	return db.clearEngineState(engineContract, engineReattachRequired, engineUploadBlocked)
}

// clearOperation ends whatever durable transition is pending and empties the snapshot stage.
func (db *DB) clearOperation() error {
	if err := db.conn.run(`DELETE FROM _sync_snapshot_stage`); err != nil {
		return err
	}
	if err := db.clearEngineState(engineReplacedBy); err != nil {
		return err
	}
	return db.conn.run(`UPDATE _sync_operation_state SET kind = 'none', target_user_id = '', reason = '', replacement_source_id = '', staged_snapshot_id = '',
  snapshot_bundle_seq = 0, snapshot_row_count = 0, snapshot_byte_count = 0, snapshot_stage_complete = 0`)
}

// ResetScope prepares an attached database to seed a scope that the server lost: nothing that the server knew of it
// counts any more. The source is the fresh one named sourceID, the checkpoint 0, and every row that exists a dirty
// INSERT; deletions are void. That an attach is required stays recorded until it has happened. Durable.
func (db *DB) ResetScope(ctx context.Context, sourceID string) error {
	return db.write(ctx, "reset", durable, func() error {
		a, err := db.attachment()
		if err != nil {
			return err
		}
		if a.Binding != local.Attached {
			return fmt.Errorf("%w: it is not attached", errNotHere)
		}
		if err := db.requeueOutbox(); err != nil {
			return err
		}
		if err := db.rotateSource(a.CurrentSourceID, sourceID); err != nil {
			return err
		}
		if err := db.clearOperation(); err != nil {
			return err
		}
		for _, sql := range []string{
			`UPDATE _sync_attachment_state SET last_bundle_seq_seen = 0, rebuild_required = 0, pending_initialization_id = ''`,
			`DELETE FROM _sync_row_state`,
			`DELETE FROM _sync_shadow`,
			`DELETE FROM _sync_base_rows`,
			`DELETE FROM _sync_bundle_stage`,
			`DELETE FROM _sync_dirty_rows WHERE op = 'DELETE'`,
			`UPDATE _sync_dirty_rows SET op = 'INSERT', base_row_version = 0 WHERE op <> 'INSERT' OR base_row_version <> 0`,
			`UPDATE _sync_quarantine SET base_row_version = 0, op = CASE op WHEN 'UPDATE' THEN 'INSERT' ELSE op END`,
			`UPDATE _sync_displaced SET base_row_version = 0`,
		} {
			if err := db.conn.run(sql); err != nil {
				return err
			}
		}
		for _, t := range db.tables {
			if err := db.capture(t); err != nil {
				return err
			}
		}
		return nil
	})
}

// rotateSource makes the source named next, a fresh one, the current one in place of old. A blank name is made up.
func (db *DB) rotateSource(old, next string) error {
	if next == "" {
		next = db.cfg.NewID()
	}
	if next == old {
		return fmt.Errorf("%w: the source is to be replaced by itself", errNotHere)
	}
	if err := db.reserveSource(next); err != nil {
		return err
	}
	if err := db.conn.run(`UPDATE _sync_source_state SET replaced_by_source_id = ? WHERE source_id = ?`, next, old); err != nil {
		return err
	}
	return db.conn.run(`UPDATE _sync_attachment_state SET current_source_id = ?`, next)
}

// reserveSource makes sure that there is a source named id that has never been used.
func (db *DB) reserveSource(id string) error {
	if err := db.conn.run(`INSERT INTO _sync_source_state (source_id) VALUES (?) ON CONFLICT DO NOTHING`, id); err != nil {
		return err
	}
	used, err := db.conn.one(`SELECT 1 FROM _sync_source_state WHERE source_id = ? AND (next_source_bundle_id <> 1 OR replaced_by_source_id <> '')`, nil, id)
	if err == nil && used {
		err = fmt.Errorf("%w: the source that is to begin has been used before", errNotHere)
	}
	return err
}

// DropLease forgets a lease that was used up or is not needed.
func (db *DB) DropLease(ctx context.Context) error {
	return db.write(ctx, "drop the lease", relaxed, func() error {
		return db.conn.run(`UPDATE _sync_attachment_state SET pending_initialization_id = ''`)
	})
}

// LoseLease puts the outbox back to dirty and the binding back to anonymous. Whose intents they are is remembered: the
// next attach of the same user keeps them whatever the server answers.
func (db *DB) LoseLease(ctx context.Context) error {
	return db.write(ctx, "lose the lease", relaxed, func() error {
		a, err := db.attachment()
		if err != nil {
			return err
		}
		if a.Binding != local.Attached {
			return nil
		}
		if err := db.requeueOutbox(); err != nil {
			return err
		}
		if err := db.unbind(); err != nil {
			return err
		}
		return db.setEngineState(engineKeepIntents, a.UserID)
	})
}

// RequireReattach records that the server lost or reset the scope, and puts the outbox back to dirty. The binding
// stays; the next attach asks the server.
func (db *DB) RequireReattach(ctx context.Context) error {
	return db.write(ctx, "require an attach", relaxed, func() error {
		if err := db.requeueOutbox(); err != nil {
			return err
		}
		if err := db.conn.run(`UPDATE _sync_attachment_state SET pending_initialization_id = ''`); err != nil {
			return err
		}
		return db.setEngineState(engineReattachRequired, "1")
	})
}

// SetRebuildGate records that a rebuild must come before the next push or pull, and why.
func (db *DB) SetRebuildGate(ctx context.Context, reason string) error {
	return db.write(ctx, "set the rebuild gate", relaxed, func() error { return db.setRebuildGate(reason) })
}

// setRebuildGate is SetRebuildGate inside a transaction. The reason of a pending source recovery stays.
func (db *DB) setRebuildGate(reason string) error {
	if err := db.conn.run(`UPDATE _sync_operation_state SET reason = ? WHERE kind = 'none'`, reason); err != nil {
		return err
	}
	return db.conn.run(`UPDATE _sync_attachment_state SET rebuild_required = 1`)
}

// SetUploadBlocked records why uploads are held; nil records that they are not.
func (db *DB) SetUploadBlocked(ctx context.Context, b *local.Blocked) error {
	return db.write(ctx, "record why uploads are held", relaxed, func() error {
		if b == nil {
			return db.clearEngineState(engineUploadBlocked)
		}
		text, err := json.Marshal(b)
		if err != nil {
			return err
		}
		return db.setEngineState(engineUploadBlocked, string(text))
	})
}

// managedNames returns the tables that are managed or ever were, as far as they still exist, with the names they are
// declared under.
func (db *DB) managedNames() (names []string, err error) {
	managed := map[string]bool{}
	if _, err := db.conn.each(`SELECT table_name FROM _sync_managed_tables`, func(s *sqlite3.Stmt) error {
		managed[strings.ToLower(s.ColumnText(0))] = true
		return nil
	}); err != nil {
		return nil, err
	}
	// SQLite's lower() knows ASCII only.
	_, err = db.conn.each(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\_sync\_%' ESCAPE '\' ORDER BY name`, func(s *sqlite3.Stmt) error {
		if name := s.ColumnText(0); managed[strings.ToLower(name)] {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}
