package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"
)

// RequeueOutbox puts the rows of the outbox back to dirty and empties it. An empty outbox stays as it is.
func (db *DB) RequeueOutbox(ctx context.Context) error {
	return db.write(ctx, "requeue", relaxed, db.requeueOutbox)
}

// requeueOutbox puts the rows of the outbox back to dirty, inside a transaction, and empties it. They come before
// everything that became dirty since the freeze, in the order in which they were frozen. A row that was edited since
// keeps its newer operation and content and takes the frozen row's base and place.
//
// A frozen row that the server is known to show just so was committed after all: what was edited since was made on that. As
// a change that the server had nothing of it would be in conflict with what it was made from, and a deletion void.
func (db *DB) requeueOutbox() error {
	committed, err := db.shownAsFrozen()
	if err != nil {
		return err
	}
	if err := db.putBack(); err != nil {
		return err
	}
	for _, k := range committed {
		in, err := db.loadIntent(k.t, k.key)
		if err != nil {
			return err
		}
		if err := db.rebase(k.im, in); err != nil {
			return err
		}
	}
	return db.clearOutbox()
}

// shownRow is a frozen row that was edited since and has the server's image of just what was frozen for a shadow.
type shownRow struct {
	im  *images
	t   *table
	key string
}

// shownAsFrozen looks for those rows.
func (db *DB) shownAsFrozen() (found []shownRow, err error) {
	type candidate struct {
		table, key     string
		frozen, shadow []byte
	}
	var candidates []candidate
	if _, err := db.conn.each(`SELECT o.table_name, o.key_json, o.wire_payload, s.payload FROM _sync_shadow s
JOIN _sync_outbox_rows o ON o.schema_name = s.schema_name AND o.table_name = s.table_name AND o.key_json = s.key_json
JOIN _sync_dirty_rows d ON d.schema_name = s.schema_name AND d.table_name = s.table_name AND d.key_json = s.key_json
WHERE s.deleted = 0 AND s.version_exact = 1 AND s.row_version > o.base_row_version AND o.op <> 'DELETE'`, func(s *sqlite3.Stmt) error {
		candidates = append(candidates, candidate{s.ColumnText(0), s.ColumnText(1), columnBytes(s, 2), columnBytes(s, 3)})
		return nil
	}); err != nil || len(candidates) == 0 {
		return nil, err
	}
	contract, err := db.storedContract(engineFrozenContract)
	if err != nil {
		return nil, err
	}
	if pinned, err := db.engineState(engineContract); err != nil || pinned != string(contract.Name()) {
		return nil, err // spelled in two dialects, they are not compared
	}
	im := newImages(contract)
	for _, c := range candidates {
		t := db.byName[c.table]
		if t == nil {
			continue
		}
		if same, err := contract.SameImage(&t.Table, c.frozen, c.shadow); err != nil {
			return nil, err
		} else if same {
			found = append(found, shownRow{im, t, c.key})
		}
	}
	return found, nil
}

// putBack makes the rows of the outbox dirty. They are as old as the oldest of them was: being refused does not make a
// change young again.
func (db *DB) putBack() error {
	var frozen, dirty, first int64
	if _, err := db.conn.one(`SELECT
  (SELECT COALESCE(MAX(row_ordinal) + 1, 0) FROM _sync_outbox_rows),
  EXISTS (SELECT 1 FROM _sync_dirty_rows),
  (SELECT COALESCE(MIN(dirty_ordinal), 0) FROM _sync_dirty_rows)`, func(s *sqlite3.Stmt) error {
		frozen, dirty, first = s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnInt64(2)
		return nil
	}); err != nil {
		return err
	}
	// From 1 on where there is room, else right before the first of the others, if need be below 0. Ordinals start anew
	// when nothing is dirty, so that what was written while the push was on its way often has those of its rows.
	from := int64(1)
	if dirty != 0 && first <= frozen {
		from = first - frozen
	}
	return db.conn.run(`INSERT OR FAIL INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal, updated_at)
SELECT schema_name, table_name, key_json, op, base_row_version, local_payload, row_ordinal + ?,
  COALESCE((SELECT value FROM _sync_engine_state WHERE name = '`+engineFrozenSince+`'), `+now+`) FROM _sync_outbox_rows WHERE true
ORDER BY row_ordinal
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET
  base_row_version = excluded.base_row_version, dirty_ordinal = excluded.dirty_ordinal`, from)
}

// clearOutbox empties the outbox, inside a transaction. The source's next bundle id is not its business.
func (db *DB) clearOutbox() error {
	for _, sql := range []string{
		`DELETE FROM _sync_outbox_rows`,
		`UPDATE _sync_outbox_bundle SET state = 'none', source_id = '', source_bundle_id = 0, initialization_id = '',
  canonical_request_hash = '', row_count = 0, remote_bundle_hash = '', remote_bundle_seq = 0 WHERE state <> 'none'`,
		`DELETE FROM _sync_engine_state WHERE name IN ('` + engineFrozenContract + `', '` + engineFrozenSince + `')`,
	} {
		if err := db.conn.run(sql); err != nil {
			return err
		}
	}
	return nil
}
