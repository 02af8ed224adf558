package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestUniformHashVectors are the published vectors of the uniform contract.
func TestUniformHashVectors(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"name":"Ada", "id":"user-1"}`)
	request, bundle := uniform{}.NewRequestHash(), uniform{}.NewBundleHash()
	for range 2 { // Sum starts anew
		if err := request.Add(&PushRow{Schema: "main", Table: "users", Key: Key{"id", "user-1"}, Op: OpInsert, Payload: payload}); err != nil {
			t.Fatal(err)
		}
		if got := request.Sum(); got != "4b8ac54d6815e2c30649ab3135f2291f75d18c57538896c6321ffce0a5e75f09" {
			t.Errorf("request hash %s", got)
		}
		if err := bundle.Add(&Row{Schema: "main", Table: "users", Key: Key{"id", "user-1"}, Op: OpInsert, RowVersion: 1, Payload: payload}); err != nil {
			t.Fatal(err)
		}
		if got := bundle.Sum(); got != "e713784cb0ffed2f8dd9e56fc40121600b9fdaa9b6baf5d9763f5f04b9ed31bd" {
			t.Errorf("bundle hash %s", got)
		}
	}
	numeric := `"id":"n-1","large_count":"9007199254740993","count":"2147483647","small_count":"-32768","score":"5e-324"`
	if err := request.Add(&PushRow{Schema: "business", Table: "numeric_values", Key: Key{"id", "n-1"}, Op: OpInsert,
		Payload: []byte(`{` + numeric + `,"ratio":"1.2345678901234567","amount":"1234567890.123456789","enabled":"1"}`)}); err != nil {
		t.Fatal(err)
	}
	if got := request.Sum(); got != "ce9f4105cdda62a7705ef32476ebb3b3737fb44866a4bf4eedfeaaa571eb443a" {
		t.Errorf("request hash %s", got)
	}
	if err := bundle.Add(&Row{Schema: "business", Table: "numeric_values", Key: Key{"id", "n-1"}, Op: OpInsert, RowVersion: 1,
		Payload: []byte(`{` + numeric + `,"ratio":"1.2345678806304932","amount":"1234567890.1234567890","enabled":true}`)}); err != nil {
		t.Fatal(err)
	}
	if got := bundle.Sum(); got != "92fe0879f22de1e60f1bec5655f94cc641389e2ba5624666402a2a5cdd7150e3" {
		t.Errorf("bundle hash %s", got)
	}
}

// TestUniformHashesOfDeletes: a DELETE has a null payload in both hashes, whatever came with it; ordinals and versions
// are strings, exact beyond 2^53.
func TestUniformHashesOfDeletes(t *testing.T) {
	t.Parallel()
	sum := func(text string) string {
		h := sha256.Sum256([]byte(text))
		return hex.EncodeToString(h[:])
	}
	request, bundle := uniform{}.NewRequestHash(), uniform{}.NewBundleHash()
	var wantRequest, wantBundle []string
	for i := range 2 {
		if err := request.Add(&PushRow{Schema: "s", Table: "t", Key: Key{"id", "<\u2028>"}, Op: OpDelete, BaseRowVersion: math.MaxInt64}); err != nil {
			t.Fatal(err)
		}
		if err := bundle.Add(&Row{Schema: "s", Table: "t", Key: Key{"id", "<\u2028>"}, Op: OpDelete, RowVersion: math.MaxInt64, Payload: []byte(`{"id":"k"}`)}); err != nil {
			t.Fatal(err)
		}
		wantRequest = append(wantRequest, fmt.Sprintf(`{"base_row_version":"9223372036854775807","key":{"id":"<`+"\u2028"+`>"},"op":"DELETE","payload":null,"row_ordinal":"%d","schema":"s","table":"t"}`, i))
		wantBundle = append(wantBundle, fmt.Sprintf(`{"key":{"id":"<`+"\u2028"+`>"},"op":"DELETE","payload":null,"row_ordinal":"%d","row_version":"9223372036854775807","schema":"s","table":"t"}`, i))
	}
	if got, want := request.Sum(), sum("["+strings.Join(wantRequest, ",")+"]"); got != want {
		t.Errorf("request hash %s, want %s", got, want)
	}
	if got, want := bundle.Sum(), sum("["+strings.Join(wantBundle, ",")+"]"); got != want {
		t.Errorf("bundle hash %s, want %s", got, want)
	}
	var broken *LocalFormError
	if err := request.Add(&PushRow{Schema: "s", Table: "t", Op: OpInsert, Payload: []byte(`[]`)}); !errors.As(err, &broken) {
		t.Errorf("a payload that is no object: %v", err)
	}
}

// TestJCS: RFC 8785 where it differs from the classic form.
func TestJCS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{`{"\ud83d\ude00":1,"\ufb33":2,"\u20ac":3,"1":4,"\r":5,"ö":6,"":7}`, `{"":7,"\r":5,"1":4,"ö":6,"€":3,"😀":1,"` + "\ufb33" + `":2}`}, // the RFC's example of sorting
		{`{"a":"<>&\u2028\u2029\u007f\u0001\b\f\n\r\t\"\\\/"}`, `{"a":"<>&` + "\u2028\u2029\x7f" + `\u0001\b\f\n\r\t\"\\/"}`},
		{`{"n":[-0,0.0,-0.0,1.0,1e3,1e21,1e20,1e-6,1e-7,5e-324,1.7976931348623157e308,333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001,123456789012345678]}`,
			`{"n":[0,0,0,1,1000,1e+21,100000000000000000000,0.000001,1e-7,5e-324,1.7976931348623157e+308,333333333.3333333,1e+30,4.5,0.002,1e-27,123456789012345680]}`},
		{`{"b":{"d":null,"c":[true,false,{"y":1,"x":{}}]},"a":[]}`, `{"a":[],"b":{"c":[true,false,{"x":{},"y":1}],"d":null}}`},
	} {
		canon := canonicaliser{dialect: jcsDialect}
		got, fault := canon.append(nil, []byte(c.in))
		if fault != "" || string(got) != c.want {
			t.Errorf("%s becomes\n%s %s, want\n%s", c.in, got, fault, c.want)
		}
	}
	for _, in := range []string{`{"a":1e999}`, `{"a":1,"a":1}`, `{"a":"\ud800"}`, `{"a":01}`, `[]`, `{"a":{"b":1,"c":2,"b":3}}`} {
		canon := canonicaliser{dialect: jcsDialect}
		if got, fault := canon.append(nil, []byte(in)); fault == "" {
			t.Errorf("%s becomes %s", in, got)
		}
	}
}

// TestSharedCanonicalJSON runs ../shared/contracts/canonical-json.
func TestSharedCanonicalJSON(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(sharedDir(t), "contracts", "canonical-json", "jcs-uniform-numeric-strings.json"))
	if err != nil {
		t.Fatal(err)
	}
	type valueCase struct {
		Name  string
		Local struct {
			Class string `json:"storage_class"`
			Text  string `json:"value_text"`
		} `json:"local_sqlite"`
		Uploaded  string          `json:"uploaded_wire"`
		Committed json.RawMessage `json:"committed_server"`
	}
	var file struct {
		ID       string      `json:"contract_id"`
		Version  int         `json:"fixture_schema_version"`
		Integers []valueCase `json:"integer_cases"`
		Decimals []valueCase `json:"decimal_cases"`
		Floats   []valueCase `json:"float_cases"`
		Booleans []valueCase `json:"boolean_cases"`
		Invalid  []struct {
			Name, Family string
			Input        json.RawMessage
		} `json:"invalid_cases"`
		Examples map[string]struct {
			Bytes  string `json:"canonical_bytes"`
			Base64 string `json:"utf8_base64"`
			Sum    string `json:"sha256"`
		} `json:"canonical_examples"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if file.ID != string(UniformContract) || file.Version != 1 || len(file.Integers) == 0 || len(file.Invalid) == 0 || len(file.Examples) == 0 {
		t.Fatalf("%q, version %d", file.ID, file.Version)
	}
	kinds := map[string]Kind{"integer": KindInteger, "text": KindText, "real": KindReal, "float": KindReal}
	table := func(k Kind) *Table { return &Table{Schema: "m", Name: "t", Columns: []Column{{"v", k}}} }
	for _, c := range append(append(append(file.Integers, file.Decimals...), file.Floats...), file.Booleans...) {
		kind, known := kinds[c.Local.Class]
		if !known {
			t.Fatalf("%s: storage class %q", c.Name, c.Local.Class)
		}
		held, err := NewLocalDecoder(table(kind)).Decode([]byte(`{"v":"` + c.Local.Text + `"}`))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if got, err := (uniform{}).AppendPayload(nil, table(kind), held); err != nil || string(got) != `{"v":"`+c.Uploaded+`"}` {
			t.Errorf("%s: %s, %v; want %s", c.Name, got, err, c.Uploaded)
		}
		committed := c.Committed
		if committed[0] != '"' && committed[0] != 't' && committed[0] != 'f' {
			t.Fatalf("%s: %s", c.Name, committed)
		}
		if _, err := (uniform{}).NewRowDecoder(table(kind)).Decode([]byte(`{"v":` + string(committed) + `}`)); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	ran := 0
	for _, c := range file.Invalid {
		kind, known := kinds[c.Family]
		if !known {
			continue // decimals and booleans are the server's: here they are a text and an integer
		}
		ran++
		var refused *ProtocolError
		if got, err := (uniform{}).NewRowDecoder(table(kind)).Decode([]byte(`{"v":` + string(c.Input) + `}`)); !errors.As(err, &refused) {
			t.Errorf("%s: %s is taken as %v, %v", c.Name, c.Input, got, err)
		}
	}
	if ran == 0 {
		t.Error("no invalid case ran")
	}
	for name, e := range file.Examples {
		raw, err := base64.StdEncoding.DecodeString(e.Base64)
		sum := sha256.Sum256(raw)
		if err != nil || string(raw) != e.Bytes || hex.EncodeToString(sum[:]) != e.Sum {
			t.Fatalf("%s contradicts itself: %v", name, err)
		}
		canon := canonicaliser{dialect: jcsDialect}
		got, fault := canon.append(nil, []byte(`{"x":`+e.Bytes+`}`))
		if fault != "" || string(got) != `{"x":`+e.Bytes+`}` {
			t.Errorf("%s: %s %s", name, got, fault)
		}
	}
}

func TestUniformAppendPayload(t *testing.T) {
	t.Parallel()
	row := []Value{
		{Type: Text, Bytes: []byte("a\"\\\n\x01<é>")}, {Type: Integer, Int: math.MinInt64}, {Type: Real, Float: 1e21},
		{Type: Blob, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}, {Type: Blob, Bytes: []byte("0123456789abcdef")},
	}
	got, err := uniform{}.AppendPayload([]byte("kept"), kindsTable, row)
	const want = `kept{"b":"3q2+7w==","i":"-9223372036854775808","r":"1e+21","t":"a\"\\\n\u0001<é>","u":"30313233-3435-3637-3839-616263646566"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	wide := &Table{Schema: "m", Name: "wide"}
	for i := range 100 {
		wide.Columns = append(wide.Columns, Column{fmt.Sprintf("c%d", 99-i), KindInteger})
	}
	got, err = uniform{}.AppendPayload(nil, wide, make([]Value, 100))
	canon := canonicaliser{dialect: jcsDialect}
	if canonical, fault := canon.append(nil, got); err != nil || fault != "" || string(canonical) != string(got) {
		t.Errorf("%s is not canonical: %v %s", got, err, fault)
	}
}

// TestK11_WhatTheUniformWireCannotCarryIsRefused: every storage class in every kind of column.
func TestK11_WhatTheUniformWireCannotCarryIsRefused(t *testing.T) {
	t.Parallel()
	text := func(s string) Value { return Value{Type: Text, Bytes: []byte(s)} }
	blob := func(s string) Value { return Value{Type: Blob, Bytes: []byte(s)} }
	integer := func(n int64) Value { return Value{Type: Integer, Int: n} }
	real := func(f float64) Value { return Value{Type: Real, Float: f} }
	for _, c := range []struct {
		column int
		value  Value
		want   string // the wire form, or "" and
		reason string
	}{
		{0, text("ok"), `"ok"`, ""}, {0, text("a\x00b"), "", "nul_in_text"}, {0, text("\xff"), "", "invalid_utf8"},
		{0, integer(1), "", "storage_class"}, {0, real(1), "", "storage_class"}, {0, blob("x"), "", "storage_class"},
		{1, integer(math.MaxInt64), `"9223372036854775807"`, ""}, {1, integer(math.MinInt64), `"-9223372036854775808"`, ""}, {1, integer(0), `"0"`, ""},
		{1, real(1), "", "storage_class"}, {1, text("abc"), "", "storage_class"}, {1, blob("5"), "", "storage_class"},
		{2, real(math.MaxFloat64), `"1.7976931348623157e+308"`, ""}, {2, real(math.SmallestNonzeroFloat64), `"5e-324"`, ""},
		{2, real(math.Copysign(0, -1)), `"0"`, ""}, {2, real(1), `"1"`, ""}, {2, real(0.1), `"0.1"`, ""}, {2, real(1e-7), `"1e-7"`, ""},
		{2, real(math.Inf(1)), "", "non_finite_real"}, {2, real(math.Inf(-1)), "", "non_finite_real"}, {2, real(math.NaN()), "", "non_finite_real"},
		{2, integer(1), `"1"`, ""}, {2, integer(1 << 53), `"9007199254740992"`, ""}, {2, integer(1<<53 + 1), "", "integer_out_of_range"},
		{2, text("abc"), "", "storage_class"}, {2, blob(""), "", "storage_class"},
		{3, blob(""), `""`, ""}, {3, text("abc"), "", "storage_class"}, {3, integer(1), "", "storage_class"}, {3, real(1), "", "storage_class"},
		{4, blob("0123456789abcdef"), `"30313233-3435-3637-3839-616263646566"`, ""}, {4, blob("0123456789abcde"), "", "not_a_uuid"},
		{4, text("0123456789abcdef"), "", "storage_class"}, {4, integer(1), "", "storage_class"},
	} {
		row := make([]Value, 5)
		row[c.column] = c.value
		name := kindsTable.Columns[c.column].Name
		got, err := uniform{}.AppendPayload([]byte("kept"), kindsTable, row)
		if c.reason == "" {
			if err != nil || !strings.Contains(string(got), `"`+name+`":`+c.want) {
				t.Errorf("%s, %v: %s, %v; want %s", name, c.value, got, err, c.want)
			}
			continue
		}
		var refused *ValueError
		if !errors.As(err, &refused) || refused.Reason != c.reason || refused.Table != "main.things" || refused.Column != name || string(got) != "kept" {
			t.Errorf("%s, %v: %q, %v; want %s", name, c.value, got, err, c.reason)
		}
	}
}

// TestUniformRowDecoder: one spelling a value, and exactly the table's columns.
func TestUniformRowDecoder(t *testing.T) {
	t.Parallel()
	uuid := []byte("0123456789abcdef")
	d := uniform{}.NewRowDecoder(kindsTable)
	payload := func(column int, text string) []byte {
		var b strings.Builder
		for i, c := range kindsTable.Columns {
			value := "null"
			if i == column {
				value = text
			}
			b.WriteString(`,"` + c.Name + `":` + value)
		}
		return []byte("{" + b.String()[1:] + "}")
	}
	for _, c := range []struct {
		column int
		text   string
		want   Value
		fault  string
	}{
		{0, `"a\u0000\n😀"`, Value{Type: Text, Bytes: []byte("a\x00\n😀")}, ""}, {0, `1`, Value{}, "not a string"}, {0, `true`, Value{}, "not a string"}, {0, `{}`, Value{}, "not a string"},
		{1, `"9223372036854775807"`, Value{Type: Integer, Int: math.MaxInt64}, ""}, {1, `"-9223372036854775808"`, Value{Type: Integer, Int: math.MinInt64}, ""},
		{1, `true`, Value{Type: Integer, Int: 1}, ""}, {1, `false`, Value{Type: Integer}, ""}, {1, `"0"`, Value{Type: Integer}, ""},
		{1, `1`, Value{}, "not a string"}, {1, `"+1"`, Value{}, "canonical"}, {1, `"01"`, Value{}, "canonical"}, {1, `"-0"`, Value{}, "canonical"}, {1, `"1.0"`, Value{}, "canonical"},
		{1, `"1e3"`, Value{}, "canonical"}, {1, `"9223372036854775808"`, Value{}, "canonical"}, {1, `"-9223372036854775809"`, Value{}, "canonical"}, {1, `""`, Value{}, "canonical"}, {1, `" 1"`, Value{}, "canonical"}, {1, `"true"`, Value{}, "canonical"},
		{2, `"1"`, Value{Type: Real, Float: 1}, ""}, {2, `"5e-324"`, Value{Type: Real, Float: math.SmallestNonzeroFloat64}, ""}, {2, `"0"`, Value{Type: Real}, ""}, {2, `"-1.7976931348623157e+308"`, Value{Type: Real, Float: -math.MaxFloat64}, ""},
		{2, `1`, Value{}, "not a string"}, {2, `true`, Value{}, "not a string"}, {2, `"1.0"`, Value{}, "canonical"}, {2, `"1e0"`, Value{}, "canonical"}, {2, `"-0"`, Value{}, "canonical"}, {2, `"NaN"`, Value{}, "canonical"}, {2, `"Infinity"`, Value{}, "canonical"},
		{2, `"inf"`, Value{}, "canonical"}, {2, `"0x1p-2"`, Value{}, "canonical"}, {2, `"1e999"`, Value{}, "canonical"}, {2, `"1e21"`, Value{}, "canonical"}, {2, `"1E+21"`, Value{}, "canonical"}, {2, `"1e-07"`, Value{}, "canonical"}, {2, `"0.10000000000000001"`, Value{}, "canonical"}, {2, `""`, Value{}, "canonical"},
		{2, `"1` + strings.Repeat("0", 400) + `"`, Value{}, "canonical"},
		{3, `"3q2+7w=="`, Value{Type: Blob, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}, ""}, {3, `""`, Value{Type: Blob}, ""}, {3, `"3q2\u002b7w=="`, Value{Type: Blob, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}, ""},
		{3, `"3q2+7w"`, Value{}, "base64"}, {3, `"3q2+7x=="`, Value{}, "base64"}, {3, `"3q2+\n7w=="`, Value{}, "base64"}, {3, `"3q2+7w==\r\n"`, Value{}, "base64"}, {3, `" 3q2+7w=="`, Value{}, "base64"}, {3, `"deadbee"`, Value{}, "base64"}, {3, `5`, Value{}, "not a string"},
		{4, `"30313233-3435-3637-3839-616263646566"`, Value{Type: Blob, Bytes: uuid}, ""}, {4, `"30313233-3435-3637-3839-61626364656F"`, Value{}, "UUID"}, {4, `"30313233343536373839616263646566"`, Value{}, "UUID"},
		{4, `"{30313233-3435-3637-3839-616263646566}"`, Value{}, "UUID"}, {4, `"MDEyMzQ1Njc4OWFiY2RlZg=="`, Value{}, "UUID"}, {4, `"30313233-3435-3637-3839-61626364656g"`, Value{}, "UUID"}, {4, `"30313233+3435-3637-3839-616263646566"`, Value{}, "UUID"}, {4, `""`, Value{}, "UUID"}, {4, `1`, Value{}, "not a string"},
	} {
		got, err := d.Decode(payload(c.column, c.text))
		if c.fault == "" {
			if err != nil || !sameExact(got[c.column], c.want) {
				t.Errorf("%s in column %d: %v, %v; want %v", c.text, c.column, got, err, c.want)
			}
			continue
		}
		var refused *ProtocolError
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.fault) || !strings.HasPrefix(refused.Reason, invalidValue) || refused.Column != kindsTable.Columns[c.column].Name {
			t.Errorf("%s in column %d: %v; want %q", c.text, c.column, err, c.fault)
		}
	}
	whole := string(payload(-1, ""))
	for text, fault := range map[string]string{
		strings.Replace(whole, `{"t":null,`, `{`, 1):               "payload for things must contain every table column",
		strings.Replace(whole, `{`, `{"extra":1,`, 1):              "a member that is no column",
		strings.Replace(whole, `{`, `{"T":null,`, 1):               "a member comes twice",
		strings.Replace(whole, `{`, `{"t":null,`, 1):               "a member comes twice",
		strings.Replace(whole, `{`, `{"_sync_scope_id":"x",`, 1):   "a member that is no column",
		strings.Replace(whole, `"u":null`, `"u":null,"t2":[1]`, 1): "a member that is no column",
	} {
		_, err := d.Decode([]byte(text))
		var refused *ProtocolError
		if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, invalidShape) || !strings.Contains(refused.Reason, fault) {
			t.Errorf("%s: %v; want %q", text, err, fault)
		}
	}
	if got, err := d.Decode([]byte(strings.ToUpper(strings.Replace(whole, `"i":null`, `"i":"5"`, 1)[:11]) + strings.Replace(whole, `"i":null`, `"i":"5"`, 1)[11:])); err == nil || got != nil {
		t.Errorf("a broken literal: %v, %v", got, err)
	}
	if got, err := d.Decode([]byte(strings.Replace(whole, `"i":null`, `"I":"5"`, 1))); err != nil || got[1].Int != 5 {
		t.Errorf("a name in upper case: %v, %v", got, err)
	}
	wantProtocolError(t, func() error { _, err := d.Decode([]byte(`[]`)); return err }(), "not an object")
}

// TestUniformSameImage: what a server may spell in its own way is the same image, anything else is not.
func TestUniformSameImage(t *testing.T) {
	t.Parallel()
	table := &Table{Schema: "m", Name: "t", Columns: []Column{{"a", KindText}, {"n", KindInteger}, {"r", KindReal}}}
	const frozen = `{"a":"2026-03-24T18:42:11Z","n":"1","r":"0.5"}`
	for committed, want := range map[string]bool{
		frozen: true,
		`{"n":true,"a":"2026-03-24T18:42:11+00:00","r":"0.5"}`: true,
		`{"n":"1","a":"2026-03-24T18:42:12+00:00","r":"0.5"}`:  true == false,
		`{"n":"1","a":"2026-03-24T18:42:11Z","r":"0.25"}`:      false,
		`{"n":"9","a":"2026-03-24T18:42:11Z","r":"0.5"}`:       false,
		`{"n":null,"a":"2026-03-24T18:42:11Z","r":"0.5"}`:      false,
	} {
		if same, err := (uniform{}).SameImage(table, []byte(frozen), []byte(committed)); err != nil || same != want {
			t.Errorf("%s: %v, %v", committed, same, err)
		}
	}
	if _, err := (uniform{}).SameImage(table, []byte(frozen), []byte(`{"n":1}`)); err == nil {
		t.Error("a classic image was taken")
	}
	if _, err := (uniform{}).SameImage(table, []byte(`{}`), []byte(frozen)); err == nil {
		t.Error("an empty image was taken")
	}
	if !(uniform{}).LosslessPayload(table, []byte(frozen)) || !(uniform{}).NamesRequest() || (classic{}).NamesRequest() {
		t.Error("what the uniform contract promises")
	}
}

const uniformCapabilitiesText = `{"protocol_version":"v1","schema_version":1,"app_name":null,"registered_table_specs":[{"schema":"main","table":"users","sync_key_columns":["id"]}],
"features":{"connect_lifecycle":true},"future":{"a":1},"bundle_limits":{"default_rows_per_snapshot_chunk":1000,"max_rows_per_snapshot_chunk":10000,"default_bytes_per_snapshot_chunk":4194304,
"max_bytes_per_snapshot_chunk":16777216,"max_bytes_per_snapshot_row":4194304,"max_concurrent_snapshot_builds":2,"max_concurrent_snapshot_chunk_requests":8,"snapshot_materialization_batch_rows":1000}}`

// TestUniformCapabilitiesGate: what is required of a uniform server and is not there is a fault.
func TestUniformCapabilitiesGate(t *testing.T) {
	t.Parallel()
	c, err := DecodeCapabilities([]byte(uniformCapabilitiesText))
	if err != nil || c.Contract != UniformContract || len(c.TableSpecs) != 1 || c.Limits.MaxBytesPerSnapshotRow != 4194304 {
		t.Fatalf("%+v, %v", c, err)
	}
	for old, replacement := range map[string]string{
		`"protocol_version":"v1",`: ``, `"schema_version":1,`: ``, `"protocol_version":"v1"`: `"protocol_version":null`, `"schema_version":1`: `"schema_version":1.5`,
		`"registered_table_specs":[{"schema":"main","table":"users","sync_key_columns":["id"]}]`: `"registered_table_specs":null`,
		`"features":{"connect_lifecycle":true},`:                                                 ``, `"connect_lifecycle":true`: `"connect_lifecycle":"yes"`, `{"connect_lifecycle":true}`: `null`,
		`"default_rows_per_snapshot_chunk":1000,`: ``, `"max_rows_per_snapshot_chunk":10000,`: ``, `"max_bytes_per_snapshot_row":4194304`: `"max_bytes_per_snapshot_row":null`,
		`["id"]`: `["id","b"]`, `"table":"users"`: `"table":" "`, `"future":{"a":1}`: `"future":{"a":1,"a":2}`, `"app_name":null`: `"app_name":[` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `]`,
		`"sync_key_columns":["id"]`: `"sync_key_columns":[]`, `"id"`: `" "`, `"features"`: `"bundle_limits":{},"features"`,
	} {
		body := strings.Replace(uniformCapabilitiesText, old, replacement, 1)
		if body == uniformCapabilitiesText {
			t.Fatalf("%s is not there", old)
		}
		var refused *ProtocolError
		if c, err := DecodeCapabilities([]byte(body)); !errors.As(err, &refused) {
			t.Errorf("%s for %s: %+v, %v", replacement, old, c, err)
		}
	}
	// A classic server may leave all of it out.
	if c, err := DecodeCapabilities([]byte(`{"features":null}`)); err != nil || c.Contract != ClassicContract {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestUniformSnapshotBounds(t *testing.T) {
	t.Parallel()
	good := Limits{DefaultRowsPerSnapshotChunk: 1000, MaxRowsPerSnapshotChunk: 4000, DefaultBytesPerSnapshotChunk: 4 << 20, MaxBytesPerSnapshotChunk: 16 << 20,
		MaxBytesPerSnapshotRow: 4 << 20, MaxConcurrentSnapshotBuilds: 2, MaxConcurrentSnapshotChunkRequests: 8}
	for _, c := range []struct {
		rows, bytes int64
		want        SnapshotBounds
	}{
		{0, 0, SnapshotBounds{1000, 4 << 20}}, {5000, 32 << 20, SnapshotBounds{4000, 16 << 20}}, {1, 4 << 20, SnapshotBounds{1, 4 << 20}},
	} {
		if got, err := (uniform{}).SnapshotBounds(good, c.rows, c.bytes); err != nil || got != c.want {
			t.Errorf("%d, %d: %+v, %v", c.rows, c.bytes, got, err)
		}
	}
	if _, err := (uniform{}).SnapshotBounds(good, 0, 1<<20); err == nil {
		t.Error("a row larger than the pages that are asked for")
	}
	large := good
	large.MaxBytesPerSnapshotRow = 8 << 20
	if got, err := (uniform{}).SnapshotBounds(large, 0, 0); err != nil || got.MaxBytes != 8<<20 {
		t.Errorf("%+v, %v: pages without a wish hold the largest row", got, err)
	}
	for name, spoil := range map[string]func(*Limits){
		"zero": func(l *Limits) { l.MaxConcurrentSnapshotBuilds = 0 }, "rows": func(l *Limits) { l.DefaultRowsPerSnapshotChunk = 5000 },
		"bytes": func(l *Limits) { l.DefaultBytesPerSnapshotChunk = 32 << 20 }, "row": func(l *Limits) { l.MaxBytesPerSnapshotRow = 32 << 20 },
	} {
		bad := good
		spoil(&bad)
		var refused *ProtocolError
		if got, err := (uniform{}).SnapshotBounds(bad, 0, 0); !errors.As(err, &refused) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, c := range []struct {
		limits Limits
		rows   int64
		want   int64
	}{{Limits{}, 0, 1000}, {Limits{DefaultRowsPerSnapshotChunk: 50}, 0, 50}, {good, 9000, 4000}, {good, 0, 1000}, {good, 7, 7}} {
		if got, err := (classic{}).SnapshotBounds(c.limits, c.rows, 5); err != nil || got != (SnapshotBounds{MaxRows: c.want}) {
			t.Errorf("classic: %+v, %v; want %d", got, err, c.want)
		}
	}
}

const (
	uniformPage = `{"snapshot_id":"s","snapshot_bundle_seq":9,"rows":[{"schema":"main","table":"users","key":{"id":"user-1"},"row_version":2,"payload":{"id":"user-1","name":"Ada"}}],"next_row_ordinal":1,"has_more":true,"byte_count":110}`
	uniformRow  = `{"schema":"main","table":"users","key":{"id":"user-1"},"row_version":2,"payload":{"id":"user-1","name":"Ada"}}`
)

// TestUniformSnapshotPage: the strict decoder, and the accounts of a transfer.
func TestUniformSnapshotPage(t *testing.T) {
	t.Parallel()
	r := SnapshotPageRequest{Session: SnapshotSession{ID: "s", BundleSeq: 9, RowCount: 2, ByteCount: 220}, MaxRows: 2, MaxBytes: 200}
	page, err := uniform{}.DecodeSnapshotPage([]byte(uniformPage), r)
	if err != nil || len(page.Rows) != 1 || page.ByteCount != 110 || page.Next != 1 || !page.HasMore || string(page.Rows[0].Payload) != `{"id":"user-1","name":"Ada"}` {
		t.Fatalf("%+v, %v", page, err)
	}
	last := r
	last.After, last.AfterBytes = 1, 110
	final := strings.NewReplacer(`"next_row_ordinal":1`, `"next_row_ordinal":2`, `"has_more":true`, `"has_more":false`).Replace(uniformPage)
	if page, err := (uniform{}).DecodeSnapshotPage([]byte(final), last); err != nil || page.HasMore {
		t.Errorf("%+v, %v", page, err)
	}
	empty := `{"snapshot_id":"s","snapshot_bundle_seq":9,"rows":[],"next_row_ordinal":0,"has_more":false,"byte_count":0}`
	if _, err := (uniform{}).DecodeSnapshotPage([]byte(empty), SnapshotPageRequest{Session: SnapshotSession{ID: "s", BundleSeq: 9}, MaxRows: 1, MaxBytes: 1}); err != nil {
		t.Error(err)
	}
	deep := strings.Repeat("[", 130) + strings.Repeat("]", 130)
	for _, c := range []struct{ old, replacement, fault string }{
		{`"has_more":true,`, ``, "a missing member"}, {`"has_more":true`, `"has_more":null`, "not a boolean"}, {`"has_more":true`, `"has_more":1`, "not a boolean"},
		{`"next_row_ordinal":1`, `"next_row_ordinal":1.0`, "not a 64-bit integer"}, {`"next_row_ordinal":1`, `"next_row_ordinal":"1"`, "not a JSON value"}, {`"next_row_ordinal":1`, `"next_row_ordinal":1e0`, "not a 64-bit integer"},
		{`"next_row_ordinal":1`, `"next_row_ordinal":2`, "next_row_ordinal 2 does not match expected 1"}, {`"snapshot_id":"s"`, `"snapshot_id":"t"`, "invalid_chunk: the answer is for another snapshot"},
		{`"snapshot_bundle_seq":9`, `"snapshot_bundle_seq":8`, "invalid_chunk: snapshot_bundle_seq 8"}, {`"rows":[` + uniformRow + `]`, `"rows":null`, "not an array"},
		{`{"snapshot_id"`, `{"extra":1,"snapshot_id"`, "an unknown member"}, {`{"snapshot_id":"s"`, `{"snapshot_id":"s","snapshot_id":"s"`, "duplicate_object_member"},
		{`"byte_count":110`, `"byte_count":201`, "invalid_chunk: byte_count 201, asked for at most 200"}, {`"byte_count":110`, `"byte_count":-1`, "invalid_chunk: byte_count -1"}, {`"byte_count":110`, `"byte_count":0`, "invalid_chunk: 1 rows with byte_count 0"},
		{`"rows":[` + uniformRow + `],"next_row_ordinal":1`, `"rows":[],"next_row_ordinal":0`, "invalid_chunk: an empty page that says there is more"},
		{`"rows":[`, `"rows":[` + uniformRow + `,` + uniformRow + `,`, "invalid_chunk: next_row_ordinal"},
		{`"schema":"main",`, ``, "a missing member of a row"}, {`"payload":{"id":"user-1","name":"Ada"}`, `"payload":null`, "not an object"}, {`"payload":{"id":"user-1","name":"Ada"}`, `"payload":[]`, "not an object"},
		{`"row_version":2`, `"row_version":2,"op":"INSERT"`, "an unknown member of a row"}, {`"row_version":2`, `"row_version":0`, "row_version 0 must be positive"}, {`"row_version":2`, `"row_version":null`, "not a JSON value"},
		{`"schema":"main"`, `"schema":" "`, "invalid_row"}, {`"key":{"id":"user-1"}`, `"key":{"id":"user-1","b":"c"}`, "more than one member"}, {`"key":{"id":"user-1"}`, `"key":{"id":1}`, "not a string"}, {`"key":{"id":"user-1"}`, `"key":{"id":" "}`, "invalid_row: a blank row key"},
		{`"key":{"id":"user-1"}`, `"key":{"_Sync_scope_id":"x"}`, "_sync_scope_id"}, {`"name":"Ada"`, `"name":"Ada","_sync_scope_id":"x"`, "_sync_scope_id"}, {`"name":"Ada"`, `"name":"Ada","id":"x"`, "duplicate_object_member"},
		{`"name":"Ada"`, `"name":{"a":1,"b":{"c":1,"c":2}}`, "duplicate_object_member"}, {`"name":"Ada"`, `"name":[{"a":1,"a":2}]`, "duplicate_object_member"}, {`"name":"Ada"`, `"name":` + deep, "excessive_nesting"}, {`"Ada"`, `"Ada`, "JSON"},
	} {
		body := strings.Replace(uniformPage, c.old, c.replacement, 1)
		if body == uniformPage {
			t.Fatalf("%s is not there", c.old)
		}
		var refused *ProtocolError
		_, err := uniform{}.DecodeSnapshotPage([]byte(body), r)
		if !errors.As(err, &refused) || c.fault != "JSON" && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s for %s: %v, want %q", c.replacement, c.old, err, c.fault)
		}
	}
	// The accounts: rows and bytes stay within the session's, and reach them with the last page only.
	for name, spoil := range map[string]func(*SnapshotPageRequest){
		"rows": func(r *SnapshotPageRequest) { r.MaxRows = 0 }, "row total": func(r *SnapshotPageRequest) { r.Session.RowCount = 1 },
		"byte total": func(r *SnapshotPageRequest) { r.AfterBytes = 111 }, "bytes reached early": func(r *SnapshotPageRequest) { r.Session.ByteCount = 110 },
	} {
		bad := r
		spoil(&bad)
		_, err := uniform{}.DecodeSnapshotPage([]byte(uniformPage), bad)
		if err == nil || !strings.Contains(err.Error(), "invalid_chunk") {
			t.Errorf("%s: %v", name, err)
		}
	}
	var changed *ContractChangedError
	_, err = uniform{}.DecodeSnapshotPage([]byte(strings.Replace(uniformPage, `,"byte_count":110`, ``, 1)), r)
	if !errors.As(err, &changed) || changed.Pinned != UniformContract || changed.Found != ClassicContract || !strings.Contains(err.Error(), "invalid_chunk") || changed.Retryable() {
		t.Errorf("a classic page: %v", err)
	}
	if _, err = (classic{}).DecodeSnapshotPage([]byte(uniformPage), r); !errors.As(err, &changed) || changed.Pinned != ClassicContract {
		t.Errorf("a uniform page: %v", err)
	}
	// Many members need another way to notice a double one.
	var wide strings.Builder
	for i := range 100 {
		fmt.Fprintf(&wide, `"c%d":1,`, i)
	}
	for _, again := range []string{"c5", "c99"} {
		_, err = uniform{}.DecodeSnapshotPage([]byte(strings.Replace(uniformPage, `"name":"Ada"`, wide.String()+`"`+again+`":1`, 1)), r)
		wantProtocolError(t, err, "duplicate_object_member")
	}
	if _, err = (uniform{}).DecodeSnapshotPage([]byte(strings.Replace(uniformPage, `"name":"Ada"`, wide.String()+`"z":1`, 1)), r); err != nil {
		t.Error(err)
	}
}

func TestUniformSnapshotSession(t *testing.T) {
	t.Parallel()
	const good = `{"snapshot_id":"s","snapshot_bundle_seq":9,"row_count":1,"byte_count":110,"expires_at":"2099-01-01T00:00:00Z","future":[]}`
	s, err := uniform{}.DecodeSnapshotSession([]byte(good))
	if err != nil || s != (SnapshotSession{ID: "s", BundleSeq: 9, RowCount: 1, ByteCount: 110, ExpiresAt: "2099-01-01T00:00:00Z"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	for old, replacement := range map[string]string{
		`"byte_count":110,`: ``, `"byte_count":110`: `"byte_count":0`, `"row_count":1`: `"row_count":0`, `"snapshot_bundle_seq":9`: `"snapshot_bundle_seq":0`,
		`"2099-01-01T00:00:00Z"`: `"soon"`, `"row_count":1,`: `"row_count":-1,`, `"future":[]`: `"future":{"a":1,"a":2}`, `"expires_at":`: `"expires_at":null,"x":`, `"row_count":1,"byte`: `"row_count":null,"byte`,
	} {
		body := strings.Replace(good, old, replacement, 1)
		got, err := uniform{}.DecodeSnapshotSession([]byte(body))
		var refused *ProtocolError
		if !errors.As(err, &refused) || got.ID != "s" {
			t.Errorf("%s: %+v, %v; its session must be known", body, got, err)
		}
	}
	if got, err := (uniform{}).DecodeSnapshotSession([]byte(strings.Replace(good, `"s"`, `" "`, 1))); err == nil || got.ID != "" {
		t.Errorf("a blank id: %+v, %v", got, err)
	}
	if got, err := (classic{}).DecodeSnapshotSession([]byte(`{"snapshot_id":"s","row_count":1}`)); err == nil || got.ID != "s" {
		t.Errorf("classic: %+v, %v", got, err)
	}
}

// TestUniformSnapshotErrors: codes of the taxonomy stay, everything else is told to nobody.
func TestUniformSnapshotErrors(t *testing.T) {
	t.Parallel()
	bounds := SnapshotBounds{MaxRows: 10, MaxBytes: 1000}
	for _, c := range []struct {
		status     int
		body, code string
		message    string
	}{
		{409, `{"error":"history_pruned","message":"m"}`, "history_pruned", "m"},
		{429, `{"error":"snapshot_build_capacity","message":"m"}`, "snapshot_build_capacity", "m"},
		{503, `{"error":"snapshot_chunk_capacity","message":"m"}`, "invalid_error_response", ""},
		{404, `{"error":"snapshot_session_not_found","message":"m"}`, "snapshot_session_not_found", "m"},
		{400, `{"error":"my_secret","message":"user 5 of tenant 7"}`, "invalid_error_response", ""},
		{400, `{"error":"snapshot_chunk_too_small","message":"m","required_byte_count":1001}`, "snapshot_chunk_too_small", "m"},
		{400, `{"error":"snapshot_chunk_too_small","message":"m","required_byte_count":1000}`, "snapshot_chunk_too_small_invalid", ""},
		{409, `{"error":"snapshot_chunk_too_small","message":"m","required_byte_count":1001}`, "snapshot_chunk_too_small_invalid", ""},
		{400, `{"error":"snapshot_chunk_too_small","message":"m"}`, "snapshot_chunk_too_small_invalid", ""},
		{409, `{"error":"snapshot_session_limit_exceeded","message":"m","dimension":"byte_count","actual":11,"limit":10}`, "snapshot_session_limit_exceeded", "m"},
		{409, `{"error":"snapshot_session_limit_exceeded","message":"m","dimension":"moons","actual":11,"limit":10}`, "invalid_error_response", ""},
		{409, `{"error":"snapshot_session_limit_exceeded","message":"m","dimension":"row_count","actual":10,"limit":10}`, "invalid_error_response", ""},
		{409, `{"error":"snapshot_session_limit_exceeded","message":"m","dimension":"row_count","actual":"10"}`, "invalid_error_response", ""},
		{502, `<html>`, "", "<html>"},
	} {
		e := uniform{}.DecodeSnapshotError("op", c.status, []byte(c.body), bounds)
		if e.Code != c.code || e.Message != c.message || e.Status != c.status || e.Operation != "op" {
			t.Errorf("%d %s: %+v", c.status, c.body, e)
		}
	}
	e := uniform{}.DecodeSnapshotError("op", 409, []byte(`{"error":"snapshot_session_limit_exceeded","dimension":"row_count","actual":11,"limit":10}`), SnapshotBounds{})
	if e.SessionLimit != (SessionLimit{"row_count", 11, 10}) || !strings.Contains(e.Error(), "row_count 11, allowed are 10") {
		t.Errorf("%+v: %v", e, e)
	}
	if e := (uniform{}).DecodeSnapshotError("op", 400, []byte(`{"error":"snapshot_chunk_too_small","required_byte_count":1001}`), bounds); e.RequiredByteCount != 1001 || !strings.Contains(e.Error(), "1001 bytes") {
		t.Errorf("%+v", e)
	}
	if e := (classic{}).DecodeSnapshotError("op", 400, []byte(`{"error":"mine","message":"m"}`), bounds); e.Code != "mine" || e.Message != "m" {
		t.Errorf("classic: %+v", e)
	}
	if e := (uniform{}).DecodeError("op", 400, []byte(`{"error":"push_chunk_invalid","message":"row 5"}`)); e.Code != "push_chunk_invalid" || e.Message != "row 5" {
		t.Errorf("a push keeps its reason: %+v", e)
	}
	conflict := `{"error":"push_conflict","conflict":{"schema":"m","table":"t","key":{"id":"1"},"op":"UPDATE","base_row_version":1,"server_row_version":2,"server_row_deleted":false,"server_row":{"id":"1"}}}`
	if e := (uniform{}).DecodeError("op", 409, []byte(conflict)); e.Conflict == nil {
		t.Error("a conflict was refused")
	}
	for old, replacement := range map[string]string{`{"id":"1"}}}`: `{"id":"1","_sync_scope_id":"x"}}}`, `"key":{"id":"1"}`: `"key":{"id":" "}`} {
		if e := (uniform{}).DecodeError("op", 409, []byte(strings.Replace(conflict, old, replacement, 1))); e.Conflict != nil || e.Code != "push_conflict" {
			t.Errorf("%s: %+v", replacement, e)
		}
	}
}

// TestUniformPush: what names the request is sent, wanted and compared.
func TestUniformPush(t *testing.T) {
	t.Parallel()
	hash, other := strings.Repeat("a", 64), strings.Repeat("b", 64)
	r := CreatePushRequest{SourceBundleID: 3, PlannedRowCount: 2, InitializationID: "lease", RequestHash: hash}
	if got := string((uniform{}).AppendCreatePush([]byte("kept"), r)); got != `kept{"source_bundle_id":3,"planned_row_count":2,"initialization_id":"lease","canonical_request_hash":"`+hash+`"}` {
		t.Error(got)
	}
	rows := []PushRow{{Schema: "m", Table: "t", Key: Key{"id", "1"}, Op: OpInsert, Payload: []byte(`{"id":"1"}`)}, {Schema: "m", Table: "t", Key: Key{"id", "2"}, Op: OpDelete, BaseRowVersion: 4}}
	if got, want := (uniform{}).AppendPushChunk(nil, 5, rows), (classic{}).AppendPushChunk(nil, 5, rows); !reflect.DeepEqual(got, want) {
		t.Errorf("%s", got)
	}
	const meta = `"bundle_seq":7,"source_id":"src","source_bundle_id":3,"row_count":2,"bundle_hash":"h"`
	answers := map[string]func(named string) error{
		"staging": func(named string) error {
			got, err := uniform{}.DecodeCreatePush([]byte(`{"push_id":"11111111-1111-4111-8111-111111111111","status":"staging","planned_row_count":2,"next_expected_row_ordinal":0`+named+`}`), r, "src")
			if err == nil && (got.PushID == "" || got.AlreadyCommitted) {
				t.Errorf("%+v", got)
			}
			return err
		},
		"already committed": func(named string) error {
			got, err := uniform{}.DecodeCreatePush([]byte(`{"status":"already_committed",`+meta+named+`}`), r, "src")
			if err == nil && (!got.AlreadyCommitted || got.Committed.RequestHash != hash) {
				t.Errorf("%+v", got)
			}
			return err
		},
		"commit": func(named string) error {
			got, err := uniform{}.DecodeCommit([]byte(`{`+meta+named+`}`), r, "src")
			if err == nil && (got.Seq != 7 || got.RequestHash != hash) {
				t.Errorf("%+v", got)
			}
			return err
		},
		"rows": func(named string) error {
			_, err := uniform{}.DecodeCommittedRows([]byte(`{`+meta+named+`,"rows":[{"schema":"m","table":"t","key":{"id":"1"},"op":"DELETE","row_version":7}],"next_row_ordinal":0,"has_more":true}`),
				CommittedRowsRequest{Bundle: BundleMeta{Seq: 7, RowCount: -1, RequestHash: hash}, After: -1})
			return err
		},
	}
	for name, decode := range answers {
		if err := decode(`,"canonical_request_hash":"` + hash + `"`); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var changed *ContractChangedError
		if err := decode(``); !errors.As(err, &changed) || changed.Found != ClassicContract {
			t.Errorf("%s without a hash: %v", name, err)
		}
		var mismatch *RequestHashError
		if err := decode(`,"canonical_request_hash":"` + other + `"`); !errors.As(err, &mismatch) || mismatch.Sent != hash || mismatch.Named != other || mismatch.Retryable() || mismatch.Error() == "" {
			t.Errorf("%s with another hash: %v", name, err)
		}
		for _, bad := range []string{`"AA"`, `"` + strings.ToUpper(hash) + `"`, `null`, `""`} {
			wantProtocolError(t, decode(`,"canonical_request_hash":`+bad), "canonical_request_hash")
		}
	}
	_, err := uniform{}.DecodeCreatePush([]byte(`{"push_id":"P1","status":"staging","canonical_request_hash":"`+hash+`"}`), r, "src")
	wantProtocolError(t, err, "push_id")
	if err := (uniform{}).DecodePushChunk([]byte(`{"push_id":"p","next_expected_row_ordinal":2}`), "p", 2); err != nil {
		t.Error(err)
	}
}

func TestUniformPullAndConnect(t *testing.T) {
	t.Parallel()
	const good = `{"stable_bundle_seq":1,"bundles":[{"bundle_seq":1,"source_id":"a:b","source_bundle_id":1,"rows":[{"schema":"m","table":"t","key":{"id":"1"},"op":"INSERT","row_version":1,"payload":{"id":"1"}}]}],"has_more":false}`
	if page, err := (uniform{}).DecodePull([]byte(good), PullRequest{}); err != nil || len(page.Bundles) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	for old, replacement := range map[string]string{
		`"a:b"`: `"a b"`, `"source_bundle_id":1`: `"source_bundle_id":0`, `{"id":"1"},"op"`: `{"id":""},"op"`, `"payload":{"id":"1"}`: `"payload":{"id":"1","_sync_scope_id":"x"}`,
		`"payload":{"id":"1"`: `"payload":{"id":"1","id":"2"`, `"row_version":1,"payload":{"id":"1"}`: `"row_version":1,"payload":null`, `"source_id":"a:b"`: `"source_id":"\u00e9"`,
	} {
		_, err := uniform{}.DecodePull([]byte(strings.Replace(good, old, replacement, 1)), PullRequest{})
		var refused *ProtocolError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", replacement, err)
		}
	}
	const id = "22222222-2222-4222-8222-222222222222"
	for body, ok := range map[string]bool{
		`{"resolution":"initialize_local","initialization_id":"` + id + `"}`:     true,
		`{"resolution":"initialize_local","initialization_id":"lease"}`:          false,
		`{"resolution":"initialize_local"}`:                                      false,
		`{"resolution":"initialize_empty"}`:                                      true,
		`{"resolution":"initialize_empty","initialization_id":"` + id + `"}`:     false,
		`{"resolution":"retry_later","retry_after_seconds":7}`:                   true,
		`{"resolution":"remote_authoritative","initialization_id":"` + id + `"}`: false,
	} {
		if r, err := (uniform{}).DecodeConnect([]byte(body)); (err == nil) != ok {
			t.Errorf("%s: %+v, %v", body, r, err)
		}
	}
	if r, err := (classic{}).DecodeConnect([]byte(`{"resolution":"initialize_empty","initialization_id":"x"}`)); err != nil || r.InitializationID != "" {
		t.Errorf("classic: %+v, %v", r, err)
	}
}
