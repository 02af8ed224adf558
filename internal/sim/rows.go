package sim

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The tables of a simulated application: a parent with children that go with it, a table that refers to itself, one with a
// unique column beside its key, and one with keys of 16 bytes. Together they have a column of every kind.
const schema = "shop"

const clientSchema = `
CREATE TABLE owners (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, score REAL);
CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, owner_id TEXT NOT NULL REFERENCES owners(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  name TEXT NOT NULL, qty INTEGER, data BLOB);
CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, parent_id TEXT REFERENCES nodes(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, name TEXT NOT NULL);
CREATE TABLE slots (id TEXT PRIMARY KEY NOT NULL, code TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE docs (id BLOB PRIMARY KEY NOT NULL, slot TEXT REFERENCES slots(id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED, name TEXT NOT NULL, flag INTEGER);
`

// poison is a quantity that the server refuses and the devices do not.
const poison = 666

// serverSchema is the same with the one rule more. Its indexes serve the cascades.
var serverSchema = strings.NewReplacer("qty INTEGER,", "qty INTEGER CHECK (qty IS NOT 666),", "flag INTEGER", "flag BOOLEAN").Replace(clientSchema)

// column is a column as the rows of both sides are compared: by kind.
type column struct {
	name string
	kind byte // t text, n number, b bytes, k key of bytes, f flag
}

// tableInfo is a table of the schema. Each row has a token in its column name, by which every write of it is told from
// every other.
type tableInfo struct {
	name    string
	columns []column
	parent  map[string]string // column → table
}

var tables = []tableInfo{
	{"owners", []column{{"id", 't'}, {"name", 't'}, {"score", 'n'}}, nil},
	{"items", []column{{"id", 't'}, {"owner_id", 't'}, {"name", 't'}, {"qty", 'n'}, {"data", 'b'}}, map[string]string{"owner_id": "owners"}},
	{"nodes", []column{{"id", 't'}, {"parent_id", 't'}, {"name", 't'}}, map[string]string{"parent_id": "nodes"}},
	{"slots", []column{{"id", 't'}, {"code", 't'}, {"name", 't'}}, nil},
	{"docs", []column{{"id", 'k'}, {"slot", 't'}, {"name", 't'}, {"flag", 'f'}}, map[string]string{"slot": "slots"}},
}

// place names a row.
type place struct{ table, key string }

func (p place) String() string { return p.table + " " + p.key }

// places are the keys of a map in one order, so that the same thing is found each time.
func places[V any](of map[place]V) []place {
	return slices.SortedFunc(maps.Keys(of), func(a, b place) int { return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.key, b.key)) })
}

// row is a row in the spelling in which both sides are compared.
type row struct {
	text  string // all of it
	token string
	refs  []place // of the rows it refers to
}

func (t *tableInfo) find(name string) bool { return t.name == name }

func tableNamed(name string) *tableInfo {
	for i := range tables {
		if tables[i].find(name) {
			return &tables[i]
		}
	}
	fail("sim", "there is no table %q", name)
	return nil
}

// read takes a payload apart: in wire form, or else in local form.
func (t *tableInfo) read(payload []byte, wire bool) (place, row, error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var in map[string]any
	if err := d.Decode(&in); err != nil {
		return place{}, row{}, fmt.Errorf("%s: %w", payload, err)
	}
	p := place{table: t.name}
	var r row
	text := make([]byte, 0, 96)
	for _, c := range t.columns {
		v, ok := in[c.name]
		if !ok {
			return p, r, fmt.Errorf("%s: there is no %s", payload, c.name)
		}
		text = append(text, c.name...)
		if v == nil {
			text = append(text, " NULL "...)
			continue
		}
		s, err := spelled(c.kind, fmt.Sprint(v), wire)
		if err != nil {
			return p, r, fmt.Errorf("%s: %w", payload, err)
		}
		text = append(text, '=')
		text = strconv.AppendQuote(text, s)
		text = append(text, ' ')
		switch {
		case c.name == "id":
			p.key = s
		case c.name == "name":
			r.token = s
		case t.parent[c.name] != "":
			r.refs = append(r.refs, place{t.parent[c.name], s})
		}
	}
	r.text = string(text)
	return p, r, nil
}

// spelled brings a value into one spelling.
func spelled(kind byte, s string, wire bool) (string, error) {
	switch kind {
	case 'n':
		f, err := strconv.ParseFloat(s, 64)
		return strconv.FormatFloat(f, 'g', -1, 64), err
	case 'b':
		if !wire {
			return s, nil
		}
		b, err := base64.StdEncoding.DecodeString(s)
		return hex.EncodeToString(b), err
	case 'k':
		return strings.ReplaceAll(s, "-", ""), nil
	case 'f':
		switch s {
		case "true":
			return "1", nil
		case "false":
			return "0", nil
		}
	}
	return s, nil
}

func (r row) references() []place { return r.refs }

// rowsSQL reads all business rows in local form.
var rowsSQL = func() string {
	var parts []string
	for i := range tables {
		t := &tables[i]
		var cells []string
		for _, c := range t.columns {
			value := c.name
			switch c.kind {
			case 'n':
				if c.name == "score" {
					value = `printf('%!.17g', score)`
				} else {
					value = `CAST(` + c.name + ` AS TEXT)`
				}
				value = `iif(` + c.name + ` IS NULL, NULL, ` + value + `)`
			case 'b', 'k':
				value = `iif(` + c.name + ` IS NULL, NULL, lower(hex(` + c.name + `)))`
			case 'f':
				value = `CAST(` + c.name + ` AS TEXT)`
			}
			cells = append(cells, `'`+c.name+`', `+value)
		}
		parts = append(parts, `SELECT '`+t.name+`', json_object(`+strings.Join(cells, ", ")+`) FROM `+t.name)
	}
	return strings.Join(parts, " UNION ALL ")
}()

// dangling names a row whose parent is not there.
func dangling[R interface{ references() []place }](rows map[place]R) error {
	for _, p := range places(rows) {
		for _, ref := range rows[p].references() {
			if _, here := rows[ref]; !here {
				return fmt.Errorf("%s refers to %s, which is not here", p, ref)
			}
		}
	}
	return nil
}
