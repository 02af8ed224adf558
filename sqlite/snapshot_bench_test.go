package sqlite

import (
	"context"
	"fmt"
	"math/rand"
	"runtime/debug"
	"slices"
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

// BenchmarkSnapshot stages a snapshot from the bodies of its pages on, and applies it: to an empty database, and as a
// rebuild over the same rows. Its memory is that of the process beyond what it was before, in KB.
func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{20_000, 100_000} {
		rows := thingRows(rand.New(rand.NewSource(1)), n, 1)
		slices.SortFunc(rows, func(x, y wire.Row) int { return strings.Compare(x.Key.Value, y.Key.Value) })
		s := wire.SnapshotSession{ID: "s", BundleSeq: 1, RowCount: int64(n)}
		var bodies [][]byte
		for after := 0; after < n; after += pageRows {
			bodies = append(bodies, snapshotBody(s, int64(after), rows[after:min(after+pageRows, n)]))
		}
		c := classic(b)
		for _, rebuild := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/rebuild=%t", n, rebuild), func(b *testing.B) {
				var m meter
				var grown int64
				for b.Loop() {
					db := attachedDB(b, thingsDDL, "things")
					take := func() {
						if err := db.BeginStage(context.Background(), s); err != nil {
							b.Fatal(err)
						}
						for i, body := range bodies {
							page, err := c.DecodeSnapshotPage(body, wire.SnapshotPageRequest{Session: s, After: int64(i * pageRows), MaxRows: pageRows})
							if err != nil {
								b.Fatal(err)
							}
							if err := db.StageSnapshotPage(context.Background(), s, int64(i*pageRows), page.Rows); err != nil {
								b.Fatal(err)
							}
						}
						if err := db.CompleteStage(context.Background(), s); err != nil {
							b.Fatal(err)
						}
						if out, err := db.ApplySnapshot(context.Background(), c, s); err != nil || out.Rows != int64(n) {
							b.Fatal(out, err)
						}
					}
					if rebuild {
						take()
					}
					debug.FreeOSMemory()
					before := residentKB(b)
					m.begin()
					take()
					m.end(n)
					grown = max(grown, residentKB(b)-before)
					if err := db.Close(); err != nil {
						b.Fatal(err)
					}
				}
				m.report(b, floor(b, rows))
				b.ReportMetric(float64(grown), "KB-grown")
			})
		}
	}
}

// BenchmarkStagedBundle applies one bundle of 100,000 rows that never is in memory as a whole.
func BenchmarkStagedBundle(b *testing.B) {
	const n = 100_000
	c := classic(b)
	rows := thingRows(rand.New(rand.NewSource(1)), n, 1)
	bd := sealed(b, bundle(1, rows...))
	var m meter
	var grown int64
	for b.Loop() {
		db := attachedDB(b, thingsDDL, "things")
		debug.FreeOSMemory()
		before := residentKB(b)
		m.begin()
		for i := 0; i < n; i += pageRows {
			if err := db.StageBundlePage(context.Background(), bd.BundleMeta, int64(i)-1, bd.Rows[i:i+pageRows]); err != nil {
				b.Fatal(err)
			}
		}
		if out, err := db.ApplyStaged(context.Background(), c, bd.BundleMeta); err != nil || out.Rows != n {
			b.Fatal(out, err)
		}
		m.end(n)
		grown = max(grown, residentKB(b)-before)
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	m.report(b, floor(b, rows))
	b.ReportMetric(float64(grown), "KB-grown")
}
