package wire

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
)

// classic is the first dialect of the protocol: numbers and booleans travel as such, and the server takes every
// number through a float64.
type classic struct{}

var _ Contract = classic{}

// ContractByName returns the contract of a dialect, or an *UnsupportedContractError.
func ContractByName(name ContractName) (Contract, error) {
	switch name {
	case ClassicContract:
		return classic{}, nil
	case UniformContract:
		return uniform{}, nil
	default:
		return nil, &UnsupportedContractError{Name: name}
	}
}

func (classic) Name() ContractName { return ClassicContract }

// AppendPayload appends the wire payload of a row of t: every column in table order.
func (classic) AppendPayload(dst []byte, t *Table, row []Value) ([]byte, error) {
	start := len(dst)
	dst = append(dst, '{')
	for i := range t.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, t.Columns[i].Name)
		dst = append(dst, ':')
		var reason string
		if dst, reason = appendClassicValue(dst, t.Columns[i].Kind, &row[i]); reason != "" {
			return dst[:start], &ValueError{Table: t.qualified(), Column: t.Columns[i].Name, Reason: reason}
		}
	}
	return append(dst, '}'), nil
}

// appendClassicValue appends one value; reason says why the contract cannot carry it.
func appendClassicValue(dst []byte, kind Kind, v *Value) (out []byte, reason string) {
	if v.Type == Null {
		return append(dst, "null"...), ""
	}
	switch kind {
	case KindInteger:
		if v.Type == Integer {
			return appendSafeInteger(dst, v.Int)
		}
	case KindReal:
		switch v.Type {
		case Real:
			if math.IsInf(v.Float, 0) || math.IsNaN(v.Float) {
				return dst, "non_finite_real"
			}
			return appendFloat(dst, v.Float), ""
		case Integer: // a type such as FLOATING POINT has integer affinity: it holds 1.0 as 1
			return appendSafeInteger(dst, v.Int)
		}
	case KindText:
		if v.Type == Text {
			if reason := validText(v.Bytes); reason != "" {
				return dst, reason
			}
			return appendString(dst, v.Bytes), ""
		}
	case KindBlob:
		if v.Type == Blob {
			dst = append(dst, '"')
			dst = base64.StdEncoding.AppendEncode(dst, v.Bytes)
			return append(dst, '"'), ""
		}
	case KindUUIDBlob:
		if v.Type == Blob {
			if len(v.Bytes) != 16 {
				return dst, "not_a_uuid"
			}
			dst = append(dst, '"')
			dst = appendUUID(dst, v.Bytes)
			return append(dst, '"'), ""
		}
	}
	return dst, "storage_class"
}

func appendSafeInteger(dst []byte, v int64) ([]byte, string) {
	if v > maxSafeInteger || v < -maxSafeInteger {
		return dst, "integer_out_of_range"
	}
	return strconv.AppendInt(dst, v, 10), ""
}

// NewRowDecoder returns a decoder of payloads of t.
func (classic) NewRowDecoder(t *Table) RowDecoder {
	return &rowDecoder{columns: newColumnFinder(t), row: make([]Value, len(t.Columns)), value: (*scanner).classicValue}
}

// rowDecoder decodes the wire payloads of one table; how a value is spelled is the dialect's.
type rowDecoder struct {
	columns columnFinder
	s       scanner
	row     []Value
	strict  bool // a member of no column is a fault, and names come in any case
	// value reads one value. It returns what is wrong with a well-formed JSON value; faults of the JSON itself are
	// the scanner's.
	value func(*scanner, Kind, *Value) string
}

// Decode returns the row's values. Members of no column are ignored in the classic dialect, where the server may have
// columns of its own.
func (d *rowDecoder) Decode(payload []byte) ([]Value, error) {
	s, t := &d.s, d.columns.t
	s.reset(payload)
	d.columns.reset()
	for name := range s.members {
		column, again := d.columns.find(name)
		if column < 0 && d.strict {
			column, again = d.columns.find(lowerASCII(name))
		}
		switch {
		case column < 0 && d.strict && !s.failed():
			return nil, &ProtocolError{Operation: "payload", Table: t.qualified(), Reason: invalidShape + "a member that is no column of the table"}
		case column < 0:
			s.skip()
			continue
		case again:
			return nil, payloadError(t, column, invalidShape+"a member comes twice")
		}
		if reason := d.value(s, t.Columns[column].Kind, &d.row[column]); reason != "" {
			return nil, payloadError(t, column, invalidValue+reason)
		}
	}
	if s.end(); s.failed() {
		return nil, &ProtocolError{Operation: "payload", Table: t.qualified(), Reason: s.reason()}
	}
	if i := d.columns.missing(); i >= 0 {
		return nil, payloadError(t, i, invalidShape+"payload for "+t.Name+" must contain every table column")
	}
	return d.row, nil
}

// What is wrong with a payload, by the family's names.
const (
	invalidShape = "invalid_payload_shape: "
	invalidValue = "invalid_payload_value: "
)

func payloadError(t *Table, column int, reason string) error {
	return &ProtocolError{Operation: "payload", Table: t.qualified(), Column: t.Columns[column].Name, Reason: reason}
}

// classicValue reads one value as the classic server spells it.
func (s *scanner) classicValue(kind Kind, v *Value) string {
	*v = Value{}
	c := s.peek()
	if c == 'n' {
		s.literal("null")
		return ""
	}
	switch kind {
	case KindInteger:
		if c == 't' || c == 'f' {
			v.Type = Integer
			if s.boolean() {
				v.Int = 1
			}
			return ""
		}
		if c != '-' && c-'0' > 9 {
			return "an integer column needs a number or a boolean"
		}
		text, integer := s.number()
		if s.failed() {
			return ""
		}
		n, ok := integralValue(text, integer)
		if !ok {
			return "a number that is no 64-bit integer in an integer column"
		}
		*v = Value{Type: Integer, Int: n}
	case KindReal:
		if c != '-' && c-'0' > 9 {
			return "a real column needs a number"
		}
		text, _ := s.number()
		if s.failed() {
			return ""
		}
		f, ok := parseFloat(text)
		if !ok {
			return "a number beyond float64 in a real column"
		}
		*v = Value{Type: Real, Float: f}
	default:
		if c != '"' {
			return "a text or blob column needs a string"
		}
		text := s.text()
		if kind == KindText {
			*v = Value{Type: Text, Bytes: text}
			return ""
		}
		return v.setWireBlob(kind, s, text)
	}
	return ""
}

// setWireBlob decodes base64, and for a UUID column any spelling of a UUID or its 16 bytes in base64.
func (v *Value) setWireBlob(kind Kind, s *scanner, text []byte) string {
	start := len(s.arena)
	ok := false
	if kind == KindUUIDBlob {
		if s.arena, ok = parseUUID(s.arena, text); !ok {
			s.arena, ok = parseBase64(s.arena, text)
			ok = ok && len(s.arena)-start == 16
		}
		if !ok {
			return "a string that is no UUID"
		}
	} else if s.arena, ok = parseBase64(s.arena, text); !ok {
		return "a string that is no base64"
	}
	*v = Value{Type: Blob, Bytes: s.arena[start:len(s.arena):len(s.arena)]}
	return ""
}

// NamesRequest implements Contract: no answer of a classic server says which request it is about.
func (classic) NamesRequest() bool { return false }

// DecodeConnect implements Contract.
func (classic) DecodeConnect(body []byte) (ConnectResponse, error) { return DecodeConnect(body) }

// DecodeError implements Contract.
func (classic) DecodeError(operation string, status int, body []byte) *HTTPError {
	return DecodeError(operation, status, body)
}

// DecodeSnapshotError implements Contract: the classic dialect has one taxonomy for all endpoints.
func (classic) DecodeSnapshotError(operation string, status int, body []byte, _ SnapshotBounds) *HTTPError {
	return DecodeError(operation, status, body)
}

// CheckTransfer implements Contract.
func (classic) CheckTransfer(s SnapshotSession, rows, _ int64) error {
	return checkTransfer(s, rows, s.ByteCount)
}

// checkTransfer checks the totals of a snapshot whose last page has come.
func checkTransfer(s SnapshotSession, rows, bytes int64) error {
	reason := ""
	switch {
	case rows != s.RowCount:
		reason = fmt.Sprintf("snapshot final row total %d does not match session row_count %d", rows, s.RowCount)
	case bytes != s.ByteCount:
		reason = fmt.Sprintf("snapshot final byte total %d does not match session byte_count %d", bytes, s.ByteCount)
	default:
		return nil
	}
	return &ProtocolError{Operation: "snapshot page", Reason: invalidChunk + reason}
}

// GateEveryRun implements Contract: what a classic server is, it stays.
func (classic) GateEveryRun() bool { return false }

// SnapshotBounds implements Contract: the server's default unless something else is wanted, never more than its maximum.
func (classic) SnapshotBounds(l Limits, rows, _ int64) (SnapshotBounds, error) {
	rows = cmp.Or(max(rows, 0), l.DefaultRowsPerSnapshotChunk, defaultSnapshotRows)
	if l.MaxRowsPerSnapshotChunk > 0 {
		rows = min(rows, l.MaxRowsPerSnapshotChunk)
	}
	return SnapshotBounds{MaxRows: rows}, nil
}

// defaultSnapshotRows bounds a page of a snapshot where nobody says how.
const defaultSnapshotRows = 1000
