package sqlite

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/ncruces/go-sqlite3"
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

// query selects the group's dirty rows in order: index of the table, key, base, payload, deleted mark of the row
// state, ordinal. A limited query takes how many at most, and costs no more than a scan for the rows behind them; the
// other one joins before it sorts, while both tables are read in the order of their keys.
func (g freezeGroup) query(deletions, limited bool) string {
	which := make([]string, len(g.tables))
	names := make([]string, len(g.tables))
	for i, t := range g.tables {
		which[i] = fmt.Sprintf(` WHEN %s THEN %d`, literal(t.Name), i)
		names[i] = literal(t.Name)
	}
	condition := `d.payload IS NOT NULL`
	if deletions {
		condition = `d.payload IS NULL`
	}
	dirty := `_sync_dirty_rows d`
	where := fmt.Sprintf(`d.schema_name = ? AND d.table_name IN (%s) AND %s`, strings.Join(names, `, `), condition)
	if limited {
		dirty, where = `(SELECT * FROM `+dirty+` WHERE `+where+` ORDER BY d.dirty_ordinal LIMIT ?) d`, `1`
	}
	return fmt.Sprintf(`SELECT CASE d.table_name%s END, d.key_json, d.base_row_version, d.payload, r.deleted, d.dirty_ordinal
FROM %s
  LEFT JOIN _sync_row_state r ON r.schema_name = d.schema_name AND r.table_name = d.table_name AND r.key_json = d.key_json
WHERE %s
ORDER BY d.dirty_ordinal`, strings.Join(which, ``), dirty, where)
}

// fence tells where a group's rows may be cut. Rows at ordinals from…to cannot be parted: the first needs the last.
type fence struct {
	spans []span // by from
	until int64  // the largest to of the spans begun so far
}

type span struct{ from, to int64 }

// pass notes that the row at ordinal is in front of any further cut.
func (f *fence) pass(ordinal int64) {
	for len(f.spans) > 0 && f.spans[0].from <= ordinal {
		f.until = max(f.until, f.spans[0].to)
		f.spans = f.spans[1:]
	}
}

// open reports whether a cut may be made before the row at ordinal.
func (f *fence) open(ordinal int64) bool { return f.until < ordinal }

// fence finds where the group may not be cut. Between groups every place is fine: parents come first, deleted children
// too. So only a group with references inside it has to be looked at, and only if a bound can be met at all.
func (f *freezing) fence(g freezeGroup, deletions bool) (*fence, error) {
	out := &fence{until: math.MinInt64}
	if !g.cyclic || f.req.MaxBytes <= 0 && (f.req.MaxRows <= 0 || f.dirty <= f.req.MaxRows) {
		return out, nil
	}
	for _, t := range g.tables {
		for _, ref := range t.parents {
			parent := f.db.byName[ref.parent]
			switch {
			case !slices.Contains(g.tables, parent):
				continue
			case !strings.EqualFold(ref.parentColumn, parent.key().name):
				// Who is meant is not in the child's content; a group like this goes in one piece.
				out.until = math.MaxInt64
				return out, nil
			}
			query := upsertSpans(t, parent, ref)
			if deletions {
				query = deleteSpans(t, parent, ref)
			}
			if _, err := f.db.conn.each(query, func(s *sqlite3.Stmt) error {
				out.spans = append(out.spans, span{s.ColumnInt64(0), s.ColumnInt64(1)})
				return nil
			}); err != nil {
				return nil, err
			}
		}
	}
	sort.Slice(out.spans, func(i, j int) bool { return out.spans[i].from < out.spans[j].from })
	return out, nil
}

// referredKey is the local key of the parent row that a payload in local form refers to. Keys and references are
// spelled alike.
func referredKey(t, parent *table, ref reference, payload string) string {
	return fmt.Sprintf(`json_object(%s, (SELECT value FROM json_each(%s) WHERE key = %s))`,
		literal(parent.Columns[parent.Key].Name), payload, literal(t.Columns[t.column(ref.column)].Name))
}

// upsertSpans finds the upserts that need a row which the server does not have and which became dirty later.
func upsertSpans(t, parent *table, ref reference) string {
	return fmt.Sprintf(`SELECT c.dirty_ordinal, p.dirty_ordinal
FROM _sync_dirty_rows c
  CROSS JOIN _sync_dirty_rows p ON p.schema_name = c.schema_name AND p.table_name = %s AND p.key_json = %s
WHERE c.schema_name = %s AND c.table_name = %s AND c.payload IS NOT NULL AND p.payload IS NOT NULL AND p.dirty_ordinal > c.dirty_ordinal
  AND NOT EXISTS (SELECT 1 FROM _sync_row_state r
    WHERE r.schema_name = p.schema_name AND r.table_name = p.table_name AND r.key_json = p.key_json AND r.deleted = 0)`,
		literal(parent.Name), referredKey(t, parent, ref, `c.payload`), literal(t.Schema), literal(t.Name))
}

// deleteSpans finds the deletions of rows that a row refers to whose own deletion came later. What the server's row
// refers to is in the base row; where there is none, it may be any row deleted before.
func deleteSpans(t, parent *table, ref reference) string {
	return fmt.Sprintf(`SELECT p.dirty_ordinal, c.dirty_ordinal
FROM _sync_dirty_rows c
  CROSS JOIN _sync_base_rows b ON b.schema_name = c.schema_name AND b.table_name = c.table_name AND b.key_json = c.key_json
  CROSS JOIN _sync_dirty_rows p ON p.schema_name = c.schema_name AND p.table_name = %s AND p.key_json = %s
WHERE c.schema_name = %s AND c.table_name = %s AND c.payload IS NULL AND p.payload IS NULL AND p.dirty_ordinal < c.dirty_ordinal
UNION ALL
SELECT %d, c.dirty_ordinal
FROM _sync_dirty_rows c
WHERE c.schema_name = %[3]s AND c.table_name = %[4]s AND c.payload IS NULL
  AND NOT EXISTS (SELECT 1 FROM _sync_base_rows b
    WHERE b.schema_name = c.schema_name AND b.table_name = c.table_name AND b.key_json = c.key_json)`,
		literal(parent.Name), referredKey(t, parent, ref, `b.payload`), literal(t.Schema), literal(t.Name), int64(math.MinInt64)+1)
}
