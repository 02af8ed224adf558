package wire

import (
	"fmt"
	"math"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// sqliteTable is a real table of every kind with a trigger that captures rows the way the engine's triggers do.
type sqliteTable struct {
	*Table
	conn *sqlite3.Conn
}

func newSQLiteTable(t *testing.T) *sqliteTable {
	t.Helper()
	conn, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	table := &Table{Schema: "main", Name: "things"}
	var columns, members []string
	for i, declared := range []string{"TEXT", "NUMERIC", "INTEGER", "REAL", "FLOATING POINT", "BLOB", "BLOB"} {
		name := fmt.Sprintf("c%d", i)
		table.Columns = append(table.Columns, Column{name, KindOf(declared, i == 6)})
		columns = append(columns, name+" "+declared)
		members = append(members, "'"+name+"', "+LocalExpr(table.Columns[i].Kind, "NEW."+name))
	}
	err = conn.Exec(fmt.Sprintf(`CREATE TABLE things (%s); CREATE TABLE captured (payload TEXT);
		CREATE TRIGGER capture AFTER INSERT ON things BEGIN INSERT INTO captured VALUES (json_object(%s)); END`,
		strings.Join(columns, ", "), strings.Join(members, ", ")))
	if err != nil {
		t.Fatal(err)
	}
	return &sqliteTable{table, conn}
}

func bind(t *testing.T, s *sqlite3.Stmt, row []Value) {
	t.Helper()
	for i, v := range row {
		var err error
		switch v.Type {
		case Null:
			err = s.BindNull(i + 1)
		case Integer:
			err = s.BindInt64(i+1, v.Int)
		case Real:
			err = s.BindFloat(i+1, v.Float)
		case Text:
			err = s.BindRawText(i+1, v.Bytes)
		case Blob:
			err = s.BindBlob(i+1, v.Bytes)
			if len(v.Bytes) == 0 {
				err = s.BindZeroBlob(i+1, 0)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// insert stores a row and answers what the table then holds, after column affinity, and what the trigger captured.
func (q *sqliteTable) insert(t *testing.T, row []Value) (held []Value, captured []byte) {
	t.Helper()
	run := func(sql string, row []Value) *sqlite3.Stmt {
		s, _, err := q.conn.Prepare(sql)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		bind(t, s, row)
		if !s.Step() && s.Err() != nil {
			t.Fatalf("%s: %v", sql, s.Err())
		}
		return s
	}
	for _, table := range []string{"things", "captured"} {
		run("DELETE FROM "+table, nil).Close()
	}
	run("INSERT INTO things VALUES (?,?,?,?,?,?,?)", row).Close()
	s := run("SELECT * FROM things", nil)
	for i := range q.Columns {
		v := Value{}
		switch s.ColumnType(i) {
		case sqlite3.INTEGER:
			v = Value{Type: Integer, Int: s.ColumnInt64(i)}
		case sqlite3.FLOAT:
			v = Value{Type: Real, Float: s.ColumnFloat(i)}
		case sqlite3.TEXT:
			v = Value{Type: Text, Bytes: append([]byte{}, s.ColumnRawText(i)...)}
		case sqlite3.BLOB:
			v = Value{Type: Blob, Bytes: append([]byte{}, s.ColumnRawBlob(i)...)}
		}
		held = append(held, v)
	}
	s.Close()
	s = run("SELECT payload FROM captured", nil)
	captured = append(captured, s.ColumnRawText(0)...)
	s.Close()
	return held, captured
}

// anyValues are values of every storage class, with everything that makes trouble.
func anyValues(r *rand.Rand) []Value {
	values := []Value{
		{},
		{Type: Integer}, {Type: Integer, Int: 5}, {Type: Integer, Int: math.MaxInt64}, {Type: Integer, Int: math.MinInt64},
		{Type: Integer, Int: 1<<53 + 1}, {Type: Integer, Int: -1 << 53}, {Type: Integer, Int: int64(r.Uint64())},
		{Type: Real}, {Type: Real, Float: math.Copysign(0, -1)}, {Type: Real, Float: 1}, {Type: Real, Float: 0.1}, {Type: Real, Float: 49.47},
		{Type: Real, Float: 1e22}, {Type: Real, Float: 1e17}, {Type: Real, Float: 1e16}, {Type: Real, Float: 1e15}, {Type: Real, Float: 1.5e-4}, {Type: Real, Float: 1e-5},
		{Type: Real, Float: math.MaxFloat64}, {Type: Real, Float: math.SmallestNonzeroFloat64}, {Type: Real, Float: -math.Pi},
		{Type: Real, Float: math.Inf(1)}, {Type: Real, Float: math.Inf(-1)}, {Type: Real, Float: r.NormFloat64() * 1e6},
	}
	for _, text := range []string{"", "abc", "5", " 7 ", "1e3", "Inf", "text:x", `["blob","00"]`, "é\u2028😀", "quote\" back\\ <&> '", "a\x00b", "\x01\b\f\n\r\t\x1f\x7f", "\xff\xc0bad", "6162", "9223372036854775808"} {
		values = append(values, Value{Type: Text, Bytes: []byte(text)})
	}
	for _, blob := range []string{"", "abc", "5", "\x00\xff", "0123456789abcdef"} {
		values = append(values, Value{Type: Blob, Bytes: []byte(blob)})
	}
	if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) {
		values = append(values, Value{Type: Real, Float: f})
	}
	return values
}

func sameExact(a, b Value) bool { return a.equal(&b) }

// TestLocalFormIsExact puts every value into a column of every kind and reads the captured row back: what SQLite
// held comes out, storage class included, whether it fits the column's kind or not.
func TestLocalFormIsExact(t *testing.T) {
	t.Parallel()
	q := newSQLiteTable(t)
	r := rand.New(rand.NewSource(1))
	d := NewLocalDecoder(q.Table)
	for range 40 {
		for _, v := range anyValues(r) {
			row := make([]Value, len(q.Columns))
			for i := range row {
				row[i] = v
			}
			held, captured := q.insert(t, row)
			got, err := d.Decode(captured)
			if err != nil {
				t.Fatalf("%s: %v", captured, err)
			}
			for i := range held {
				want := held[i]
				if q.Columns[i].Kind == KindReal && want.Type == Integer && exactAsFloat(want.Int) {
					want = Value{Type: Real, Float: float64(want.Int)} // what it means; the affinity makes it an integer again
				}
				if q.Columns[i].Kind == KindInteger || q.Columns[i].Kind == KindReal {
					if want.Type == Text && string(want.Bytes) == "Inf" {
						continue // the one text that cannot be told from a real; neither can be sent
					}
				}
				if !sameExact(got[i], want) {
					t.Errorf("kind %d: SQLite held %v, decoded %v from %s", q.Columns[i].Kind, want, got[i], captured)
				}
			}
			// What the engine writes of the same row is the same text, the digits of reals apart.
			written := AppendLocal(nil, q.Table, held)
			real := slices.ContainsFunc(got, func(v Value) bool { return v.Type == Real })
			if !real && string(written) != string(captured) {
				t.Errorf("AppendLocal writes\n%s, the trigger\n%s", written, captured)
			}
			if same, err := SameLocal(q.Table, written, captured); err != nil || !same {
				t.Errorf("AppendLocal writes\n%s, the trigger\n%s: %v", written, captured, err)
			}
			// Whatever the contract takes is what was held; the rest is refused.
			payload, err := classic{}.AppendPayload(nil, q.Table, held)
			if err != nil {
				continue
			}
			back, err := classic{}.NewRowDecoder(q.Table).Decode(payload)
			if err != nil || !SameValues(back, got) {
				t.Errorf("%s travels as %s and comes back as %v: %v", captured, payload, back, err)
			}
		}
	}
}

// TestK8_RealsKeepAllTheirDigits checks the layout of simple reals byte by byte and random ones by value.
func TestK8_RealsKeepAllTheirDigits(t *testing.T) {
	t.Parallel()
	q := newSQLiteTable(t)
	s, _, err := q.conn.Prepare("SELECT printf('%!.17g', ?1)")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := rand.New(rand.NewSource(2))
	print := func(f float64) string {
		if err := s.BindFloat(1, f); err != nil {
			t.Fatal(err)
		}
		s.Step()
		text := s.ColumnText(0)
		s.Reset()
		return text
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1, -1, 0.5, 0.1, 1.25, 49.47, 123456789.125, 1e15, 1e16, 1e17, 1e22, 1.5e17, 1e-4, 1.5e-5, 2e-300, 1e100, math.Inf(1), math.Inf(-1)} {
		if got, want := string(appendSQLiteReal(nil, f)), print(f); got != want {
			t.Errorf("%v is %s, SQLite prints %s", f, got, want)
		}
	}
	differ := 0
	for range 50_000 {
		f := math.Float64frombits(r.Uint64())
		if math.IsNaN(f) {
			continue
		}
		want, got := print(f), string(appendSQLiteReal(nil, f))
		for _, text := range []string{want, got} {
			if back, ok := localReal([]byte(text)); !ok || back != f {
				t.Fatalf("%v reads back from %s as %v", f, text, back)
			}
		}
		if want != got {
			differ++
		}
	}
	t.Logf("%d of 50000 random reals have other last digits in SQLite", differ)
}

// TestPlainTriggerForms: payloads written without tags for odd storage classes, and by older clients, are read too.
func TestPlainTriggerForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind Kind
		text string
		want Value
	}{
		{KindInteger, `5`, Value{Type: Integer, Int: 5}},
		{KindInteger, `9223372036854775807`, Value{Type: Integer, Int: math.MaxInt64}},
		{KindInteger, `true`, Value{Type: Integer, Int: 1}},
		{KindInteger, `"abc"`, Value{Type: Text, Bytes: []byte("abc")}},
		{KindInteger, `"-0"`, Value{Type: Real, Float: 0}},
		{KindInteger, `1.5`, Value{Type: Real, Float: 1.5}},
		{KindReal, `1.5`, Value{Type: Real, Float: 1.5}},
		{KindReal, `3`, Value{Type: Real, Float: 3}},
		{KindReal, `9.0e+999`, Value{Type: Real, Float: math.Inf(1)}},
		{KindReal, `"-9.0e+999"`, Value{Type: Real, Float: math.Inf(-1)}},
		{KindReal, `"-Inf"`, Value{Type: Real, Float: math.Inf(-1)}},
		{KindText, `12`, Value{Type: Integer, Int: 12}},
		{KindBlob, `"DEadbeef"`, Value{Type: Blob, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}},
		{KindBlob, `""`, Value{Type: Blob}},
	} {
		table := &Table{Schema: "main", Name: "t", Columns: []Column{{"c", c.kind}}}
		got, err := NewLocalDecoder(table).Decode([]byte(`{"c":` + c.text + `}`))
		if err != nil || !sameExact(got[0], c.want) {
			t.Errorf("kind %d: %s is %v, %v; want %v", c.kind, c.text, got, err, c.want)
		}
	}
}

// TestKeysOfSQLite compares local keys made in Go with SQLite's own.
func TestKeysOfSQLite(t *testing.T) {
	t.Parallel()
	q := newSQLiteTable(t)
	s, _, err := q.conn.Prepare("SELECT json_object('id', ?1), json_object('id', lower(hex(?2)))")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	text := &Table{Schema: "main", Name: "t", Columns: []Column{{"id", KindText}}}
	blob := &Table{Schema: "main", Name: "t", Columns: []Column{{"id", KindUUIDBlob}}}
	made := 0
	for _, v := range anyValues(rand.New(rand.NewSource(3))) {
		if v.Type != Text && v.Type != Blob {
			continue
		}
		bind(t, s, []Value{{Type: Text, Bytes: v.Bytes}, {Type: Blob, Bytes: v.Bytes}})
		if !s.Step() {
			t.Fatal(s.Err())
		}
		for i, table := range []*Table{text, blob} {
			want := s.ColumnText(i)
			if got, ok := LocalKeyJSON(table, v.Bytes); ok {
				made++
				if got != want {
					t.Errorf("LocalKeyJSON answers %s, SQLite %s", got, want)
				}
			}
			key, err := WireKey(table, want)
			if err != nil {
				continue
			}
			back, err := KeyValue(table, key)
			if err != nil || string(back.Bytes) != string(v.Bytes) {
				t.Errorf("key %q comes back from %v as %v, %v", v.Bytes, key, back, err)
			}
			parsed, err := ParseWireKeyJSON(string(AppendWireKeyJSON(nil, key)))
			if err != nil || parsed != key {
				t.Errorf("wire key %v comes back as %v, %v", key, parsed, err)
			}
		}
		s.Reset()
	}
	if made < 10 {
		t.Errorf("only %d keys were made in Go", made)
	}
}
