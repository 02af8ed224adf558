package sqlite

import (
	"database/sql"
	"fmt"
	"math/rand"
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

// floorRows are the rows that the floor of a benchmark writes.
func floorRows() []wire.Row { return thingRows(rand.New(rand.NewSource(1)), benchRows, 1) }

// keepDirty notes the dirty rows, for dirtyAgain.
func keepDirty(b *testing.B, db *DB) {
	b.Helper()
	asServer(b, db, `CREATE TABLE kept AS SELECT * FROM _sync_dirty_rows ORDER BY rowid`)
}

// dirtyAgain empties the outbox and makes the dirty rows those that were kept, as the triggers would.
func dirtyAgain(b *testing.B, db *DB) {
	b.Helper()
	if err := db.write(b.Context(), "test", relaxed, db.clearOutbox); err != nil {
		b.Fatal(err)
	}
	asServer(b, db, `DELETE FROM _sync_dirty_rows`, `INSERT INTO _sync_dirty_rows SELECT * FROM kept ORDER BY rowid`)
}

// BenchmarkFreeze measures freezing, encoding and hashing a push: of new rows, of edits of known rows, and of rows that
// were put back from the outbox.
func BenchmarkFreeze(b *testing.B) {
	for _, kind := range []string{"inserts", "updates", "requeued"} {
		b.Run(kind, func(b *testing.B) {
			db := dirtyItems(b, benchRows)
			if kind == "updates" {
				knownItems(b, db)
			}
			keepDirty(b, db)
			var m meter
			for b.Loop() {
				m.begin()
				f, err := db.Freeze(b.Context(), local.FreezeRequest{Contract: wire.ClassicContract})
				m.end(benchRows)
				if err != nil || f.Outbox.RowCount != benchRows {
					b.Fatal(f, err)
				}
				if kind != "requeued" {
					dirtyAgain(b, db)
				} else if err := db.RequeueOutbox(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			m.report(b, floorRows())
		})
	}
}

// knownItems makes the dirty inserts edits of rows that the server has.
func knownItems(b *testing.B, db *DB) {
	b.Helper()
	asServer(b, db, `DELETE FROM _sync_dirty_rows`,
		`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version) SELECT 'main', 'items', json_object('id', id), 1 FROM items`)
	exec(b, db, `UPDATE items SET note = 'changed'`)
}

// BenchmarkFreezeBounded measures freezing in bundles of 5,000 rows until nothing is left.
func BenchmarkFreezeBounded(b *testing.B) {
	db := dirtyItems(b, benchRows)
	keepDirty(b, db)
	var m meter
	for b.Loop() {
		for more := true; more; {
			m.begin()
			f, err := db.Freeze(b.Context(), local.FreezeRequest{Contract: wire.ClassicContract, MaxRows: 5000})
			m.end(int(f.Outbox.RowCount))
			if err != nil {
				b.Fatal(err)
			}
			more = f.More
			if err := db.write(b.Context(), "test", relaxed, db.clearOutbox); err != nil {
				b.Fatal(err)
			}
		}
		dirtyAgain(b, db)
	}
	m.report(b, floorRows())
}

// BenchmarkPushInPieces measures settling and freezing edits of rows that the server has in bundles of 500, as a push
// does it. What a row costs must not grow with their number.
func BenchmarkPushInPieces(b *testing.B) {
	for _, n := range []int{5000, 20_000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			db := dirtyItems(b, n)
			knownItems(b, db)
			keepDirty(b, db)
			asServer(b, db, `CREATE TABLE bases AS SELECT * FROM _sync_base_rows`)
			var m meter
			for b.Loop() {
				m.begin()
				for more := true; more; {
					if _, err := db.Settle(b.Context(), 100); err != nil {
						b.Fatal(err)
					}
					f, err := db.Freeze(b.Context(), local.FreezeRequest{Contract: wire.ClassicContract, MaxRows: 500})
					if err != nil {
						b.Fatal(err)
					}
					more = f.More
					if err := db.write(b.Context(), "test", relaxed, func() error { return db.finishReplay(f.Outbox) }); err != nil {
						b.Fatal(err)
					}
				}
				m.end(n)
				asServer(b, db, `INSERT INTO _sync_base_rows SELECT * FROM bases`)
				dirtyAgain(b, db)
			}
			b.ReportMetric(float64(m.rows)/m.cpu.Seconds(), "rows/cpu-s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSettle measures settling where there is nothing to settle: rows the server has never seen, and edits of rows
// that it has.
func BenchmarkSettle(b *testing.B) {
	for _, updates := range []bool{false, true} {
		b.Run(map[bool]string{false: "inserts", true: "updates"}[updates], func(b *testing.B) {
			db := dirtyItems(b, benchRows)
			if updates {
				knownItems(b, db)
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

// BenchmarkRequeue measures putting a push back, of which nothing or half was edited since.
func BenchmarkRequeue(b *testing.B) {
	for _, edited := range []bool{false, true} {
		b.Run(map[bool]string{false: "untouched", true: "edited"}[edited], func(b *testing.B) {
			db := dirtyItems(b, benchRows)
			var m meter
			for b.Loop() {
				if _, err := db.Freeze(b.Context(), local.FreezeRequest{Contract: wire.ClassicContract}); err != nil {
					b.Fatal(err)
				}
				if edited {
					exec(b, db, `UPDATE items SET note = note || '.' WHERE rowid % 2`)
				}
				m.begin()
				err := db.RequeueOutbox(b.Context())
				m.end(benchRows)
				if err != nil {
					b.Fatal(err)
				}
			}
			m.report(b, floorRows())
		})
	}
}
