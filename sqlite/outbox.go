package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// outbox reads the state of the push in flight.
func (db *DB) outbox() (b local.Outbox, err error) {
	found, err := db.conn.one(`SELECT state, source_id, source_bundle_id, initialization_id, canonical_request_hash, row_count, remote_bundle_hash, remote_bundle_seq
FROM _sync_outbox_bundle`, func(s *sqlite3.Stmt) error {
		b = local.Outbox{
			State: local.OutboxState(s.ColumnText(0)), SourceID: s.ColumnText(1), SourceBundleID: s.ColumnInt64(2), InitializationID: s.ColumnText(3),
			RequestHash: s.ColumnText(4), RowCount: s.ColumnInt64(5), RemoteHash: s.ColumnText(6), RemoteSeq: s.ColumnInt64(7),
		}
		return nil
	})
	if err == nil && !found {
		err = db.damaged("_sync_outbox_bundle", "lacks its only row", nil)
	}
	return b, err
}

// busyOutbox is the error of an operation that the state of the outbox does not allow.
func (db *DB) busyOutbox(op string, b local.Outbox) error {
	return &local.DatabaseError{Operation: op, Path: db.cfg.Path, Table: "_sync_outbox_bundle", Reason: fmt.Sprintf("not while the outbox is %s", b.State)}
}

// OutboxRows reads rows of the outbox from ordinal from on: at most maxRows and, the first one apart, at most maxBytes
// of payload (0: no bound). Past the end it returns none.
func (db *DB) OutboxRows(ctx context.Context, from, maxRows, maxBytes int64) (rows []wire.PushRow, err error) {
	if maxRows <= 0 {
		maxRows = -1 // SQLite's LIMIT without a bound
	}
	err = db.read(ctx, "read outbox", func() error {
		rows = nil
		box, err := db.outbox()
		if err != nil {
			return err
		}
		next, bytes := from, int64(0)
		_, err = db.conn.each(`SELECT row_ordinal, table_name, wire_key_json, op, base_row_version, wire_payload
FROM _sync_outbox_rows WHERE source_bundle_id = ? AND row_ordinal >= ? ORDER BY row_ordinal LIMIT ?`, func(s *sqlite3.Stmt) error {
			r, err := db.outboxRow(s, next)
			if err != nil {
				return err
			}
			bytes += int64(len(r.Payload))
			if len(rows) > 0 && maxBytes > 0 && bytes > maxBytes {
				return errEnough
			}
			rows = append(rows, r)
			next++
			return nil
		}, box.SourceBundleID, from, maxRows)
		return enough(err)
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// outboxRow reads the row that must have the given ordinal.
func (db *DB) outboxRow(s *sqlite3.Stmt, ordinal int64) (r wire.PushRow, err error) {
	if s.ColumnInt64(0) != ordinal {
		return r, db.damaged("_sync_outbox_rows", "has a gap in its ordinals", nil)
	}
	t := db.byName[s.ColumnText(1)]
	if t == nil {
		return r, db.damaged("_sync_outbox_rows", "holds a row of a table that is not configured", nil)
	}
	key, err := wire.ParseWireKeyJSON(s.ColumnText(2))
	if err != nil {
		return r, db.damaged("_sync_outbox_rows", "holds a key that cannot be read", err)
	}
	r = wire.PushRow{Schema: t.Schema, Table: t.Name, Key: key, Op: wire.Op(s.ColumnText(3)), BaseRowVersion: s.ColumnInt64(4), Payload: columnBytes(s, 5)}
	if !r.Op.Valid() || (r.Op == wire.OpDelete) != (r.Payload == nil) {
		return r, db.damaged("_sync_outbox_rows", "holds a row whose operation does not fit its payload", nil)
	}
	return r, nil
}

// MarkCommitted records as which bundle the outbox was committed. Repeating it with the same bundle is fine.
//
// isNew says that the server did not have the push when this run began, so that its bundle is newer than all that was seen
// before. If its number says otherwise, the server was put back to an older state in between (behind): what is known here
// of later bundles is no more and would undo rows of this one. It is forgotten for these rows, and the rebuild gate is set.
//
// Errors: *wire.ProtocolError when the bundle is not one that the outbox can have become; *local.DatabaseError.
func (db *DB) MarkCommitted(ctx context.Context, m wire.BundleMeta, isNew bool) (behind bool, err error) {
	err = db.write(ctx, "mark committed", relaxed, func() error {
		behind = false
		b, err := db.outbox()
		if err != nil {
			return err
		}
		foreign := func(reason string) error {
			return &wire.ProtocolError{Operation: "commit push session", Reason: reason}
		}
		switch {
		case b.State == local.OutboxNone:
			return db.busyOutbox("mark committed", b)
		case m.SourceID != b.SourceID || m.SourceBundleID != b.SourceBundleID:
			return foreign("it names another push than the one in flight")
		case m.Seq < 1 || m.Hash == "":
			return foreign("it names no bundle")
		case b.State == local.OutboxPrepared:
			if behind, err = db.contradicts(m.Seq, isNew); err != nil {
				return err
			}
			return db.conn.run(`UPDATE _sync_outbox_bundle SET state = 'committed_remote', remote_bundle_hash = ?, remote_bundle_seq = ?`, m.Hash, m.Seq)
		case m.Seq != b.RemoteSeq || m.Hash != b.RemoteHash:
			return foreign("the push was said to be another bundle before")
		}
		return nil
	})
	return behind, err
}

// contradicts finds out whether a new bundle has a number that had been given before, and takes the consequences.
func (db *DB) contradicts(seq int64, isNew bool) (behind bool, err error) {
	if !isNew {
		return false, nil // it may well be older than what was pulled since
	}
	h, err := db.head()
	if err != nil || seq > h.checkpoint {
		return false, err
	}
	if err := db.setRebuildGate(local.ReasonCheckpointAhead); err != nil {
		return false, err
	}
	return true, db.conn.run(`DELETE FROM _sync_shadow AS x WHERE row_version > ? AND EXISTS (
  SELECT 1 FROM _sync_outbox_rows o WHERE o.schema_name = x.schema_name AND o.table_name = x.table_name AND o.key_json = x.key_json)`, seq)
}
