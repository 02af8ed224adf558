package sqlite

import (
	"github.com/ncruces/go-sqlite3"
)

// batchRows is how many rows travel to SQLite in one statement. Beyond 20 a statement gets no faster.
const batchRows = 20

// batchSizes are the numbers of rows for which statements are prepared. A batch is made of as few as possible.
var batchSizes = [...]int{batchRows, 5, 1}

// batched is a statement that comes in the batch sizes.
type batched struct {
	c     *conn
	build func(rows int) string
	// first, where it is set, is a plain INSERT of the same rows: most rows are new, and an upsert makes SQLite keep a copy
	// of every page it touches. Where one row is there already, build's statement goes on from that row, and is used for
	// the next batches at once. No trigger may fire for the rows: it would be unknown how far a failed statement came.
	first func(rows int) string
	wary  int // how many more statements are not tried with first
	// every: each row must be written, else exec fails with errKnown.
	every bool

	stmts, firsts [len(batchSizes)]*sqlite3.Stmt
}

// warySteps is for how many statements first is not used after a row was there already.
const warySteps = 32

// exec executes the statement for n rows. bind binds row i in the given slot of the statement; common parameters it
// binds in slot 0.
func (b *batched) exec(n int, bind func(s *sqlite3.Stmt, slot, i int) error) error {
	for i := 0; i < n; {
		size := 0
		for batchSizes[size] > n-i {
			size++
		}
		trying := b.first != nil && b.wary == 0
		s, err := b.stmt(size, trying)
		if err != nil {
			return err
		}
		for slot := range batchSizes[size] {
			if err := bind(s, slot, i+slot); err != nil {
				return err
			}
		}
		err = s.Exec()
		switch {
		case trying && isUnique(err):
			b.wary = warySteps
			i += int(b.c.raw.Changes())
			continue
		case err != nil:
			return err
		case b.every && b.c.raw.Changes() != int64(batchSizes[size]):
			return errKnown
		}
		b.wary = max(b.wary-1, 0)
		i += batchSizes[size]
	}
	return nil
}

func (b *batched) stmt(size int, first bool) (*sqlite3.Stmt, error) {
	stmts, build := &b.stmts, b.build
	if first {
		stmts, build = &b.firsts, b.first
	}
	if stmts[size] == nil {
		s, err := b.c.stmt(build(batchSizes[size]))
		if err != nil {
			return nil, err
		}
		stmts[size] = s
	}
	return stmts[size], nil
}

// clear drops what is bound: SQLite would keep it in memory until the next use.
func (b *batched) clear() {
	for size := range batchSizes {
		for _, s := range [...]*sqlite3.Stmt{b.stmts[size], b.firsts[size]} {
			if s != nil {
				_ = s.ClearBindings()
			}
		}
	}
}
