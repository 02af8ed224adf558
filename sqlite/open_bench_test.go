package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// BenchmarkOpen is the processor time that an engine costs before it does anything: Open, the first State and Close of
// a new database and of one that was open before, and a State on a connection that has to be opened again. The floor is a
// bare connection to the same file that reads the schema.
func BenchmarkOpen(b *testing.B) {
	for _, schema := range []struct {
		name, ddl string
		tables    []string
	}{{"tables=1", usersDDL, []string{"users"}}, {"tables=8", businessDDL, businessTables}} {
		b.Run("new/"+schema.name, func(b *testing.B) {
			dir := b.TempDir()
			benchOpen(b, func(i int) Config {
				path := filepath.Join(dir, fmt.Sprint(i, ".db"))
				plain(b, path, schema.ddl)
				return Config{Path: path, Schema: "main", Tables: tables(schema.tables...)}
			})
		})
		b.Run("existing/"+schema.name, func(b *testing.B) {
			cfg := testConfig(b, schema.ddl, tables(schema.tables...)...)
			db, err := Open(context.Background(), cfg)
			must(b, err)
			must(b, db.Close())
			benchOpen(b, func(int) Config { return cfg })
		})
		b.Run("rested/"+schema.name, func(b *testing.B) {
			db := testDB(b, schema.ddl, schema.tables...)
			var m meter
			var floor time.Duration
			for b.Loop() {
				m.begin()
				_, err := db.State(context.Background())
				must(b, err)
				must(b, db.sleep())
				m.end(1)
				floor += bareOpen(b, db.Path())
			}
			m.reportOpen(b, floor)
		})
	}
}

func benchOpen(b *testing.B, config func(i int) Config) {
	var m meter
	var floor time.Duration
	for i := 0; b.Loop(); i++ {
		cfg := config(i)
		m.begin()
		db, err := Open(context.Background(), cfg)
		must(b, err)
		_, err = db.State(context.Background())
		must(b, err)
		must(b, db.Close())
		m.end(1)
		floor += bareOpen(b, cfg.Path)
	}
	m.reportOpen(b, floor)
}

// bareOpen is the processor time of a connection that reads the schema of a file.
func bareOpen(b *testing.B, path string) time.Duration {
	began := processTime()
	c, err := sqlite3.Open(path)
	must(b, err)
	must(b, c.Exec(`SELECT 1 FROM sqlite_schema`))
	must(b, c.Close())
	return processTime() - began
}

func (m *meter) reportOpen(b *testing.B, floor time.Duration) {
	b.ReportMetric(float64(m.cpu.Microseconds())/float64(m.rows), "cpu-µs/op")
	b.ReportMetric(float64(floor.Microseconds())/float64(m.rows), "floor-cpu-µs/op")
	b.ReportMetric(float64(m.allocs)/float64(m.rows), "allocs/op")
	b.ReportMetric(0, "ns/op")
}
