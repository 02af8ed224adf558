package sqlite

import (
	"cmp"
	"slices"
	"strings"

	"github.com/oversqlite/oversqlite/wire"
)

// source hands the rows of one or several bundles to add, sorted by table and key, the older versions of a row first.
// It can be run more than once.
type source func(add func(p *plan, key string, op wire.Op, version int64, payload []byte, keep bool) error) error

// item is a row in memory and its place.
type item struct {
	plan    *plan
	row     *wire.Row
	ordinal int // among the rows that are sorted with it
}

// items checks the rows of bundles, and finds their tables.
func (a *applier) items(bundles []*wire.Bundle) ([][]item, error) {
	out := make([][]item, len(bundles))
	for i, b := range bundles {
		out[i] = make([]item, len(b.Rows))
		for j := range b.Rows {
			row := &b.Rows[j]
			if err := a.db.checkRow(row); err != nil {
				return nil, err
			}
			p := a.plan(a.db.byName[row.Table])
			if row.RowVersion != b.Seq {
				return nil, p.protocol("a row whose version is not its bundle's")
			}
			out[i][j] = item{plan: p, row: row}
		}
	}
	return out, nil
}

// checkRow refuses a row that cannot be ours.
func (db *DB) checkRow(row *wire.Row) error {
	t := db.byName[row.Table]
	bad := func(reason string) error {
		return &wire.ProtocolError{Table: row.Schema + "." + row.Table, Reason: reason}
	}
	switch {
	case t == nil || row.Schema != t.Schema:
		return bad("a row of a table that is not synced here")
	case !row.Op.Valid():
		return bad("a row with an unknown op")
	case (row.Payload == nil) != (row.Op == wire.OpDelete):
		return bad("a row has a payload exactly when it was not deleted")
	case row.Key.Column != t.KeyColumn().Name:
		return bad("a row key that does not name the sync key column")
	case row.RowVersion <= 0:
		return bad("a row without a version")
	}
	return nil
}

// memory is a source of the rows of bundles in memory.
func memory(bundles [][]item) source {
	n := 0
	for _, b := range bundles {
		n += len(b)
	}
	sorted := make([]item, 0, n)
	for _, b := range bundles {
		for _, it := range b {
			it.ordinal = len(sorted)
			sorted = append(sorted, it)
		}
	}
	slices.SortFunc(sorted, func(x, y item) int {
		if c := cmp.Compare(x.plan.order, y.plan.order); c != 0 {
			return c
		}
		if c := strings.Compare(x.row.Key.Value, y.row.Key.Value); c != 0 {
			return c
		}
		return cmp.Compare(x.ordinal, y.ordinal)
	})
	return func(add func(*plan, string, wire.Op, int64, []byte, bool) error) error {
		for _, it := range sorted {
			if err := add(it.plan, it.row.Key.Value, it.row.Op, it.row.RowVersion, it.row.Payload, true); err != nil {
				return err
			}
		}
		return nil
	}
}
