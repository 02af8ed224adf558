package sqlite

import (
	"math"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

const (
	// From bulkRows rows on, the outbox's index on keys is built after the rows: keys are random, and to sort them once saves
	// a third of the work of a large push. Other connections compile their statements anew, which is why small ones
	// do without.
	bulkRows = 20_000
	// bulkBytes is how many bytes of payload a push must be allowed to have for that.
	bulkBytes = 4 << 20
	// freezeWindow is how many ordinals a statement looks through at least.
	freezeWindow = 250
)

// outboxKeyIndex is the definition of that index.
var outboxKeyIndex = func() string {
	for _, ddl := range metadata {
		if strings.Contains(ddl, `idx_sync_outbox_rows_key `) {
			return ddl
		}
	}
	panic("sqlite: the outbox has no index on its keys")
}()

// bulk reports whether the push is going to be large.
func (f *freezing) bulk() (bool, error) {
	if f.req.MaxRows > 0 && f.req.MaxRows < bulkRows || f.req.MaxBytes > 0 && f.req.MaxBytes < bulkBytes {
		return false, nil
	}
	n, err := f.db.count(`SELECT COUNT(*) FROM (SELECT 1 FROM _sync_dirty_rows LIMIT ?)`, bulkRows)
	return n == bulkRows, err
}

// rows moves the dirty rows, group by group, into the outbox until a bound is met.
func (f *freezing) rows() (err error) {
	c := f.db.conn
	if f.ordered, err = f.db.hasOrder(); err != nil {
		return err
	}
	if err := c.freezeFunctions(); err != nil {
		return err
	}
	c.freezing = f
	defer func() { c.freezing = nil }()
	bulk, err := f.bulk()
	if err != nil {
		return err
	}
	if !bulk {
		return f.groups()
	}
	if err := c.run(`DROP INDEX idx_sync_outbox_rows_key`); err != nil {
		return err
	}
	if err := f.groups(); err != nil {
		return err
	}
	return c.run(outboxKeyIndex)
}

func (f *freezing) groups() error {
	groups := f.db.freezeGroups()
	for _, g := range groups {
		if err := f.group(g, false); err != nil {
			return err
		}
	}
	for i := range groups {
		if err := f.group(groups[len(groups)-1-i], true); err != nil {
			return err
		}
	}
	return f.dropVoid()
}

// group moves the upserts or the deletions of a group of tables.
func (f *freezing) group(g freezeGroup, deletions bool) error {
	if f.cut {
		return nil
	}
	if some, err := f.has(g); err != nil || !some {
		return err
	}
	fence, err := f.fence(g, deletions)
	if err != nil {
		return err
	}
	f.g, f.fenced, f.deletions = g, fence, deletions
	next, move := g.next(deletions, f.ordered), g.move(deletions)
	for from := int64(math.MinInt64); !f.cut; {
		more := false
		if _, err := f.db.conn.one(next, func(s *sqlite3.Stmt) error {
			more = s.ColumnType(0) != sqlite3.NULL
			from = s.ColumnInt64(0)
			return nil
		}, from); err != nil {
			return err
		}
		if !more {
			return nil
		}
		last := math.MaxInt64 - max(0, math.MaxInt64-f.window()-from) // what from + window is, short of the largest
		err := f.db.conn.run(move, f.box.SourceBundleID, from, last, f.db.cfg.Schema)
		switch {
		case f.fault != nil:
			return f.fault
		case err != nil:
			return err
		case last == math.MaxInt64:
			return nil
		}
		f.looked += float64(last) - float64(from)
		from = last + 1
	}
	return nil
}

// window is how many ordinals the next statement looks through: about as many as it takes to meet a bound, since a push
// is to cost what it takes, however much is behind it. One statement for all is best: SQLite keeps what a further one
// would need to be undone, as it calls functions, and that is every page written before it that leaves the cache.
func (f *freezing) window() int64 {
	rows := int64(math.MaxInt64)
	if f.req.MaxRows > 0 {
		rows = f.req.MaxRows - f.box.RowCount + 1
	}
	if f.req.MaxBytes > 0 {
		fit := int64(0)
		if f.bytes > 0 {
			fit = int64(float64(f.req.MaxBytes-f.bytes)/float64(f.bytes)*float64(f.box.RowCount)) + 1
		}
		rows = min(rows, fit)
	}
	return max(rows, freezeWindow)
}

// has reports whether a table of the group has a dirty row.
func (f *freezing) has(g freezeGroup) (found bool, err error) {
	for _, t := range g.tables {
		if found, err = f.db.conn.one(`SELECT 1 FROM _sync_dirty_rows WHERE schema_name = ? AND table_name = ?`, nil, t.Schema, t.Name); found || err != nil {
			return found, err
		}
	}
	return false, nil
}
