package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

var (
	textKey    = &Table{Schema: "main", Name: "t", Columns: []Column{{"v", KindInteger}, {"id", KindText}}, Key: 1}
	blobKey    = &Table{Schema: "main", Name: "b", Columns: []Column{{"id", KindUUIDBlob}}}
	integerKey = &Table{Schema: "main", Name: "i", Columns: []Column{{"id", KindInteger}}}
)

// TestK11_WireKeys: a key that cannot travel is named, one that nobody could have written is a fault of the database.
func TestK11_WireKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		table  *Table
		local  string
		want   string
		reason string // of a *ValueError
		fault  string // of a *LocalFormError
	}{
		{textKey, `{"id":"a\"é\u0001"}`, "a\"é\x01", "", ""},
		{textKey, `{"id":""}`, "", "", ""},
		{textKey, `{"id":"plain"}`, "plain", "", ""},
		{textKey, `{"id":"é"}`, "é", "", ""},
		{textKey, `{"id":"\u0061"}`, "a", "", ""},
		{textKey, `{"id": "a"}`, "a", "", ""},
		{textKey, `{"id":"a\"}`, "", "", "a string without end"},
		{textKey, `{"id":"a\u0000"}`, "", "nul_in_text", ""},
		{textKey, "{\"id\":\"\xff\"}", "", "invalid_utf8", ""},
		{textKey, `{"id":5}`, "", "storage_class", ""},
		{textKey, `{"id":["blob","00"]}`, "", "storage_class", ""},
		{textKey, `{"id":null}`, "", "storage_class", ""},
		{textKey, `{"v":"a"}`, "", "", "another column"},
		{textKey, `{"id":"a","v":"b"}`, "", "", "more than one member"},
		{textKey, `{}`, "", "", "without a member"},
		{textKey, `"a"`, "", "", "not an object"},
		{textKey, `{"id":"a"}x`, "", "", "after the end"},
		{textKey, `{"id":`, "", "", "not a JSON value"},
		{textKey, ``, "", "", "not an object"},
		{blobKey, `{"id":"30313233343536373839616263646566"}`, "30313233-3435-3637-3839-616263646566", "", ""},
		{blobKey, `{"id":"3031323334353637383961626364656"}`, "", "not_a_uuid", ""},
		{blobKey, `{"id":"zz313233343536373839616263646566"}`, "", "not_a_uuid", ""},
		{blobKey, `{"id":""}`, "", "not_a_uuid", ""},
		{integerKey, `{"id":"5"}`, "", "storage_class", ""},
	} {
		key, err := WireKey(c.table, c.local)
		read, same, readErr := NewKeyReader(c.table).Read([]byte(c.local))
		if read != key || fmt.Sprint(readErr) != fmt.Sprint(err) || same != (err == nil && string(AppendWireKeyJSON(nil, key)) == c.local) {
			t.Errorf("%s: a reader answers %v, %v, %v", c.local, read, same, readErr)
		}
		var value *ValueError
		var form *LocalFormError
		switch {
		case c.reason != "":
			if !errors.As(err, &value) || value.Reason != c.reason || value.Column != "id" {
				t.Errorf("%s: %v", c.local, err)
			}
		case c.fault != "":
			if !errors.As(err, &form) || !strings.Contains(form.Reason, c.fault) {
				t.Errorf("%s: %v, want %s", c.local, err, c.fault)
			}
		case err != nil || key != (Key{"id", c.want}):
			t.Errorf("%s: %v, %v", c.local, key, err)
		}
	}
}

func TestKeyValue(t *testing.T) {
	t.Parallel()
	v, err := KeyValue(textKey, Key{"id", "a"})
	if err != nil || !sameExact(v, Value{Type: Text, Bytes: []byte("a")}) {
		t.Errorf("%v, %v", v, err)
	}
	for _, spelling := range []string{"30313233-3435-3637-3839-61626364656F", "30313233-3435-3637-3839-61626364656f"} {
		v, err = KeyValue(blobKey, Key{"id", spelling})
		if err != nil || !sameExact(v, Value{Type: Blob, Bytes: []byte("0123456789abcdeo")}) {
			t.Errorf("%v, %v", v, err)
		}
	}
	_, err = KeyValue(textKey, Key{"ID", "a"})
	wantProtocolError(t, err, "does not name the sync key column")
	_, err = KeyValue(blobKey, Key{"id", "a"})
	wantProtocolError(t, err, "no UUID")
	_, err = KeyValue(integerKey, Key{"id", "5"})
	wantProtocolError(t, err, "cannot be one")
}

func TestLocalKeyJSON(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		table *Table
		value string
		want  string // "": ask SQLite
	}{
		{textKey, "user-1", `{"id":"user-1"}`}, {textKey, long, `{"id":"` + long + `"}`}, {textKey, "<&'/>", `{"id":"<&'/>"}`}, {textKey, "", `{"id":""}`},
		{textKey, `a"`, ""}, {textKey, `a\`, ""}, {textKey, "é", ""}, {textKey, "\n", ""}, {textKey, "\x7f", ""},
		{blobKey, "\x00\xff", `{"id":"00ff"}`}, {integerKey, "5", ""},
		{&Table{Columns: []Column{{`i"d`, KindText}}}, "a", ""},
	} {
		if got, ok := LocalKeyJSON(c.table, []byte(c.value)); got != c.want || ok != (c.want != "") {
			t.Errorf("%q: %q, %v", c.value, got, ok)
		}
	}
}

func TestWireKeyJSON(t *testing.T) {
	t.Parallel()
	key := Key{"id", "a\"\n\u2028<"}
	text := string(AppendWireKeyJSON(nil, key))
	if text != "{\"id\":\"a\\\"\\n\u2028<\"}" {
		t.Error(text)
	}
	if back, err := ParseWireKeyJSON(text); err != nil || back != key {
		t.Errorf("%v, %v", back, err)
	}
	var form *LocalFormError
	for _, bad := range []string{``, `{}`, `{"id":1}`, `{"id":"a","b":"c"}`, "{\"id\":\"\xff\"}"} {
		if k, err := ParseWireKeyJSON(bad); !errors.As(err, &form) {
			t.Errorf("%s: %v, %v", bad, k, err)
		}
	}
}

func TestLocalDecoderFaults(t *testing.T) {
	t.Parallel()
	d := NewLocalDecoder(kindsTable)
	for body, fault := range map[string]string{
		`{"t":"a","i":"1","r":"1.0","b":"","u":null}`:             "",
		`{"t":"a","i":"1","r":"1.0","b":"","u":null,"gone":[{}]}`: "",
		`{"t":"a","i":"1","r":"1.0","b":""}`:                      "does not have the column",
		`{"t":"a","i":"1","r":"1.0","b":"","u":null,"i":"1"}`:     "twice",
		`{"t":"a","i":"1","r":"1.0","b":"3q2+","u":null}`:         "hexadecimal", // wire form is not local form
		`{"t":"a","i":"1","r":"1.0","b":"abc","u":null}`:          "hexadecimal",
		`{"t":"a","i":"1","r":"1.0","b":true,"u":null}`:           "boolean",
		`{"t":"a","i":["x","y"],"r":"1.0","b":"","u":null}`:       "no tagged value",
		`{"t":["blob","0"],"i":"1","r":"1.0","b":"","u":null}`:    "no tagged value",
		`{"t":["blob"],"i":"1","r":"1.0","b":"","u":null}`:        "no tagged value",
		`{"t":["blob","",""],"i":"1","r":"1.0","b":"","u":null}`:  "no tagged value",
		`{"t":{},"i":"1","r":"1.0","b":"","u":null}`:              "not a JSON value",
		`{"t":"a","i":"1","r":"1.0","b":"","u":null}}`:            "after the end",
		`{"t":"a" "i":"1"}`: "no comma",
		`{"t"}`:             "no colon", `{1:2}`: "not a string", `[]`: "not an object", ``: "not an object", `{"t":-}`: "not a JSON value", `{"t":[1]}`: "not a string",
		`{"t":1.}`: "digits after its point", `{"t":1e}`: "digits in its exponent", "{\"t\":\"\x01\"}": "control character", `{"t":"\q"}`: "bad escape", `{"t":"`: "without end",
	} {
		_, err := d.Decode([]byte(body))
		var form *LocalFormError
		if fault == "" && err != nil || fault != "" && (!errors.As(err, &form) || !strings.Contains(err.Error(), fault)) {
			t.Errorf("%s: %v, want %q", body, err, fault)
		}
	}
	if _, err := SameLocal(kindsTable, []byte(`{}`), []byte(`{"t":1}`)); err == nil {
		t.Error("a broken payload is the same as another")
	}
}

// TestSameLocal: reals by value, texts by byte, NULL like nothing else.
func TestSameLocal(t *testing.T) {
	t.Parallel()
	const row = `{"t":"a","i":"1","r":"0.1","b":"ff","u":null}`
	for _, c := range []struct {
		old, new string
		same     bool
	}{
		{`0.1`, `0.10000000000000001`, true}, {`"0.1"`, `0.1`, true}, {`0.1`, `0.10000000000000002`, false},
		{`"1"`, `1`, true}, {`"1"`, `"2"`, false}, {`"1"`, `null`, false}, {`"ff"`, `"FF"`, true}, {`"ff"`, `""`, false}, {`null`, `""`, false},
		{`"a"`, `"\u0061"`, true}, {`"a"`, `"A"`, false}, {`"a"`, `1`, false}, {`"ff"`, `["text","ÿ"]`, false},
	} {
		other := strings.Replace(row, c.old, c.new, 1)
		if same, err := SameLocal(kindsTable, []byte(row), []byte(other)); err != nil || same != c.same {
			t.Errorf("%s: %v, %v", other, same, err)
		}
	}
	if SameValues(make([]Value, 1), make([]Value, 2)) {
		t.Error("rows of different length are the same")
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		declared  string
		reference bool
		kind      Kind
	}{
		{"TEXT", false, KindText}, {"varchar(10)", true, KindText}, {"", false, KindText}, {"BOOLEAN", false, KindText}, {"DECIMAL(10,2)", false, KindText},
		{"BLOB", false, KindBlob}, {"blob", true, KindUUIDBlob}, {"BIGINT", false, KindInteger}, {"Real", false, KindReal},
		{"DOUBLE PRECISION", false, KindReal}, {"FLOATING POINT", false, KindReal},
	} {
		if got := KindOf(c.declared, c.reference); got != c.kind {
			t.Errorf("%s: %d", c.declared, got)
		}
	}
}
