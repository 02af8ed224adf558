package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// BeginStage empties the snapshot stage and records the session whose pages are going to fill it, for a remote replace
// and for a rebuild alike. Nothing of what was staged before is of use for another session.
func (db *DB) BeginStage(ctx context.Context, session wire.SnapshotSession) error {
	return db.write(ctx, "begin snapshot stage", relaxed, func() error {
		if session.ID == "" || session.BundleSeq < 0 || session.RowCount < 0 {
			return &wire.ProtocolError{Operation: "snapshot session", Reason: "a session without an id, or with a negative count"}
		}
		op, err := db.operation()
		if err != nil {
			return err
		}
		if op.Kind == local.SourceRecovery && op.ReplacementSourceID != "" {
			// What cannot be applied in the end need not be fetched.
			if err := db.reserveSource(op.ReplacementSourceID); err != nil {
				return err
			}
		}
		if err := db.clearStage(); err != nil {
			return err
		}
		return db.conn.run(`UPDATE _sync_operation_state SET staged_snapshot_id = ?, snapshot_bundle_seq = ?, snapshot_row_count = ?, snapshot_byte_count = ?`,
			session.ID, session.BundleSeq, session.RowCount, session.ByteCount)
	})
}

// clearStage empties the snapshot stage and forgets its session, inside a transaction.
func (db *DB) clearStage() error {
	if err := db.conn.run(`DELETE FROM _sync_snapshot_stage`); err != nil {
		return err
	}
	return db.conn.run(`UPDATE _sync_operation_state SET staged_snapshot_id = '', snapshot_bundle_seq = 0, snapshot_row_count = 0,
  snapshot_byte_count = 0, snapshot_stage_complete = 0`)
}

// StageSnapshotPage stores the rows that follow the first after rows of a snapshot. Everything about a row that can be
// checked without the others is checked here: its table, its key, that its payload can be decoded and holds that key.
// Pages may come in any order and more than once; CompleteStage finds holes, and ApplySnapshot a key that comes twice.
//
// Errors: *wire.ProtocolError for rows the contract does not allow; *local.DatabaseError when another session is
// being staged.
func (db *DB) StageSnapshotPage(ctx context.Context, session wire.SnapshotSession, after int64, rows []wire.Row) error {
	return db.write(ctx, "stage snapshot page", relaxed, func() error {
		if _, err := db.staging("stage snapshot page", session, false); err != nil {
			return err
		}
		c, err := db.pinnedContract()
		if err != nil {
			return err
		}
		if after < 0 || after+int64(len(rows)) > session.RowCount {
			return &wire.ProtocolError{Operation: "snapshot page", Reason: "more rows than the session announced"}
		}
		// Nothing is looked for by key while rows come in, so there is no index on keys; see stageKeyIndex.
		if err := db.conn.run(`DELETE FROM _sync_snapshot_stage WHERE snapshot_id = ? AND row_ordinal BETWEEN ? AND ?`, session.ID, after+1, after+int64(len(rows))); err != nil {
			return err
		}
		stage := batched{c: db.conn, build: func(n int) string {
			return `INSERT OR FAIL INTO _sync_snapshot_stage (snapshot_id, row_ordinal, schema_name, table_name, key_json, row_version, payload) VALUES ` +
				repeat(n, func(i int) string { return `(?1, ` + parameters(2+6*i, 6) + `)` })
		}}
		defer stage.clear()
		a := applier{db: db, contract: c, plans: map[*table]*plan{}}
		return stage.exec(len(rows), func(s *sqlite3.Stmt, slot, i int) error {
			r := &rows[i]
			keyJSON, err := a.checkSnapshotRow(r, session.BundleSeq)
			if err != nil {
				return err
			}
			if slot == 0 {
				if err := s.BindText(1, session.ID); err != nil {
					return err
				}
			}
			for j, v := range [...]any{after + 1 + int64(i), r.Schema, r.Table, keyJSON, r.RowVersion, rawText(wire.Compact(r.Payload))} {
				if err := bind(s, 2+6*slot+j, v); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// checkSnapshotRow checks a row of a snapshot and returns its local key.
func (a *applier) checkSnapshotRow(r *wire.Row, seq int64) (string, error) {
	if err := a.db.checkRow(r); err != nil {
		return "", err
	}
	p := a.plan(a.db.byName[r.Table])
	switch {
	case r.Op != wire.OpInsert:
		return "", p.protocol("a snapshot row that is a deletion")
	case r.RowVersion > seq:
		return "", p.protocol("a row newer than its snapshot")
	}
	key, err := wire.KeyValue(&p.t.Table, r.Key)
	if err != nil {
		return "", err
	}
	if _, err := p.decode(&key, r.Payload); err != nil {
		return "", err
	}
	return a.db.localKey(p.t, &key)
}

// CompleteStage marks the stage complete, if every row that the session announced is there.
func (db *DB) CompleteStage(ctx context.Context, session wire.SnapshotSession) error {
	return db.write(ctx, "complete snapshot stage", relaxed, func() error {
		if _, err := db.staging("complete snapshot stage", session, false); err != nil {
			return err
		}
		n, err := db.staged(session.ID)
		if err != nil {
			return err
		}
		if n != session.RowCount {
			return &wire.ProtocolError{Operation: "snapshot", Reason: fmt.Sprintf("invalid_chunk: snapshot final row total %d does not match session row_count %d", n, session.RowCount)}
		}
		return db.conn.run(`UPDATE _sync_operation_state SET snapshot_stage_complete = 1`)
	})
}

// staged counts the rows in the snapshot stage.
func (db *DB) staged(id string) (n int64, err error) {
	_, err = db.conn.one(`SELECT count(*) FROM _sync_snapshot_stage WHERE snapshot_id = ?`, func(s *sqlite3.Stmt) error {
		n = s.ColumnInt64(0)
		return nil
	}, id)
	return n, err
}

// staging reads the operation in progress and refuses a session that is not the one being staged, or not complete
// where it must be.
func (db *DB) staging(op string, session wire.SnapshotSession, complete bool) (o local.Operation, err error) {
	if o, err = db.operation(); err != nil {
		return o, err
	}
	reason := ""
	switch {
	case session.ID == "" || o.Stage.SnapshotID != session.ID || o.Stage.BundleSeq != session.BundleSeq || o.Stage.RowCount != session.RowCount:
		reason = "another snapshot session is being staged: begin anew"
	case complete && !o.Stage.Complete:
		reason = "the snapshot is not complete: fetch the rest of it"
	}
	if reason != "" {
		return o, &local.DatabaseError{Operation: op, Path: db.cfg.Path, Table: "_sync_operation_state", Reason: reason}
	}
	return o, nil
}
