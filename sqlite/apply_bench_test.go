package sqlite

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ncruces/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/oversqlite/oversqlite/wire"
)

// The rows of the benchmarks: six columns, random version 4 keys.
const (
	thingsDDL    = `CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, note TEXT, count INTEGER, rating REAL, created_at TEXT)`
	thingsUpsert = `INSERT INTO things (id, name, note, count, rating, created_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, note = excluded.note, count = excluded.count, rating = excluded.rating, created_at = excluded.created_at`
	thingNote = "some longer text about the thing, as long as such texts are when nobody limits them"
)

// thingRows makes n rows in the spelling of a server, at version seq.
func thingRows(rnd *rand.Rand, n int, seq int64) []wire.Row {
	out := make([]wire.Row, n)
	for i := range out {
		id, _ := uuid.NewRandomFromReader(rnd)
		out[i] = wire.Row{Schema: "main", Table: "things", Key: wire.Key{Column: "id", Value: id.String()}, Op: wire.OpInsert, RowVersion: seq,
			Payload: fmt.Appendf(nil, `{"id":"%s","name":"thing %d","note":"%s","count":%d,"rating":%g,"created_at":"2026-11-22T17:20:01.123456Z"}`, id, i, thingNote, i, float64(i)*1.25)}
	}
	return out
}

// pullBody spells bundles as the answer to a pull, as a server does.
func pullBody(tb testing.TB, stable int64, bundles []wire.Bundle) []byte {
	tb.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `{"stable_bundle_seq":%d,"bundles":[`, stable)
	for i, bd := range bundles {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"bundle_seq":%d,"source_id":"%s","source_bundle_id":%d,"row_count":%d,"bundle_hash":"%s","rows":[`, bd.Seq, bd.SourceID, bd.SourceBundleID, len(bd.Rows), bd.Hash)
		for j, r := range bd.Rows {
			if j > 0 {
				b.WriteByte(',')
			}
			writeRow(&b, &r, true)
		}
		b.WriteString("]}")
	}
	b.WriteString(`],"has_more":false}`)
	return []byte(b.String())
}

func writeRow(b *strings.Builder, r *wire.Row, op bool) {
	fmt.Fprintf(b, `{"schema":"%s","table":"%s","key":{"id":"%s"},`, r.Schema, r.Table, r.Key.Value)
	if op {
		fmt.Fprintf(b, `"op":"%s",`, r.Op)
	}
	fmt.Fprintf(b, `"row_version":%d,"payload":%s}`, r.RowVersion, r.Payload)
}

// floor writes the rows through one prepared upsert in one transaction, nothing else, into the same schema without
// triggers, and returns rows a second, and rows a second of processor time.
func floor(b *testing.B, rows []wire.Row) (perSecond, perCPUSecond float64) {
	b.Helper()
	cfg := testConfig(b, thingsDDL)
	raw, err := openRaw(cfg.Path)
	if err != nil {
		b.Fatal(err)
	}
	defer raw.close()
	if err := raw.raw.Exec(enginePragmas + `;PRAGMA journal_mode = WAL`); err != nil {
		b.Fatal(err)
	}
	start, began := time.Now(), processTime()
	err = raw.tx(context.Background(), "benchmark", func() error {
		s, err := raw.stmt(thingsUpsert)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := bindRow(s, 1, []wire.Value{{Type: wire.Text, Bytes: []byte(rows[i].Key.Value)}, {Type: wire.Text, Bytes: []byte("thing " + strconv.Itoa(i))},
				{Type: wire.Text, Bytes: []byte(thingNote)}, {Type: wire.Integer, Int: int64(i)}, {Type: wire.Real, Float: float64(i) * 1.25},
				{Type: wire.Text, Bytes: []byte("2026-11-22T17:20:01.123456Z")}}); err != nil {
				return err
			}
			if err := s.Exec(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	n := float64(len(rows))
	return n / time.Since(start).Seconds(), n / (processTime() - began).Seconds()
}

// meter measures the time and the allocations of the parts of a benchmark between begin and end.
type meter struct {
	rows   int
	cpu    time.Duration // of the process, what a machine with other work to do still tells
	began  time.Duration
	took   time.Duration
	allocs uint64
	start  time.Time
	before runtime.MemStats
}

func (m *meter) begin() {
	runtime.ReadMemStats(&m.before)
	m.began = processTime()
	m.start = time.Now()
}

func (m *meter) end(rows int) {
	m.took += time.Since(m.start)
	m.cpu += processTime() - m.began
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	m.allocs += after.Mallocs - m.before.Mallocs
	m.rows += rows
}

// report reports the measures beside those of the floor for the same rows.
func (m *meter) report(b *testing.B, rows []wire.Row) {
	b.Helper()
	floor, floorCPU := floor(b, rows)
	rate := float64(m.rows) / m.took.Seconds()
	b.ReportMetric(rate, "rows/s")
	perCPU := float64(m.rows) / m.cpu.Seconds()
	b.ReportMetric(perCPU, "rows/cpu-s")
	b.ReportMetric(perCPU/floorCPU, "of-floor-cpu")
	b.ReportMetric(float64(m.allocs)/float64(m.rows), "allocs/row")
	b.ReportMetric(floor, "floor-rows/s")
	b.ReportMetric(rate/floor, "of-floor")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPull is a pull from the body of the answer on: decode, verify, apply. Bundles of 100 rows, 10,000 rows a
// body.
func BenchmarkPull(b *testing.B) {
	const perBundle, perBody, bodies = 100, 10_000, 10
	c := classic(b)
	var m meter
	var all []wire.Row
	for b.Loop() {
		rnd := rand.New(rand.NewSource(1))
		db := attachedDB(b, thingsDDL, "things")
		all = all[:0]
		seq := int64(0)
		for range bodies {
			var bundles []wire.Bundle
			after := seq
			for range perBody / perBundle {
				seq++
				rows := thingRows(rnd, perBundle, seq)
				all = append(all, rows...)
				bundles = append(bundles, sealed(b, bundle(seq, rows...)))
			}
			body := pullBody(b, seq, bundles)
			m.begin()
			page, err := c.DecodePull(body, wire.PullRequest{After: after, MaxBundles: 1000})
			if err != nil {
				b.Fatal(err)
			}
			if err := wire.VerifyBundles(c, page.Bundles); err != nil {
				b.Fatal(err)
			}
			out, err := db.ApplyBundles(context.Background(), c, page.Bundles)
			if err != nil || out.Rows != perBody {
				b.Fatal(out, err)
			}
			m.end(perBody)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	m.report(b, all)
}

// processTime is the processor time that this process has used.
func processTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentKB is the resident memory of the process, of which SQLite's is a part that Go does not count.
func residentKB(tb testing.TB) int64 {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip("no /proc")
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kb
		}
	}
	return 0
}

// openRaw opens a connection of our kind on a file without an engine.
func openRaw(path string) (*conn, error) {
	raw, err := sqlite3.Open(path)
	if err != nil {
		return nil, err
	}
	return &conn{raw: raw, stmts: map[string]*sqlite3.Stmt{}}, nil
}
