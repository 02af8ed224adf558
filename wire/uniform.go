package wire

import (
	"encoding/base64"
	"math"
	"strconv"
)

// uniform is the second dialect of the protocol, jcs_uniform_numeric_strings_v1: every number of a row travels as a
// string in its one canonical spelling, hashes are over RFC 8785 text, and answers to a push name the request that
// they are about.
type uniform struct{}

var _ Contract = uniform{}

func (uniform) Name() ContractName { return UniformContract }

// NamesRequest implements Contract.
func (uniform) NamesRequest() bool { return true }

// GateEveryRun implements Contract.
func (uniform) GateEveryRun() bool { return true }

// AppendPayload appends the wire payload of a row of t: every column, in canonical form.
func (uniform) AppendPayload(dst []byte, t *Table, row []Value) ([]byte, error) {
	start := len(dst)
	var stack [64]int
	dst = append(dst, '{')
	for n, i := range canonicalOrder(stack[:0], t) {
		if n > 0 {
			dst = append(dst, ',')
		}
		c := &t.Columns[i]
		dst = appendString(dst, c.Name)
		dst = append(dst, ':')
		var reason string
		if dst, reason = appendUniformValue(dst, c.Kind, &row[i]); reason != "" {
			return dst[:start], &ValueError{Table: t.qualified(), Column: c.Name, Reason: reason}
		}
	}
	return append(dst, '}'), nil
}

// canonicalOrder appends the indexes of the columns of t in the order of their names.
func canonicalOrder(order []int, t *Table) []int {
	for i := range t.Columns {
		order = append(order, i)
		for j := i; j > 0 && compareUTF16(t.Columns[order[j-1]].Name, t.Columns[order[j]].Name) > 0; j-- {
			order[j-1], order[j] = order[j], order[j-1]
		}
	}
	return order
}

// appendUniformValue appends one value; reason says why the contract cannot carry it.
func appendUniformValue(dst []byte, kind Kind, v *Value) (out []byte, reason string) {
	if v.Type == Null {
		return append(dst, "null"...), ""
	}
	switch kind {
	case KindInteger:
		if v.Type == Integer {
			return appendQuotedInt(dst, v.Int), ""
		}
	case KindReal:
		switch {
		case v.Type == Real && (math.IsInf(v.Float, 0) || math.IsNaN(v.Float)):
			return dst, "non_finite_real"
		case v.Type == Real:
			return appendQuotedFloat(dst, v.Float), ""
		case v.Type == Integer && !exactAsFloat(v.Int): // a type such as FLOATING POINT has integer affinity
			return dst, "integer_out_of_range"
		case v.Type == Integer:
			return appendQuotedFloat(dst, float64(v.Int)), ""
		}
	case KindText:
		if v.Type == Text {
			if reason := validText(v.Bytes); reason != "" {
				return dst, reason
			}
			return appendString(dst, v.Bytes), ""
		}
	case KindBlob, KindUUIDBlob:
		return appendClassicValue(dst, kind, v) // bytes have one spelling in both dialects
	}
	return dst, "storage_class"
}

func appendQuotedInt(dst []byte, n int64) []byte {
	dst = append(dst, '"')
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, '"')
}

func appendQuotedFloat(dst []byte, f float64) []byte {
	dst = append(dst, '"')
	dst = appendJCSFloat(dst, f)
	return append(dst, '"')
}

// NewRowDecoder returns a decoder of payloads of t.
func (uniform) NewRowDecoder(t *Table) RowDecoder {
	return &rowDecoder{columns: newColumnFinder(t), row: make([]Value, len(t.Columns)), value: (*scanner).uniformValue, strict: true}
}

// uniformValue reads one value in its canonical spelling; every other spelling is refused.
func (s *scanner) uniformValue(kind Kind, v *Value) string {
	*v = Value{}
	switch c := s.peek(); {
	case c == 'n':
		s.literal("null")
		return ""
	case (c == 't' || c == 'f') && kind == KindInteger: // what a boolean column of the server holds
		v.Type = Integer
		if s.boolean() {
			v.Int = 1
		}
		return ""
	case c != '"':
		return "a value that is not a string"
	}
	text := s.text()
	if s.failed() {
		return ""
	}
	switch kind {
	case KindInteger:
		n, ok := canonicalInt(text)
		if !ok {
			return "an integer that is not in canonical form, or beyond 64 bits"
		}
		*v = Value{Type: Integer, Int: n}
	case KindReal:
		f, ok := canonicalFloat(text)
		if !ok {
			return "a real that is not in canonical form"
		}
		*v = Value{Type: Real, Float: f}
	case KindText:
		*v = Value{Type: Text, Bytes: text}
	default:
		return v.setCanonicalBlob(kind, s, text)
	}
	return ""
}

// setCanonicalBlob decodes padded base64, and for a UUID column the canonical text of a UUID.
func (v *Value) setCanonicalBlob(kind Kind, s *scanner, text []byte) string {
	start := len(s.arena)
	if kind == KindUUIDBlob {
		if !canonicalUUID(text) {
			return "a string that is no canonical UUID"
		}
		s.arena, _ = parseUUID(s.arena, text)
	} else {
		out, err := base64.StdEncoding.Strict().AppendDecode(s.arena, text)
		if err != nil || base64.StdEncoding.EncodedLen(len(out)-start) != len(text) { // the decoder skips line ends
			return "a string that is no canonical base64"
		}
		s.arena = out
	}
	*v = Value{Type: Blob, Bytes: s.arena[start:len(s.arena):len(s.arena)]}
	return ""
}

// canonicalUUID reports whether text is a UUID as this package prints one: dashed, in lower case.
func canonicalUUID[T string | []byte](text T) bool {
	if len(text) != 36 {
		return false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if c-'0' > 9 && c-'a' > 5 {
				return false
			}
		}
	}
	return true
}

// SameImage compares column by column. A server may spell a time its own way; anything else has been changed there.
func (c uniform) SameImage(t *Table, frozen, committed []byte) (bool, error) {
	return sameImage(c, t, frozen, committed, func(was, is *Value) bool {
		return was.equal(is) || was.Type == Text && is.Type == Text && sameInstant(string(was.Bytes), string(is.Bytes))
	})
}

// LosslessPayload implements Contract: strings have one canonical form each, so that the hash tells all of them apart.
func (uniform) LosslessPayload(*Table, []byte) bool { return true }
