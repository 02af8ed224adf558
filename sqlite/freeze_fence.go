package sqlite

import (
	"math"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// fence tells where a group's rows may be cut. Between groups every place is fine: parents come first, deleted children
// too. So only a group with references inside it has to be looked at, and only if a bound can be met at all.
type fence struct {
	until int64 // no cut up to this ordinal, which something in front of it needs
	refs  map[*table][]inside
}

// inside is a reference inside a group, kept at the table whose rows must not go without others: of upserts the one that
// refers, of deletions the one that is referred to.
type inside struct {
	column int
	parent *table
	last   string // of deletions: the query for the last one that refers to a row
}

// open reports whether a cut may be made before the row at ordinal.
func (f *fence) open(ordinal int64) bool { return f.until < ordinal }

// fence returns the fence of a group.
func (f *freezing) fence(g freezeGroup, deletions bool) (*fence, error) {
	out := &fence{until: math.MinInt64}
	if !g.cyclic {
		return out, nil
	}
	if bounded, err := f.bounded(deletions); err != nil || !bounded {
		return out, err
	}
	out.refs = map[*table][]inside{}
	for _, t := range g.tables {
		for _, ref := range t.parents {
			parent := f.db.byName[ref.parent]
			switch {
			case !slices.Contains(g.tables, parent):
			case ref.parentColumn != parent.key().name, deletions && strings.ContainsAny(t.Columns[t.column(ref.column)].Name+parent.Columns[parent.Key].Name, `"\`):
				// Who is meant is not in the child's content, or no path leads there; a group like this goes in one piece.
				return &fence{until: math.MaxInt64}, nil
			case deletions:
				last, err := f.db.baseIndex(t, parent, ref)
				if err != nil {
					return nil, err
				}
				out.refs[parent] = append(out.refs[parent], inside{last: last})
			default:
				out.refs[t] = append(out.refs[t], inside{column: t.column(ref.column), parent: parent})
			}
		}
	}
	if !deletions {
		return out, nil
	}
	for _, t := range g.tables {
		last, err := f.db.lastBlind(t)
		if err != nil {
			return nil, err
		}
		out.until = max(out.until, last)
	}
	return out, nil
}

// bounded reports whether a bound can be met. Deletions have no payload.
func (f *freezing) bounded(deletions bool) (bool, error) {
	switch {
	case f.req.MaxBytes > 0 && (!deletions || f.bytes > f.req.MaxBytes):
		return true, nil
	case f.req.MaxRows <= 0:
		return false, nil
	}
	n, err := f.db.count(`SELECT COUNT(*) FROM (SELECT 1 FROM _sync_dirty_rows LIMIT ?)`, f.req.MaxRows+1)
	return n > f.req.MaxRows, err
}

// pass notes that the row at ordinal is in front of any further cut: an upsert with its values, or a deletion.
func (f *freezing) pass(t *table, keyJSON []byte, ordinal int64, values []wire.Value) (err error) {
	for _, ref := range f.fenced.refs[t] {
		needs := int64(math.MinInt64)
		if f.deletions {
			_, err = f.db.conn.one(ref.last, func(s *sqlite3.Stmt) error {
				if s.ColumnType(0) != sqlite3.NULL {
					needs = s.ColumnInt64(0)
				}
				return nil
			}, rawText(keyJSON), ordinal)
		} else {
			needs, err = f.neededLater(ref.parent, &values[ref.column], ordinal)
		}
		if err != nil {
			return err
		}
		f.fenced.until = max(f.fenced.until, needs)
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
