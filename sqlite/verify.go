package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// violation is a rule of the invariant and a query for the rows that break it.
type violation struct {
	rule string
	sql  string // answers table name and count
}

// sameKey joins the metadata tables x and r.
const sameKey = `x.schema_name = r.schema_name AND x.table_name = r.table_name AND x.key_json = r.key_json`

// in is the condition that the key of r is in a metadata table.
func in(metadata string) string {
	return `EXISTS (SELECT 1 FROM ` + metadata + ` x WHERE ` + sameKey + `)`
}

// isIntent is the condition that the key of r has an intent; stands the version on which its row stands here.
var (
	isIntent = `(` + in("_sync_dirty_rows") + ` OR ` + in("_sync_outbox_rows") + ` OR ` + in("_sync_quarantine") + `)`
	stands   = `COALESCE((SELECT x.row_version FROM _sync_row_state x WHERE ` + sameKey + `), 0)`
)

func rule(says, metadata, where string) violation {
	return violation{says, `SELECT r.table_name, COUNT(*) FROM ` + metadata + ` r WHERE ` + where + ` GROUP BY r.table_name`}
}

// violations are the rules that hold after every transaction, whatever the tables.
func violations() []violation {
	return []violation{
		rule("an intent's base is not the version its row stands on", "_sync_dirty_rows", `r.base_row_version <> `+stands),
		rule("an intent's base is not the version its row stands on", "_sync_outbox_rows", `r.base_row_version <> `+stands),
		rule("an intent's base is not the version its row stands on", "_sync_quarantine", `r.base_row_version <> `+stands),
		rule("an update of a row that the server is not known to have", "_sync_dirty_rows", `r.op = 'UPDATE' AND NOT EXISTS (
  SELECT 1 FROM _sync_row_state x WHERE `+sameKey+` AND x.deleted = 0)`),
		rule("a shadow without an intent", "_sync_shadow", `NOT `+isIntent),
		rule("a shadow that is not newer than what stands here", "_sync_shadow", `r.row_version > 0 AND r.row_version < `+stands),
		rule("a shadow with content and deleted, or neither", "_sync_shadow", `(r.payload IS NULL) <> (r.deleted = 1)`),
		rule("a base row without an intent", "_sync_base_rows", `NOT `+isIntent),
		rule("a key in quarantine and among the dirty or frozen rows", "_sync_quarantine", in("_sync_dirty_rows")+` OR `+in("_sync_outbox_rows")),
		rule("an operation without content, or a deletion with content", "_sync_dirty_rows", `(r.payload IS NULL) <> (r.op = 'DELETE')`),
		rule("an operation without content, or a deletion with content", "_sync_quarantine", `(r.payload IS NULL) <> (r.op = 'DELETE')`),
		rule("a change set aside for no reason", "_sync_quarantine", `r.code = '' OR r.origin NOT IN ('', 'server', 'value', 'collision', 'dependency')`),
		rule("a displaced change without content or reason", "_sync_displaced", `(r.payload IS NULL) <> (r.op = 'DELETE') OR r.code = ''`),
		rule("a number that is negative or no number", "_sync_dirty_rows", `typeof(r.base_row_version) <> 'integer' OR r.base_row_version < 0`),
		rule("a number that is negative or no number", "_sync_row_state", `typeof(r.row_version) <> 'integer' OR r.row_version < 0 OR r.deleted NOT IN (0, 1)`),
		rule("content that is not JSON", "_sync_dirty_rows", `r.payload IS NOT NULL AND NOT json_valid(r.payload)`),
		{"a key twice in the outbox", `SELECT table_name, SUM(n) FROM (SELECT table_name, COUNT(*) - 1 AS n FROM _sync_outbox_rows
  GROUP BY schema_name, table_name, key_json) WHERE n > 0 GROUP BY table_name`},
		{"apply mode is on", `SELECT '_sync_apply_state', COUNT(*) FROM _sync_apply_state WHERE apply_mode <> 0 HAVING COUNT(*) > 0`},
	}
}

// violations are the rules that tie the business rows of t to what is known about them.
func (t *table) violations() []violation {
	at := fmt.Sprintf(`SELECT %s AS schema_name, %s AS table_name, %s AS key_json FROM %s AS b`,
		literal(t.Schema), literal(t.Name), t.keyJSON("b"), quote(t.local))
	return []violation{
		{"a row that is neither known to the server nor an intent", `SELECT r.table_name, COUNT(*) FROM (` + at + `) r
WHERE NOT EXISTS (SELECT 1 FROM _sync_row_state x WHERE ` + sameKey + ` AND x.deleted = 0) AND NOT ` + isIntent + ` GROUP BY 1`},
		{"a row that is known to be live is not here, without an intent", fmt.Sprintf(`WITH here AS MATERIALIZED (SELECT %s AS key_json FROM %s AS b)
SELECT r.table_name, COUNT(*) FROM _sync_row_state r WHERE r.schema_name = %s AND r.table_name = %s AND r.deleted = 0
  AND r.key_json NOT IN (SELECT key_json FROM here) AND NOT %s GROUP BY 1`, t.keyJSON("b"), quote(t.local), literal(t.Schema), literal(t.Name), isIntent)},
		{"a change in quarantine is not what its row holds", fmt.Sprintf(`SELECT q.table_name, COUNT(*) FROM _sync_quarantine q LEFT JOIN %s AS b ON %s = q.key_json
WHERE q.schema_name = %s AND q.table_name = %s AND q.payload IS NOT CASE WHEN b.%s IS NOT NULL THEN %s END GROUP BY 1`,
			quote(t.local), t.keyJSON("b"), literal(t.Schema), literal(t.Name), quote(t.key().name), t.payload("b"))},
	}
}

// Verify checks the invariant that everything rests on: row state describes each row as it stands here, and everything
// local that the server does not have is an intent. The error lists what is wrong by table, rule and number of rows,
// without any content; it is a *local.DatabaseError. Verify reads everything once: it is for tests and for a doctor.
func (db *DB) Verify(ctx context.Context) error {
	return db.read(ctx, "verify", func() error {
		if r, err := db.conn.brokenRule(); err != nil {
			return err
		} else if r != nil {
			return &local.DatabaseError{Operation: "verify", Path: db.owner.path, Table: r.table, Reason: r.says}
		}
		all := violations()
		for _, t := range db.tables {
			all = append(all, t.violations()...)
		}
		var wrong []error
		for _, v := range all {
			if _, err := db.conn.each(v.sql, func(s *sqlite3.Stmt) error {
				wrong = append(wrong, fmt.Errorf("%s: %s (%d)", s.ColumnText(0), v.rule, s.ColumnInt64(1)))
				return nil
			}); err != nil {
				return err
			}
		}
		for t := range db.conn.sees {
			if last, err := db.lastBlind(t); err != nil {
				return err
			} else if found, err := db.findBlind(t); err != nil {
				return err
			} else if found != last {
				wrong = append(wrong, fmt.Errorf("%s: a deletion without its base row that is not known", t.Name))
			}
		}
		if len(wrong) == 0 {
			return nil
		}
		return &local.DatabaseError{Operation: "verify", Path: db.owner.path, Reason: "rows and what is known about them do not agree", Err: errors.Join(wrong...)}
	})
}
