package sqlite

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// manage records the managed tables, installs their triggers and captures the rows of those that were not watched
// until now. It runs in a transaction.
func (db *DB) manage() error {
	before, err := db.managedBefore()
	if err != nil {
		return err
	}
	var missing map[string]bool
	if !db.shape.installed {
		if missing, err = db.installTriggers(); err != nil {
			return err
		}
	}
	gate := false
	for _, t := range db.tables {
		old, known := before[t.Name]
		now := t.signature()
		if !known || missing[t.Name] {
			if err := db.capture(t); err != nil {
				return err
			}
			// What happened to rows that the server knows while nobody watched cannot be told.
			gate = true
		}
		if known && old != "" && old != now {
			gate = true
		}
		if !known {
			if err := db.conn.run(`INSERT INTO _sync_managed_tables (schema_name, table_name) VALUES (?, ?) ON CONFLICT DO NOTHING`, t.Schema, t.Name); err != nil {
				return err
			}
		}
		if old != now {
			if err := db.setEngineState(engineColumns+t.Name, now); err != nil {
				return err
			}
		}
	}
	if !gate {
		return nil
	}
	a, err := db.attachment()
	if err != nil || a.Binding != local.Attached {
		return err
	}
	reason := local.ReasonResume
	if op, err := db.operation(); err != nil {
		return err
	} else if op.Reason != "" {
		reason = op.Reason
	}
	return db.setRebuildGate(reason)
}

// managedBefore returns the column signatures of the tables that were managed until now, by name; the signature is
// "" where another client of the family managed them.
func (db *DB) managedBefore() (map[string]string, error) {
	out := map[string]string{}
	_, err := db.conn.each(`SELECT m.table_name, COALESCE(e.value, '') FROM _sync_managed_tables m
LEFT JOIN _sync_engine_state e ON e.name = '`+engineColumns+`' || m.table_name WHERE m.schema_name = ?`, func(s *sqlite3.Stmt) error {
		out[s.ColumnText(0)] = s.ColumnText(1)
		return nil
	}, db.cfg.Schema)
	return out, err
}

// capture records every row of t that is neither known to the server nor captured already as a dirty INSERT, in key
// order.
func (db *DB) capture(t *table) error {
	key := t.keyJSON("r")
	at := t.at(key)
	return db.conn.run(fmt.Sprintf(`INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
SELECT %s, %s, %s, 'INSERT', COALESCE((SELECT row_version FROM _sync_row_state WHERE %s), 0), %s,
  row_number() OVER (ORDER BY r.%s) + (SELECT COALESCE(MAX(dirty_ordinal), 0) FROM _sync_dirty_rows)
FROM %s AS r
WHERE NOT EXISTS (SELECT 1 FROM _sync_row_state WHERE %[4]s AND deleted = 0)
  AND NOT EXISTS (SELECT 1 FROM _sync_dirty_rows WHERE %[4]s)
  AND NOT EXISTS (SELECT 1 FROM _sync_outbox_rows WHERE %[4]s)
  AND NOT EXISTS (SELECT 1 FROM _sync_quarantine WHERE %[4]s)
ORDER BY r.%[6]s`, literal(t.Schema), literal(t.Name), key, at, t.payload("r"), quote(t.key().name), quote(t.local)))
}

// setEngineState stores a value of our own.
func (db *DB) setEngineState(name, value string) error {
	return db.conn.run(`INSERT INTO _sync_engine_state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
}

// clearEngineState removes values of our own.
func (db *DB) clearEngineState(names ...string) error {
	for _, name := range names {
		if err := db.conn.run(`DELETE FROM _sync_engine_state WHERE name = ?`, name); err != nil {
			return err
		}
	}
	return nil
}

// engineState reads a value of our own; "" when it is not there.
func (db *DB) engineState(name string) (value string, err error) {
	_, err = db.conn.one(`SELECT value FROM _sync_engine_state WHERE name = ?`, func(s *sqlite3.Stmt) error {
		value = s.ColumnText(0)
		return nil
	}, name)
	return value, err
}
