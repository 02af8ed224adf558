package oversqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// LastWriterWins keeps the side whose column holds the later time: an RFC 3339 time, or an integer, as a number or as a
// string. A side that has no such value (NULL, or something else) loses; so does a deletion, which has no time. When
// neither is later the server wins. A row without the column is an error.
func LastWriterWins(column string) Resolver {
	column = strings.ToLower(column)
	return ResolverFunc(func(_ context.Context, c Conflict) (Resolution, error) {
		if c.Local == nil || c.Server == nil {
			return AcceptServer{}, nil
		}
		ours, err := writtenAt(c, c.Local, column)
		if err != nil {
			return nil, err
		}
		theirs, err := writtenAt(c, c.Server, column)
		if err != nil {
			return nil, err
		}
		if ours.after(theirs) {
			return KeepLocal{}, nil
		}
		return AcceptServer{}, nil
	})
}

// stamp is when a row was written, on one of two scales that do not compare.
type stamp struct {
	time   time.Time
	number int64
	kind   byte // 't', 'n', or 0: unknown
}

func (s stamp) after(o stamp) bool {
	switch {
	case s.kind == 0:
		return false
	case o.kind == 0:
		return true
	case s.kind != o.kind:
		return false
	case s.kind == 't':
		return s.time.After(o.time)
	default:
		return s.number > o.number
	}
}

func writtenAt(c Conflict, payload json.RawMessage, column string) (stamp, error) {
	row, err := parseRow(payload)
	if err != nil {
		return stamp{}, err
	}
	raw, ok := row.values[column]
	if !ok {
		return stamp{}, fmt.Errorf("table %s has no column %q to tell the last writer by", c.Table, column)
	}
	text := string(raw)
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return stamp{}, err
		}
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return stamp{time: t, kind: 't'}, nil
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return stamp{number: n, kind: 'n'}, nil
	}
	return stamp{}, nil
}

// MergeColumns merges by column, three ways: a column changed on one side only takes that side's value. When columns
// were changed on both sides to different values, both is asked about the conflict: AcceptServer and KeepLocal decide
// just those columns, KeepMerged the whole row. It is also asked when there is nothing to compare with: the base row is
// not known, or one side has no row. A nil both is ServerWins.
//
// Values are compared exactly: numbers by value, everything else as text.
func MergeColumns(both Resolver) Resolver {
	if both == nil {
		both = ServerWins
	}
	return ResolverFunc(func(ctx context.Context, c Conflict) (Resolution, error) {
		if c.Local == nil || c.Base == nil || c.Server == nil {
			return both.Resolve(ctx, c)
		}
		m, err := newMerge(c)
		if err != nil {
			return nil, err
		}
		if len(m.contested) > 0 {
			answer, err := both.Resolve(ctx, c)
			if err != nil {
				return nil, err
			}
			switch answer.(type) {
			case AcceptServer:
				m.settle(m.server)
			case KeepLocal:
				m.settle(m.local)
			default:
				return answer, nil
			}
		}
		return m.resolution(), nil
	})
}

// merge is a three-way merge of one row.
type merge struct {
	local, base, server row
	merged              map[string]json.RawMessage
	contested           []string
}

func newMerge(c Conflict) (*merge, error) {
	m := &merge{merged: map[string]json.RawMessage{}}
	for _, side := range []struct {
		row     *row
		payload json.RawMessage
	}{{&m.local, c.Local}, {&m.base, c.Base}, {&m.server, c.Server}} {
		parsed, err := parseRow(side.payload)
		if err != nil {
			return nil, err
		}
		*side.row = parsed
	}
	for _, column := range m.local.columns {
		ours := m.local.values[column]
		base, based := m.base.values[column]
		theirs, served := m.server.values[column]
		switch {
		case !served || sameValue(ours, theirs) || based && sameValue(theirs, base):
			m.merged[column] = ours
		case based && sameValue(ours, base):
			m.merged[column] = theirs
		default:
			m.contested = append(m.contested, column)
		}
	}
	return m, nil
}

// settle gives the contested columns one side's values.
func (m *merge) settle(side row) {
	for _, column := range m.contested {
		m.merged[column] = side.values[column]
	}
}

// resolution is the merged row, or the side that it came to be the same as: that costs less.
func (m *merge) resolution() Resolution {
	if m.equals(m.server) {
		return AcceptServer{}
	}
	if m.equals(m.local) {
		return KeepLocal{}
	}
	b := bytes.NewBufferString("{")
	for i, column := range m.local.columns {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(column) // a string always marshals
		b.Write(name)
		b.WriteByte(':')
		b.Write(m.merged[column])
	}
	b.WriteByte('}')
	return KeepMerged{Payload: b.Bytes()}
}

func (m *merge) equals(side row) bool {
	for _, column := range m.local.columns {
		value, ok := side.values[column]
		if !ok || !sameValue(value, m.merged[column]) {
			return false
		}
	}
	return true
}

// row is a payload taken apart, values as they are spelled.
type row struct {
	columns []string // in the payload's order
	values  map[string]json.RawMessage
}

func parseRow(payload json.RawMessage) (row, error) {
	r := row{values: map[string]json.RawMessage{}}
	d := json.NewDecoder(bytes.NewReader(payload))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return row{}, fmt.Errorf("a row is no JSON object: %w", err)
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return row{}, err
		}
		column := t.(string) // the decoder accepts nothing else here
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return row{}, err
		}
		if _, twice := r.values[column]; !twice {
			r.columns = append(r.columns, column)
		}
		r.values[column] = value
	}
	_, err := d.Token()
	return r, err
}

// sameValue reports whether two JSON values are the same: numbers by value, strings by content, anything else by text.
func sameValue(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	switch {
	case a[0] == '"' && b[0] == '"':
		var s, t string
		return json.Unmarshal(a, &s) == nil && json.Unmarshal(b, &t) == nil && s == t
	case isNumber(a[0]) && isNumber(b[0]):
		return parseDecimal(string(a)) == parseDecimal(string(b))
	default:
		return false
	}
}

func isNumber(first byte) bool { return first == '-' || first >= '0' && first <= '9' }

// decimal is a JSON number in a form that is the same for the same value, whatever its size: 0.digits × 10^exponent
// without leading or trailing zeros.
type decimal struct {
	negative bool
	digits   string
	exponent int64
}

func parseDecimal(s string) decimal {
	var d decimal
	s, d.negative = strings.CutPrefix(s, "-")
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(s), "e")
	if scientific {
		// An exponent beyond int64 is clamped, to one side: no such number is a value that a column can hold.
		d.exponent, _ = strconv.ParseInt(strings.TrimPrefix(exponent, "+"), 10, 64)
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	trimmed := strings.TrimLeft(digits, "0")
	d.exponent += int64(len(whole) - (len(digits) - len(trimmed)))
	d.digits = strings.TrimRight(trimmed, "0")
	if d.digits == "" {
		return decimal{} // every zero is the same
	}
	return d
}
