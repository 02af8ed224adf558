package sqlite

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// guardMessage is what a write meets while the local rows are about to be replaced by a snapshot.
const guardMessage = `SYNC_TRANSITION_PENDING`

// triggerSuffixes end the names of our triggers.
var triggerSuffixes = []string{"_bi_guard", "_bu_guard", "_bd_guard", "_ai", "_au", "_ad"}

// trigger is a trigger of ours as it should stand in the schema.
type trigger struct{ name, sql string }

func triggerName(table, suffix string) string { return "trg_" + table + suffix }

// triggers returns the triggers of t: three guards and the three that capture.
//
// The texts depend on nothing but the table's shape, so that comparing them tells whether the shape changed. They use
// SQLite's own functions only: the file stays writable for every tool.
func (t *table) triggers() []trigger {
	suffixes := triggerSuffixes
	events := []string{"INSERT", "UPDATE", "DELETE"}
	bodies := []string{t.captureInsert(), t.captureUpdate(), t.captureDelete()}
	var out []trigger
	for i, event := range events {
		name := triggerName(t.Name, suffixes[i])
		out = append(out, trigger{name, fmt.Sprintf(`CREATE TRIGGER %s BEFORE %s ON %s
WHEN (SELECT kind FROM _sync_operation_state WHERE singleton_key = 1) = 'remote_replace'
  AND (SELECT apply_mode FROM _sync_apply_state WHERE singleton_key = 1) IS NOT 1
BEGIN
  SELECT RAISE(ABORT, '%s');
END`, quote(name), event, quote(t.local), guardMessage)})
	}
	for i, event := range events {
		name := triggerName(t.Name, suffixes[len(events)+i])
		out = append(out, trigger{name, fmt.Sprintf(`CREATE TRIGGER %s AFTER %s ON %s
WHEN (SELECT apply_mode FROM _sync_apply_state WHERE singleton_key = 1) IS NOT 1
BEGIN
%sEND`, quote(name), event, quote(t.local), bodies[i])})
	}
	return out
}

func (t *table) captureInsert() string {
	return t.capturing("change", t.keyJSON("NEW"), t.payload("NEW"))
}

// captureUpdate captures a change of the key as the deletion of the row under its old key, and its insertion.
func (t *table) captureUpdate() string {
	key := quote(t.key().name)
	gone := fmt.Sprintf(`CASE WHEN OLD.%s IS NOT NEW.%[1]s THEN %s END`, key, t.keyJSON("OLD"))
	return t.capturing("base", t.keyJSON("OLD"), t.payload("OLD")) + t.capturing("change", gone, "NULL") + t.captureInsert()
}

func (t *table) captureDelete() string {
	return t.capturing("base", t.keyJSON("OLD"), t.payload("OLD")) + t.capturing("change", t.keyJSON("OLD"), "NULL")
}

// capturing puts values into one of the capture views.
func (t *table) capturing(view string, values ...string) string {
	return fmt.Sprintf("  INSERT INTO _sync_capture_%s VALUES (%s, %s, %s);\n", view, literal(t.Schema), literal(t.Name), strings.Join(values, ", "))
}

// at is the condition that selects the row of any metadata table whose key is the expression key.
func (t *table) at(key string) string {
	return fmt.Sprintf(`schema_name = %s AND table_name = %s AND key_json = %s`, literal(t.Schema), literal(t.Name), key)
}

// keyJSON is the SQL expression of the local key of row, which is NEW, OLD or a table's alias.
func (t *table) keyJSON(row string) string {
	return fmt.Sprintf(`json_object(%s, %s)`, literal(t.Columns[t.Key].Name), t.localValue(row, t.Key))
}

// payload is the SQL expression of the local payload of row.
func (t *table) payload(row string) string {
	members := make([]string, len(t.columns))
	for i := range t.columns {
		members[i] = literal(t.Columns[i].Name) + `, ` + t.localValue(row, i)
	}
	return `json_object(` + strings.Join(members, `, `) + `)`
}

// localValue is the SQL expression of column i of row in local form.
func (t *table) localValue(row string, i int) string {
	return wire.LocalExpr(t.Columns[i].Kind, row+`.`+quote(t.columns[i].name))
}

// installTriggers makes the capture triggers those of the managed tables: it creates what is missing, replaces what
// differs and drops those of tables that are no longer managed. It returns the tables that lacked one.
func (db *DB) installTriggers() (missing map[string]bool, err error) {
	have, err := db.conn.ourTriggers()
	if err != nil {
		return nil, err
	}
	missing = map[string]bool{}
	for _, t := range db.tables {
		for _, want := range t.triggers() {
			sql, found := have[want.name]
			delete(have, want.name)
			if sql == want.sql {
				continue
			}
			if found {
				if err := db.conn.raw.Exec(`DROP TRIGGER ` + quote(want.name)); err != nil {
					return nil, err
				}
			} else {
				missing[t.Name] = true
			}
			if err := db.conn.raw.Exec(want.sql); err != nil {
				return nil, err
			}
		}
	}
	for name := range have {
		if err := db.conn.raw.Exec(`DROP TRIGGER ` + quote(name)); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// speaksOfUs finds the name of a private table or view in the text of a trigger. An application's own names may have the same
// syllables inside: last_sync_at.
var speaksOfUs = regexp.MustCompile(`(?i)[^\pL\pN_$]` + metadataPrefix)

// ourTriggers returns the triggers in the schema that are ours, by name: they have a name of ours and speak of the
// private tables.
func (c *conn) ourTriggers() (map[string]string, error) {
	out := map[string]string{}
	_, err := c.each(`SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'trg\_%' ESCAPE '\'`,
		func(s *sqlite3.Stmt) error {
			name, text := s.ColumnText(0), s.ColumnText(1)
			if hasSuffix := func(suffix string) bool { return strings.HasSuffix(name, suffix) }; slices.ContainsFunc(triggerSuffixes, hasSuffix) && speaksOfUs.MatchString(text) {
				out[name] = text
			}
			return nil
		})
	return out, err
}

// checkTriggerNames refuses a trigger of the application's that has a name we need.
func (c *conn) checkTriggerNames(tables []*table) error {
	ours, err := c.ourTriggers()
	if err != nil {
		return err
	}
	for _, t := range tables {
		for _, suffix := range triggerSuffixes {
			name := triggerName(t.Name, suffix)
			if _, ok := ours[name]; ok {
				continue
			}
			taken, err := c.one(`SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE`, nil, name)
			if err != nil {
				return err
			}
			if taken {
				return &local.ConfigError{Table: t.local, Reason: fmt.Sprintf("the schema has an object named %s, which capturing local writes needs: rename it", name)}
			}
		}
	}
	return nil
}
