package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// The fuzz tests of responses compare the decoders with a second reading of the same bytes, in the plainest form there is: a
// tree made by encoding/json, and the rules of the protocol looked up in it one by one.

// item is a value of a document.
type item struct {
	kind    byte   // { [ " 0 t f n
	text    string // of a string, decoded; of a number, as written
	raw     []byte
	names   []string // of an object, in order, doubles included
	values  []item   // of an object or an array
	nesting int
}

// tree reads a document; false for one that no decoder may take, whatever it says.
func tree(body []byte) (item, bool) {
	if !json.Valid(body) || !utf8.Valid(body) || loneSurrogate(body) {
		return item{}, false
	}
	n := grow(bytes.TrimSpace(body))
	return n, n.nesting <= maxDepth
}

func grow(raw []byte) item {
	n := item{kind: raw[0], raw: raw}
	switch raw[0] {
	case '{', '[':
		d := json.NewDecoder(bytes.NewReader(raw))
		_, _ = d.Token()
		for d.More() {
			if n.kind == '{' {
				name, _ := d.Token()
				n.names = append(n.names, name.(string))
			}
			var value json.RawMessage
			_ = d.Decode(&value)
			n.values = append(n.values, grow(value))
			n.nesting = max(n.nesting, n.values[len(n.values)-1].nesting)
		}
		n.nesting++
	case '"':
		_ = json.Unmarshal(raw, &n.text)
	case 't', 'f', 'n':
	default:
		n.kind, n.text = '0', string(raw)
	}
	return n
}

// loneSurrogate finds half of a character in valid JSON.
func loneSurrogate(body []byte) bool {
	high := false // the last escape was the first half
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			if high {
				return true
			}
			continue
		}
		i++
		if body[i] != 'u' {
			if high {
				return true
			}
			continue
		}
		r, _ := strconv.ParseUint(string(body[i+1:i+5]), 16, 16)
		i += 4
		switch low := r >= 0xDC00 && r < 0xE000; {
		case low != high:
			return true
		default:
			high = r >= 0xD800 && r < 0xDC00
		}
	}
	return high
}

// unique reports whether no object in n has a member twice.
func (n *item) unique() bool {
	seen := map[string]bool{}
	for _, name := range n.names {
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	for i := range n.values {
		if !n.values[i].unique() {
			return false
		}
	}
	return true
}

// reader looks members up and notes what no decoder may take.
type reader struct {
	uniform, strict bool
	bad             bool
}

func (r *reader) wrong(is bool) { r.bad = r.bad || is }

// member finds a member that must not come twice. A null is as good as none, where nothing is strict.
func (r *reader) member(n item, name string) (found item, ok bool) {
	for i := range n.names {
		if n.names[i] == name {
			r.wrong(ok)
			found, ok = n.values[i], true
		}
	}
	r.wrong(ok && found.kind == 'n' && r.strict)
	return found, ok && found.kind != 'n'
}

func (r *reader) has(n item, name string) bool { return slices.Contains(n.names, name) }

func (r *reader) string(n item, name string) string {
	v, ok := r.member(n, name)
	r.wrong(ok && v.kind != '"')
	return v.text
}

func (r *reader) int(n item, name string, otherwise int64) int64 {
	v, ok := r.member(n, name)
	if !ok {
		return otherwise
	}
	i, err := strconv.ParseInt(v.text, 10, 64)
	r.wrong(v.kind != '0' || err != nil)
	return i
}

func (r *reader) bool(n item, name string) bool {
	v, ok := r.member(n, name)
	r.wrong(ok && v.kind != 't' && v.kind != 'f')
	return v.kind == 't'
}

func (r *reader) list(n item, name string) []item {
	v, ok := r.member(n, name)
	r.wrong(ok && v.kind != '[')
	return v.values
}

func (r *reader) key(n item) Key {
	v, ok := r.member(n, "key")
	if !ok {
		return Key{}
	}
	if v.kind != '{' || len(v.names) != 1 || v.values[0].kind != '"' {
		r.bad = true
		return Key{}
	}
	k := Key{v.names[0], v.values[0].text}
	r.wrong(r.uniform && (strings.TrimSpace(k.Value) == "" || strings.EqualFold(k.Column, "_sync_scope_id")))
	return k
}

// payload is the text of a row; nil for none.
func (r *reader) payload(n item, name string) []byte {
	v, ok := r.member(n, name)
	if !ok {
		return nil
	}
	r.wrong(v.kind != '{')
	if r.uniform {
		r.wrong(!v.unique())
		for _, column := range v.names {
			r.wrong(len(column) == len("_sync_scope_id") && strings.EqualFold(column, "_sync_scope_id"))
		}
	}
	return v.raw
}

func (r *reader) row(n item, snapshot bool) Row {
	r.wrong(n.kind != '{')
	row := Row{Schema: r.string(n, "schema"), Table: r.string(n, "table"), Key: r.key(n), Op: OpInsert, RowVersion: r.int(n, "row_version", 0), Payload: r.payload(n, "payload")}
	if !snapshot {
		row.Op = Op(r.string(n, "op"))
	} else {
		r.member(n, "op") // not twice
	}
	if row.Op == OpDelete {
		row.Payload = nil
	} else {
		r.wrong(row.Payload == nil)
	}
	r.wrong(row.Op != OpInsert && row.Op != OpUpdate && row.Op != OpDelete)
	r.wrong(row.Schema == "" || row.Table == "" || row.Key.Column == "" || row.RowVersion <= 0)
	return row
}

func (r *reader) rows(n item, snapshot bool) (rows []Row) {
	for _, v := range r.list(n, "rows") {
		rows = append(rows, r.row(v, snapshot))
	}
	return rows
}

// meta is what a bundle says of itself, unchecked.
func (r *reader) meta(n item) BundleMeta {
	return BundleMeta{
		Seq: r.int(n, "bundle_seq", 0), SourceID: r.string(n, "source_id"), SourceBundleID: r.int(n, "source_bundle_id", 0),
		RowCount: r.int(n, "row_count", -1), Hash: r.string(n, "bundle_hash"), RequestHash: r.string(n, "canonical_request_hash"),
	}
}

func (r *reader) check(m BundleMeta) {
	r.wrong(m.Seq <= 0 || m.SourceID == "" || m.SourceBundleID < 0 || m.RowCount < -1)
}

// read is a whole document, read by the rules of a contract.
func read(body []byte, c Contract) (*reader, item) {
	r := &reader{uniform: c.Name() == UniformContract}
	n, ok := tree(body)
	r.bad = !ok || n.kind != '{'
	return r, n
}

// agree checks that a decoder takes what the second reading takes, and that what it refuses it refuses by a typed error.
func agree(t *testing.T, body []byte, what string, r *reader, err error) (taken bool) {
	t.Helper()
	if (err == nil) == r.bad {
		t.Fatalf("%s: %q: %v, by the second reading bad: %v", what, body, err, r.bad)
	}
	if err == nil {
		return true
	}
	var (
		protocol *ProtocolError
		behind   *StableBehindError
		hash     *RequestHashError
		contract *ContractChangedError
	)
	if !errors.As(err, &protocol) && !errors.As(err, &behind) && !errors.As(err, &hash) && !errors.As(err, &contract) {
		t.Fatalf("%s: %q: %T", what, body, err)
	}
	return false
}

func sameRows(t *testing.T, body []byte, got, want []Row) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b Row) bool {
		return a.Schema == b.Schema && a.Table == b.Table && a.Key == b.Key && a.Op == b.Op && a.RowVersion == b.RowVersion && bytes.Equal(a.Payload, b.Payload) && (a.Payload == nil) == (b.Payload == nil)
	}) {
		t.Fatalf("%q: rows %+v, want %+v", body, got, want)
	}
}

var someMember = regexp.MustCompile(`"[a-z_]+":("[^"]*"|-?[0-9]+|true|false|null|\[\]|\{\})`)

// variants are answers that differ from a good one in one member: it is missing, comes twice, or holds something else.
func variants(good string) []string {
	out := []string{good}
	for _, at := range someMember.FindAllStringSubmatchIndex(good, -1) {
		member, value := good[at[0]:at[1]], good[at[2]:at[3]]
		for _, other := range []string{`null`, `0`, `1`, `-1`, `9223372036854775807`, `9223372036854775808`, `1.0`, `true`, `false`, `""`, `" "`, `"x"`, `[]`, `{}`, value + `,` + member, value + `,"x":{"a":1,"a":2}`} {
			out = append(out, good[:at[2]]+other+good[at[3]:])
		}
		if without := good[:at[0]] + strings.TrimPrefix(good[at[1]:], ","); json.Valid([]byte(without)) {
			out = append(out, without)
		} else {
			out = append(out, strings.TrimSuffix(good[:at[0]], ",")+good[at[1]:])
		}
	}
	return out
}

// contracts are both dialects.
var contracts = []Contract{classic{}, uniform{}}
