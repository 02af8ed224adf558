package sqlite

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/google/uuid"
)

const benchDDL = `CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, title TEXT NOT NULL, note TEXT, amount INTEGER NOT NULL,
  rating REAL, updated_at TEXT NOT NULL)`

const benchInsert = `INSERT INTO items (id, title, note, amount, rating, updated_at) VALUES (?, ?, ?, ?, ?, ?)`

// BenchmarkCapture inserts rows of six columns with random keys through a prepared statement of the application's
// pool, in one transaction, with the capture triggers ("capture") and on the same table without them ("floor").
// dirty=N is how many dirty rows there are in the end; "after" measures 1,000 rows on top of 100,000 dirty ones.
func BenchmarkCapture(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("floor/dirty=%d", n), func(b *testing.B) { benchCapture(b, false, 0, n) })
		b.Run(fmt.Sprintf("capture/dirty=%d", n), func(b *testing.B) { benchCapture(b, true, 0, n) })
	}
	b.Run("floor/after=100000", func(b *testing.B) { benchCapture(b, false, 100_000, 1000) })
	b.Run("capture/after=100000", func(b *testing.B) { benchCapture(b, true, 100_000, 1000) })
}

func benchCapture(b *testing.B, capture bool, before, n int) {
	db := testDB(b, benchDDL, "items")
	if !capture {
		for _, suffix := range triggerSuffixes {
			exec(b, db, `DROP TRIGGER `+quote(triggerName("items", suffix)))
		}
	}
	insert := func(n int) {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = uuid.NewString()
		}
		b.StartTimer()
		defer b.StopTimer()
		err := db.Write(b.Context(), func(tx *sql.Tx) error {
			s, err := tx.PrepareContext(b.Context(), benchInsert)
			if err != nil {
				return err
			}
			defer s.Close()
			for i, id := range ids {
				if _, err := s.ExecContext(b.Context(), id, "A title of ordinary length", "and a note", int64(i), 1.25, "2026-01-01T00:00:00Z"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	insert(max(before, 1))
	b.ResetTimer()
	for range b.N {
		insert(n)
		if before == 0 {
			exec(b, db, `DELETE FROM _sync_dirty_rows`)
			exec(b, db, `UPDATE _sync_apply_state SET apply_mode = 1`)
			exec(b, db, `DELETE FROM items`)
			exec(b, db, `UPDATE _sync_apply_state SET apply_mode = 0`)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(0, "ns/op")
}
