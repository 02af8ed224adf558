package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// SetSourceRecovery records that the current source can push no more, and why, and reserves the id of the one that is
// to follow it: the one reserved before, else a new one. Durable: the next request names it.
//
// replacedBy is the id by which the server says it has replaced the source; "" when it has not said so. One that is not
// reserved here is another copy's of this database, which pushes under it. It is recorded and never taken over: two
// databases under one source are what there is to recover from.
func (db *DB) SetSourceRecovery(ctx context.Context, reason, replacedBy string) error {
	return db.write(ctx, "begin source recovery", durable, func() error { return db.setSourceRecovery(reason, replacedBy) })
}

// setSourceRecovery is SetSourceRecovery inside a transaction.
func (db *DB) setSourceRecovery(reason, replacedBy string) error {
	a, err := db.attachment()
	if err != nil {
		return err
	}
	op, err := db.operation()
	if err != nil {
		return err
	}
	switch {
	case a.Binding != local.Attached || op.Kind == local.RemoteReplace:
		return fmt.Errorf("%w: it is not attached", errNotHere)
	case !local.RecoveryReason(reason):
		return fmt.Errorf("%w: %q is no reason to replace a source", errNotHere, reason)
	}
	id := ""
	if op.Kind == local.SourceRecovery {
		id = op.ReplacementSourceID
	}
	if id == "" {
		id = db.cfg.NewID()
		if err := db.reserveSource(id); err != nil {
			return err
		}
	}
	if replacedBy != "" && replacedBy != id {
		if err := db.setEngineState(engineReplacedBy, replacedBy); err != nil {
			return err
		}
	}
	return db.recordRecovery(reason, id)
}

func (db *DB) recordRecovery(reason, replacement string) error {
	if err := db.conn.run(`UPDATE _sync_attachment_state SET rebuild_required = 1`); err != nil {
		return err
	}
	return db.conn.run(`UPDATE _sync_operation_state SET kind = 'source_recovery', reason = ?, replacement_source_id = ?`, reason, replacement)
}

// ReserveAnother reserves another id in place of the one that is to follow the current source, because the server does
// not take that, and answers it. Durable.
func (db *DB) ReserveAnother(ctx context.Context) (id string, err error) {
	err = db.write(ctx, "reserve a source", durable, func() error {
		op, err := db.operation()
		if err != nil {
			return err
		}
		if op.Kind != local.SourceRecovery {
			return fmt.Errorf("%w: no source recovery is pending", errNotHere)
		}
		// The source that was reserved has never been used, and never will be.
		if err := db.conn.run(`DELETE FROM _sync_source_state WHERE source_id = ? AND next_source_bundle_id = 1 AND replaced_by_source_id = ''
  AND source_id <> (SELECT current_source_id FROM _sync_attachment_state)`, op.ReplacementSourceID); err != nil {
			return err
		}
		id = db.cfg.NewID()
		if err := db.reserveSource(id); err != nil {
			return err
		}
		return db.recordRecovery(op.Reason, id)
	})
	return id, err
}

// RotateSource replaces the current source by the reserved one without a snapshot, for when the snapshot cannot be
// applied before local changes are pushed, and nothing can be pushed under the old source. The rebuild gate stays.
// Durable: the next request names the new source.
func (db *DB) RotateSource(ctx context.Context, contract wire.ContractName) (r local.Rotation, err error) {
	err = db.write(ctx, "rotate the source", durable, func() error {
		op, err := db.operation()
		if err != nil {
			return err
		}
		if op.Kind != local.SourceRecovery {
			return fmt.Errorf("%w: no source recovery is pending", errNotHere)
		}
		if r, err = db.rotate(op, contract); err != nil {
			return err
		}
		if err := db.clearOperation(); err != nil {
			return err
		}
		return db.setRebuildGate(local.ReasonResume)
	})
	return r, err
}

// rotate puts the reserved source in the place of the current one, inside a transaction.
//
// A push in flight goes on as the new source's first one, as it was frozen: neither its rows nor their hash name a source
// or a number. It goes back to dirty when it is spelled in another dialect than the server speaks now. One that is
// known to be committed keeps the tuple under which that was done.
func (db *DB) rotate(op local.Operation, contract wire.ContractName) (local.Rotation, error) {
	r := local.Rotation{To: op.ReplacementSourceID, Reason: op.Reason}
	a, err := db.attachment()
	if err != nil {
		return r, err
	}
	if r.From = a.CurrentSourceID; r.To == "" {
		return r, db.damaged("_sync_operation_state", "names no source to follow the current one", nil)
	}
	box, err := db.outbox()
	if err != nil {
		return r, err
	}
	frozen, err := db.engineState(engineFrozenContract)
	if err != nil {
		return r, err
	}
	switch {
	case box.State != local.OutboxPrepared:
	case frozen != string(contract):
		err = db.requeueOutbox()
	default:
		if err = db.conn.run(`UPDATE _sync_outbox_rows SET source_bundle_id = 1 WHERE source_bundle_id <> 1`); err == nil {
			// There is a snapshot, so the scope is initialized, and whatever lease there was is of no use.
			err = db.conn.run(`UPDATE _sync_outbox_bundle SET source_id = ?, source_bundle_id = 1, initialization_id = ''`, r.To)
		}
	}
	if err != nil {
		return r, err
	}
	if err := db.conn.run(`UPDATE _sync_attachment_state SET pending_initialization_id = '' WHERE pending_initialization_id <> ''`); err != nil {
		return r, err
	}
	if err := db.rotateSource(r.From, r.To); err != nil {
		return r, err
	}
	if err := db.clearEngineState(engineReplacedBy); err != nil {
		return r, err
	}
	// What held uploads because of the old source's numbers says nothing of the new one's.
	return r, db.conn.run(`DELETE FROM _sync_engine_state WHERE name = '`+engineUploadBlocked+`' AND value ->> 'Code' = ?`, local.BlockedBySequence)
}

// forgetLostBases finds intents on a version that the server does not have: newer than the whole snapshot, or newer
// than the row in it. Versions only grow, so the server has lost the history in which that version was: it was restored
// from a backup. Such an intent is made on nothing from here on; the snapshot's row becomes its shadow, whatever its
// version, and a row that the server does not have is a new one.
//
// A push in flight with such an intent cannot have been committed, and goes back to dirty.
func (s *snapshot) forgetLostBases() error {
	db := s.db
	if !s.around {
		return nil
	}
	const lost = `(i.base_row_version > ?1 OR EXISTS (SELECT 1 FROM _sync_snapshot_stage t WHERE t.snapshot_id = ?2
  AND t.schema_name = i.schema_name AND t.table_name = i.table_name AND t.key_json = i.key_json AND t.row_version < i.base_row_version))`
	frozen := false
	found, err := db.conn.one(`SELECT max(i.frozen) FROM temp._sync_intents i WHERE `+lost+` HAVING count(*) > 0`, func(st *sqlite3.Stmt) error {
		frozen = st.ColumnBool(0)
		return nil
	}, s.session.BundleSeq, s.session.ID)
	if err != nil || !found {
		return err
	}
	if frozen {
		if err := db.requeueOutbox(); err != nil {
			return err
		}
		if err := s.gather(); err != nil {
			return err
		}
	}
	if err := db.conn.run(`UPDATE temp._sync_intents AS i SET base_row_version = -1 WHERE `+lost, s.session.BundleSeq, s.session.ID); err != nil {
		return err
	}
	const of = ` WHERE (schema_name, table_name, key_json) IN (SELECT schema_name, table_name, key_json FROM temp._sync_intents WHERE base_row_version < 0)`
	for _, sql := range []string{
		`DELETE FROM _sync_row_state` + of,
		`UPDATE _sync_dirty_rows SET base_row_version = 0, op = CASE WHEN payload IS NULL THEN 'DELETE' ELSE 'INSERT' END` + of,
		`UPDATE _sync_quarantine SET base_row_version = 0, op = CASE WHEN payload IS NULL THEN 'DELETE' ELSE 'INSERT' END` + of,
	} {
		if err := db.conn.run(sql); err != nil {
			return err
		}
	}
	// The image on which the edit was made still tells which columns it changed, where there is an image to merge it with.
	if err := db.conn.run(`DELETE FROM _sync_base_rows AS b`+of+` AND NOT EXISTS (SELECT 1 FROM _sync_snapshot_stage t WHERE t.snapshot_id = ?
  AND t.schema_name = b.schema_name AND t.table_name = b.table_name AND t.key_json = b.key_json)`, s.session.ID); err != nil {
		return err
	}
	return db.conn.run(`UPDATE temp._sync_intents SET base_row_version = 0 WHERE base_row_version < 0`)
}

// covers reports whether a snapshot can hold what the outbox was committed as. Where it does not, the server has lost
// that commit: it is older, or it has rows of the push, and each of them at a version before it.
func (s *snapshot) covers(box local.Outbox) (bool, error) {
	if box.RemoteSeq > s.session.BundleSeq {
		return false, nil
	}
	const pushed = ` FROM _sync_outbox_rows o CROSS JOIN _sync_snapshot_stage t ON t.snapshot_id = ?1
  AND t.schema_name = o.schema_name AND t.table_name = o.table_name AND t.key_json = o.key_json`
	older, err := s.db.conn.one(`SELECT 1`+pushed+` GROUP BY 1 HAVING max(t.row_version) < ?2`, nil, s.session.ID, box.RemoteSeq)
	return !older, err
}

// DoubtCommit takes back that the outbox is known to be committed: the server says that it has no such bundle. What became of
// the outbox the next create tells. With a reason for it, the rebuild gate is set in the same transaction: a process that died
// in between would forget that the server was put back, or settle the push by a snapshot.
func (db *DB) DoubtCommit(ctx context.Context, gate string) error {
	return db.write(ctx, "doubt the commit", relaxed, func() error {
		if gate != "" {
			if err := db.setRebuildGate(gate); err != nil {
				return err
			}
		}
		return db.uncommit()
	})
}

// uncommit takes back that the outbox is known to be committed.
func (db *DB) uncommit() error {
	return db.conn.run(`UPDATE _sync_outbox_bundle SET state = 'prepared', remote_bundle_hash = '', remote_bundle_seq = 0 WHERE state = 'committed_remote'`)
}
