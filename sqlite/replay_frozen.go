package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// ReplayFrozen settles the outbox without its bundle's rows, if the bundle's hash proves that they are row for row
// what was frozen. proved is false, and nothing is changed, when it does not: then the rows must be fetched.
//
// The proof is one pass over the frozen rows. The content here is the committed one, so no business row is written,
// except where a newer image was pulled in the meantime.
func (db *DB) ReplayFrozen(ctx context.Context, c wire.Contract, meta wire.BundleMeta) (proved bool, r local.Replayed, err error) {
	err = db.attempts(ctx, "replay by hash", 0, func(how care) (stop error, err error) {
		proved, r = false, local.Replayed{}
		h, err := db.head()
		if err != nil {
			return nil, err
		}
		if err := h.mustOwn(db, "replay", &meta); err != nil {
			return nil, err
		}
		if how == careful {
			return nil, nil // a newer image collides with intents: the ordinary replay knows what to do
		}
		pushed, same, err := db.predicts(c, h.outbox, &meta)
		if err != nil || !same {
			return nil, err
		}
		a, err := db.newApplier(c)
		if err != nil {
			return nil, err
		}
		defer a.close()
		if err := db.settleFrozen(meta.Seq); err != nil {
			return nil, err
		}
		if err := a.takeShadows(meta.Seq); err != nil {
			return nil, err
		}
		if err := db.finishReplay(h.outbox); err != nil {
			return nil, err
		}
		proved = true
		// Whoever shows these rows may show of them that they are committed now.
		for t := range pushed {
			a.plan(t).changed = true
		}
		r = local.Replayed{Rows: h.outbox.RowCount, Checkpoint: h.checkpoint, Tables: a.tables()}
		if meta.Seq == h.checkpoint+1 {
			r.Checkpoint = meta.Seq
			return nil, db.setCheckpoint(meta.Seq)
		}
		return nil, nil
	})
	if err != nil {
		return false, local.Replayed{}, err
	}
	return proved, r, nil
}

// predicts reports whether the bundle is certain to hold the frozen rows in their order, unchanged, and of which tables
// they are.
func (db *DB) predicts(c wire.Contract, box local.Outbox, meta *wire.BundleMeta) (tables map[*table]bool, same bool, err error) {
	if meta.Hash == "" || meta.RowCount >= 0 && meta.RowCount != box.RowCount {
		return nil, false, nil
	}
	tables = map[*table]bool{}
	hash := c.NewBundleHash()
	var row wire.Row
	lossless, n := true, int64(0)
	_, err = db.conn.each(`SELECT table_name, wire_key_json, op, wire_payload FROM _sync_outbox_rows WHERE source_bundle_id = ? ORDER BY row_ordinal`, func(s *sqlite3.Stmt) error {
		t := db.byName[string(s.ColumnRawText(0))]
		if t == nil {
			return db.damaged("_sync_outbox_rows", "holds a row of a table that is not configured", nil)
		}
		key, err := wire.ParseWireKeyJSON(s.ColumnText(1))
		if err != nil {
			return db.damaged("_sync_outbox_rows", "holds a key that cannot be read", err)
		}
		row = wire.Row{Schema: t.Schema, Table: t.Name, Key: key, Op: opOf(s.ColumnRawText(2)), RowVersion: meta.Seq}
		if s.ColumnType(3) != sqlite3.NULL {
			row.Payload = s.ColumnRawText(3)
			if !c.LosslessPayload(&t.Table, row.Payload) {
				lossless = false
				return errEnough
			}
		}
		n++
		tables[t] = true
		return hash.Add(&row)
	}, box.SourceBundleID)
	if err := enough(err); err != nil {
		return nil, false, err
	}
	return tables, lossless && n == box.RowCount && hash.Sum() == meta.Hash, nil
}

// settleFrozen takes the frozen rows as committed unchanged at version v: row states are written, and edits made since
// are put onto v with the frozen image as their base row.
func (db *DB) settleFrozen(v int64) error {
	if err := db.conn.run(`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted)
SELECT schema_name, table_name, key_json, ?, op = 'DELETE' FROM _sync_outbox_rows WHERE true ORDER BY key_json
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET
  row_version = excluded.row_version, deleted = excluded.deleted, updated_at = excluded.updated_at`, v); err != nil {
		return err
	}
	edited, err := db.editedSince()
	if err != nil {
		return err
	}
	for _, sql := range []string{
		`INSERT INTO _sync_base_rows (schema_name, table_name, key_json, payload)
SELECT o.schema_name, o.table_name, o.key_json, o.local_payload` + edited + ` WHERE o.op <> 'DELETE'
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET payload = excluded.payload`,
		`DELETE FROM _sync_base_rows WHERE (schema_name, table_name, key_json) IN (SELECT o.schema_name, o.table_name, o.key_json` + edited + ` WHERE o.op = 'DELETE')`,
	} {
		if err := db.conn.run(sql); err != nil {
			return err
		}
	}
	return db.conn.run(`UPDATE _sync_dirty_rows AS x SET base_row_version = ?,
  op = CASE WHEN payload IS NULL THEN 'DELETE' WHEN 'DELETE' = (SELECT o.op FROM _sync_outbox_rows o
    WHERE o.schema_name = x.schema_name AND o.table_name = x.table_name AND o.key_json = x.key_json) THEN 'INSERT' ELSE 'UPDATE' END
WHERE dirty_ordinal IN (SELECT d.dirty_ordinal`+edited+`)`, v)
}

// editedSince is the join of the frozen rows o with the dirty rows d of the same keys, going through the fewer of both:
// a bundle costs what it holds, not what is left of a push of many.
func (db *DB) editedSince() (string, error) {
	const fewer = `SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM _sync_dirty_rows LIMIT (SELECT row_count FROM _sync_outbox_bundle))) < row_count FROM _sync_outbox_bundle`
	dirty, err := db.count(fewer)
	const on = ` ON o.schema_name = d.schema_name AND o.table_name = d.table_name AND o.key_json = d.key_json`
	if dirty != 0 {
		return ` FROM _sync_dirty_rows d CROSS JOIN _sync_outbox_rows o` + on, err
	}
	return ` FROM _sync_outbox_rows o CROSS JOIN _sync_dirty_rows d` + on, err
}

// takeShadows lays down the images newer than v of outbox rows that were not edited since. errCareful says that they
// collide with something.
func (a *applier) takeShadows(v int64) error {
	if !a.intents {
		return nil
	}
	a.replay = &replay{}
	defer func() { a.replay = nil }()
	return a.plainly(func(add func(*plan, string, wire.Op, int64, []byte, bool) error) error {
		_, err := a.db.conn.each(`SELECT o.table_name, o.wire_key_json FROM _sync_shadow s
CROSS JOIN _sync_outbox_rows o ON o.schema_name = s.schema_name AND o.table_name = s.table_name AND o.key_json = s.key_json
WHERE s.row_version > ? AND NOT EXISTS (SELECT 1 FROM _sync_dirty_rows d
  WHERE d.schema_name = s.schema_name AND d.table_name = s.table_name AND d.key_json = s.key_json)
ORDER BY s.table_name, s.key_json`, func(s *sqlite3.Stmt) error {
			key, err := wire.ParseWireKeyJSON(s.ColumnText(1))
			if err != nil {
				return a.db.damaged("_sync_outbox_rows", "holds a key that cannot be read", err)
			}
			// As its frozen image at version v, over which settle prefers the shadow.
			return add(a.plan(a.db.byName[s.ColumnText(0)]), key.Value, wire.OpDelete, v, nil, true)
		}, v)
		return err
	})
}
