package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
)

const benchRows = 1000

var benchTable = &Table{Schema: "business", Name: "readings", Columns: []Column{
	{"id", KindText}, {"name", KindText}, {"note", KindText}, {"count_value", KindInteger}, {"rating", KindReal}, {"created_at", KindText},
}}

func benchValues(i int) []Value {
	return []Value{
		{Type: Text, Bytes: fmt.Appendf(nil, "%08x-0000-4000-8000-%012x", i, i*7919)},
		{Type: Text, Bytes: fmt.Appendf(nil, "Reading no. %d", i)},
		{Type: Text, Bytes: []byte("taken at the river, é and a \"quote\"")},
		{Type: Integer, Int: int64(i) * 1_000_003},
		{Type: Real, Float: float64(i) * 0.1},
		{Type: Text, Bytes: []byte("2026-03-24T18:42:11+00:00")},
	}
}

// benchPage is a pull page as the reference server prints it: members sorted.
func benchPage(tb testing.TB) []byte {
	var rows []Row
	for i := range benchRows {
		payload, err := classic{}.AppendPayload(nil, benchTable, benchValues(i))
		if err != nil {
			tb.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(payload, &m); err != nil {
			tb.Fatal(err)
		}
		if payload, err = json.Marshal(m); err != nil {
			tb.Fatal(err)
		}
		rows = append(rows, Row{Schema: "business", Table: "readings", Key: Key{"id", m["id"].(string)}, Op: OpInsert, RowVersion: 1, Payload: payload})
	}
	h := classic{}.NewBundleHash()
	body := fmt.Appendf(nil, `{"stable_bundle_seq":1,"bundles":[{"bundle_seq":1,"source_id":"5f0e","source_bundle_id":1,"row_count":%d,"rows":[`, len(rows))
	for i := range rows {
		r := &rows[i]
		if err := h.Add(r); err != nil {
			tb.Fatal(err)
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"schema":"business","table":"readings","key":{"id":%q},"op":"INSERT","row_version":1,"payload":%s}`, r.Key.Value, r.Payload)
	}
	return fmt.Appendf(body, `],"bundle_hash":%q}],"has_more":false}`, h.Sum())
}

func reportRows(b *testing.B) {
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkPullPageDecodeAndVerify(b *testing.B) {
	body := benchPage(b)
	b.ReportAllocs()
	for b.Loop() {
		page, err := classic{}.DecodePull(body, PullRequest{})
		if err != nil {
			b.Fatal(err)
		}
		if err := VerifyBundles(classic{}, page.Bundles); err != nil {
			b.Fatal(err)
		}
	}
	reportRows(b)
	b.SetBytes(int64(len(body)))
}

// The same page by the plain way: encoding/json for the page, maps for the hash.
func BenchmarkPullPageDecodeAndVerifyStdlib(b *testing.B) {
	body := benchPage(b)
	b.ReportAllocs()
	for b.Loop() {
		var page struct {
			Bundles []struct {
				Hash string `json:"bundle_hash"`
				Rows []map[string]any
			}
		}
		if err := json.Unmarshal(body, &page); err != nil {
			b.Fatal(err)
		}
		for i, row := range page.Bundles[0].Rows {
			row["row_ordinal"] = i
		}
		text, err := json.Marshal(page.Bundles[0].Rows)
		if err != nil {
			b.Fatal(err)
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != page.Bundles[0].Hash {
			b.Fatal("wrong hash")
		}
	}
	reportRows(b)
}

func BenchmarkRowDecode(b *testing.B) {
	page, err := classic{}.DecodePull(benchPage(b), PullRequest{})
	if err != nil {
		b.Fatal(err)
	}
	d := classic{}.NewRowDecoder(benchTable)
	b.ReportAllocs()
	for b.Loop() {
		for i := range page.Bundles[0].Rows {
			if _, err := d.Decode(page.Bundles[0].Rows[i].Payload); err != nil {
				b.Fatal(err)
			}
		}
	}
	reportRows(b)
}

func BenchmarkPushEncodeAndHash(b *testing.B) {
	var locals [][]byte
	for i := range benchRows {
		locals = append(locals, AppendLocal(nil, benchTable, benchValues(i)))
	}
	d, h := NewLocalDecoder(benchTable), classic{}.NewRequestHash()
	var payload []byte
	b.ReportAllocs()
	for b.Loop() {
		for _, local := range locals {
			row, err := d.Decode(local)
			if err != nil {
				b.Fatal(err)
			}
			if payload, err = (classic{}).AppendPayload(payload[:0], benchTable, row); err != nil {
				b.Fatal(err)
			}
			if err := h.Add(&PushRow{Schema: "business", Table: "readings", Key: Key{"id", "00000001-0000-4000-8000-000000000001"}, Op: OpInsert, Payload: payload}); err != nil {
				b.Fatal(err)
			}
		}
		h.Sum()
	}
	reportRows(b)
}

// The same rows by the plain way: a map a row, encoded twice.
func BenchmarkPushEncodeAndHashStdlib(b *testing.B) {
	var locals [][]byte
	for i := range benchRows {
		locals = append(locals, AppendLocal(nil, benchTable, benchValues(i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		sum := sha256.New()
		for _, local := range locals {
			var m map[string]any
			if err := json.Unmarshal(local, &m); err != nil {
				b.Fatal(err)
			}
			m["count_value"] = json.Number(m["count_value"].(string))
			m["rating"] = json.Number(m["rating"].(string))
			payload, err := json.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			row, err := json.Marshal(map[string]any{"key": map[string]any{"id": m["id"]}, "op": "INSERT", "payload": json.RawMessage(payload)})
			if err != nil {
				b.Fatal(err)
			}
			sum.Write(row)
		}
		sum.Sum(nil)
	}
	reportRows(b)
}
