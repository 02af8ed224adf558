package sqlite

import (
	"github.com/ncruces/go-sqlite3"
)

// void reports whether a dirty row, with the columns that freezeGroup.move names, asks for nothing. What images.void
// tells of an intent this tells of a row on its way into the outbox, in the transaction that would freeze it: whatever
// is edited before is seen, and each row is looked at once, however many bundles it takes to come to it.
func (f *freezing) void(t *table, column []sqlite3.Value) bool {
	if f.deletions {
		return column[3].Int64() == 0
	}
	if column[6].Type() == sqlite3.NULL {
		return false
	}
	return f.im.sameLocal(t, column[4].RawText(), column[6].RawText())
}

// dropVoid drops the rows that were found void, with their base rows. Their row states tell what the server has.
func (f *freezing) dropVoid() error {
	for _, ordinal := range f.voids {
		for _, sql := range []string{
			`DELETE FROM _sync_base_rows WHERE (schema_name, table_name, key_json) =
  (SELECT schema_name, table_name, key_json FROM _sync_dirty_rows WHERE dirty_ordinal = ?)`,
			`DELETE FROM _sync_dirty_rows WHERE dirty_ordinal = ?`,
		} {
			if err := f.db.conn.run(sql, ordinal); err != nil {
				return err
			}
		}
	}
	return nil
}
