package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// StageBundlePage stores one page of a committed bundle that is too large for memory. after is the ordinal of the last
// row before the page; -1 empties the stage first. A page that was stored before may come again: a bundle never
// changes, so what is there of it stays. One that would leave a hole is refused with a *local.DatabaseError.
func (db *DB) StageBundlePage(ctx context.Context, meta wire.BundleMeta, after int64, rows []wire.Row) error {
	return db.write(ctx, "stage bundle page", relaxed, func() error {
		if after < 0 {
			if err := db.conn.run(`DELETE FROM _sync_bundle_stage`); err != nil {
				return err
			}
		}
		last := int64(-1)
		if _, err := db.conn.one(`SELECT row_ordinal + row_count - 1 FROM _sync_bundle_stage WHERE bundle_seq = ? ORDER BY row_ordinal DESC LIMIT 1`, func(s *sqlite3.Stmt) error {
			last = s.ColumnInt64(0)
			return nil
		}, meta.Seq); err != nil {
			return err
		}
		if after > last || after < -1 {
			return &local.DatabaseError{Operation: "stage bundle page", Path: db.cfg.Path, Table: "_sync_bundle_stage",
				Reason: fmt.Sprintf("a page after row %d does not follow row %d: fetch the bundle from its start", after, last)}
		}
		var (
			page  []byte
			first = last + 1
		)
		store := func(next int64) error {
			if next == first {
				return nil
			}
			err := db.conn.run(`INSERT INTO _sync_bundle_stage (row_ordinal, bundle_seq, row_count, page) VALUES (?, ?, ?, ?)`, first, meta.Seq, next-first, rawBlob(page))
			page, first = page[:0], next
			return err
		}
		for i := range rows {
			r, ordinal := &rows[i], after+1+int64(i)
			if err := db.checkRow(r); err != nil {
				return err
			}
			if r.RowVersion != meta.Seq {
				return &wire.ProtocolError{Table: r.Schema + "." + r.Table, Reason: "a row whose version is not its bundle's"}
			}
			if ordinal <= last {
				continue
			}
			page = appendStaged(page, r)
			if len(page) >= stageBytes {
				if err := store(ordinal + 1); err != nil {
					return err
				}
			}
		}
		if len(page) == 0 {
			return nil
		}
		return store(after + 1 + int64(len(rows)))
	})
}

// badStage is the fault of a staged bundle that is not what was announced. To fetch it again is what helps.
func badStage(reason string) error {
	return &wire.ProtocolError{Operation: "committed bundle rows", Reason: reason}
}

// stagedTable is the table of a staged row, which must be one of ours.
func (db *DB) stagedTable(r *staged) (*table, error) {
	t := db.byName[string(r.table)]
	if t == nil {
		return nil, badStage("a row of a table that is not synced here")
	}
	return t, nil
}

// verifyStage checks the staged bundle against its count and its hash, and fills in a count that was not given.
func (db *DB) verifyStage(c wire.Contract, meta *wire.BundleMeta) error {
	hash := c.NewBundleHash()
	var n int64
	_, err := db.conn.each(`SELECT row_ordinal, row_count, page FROM _sync_bundle_stage WHERE bundle_seq = ? ORDER BY row_ordinal`, func(s *sqlite3.Stmt) error {
		if s.ColumnInt64(0) != n {
			return badStage("rows of the bundle are missing")
		}
		page := s.ColumnRawBlob(2)
		for count := s.ColumnInt64(1); count > 0 || len(page) > 0; count-- {
			r, rest, ok := nextStaged(page)
			if !ok || count <= 0 {
				return badStage("a staged page is damaged")
			}
			page = rest
			n++
			t, err := db.stagedTable(&r)
			if err != nil {
				return err
			}
			if meta.Hash == "" {
				continue
			}
			if err := hash.Add(&wire.Row{Schema: t.Schema, Table: t.Name, Key: wire.Key{Column: t.KeyColumn().Name, Value: string(r.key)},
				Op: r.op, RowVersion: meta.Seq, Payload: r.payload}); err != nil {
				return err
			}
		}
		return nil
	}, meta.Seq)
	switch {
	case err != nil:
		return err
	case n == 0:
		return badStage("the bundle has no rows")
	case meta.RowCount >= 0 && n != meta.RowCount:
		return badStage(fmt.Sprintf("the bundle has %d rows, %d were announced", n, meta.RowCount))
	case meta.Hash != "" && hash.Sum() != meta.Hash:
		return badStage("the hash of the bundle's rows is not the one announced")
	}
	meta.RowCount = n
	return nil
}
