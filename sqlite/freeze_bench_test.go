package sqlite

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// benchRows is the size of the push in the benchmarks.
const benchRows = 100_000

const itemsDDL = `CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, count INTEGER, price REAL, note TEXT, updated_at TEXT)`

// dirtyItems makes n dirty inserts with random keys.
func dirtyItems(b testing.TB, n int) *DB {
	b.Helper()
	db := synced(b, testDB(b, itemsDDL, "items"))
	err := db.Write(b.Context(), func(tx *sql.Tx) error {
		s, err := tx.PrepareContext(b.Context(), `INSERT INTO items VALUES (?, ?, ?, ?, ?, '2026-01-02T03:04:05.678Z')`)
		if err != nil {
			return err
		}
		defer s.Close()
		for i := range n {
			if _, err := s.ExecContext(b.Context(), uuid.NewString(), fmt.Sprintf("item %d", i), i, float64(i)/7, "a note of the usual length, with a “quote”"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return db
}

func rowsPerSecond(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkFreeze measures freezing, encoding and hashing a push.
func BenchmarkFreeze(b *testing.B) {
	db := dirtyItems(b, benchRows)
	b.ReportAllocs()
	for b.Loop() {
		f, err := db.Freeze(b.Context(), local.FreezeRequest{Contract: wire.ClassicContract})
		if err != nil || f.Outbox.RowCount != benchRows {
			b.Fatal(f, err)
		}
		b.StopTimer()
		if err := db.RequeueOutbox(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	rowsPerSecond(b, benchRows)
}

// BenchmarkFreezeFloor copies the same dirty rows into an empty table without an index.
func BenchmarkFreezeFloor(b *testing.B) {
	db := dirtyItems(b, benchRows)
	asServer(b, db, `CREATE TABLE copied (a, b, c, d, e, f, g, h)`)
	for b.Loop() {
		if err := db.write(b.Context(), "test", durable, func() error {
			return db.conn.run(`INSERT INTO copied SELECT * FROM _sync_dirty_rows ORDER BY dirty_ordinal`)
		}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		asServer(b, db, `DELETE FROM copied`)
		b.StartTimer()
	}
	rowsPerSecond(b, benchRows)
}

// BenchmarkFreezeBounded measures freezing in bundles of 5,000 rows until nothing is left.
func BenchmarkFreezeBounded(b *testing.B) {
	db := dirtyItems(b, benchRows)
	for b.Loop() {
		for more := true; more; {
			f, err := db.Freeze(b.Context(), local.FreezeRequest{Contract: wire.ClassicContract, MaxRows: 5000})
			if err != nil {
				b.Fatal(err)
			}
			more = f.More
			b.StopTimer()
			asServer(b, db, `CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM _sync_outbox_rows WHERE false`, `INSERT INTO kept SELECT * FROM _sync_outbox_rows`)
			if err := db.write(b.Context(), "test", relaxed, db.clearOutbox); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		b.StopTimer()
		asServer(b, db, `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
SELECT schema_name, table_name, key_json, op, base_row_version, local_payload, rowid FROM kept`, `DELETE FROM kept`)
		b.StartTimer()
	}
	rowsPerSecond(b, benchRows)
}

// BenchmarkSettle measures settling where there is nothing to settle: rows the server has never seen, and edits of rows
// that it has.
func BenchmarkSettle(b *testing.B) {
	for _, updates := range []bool{false, true} {
		b.Run(map[bool]string{false: "inserts", true: "updates"}[updates], func(b *testing.B) {
			db := dirtyItems(b, benchRows)
			if updates {
				asServer(b, db, `DELETE FROM _sync_dirty_rows`,
					`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version) SELECT 'main', 'items', json_object('id', id), 1 FROM items`)
				exec(b, db, `UPDATE items SET note = 'changed'`)
			}
			for b.Loop() {
				if s, err := db.Settle(b.Context(), 100); err != nil || s.Dropped != 0 {
					b.Fatal(s, err)
				}
			}
			rowsPerSecond(b, benchRows)
		})
	}
}

// BenchmarkOutboxRows measures reading a push in chunks of 1,000.
func BenchmarkOutboxRows(b *testing.B) {
	db := dirtyItems(b, benchRows)
	if _, err := db.Freeze(b.Context(), local.FreezeRequest{Contract: wire.ClassicContract}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for from := int64(0); from < benchRows; from += 1000 {
			if rows, err := db.OutboxRows(b.Context(), from, 1000, 0); err != nil || len(rows) != 1000 {
				b.Fatal(len(rows), err)
			}
		}
	}
	rowsPerSecond(b, benchRows)
}

// BenchmarkRequeue measures putting a push back, half of whose rows were edited since.
func BenchmarkRequeue(b *testing.B) {
	db := dirtyItems(b, benchRows)
	for b.Loop() {
		b.StopTimer()
		if _, err := db.Freeze(b.Context(), local.FreezeRequest{Contract: wire.ClassicContract}); err != nil {
			b.Fatal(err)
		}
		exec(b, db, `UPDATE items SET note = note || '.' WHERE rowid % 2`)
		b.StartTimer()
		if err := db.RequeueOutbox(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	rowsPerSecond(b, benchRows)
}
