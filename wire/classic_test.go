package wire

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestContractByName(t *testing.T) {
	t.Parallel()
	for _, name := range []ContractName{ClassicContract, UniformContract} {
		c, err := ContractByName(name)
		if err != nil || c.Name() != name {
			t.Fatalf("%v, %v", c, err)
		}
	}
	for _, name := range []ContractName{"uniform", "", "x"} {
		var unsupported *UnsupportedContractError
		if c, err := ContractByName(name); !errors.As(err, &unsupported) || unsupported.Name != name || unsupported.Retryable() {
			t.Errorf("%q: %v, %v", name, c, err)
		}
	}
}

// TestHashVectors are the published classic vectors.
func TestHashVectors(t *testing.T) {
	t.Parallel()
	h := classic{}.NewBundleHash()
	row := Row{Schema: "main", Table: "users", Key: Key{"id", "user-1"}, Op: OpInsert, RowVersion: 1, Payload: []byte(`{"name":"Ada", "id":"user-1"}`)}
	const want = "d01868c80bc7b55a07137bc81d8382388e82d693216aad65d97bdd4b277ee06a"
	for range 2 { // Sum starts anew
		if err := h.Add(&row); err != nil {
			t.Fatal(err)
		}
		if got := h.Sum(); got != want {
			t.Errorf("bundle hash %s, want %s", got, want)
		}
	}
	if err := h.Add(&row); err != nil {
		t.Fatal(err)
	}
	h.Reset()
	if got := h.Sum(); got != "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945" { // of []
		t.Errorf("hash of no rows %s", got)
	}
}

// TestRequestHash compares with encoding/json doing the same over maps.
func TestRequestHash(t *testing.T) {
	t.Parallel()
	rows := []PushRow{
		{Schema: "main", Table: "a", Key: Key{"id", "<1>"}, Op: OpInsert, Payload: []byte(`{"z":1.0,"id":"<1>","n":9007199254740993}`)},
		{Schema: "main", Table: "a", Key: Key{"id", "2"}, Op: OpDelete, BaseRowVersion: 7},
	}
	h := classic{}.NewRequestHash()
	for i := range rows {
		if err := h.Add(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	want := jsonHash(t, []any{
		map[string]any{"base_row_version": 0, "key": map[string]any{"id": "<1>"}, "op": "INSERT", "payload": map[string]any{"z": 1.0, "id": "<1>", "n": 9007199254740992.0}, "schema": "main", "table": "a"},
		map[string]any{"base_row_version": 7, "key": map[string]any{"id": "2"}, "op": "DELETE", "schema": "main", "table": "a"},
	})
	if got := h.Sum(); got != want {
		t.Errorf("request hash %s, want %s", got, want)
	}
	var local *LocalFormError
	if err := h.Add(&PushRow{Schema: "main", Table: "a", Op: OpInsert, Payload: []byte(`{`)}); !errors.As(err, &local) {
		t.Errorf("a broken payload: %v", err)
	}
	var proto *ProtocolError
	if err := (classic{}).NewBundleHash().Add(&Row{Schema: "main", Table: "a", Op: OpInsert, Payload: []byte(`{"a":1,"b":2,"a":3}`)}); !errors.As(err, &proto) {
		t.Errorf("a member twice: %v", err)
	}
}

// TestHashOfManyRows: the buffer is given to the hash several times over, and versions go through a float64 as well.
func TestHashOfManyRows(t *testing.T) {
	t.Parallel()
	var rows []any
	h := classic{}.NewBundleHash()
	for i := range 500 {
		payload := `{"text":"` + strings.Repeat("x", i) + `","i":1}`
		version := int64(1<<53 + i)
		if err := h.Add(&Row{Schema: "s", Table: "t", Key: Key{"id", "k"}, Op: OpUpdate, RowVersion: version, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, map[string]any{"key": map[string]any{"id": "k"}, "op": "UPDATE", "payload": map[string]any{"text": strings.Repeat("x", i), "i": 1},
			"row_ordinal": i, "row_version": float64(version), "schema": "s", "table": "t"})
	}
	if got, want := h.Sum(), jsonHash(t, rows); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

var kindsTable = &Table{Schema: "main", Name: "things", Columns: []Column{
	{"t", KindText}, {"i", KindInteger}, {"r", KindReal}, {"b", KindBlob}, {"u", KindUUIDBlob},
}}

func TestAppendPayload(t *testing.T) {
	t.Parallel()
	got, err := classic{}.AppendPayload([]byte("kept"), kindsTable, []Value{
		{Type: Text, Bytes: []byte("a\"\\\n\x01<é>")}, {Type: Integer, Int: -maxSafeInteger}, {Type: Real, Float: 1e21},
		{Type: Blob, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}, {Type: Blob, Bytes: []byte("0123456789abcdef")},
	})
	const want = `kept{"t":"a\"\\\n\u0001<é>","i":-9007199254740991,"r":1e+21,"b":"3q2+7w==","u":"30313233-3435-3637-3839-616263646566"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	got, err = classic{}.AppendPayload(nil, kindsTable, make([]Value, 5))
	if err != nil || string(got) != `{"t":null,"i":null,"r":null,"b":null,"u":null}` {
		t.Errorf("nulls: %s, %v", got, err)
	}
}

// TestK5_K11_ValuesTheWireCannotCarryAreRefused: every storage class in every kind of column is carried exactly or
// refused by name, and dst is left as it was.
func TestK5_K11_ValuesTheWireCannotCarryAreRefused(t *testing.T) {
	t.Parallel()
	text := func(s string) Value { return Value{Type: Text, Bytes: []byte(s)} }
	blob := func(s string) Value { return Value{Type: Blob, Bytes: []byte(s)} }
	integer := func(n int64) Value { return Value{Type: Integer, Int: n} }
	real := func(f float64) Value { return Value{Type: Real, Float: f} }
	for _, c := range []struct {
		column int
		value  Value
		reason string
	}{
		{0, text("ok"), ""}, {0, text("a\x00b"), "nul_in_text"}, {0, text("\xff"), "invalid_utf8"}, {0, text("é\xff"), "invalid_utf8"},
		{0, integer(1), "storage_class"}, {0, real(1), "storage_class"}, {0, blob("x"), "storage_class"},
		{1, integer(maxSafeInteger), ""}, {1, integer(maxSafeInteger + 1), "integer_out_of_range"}, {1, integer(-maxSafeInteger - 1), "integer_out_of_range"},
		{1, integer(math.MaxInt64), "integer_out_of_range"}, {1, integer(math.MinInt64), "integer_out_of_range"},
		{1, real(1), "storage_class"}, {1, text("abc"), "storage_class"}, {1, blob("5"), "storage_class"},
		{2, real(math.MaxFloat64), ""}, {2, real(math.Copysign(0, -1)), ""}, {2, real(math.Inf(1)), "non_finite_real"}, {2, real(math.Inf(-1)), "non_finite_real"}, {2, real(math.NaN()), "non_finite_real"},
		{2, integer(1), ""}, {2, integer(math.MaxInt64), "integer_out_of_range"}, {2, text("abc"), "storage_class"}, {2, blob(""), "storage_class"},
		{3, blob(""), ""}, {3, text("abc"), "storage_class"}, {3, integer(1), "storage_class"}, {3, real(1), "storage_class"},
		{4, blob("0123456789abcdef"), ""}, {4, blob("0123456789abcde"), "not_a_uuid"}, {4, blob(""), "not_a_uuid"}, {4, text("0123456789abcdef"), "storage_class"}, {4, integer(1), "storage_class"},
	} {
		row := make([]Value, 5)
		row[c.column] = c.value
		got, err := classic{}.AppendPayload([]byte("kept"), kindsTable, row)
		if c.reason == "" {
			if err != nil {
				t.Errorf("column %d, %v: %v", c.column, c.value, err)
			}
			continue
		}
		var refused *ValueError
		if !errors.As(err, &refused) || refused.Reason != c.reason || refused.Table != "main.things" || refused.Column != kindsTable.Columns[c.column].Name || string(got) != "kept" {
			t.Errorf("column %d, %v: %q, %v; want %s", c.column, c.value, got, err, c.reason)
		}
	}
}

// TestK4_LocalAndWireBytesAreNotMixedUp: the same bytes are hexadecimal here and base64 there, and text that is valid
// as both means what its form says.
func TestK4_LocalAndWireBytesAreNotMixedUp(t *testing.T) {
	t.Parallel()
	table := &Table{Schema: "main", Name: "files", Columns: []Column{{"data", KindBlob}}}
	local := []byte(`{"data":"deadbeef"}`)
	held, err := NewLocalDecoder(table).Decode(local)
	if err != nil || string(held[0].Bytes) != "\xde\xad\xbe\xef" {
		t.Fatalf("%v, %v", held, err)
	}
	payload, err := classic{}.AppendPayload(nil, table, held)
	if err != nil || string(payload) != `{"data":"3q2+7w=="}` {
		t.Fatalf("%s, %v", payload, err)
	}
	got, err := classic{}.NewRowDecoder(table).Decode(payload)
	if err != nil || !SameValues(got, held) || string(AppendLocal(nil, table, got)) != string(local) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = (classic{}).NewRowDecoder(table).Decode(local); err != nil || SameValues(got, held) {
		t.Errorf("read as the other form: %v, %v", got, err)
	}
}

func TestRowDecoder(t *testing.T) {
	t.Parallel()
	uuid := []byte("0123456789abcdef")
	d := classic{}.NewRowDecoder(kindsTable)
	for _, c := range []struct {
		column int
		text   string
		want   Value
		fault  string
	}{
		{0, `"a\u0000\n😀"`, Value{Type: Text, Bytes: []byte("a\x00\n😀")}, ""},
		{0, `1`, Value{}, "needs a string"}, {0, `true`, Value{}, "needs a string"}, {0, `{"a":1}`, Value{}, "needs a string"}, {0, `[]`, Value{}, "needs a string"},
		{1, `9223372036854775807`, Value{Type: Integer, Int: math.MaxInt64}, ""}, {1, `-9223372036854775808`, Value{Type: Integer, Int: math.MinInt64}, ""},
		{1, `1e3`, Value{Type: Integer, Int: 1000}, ""}, {1, `1.0`, Value{Type: Integer, Int: 1}, ""}, {1, `-0`, Value{Type: Integer}, ""},
		{1, `true`, Value{Type: Integer, Int: 1}, ""}, {1, `false`, Value{Type: Integer}, ""},
		{1, `9223372036854775808`, Value{}, "no 64-bit integer"}, {1, `1.5`, Value{}, "no 64-bit integer"}, {1, `1e+21`, Value{}, "no 64-bit integer"}, {1, `"1"`, Value{}, "needs a number"}, {1, `{}`, Value{}, "needs a number"},
		{2, `1`, Value{Type: Real, Float: 1}, ""}, {2, `1e-07`, Value{Type: Real, Float: 1e-7}, ""}, {2, `179769313486231570` + strings.Repeat("0", 291), Value{Type: Real, Float: math.MaxFloat64}, ""},
		{2, `1e999`, Value{}, "beyond float64"}, {2, `true`, Value{}, "needs a number"}, {2, `"1"`, Value{}, "needs a number"},
		{3, `"3q2+7w=="`, Value{Type: Blob, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}, ""}, {3, `"3q2+7w"`, Value{Type: Blob, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}, ""},
		{3, `""`, Value{Type: Blob}, ""}, {3, `"3q2\u002b7w=="`, Value{Type: Blob, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}, ""}, {3, `"%%"`, Value{}, "no base64"}, {3, `5`, Value{}, "needs a string"},
		{4, `"30313233-3435-3637-3839-616263646566"`, Value{Type: Blob, Bytes: uuid}, ""}, {4, `"30313233-3435-3637-3839-61626364656F"`, Value{Type: Blob, Bytes: []byte("0123456789abcdeo")}, ""},
		{4, `"30313233343536373839616263646566"`, Value{Type: Blob, Bytes: uuid}, ""}, {4, `"{30313233-3435-3637-3839-616263646566}"`, Value{Type: Blob, Bytes: uuid}, ""},
		{4, `"URN:uuid:30313233-3435-3637-3839-616263646566"`, Value{Type: Blob, Bytes: uuid}, ""}, {4, `"MDEyMzQ1Njc4OWFiY2RlZg=="`, Value{Type: Blob, Bytes: uuid}, ""},
		{4, `"MDEyMw=="`, Value{}, "no UUID"}, {4, `"30313233+3435-3637-3839-616263646566"`, Value{}, "no UUID"}, {4, `""`, Value{}, "no UUID"}, {4, `1`, Value{}, "needs a string"},
	} {
		var b strings.Builder
		b.WriteString(`{"extra":{"x":[1]}`)
		for i, column := range kindsTable.Columns {
			b.WriteString(`,"` + column.Name + `":`)
			if i == c.column {
				b.WriteString(c.text)
			} else {
				b.WriteString("null")
			}
		}
		b.WriteString("}")
		row, err := d.Decode([]byte(b.String()))
		if c.fault == "" {
			if err != nil || !sameExact(row[c.column], c.want) {
				t.Errorf("column %d, %s: %v, %v", c.column, c.text, row, err)
			}
			continue
		}
		wantProtocolError(t, err, c.fault)
	}
	_, err := d.Decode([]byte(`{"t":null,"i":1,"r":1,"b":null}`))
	wantProtocolError(t, err, "payload for things must contain every table column")
	_, err = d.Decode([]byte(`{"t":null,"i":1,"r":1,"b":null,"u":null,"i":1}`))
	wantProtocolError(t, err, "twice")
	for _, broken := range []string{``, `null`, `[]`, `{"t":nul`, `{"t":null}x`, "{\"t\":\"\xff\"}", `{"t":"\ud800"}`} {
		_, err := d.Decode([]byte(broken))
		wantProtocolError(t, err, "")
	}
}

func wantProtocolError(t *testing.T, err error, fragment string) {
	t.Helper()
	var proto *ProtocolError
	if !errors.As(err, &proto) || proto.Retryable() || !strings.Contains(proto.Error(), fragment) {
		t.Errorf("%v, want a protocol error with %q", err, fragment)
	}
}

// TestSameImage: what a server may spell its own way, and what it may not.
func TestSameImage(t *testing.T) {
	t.Parallel()
	frozen := `{"t":"2026-03-24T20:42:11.5+02:00","i":1,"r":100.0,"b":"3q2+7w==","u":"30313233-3435-3637-3839-61626364656f"}`
	for _, c := range []struct {
		old, new string
		same     bool
	}{
		{`{`, `{`, true},
		{`{`, `{"extra":1,`, true},
		{`20:42:11.5+02:00`, `18:42:11.500000+00:00`, true},
		{`20:42:11.5+02:00`, `18:42:11.500001+00:00`, false},
		{`"2026-03-24T20:42:11.5+02:00"`, `null`, false},
		{`"2026-03-24T20:42:11.5+02:00"`, `"2026-03-24"`, false},
		{`100.0`, `1e2`, true}, {`100.0`, `100`, true}, {`100.0`, `100.00000000000001`, false},
		{`"i":1`, `"i":true`, true}, {`"i":1`, `"i":1.0`, true}, {`"i":1`, `"i":2`, false}, {`"i":1`, `"i":null`, false},
		{`3q2+7w==`, `3q2+7w`, true}, {`3q2+7w==`, `3q2+7g==`, false},
		{`61626364656f`, `61626364656F`, true}, {`61626364656f`, `61626364656e`, false},
	} {
		committed := strings.Replace(frozen, c.old, c.new, 1)
		same, err := classic{}.SameImage(kindsTable, []byte(frozen), []byte(committed))
		if err != nil || same != c.same {
			t.Errorf("%s: %v, %v", committed, same, err)
		}
	}
	_, err := classic{}.SameImage(kindsTable, []byte(frozen), []byte(`{}`))
	wantProtocolError(t, err, "every table column")
	_, err = classic{}.SameImage(kindsTable, []byte(`{}`), []byte(frozen))
	wantProtocolError(t, err, "every table column")
}

// TestK1_TimesInTheServersSpellingAreTheSameTime: microseconds, offsets and zones do not make another image.
func TestK1_TimesInTheServersSpellingAreTheSameTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2026-03-24T18:42:11Z", "2026-03-24T18:42:11+00:00", true},
		{"2026-03-24T20:42:11.123456+02:00", "2026-03-24T18:42:11.123456+00:00", true},
		{"2026-03-24T18:42:11.123456789Z", "2026-03-24T18:42:11.123457+00:00", false}, // rounded: changed there
		{"2026-03-24T18:42:11", "2026-03-24T18:42:11Z", false},
		{"2026-03-24 18:42:11Z", "2026-03-24T18:42:11Z", false},
		{"2026-03-24 18:42:11", "2026-03-24T18:42:11+00:00", true}, // CURRENT_TIMESTAMP is UTC
		{"2026-03-24 18:42:11.5", "2026-03-24T18:42:11.5+00:00", true},
		{"2026-03-24 18:42:11", "2026-03-24T18:42:12+00:00", false},
		{"2026-03-24 18:42", "2026-03-24T18:42:00+00:00", false},
		{"not a time that is long enough", "2026-03-24T18:42:11Z", false},
		{"2026-13-24T18:42:11Z", "2026-13-24T18:42:11+00:00", false},
	} {
		if sameInstant(c.a, c.b) != c.same || sameInstant(c.b, c.a) != c.same {
			t.Errorf("%s and %s", c.a, c.b)
		}
	}
}

func TestLosslessPayload(t *testing.T) {
	t.Parallel()
	for payload, lossless := range map[string]bool{
		`{"t":"9007199254740993","i":9007199254740991,"r":0.1}`: true,
		`{"r":1e+21}`: true, `{"r":-0}`: true, `{"r":100000000000000000000}`: true, `{"i":true,"b":null}`: true,
		`{"i":9007199254740992}`: false, `{"i":-9007199254740993}`: false, `{"i":1.0}`: false, `{"i":1e300}`: false,
		`{"r":1.0}`: false, `{"r":9007199254740993}`: false, `{"r":1e999}`: false, `{"t":{}}`: false, `{"i":1`: false, ``: false, `{"i":-}`: false,
	} {
		if got := (classic{}).LosslessPayload(kindsTable, []byte(payload)); got != lossless {
			t.Errorf("%s: %v", payload, got)
		}
	}
}

// TestSteadyWorkDoesNotAllocate: coders and hashes keep their scratch space.
func TestSteadyWorkDoesNotAllocate(t *testing.T) {
	page, err := classic{}.DecodePull(benchPage(t), PullRequest{})
	if err != nil {
		t.Fatal(err)
	}
	rows := page.Bundles[0].Rows
	decoder, hash := classic{}.NewRowDecoder(benchTable), classic{}.NewBundleHash()
	local, request := NewLocalDecoder(benchTable), classic{}.NewRequestHash()
	form := AppendLocal(nil, benchTable, benchValues(12345))
	push := &PushRow{Schema: "business", Table: "readings", Key: rows[0].Key, Op: OpInsert}
	i := 0
	per := testing.AllocsPerRun(2000, func() {
		i = (i + 1) % len(rows)
		if _, err := decoder.Decode(rows[i].Payload); err != nil {
			t.Fatal(err)
		}
		if err := hash.Add(&rows[i]); err != nil {
			t.Fatal(err)
		}
		held, err := local.Decode(form)
		if err != nil {
			t.Fatal(err)
		}
		if push.Payload, err = (classic{}).AppendPayload(push.Payload[:0], benchTable, held); err != nil {
			t.Fatal(err)
		}
		if err := request.Add(push); err != nil {
			t.Fatal(err)
		}
	})
	if per > 0 {
		t.Errorf("%v allocations a row", per)
	}
	body := benchPage(t)
	page = PullPage{}
	per = testing.AllocsPerRun(10, func() {
		if page, err = (classic{}).DecodePull(body, PullRequest{}); err != nil {
			t.Fatal(err)
		}
		if err := VerifyBundles(classic{}, page.Bundles); err != nil {
			t.Fatal(err)
		}
	}) / benchRows
	if per > 1.5 {
		t.Errorf("%v allocations a pulled row", per)
	}
}
