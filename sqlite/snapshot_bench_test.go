package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/wire"
)

const pageRows = 1000

// snapshotBody spells a page of a snapshot as a server does.
func snapshotBody(s wire.SnapshotSession, after int64, rows []wire.Row) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `{"snapshot_id":"%s","snapshot_bundle_seq":%d,"rows":[`, s.ID, s.BundleSeq)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		writeRow(&b, &rows[i], false)
	}
	next := after + int64(len(rows))
	fmt.Fprintf(&b, `],"next_row_ordinal":%d,"has_more":%t}`, next, next < s.RowCount)
	return []byte(b.String())
}

// sortedRows are rows from to to of n in key order, made anew each time: what a benchmark of memory holds itself would
// hide what it measures.
func sortedRows(from, to, n int) []wire.Row {
	rows := thingRows(rand.New(rand.NewSource(int64(from))), to-from, 1)
	for i := range rows {
		old := rows[i].Key.Value
		rows[i].Key.Value = fmt.Sprintf("%08x", uint64(from+i)*(1<<32)/uint64(n)) + old[8:]
		rows[i].Payload = bytes.Replace(rows[i].Payload, []byte(old), []byte(rows[i].Key.Value), 1)
	}
	return rows
}

// BenchmarkSnapshot stages a snapshot from the bodies of its pages on, and applies it: to an empty database, and as a
// rebuild over the same rows. KB-grown is how much the process grew meanwhile.
func BenchmarkSnapshot(b *testing.B) {
	c := classic(b)
	for _, n := range []int{20_000, 100_000} {
		s := wire.SnapshotSession{ID: "s", BundleSeq: 1, RowCount: int64(n)}
		for _, rebuild := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/rebuild=%t", n, rebuild), func(b *testing.B) {
				var m, unmeasured meter
				var grown int64
				for b.Loop() {
					db := attachedDB(b, thingsDDL, "things")
					take := func(m *meter) {
						if err := db.BeginStage(context.Background(), s); err != nil {
							b.Fatal(err)
						}
						for after := 0; after < n; after += pageRows {
							body := snapshotBody(s, int64(after), sortedRows(after, min(after+pageRows, n), n))
							m.begin()
							page, err := c.DecodeSnapshotPage(body, wire.SnapshotPageRequest{Session: s, After: int64(after), MaxRows: pageRows})
							if err != nil {
								b.Fatal(err)
							}
							if err := db.StageSnapshotPage(context.Background(), s, int64(after), page.Rows); err != nil {
								b.Fatal(err)
							}
							m.end(0)
						}
						m.begin()
						if err := db.CompleteStage(context.Background(), s); err != nil {
							b.Fatal(err)
						}
						if out, err := db.ApplySnapshot(context.Background(), c, s); err != nil || out.Rows != int64(n) {
							b.Fatal(out, err)
						}
						m.end(n)
					}
					if rebuild {
						take(&unmeasured)
					}
					debug.FreeOSMemory()
					before := residentKB(b)
					take(&m)
					grown = max(grown, residentKB(b)-before)
					if err := db.Close(); err != nil {
						b.Fatal(err)
					}
				}
				m.report(b, thingRows(rand.New(rand.NewSource(1)), n, 1))
				b.ReportMetric(float64(grown), "KB-grown")
			})
		}
	}
}

// BenchmarkStagedBundle applies one bundle of 100,000 rows that never is in memory as a whole.
func BenchmarkStagedBundle(b *testing.B) {
	const n = 100_000
	c := classic(b)
	page := func(i int) []wire.Row { return thingRows(rand.New(rand.NewSource(int64(i))), pageRows, 1) }
	hash := c.NewBundleHash()
	for i := 0; i < n; i += pageRows {
		for _, r := range page(i) {
			if err := hash.Add(&r); err != nil {
				b.Fatal(err)
			}
		}
	}
	meta := wire.BundleMeta{Seq: 1, SourceID: "elsewhere", SourceBundleID: 1, RowCount: n, Hash: hash.Sum()}
	var m meter
	var grown int64
	for b.Loop() {
		db := attachedDB(b, thingsDDL, "things")
		debug.FreeOSMemory()
		before := residentKB(b)
		for i := 0; i < n; i += pageRows {
			rows := page(i)
			m.begin()
			if err := db.StageBundlePage(context.Background(), meta, int64(i)-1, rows); err != nil {
				b.Fatal(err)
			}
			m.end(0)
		}
		m.begin()
		if out, err := db.ApplyStaged(context.Background(), c, meta); err != nil || out.Rows != n {
			b.Fatal(out, err)
		}
		m.end(n)
		grown = max(grown, residentKB(b)-before)
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	m.report(b, thingRows(rand.New(rand.NewSource(1)), n, 1))
	b.ReportMetric(float64(grown), "KB-grown")
}
