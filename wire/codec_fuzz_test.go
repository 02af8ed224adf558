package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var keySeeds = []string{`{"id":"a"}`, `{"id":""}`, `{"id":"\u0000"}`, `{"id":"a\"\\\u001f\u00e9é"}`, `{"id":5}`, `{"id":null}`, `{"id":["blob","00"]}`, `{"ID":"a"}`, `{"id":"a","id":"b"}`, `{}`, `[]`, ``,
	`{"id":"30313233343536373839616263646566"}`, `{"id":"3031323334353637383961626364656"}`, `{"id":"A0313233343536373839616263646566"}`, `{"id":" "}`, `{"id" : "a"} `, "{\"id\":\"\xff\"}", `{"id":"\ud800"}`, `{"a\"b":"x"}`}

// FuzzKeys: a local key becomes the wire key that says the same, or is refused for a reason that is true; and every wire key
// is the value that is bound, and the local key that SQLite prints, again.
func FuzzKeys(f *testing.F) {
	for _, s := range keySeeds {
		f.Add([]byte(s), "id")
		f.Add([]byte(s), `a"b`)
	}
	f.Fuzz(func(t *testing.T, local []byte, column string) {
		if !utf8.ValidString(column) {
			return // no database with such a name can be opened
		}
		for _, kind := range []Kind{KindText, KindUUIDBlob, KindBlob, KindInteger} {
			table := &Table{Schema: "m", Name: "t", Columns: []Column{{"x", KindReal}, {column, kind}}, Key: 1}
			key, err := WireKey(table, string(local))
			read, same, readErr := NewKeyReader(table).Read(local)
			if read != key || (readErr == nil) != (err == nil) || same != (err == nil && bytes.Equal(AppendWireKeyJSON(nil, key), local)) {
				t.Fatalf("%q: %+v, %v; a reader answers %+v, %v, %v", local, key, err, read, same, readErr)
			}
			want, reason := localKey(local, column, kind)
			var value *ValueError
			var form *LocalFormError
			switch {
			case err == nil && (reason != "" || key != (Key{column, want})):
				t.Fatalf("%q: %+v, want %q %s", local, key, want, reason)
			case errors.As(err, &value) && value.Reason != reason, err != nil && !errors.As(err, &value) && (!errors.As(err, &form) || reason != "form"):
				t.Fatalf("%q: %v, want %s", local, err, reason)
			}
			if err == nil {
				keyEverywhere(t, table, key)
			}
		}
	})
}

// localKey reads a local key in the plainest way; reason says why it cannot travel, "form" that it is no local key.
func localKey(local []byte, column string, kind Kind) (text, reason string) {
	n, ok := item{}, json.Valid(local) && !loneSurrogate(local)
	if ok {
		n = grow(bytes.TrimSpace(local))
	}
	if !ok || n.kind != '{' || len(n.names) != 1 || n.nesting > maxDepth {
		return "", "form"
	}
	if n.values[0].kind != '"' {
		return "", "storage_class"
	}
	raw := n.values[0].raw
	if n.names[0] != column || utf8.Valid(local) != utf8.Valid(raw) {
		return "", "form"
	}
	text = n.values[0].text
	id, err := hex.DecodeString(text)
	switch {
	case kind == KindInteger:
		return "", "storage_class"
	case kind != KindText && (err != nil || len(id) != 16):
		return "", "not_a_uuid"
	case kind != KindText:
		h := hex.EncodeToString(id)
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], ""
	case strings.ContainsRune(text, 0):
		return "", "nul_in_text"
	case !utf8.Valid(raw):
		return "", "invalid_utf8"
	}
	return text, ""
}

// keyEverywhere takes a wire key to everywhere it goes.
func keyEverywhere(t *testing.T, table *Table, key Key) {
	t.Helper()
	stored := string(AppendWireKeyJSON(nil, key))
	if back, err := ParseWireKeyJSON(stored); err != nil || back != key {
		t.Fatalf("%+v is stored as %s and comes back as %+v, %v", key, stored, back, err)
	}
	var members map[string]string
	if err := json.Unmarshal([]byte(stored), &members); err != nil || len(members) != 1 || members[key.Column] != key.Value {
		t.Fatalf("%+v is stored as %s", key, stored)
	}
	row := `{"stable_bundle_seq":1,"bundles":[{"bundle_seq":1,"source_id":"s","source_bundle_id":1,"rows":[{"schema":"m","table":"t","op":"DELETE","row_version":1,"key":` + stored + `}]}]}`
	for _, c := range contracts {
		page, err := c.DecodePull([]byte(row), PullRequest{})
		fit := key.Column != "" && (c.Name() == ClassicContract || strings.TrimSpace(key.Value) != "" && !strings.EqualFold(key.Column, hiddenColumn))
		if (err == nil) != fit || fit && page.Bundles[0].Rows[0].Key != key {
			t.Fatalf("%s: %+v, %v", row, page, err)
		}
	}
	value, err := KeyValue(table, key)
	if err != nil {
		t.Fatalf("%+v: %v", key, err)
	}
	content := value.Bytes
	if value.Type == Blob {
		content = []byte(hex.EncodeToString(value.Bytes))
	}
	printed := string(append(append([]byte{'{'}, appendString(append(appendString(nil, key.Column), ':'), content)...), '}'))
	if got, ok := LocalKeyJSON(table, value.Bytes); ok && got != printed {
		t.Fatalf("%+v is %s here, want %s", key, got, printed)
	}
	if again, err := WireKey(table, printed); err != nil || again != key {
		t.Fatalf("%+v is %s here and %+v there, %v", key, printed, again, err)
	}
}

var everyKind = &Table{Schema: "m", Name: "t", Columns: []Column{{"t", KindText}, {"i", KindInteger}, {"r", KindReal}, {"b", KindBlob}, {"u", KindUUIDBlob}}}

var (
	canonicalInteger = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	anyUUID          = regexp.MustCompile(`(?i)^(urn:uuid:)?(\{?)([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})(\}?)$`)
	bareUUID         = regexp.MustCompile(`(?i)^[0-9a-f]{32}$`)
)

// wireValue is the second reading of a value of a payload.
func (r *reader) wireValue(kind Kind, n item) (v Value) {
	bytesOf := func(b []byte, err error) {
		r.wrong(err != nil)
		v = Value{Type: Blob, Bytes: b}
	}
	switch {
	case n.kind == 'n':
		return Value{}
	case kind == KindInteger && (n.kind == 't' || n.kind == 'f'):
		v = Value{Type: Integer}
		if n.kind == 't' {
			v.Int = 1
		}
	case r.uniform && n.kind != '"', !r.uniform && (kind == KindInteger || kind == KindReal) != (n.kind == '0') || n.kind != '0' && n.kind != '"':
		r.bad = true
	case kind == KindText:
		v = Value{Type: Text, Bytes: []byte(n.text)}
	case kind == KindInteger && r.uniform:
		i, err := strconv.ParseInt(n.text, 10, 64)
		r.wrong(err != nil || !canonicalInteger.MatchString(n.text))
		v = Value{Type: Integer, Int: i}
	case kind == KindInteger:
		_, exponent, _ := strings.Cut(strings.ToLower(n.text), "e")
		if len(strings.TrimLeft(exponent, "+-0")) > 3 {
			r.bad = strings.Trim(strings.ToLower(n.text)[:len(n.text)-len(exponent)], "-0.e") != ""
			return Value{Type: Integer}
		}
		q, _ := new(big.Rat).SetString(n.text)
		r.wrong(!q.IsInt() || !q.Num().IsInt64())
		v = Value{Type: Integer, Int: q.Num().Int64()}
	case kind == KindReal:
		x, err := strconv.ParseFloat(n.text, 64)
		r.wrong(err != nil)
		v = Value{Type: Real, Float: x}
		if r.uniform && !r.bad {
			canonical, err := json.Marshal(x + 0) // −0 + 0 is 0
			r.wrong(err != nil || string(canonical) != n.text)
		}
	case r.uniform && kind == KindBlob:
		bytesOf(base64.StdEncoding.Strict().DecodeString(n.text))
		r.wrong(base64.StdEncoding.EncodeToString(v.Bytes) != n.text)
	case r.uniform:
		r.wrong(!uuidForm.MatchString(n.text))
		bytesOf(hex.DecodeString(strings.ReplaceAll(n.text, "-", "")))
	default:
		m := anyUUID.FindStringSubmatch(n.text)
		switch {
		case kind == KindUUIDBlob && m != nil && (m[2] == "{") == (m[8] == "}") && !(m[1] != "" && m[2] != ""):
			bytesOf(hex.DecodeString(strings.Join(m[3:8], "")))
		case kind == KindUUIDBlob && bareUUID.MatchString(n.text):
			bytesOf(hex.DecodeString(n.text))
		case len(n.text)%4 == 0:
			bytesOf(base64.StdEncoding.DecodeString(n.text))
		default:
			bytesOf(base64.RawStdEncoding.DecodeString(n.text))
		}
		r.wrong(kind == KindUUIDBlob && len(v.Bytes) != 16)
	}
	return v
}

// payloadValues is the second reading of a payload.
func (r *reader) payloadValues(n item) []Value {
	row := make([]Value, len(everyKind.Columns))
	had := make([]int, len(row))
	for i, name := range n.names {
		known := false
		for c, column := range everyKind.Columns {
			if name == column.Name || r.uniform && string(lowerASCII(name)) == column.Name {
				row[c] = r.wireValue(column.Kind, n.values[i])
				had[c]++
				known = true
			}
		}
		r.wrong(r.uniform && !known)
	}
	for _, times := range had {
		r.wrong(times != 1)
	}
	return row
}

// carried reports whether a contract can carry a value exactly.
func carried(c Contract, kind Kind, v Value) bool {
	safe := c.Name() == UniformContract || v.Int >= -maxSafeInteger && v.Int <= maxSafeInteger
	switch {
	case v.Type == Null:
		return true
	case kind == KindInteger:
		return v.Type == Integer && safe
	case kind == KindReal:
		return v.Type == Real && !math.IsInf(v.Float, 0) || v.Type == Integer && safe && exactAsFloat(v.Int)
	case kind == KindText:
		return v.Type == Text && utf8.Valid(v.Bytes) && !bytes.ContainsRune(v.Bytes, 0)
	case kind == KindUUIDBlob:
		return v.Type == Blob && len(v.Bytes) == 16
	}
	return v.Type == Blob
}

// sendable sends a row by a contract, and fetches it again.
func sendable(t *testing.T, c Contract, row []Value) (payload []byte) {
	t.Helper()
	fit := true
	want := append([]Value{}, row...)
	for i, column := range everyKind.Columns {
		fit = fit && carried(c, column.Kind, row[i])
		want[i].Bytes = bytes.Clone(row[i].Bytes)
		if column.Kind == KindReal && row[i].Type == Integer {
			want[i] = Value{Type: Real, Float: float64(row[i].Int)}
		}
	}
	payload, err := c.AppendPayload([]byte("kept"), everyKind, row)
	var value *ValueError
	if !fit {
		if !errors.As(err, &value) || string(payload) != "kept" {
			t.Fatalf("%s: %+v: %v, %q", c.Name(), row, err, payload)
		}
		return nil
	}
	if err != nil || !bytes.HasPrefix(payload, []byte("kept")) {
		t.Fatalf("%s: %+v: %v", c.Name(), row, err)
	}
	payload = payload[len("kept"):]
	got, err := c.NewRowDecoder(everyKind).Decode(payload)
	if err != nil || !SameValues(got, want) {
		t.Fatalf("%s: %+v goes as %s and comes as %+v, %v", c.Name(), want, payload, got, err)
	}
	if !c.LosslessPayload(everyKind, payload) {
		t.Fatalf("%s: %s is not lossless", c.Name(), payload)
	}
	return payload
}

// FuzzPayload: what a server sends of a row is read as the rules have it, and is the same when it is sent again.
func FuzzPayload(f *testing.F) {
	for _, s := range append(jsonSeeds,
		`{"t":"a","i":1,"r":1.5,"b":"AAEC","u":"`+someUUID+`"}`, `{"t":"a","i":"1","r":"1.5","b":"AAEC","u":"`+someUUID+`"}`, `{"t":null,"i":null,"r":null,"b":null,"u":null}`,
		`{"t":"a","i":"1","r":"1.5","b":"AAEC","u":"`+strings.ToUpper(someUUID)+`"}`, `{"t":"a","i":"01","r":"1.0","b":"AAE","u":null}`,
		`{"t":"é\u0000\ud83d\ude00","i":12.50e1,"r":-0,"b":"3q2+7w","u":"{550E8400-E29B-41D4-A716-446655440000}","new":{"a":1,"a":2}}`,
		`{"T":"a","i":true,"r":"5e-324","b":"","u":null}`, `{"t":"a","i":"-9223372036854775808","r":"1e+21","b":"3q2+7w==","u":null}`, `{"t":"a","i":9007199254740993,"r":1e308,"b":"\r\n","u":"urn:uuid:`+someUUID+`"}`,
		`{"t":"a","i":1,"r":1,"b":"","u":"VQ6EAOKbQdSnFkRmVUQAAA=="}`, `{"t":"a","t":"b","i":1,"r":1,"b":"","u":null}`, `{"t":1,"i":"x","r":true,"b":[],"u":{}}`) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range contracts {
			r, n := read(body, c)
			want := r.payloadValues(n)
			got, err := c.NewRowDecoder(everyKind).Decode(body)
			if !agree(t, body, string(c.Name()), r, err) {
				continue
			}
			if !SameValues(got, want) {
				t.Fatalf("%q is %+v, want %+v", body, got, want)
			}
			again := sendable(t, c, got)
			if again == nil {
				continue
			}
			if same, err := c.SameImage(everyKind, again, body); err != nil || !same {
				t.Fatalf("%q was sent as %s: %v", body, again, err)
			}
			// A row that differs in one value is another one.
			want[0] = Value{Type: Text, Bytes: append(bytes.Clone(want[0].Bytes), '!')}
			if other := sendable(t, c, want); other != nil {
				if same, err := c.SameImage(everyKind, again, other); err != nil || same {
					t.Fatalf("%s and %s: %v", again, other, err)
				}
			}
		}
	})
}

// FuzzLocalPayload: what is stored of a row comes back as it was, and goes to servers of both contracts exactly or not at all.
func FuzzLocalPayload(f *testing.F) {
	for _, s := range append(jsonSeeds,
		`{"t":"a","i":"1","r":"1.5","b":"00ff","u":"30313233343536373839616263646566"}`, `{"t":null,"i":null,"r":null,"b":null,"u":null}`, `{"t":5,"i":1.5,"r":7,"b":1,"u":["text","a"]}`,
		`{"t":["blob","00ff"],"i":"many","r":"high","b":["text","é"],"u":"00"}`, `{"t":"\u0000","i":true,"r":"Inf","b":"","u":"30313233343536373839616263646566"}`,
		`{"t":9.0e+999,"i":"-0","r":"-9.0e+999","b":"","u":null}`, `{"t":"a","i":"9223372036854775807","r":9007199254740993,"b":"AB","u":null}`, "{\"t\":\"\xff\",\"i\":\"0x1\",\"r\":\"1e5\",\"b\":\"\",\"u\":null,\"gone\":[{}]}") {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, local []byte) {
		row, err := NewLocalDecoder(everyKind).Decode(local)
		if err != nil {
			var form *LocalFormError
			if !errors.As(err, &form) {
				t.Fatalf("%q: %T", local, err)
			}
			return
		}
		if !json.Valid(local) {
			t.Fatalf("%q is taken", local)
		}
		n := grow(bytes.TrimSpace(local))
		for i, column := range everyKind.Columns {
			text, number := n.last(column.Name, '"'), n.last(column.Name, '0')
			if text.kind == '"' && utf8.Valid(text.raw) && !localText(column.Kind, row[i], text.text) || number.kind == '0' && !localNumber(row[i], number.text) {
				t.Fatalf("%q: %s is %+v", local, column.Name, row[i])
			}
		}
		form := AppendLocal(nil, everyKind, row)
		kept := append([]Value{}, row...)
		for i := range kept {
			kept[i].Bytes = bytes.Clone(kept[i].Bytes)
		}
		again, err := NewLocalDecoder(everyKind).Decode(form)
		if err != nil || !SameValues(again, kept) {
			t.Fatalf("%q is %+v, is stored as %s and comes back as %+v, %v", local, kept, form, again, err)
		}
		if same, err := SameLocal(everyKind, local, form); err != nil || !same {
			t.Fatalf("%q and %s: %v, %v", local, form, same, err)
		}
		for _, c := range contracts {
			sendable(t, c, kept)
		}
	})
}

// localText reports whether v is what a string stands for in a column of the kind.
func localText(kind Kind, v Value, text string) bool {
	switch v.Type {
	case Text:
		return string(v.Bytes) == text && kind <= KindReal
	case Integer:
		return kind == KindInteger && strconv.FormatInt(v.Int, 10) == text
	case Real:
		x, err := strconv.ParseFloat(text, 64)
		return kind != KindText && (x == v.Float || err != nil && math.IsInf(v.Float, 0))
	case Blob:
		return kind >= KindBlob && strings.EqualFold(hex.EncodeToString(v.Bytes), text)
	}
	return false
}

// localNumber reports whether v is exactly what a bare number stands for: an integer of 64 bits is never rounded.
func localNumber(v Value, text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	x, _ := strconv.ParseFloat(text, 64)
	switch {
	case v.Type == Integer:
		return err == nil && v.Int == n
	case v.Type != Real || v.Float != x:
		return false
	}
	return err != nil || int64(x) == n && exactAsFloat(n)
}
