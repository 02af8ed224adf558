package sqlite

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Path returns the real path of the database file.
func (db *DB) Path() string { return db.owner.path }

// Tables returns the managed tables, parents first.
func (db *DB) Tables() []wire.Table {
	out := make([]wire.Table, len(db.tables))
	for i, t := range db.tables {
		out[i] = t.Table
	}
	return out
}

// TableSpecs returns the managed tables as they are compared with the server's.
func (db *DB) TableSpecs() []wire.TableSpec {
	out := make([]wire.TableSpec, len(db.tables))
	for i, t := range db.tables {
		out[i] = wire.TableSpec{Schema: t.Schema, Table: t.Name, SyncKeyColumns: []string{t.KeyColumn().Name}}
	}
	return out
}

// State reads everything durable that decisions rest on, as of one moment. Its cost depends on the number of dirty
// rows (it counts index entries), not on that of synced rows. A database to which nobody has written since the last
// one is not even opened. It waits for nobody: when a transaction of the application's
// was about to commit and is perhaps not among what it read, it calls Config.Committed, for somebody to read again.
func (db *DB) State(ctx context.Context) (st local.State, err error) {
	const op = "read the state"
	if err := db.begin(); err != nil {
		return st, db.failCtx(ctx, op, err)
	}
	defer db.life.end()
	if st, same := db.unchanged(); same {
		return st, nil
	}
	stamp, stamped := db.stampNow()
	db.glance.known = false
	release, err := db.hold(ctx)
	if err != nil {
		return st, db.failCtx(ctx, op, err)
	}
	defer release()
	announced, written := db.commits.sinceTold()
	all, err := db.overtaken(ctx, announced)
	if err != nil {
		return st, db.failCtx(ctx, op, err)
	}
	if !all {
		defer db.signal()
	}
	err = db.read(ctx, op, func() error {
		if st, err = db.state(); err != nil {
			return err
		}
		st.DataVersion, err = db.dataVersion()
		return err
	})
	if err == nil && all {
		st.Written, db.commits.told = written, announced
		db.glance.saw(st, stamp, stamped)
	}
	return st, err
}

// state is State inside a transaction.
func (db *DB) state() (st local.State, err error) {
	st.Attachment, err = db.attachment()
	if err != nil {
		return st, err
	}
	if st.Operation, err = db.operation(); err != nil {
		return st, err
	}
	if st.Outbox, err = db.outbox(); err != nil {
		return st, err
	}
	if st.Pending, err = db.pending(st.Attachment, st.Outbox); err != nil {
		return st, err
	}
	if _, err = db.conn.one(`SELECT next_source_bundle_id FROM _sync_source_state WHERE source_id = ?`, func(s *sqlite3.Stmt) error {
		st.NextSourceBundleID = s.ColumnInt64(0)
		return nil
	}, st.Attachment.CurrentSourceID); err != nil {
		return st, err
	}
	// Unless nearly everything that was ever synced has been deleted since, one of the first entries is live.
	if st.HasLiveRows, err = db.conn.one(`SELECT 1 FROM _sync_row_state WHERE deleted = 0 LIMIT 1`, nil); err != nil {
		return st, err
	}
	return st, db.readEngineState(&st)
}

func (db *DB) attachment() (a local.Attachment, err error) {
	_, err = db.conn.one(`SELECT current_source_id, binding_state, attached_user_id, schema_name, last_bundle_seq_seen, rebuild_required, pending_initialization_id
FROM _sync_attachment_state`, func(s *sqlite3.Stmt) error {
		a = local.Attachment{
			CurrentSourceID:  s.ColumnText(0),
			Binding:          local.Binding(s.ColumnText(1)),
			UserID:           s.ColumnText(2),
			Schema:           s.ColumnText(3),
			Checkpoint:       s.ColumnInt64(4),
			RebuildRequired:  s.ColumnBool(5),
			InitializationID: s.ColumnText(6),
		}
		return nil
	})
	return a, err
}

func (db *DB) operation() (o local.Operation, err error) {
	_, err = db.conn.one(`SELECT kind, target_user_id, reason, replacement_source_id, staged_snapshot_id, snapshot_bundle_seq, snapshot_row_count, snapshot_byte_count, snapshot_stage_complete
FROM _sync_operation_state`, func(s *sqlite3.Stmt) error {
		o = local.Operation{
			Kind:                local.OperationKind(s.ColumnText(0)),
			TargetUserID:        s.ColumnText(1),
			Reason:              s.ColumnText(2),
			ReplacementSourceID: s.ColumnText(3),
			Stage: local.Stage{
				SnapshotID: s.ColumnText(4),
				BundleSeq:  s.ColumnInt64(5),
				RowCount:   s.ColumnInt64(6),
				ByteCount:  s.ColumnInt64(7),
				Complete:   s.ColumnBool(8),
			},
		}
		return nil
	})
	return o, err
}

func (db *DB) pending(a local.Attachment, o local.Outbox) (p local.Pending, err error) {
	p.Outbox = o.RowCount
	p.Lease = a.InitializationID != ""
	if _, err = db.conn.one(`SELECT (SELECT COUNT(*) FROM _sync_dirty_rows), (SELECT COUNT(*) FROM _sync_quarantine) + (SELECT COUNT(*) FROM _sync_displaced q WHERE NOT `+writtenAgain+`)`, func(s *sqlite3.Stmt) error {
		p.Dirty, p.Quarantined = s.ColumnInt64(0), s.ColumnInt64(1)
		return nil
	}); err != nil || p.Dirty == 0 {
		return p, err
	}
	_, err = db.conn.one(`SELECT updated_at FROM _sync_dirty_rows ORDER BY dirty_ordinal LIMIT 1`, func(s *sqlite3.Stmt) error {
		p.OldestAt = instant(s.ColumnText(0))
		return nil
	})
	return p, err
}

// instant reads a time of a metadata table. One that cannot be read is no reason to stop syncing.
func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// readEngineState fills in what is kept in _sync_engine_state.
func (db *DB) readEngineState(st *local.State) error {
	_, err := db.conn.each(`SELECT name, value FROM _sync_engine_state WHERE name NOT LIKE '`+engineColumns+`%'`, func(s *sqlite3.Stmt) error {
		value := s.ColumnText(1)
		switch s.ColumnText(0) {
		case engineContract:
			st.Contract = wire.ContractName(value)
		case engineFrozenContract:
			st.FrozenContract = wire.ContractName(value)
		case engineFrozenSince:
			if at := instant(value); !at.IsZero() && (st.Pending.OldestAt.IsZero() || at.Before(st.Pending.OldestAt)) {
				st.Pending.OldestAt = at
			}
		case engineReattachRequired:
			st.ReattachRequired = value == "1"
		case engineKeepIntents:
			st.KeepIntents = true
			if st.Attachment.Binding == local.Anonymous {
				st.Attachment.UserID = value
			}
		case engineReplacedBy:
			st.Operation.ReplacedBy = value
		case engineUploadBlocked:
			st.UploadBlocked = new(local.Blocked)
			if err := json.Unmarshal([]byte(value), st.UploadBlocked); err != nil {
				return &local.DatabaseError{Operation: "read the state", Path: db.owner.path, Table: "_sync_engine_state", Reason: "upload_blocked is not what the engine writes there", Err: err}
			}
		}
		return nil
	})
	return err
}
