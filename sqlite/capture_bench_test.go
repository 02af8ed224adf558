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

// BenchmarkCapture changes rows of six columns with random keys through a prepared statement of the application's pool, in
// one transaction, with the capture triggers ("capture") and on the same table without them ("floor"). dirty=N is how many
// dirty rows there are in the end; "after" measures 1,000 new rows on top of 100,000 dirty ones. Updates and deletions
// are of rows that the server has; "again" updates rows that are dirty already.
func BenchmarkCapture(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		for _, change := range []string{"insert", "update", "again", "delete"} {
			for _, capture := range []bool{false, true} {
				if capture || change != "again" {
					b.Run(fmt.Sprintf("%s/%s/dirty=%d", change, map[bool]string{false: "floor", true: "capture"}[capture], n),
						func(b *testing.B) { benchCapture(b, change, capture, 0, n) })
				}
			}
		}
	}
	b.Run("insert/floor/after=100000", func(b *testing.B) { benchCapture(b, "insert", false, 100_000, 1000) })
	b.Run("insert/capture/after=100000", func(b *testing.B) { benchCapture(b, "insert", true, 100_000, 1000) })
}

func benchCapture(b *testing.B, change string, capture bool, before, n int) {
	db := testDB(b, benchDDL, "items")
	if !capture {
		for _, suffix := range triggerSuffixes {
			exec(b, db, `DROP TRIGGER `+quote(triggerName("items", suffix)))
		}
	}
	var m meter
	// write executes a statement for every key in one transaction.
	write := func(query string, ids []string, args func(i int) []any) {
		m.begin()
		err := db.Write(b.Context(), func(tx *sql.Tx) error {
			s, err := tx.PrepareContext(b.Context(), query)
			if err != nil {
				return err
			}
			defer s.Close()
			for i := range ids {
				if _, err := s.ExecContext(b.Context(), args(i)...); err != nil {
					return err
				}
			}
			return nil
		})
		m.end(len(ids))
		if err != nil {
			b.Fatal(err)
		}
	}
	insert := func(n int) (ids []string) {
		for range n {
			ids = append(ids, uuid.NewString())
		}
		write(benchInsert, ids, func(i int) []any {
			return []any{ids[i], "A title of ordinary length", "and a note", int64(i), 1.25, "2026-01-01T00:00:00Z"}
		})
		return ids
	}
	update := func(ids []string, title string) {
		write(`UPDATE items SET title = ?, amount = ? WHERE id = ?`, ids, func(i int) []any { return []any{title, int64(-i), ids[i]} })
	}
	insert(max(before, 1))
	m = meter{}
	for range b.N {
		so := m
		ids := insert(n)
		if change != "insert" {
			asServer(b, db, `DELETE FROM _sync_dirty_rows`,
				`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version) SELECT 'main', 'items', json_object('id', id), 1 FROM items`)
			m = so
		}
		switch change {
		case "update":
			update(ids, "A new title of ordinary length")
		case "again":
			update(ids, "A new title of ordinary length")
			m = so
			update(ids, "Another title of ordinary length")
		case "delete":
			write(`DELETE FROM items WHERE id = ?`, ids, func(i int) []any { return []any{ids[i]} })
		}
		if before == 0 {
			asServer(b, db, `DELETE FROM _sync_dirty_rows`, `DELETE FROM _sync_base_rows`, `DELETE FROM _sync_row_state`, `DELETE FROM items`)
		}
	}
	b.ReportMetric(float64(m.rows)/m.took.Seconds(), "rows/s")
	b.ReportMetric(float64(m.rows)/m.cpu.Seconds(), "rows/cpu-s")
	b.ReportMetric(0, "ns/op")
}
