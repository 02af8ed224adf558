package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var rowSeeds = append(jsonSeeds,
	goodPull, strings.NewReplacer(`"bundle_seq":5`, `"bundle_seq":4`, `"stable_bundle_seq":5`, `"stable_bundle_seq":4`).Replace(goodPull), strings.Replace(goodPull, `"row_count":1`, `"canonical_request_hash":"x","row_count":-1`, 1), strings.Replace(goodPull, `"payload":{"id":"a"}`, `"payload":{"id":"a","b":{"c":1,"c":2}}`, 1),
	strings.Replace(goodPull, `"payload":{"id":"a"}`, `"payload":{"id":"a","id":"b"}`, 1), strings.Replace(goodPull, `"payload":{"id":"a"}`, `"payload":{"_SYNC_scope_id":"a"}`, 1), strings.Replace(goodPull, `{"id":"a"}`, `{"_Sync_Scope_id":"a"}`, 1), strings.Replace(goodPull, `{"id":"a"}`, `{"id":" "}`, 1),
	`{"stable_bundle_seq":3,"bundles":null,"has_more":false}`, `{"stable_bundle_seq":null,"bundles":[]}`, `{"bundles":[{}]}`, `{"stable_bundle_seq":2,"bundles":[]}`,
	`{"bundle_seq":9,"source_id":"s","source_bundle_id":3,"row_count":3,"bundle_hash":"h","rows":[{"schema":"main","table":"users","key":{"id":"a"},"op":"INSERT","row_version":9,"payload":{"id":"a"}}],"next_row_ordinal":2,"has_more":false}`,
	`{"bundle_seq":9,"source_id":"s","source_bundle_id":3,"row_count":0,"bundle_hash":"h","rows":[],"next_row_ordinal":0,"has_more":false,"canonical_request_hash":"`+someHash+`"}`,
	`{"bundle_seq":9,"source_id":"s","source_bundle_id":3,"row_count":1,"bundle_hash":"h","rows":[{"schema":"m","table":"t","key":{"id":"1"},"op":"DELETE","row_version":1,"payload":null}],"next_row_ordinal":0,"has_more":false}`)

// row9 is a row of bundle 9.
const row9 = `{"schema":"main","table":"users","key":{"id":"a"},"op":"UPDATE","row_version":9,"payload":{"id":"a"}}`

// classicHash is the hash of rows as the reference server computes it, "" where it could not.
func classicHash(rows []Row) string {
	logical := []map[string]any{}
	for i, r := range rows {
		var payload map[string]any // none: null
		if r.Payload != nil && json.Unmarshal(r.Payload, &payload) != nil {
			return ""
		}
		logical = append(logical, map[string]any{"key": map[string]string{r.Key.Column: r.Key.Value}, "op": r.Op, "payload": payload, "row_ordinal": i, "row_version": float64(r.RowVersion), "schema": r.Schema, "table": r.Table})
	}
	text, err := json.Marshal(logical)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// checkHash compares the hash of rows with that of the reference server, where both can tell it.
func checkHash(t *testing.T, rows []Row) {
	t.Helper()
	h := classic{}.NewBundleHash()
	for i := range rows {
		if h.Add(&rows[i]) != nil {
			return // a number beyond float64, or a member twice: FuzzClassicCanonical knows which
		}
	}
	if got, want := h.Sum(), classicHash(rows); got != want {
		t.Fatalf("hash %s, want %s: %+v", got, want, rows)
	}
}

// FuzzPull: pages of a pull are taken by the rules, in both contracts.
func FuzzPull(f *testing.F) {
	for i, s := range append(rowSeeds, variants(goodPull)...) {
		f.Add([]byte(s), int64(3), int64(i%2*5))
		f.Add([]byte(s), int64(0), int64(0))
	}
	f.Fuzz(func(t *testing.T, body []byte, after, target int64) {
		if after < 0 || target < 0 {
			return // no request asks so
		}
		for _, c := range contracts {
			r, n := read(body, c)
			want := PullPage{StableSeq: r.int(n, "stable_bundle_seq", 0), HasMore: r.bool(n, "has_more")}
			last := after
			for _, v := range r.list(n, "bundles") {
				r.wrong(v.kind != '{')
				b := Bundle{BundleMeta: r.meta(v), Rows: r.rows(v, false)}
				r.check(b.BundleMeta)
				r.wrong(r.uniform && (b.SourceBundleID == 0 || strings.ContainsFunc(b.SourceID, func(c rune) bool { return c <= ' ' || c > '~' })))
				r.wrong(b.Seq <= last || b.Seq > want.StableSeq)
				last = b.Seq
				want.Bundles = append(want.Bundles, b)
			}
			empty := len(want.Bundles) == 0
			r.wrong(empty && !r.has(n, "stable_bundle_seq"))
			r.wrong(want.StableSeq < after || target > 0 && want.StableSeq != target)
			r.wrong(want.HasMore && (empty || last == want.StableSeq))
			r.wrong(!want.HasMore && last != want.StableSeq && (after > 0 || !empty))
			got, err := c.DecodePull(body, PullRequest{After: after, Target: target})
			var behind *StableBehindError
			if errors.As(err, &behind) && (behind.Stable != want.StableSeq || behind.After != after || behind.Stable >= after) {
				t.Fatalf("%q: %v", body, err)
			}
			if !agree(t, body, "pull", r, err) {
				continue
			}
			if got.StableSeq != want.StableSeq || got.HasMore != want.HasMore || len(got.Bundles) != len(want.Bundles) {
				t.Fatalf("%q: %+v, want %+v", body, got, want)
			}
			expected := after + 1
			for i, b := range got.Bundles {
				if b.BundleMeta != want.Bundles[i].BundleMeta {
					t.Fatalf("%q: %+v, want %+v", body, b.BundleMeta, want.Bundles[i].BundleMeta)
				}
				sameRows(t, body, b.Rows, want.Bundles[i].Rows)
				checkHash(t, b.Rows)
				if expected == b.Seq {
					expected++
				}
			}
			lost := empty && !got.HasMore && got.StableSeq > after
			if at, found, gap := got.Gap(after); gap != (lost || !empty && expected <= last) || gap && (at != expected || found <= at) {
				t.Fatalf("%q: gap %d %d %v, expected %d", body, at, found, gap, expected)
			}
		}
	})
}

// FuzzCommittedRows: pages of a committed bundle are taken by the rules, in both contracts.
func FuzzCommittedRows(f *testing.F) {
	for i, s := range slices.Concat(rowSeeds, variants(committedPage)) {
		b := committedBounds[i%len(committedBounds)]
		f.Add([]byte(s), b.after, b.seq, b.count, b.ours)
	}
	f.Fuzz(checkCommittedRows)
}

// TestCommittedRowsOfEveryShape is what would take the fuzzer's time to begin with.
func TestCommittedRowsOfEveryShape(t *testing.T) {
	t.Parallel()
	empty := strings.NewReplacer(row9+`,`+row9, ``, `"row_count":3`, `"row_count":0`, `"next_row_ordinal":2`, `"next_row_ordinal":0`).Replace(committedPage)
	for _, s := range slices.Concat(rowSeeds, variants(committedPage), variants(strings.Replace(committedPage, `"row_count":3`, `"row_count":4`, 1)), variants(empty)) {
		for _, b := range committedBounds {
			checkCommittedRows(t, []byte(s), b.after, b.seq, b.count, b.ours)
		}
	}
}

const committedPage = `{"bundle_seq":9,"source_id":"s","source_bundle_id":3,"row_count":3,"bundle_hash":"h","rows":[` + row9 + `,` + row9 + `],"next_row_ordinal":2,"has_more":false,"canonical_request_hash":"` + someHash + `"}`

// committedBounds are ways to ask for committed rows.
var committedBounds = []struct {
	after, seq, count int64
	ours              bool
}{{0, 9, -1, true}, {-1, 0, -1, false}, {0, 9, 3, false}}

func checkCommittedRows(t *testing.T, body []byte, after, seq, count int64, ours bool) {
	if after < -1 || after > 1<<40 || seq < 0 || count < -1 {
		return // no request asks so
	}
	asked := CommittedRowsRequest{After: after, Bundle: BundleMeta{Seq: seq, RowCount: count}}
	if ours {
		asked.Bundle.SourceID, asked.Bundle.SourceBundleID, asked.Bundle.Hash, asked.Bundle.RequestHash = "s", 3, "h", someHash
	}
	for _, c := range contracts {
		r, n := read(body, c)
		m, rows, next, more := r.meta(n), r.rows(n, false), r.int(n, "next_row_ordinal", 0), r.bool(n, "has_more")
		r.check(m)
		r.wrong(seq > 0 && m.Seq != seq || ours && (m.SourceID != "s" || m.SourceBundleID != 3 || m.Hash != "h") || count >= 0 && m.RowCount != count)
		last := after + int64(len(rows))
		if len(rows) == 0 {
			r.wrong(next != after && next != max(after, 0) || more)
		} else {
			r.wrong(next != last || m.RowCount >= 0 && last >= m.RowCount)
		}
		r.wrong(!more && m.RowCount >= 0 && last != m.RowCount-1)
		r.request(n, m.RequestHash, asked.Bundle.RequestHash)
		got, err := c.DecodeCommittedRows(body, asked)
		if !agree(t, body, "committed rows", r, err) {
			continue
		}
		if got.Bundle != m || got.Next != last || got.HasMore != more {
			t.Fatalf("%q: %+v, want %+v up to %d", body, got, m, last)
		}
		sameRows(t, body, got.Rows, rows)
	}
}

// FuzzSnapshotSession: a session is taken by the rules; where it is not, its id is told all the same.
func FuzzSnapshotSession(f *testing.F) {
	const good = `{"snapshot_id":"x","snapshot_bundle_seq":5,"row_count":3,"byte_count":100,"expires_at":"2099-01-01T00:00:00Z"}`
	for _, s := range append(append(jsonSeeds, variants(good)...), strings.Replace(good, `:100`, `:0`, 1), strings.Replace(good, `Z`, ``, 1), strings.Replace(good, `"x"`, `" "`, 1), strings.Replace(good, `5`, `0`, 1), good[:len(good)-1]+`,"x":{"a":1,"a":2}}`) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range contracts {
			r, n := read(body, c)
			want := SnapshotSession{r.string(n, "snapshot_id"), r.int(n, "snapshot_bundle_seq", 0), r.int(n, "row_count", 0), r.int(n, "byte_count", 0), r.string(n, "expires_at")}
			r.wrong(want.ID == "" || want.BundleSeq < 0 || want.RowCount < 0 || want.ByteCount < 0 || want.BundleSeq == 0 && want.RowCount > 0)
			if r.uniform {
				_, err := time.Parse(time.RFC3339, want.ExpiresAt)
				r.wrong(err != nil || strings.TrimSpace(want.ID) == "" || !r.has(n, "byte_count") || (want.RowCount == 0) != (want.ByteCount == 0) || !n.unique())
			}
			got, err := c.DecodeSnapshotSession(body)
			if agree(t, body, "session", r, err) && got != want {
				t.Fatalf("%q: %+v, want %+v", body, got, want)
			}
			if s, ok := tree(body); err != nil && got.ID != "" && (!ok || got.ID != want.ID) && !spells(body, got.ID) && s.unique() {
				t.Fatalf("%q: an id from nowhere: %q", body, got.ID)
			}
		}
	})
}

// spells reports whether one of the strings that begin anywhere in body is text.
func spells(body []byte, text string) bool {
	for i, c := range body {
		var s string
		if c == '"' && json.NewDecoder(bytes.NewReader(body[i:])).Decode(&s) == nil && s == text {
			return true
		}
	}
	return false
}

// FuzzSnapshotPage: pages of a snapshot are taken by the rules, which in the uniform contract leave no freedom.
func FuzzSnapshotPage(f *testing.F) {
	const good = `{"snapshot_id":"s","snapshot_bundle_seq":9,"rows":[` + uniformRow + `],"next_row_ordinal":1,"has_more":true}`
	for i, s := range append(slices.Concat(rowSeeds, variants(good), variants(uniformPage)), strings.Replace(uniformPage, `"rows":[`, `"rows":[`+uniformRow+`,`, 1), strings.Replace(good, `"row_version"`, `"op":7,"row_version"`, 1),
		strings.Replace(uniformPage, `"payload":{`, `"payload":{"_sync_scope_id":"1",`, 1), strings.Replace(uniformPage, `"payload":{`, `"payload":{"id":"1",`, 1), strings.Replace(uniformPage, `"byte_count":110`, `"byte_count":null`, 1),
		`{"snapshot_id":"s","snapshot_bundle_seq":9,"rows":[],"next_row_ordinal":0,"has_more":false,"byte_count":0}`, `{"snapshot_id":"s","snapshot_bundle_seq":9,"rows":[],"next_row_ordinal":0,"has_more":false}`) {
		f.Add([]byte(s), int64(0), int64(2), int64(0), int64(1000))
		f.Add([]byte(s), int64(i%5), int64(i%3), int64(i%3*445), int64(i%7*50))
	}
	for _, bounds := range [][4]int64{{0, 0, 0, 1000}, {0, 1, 0, 110}, {0, 1, 0, 109}, {0, 1, 890, 1000}, {0, 1, 891, 1000}, {4, 1, 0, 1000}, {5, 1, 0, 1000}} {
		for _, s := range []string{uniformPage, strings.Replace(uniformPage, `true`, `false`, 1), strings.Replace(strings.Replace(uniformPage, `:1,"has_more":true`, `:5,"has_more":false`, 1), `110`, `10`, 1)} {
			f.Add([]byte(s), bounds[0], bounds[1], bounds[2], bounds[3])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, after, maxRows, afterBytes, maxBytes int64) {
		const large = 1 << 40
		if after < 0 || after > large || maxRows < 0 || afterBytes < 0 || afterBytes > large || maxBytes < 0 || maxBytes > large {
			return // no request asks so
		}
		asked := SnapshotPageRequest{Session: SnapshotSession{ID: "s", BundleSeq: 9, RowCount: 5, ByteCount: 1000}, After: after, MaxRows: maxRows, AfterBytes: afterBytes, MaxBytes: maxBytes}
		for _, c := range contracts {
			r, n := read(body, c)
			r.strict = r.uniform
			want := SnapshotPage{Rows: r.rows(n, true), Next: r.int(n, "next_row_ordinal", 0), ByteCount: r.int(n, "byte_count", 0), HasMore: r.bool(n, "has_more")}
			next := after + int64(len(want.Rows))
			r.wrong(r.string(n, "snapshot_id") != "s" || r.int(n, "snapshot_bundle_seq", 0) != 9 || want.Next != next || next > 5 || want.HasMore && (len(want.Rows) == 0 || next == 5))
			if r.uniform {
				r.exactly(n, "snapshot_id", "snapshot_bundle_seq", "rows", "next_row_ordinal", "has_more", "byte_count")
				for _, v := range r.list(n, "rows") {
					r.exactly(v, "schema", "table", "key", "row_version", "payload")
					r.wrong(strings.TrimSpace(r.string(v, "schema")) == "" || strings.TrimSpace(r.string(v, "table")) == "")
				}
				bytes := afterBytes + want.ByteCount
				r.wrong(int64(len(want.Rows)) > maxRows || want.ByteCount < 0 || want.ByteCount > maxBytes || (len(want.Rows) == 0) != (want.ByteCount == 0) || bytes > 1000 || want.HasMore && bytes == 1000)
			} else {
				r.wrong(r.has(n, "byte_count"))
			}
			got, err := c.DecodeSnapshotPage(body, asked)
			if !agree(t, body, "snapshot page", r, err) {
				continue
			}
			sameRows(t, body, got.Rows, want.Rows)
			if got.Rows, want.Rows = nil, nil; !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %+v, want %+v", body, got, want)
			}
		}
	})
}

// exactly notes when an object has other members than those named.
func (r *reader) exactly(n item, names ...string) {
	r.wrong(len(n.names) != len(names))
	for _, name := range names {
		r.wrong(!r.has(n, name))
	}
}
