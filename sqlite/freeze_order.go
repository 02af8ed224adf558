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

// query selects the group's upserts or deletions in order: index of the table, key, base, payload, whether the server
// has the row, ordinal. The + keeps SQLite from reading by key, which it would have to sort: a bundle costs what it
// takes, however much is behind it.
func (g freezeGroup) query(deletions bool) string {
	which := make([]string, len(g.tables))
	names := make([]string, len(g.tables))
	for i, t := range g.tables {
		which[i] = fmt.Sprintf(` WHEN %s THEN %d`, literal(t.Name), i)
		names[i] = literal(t.Name)
	}
	condition := `d.op <> 'DELETE'`
	if deletions {
		condition = `d.op = 'DELETE'`
	}
	return fmt.Sprintf(`SELECT CASE d.table_name%s END, d.key_json, d.base_row_version, d.payload, d.base_row_version > 0 AND EXISTS (
  SELECT 1 FROM _sync_row_state r WHERE r.schema_name = d.schema_name AND r.table_name = d.table_name AND r.key_json = d.key_json AND r.deleted = 0), d.dirty_ordinal
FROM _sync_dirty_rows d
WHERE +d.schema_name = ? AND +d.table_name IN (%s) AND %s
ORDER BY d.dirty_ordinal`, strings.Join(which, ``), strings.Join(names, `, `), condition)
}
