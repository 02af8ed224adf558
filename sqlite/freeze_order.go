package sqlite

import (
	"fmt"
	"slices"
	"strings"
)

// freezeGroup is a set of tables whose rows are ordered among each other by when they became dirty: those of one
// foreign-key cycle, or a single table.
type freezeGroup struct {
	tables []*table
	cyclic bool // a table of the group refers to one of it
}

// freezeGroups are the managed tables in the order in which their rows are pushed, parents first.
func (db *DB) freezeGroups() (groups []freezeGroup) {
	for i := 0; i < len(db.tables); {
		n := i + 1
		for n < len(db.tables) && db.tables[n].depth == db.tables[i].depth {
			n++
		}
		level := db.tables[i:n]
		i = n
		var cyclic freezeGroup
		for _, t := range level {
			if slices.ContainsFunc(t.parents, func(r reference) bool { return db.byName[r.parent].depth == t.depth }) {
				cyclic.tables = append(cyclic.tables, t)
				cyclic.cyclic = true
			} else {
				groups = append(groups, freezeGroup{tables: []*table{t}})
			}
		}
		if cyclic.cyclic {
			groups = append(groups, cyclic)
		}
	}
	return groups
}

// filter is the condition on a dirty row that it is one of the group's upserts or deletions.
func (g freezeGroup) filter(schema string, deletions bool) string {
	names := make([]string, len(g.tables))
	for i, t := range g.tables {
		names[i] = literal(t.Name)
	}
	op := `d.op <> 'DELETE'`
	if deletions {
		op = `d.op = 'DELETE'`
	}
	return fmt.Sprintf(`+d.schema_name = %s AND +d.table_name IN (%s) AND %s`, schema, strings.Join(names, `, `), op)
}

// next answers from which ordinal on, not below ?1, there are rows again: of the group, if the index tells, else of any.
func (g freezeGroup) next(deletions, ordered bool) string {
	if !ordered {
		const first = `SELECT MIN(dirty_ordinal) FROM _sync_dirty_rows WHERE dirty_ordinal >= ?1`
		if deletions {
			return first + ` AND op = 'DELETE'`
		}
		return first
	}
	which := 0
	if deletions {
		which = 1
	}
	firsts := make([]string, len(g.tables))
	for i, t := range g.tables {
		firsts[i] = fmt.Sprintf(`SELECT MIN(dirty_ordinal) AS first FROM _sync_dirty_rows INDEXED BY idx_sync_dirty_rows_order
WHERE table_name = %s AND (op = 'DELETE') = %d AND dirty_ordinal >= ?1`, literal(t.Name), which)
	}
	return `SELECT MIN(first) FROM (` + strings.Join(firsts, ` UNION ALL `) + `)`
}

// move puts the group's upserts or deletions with ordinals from ?2 to ?3 into the outbox, in order, as far as they go.
// Nothing is asked of _sync_freeze about other rows, and nothing may sort between it and _sync_frozen.
//
// An update is one of a row that the server has, as the triggers know it and whatever changes row states keeps it. Only an
// insert may have become an update: the row came back, on a base that is its tombstone's version or not.
func (g freezeGroup) move(deletions bool) string {
	which := make([]string, len(g.tables))
	for i, t := range g.tables {
		which[i] = fmt.Sprintf(` WHEN %s THEN %d`, literal(t.Name), i)
	}
	live := `EXISTS (
  SELECT 1 FROM _sync_row_state r WHERE r.schema_name = d.schema_name AND r.table_name = d.table_name AND r.key_json = d.key_json AND r.deleted = 0)`
	base := `NULL`
	if !deletions {
		live = `(d.base_row_version > 0 AND (d.op = 'UPDATE' OR ` + live + `))`
		base = `CASE WHEN d.base_row_version > 0 THEN (
  SELECT b.payload FROM _sync_base_rows b WHERE b.schema_name = d.schema_name AND b.table_name = d.table_name AND b.key_json = d.key_json) END`
	}
	op := `CASE WHEN ` + live + ` THEN 'UPDATE' ELSE 'INSERT' END`
	payloads := fmt.Sprintf(`COALESCE(_sync_frozen(%d), d.payload), _sync_frozen(%d)`, frozenLocal, frozenWire)
	among := `d.dirty_ordinal BETWEEN ?2 AND ?3`
	if deletions {
		op, payloads = `'DELETE'`, `NULL, NULL`
		among += ` AND d.op = 'DELETE'`
	}
	// OR FAIL: a row that is refused ends the transaction anyway, and SQLite need not be able to undo half a statement.
	return fmt.Sprintf(`INSERT OR FAIL INTO _sync_outbox_rows
  (source_bundle_id, row_ordinal, schema_name, table_name, key_json, wire_key_json, op, base_row_version, local_payload, wire_payload)
SELECT ?1, _sync_frozen(%d), d.schema_name, d.table_name, d.key_json, COALESCE(_sync_frozen(%d), d.key_json), %s, d.base_row_version, %s
FROM _sync_dirty_rows d
WHERE %s AND CASE WHEN %s
  THEN _sync_freeze(CASE d.table_name%s END, d.key_json, d.base_row_version, %s, d.payload, d.dirty_ordinal, %s) ELSE 0 END
ORDER BY d.dirty_ordinal`, frozenOrdinal, frozenKey, op, payloads, among, g.filter(`?4`, deletions), strings.Join(which, ``), live, base)
}
