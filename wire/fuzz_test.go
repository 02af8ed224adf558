package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"
)

var jsonSeeds = []string{
	`{}`, `[]`, `null`, `"a"`, `-0`, `1.5e-7`, `{"a":[1,{"b":null}],"":true}`, ` { "z" : 1 , "a" : "\u00e9\ud83d\ude00\n" } `,
	`{"a":1,"a":2}`, `[1,]`, `{"a"}`, `01`, `1.`, `1e`, `"\x"`, `"\ud800"`, "\"\xff\"", "\"\x01\"", `{"a":1}x`, `tru`, `1e999`,
	`{"<":"&>` + "\u2028\u2029\x7f" + `"}`, strings.Repeat("[", 129) + strings.Repeat("]", 129), strings.Repeat("[", 128) + strings.Repeat("]", 128),
	`{"n":[0.1,1e21,1e20,123456789012345678,1e-6,1e-7,9.9e-10,-0.0]}`, `{"b":{"d":1,"c":{"y":1,"x":2}},"a":0}`,
}

// FuzzScanner: what the scanner takes encoding/json takes as well, and it refuses nothing but what it documents.
func FuzzScanner(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := scanner{b: data}
		s.skip()
		s.end()
		valid := json.Valid(data)
		switch {
		case !s.failed() && !valid:
			t.Fatalf("%q is taken", data)
		case s.failed() && valid:
			deep := bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > maxDepth
			surrogate := bytes.Contains(bytes.ToLower(data), []byte(`\ud`))
			if !deep && !surrogate && utf8.Valid(data) {
				t.Fatalf("%q is refused: %s", data, s.reason())
			}
		}
		if s.failed() {
			return
		}
		// Strings are decoded as encoding/json decodes them.
		var want string
		if json.Unmarshal(data, &want) == nil && data[bytes.IndexFunc(data, func(r rune) bool { return !strings.ContainsRune(" \t\r\n", r) })] == '"' {
			s.reset(data)
			if got := string(s.text()); got != want {
				t.Fatalf("%q is %q, want %q", data, got, want)
			}
		}
	})
}

// FuzzClassicCanonical compares with what the reference server does: into maps, numbers as float64, and out again.
func FuzzClassicCanonical(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := canonicaliser{dialect: classicDialect}
		got, fault := c.append([]byte("kept"), data)
		if fault != "" {
			return // FuzzScanner sees to it that no more than needed is refused
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatalf("%q is taken: %v", data, err)
		}
		want, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != "kept"+string(want) {
			t.Fatalf("%q becomes\n%s, want\n%s", data, got, want)
		}
		again, fault := c.append(nil, want)
		if fault != "" || !bytes.Equal(again, want) {
			t.Fatalf("the canonical form of %s is %s %s", want, again, fault)
		}
	})
}

// FuzzIntegralValue compares with exact arithmetic.
func FuzzIntegralValue(f *testing.F) {
	for _, s := range []string{"0", "-0", "1.0", "1e3", "12.50e1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "0.0001e4", "92233720368547758.07e2", "1e-1", "1e19", "100e-2", "0e99999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := scanner{b: []byte(text)}
		number, integer := s.number()
		s.end()
		if s.failed() || len(number) != len(text) {
			return
		}
		mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
		if len(strings.TrimLeft(exponent, "+-0")) > 3 || len(mantissa) > 400 {
			integralValue(number, integer)
			return // too large to compare, not to be looked at
		}
		want, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		isInt := want.IsInt() && want.Num().IsInt64()
		got, ok := integralValue(number, integer)
		if ok != isInt || ok && got != want.Num().Int64() {
			t.Fatalf("%q is %d, %v; want %v", text, got, ok, want)
		}
	})
}

// FuzzLocalRoundTrip: every value of every storage class in a column of every kind survives the local form.
func FuzzLocalRoundTrip(f *testing.F) {
	f.Add(uint8(1), int64(-5), 1.5, []byte("a\"\x00é\xff"))
	f.Add(uint8(2), int64(math.MinInt64), math.Inf(1), []byte{})
	f.Fuzz(func(t *testing.T, class uint8, n int64, x float64, b []byte) {
		if math.IsNaN(x) || ValueType(class%5) == Text && isReal(b) {
			return // SQLite holds no NaN, and a column with numeric affinity no numeric text
		}
		v := Value{Type: ValueType(class % 5)}
		switch v.Type {
		case Integer:
			v.Int = n
		case Real:
			v.Float = x
		case Text, Blob:
			v.Bytes = b
		}
		table := &Table{Schema: "main", Name: "t"}
		var row []Value
		for kind := KindText; kind <= KindUUIDBlob; kind++ {
			table.Columns = append(table.Columns, Column{string(rune('a' + kind)), kind})
			row = append(row, v)
		}
		local := AppendLocal(nil, table, row)
		got, err := NewLocalDecoder(table).Decode(local)
		if err != nil {
			t.Fatalf("%s: %v", local, err)
		}
		for i, c := range table.Columns {
			switch {
			case c.Kind == KindReal && v.Type == Integer && exactAsFloat(n):
				if got[i].Type != Real || got[i].Float != float64(n) {
					t.Fatalf("%d in a real column comes back as %v", n, got[i])
				}
			case !sameExact(got[i], v):
				t.Fatalf("%v in a column of kind %d comes back as %v from %s", v, c.Kind, got[i], local)
			}
		}
		if again := AppendLocal(nil, table, got); !bytes.Equal(again, local) {
			t.Fatalf("%s becomes %s", local, again)
		}
	})
}

func isReal(b []byte) bool {
	_, ok := localReal(b)
	return ok
}

// FuzzResponses: no answer makes a decoder panic, and what it takes keeps the promises of the types.
func FuzzResponses(f *testing.F) {
	for _, s := range append(jsonSeeds,
		`{"stable_bundle_seq":1,"bundles":[{"bundle_seq":1,"source_id":"s","source_bundle_id":1,"rows":[{"schema":"m","table":"t","key":{"id":"1"},"op":"INSERT","row_version":1,"payload":{"id":"1"}}]}],"has_more":false}`,
		`{"bundle_seq":1,"source_id":"s","source_bundle_id":1,"row_count":1,"bundle_hash":"h","rows":[{"schema":"m","table":"t","key":{"id":"1"},"op":"DELETE","row_version":1,"payload":null}],"next_row_ordinal":0,"has_more":false}`,
		`{"snapshot_id":"a","snapshot_bundle_seq":1,"rows":[],"next_row_ordinal":0,"has_more":false,"row_count":0}`,
		`{"error":"push_conflict","conflict":{"schema":"m","table":"t","key":{"id":"1"},"op":"UPDATE","base_row_version":1,"server_row_version":2,"server_row_deleted":false,"server_row":{"id":"1"}}}`,
		`{"protocol_version":"v1","features":{"connect_lifecycle":true},"bundle_limits":{"max_bytes_per_snapshot_row":1},"registered_table_specs":[{"schema":"m","table":"t","sync_key_columns":["id"]}]}`,
		`{"push_id":"p","status":"staging","resolution":"retry_later","retry_after_seconds":3}`) {
		f.Add([]byte(s))
	}
	table := &Table{Schema: "m", Name: "t", Columns: []Column{{"id", KindUUIDBlob}, {"n", KindInteger}, {"r", KindReal}, {"x", KindText}, {"b", KindBlob}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := classic{}
		rowsHold := func(rows []Row) {
			for _, r := range rows {
				if r.Schema == "" || r.Table == "" || r.Key.Column == "" || !r.Op.Valid() || r.RowVersion <= 0 || (r.Payload == nil) != (r.Op == OpDelete) || r.Payload != nil && !json.Valid(r.Payload) {
					t.Fatalf("a broken row was taken: %+v of %q", r, body)
				}
			}
		}
		if page, err := c.DecodePull(body, PullRequest{}); err == nil {
			for i := range page.Bundles {
				rowsHold(page.Bundles[i].Rows)
				_ = VerifyBundle(c, &page.Bundles[i])
			}
			page.Gap(0)
		}
		if page, err := c.DecodeCommittedRows(body, CommittedRowsRequest{After: -1, Bundle: BundleMeta{RowCount: -1}}); err == nil {
			rowsHold(page.Rows)
		}
		if s, err := c.DecodeSnapshotSession(body); err == nil {
			if page, err := c.DecodeSnapshotPage(body, SnapshotPageRequest{Session: s}); err == nil {
				rowsHold(page.Rows)
			}
		}
		_, _ = c.DecodeCreatePush(body, CreatePushRequest{SourceBundleID: 1, PlannedRowCount: 1}, "s")
		_, _ = c.DecodeCommit(body, CreatePushRequest{SourceBundleID: 1, PlannedRowCount: 1}, "s")
		_ = c.DecodePushChunk(body, "p", 1)
		_, _ = DecodeCapabilities(body)
		_, _ = DecodeConnect(body)
		_, _ = DecodeWatchEvent(body)
		_, _ = c.NewRowDecoder(table).Decode(body)
		_, _ = NewLocalDecoder(table).Decode(body)
		_, _ = c.SameImage(table, body, []byte(`{}`))
		c.LosslessPayload(table, body)
		_, _ = WireKey(table, string(body))
		if e := DecodeError("x", 500, body); len(e.Message) > maxMessage || len(e.Code) > maxMessage || !utf8.ValidString(e.Message) {
			t.Fatalf("an unbounded message from %q", body)
		}
	})
}
