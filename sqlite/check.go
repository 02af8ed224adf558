package sqlite

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// metadataTable is a private table and the columns that it must have.
type metadataTable struct {
	name    string
	columns []string
}

var createTable = regexp.MustCompile(`^CREATE TABLE IF NOT EXISTS (\w+) \(`)

// metadataTables lists the private tables in the order of their definition.
var metadataTables = func() (tables []metadataTable) {
	for _, ddl := range metadata {
		m := createTable.FindStringSubmatch(ddl)
		if m == nil {
			continue
		}
		t := metadataTable{name: m[1]}
		for _, line := range strings.Split(ddl, "\n")[1:] {
			if word, _, ok := strings.Cut(strings.TrimPrefix(line, "  "), " "); ok && word == strings.ToLower(word) && !strings.HasPrefix(word, ")") {
				t.columns = append(t.columns, word)
			}
		}
		tables = append(tables, t)
	}
	return tables
}()

// metadataRule is a condition that no row of a private table may meet.
type metadataRule struct {
	table string
	bad   string // SQL condition
	says  string
}

// metadataRules hold for the small tables, which are checked on every open. The large ones are left to Verify: an open
// must not cost more the more rows there are.
var metadataRules = []metadataRule{
	{"_sync_attachment_state", `binding_state NOT IN ('anonymous', 'attached')`, "unknown binding_state"},
	{"_sync_attachment_state", `typeof(last_bundle_seq_seen) <> 'integer' OR last_bundle_seq_seen < 0`, "last_bundle_seq_seen is no checkpoint"},
	{"_sync_attachment_state", `typeof(rebuild_required) <> 'integer' OR rebuild_required NOT IN (0, 1)`, "rebuild_required is neither 0 nor 1"},
	{"_sync_attachment_state", `binding_state = 'attached' AND trim(attached_user_id) = ''`, "attached to nobody"},
	{"_sync_attachment_state", `typeof(current_source_id) <> 'text' OR current_source_id GLOB '*[^!-~]*'`, "current_source_id is no source id"},
	{"_sync_attachment_state", `current_source_id <> '' AND current_source_id NOT IN (SELECT source_id FROM _sync_source_state)`, "current_source_id is not in _sync_source_state"},
	{"_sync_attachment_state", `trim(current_source_id) = '' AND (binding_state = 'attached' OR EXISTS (SELECT 1 FROM _sync_row_state)
  OR EXISTS (SELECT 1 FROM _sync_dirty_rows) OR EXISTS (SELECT 1 FROM _sync_outbox_rows))`, "current_source_id is blank although rows have been synced or captured"},
	{"_sync_source_state", `typeof(source_id) <> 'text' OR source_id = '' OR source_id GLOB '*[^!-~]*'`, "source_id is no source id"},
	{"_sync_source_state", `typeof(next_source_bundle_id) <> 'integer' OR next_source_bundle_id < 1`, "next_source_bundle_id is below 1"},
	{"_sync_operation_state", `kind NOT IN ('none', 'remote_replace', 'source_recovery')`, "unknown kind"},
	{"_sync_operation_state", `kind = 'remote_replace' AND trim(target_user_id) = ''`, "remote_replace for nobody"},
	{"_sync_operation_state", `typeof(snapshot_bundle_seq) <> 'integer' OR snapshot_bundle_seq < 0 OR typeof(snapshot_row_count) <> 'integer' OR snapshot_row_count < 0
  OR typeof(snapshot_byte_count) <> 'integer' OR snapshot_byte_count < 0`, "a snapshot number is negative or no number"},
	{"_sync_operation_state", `typeof(snapshot_stage_complete) <> 'integer' OR snapshot_stage_complete NOT IN (0, 1)`, "snapshot_stage_complete is neither 0 nor 1"},
	{"_sync_outbox_bundle", `state NOT IN ('none', 'prepared', 'committed_remote')`, "unknown state"},
	{"_sync_outbox_bundle", `typeof(source_bundle_id) <> 'integer' OR source_bundle_id < 0 OR typeof(row_count) <> 'integer' OR row_count < 0
  OR typeof(remote_bundle_seq) <> 'integer' OR remote_bundle_seq < 0`, "a number is negative or no number"},
	{"_sync_outbox_bundle", `state <> 'none' AND (source_bundle_id < 1 OR source_id = '')`, "a push in flight without its source"},
	{"_sync_outbox_bundle", `state = 'committed_remote' AND (remote_bundle_seq < 1 OR remote_bundle_hash = '')`, "committed without a bundle"},
	{"_sync_outbox_bundle", `row_count <> (SELECT COUNT(*) FROM _sync_outbox_rows)`, "row_count is not the number of rows in _sync_outbox_rows"},
}

// brokenRules are queries, one a table, for the number of the first rule that does not hold.
var brokenRules = func() (queries []string) {
	for i := 0; i < len(metadataRules); {
		table, cases := metadataRules[i].table, ""
		for ; i < len(metadataRules) && metadataRules[i].table == table; i++ {
			cases += fmt.Sprintf(" WHEN %s THEN %d", metadataRules[i].bad, i)
		}
		queries = append(queries, `SELECT rule FROM (SELECT CASE`+cases+` END AS rule FROM `+table+`) WHERE rule IS NOT NULL ORDER BY rule LIMIT 1`)
	}
	return queries
}()

// brokenRule returns the first rule that does not hold, nil if all do.
func (c *conn) brokenRule() (broken *metadataRule, err error) {
	for _, query := range brokenRules {
		found, err := c.one(query, func(s *sqlite3.Stmt) error {
			broken = &metadataRules[s.ColumnInt(0)]
			return nil
		})
		if err != nil || found {
			return broken, err
		}
	}
	return nil, nil
}

// checkMetadataTables refuses private tables that this engine cannot work with, of another version or not all there. It returns
// those that are there, and changes nothing.
func (db *DB) checkMetadataTables() (present map[string]bool, err error) {
	bad := func(table, format string, args ...any) error {
		return &local.DatabaseError{Operation: "open", Path: db.owner.path, Table: table, Reason: fmt.Sprintf(format, args...)}
	}
	present = map[string]bool{}
	for _, t := range metadataTables {
		columns, err := db.conn.columnNames(t.name)
		if err != nil {
			return nil, err
		}
		present[t.name] = len(columns) > 0
		for _, c := range t.columns {
			if present[t.name] && !slices.Contains(columns, c) {
				return nil, bad(t.name, "lacks the column %s: the database was made by another or an older client of the protocol and cannot be taken over; create a new one and attach again", c)
			}
		}
	}
	for _, t := range metadataTables {
		if !present[t.name] && present["_sync_attachment_state"] && !slices.Contains(ownTables, t.name) {
			return nil, bad(t.name, "is missing although the database has been synced: restore a backup, or remove all %s tables and attach again", metadataPrefix)
		}
	}
	return present, nil
}

// checkBinding refuses to go on under another schema name than the one that rows were captured or synced under, and
// to leave tables behind that have unsynced rows.
func (db *DB) checkBinding() error {
	var attached string
	if _, err := db.conn.one(`SELECT schema_name FROM _sync_attachment_state WHERE binding_state = 'attached'`, func(s *sqlite3.Stmt) error {
		attached = s.ColumnText(0)
		return nil
	}); err != nil {
		return err
	}
	if attached != "" && attached != db.cfg.Schema {
		return &local.ConfigError{Field: "Schema", Reason: fmt.Sprintf("the database has been synced as schema %q and cannot change to %q: detach first", attached, db.cfg.Schema)}
	}
	var bad error
	for _, intents := range []string{"_sync_dirty_rows", "_sync_outbox_rows", "_sync_quarantine", "_sync_displaced"} {
		if !db.shape.present[intents] {
			continue
		}
		_, err := db.conn.each(`SELECT DISTINCT schema_name, table_name FROM `+intents, func(s *sqlite3.Stmt) error {
			schema, name := s.ColumnText(0), s.ColumnText(1)
			switch {
			case bad != nil:
			case schema != db.cfg.Schema:
				bad = &local.ConfigError{Field: "Schema", Reason: fmt.Sprintf("there are unsynced rows of schema %q, which %q would leave behind: sync them first", schema, db.cfg.Schema)}
			case db.byName[name] == nil:
				bad = &local.ConfigError{Field: "Tables", Table: name, Reason: "has unsynced rows and is not configured any more: keep it in Tables until they are synced"}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return bad
}

// columnNames returns the columns of a table; none when it does not exist.
func (c *conn) columnNames(table string) (names []string, err error) {
	_, err = c.each(`SELECT name FROM pragma_table_info(?)`, func(s *sqlite3.Stmt) error {
		names = append(names, s.ColumnText(0))
		return nil
	}, table)
	return names, err
}
