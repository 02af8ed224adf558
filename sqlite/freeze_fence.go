package sqlite

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// fence tells where a group's rows may be cut. Between groups every place is fine: parents come first, deleted children
// too. So only a group with references inside it has to be looked at, and only if a bound can be met at all.
type fence struct {
	until int64  // no cut up to this ordinal, which something in front of it needs
	spans []span // deletions that cannot be parted, by from
	refs  map[*table][]inside
}

// span: the row at ordinal from needs the one at to.
type span struct{ from, to int64 }

// inside is a reference from a group's table to one of the group.
type inside struct {
	column int
	parent *table
}

// open reports whether a cut may be made before the row at ordinal.
func (f *fence) open(ordinal int64) bool { return f.until < ordinal }

// fence returns the fence of a group.
func (f *freezing) fence(g freezeGroup, deletions bool) (*fence, error) {
	out := &fence{until: math.MinInt64}
	if !g.cyclic {
		return out, nil
	}
	if bounded, err := f.bounded(); err != nil || !bounded {
		return out, err
	}
	out.refs = map[*table][]inside{}
	for _, t := range g.tables {
		for _, ref := range t.parents {
			parent := f.db.byName[ref.parent]
			switch {
			case !slices.Contains(g.tables, parent):
			case !strings.EqualFold(ref.parentColumn, parent.key().name):
				// Who is meant is not in the child's content; a group like this goes in one piece.
				return &fence{until: math.MaxInt64}, nil
			case deletions:
				if err := f.deletedBefore(out, t, parent, ref); err != nil {
					return nil, err
				}
			default:
				out.refs[t] = append(out.refs[t], inside{t.column(ref.column), parent})
			}
		}
	}
	sort.Slice(out.spans, func(i, j int) bool { return out.spans[i].from < out.spans[j].from })
	return out, nil
}

// bounded reports whether a bound can be met.
func (f *freezing) bounded() (bool, error) {
	if f.req.MaxRows <= 0 || f.req.MaxBytes > 0 {
		return f.req.MaxBytes > 0, nil
	}
	n, err := f.db.count(`SELECT COUNT(*) FROM (SELECT 1 FROM _sync_dirty_rows LIMIT ?)`, f.req.MaxRows+1)
	return n > f.req.MaxRows, err
}

// pass notes that the row at ordinal is in front of any further cut: an upsert with its values, or a deletion.
func (f *freezing) pass(fence *fence, t *table, ordinal int64, values []wire.Value) error {
	for len(fence.spans) > 0 && fence.spans[0].from <= ordinal {
		fence.until = max(fence.until, fence.spans[0].to)
		fence.spans = fence.spans[1:]
	}
	if values == nil {
		return nil
	}
	for _, ref := range fence.refs[t] {
		needs, err := f.neededLater(ref.parent, &values[ref.column], ordinal)
		if err != nil {
			return err
		}
		fence.until = max(fence.until, needs)
	}
	return nil
}

// neededLater returns the ordinal of the upsert of the parent row with the given key, if it became dirty after ordinal
// and the server does not have the row; else the smallest integer.
func (f *freezing) neededLater(parent *table, key *wire.Value, ordinal int64) (at int64, err error) {
	at = math.MinInt64
	want := wire.Blob
	if parent.KeyColumn().Kind == wire.KindText {
		want = wire.Text
	}
	if key.Type != want {
		return at, nil // NULL, or nothing that is the key of a row
	}
	keyJSON, err := f.db.localKey(parent, key)
	if err != nil {
		return at, err
	}
	_, err = f.db.conn.one(`SELECT p.dirty_ordinal FROM _sync_dirty_rows p
WHERE p.schema_name = ? AND p.table_name = ? AND p.key_json = ? AND p.op <> 'DELETE' AND p.dirty_ordinal > ?
  AND NOT EXISTS (SELECT 1 FROM _sync_row_state r
    WHERE r.schema_name = p.schema_name AND r.table_name = p.table_name AND r.key_json = p.key_json AND r.deleted = 0)`,
		func(s *sqlite3.Stmt) error {
			at = s.ColumnInt64(0)
			return nil
		}, parent.Schema, parent.Name, keyJSON, ordinal)
	return at, err
}

// deletedBefore finds the deletions of rows that a row refers to whose own deletion came later. What the server's row
// refers to is in its base row; where there is none, it may be any row deleted before. A
// deletion of a row that the server does not have is not going to be pushed.
func (f *freezing) deletedBefore(out *fence, t, parent *table, ref reference) error {
	_, err := f.db.conn.each(deleteSpans(t, parent, ref), func(s *sqlite3.Stmt) error {
		out.spans = append(out.spans, span{s.ColumnInt64(0), s.ColumnInt64(1)})
		return nil
	})
	if err != nil {
		return err
	}
	_, err = f.db.conn.one(`SELECT MAX(c.dirty_ordinal) FROM _sync_dirty_rows c
WHERE c.op = 'DELETE' AND +c.schema_name = ? AND +c.table_name = ? AND NOT EXISTS (SELECT 1 FROM _sync_base_rows b
    WHERE b.schema_name = c.schema_name AND b.table_name = c.table_name AND b.key_json = c.key_json)
  AND EXISTS (SELECT 1 FROM _sync_row_state r
    WHERE r.schema_name = c.schema_name AND r.table_name = c.table_name AND r.key_json = c.key_json AND r.deleted = 0)`, func(s *sqlite3.Stmt) error {
		if s.ColumnType(0) != sqlite3.NULL {
			out.until = max(out.until, s.ColumnInt64(0))
		}
		return nil
	}, t.Schema, t.Name)
	return err
}

// deleteSpans finds those that a base row tells of.
func deleteSpans(t, parent *table, ref reference) string {
	// Keys and references are spelled alike.
	key := fmt.Sprintf(`json_object(%s, (SELECT value FROM json_each(b.payload) WHERE key = %s))`,
		literal(parent.Columns[parent.Key].Name), literal(t.Columns[t.column(ref.column)].Name))
	return fmt.Sprintf(`SELECT p.dirty_ordinal, c.dirty_ordinal
FROM _sync_dirty_rows c
  CROSS JOIN _sync_base_rows b ON b.schema_name = c.schema_name AND b.table_name = c.table_name AND b.key_json = c.key_json
  CROSS JOIN _sync_dirty_rows p ON p.schema_name = c.schema_name AND p.table_name = %s AND p.key_json = %s
WHERE +c.schema_name = %s AND +c.table_name = %s AND c.op = 'DELETE' AND p.op = 'DELETE' AND p.dirty_ordinal < c.dirty_ordinal`,
		literal(parent.Name), key, literal(t.Schema), literal(t.Name))
}
