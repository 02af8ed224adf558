package sqlite

import "github.com/ncruces/go-sqlite3"

// The capture triggers of the managed tables put what happened to a row into one of three views, and the INSTEAD OF
// triggers of those views do what is to be done about it. So the rules stand here once, not once a table: SQLite keeps
// the text of every trigger parsed in every connection, and keys are rendered once.
//
// INSERT … VALUES, not INSERT … SELECT, wherever a subquery reads the table that is written: the latter goes through a
// temporary B-tree for every row.
const (
	// captureKey selects the row of any metadata table whose key is the one captured.
	captureKey = `schema_name = NEW.schema_name AND table_name = NEW.table_name AND key_json = NEW.key_json`

	// captureIntent begins the intent of a key. Its base is the version on which the row stands here, which a
	// quarantined or frozen intent knows if there is one. Its ordinal is one more than the largest, which the index
	// answers with one seek, unless the key comes back from quarantine.
	captureIntent = `
    COALESCE((SELECT base_row_version FROM _sync_quarantine WHERE ` + captureKey + `),
      (SELECT base_row_version FROM _sync_outbox_rows WHERE ` + captureKey + `),
      (SELECT row_version FROM _sync_row_state WHERE ` + captureKey + `), 0),
    COALESCE((SELECT dirty_ordinal FROM _sync_quarantine WHERE ` + captureKey + `),
      (SELECT MAX(dirty_ordinal) FROM _sync_dirty_rows) + 1, 1))
  ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET op = excluded.op, payload = excluded.payload, updated_at = excluded.updated_at;
  DELETE FROM _sync_quarantine WHERE ` + captureKey + `;
`
)

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
	// _sync_capture_delete takes the key of a row that is gone; NULL: it is not.
	{"_sync_capture_delete", `CREATE VIEW _sync_capture_delete (schema_name, table_name, key_json) AS SELECT NULL, NULL, NULL WHERE 0`},
	{"_sync_capture_delete_insert", `CREATE TRIGGER _sync_capture_delete_insert INSTEAD OF INSERT ON _sync_capture_delete WHEN NEW.key_json IS NOT NULL
BEGIN
  INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, payload, base_row_version, dirty_ordinal)
  VALUES (NEW.schema_name, NEW.table_name, NEW.key_json, 'DELETE', NULL,` + captureIntent + `END`},
	// _sync_capture_upsert takes a row as it is after a change.
	{"_sync_capture_upsert", `CREATE VIEW _sync_capture_upsert (schema_name, table_name, key_json, payload) AS SELECT NULL, NULL, NULL, NULL WHERE 0`},
	{"_sync_capture_upsert_insert", `CREATE TRIGGER _sync_capture_upsert_insert INSTEAD OF INSERT ON _sync_capture_upsert
BEGIN
  INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, payload, base_row_version, dirty_ordinal)
  VALUES (NEW.schema_name, NEW.table_name, NEW.key_json,
    CASE WHEN EXISTS (SELECT 1 FROM _sync_row_state WHERE ` + captureKey + ` AND deleted = 0) THEN 'UPDATE' ELSE 'INSERT' END, NEW.payload,` + captureIntent + `END`},
}

// installCapture makes the shared half of the capture what it is above, in a transaction.
func (db *DB) installCapture() error {
	have := map[string]string{}
	if _, err := db.conn.each(`SELECT name, sql FROM sqlite_schema WHERE name LIKE '\_sync\_capture\_%' ESCAPE '\'`, func(s *sqlite3.Stmt) error {
		have[s.ColumnText(0)] = s.ColumnText(1)
		return nil
	}); err != nil {
		return err
	}
	same := true
	for _, o := range captureObjects {
		same = same && have[o.name] == o.sql
	}
	if same {
		return nil
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

// dropCapture removes the views; their triggers go with them.
func (db *DB) dropCapture() error {
	return db.conn.raw.Exec(`DROP VIEW IF EXISTS _sync_capture_base; DROP VIEW IF EXISTS _sync_capture_delete; DROP VIEW IF EXISTS _sync_capture_upsert`)
}
