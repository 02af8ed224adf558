package sqlite

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// orderIndex tells where the next upsert and the next deletion of a table stand among the dirty rows. A push that goes in
// many bundles would else look through what is left of other tables, and of deletions, for each of them. It is there only
// while such a push is on its way: built by the freeze that misses it, dropped by the one that takes the last rows. To
// keep it all the time would make every captured insert a sixth more expensive.
const orderIndex = `CREATE INDEX idx_sync_dirty_rows_order ON _sync_dirty_rows (table_name, op = 'DELETE')`

// hasOrder reports whether the index is there.
func (db *DB) hasOrder() (bool, error) {
	return db.conn.one(`SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = 'idx_sync_dirty_rows_order'`, nil)
}

// keepOrder builds the index, or drops it and those of base rows, once the freeze has found its rows.
func (f *freezing) keepOrder() error {
	if !f.cut && f.only == nil {
		if err := f.db.dropBaseIndexes(); err != nil {
			return err
		}
	}
	switch {
	case f.ordered && !f.cut && f.only == nil:
		return f.db.conn.run(`DROP INDEX idx_sync_dirty_rows_order`)
	case !f.ordered && f.cut && f.looked > 2*float64(f.box.RowCount)+4*freezeWindow:
		return f.db.conn.run(orderIndex)
	}
	return nil
}

// baseIndexes is how the names of the indexes of base rows begin.
const baseIndexes = `idx_sync_base_rows_`

// baseIndex answers the query for the ordinal of the last deletion, after ?2, of a row of t that refers by ref, as the
// server has it, to the row of parent with the key ?1. It goes by an index, which is there as long as deletions of a
// cycle go in pieces; a schema that is changed meanwhile has indexes of its own.
func (db *DB) baseIndex(t, parent *table, ref reference) (string, error) {
	child := t.Columns[t.column(ref.column)].Name
	name := quote(baseIndexes + t.Name + `.` + child)
	path := literal(`$."` + child + `"`)
	if err := db.conn.raw.Exec(fmt.Sprintf(`CREATE INDEX IF NOT EXISTS %s ON _sync_base_rows (json_extract(payload, %s)) WHERE table_name = %s`,
		name, path, literal(t.Name))); err != nil {
		return "", err
	}
	// Keys and references are spelled alike.
	return fmt.Sprintf(`SELECT MAX(c.dirty_ordinal) FROM _sync_base_rows b INDEXED BY %s
  CROSS JOIN _sync_dirty_rows c ON c.schema_name = b.schema_name AND c.table_name = b.table_name AND c.key_json = b.key_json
WHERE b.table_name = %s AND json_extract(b.payload, %s) = json_extract(?1, %s) AND +b.schema_name = %s AND c.op = 'DELETE' AND c.dirty_ordinal > ?2`,
		name, literal(t.Name), path, literal(`$."`+parent.Columns[parent.Key].Name+`"`), literal(t.Schema)), nil
}

// dropBaseIndexes drops the indexes of base rows, whatever tables they were made for.
func (db *DB) dropBaseIndexes() error {
	var names []string
	if _, err := db.conn.each(`SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = '_sync_base_rows' AND substr(name, 1, length(?1)) = ?1`, func(s *sqlite3.Stmt) error {
		names = append(names, s.ColumnText(0))
		return nil
	}, baseIndexes); err != nil {
		return err
	}
	for _, name := range names {
		if err := db.conn.raw.Exec(`DROP INDEX ` + quote(name)); err != nil {
			return err
		}
	}
	return nil
}
