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
func (db *DB) requeueOutbox() error {
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
	if err := db.conn.run(`INSERT OR FAIL INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
SELECT schema_name, table_name, key_json, op, base_row_version, local_payload, row_ordinal + ? FROM _sync_outbox_rows WHERE true
ORDER BY row_ordinal
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET
  base_row_version = excluded.base_row_version, dirty_ordinal = excluded.dirty_ordinal`, from); err != nil {
		return err
	}
	return db.clearOutbox()
}

// clearOutbox empties the outbox, inside a transaction. The source's next bundle id is not its business.
func (db *DB) clearOutbox() error {
	for _, sql := range []string{
		`DELETE FROM _sync_outbox_rows`,
		`UPDATE _sync_outbox_bundle SET state = 'none', source_id = '', source_bundle_id = 0, initialization_id = '',
  canonical_request_hash = '', row_count = 0, remote_bundle_hash = '', remote_bundle_seq = 0 WHERE state <> 'none'`,
		`DELETE FROM _sync_engine_state WHERE name = '` + engineFrozenContract + `'`,
	} {
		if err := db.conn.run(sql); err != nil {
			return err
		}
	}
	return nil
}
