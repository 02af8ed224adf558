package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// StageBundlePage stores one page of a committed bundle that is too large for memory. after is the ordinal of the last
// row before the page; -1 empties the stage first. A page that was stored before may come again; one that would leave
// a hole is refused with a *local.DatabaseError.
func (db *DB) StageBundlePage(ctx context.Context, meta wire.BundleMeta, after int64, rows []wire.Row) error {
	return db.write(ctx, "stage bundle page", relaxed, func() error {
		if after < 0 {
			if err := db.conn.run(`DELETE FROM _sync_bundle_stage`); err != nil {
				return err
			}
		}
		last := int64(-1)
		if _, err := db.conn.one(`SELECT max(row_ordinal) FROM _sync_bundle_stage WHERE bundle_seq = ?`, func(s *sqlite3.Stmt) error {
			if s.ColumnType(0) != sqlite3.NULL {
				last = s.ColumnInt64(0)
			}
			return nil
		}, meta.Seq); err != nil {
			return err
		}
		if after > last || after < -1 {
			return &local.DatabaseError{Operation: "stage bundle page", Path: db.cfg.Path, Table: "_sync_bundle_stage",
				Reason: fmt.Sprintf("a page after row %d does not follow row %d: fetch the bundle from its start", after, last)}
		}
		stage := batched{c: db.conn, build: func(n int) string {
			return `INSERT OR REPLACE INTO _sync_bundle_stage (bundle_seq, row_ordinal, schema_name, table_name, key, op, row_version, payload) VALUES ` +
				repeat(n, func(i int) string { return `(?1, ` + parameters(2+7*i, 7) + `)` })
		}}
		defer stage.clear()
		return stage.exec(len(rows), func(s *sqlite3.Stmt, slot, i int) error {
			r := &rows[i]
			if err := db.checkRow(r); err != nil {
				return err
			}
			if r.RowVersion != meta.Seq {
				return &wire.ProtocolError{Table: r.Schema + "." + r.Table, Reason: "a row whose version is not its bundle's"}
			}
			if slot == 0 {
				if err := s.BindInt64(1, meta.Seq); err != nil {
					return err
				}
			}
			for j, v := range [...]any{after + 1 + int64(i), r.Schema, r.Table, r.Key.Value, string(r.Op), r.RowVersion, rawText(r.Payload)} {
				if err := bind(s, 2+7*slot+j, v); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// verifyStage checks the staged bundle against its count and its hash, and fills in a count that was not given.
func (db *DB) verifyStage(c wire.Contract, meta *wire.BundleMeta) error {
	bad := func(reason string) error {
		return &wire.ProtocolError{Operation: "committed bundle rows", Reason: reason}
	}
	hash := c.NewBundleHash()
	var row wire.Row
	var n int64
	_, err := db.conn.each(`SELECT row_ordinal, schema_name, table_name, key, op, row_version, payload FROM _sync_bundle_stage WHERE bundle_seq = ? ORDER BY row_ordinal`,
		func(s *sqlite3.Stmt) error {
			if s.ColumnInt64(0) != n {
				return bad("rows of the bundle are missing")
			}
			n++
			t := db.byName[string(s.ColumnRawText(2))]
			if t == nil {
				return bad("a row of a table that is not synced here")
			}
			if meta.Hash == "" {
				return nil
			}
			row = wire.Row{Schema: t.Schema, Table: t.Name, Key: wire.Key{Column: t.KeyColumn().Name, Value: s.ColumnText(3)},
				Op: opOf(s.ColumnRawText(4)), RowVersion: s.ColumnInt64(5)}
			if s.ColumnType(6) != sqlite3.NULL {
				row.Payload = s.ColumnRawText(6)
			}
			return hash.Add(&row)
		}, meta.Seq)
	switch {
	case err != nil:
		return err
	case n == 0:
		return bad("the bundle has no rows")
	case meta.RowCount >= 0 && n != meta.RowCount:
		return bad(fmt.Sprintf("the bundle has %d rows, %d were announced", n, meta.RowCount))
	case meta.Hash != "" && hash.Sum() != meta.Hash:
		return bad("the hash of the bundle's rows is not the one announced")
	}
	meta.RowCount = n
	return nil
}

// opOf returns an op without a copy.
func opOf(text []byte) wire.Op {
	switch string(text) {
	case string(wire.OpInsert):
		return wire.OpInsert
	case string(wire.OpUpdate):
		return wire.OpUpdate
	case string(wire.OpDelete):
		return wire.OpDelete
	}
	return ""
}

// stageSource is a source of the staged rows of a bundle. SQLite sorts them, on disk where memory does not suffice.
func (a *applier) stageSource(seq int64) source {
	return func(add func(*plan, string, wire.Op, int64, []byte, bool) error) error {
		_, err := a.db.conn.each(`SELECT table_name, key, op, row_version, payload FROM _sync_bundle_stage
WHERE bundle_seq = ? ORDER BY table_name, key, row_ordinal`, func(s *sqlite3.Stmt) error {
			t := a.db.byName[string(s.ColumnRawText(0))]
			if t == nil {
				return &wire.ProtocolError{Operation: "committed bundle rows", Reason: "a row of a table that is not synced here"}
			}
			var payload []byte
			if s.ColumnType(4) != sqlite3.NULL {
				payload = s.ColumnRawText(4)
			}
			return add(a.plan(t), s.ColumnText(1), opOf(s.ColumnRawText(2)), s.ColumnInt64(3), payload, false)
		}, seq)
		return err
	}
}
