package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
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

// FuzzJCS: the canonical form says the same as the document, is its own canonical form, and its names are in order.
func FuzzJCS(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Add([]byte(`{"\ud83d\ude00":1,"\ufb33":2,"\u20ac":3,"1":4,"\r":5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := canonicaliser{dialect: jcsDialect}
		got, fault := c.append(nil, data)
		if fault != "" {
			return
		}
		var before, after map[string]any
		if err := json.Unmarshal(data, &before); err != nil {
			t.Fatalf("%q is taken: %v", data, err)
		}
		if err := json.Unmarshal(got, &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%q becomes %s, %v", data, got, err)
		}
		if again, fault := c.append(nil, got); fault != "" || !bytes.Equal(again, got) {
			t.Fatalf("the canonical form of %s is %s %s", got, again, fault)
		}
		s, last := scanner{b: got}, []uint16(nil)
		for name := range s.members {
			units := utf16.Encode([]rune(string(name)))
			if last != nil && slices.Compare(last, units) >= 0 {
				t.Fatalf("%q is out of order", got)
			}
			last = units
			s.skip()
		}
	})
}

// FuzzUniformValue: a spelling that is taken is the one that is written for the value, and for no other.
func FuzzUniformValue(f *testing.F) {
	for _, s := range []string{"1", "-0", "0", "1.0", "1e21", "1e+21", "5e-324", "9223372036854775807", "NaN", "AAEC", "3q2+7w==", "30313233-3435-3637-3839-616263646566", "0x1p-2", "1_0", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return
		}
		for kind := KindText; kind <= KindUUIDBlob; kind++ {
			table := &Table{Schema: "m", Name: "t", Columns: []Column{{"v", kind}}}
			payload := append(appendString([]byte(`{"v":`), text), '}')
			row, err := uniform{}.NewRowDecoder(table).Decode(payload)
			if err != nil {
				continue
			}
			if got, err := (uniform{}).AppendPayload(nil, table, row); err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("%q in a column of kind %d is %v and becomes %s, %v", text, kind, row, got, err)
			}
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
