package contracts

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
)

// dumped are the tables of a state dump and the order of their rows. Tables of our own are not part of it.
var dumped = []struct{ name, order string }{
	{"apply_state", "singleton_key"},
	{"attachment_state", "singleton_key"},
	{"source_state", "source_id"},
	{"operation_state", "singleton_key"},
	{"outbox_bundle", "singleton_key"},
	{"outbox_rows", "source_bundle_id, row_ordinal"},
	{"dirty_rows", "dirty_ordinal, table_name, key_json"},
	{"row_state", "schema_name, table_name, key_json"},
	{"snapshot_stage", "snapshot_id, row_ordinal"},
	{"managed_tables", "schema_name, table_name"},
}

// dump returns the durable state in the form of the fixtures: times and hashes are placeholders, source ids are numbered in
// the order in which they appear. Nothing else is left out or rewritten.
func dump(t testing.TB, db *sql.DB) object {
	t.Helper()
	sources := map[string]string{}
	state := object{}
	for _, table := range dumped {
		name := "_sync_" + table.name
		rows := []object{}
		columns := rowsOf(t, db, fmt.Sprintf(`SELECT name, type FROM pragma_table_info('%s') ORDER BY cid`, name))
		for _, found := range rowsOf(t, db, `SELECT * FROM `+name+` ORDER BY `+table.order) {
			row := object{}
			for _, c := range columns {
				column, _ := c["name"].(string)
				declared, _ := c["type"].(string)
				row[column] = dumpedValue(column, declared, found[column], sources)
			}
			rows = append(rows, row)
		}
		state[table.name] = rows
	}
	return object{"formatVersion": 1, "state": state}
}

func dumpedValue(column, declared string, v any, sources map[string]string) any {
	if v == nil {
		return nil
	}
	text := textOf(v)
	switch column {
	case "created_at", "updated_at":
		return "<timestamp>"
	case "canonical_request_hash", "remote_bundle_hash":
		if strings.TrimSpace(text) == "" {
			return ""
		}
		return "<hash>"
	case "source_id", "current_source_id", "replaced_by_source_id", "replacement_source_id":
		if strings.TrimSpace(text) == "" {
			return ""
		}
		if sources[text] == "" {
			sources[text] = fmt.Sprintf("<source-%d>", len(sources)+1)
		}
		return sources[text]
	}
	if strings.Contains(strings.ToUpper(declared), "INT") {
		return v
	}
	return text
}

// textOf returns a value of the database as text.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}
