package wire

import (
	"bytes"
	"math"
	"strconv"
)

// The local form of a row is a JSON object with every column in table order, as the capture triggers write it:
//
//	text     the JSON string
//	integer  a string of decimal digits
//	real     a string as printf('%!.17g') prints it: "1.5", "1.0e+22", "Inf"
//	blob     a string of lower-case hexadecimal digits
//
// SQLite lets a column hold a storage class that is not its kind's. Such a value is written so that it can neither
// be lost nor be mistaken for one of the kind: a number in a text or blob column is a JSON number, text in an
// integer or real column is its own string (never numeric, because of the column's affinity), and the rest is tagged: ["blob","6162"],
// ["text","ab"].

// LocalExpr returns the SQL expression that spells a column of the kind in local form, to be used as a value of
// json_object. column is a reference in SQL, quoted where needed, such as NEW."name".
func LocalExpr(kind Kind, column string) string {
	blob := " WHEN 'blob' THEN json_array('blob', lower(hex(" + column + ")))"
	head := "CASE typeof(" + column + ")"
	switch kind {
	case KindInteger:
		return head + " WHEN 'integer' THEN CAST(" + column + " AS TEXT) WHEN 'real' THEN printf('%!.17g', " + column + ")" + blob + " ELSE " + column + " END"
	case KindReal:
		// A type such as FLOATING POINT has integer affinity: it holds 1.0 as 1.
		return head + " WHEN 'real' THEN printf('%!.17g', " + column + ") WHEN 'integer' THEN CASE WHEN " + column +
			" BETWEEN -9007199254740992 AND 9007199254740992 THEN printf('%!.17g', " + column + ") ELSE " + column + " END" + blob + " ELSE " + column + " END"
	case KindBlob, KindUUIDBlob:
		return head + " WHEN 'blob' THEN lower(hex(" + column + ")) WHEN 'text' THEN json_array('text', " + column + ") ELSE " + column + " END"
	default:
		return head + blob + " ELSE " + column + " END"
	}
}

// AppendLocal appends the local form of a row of t, in the table's column order. It is what the capture triggers
// write for the same row, except that the last digits of a real can be spelled differently for the same value:
// compare with SameLocal, not byte by byte.
func AppendLocal(dst []byte, t *Table, row []Value) []byte {
	dst = append(dst, '{')
	for i := range t.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, t.Columns[i].Name)
		dst = append(dst, ':')
		dst = appendLocalValue(dst, t.Columns[i].Kind, &row[i])
	}
	return append(dst, '}')
}

func appendLocalValue(dst []byte, kind Kind, v *Value) []byte {
	numeric := kind == KindInteger || kind == KindReal
	switch v.Type {
	case Integer:
		switch {
		case kind == KindInteger:
			dst = append(dst, '"')
			dst = strconv.AppendInt(dst, v.Int, 10)
			return append(dst, '"')
		case kind == KindReal && exactAsFloat(v.Int):
			dst = append(dst, '"')
			dst = appendSQLiteReal(dst, float64(v.Int))
			return append(dst, '"')
		}
		return strconv.AppendInt(dst, v.Int, 10)
	case Real:
		switch {
		case numeric:
			dst = append(dst, '"')
			dst = appendSQLiteReal(dst, v.Float)
			return append(dst, '"')
		case math.IsInf(v.Float, 1):
			return append(dst, "9.0e+999"...)
		case math.IsInf(v.Float, -1):
			return append(dst, "-9.0e+999"...)
		}
		return appendSQLiteReal(dst, v.Float)
	case Text:
		if kind == KindBlob || kind == KindUUIDBlob {
			dst = append(dst, `["text",`...)
			dst = appendString(dst, v.Bytes)
			return append(dst, ']')
		}
		return appendString(dst, v.Bytes)
	case Blob:
		if kind == KindBlob || kind == KindUUIDBlob {
			dst = append(dst, '"')
			dst = appendHex(dst, v.Bytes)
			return append(dst, '"')
		}
		dst = append(dst, `["blob","`...)
		dst = appendHex(dst, v.Bytes)
		return append(dst, `"]`...)
	}
	return append(dst, "null"...)
}

// exactAsFloat reports whether v is one of the integers up to ±2^53, which all are float64 values.
func exactAsFloat(v int64) bool { return v >= -(1<<53) && v <= 1<<53 }

// LocalDecoder decodes local payloads of one table. Not safe for concurrent use.
type LocalDecoder struct {
	columns columnFinder
	s       scanner
	row     []Value
}

// NewLocalDecoder returns a decoder of local payloads of t.
func NewLocalDecoder(t *Table) *LocalDecoder {
	return &LocalDecoder{columns: newColumnFinder(t), s: scanner{carryUTF8: true}, row: make([]Value, len(t.Columns))}
}

// Decode returns the row's values in the table's column order, each in the storage class that SQLite held. The slice
// and what its values point to, in part the payload itself, are valid until the next call. Members of no column are
// ignored. A payload that is not in local form or lacks a column is a *LocalFormError.
func (d *LocalDecoder) Decode(localPayload []byte) ([]Value, error) {
	s, t := &d.s, d.columns.t
	s.reset(localPayload)
	d.columns.reset()
	for name := range s.members {
		column, again := d.columns.find(name)
		switch {
		case column < 0:
			s.skip()
			continue
		case again:
			return nil, &LocalFormError{Table: t.qualified(), Column: t.Columns[column].Name, Reason: "a member comes twice"}
		}
		if reason := s.localValue(t.Columns[column].Kind, &d.row[column]); reason != "" {
			return nil, &LocalFormError{Table: t.qualified(), Column: t.Columns[column].Name, Reason: reason}
		}
	}
	if s.end(); s.failed() {
		return nil, &LocalFormError{Table: t.qualified(), Reason: s.reason()}
	}
	if i := d.columns.missing(); i >= 0 {
		return nil, &LocalFormError{Table: t.qualified(), Column: t.Columns[i].Name, Reason: "the payload does not have the column"}
	}
	return d.row, nil
}

// localValue reads one value in local form. It returns what is wrong with a well-formed JSON value; faults of the
// JSON itself are the scanner's.
func (s *scanner) localValue(kind Kind, v *Value) string {
	*v = Value{}
	switch s.peek() {
	case '"':
		return v.setLocalText(kind, s)
	case '[':
		return v.setTagged(s)
	case 'n':
		s.literal("null")
	case 't', 'f':
		// Older databases hold booleans as such.
		on := s.boolean()
		if kind != KindInteger {
			return "a boolean in a column that is not of integer kind"
		}
		v.Type = Integer
		if on {
			v.Int = 1
		}
	default:
		text, integer := s.number()
		if s.failed() {
			return ""
		}
		v.setNumber(text, integer)
		if kind == KindReal && v.Type == Integer && exactAsFloat(v.Int) {
			*v = Value{Type: Real, Float: float64(v.Int)}
		}
	}
	return ""
}

// setNumber takes a bare number as SQLite prints it: an integer without fraction, anything else is a real.
func (v *Value) setNumber(text []byte, integer bool) {
	if integer {
		if n, ok := parseInt(text); ok {
			*v = Value{Type: Integer, Int: n}
			return
		}
	}
	f, _ := strconv.ParseFloat(string(text), 64) // beyond the range: ±Inf, which SQLite spells 9.0e+999
	*v = Value{Type: Real, Float: f}
}

func (v *Value) setLocalText(kind Kind, s *scanner) string {
	text := s.text()
	if s.failed() {
		return ""
	}
	switch kind {
	case KindInteger:
		if n, ok := canonicalInt(text); ok {
			*v = Value{Type: Integer, Int: n}
			return ""
		}
		fallthrough
	case KindReal:
		if f, ok := localReal(text); ok {
			*v = Value{Type: Real, Float: f}
			return ""
		}
	case KindBlob, KindUUIDBlob:
		start := len(s.arena)
		var ok bool
		if s.arena, ok = parseHex(s.arena, text); !ok {
			return "a blob that is not in hexadecimal digits"
		}
		*v = Value{Type: Blob, Bytes: s.arena[start:len(s.arena):len(s.arena)]}
		return ""
	}
	*v = Value{Type: Text, Bytes: text}
	return ""
}

// setTagged reads a value whose storage class is not its column kind's.
func (v *Value) setTagged(s *scanner) string {
	const bad = "an array that is no tagged value"
	var parts [2][]byte
	n := 0
	for range s.elements {
		if n == len(parts) {
			return bad
		}
		parts[n] = s.text()
		n++
	}
	switch {
	case s.failed():
		return ""
	case n != len(parts):
		return bad
	case string(parts[0]) == "text":
		*v = Value{Type: Text, Bytes: parts[1]}
		return ""
	case string(parts[0]) == "blob":
		start := len(s.arena)
		var ok bool
		if s.arena, ok = parseHex(s.arena, parts[1]); ok {
			*v = Value{Type: Blob, Bytes: s.arena[start:len(s.arena):len(s.arena)]}
			return ""
		}
	}
	return bad
}

// canonicalInt parses an int64 spelled as SQLite spells it.
func canonicalInt(text []byte) (int64, bool) {
	digits := text
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || digits[0] == '0' && len(text) > 1 {
		return 0, false
	}
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, false
		}
	}
	return parseInt(text)
}

// localReal parses a real as one of SQLite's printers spells it.
func localReal(text []byte) (float64, bool) {
	switch string(text) {
	case "Inf":
		return math.Inf(1), true
	case "-Inf":
		return math.Inf(-1), true
	}
	s := scanner{b: text}
	number, _ := s.number()
	if s.failed() || len(number) != len(text) {
		return 0, false
	}
	f, _ := strconv.ParseFloat(string(text), 64) // 9.0e+999 is ±Inf
	return f, true
}

// SameLocal reports whether two local payloads of t stand for the same row: column by column after decoding, reals
// by value, NULL equal to nothing but NULL. The error is a *LocalFormError.
func SameLocal(t *Table, a, b []byte) (bool, error) {
	if bytes.Equal(a, b) {
		return true, nil
	}
	rowA, err := NewLocalDecoder(t).Decode(a)
	if err != nil {
		return false, err
	}
	rowB, err := NewLocalDecoder(t).Decode(b)
	if err != nil {
		return false, err
	}
	return SameValues(rowA, rowB), nil
}

// SameValues reports whether two rows of one table are equal, column by column: same storage class, same content,
// NULL equal to nothing but NULL, the two zeros of a real equal to each other.
func SameValues(a, b []Value) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].equal(&b[i]) {
			return false
		}
	}
	return true
}

func (v *Value) equal(w *Value) bool {
	if v.Type != w.Type {
		return false
	}
	switch v.Type {
	case Integer:
		return v.Int == w.Int
	case Real:
		return v.Float == w.Float
	case Text, Blob:
		return bytes.Equal(v.Bytes, w.Bytes)
	}
	return true
}
