package sqlite

// orderIndex tells where the next upsert and the next deletion of a table stand among the dirty rows. A push that goes in
// many bundles would else look through what is left of other tables, and of deletions, for each of them. It is there only
// while such a push is on its way: built by the freeze that misses it, dropped by the one that takes the last rows. To
// keep it all the time would make every captured insert a sixth more expensive.
const orderIndex = `CREATE INDEX idx_sync_dirty_rows_order ON _sync_dirty_rows (table_name, op = 'DELETE')`

// hasOrder reports whether the index is there.
func (db *DB) hasOrder() (bool, error) {
	return db.conn.one(`SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = 'idx_sync_dirty_rows_order'`, nil)
}

// keepOrder builds the index, or drops it, once the freeze has found its rows.
func (f *freezing) keepOrder() error {
	switch {
	case f.ordered && !f.cut && f.only == nil:
		return f.db.conn.run(`DROP INDEX idx_sync_dirty_rows_order`)
	case !f.ordered && f.cut && f.looked > 2*float64(f.box.RowCount)+4*freezeWindow:
		return f.db.conn.run(orderIndex)
	}
	return nil
}
