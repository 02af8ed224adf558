package workload

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Place names a row: by its table, and its key as Table.Key spells it.
type Place struct{ Table, Key string }

// At is the place of a row, whichever side its key comes from.
func At(table, key string) Place {
	if t := Named(table); t != nil {
		key = t.Key(key)
	}
	return Place{Table: table, Key: key}
}

func (p Place) String() string { return p.Table + " " + p.Key }

// Shared reports whether everybody changes the row.
func (p Place) Shared() bool { return p.Table == "docs" || strings.HasPrefix(p.Key, "s-") }

// Of reports whether the row is one of a writer's own.
func (p Place) Of(who string) bool { return strings.HasPrefix(p.Key, who+"-") }

// Places are the keys of a map in one order, so that the same thing is found each time.
func Places[V any](of map[Place]V) []Place {
	return slices.SortedFunc(maps.Keys(of), func(a, b Place) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Key, b.Key)) })
}

// Row is a row in the spelling in which both sides are compared. The zero Row is none: every row has some text.
type Row struct {
	Text  string // all of it
	Token string
	refs  []Place // of the rows it refers to
}

func (r Row) String() string {
	if r.Text == "" {
		return "no row"
	}
	return r.Text
}

// References are the rows that a row refers to.
func (r Row) References() []Place { return r.refs }

// Key spells a key as places have it, whichever side it comes from.
func (t *Table) Key(key string) string {
	key, _ = spelled(t.columns[0].kind, key, true) // a key cannot be misspelled
	return key
}

// Read takes a payload apart: in wire form, or else in local form.
func (t *Table) Read(payload []byte, wire bool) (Place, Row, error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var in map[string]any
	if err := d.Decode(&in); err != nil {
		return Place{}, Row{}, fmt.Errorf("%s: %w", payload, err)
	}
	if len(in) != len(t.columns) {
		return Place{}, Row{}, fmt.Errorf("%s: that is no row of %s", payload, t.Name)
	}
	p := Place{Table: t.Name}
	var r Row
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
			p.Key = s
		case c.name == "name":
			r.Token = s
		case t.parent[c.name] != "":
			r.refs = append(r.refs, Place{t.parent[c.name], s})
		}
	}
	r.Text = string(text)
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

// RowsSQL reads all business rows in local form: their tables and payloads.
var RowsSQL = func() string {
	var parts []string
	for i := range Tables {
		t := &Tables[i]
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
		parts = append(parts, `SELECT '`+t.Name+`', json_object(`+strings.Join(cells, ", ")+`) FROM `+t.Name)
	}
	return strings.Join(parts, " UNION ALL ")
}()

// Rows reads all business rows of a client.
func Rows(from interface {
	Query(query string, args ...any) (*sql.Rows, error)
}) (map[Place]Row, error) {
	found, err := from.Query(RowsSQL)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	out := map[Place]Row{}
	for found.Next() {
		var table, payload string
		if err := found.Scan(&table, &payload); err != nil {
			return nil, err
		}
		p, r, err := Named(table).Read([]byte(payload), false)
		if err != nil {
			return nil, err
		}
		out[p] = r
	}
	return out, found.Err()
}

// Dangling names a row whose parent is not there.
func Dangling[R interface{ References() []Place }](rows map[Place]R) error {
	for _, p := range Places(rows) {
		for _, ref := range rows[p].References() {
			if _, here := rows[ref]; !here {
				return fmt.Errorf("%s refers to %s, which is not here", p, ref)
			}
		}
	}
	return nil
}
