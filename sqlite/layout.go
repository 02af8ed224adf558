package sqlite

import (
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

// dirtyRowsDDL is the definition of _sync_dirty_rows.
var dirtyRowsDDL = metadata[slices.IndexFunc(metadata, func(ddl string) bool {
	return strings.HasPrefix(ddl, "CREATE TABLE IF NOT EXISTS _sync_dirty_rows ")
})]

// arrangeDirtyRows makes _sync_dirty_rows anew, in a transaction, when it is laid out in another way: the other clients of
// the family keep the same columns, but give ordinals out themselves, which need not differ, and the capture leaves that
// to the table. Rows keep their order, and what the others call an update of a row that the server does not have becomes
// the insert that Freeze takes it for. That the columns are there has been checked.
func (db *DB) arrangeDirtyRows() error {
	layout := ""
	if _, err := db.conn.one(`SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = '_sync_dirty_rows'`, func(s *sqlite3.Stmt) error {
		layout = s.ColumnText(0)
		return nil
	}); err != nil {
		return err
	}
	if layout == "" || layout == strings.Replace(dirtyRowsDDL, "IF NOT EXISTS ", "", 1) {
		return nil
	}
	const columns = `schema_name, table_name, key_json, op, base_row_version, payload, updated_at`
	for _, sql := range []string{
		`CREATE TEMP TABLE _sync_former_rows AS SELECT ` + columns + `, dirty_ordinal FROM _sync_dirty_rows`,
		`DROP TABLE _sync_dirty_rows`,
		dirtyRowsDDL,
		`INSERT INTO _sync_dirty_rows (` + columns + `) SELECT ` + columns + ` FROM temp._sync_former_rows ORDER BY dirty_ordinal, table_name, key_json`,
		`UPDATE _sync_dirty_rows AS d SET op = 'INSERT' WHERE op = 'UPDATE' AND NOT EXISTS (SELECT 1 FROM _sync_row_state r
  WHERE r.schema_name = d.schema_name AND r.table_name = d.table_name AND r.key_json = d.key_json AND r.deleted = 0)`,
		`DROP TABLE temp._sync_former_rows`,
	} {
		if err := db.conn.raw.Exec(sql); err != nil {
			return err
		}
	}
	return nil
}
