package sqlite

import "github.com/ncruces/go-sqlite3"

// The capture triggers of the managed tables put what happened to a row into one of two views, and the INSTEAD OF
// triggers of those views do what is to be done about it. So the rules stand here once, not once a table: SQLite keeps
// the text of every trigger parsed in every connection, and keys are rendered once.
//
// Every table that a trigger names is opened for every row, so that what is hardly ever needed stands in a trigger of
// its own. A statement that makes a trigger fire can bring its own conflict clause, which counts for the statements of
// the trigger, too: OR REPLACE would remove any dirty row whose ordinal is taken, hence nothing here may rest on a
// conflict other than the one that ON CONFLICT names.

// captureKey selects the row of any metadata table whose key is the one captured.
const captureKey = `schema_name = NEW.schema_name AND table_name = NEW.table_name AND key_json = NEW.key_json`

// formerOrdinal is the ordinal of an intent q of _sync_quarantine, unless a dirty row has it by now: then it is NULL, which
// SQLite replaces by one more than the largest when it is inserted. Ordinals start anew when nothing is dirty.
const formerOrdinal = `CASE WHEN NOT EXISTS (SELECT 1 FROM _sync_dirty_rows AS taken WHERE taken.dirty_ordinal = q.dirty_ordinal) THEN q.dirty_ordinal END`

// captureObjects are the views and their triggers, in the order in which they must be created.
var captureObjects = []trigger{
	// _sync_capture_base takes a row as it was before a change. It is the server's image, and kept as the base row, if
	// it is known live there and nothing local has been done to it since.
	{"_sync_capture_base", `CREATE VIEW _sync_capture_base (schema_name, table_name, key_json, payload) AS SELECT NULL, NULL, NULL, NULL WHERE 0`},
	{"_sync_capture_base_insert", `CREATE TRIGGER _sync_capture_base_insert INSTEAD OF INSERT ON _sync_capture_base
BEGIN
  INSERT INTO _sync_base_rows (schema_name, table_name, key_json, payload)
  SELECT schema_name, table_name, key_json, NEW.payload FROM _sync_row_state
  WHERE ` + captureKey + ` AND deleted = 0
    AND NOT EXISTS (SELECT 1 FROM _sync_dirty_rows WHERE ` + captureKey + `)
    AND NOT EXISTS (SELECT 1 FROM _sync_outbox_rows WHERE ` + captureKey + `)
    AND NOT EXISTS (SELECT 1 FROM _sync_quarantine WHERE ` + captureKey + `)
  ON CONFLICT (schema_name, table_name, key_json) DO NOTHING;
END`},
	// _sync_capture_change takes a row as it is after a change; without a payload it is gone, and without a key there is
	// nothing to be captured.
	{"_sync_capture_change", `CREATE VIEW _sync_capture_change (schema_name, table_name, key_json, payload) AS SELECT NULL, NULL, NULL, NULL WHERE 0`},
	// The base of an intent is the version on which the row stands here, which is also that of a frozen or quarantined
	// intent of the row. The ordinal is left to SQLite: one more than the largest.
	{"_sync_capture_change_insert", `CREATE TRIGGER _sync_capture_change_insert INSTEAD OF INSERT ON _sync_capture_change WHEN NEW.key_json IS NOT NULL
BEGIN
  INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, payload, base_row_version)
  SELECT NEW.schema_name, NEW.table_name, NEW.key_json,
    CASE WHEN NEW.payload IS NULL THEN 'DELETE' WHEN r.deleted = 0 THEN 'UPDATE' ELSE 'INSERT' END, NEW.payload, COALESCE(r.row_version, 0)
  FROM (SELECT 1) LEFT JOIN _sync_row_state r ON r.schema_name = NEW.schema_name AND r.table_name = NEW.table_name AND r.key_json = NEW.key_json
  WHERE true
  ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET op = excluded.op, payload = excluded.payload, updated_at = excluded.updated_at;
END`},
	// An intent in quarantine goes back to its place among the dirty rows. SQLite may fire this before or after the
	// trigger above: before, the intent goes back as it was and takes the change after that; after, it is there, and
	// moves to its place.
	{"_sync_capture_change_quarantined", `CREATE TRIGGER _sync_capture_change_quarantined INSTEAD OF INSERT ON _sync_capture_change
WHEN NEW.key_json IS NOT NULL AND EXISTS (SELECT 1 FROM _sync_quarantine)
BEGIN
  INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, payload, base_row_version, dirty_ordinal)
  SELECT schema_name, table_name, key_json, op, payload, base_row_version, ` + formerOrdinal + ` FROM _sync_quarantine AS q WHERE ` + captureKey + `
  ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET dirty_ordinal = COALESCE((SELECT ` + formerOrdinal + ` FROM _sync_quarantine AS q WHERE ` + captureKey + `), dirty_ordinal);
  DELETE FROM _sync_quarantine WHERE ` + captureKey + `;
END`},
}

// captureInstalled reports whether the shared half of the capture is what it is above.
func (c *conn) captureInstalled() (bool, error) {
	have := map[string]string{}
	if _, err := c.each(`SELECT name, sql FROM sqlite_schema WHERE name LIKE '\_sync\_capture\_%' ESCAPE '\'`, func(s *sqlite3.Stmt) error {
		have[s.ColumnText(0)] = s.ColumnText(1)
		return nil
	}); err != nil {
		return false, err
	}
	same := len(have) == len(captureObjects)
	for _, o := range captureObjects {
		same = same && have[o.name] == o.sql
	}
	return same, nil
}

// installCapture makes the shared half of the capture what it is above, in a transaction.
func (db *DB) installCapture() error {
	if same, err := db.conn.captureInstalled(); err != nil || same {
		return err
	}
	if err := db.dropCapture(); err != nil {
		return err
	}
	for _, o := range captureObjects {
		if err := db.conn.raw.Exec(o.sql); err != nil {
			return err
		}
	}
	return nil
}

// dropCapture removes the views of the capture, of this version or another; their triggers go with them.
func (db *DB) dropCapture() error {
	var views []string
	if _, err := db.conn.each(`SELECT name FROM sqlite_schema WHERE type = 'view' AND name LIKE '\_sync\_capture\_%' ESCAPE '\'`, func(s *sqlite3.Stmt) error {
		views = append(views, s.ColumnText(0))
		return nil
	}); err != nil {
		return err
	}
	for _, view := range views {
		if err := db.conn.raw.Exec(`DROP VIEW ` + quote(view)); err != nil {
			return err
		}
	}
	return nil
}
