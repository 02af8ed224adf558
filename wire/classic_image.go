package wire

import (
	"bytes"
	"time"
)

// LosslessPayload reports whether every number of a payload that AppendPayload wrote survives a float64. The bundle
// hash tells everything else apart, but two numbers that round to one float64 have one hash.
func (classic) LosslessPayload(t *Table, payload []byte) bool {
	kinds := make(map[string]Kind, len(t.Columns))
	for _, c := range t.Columns {
		kinds[c.Name] = c.Kind
	}
	s := scanner{b: payload}
	for name := range s.members {
		if c := s.peek(); c != '-' && c-'0' > 9 {
			if c == '{' || c == '[' {
				return false // nothing that AppendPayload writes
			}
			s.skip()
			continue
		}
		text, integer := s.number()
		if s.failed() || !losslessNumber(text, integer, kinds[string(name)]) {
			return false
		}
	}
	s.end()
	return !s.failed()
}

func losslessNumber(text []byte, integer bool, kind Kind) bool {
	if kind != KindReal {
		n, ok := parseInt(text)
		return integer && ok && n <= maxSafeInteger && n >= -maxSafeInteger
	}
	var canonical [32]byte
	out, ok := appendClassicNumber(canonical[:0], text, false)
	return ok && bytes.Equal(out, text)
}

// SameImage compares column by column. The server may spell a number, a boolean, a time, a UUID or bytes its own
// way; anything else has been changed there. Members of no column are the server's own and do not count.
func (c classic) SameImage(t *Table, frozen, committed []byte) (bool, error) {
	return sameImage(c, t, frozen, committed, (*Value).sameImage)
}

// sameImage compares two payloads column by column.
func sameImage(c Contract, t *Table, frozen, committed []byte, same func(was, is *Value) bool) (bool, error) {
	if bytes.Equal(frozen, committed) {
		return true, nil
	}
	was, err := c.NewRowDecoder(t).Decode(frozen)
	if err != nil {
		return false, err
	}
	is, err := c.NewRowDecoder(t).Decode(committed)
	if err != nil {
		return false, err
	}
	for i := range was {
		if !same(&was[i], &is[i]) {
			return false, nil
		}
	}
	return true, nil
}

func (v *Value) sameImage(w *Value) bool {
	if v.equal(w) {
		return true
	}
	switch {
	case v.Type != w.Type:
		return false
	case v.Type == Integer:
		return float64(v.Int) == float64(w.Int)
	case v.Type == Text:
		return sameInstant(string(v.Bytes), string(w.Bytes))
	}
	return false
}

// sameInstant reports whether both are times of one instant. PostgreSQL answers 2026-03-24T18:42:11+00:00 for
// 2026-03-24T18:42:11Z, and for what SQLite's CURRENT_TIMESTAMP writes, which is UTC: 2026-03-24 18:42:11.
func sameInstant(a, b string) bool {
	x, okA := instant(a)
	y, okB := instant(b)
	return okA && okB && x.Equal(y)
}

func instant(s string) (time.Time, bool) {
	if len(s) < len(time.DateTime) || s[4] != '-' || s[10] != 'T' && s[10] != ' ' {
		return time.Time{}, false // not worth parsing
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true
	}
	t, err := time.Parse(time.DateTime, s) // takes a fraction of a second, too
	return t, err == nil
}
