package sqlite

import (
	"math"

	"github.com/ncruces/go-sqlite3"
)

// A deletion is blind when it is not known what the server's row refers to: there is no base row, as the
// row was first changed by another client of the family, or by a REPLACE of a tool without recursive_triggers. Any row
// deleted before it may be meant. To find that there is
// none takes a look at every deletion, so the connection keeps that in mind: the version of the database, which only
// what others commit changes, as of which a table had none.

// keepsSight are the transactions of ours between the bundles of a push. They make no deletion, but for those of the
// outbox that come back on the server's image, and leave none without its base row. Others need not be looked into.
var keepsSight = map[string]bool{"settle": true, "freeze": true, "mark committed": true, "replay by hash": true, "replay": true, "replay staged bundle": true}

// lastBlind returns the ordinal of the last blind deletion of a row of t, else the smallest integer.
func (db *DB) lastBlind(t *table) (at int64, err error) {
	at = math.MinInt64
	version, err := db.count(`PRAGMA data_version`)
	if err != nil {
		return at, err
	}
	if seen, ok := db.conn.sees[t]; ok && seen == version {
		return at, nil
	}
	if at, err = db.findBlind(t); err == nil && at == math.MinInt64 {
		if db.conn.sees == nil {
			db.conn.sees = map[*table]int64{}
		}
		db.conn.sees[t] = version
	}
	return at, err
}

// findBlind is lastBlind by looking. A deletion of a row that the server does not have is not going to be pushed.
func (db *DB) findBlind(t *table) (at int64, err error) {
	at = math.MinInt64
	_, err = db.conn.one(`SELECT MAX(c.dirty_ordinal) FROM _sync_dirty_rows c
WHERE c.op = 'DELETE' AND +c.schema_name = ? AND +c.table_name = ? AND NOT EXISTS (SELECT 1 FROM _sync_base_rows b
    WHERE b.schema_name = c.schema_name AND b.table_name = c.table_name AND b.key_json = c.key_json)
  AND EXISTS (SELECT 1 FROM _sync_row_state r
    WHERE r.schema_name = c.schema_name AND r.table_name = c.table_name AND r.key_json = c.key_json AND r.deleted = 0)`, func(s *sqlite3.Stmt) error {
		if s.ColumnType(0) != sqlite3.NULL {
			at = s.ColumnInt64(0)
		}
		return nil
	}, t.Schema, t.Name)
	return at, err
}
