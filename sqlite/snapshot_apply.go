package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// snapshotScratch holds the intents around which a snapshot is laid, with the version each is made on.
const snapshotScratch = `CREATE TEMP TABLE IF NOT EXISTS _sync_intents (schema_name TEXT, table_name TEXT, key_json TEXT, base_row_version INTEGER, frozen INTEGER,
  PRIMARY KEY (schema_name, table_name, key_json)) WITHOUT ROWID`

// ApplySnapshot applies the complete snapshot stage in one transaction and empties it. What that means is told by the
// durable state:
//
//   - Remote replace: every local row and intent is dropped (counted in Restored.DroppedLocalRows), the snapshot takes
//     their place, and the database is attached to the user at the snapshot's checkpoint.
//   - Otherwise a rebuild that keeps the source: rows without an intent become exactly the snapshot; every intent stays,
//     content and base, and the snapshot's row becomes its shadow. A committed outbox that the snapshot covers is
//     settled. The checkpoint becomes the snapshot's and the rebuild gate is lifted.
//   - While source recovery is pending the same, and the reserved source takes the place of the current one.
//
// When rows of the snapshot collide with intents the answer is a *local.CollisionError and nothing is changed.
//
// Intents to be displaced by a rebuild make room first. If a committed outbox then turns out not to be what the server has,
// it is in doubt again, which is all that is done; the error is a *local.CollisionError of these intents with the cause
// "doubt".
func (db *DB) ApplySnapshot(ctx context.Context, c wire.Contract, session wire.SnapshotSession, displace ...local.Displacement) (local.Restored, error) {
	var (
		out       local.Restored
		collision *local.Collision
	)
	err := db.attempts(ctx, "apply snapshot", int(session.RowCount), func(how care) (stop, err error) {
		collision = nil
		s := &snapshot{db: db, session: session, careful: how == careful, displace: displace}
		if s.op, err = db.staging("apply snapshot", session, true); err != nil {
			return nil, err
		}
		if s.head, err = db.head(); err != nil {
			return nil, err
		}
		if s.a, err = db.newApplier(c); err != nil {
			return nil, err
		}
		defer s.a.close()
		if s.a.intents && s.op.Kind != local.RemoteReplace {
			err = s.indexed(func() (err error) { collision, err = s.apply(); return err })
		} else {
			collision, err = s.apply()
		}
		if twice := s.twice(err, collision); twice != nil {
			collision = nil
			return nil, twice
		}
		if collision != nil {
			return nil, errCollision // rolls back
		}
		out = s.out
		return nil, err
	})
	if errors.Is(err, errDoubtful) {
		if err = db.DoubtCommit(ctx, ""); err == nil {
			collision = &local.Collision{Cause: "doubt"}
			for _, d := range displace {
				collision.Intents = append(collision.Intents, d.Intents...)
			}
		}
	}
	if collision != nil {
		collision.BundleSeq = session.BundleSeq
		return local.Restored{}, &local.CollisionError{Collision: *collision}
	}
	if err != nil {
		return local.Restored{}, err
	}
	return out, nil
}

var (
	errCollision = errors.New("sqlite: the snapshot collides with intents")
	errDoubtful  = errors.New("sqlite: the snapshot does not show the push that was committed")
)

// snapshot is one application of the snapshot stage.
type snapshot struct {
	db      *DB
	a       *applier
	session wire.SnapshotSession
	op      local.Operation
	head    head
	careful bool
	around  bool // there are intents
	out     local.Restored

	displace []local.Displacement
}

func (s *snapshot) apply() (*local.Collision, error) {
	n, err := s.db.staged(s.session.ID)
	if err != nil {
		return nil, err
	}
	if n != s.session.RowCount {
		return nil, s.db.damaged("_sync_snapshot_stage", "does not hold the rows that were staged: begin the snapshot anew", nil)
	}
	s.out = local.Restored{BundleSeq: s.session.BundleSeq, Rows: n}
	switch {
	case s.op.Kind == local.RemoteReplace:
		return s.replace()
	case !s.head.attached:
		return nil, &local.DatabaseError{Operation: "apply snapshot", Path: s.db.cfg.Path, Reason: "the database is not attached: rows of a user have no place in it"}
	}
	return s.rebuild()
}

// replace drops everything local and attaches the database.
func (s *snapshot) replace() (*local.Collision, error) {
	if _, err := s.db.conn.one(`SELECT count(*) FROM (SELECT table_name, key_json FROM _sync_dirty_rows
UNION SELECT table_name, key_json FROM _sync_outbox_rows UNION SELECT table_name, key_json FROM _sync_quarantine UNION SELECT table_name, key_json FROM _sync_displaced)`, func(st *sqlite3.Stmt) error {
		s.out.DroppedLocalRows = st.ColumnInt64(0)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, table := range []string{"_sync_dirty_rows", "_sync_quarantine", "_sync_displaced", "_sync_shadow", "_sync_base_rows"} {
		if err := s.db.conn.run(`DELETE FROM ` + table); err != nil {
			return nil, err
		}
	}
	if err := s.db.clearOutbox(); err != nil {
		return nil, err
	}
	if collision, err := s.fill(); collision != nil || err != nil {
		return collision, err
	}
	if err := s.db.conn.run(`UPDATE _sync_attachment_state SET binding_state = 'attached', attached_user_id = ?, schema_name = ?, pending_initialization_id = ''`,
		s.op.TargetUserID, s.db.cfg.Schema); err != nil {
		return nil, err
	}
	if err := s.db.clearEngineState(engineReattachRequired, engineKeepIntents, engineUploadBlocked); err != nil {
		return nil, err
	}
	return nil, s.finish()
}

// rebuild lays the snapshot down around the intents.
func (s *snapshot) rebuild() (*local.Collision, error) {
	box := s.head.outbox
	covered, err := false, error(nil)
	if box.State == local.OutboxCommittedRemote {
		if covered, err = s.covers(box); err != nil {
			return nil, err
		}
	}
	switch {
	case box.State == local.OutboxCommittedRemote && !covered && len(s.displace) > 0:
		return nil, errDoubtful // nothing makes room while a push is in flight, and this one is again
	case box.State == local.OutboxCommittedRemote && !covered:
		if err := s.db.uncommit(); err != nil {
			return nil, err
		}
	case covered:
		// Shadows are made anew below; so what the push committed needs no images here.
		if err := s.db.settleFrozen(box.RemoteSeq); err != nil {
			return nil, err
		}
		if err := s.db.finishReplay(box); err != nil {
			return nil, err
		}
		s.out.OutboxSettled = true
	}
	if err := s.makeRoom(); err != nil {
		return nil, err
	}
	if err := s.gather(); err != nil {
		return nil, err
	}
	if err := s.forgetLostBases(); err != nil {
		return nil, err
	}
	if err := s.shadows(); err != nil {
		return nil, err
	}
	if collision, err := s.fill(); collision != nil || err != nil {
		return collision, err
	}
	if s.op.Kind == local.SourceRecovery {
		r, err := s.db.rotate(s.op, s.a.contract.Name())
		if err != nil {
			return nil, err
		}
		s.out.Rotated = &r
	}
	return nil, s.finish()
}

// makeRoom displaces intents. What their rows become is the snapshot's business.
func (s *snapshot) makeRoom() error {
	d := &displacing{db: s.db, im: newImages(s.a.contract)}
	for i := range s.displace {
		d.how = &s.displace[i]
		if err := d.ready(); err != nil {
			return err
		}
		if err := d.drop(); err != nil {
			return err
		}
	}
	s.out.Displaced = d.out
	return nil
}

// gather lists the intents. An edit made since a freeze has the base of the frozen row.
func (s *snapshot) gather() error {
	if err := s.db.conn.run(`DELETE FROM temp._sync_intents`); err != nil {
		return err
	}
	for _, sql := range []string{
		`INSERT INTO temp._sync_intents SELECT schema_name, table_name, key_json, base_row_version, 1 FROM _sync_outbox_rows`,
		`INSERT INTO temp._sync_intents SELECT schema_name, table_name, key_json, base_row_version, 0 FROM _sync_dirty_rows WHERE true
ON CONFLICT DO UPDATE SET base_row_version = excluded.base_row_version`,
		`INSERT INTO temp._sync_intents SELECT schema_name, table_name, key_json, base_row_version, 0 FROM _sync_quarantine WHERE true ON CONFLICT DO NOTHING`,
	} {
		if err := s.db.conn.run(sql); err != nil {
			return err
		}
	}
	var err error
	s.around, err = s.db.conn.one(`SELECT 1 FROM temp._sync_intents LIMIT 1`, nil)
	return err
}

// shadows makes the shadows anew: what the snapshot says of each row that has an intent.
func (s *snapshot) shadows() error {
	// What a push_conflict told of a row that is gone is more than a snapshot can say, and would have to be asked for by
	// the same conflict: at which version it was deleted.
	if err := s.db.conn.run(`DELETE FROM _sync_shadow AS s
WHERE NOT (s.deleted = 1 AND s.version_exact = 1 AND s.row_version BETWEEN 1 AND ?1
  AND EXISTS (SELECT 1 FROM temp._sync_intents i WHERE i.schema_name = s.schema_name AND i.table_name = s.table_name AND i.key_json = s.key_json
    AND i.base_row_version < s.row_version)
  AND NOT EXISTS (SELECT 1 FROM _sync_snapshot_stage t WHERE t.snapshot_id = ?2 AND t.schema_name = s.schema_name AND t.table_name = s.table_name AND t.key_json = s.key_json))`,
		s.session.BundleSeq, s.session.ID); err != nil || !s.around {
		return err
	}
	const same = ` ON i.schema_name = s.schema_name AND i.table_name = s.table_name AND i.key_json = s.key_json`
	if err := s.db.conn.run(`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, version_exact, deleted, payload)
SELECT s.schema_name, s.table_name, s.key_json, s.row_version, 1, 0, s.payload
FROM temp._sync_intents i CROSS JOIN _sync_snapshot_stage s`+same+` WHERE s.snapshot_id = ? AND s.row_version > i.base_row_version`, s.session.ID); err != nil {
		return err
	}
	// Not in the snapshot, but known to have been there: deleted, at a version nobody told us.
	return s.db.conn.run(`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, version_exact, deleted, payload)
SELECT i.schema_name, i.table_name, i.key_json, ?1, 0, 1, NULL FROM temp._sync_intents i
WHERE ?1 > i.base_row_version
  AND (i.frozen OR EXISTS (SELECT 1 FROM _sync_row_state r WHERE r.schema_name = i.schema_name AND r.table_name = i.table_name AND r.key_json = i.key_json AND r.deleted = 0))
  AND NOT EXISTS (SELECT 1 FROM _sync_snapshot_stage s WHERE s.snapshot_id = ?2 AND s.schema_name = i.schema_name AND s.table_name = i.table_name AND s.key_json = i.key_json)
ON CONFLICT DO NOTHING`,
		s.session.BundleSeq, s.session.ID)
}

// fill replaces every row without an intent by the snapshot's.
func (s *snapshot) fill() (*local.Collision, error) {
	var before []dangle
	if s.careful {
		var err error
		if before, err = s.dangling(); err != nil {
			return nil, err
		}
	}
	if err := s.empty(); err != nil {
		return nil, err
	}
	err := s.insert()
	if isUnique(err) {
		intents, err := s.a.holders(err, s.empty, s.insert)
		return collisionOf("unique", intents), err
	}
	if err != nil {
		return nil, err
	}
	if err := s.db.conn.run(`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted, updated_at)
SELECT schema_name, table_name, key_json, row_version, 0, ? FROM _sync_snapshot_stage AS s WHERE snapshot_id = ?`+s.unless("s")+`
ORDER BY row_ordinal`, s.a.now, s.session.ID); err != nil {
		return nil, err
	}
	return s.checkReferences(before)
}

// unless is the condition that a row of a metadata table has no intent.
func (s *snapshot) unless(alias string) string {
	if !s.around {
		return ``
	}
	return fmt.Sprintf(` AND NOT EXISTS (SELECT 1 FROM temp._sync_intents i WHERE i.schema_name = %s.schema_name AND i.table_name = %[1]s.table_name AND i.key_json = %[1]s.key_json)`, alias)
}

// empty deletes every business row and row state without an intent. Without any intent, and without triggers of the
// application's, SQLite drops whole tables at once.
func (s *snapshot) empty() error {
	for _, t := range s.db.tables {
		sql := `DELETE FROM ` + quote(t.local)
		if s.around {
			sql += ` AS r WHERE NOT EXISTS (SELECT 1 FROM temp._sync_intents i WHERE i.schema_name = ` + literal(t.Schema) +
				` AND i.table_name = ` + literal(t.Name) + ` AND i.key_json = ` + t.keyJSON("r") + `)`
		}
		n, err := s.db.conn.changes(sql)
		if err != nil {
			return err
		}
		if n > 0 {
			s.a.plan(t).changed = true
		}
	}
	sql := `DELETE FROM _sync_row_state AS r`
	if s.around {
		sql += ` WHERE true` + s.unless("r")
	}
	return s.db.conn.run(sql)
}

// insert inserts the snapshot's rows that have no intent, in the snapshot's order, which is that of their keys.
func (s *snapshot) insert() error {
	var (
		p        *plan
		payloads [][]byte
		arena    []byte
	)
	flush := func() error {
		if len(payloads) == 0 {
			return nil
		}
		n := len(p.t.columns)
		err := p.insert.exec(len(payloads), func(st *sqlite3.Stmt, slot, i int) error {
			row, err := p.decoder.Decode(payloads[i])
			if err != nil {
				return err
			}
			return bindRow(st, 1+slot*n, row)
		})
		p.changed = true
		payloads, arena = payloads[:0], arena[:0]
		return p.unfit(err)
	}
	_, err := s.db.conn.each(`SELECT table_name, payload FROM _sync_snapshot_stage AS s WHERE snapshot_id = ?`+s.unless("s")+`
ORDER BY row_ordinal`, func(st *sqlite3.Stmt) error {
		t := s.db.byName[string(st.ColumnRawText(0))]
		if t == nil {
			return s.db.damaged("_sync_snapshot_stage", "holds a row of a table that is not configured: begin the snapshot anew", nil)
		}
		if p == nil || p.t != t || len(payloads) == batchRows {
			if err := flush(); err != nil {
				return err
			}
			p = s.a.plan(t)
		}
		start := len(arena)
		arena = append(arena, st.ColumnRawText(1)...)
		payloads = append(payloads, arena[start:])
		return nil
	}, s.session.ID)
	if err != nil {
		return err
	}
	return flush()
}

// checkReferences finds references without their parent. Those that dangled before are not the snapshot's fault.
func (s *snapshot) checkReferences(before []dangle) (*local.Collision, error) {
	found, err := s.dangling()
	if err != nil {
		return nil, err
	}
	if len(found) > 0 && !s.careful {
		return nil, errCareful
	}
	known := map[string]bool{}
	for _, d := range before {
		known[d.name()] = true
	}
	found = slices.DeleteFunc(found, func(d dangle) bool { return known[d.name()] })
	if len(found) == 0 {
		return nil, nil
	}
	intents, err := s.a.blame(found)
	if err == nil && len(intents) == 0 {
		err = s.a.unheld(found[0])
	}
	return collisionOf("foreign_key", intents), err
}

// dangling returns every reference in the database that has no parent.
func (s *snapshot) dangling() (out []dangle, err error) {
	for _, child := range s.db.tables {
		for _, ref := range child.parents {
			if _, err := s.db.conn.each(`SELECT `+orphanColumns(child, ref)+` FROM `+quote(child.local)+` AS c WHERE `+s.db.orphan(ref), func(st *sqlite3.Stmt) error {
				out = append(out, dangle{child: child, ref: ref, key: columnValue(st, 0), value: columnValue(st, 1)})
				return nil
			}); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// finish moves the checkpoint, lifts the gate, ends the operation and empties the stage.
func (s *snapshot) finish() error {
	s.out.Tables = s.a.tables()
	if err := s.db.conn.run(`UPDATE _sync_attachment_state SET last_bundle_seq_seen = ?, rebuild_required = 0`, s.session.BundleSeq); err != nil {
		return err
	}
	if err := s.db.conn.run(`UPDATE _sync_operation_state SET kind = 'none', target_user_id = '', reason = '', replacement_source_id = ''`); err != nil {
		return err
	}
	return s.db.clearStage()
}
