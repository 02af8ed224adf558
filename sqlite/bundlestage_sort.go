package sqlite

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// sortBytes is about how many bytes of staged rows are sorted at a time.
const sortBytes = 8 << 20

// stageSource is a source of the staged rows of a bundle. They are sorted in memory, a part of the bundle at a time:
// that is nearly as good for the tables as if all were sorted, and far cheaper than to sort them on disk. The parts come
// in from the last to the first, and a row that is known already is passed over, so that the last image of a row counts
// wherever the others are.
func (a *applier) stageSource(seq int64) source {
	return func(add func(*plan, string, wire.Op, int64, []byte, bool) error) error {
		part := sorter{a: a, seq: seq, add: add}
		_, err := a.db.conn.each(`SELECT row_ordinal, page FROM _sync_bundle_stage WHERE bundle_seq = ? ORDER BY row_ordinal DESC`, func(s *sqlite3.Stmt) error {
			return part.take(s.ColumnInt64(0), s.ColumnRawBlob(1))
		}, seq)
		if err != nil {
			return err
		}
		return part.flush()
	}
}

// sorter holds a part of a staged bundle.
type sorter struct {
	a      *applier
	seq    int64
	add    func(*plan, string, wire.Op, int64, []byte, bool) error
	pages  [][]byte // the first used of them hold the part, the others are there to be used again
	used   int
	rows   []sortedRow // they point into the pages
	weight int         // about how many bytes the part takes
}

type sortedRow struct {
	plan    *plan
	op      wire.Op
	ordinal int64
	key     []byte
	payload []byte
}

// rowWeight is about what a row takes besides its bytes: a part of deletions must have an end, too.
const rowWeight = 100

// take takes in the rows of a page.
func (p *sorter) take(ordinal int64, page []byte) error {
	if p.used == len(p.pages) {
		p.pages = append(p.pages, nil)
	}
	p.pages[p.used] = append(p.pages[p.used][:0], page...)
	page = p.pages[p.used]
	p.used++
	p.weight += len(page)
	for len(page) > 0 {
		r, rest, ok := nextStaged(page)
		if !ok {
			return badStage("a staged page is damaged")
		}
		page = rest
		t, err := p.a.db.stagedTable(&r)
		if err != nil {
			return err
		}
		p.rows = append(p.rows, sortedRow{plan: p.a.plan(t), op: r.op, ordinal: ordinal, key: r.key, payload: r.payload})
		p.weight += rowWeight
		ordinal++
	}
	if p.weight < sortBytes {
		return nil
	}
	return p.flush()
}

// flush hands on the rows of the part, all of which must be written before any of another part's.
func (p *sorter) flush() error {
	slices.SortFunc(p.rows, func(x, y sortedRow) int {
		if c := cmp.Compare(x.plan.order, y.plan.order); c != 0 {
			return c
		}
		if c := bytes.Compare(x.key, y.key); c != 0 {
			return c
		}
		return cmp.Compare(x.ordinal, y.ordinal)
	})
	for i := range p.rows {
		r := &p.rows[i]
		if err := p.add(r.plan, string(r.key), r.op, p.seq, r.payload, false); err != nil {
			return err
		}
	}
	p.rows, p.used, p.weight = p.rows[:0], 0, 0
	return p.a.flush()
}
