package devserver_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite/devserver"
)

// fill pushes n users with random keys in one bundle.
func fill(b *testing.B, d *device, n int) {
	b.Helper()
	answer := d.do("POST", "/sync/push-sessions", object{"source_bundle_id": d.next, "planned_row_count": n}, 200, "")
	path := fmt.Sprintf("/sync/push-sessions/%s/", answer["push_id"])
	var chunk strings.Builder
	for at := 0; at < n; at += 1000 {
		chunk.Reset()
		fmt.Fprintf(&chunk, `{"start_row_ordinal":%d,"rows":[`, at)
		for i := range min(1000, n-at) {
			if i > 0 {
				chunk.WriteByte(',')
			}
			id := uuid.NewString()
			fmt.Fprintf(&chunk, `{"schema":"business","table":"users","key":{"id":"%s"},"op":"INSERT","base_row_version":0,"payload":{"id":"%s","name":"somebody %d","email":"u%d@example.com","created_at":"2026-03-24T18:42:11+00:00","updated_at":"2026-03-24T18:42:11+00:00"}}`, id, id, i, i)
		}
		chunk.WriteString(`]}`)
		d.do("POST", path+"chunks", chunk.String(), 200, "")
	}
	d.do("POST", path+"commit", nil, 200, "")
	d.next++
}

func benchServer(b *testing.B) *device {
	s, web := start(b, devserver.Config{Dir: b.TempDir()})
	d := newDevice(b, s, web, "u", "s")
	d.connect(false)
	return d
}

const benchRows = 50_000

func BenchmarkPush(b *testing.B) {
	d := benchServer(b)
	for b.Loop() {
		fill(b, d, benchRows)
	}
	b.ReportMetric(float64(b.N*benchRows)/b.Elapsed().Seconds(), "rows/s")
}

func (d *device) drain(path string) int64 {
	req, _ := http.NewRequest("GET", d.web.URL+path, nil)
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Oversync-Source-ID", d.source)
	resp, err := d.web.Client().Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode != 200 {
		d.t.Fatal(resp.Status, err)
	}
	return n
}

func BenchmarkPull(b *testing.B) {
	d := benchServer(b)
	fill(b, d, benchRows)
	for b.Loop() {
		d.drain("/sync/pull?after_bundle_seq=0")
	}
	b.ReportMetric(float64(b.N*benchRows)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkSnapshot(b *testing.B) {
	d := benchServer(b)
	fill(b, d, benchRows)
	for b.Loop() {
		id := d.do("POST", "/sync/snapshot-sessions", nil, 200, "")["snapshot_id"]
		for at := 0; at < benchRows; at += 5000 {
			d.drain(fmt.Sprintf("/sync/snapshot-sessions/%s?after_row_ordinal=%d&max_rows=5000", id, at))
		}
		d.do("DELETE", fmt.Sprintf("/sync/snapshot-sessions/%s", id), nil, 204, "")
	}
	b.ReportMetric(float64(b.N*benchRows)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkSmallPush(b *testing.B) {
	d := benchServer(b)
	for b.Loop() {
		fill(b, d, 1)
	}
}
