package devserver

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/ncruces/go-sqlite3"
)

// bindJSON binds the JSON value raw to a parameter as the column's kind wants it stored. It refuses what the
// reference server's PostgreSQL refuses, and takes JSON numbers through a float64 as that server does.
func (c column) bindJSON(s *sqlite3.Stmt, param int, raw []byte, spelled numbers) error {
	if raw[0] == 'n' {
		return s.BindNull(param)
	}
	switch c.kind {
	case kindInteger:
		n, err := integerOf(raw, spelled)
		if err != nil {
			return c.refuse(err)
		}
		return s.BindInt64(param, n)
	case kindReal:
		f, err := realOf(raw, spelled)
		if err != nil {
			return c.refuse(err)
		}
		return s.BindFloat(param, f)
	case kindBool:
		text, err := textOf(raw)
		if err != nil {
			return c.refuse(err)
		}
		b, err := strconv.ParseBool(text)
		if err != nil {
			return c.refuse(err)
		}
		return s.BindBool(param, b)
	}
	text, err := textOf(raw)
	if err != nil {
		return c.refuse(err)
	}
	return c.bindText(s, param, text)
}

// bindText binds the text of a JSON string, or a wire key, to a parameter.
func (c column) bindText(s *sqlite3.Stmt, param int, text string) error {
	if strings.IndexByte(text, 0) >= 0 {
		return c.refuse(fmt.Errorf("a NUL in text"))
	}
	switch c.kind {
	case kindBytes:
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return c.refuse(err)
		}
		return s.BindBlob(param, b)
	case kindTime:
		t, err := parseTime(text)
		if err != nil {
			return c.refuse(err)
		}
		return s.BindText(param, formatTime(t))
	case kindUUID, kindUUIDBlob:
		id, err := uuid.Parse(text)
		if err != nil {
			return c.refuse(err)
		}
		if c.kind == kindUUIDBlob {
			return s.BindBlob(param, id[:])
		}
		return s.BindText(param, id.String())
	}
	return s.BindText(param, text)
}

func (c column) refuse(err error) error { return fmt.Errorf("column %s: %w", c.name, err) }

// textOf returns the text that PostgreSQL sees in a JSON value.
func textOf(raw []byte) (string, error) {
	switch raw[0] {
	case '"':
		return unquote(raw)
	case '{', '[', 't', 'f':
		return string(raw), nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	return string(appendFloat(nil, f)), err
}

func integerOf(raw []byte, spelled numbers) (int64, error) {
	if raw[0] == '"' {
		text, err := unquote(raw)
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err == nil && spelled == numbersAsStrings && strconv.FormatInt(n, 10) != text {
			err = errSpelling
		}
		return n, err
	}
	if spelled == numbersAsStrings {
		return 0, errSpelling
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, err
	}
	if f != math.Trunc(f) || f < -(1<<63) || f >= 1<<63 {
		return 0, fmt.Errorf("%s is no 64-bit integer", raw)
	}
	return int64(f), nil
}

func realOf(raw []byte, spelled numbers) (float64, error) {
	if spelled == numbersAsStrings && raw[0] != '"' {
		return 0, errSpelling
	}
	text, err := textOf(raw)
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(text, 64)
	if err == nil && (math.IsInf(f, 0) || math.IsNaN(f)) {
		err = fmt.Errorf("a non-finite number has no JSON form")
	}
	return f, err
}

// timeLayouts are the spellings of an instant that clients send; without a zone they are UTC. Go reads a fraction
// of any length where seconds end, comma or point.
var timeLayouts = []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", time.DateTime, "2006-01-02 15:04:05Z07", time.DateOnly}

func parseTime(text string) (time.Time, error) {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("no timestamp")
}

// formatTime spells an instant as PostgreSQL does in JSON: UTC, at most six digits of a fraction, no trailing zeros.
func formatTime(t time.Time) string {
	return t.UTC().Round(time.Microsecond).Format("2006-01-02T15:04:05.999999-07:00")
}

// style is one of the ways in which the reference servers spell a row.
type style uint8

const (
	// committedStyle is a row that went through Go: members by name, numbers as float64.
	committedStyle style = iota
	// jsonbStyle is a row as PostgreSQL's jsonb prints it: members by length, then name; numbers in full. Rows with
	// bytes in them go through Go all the same.
	jsonbStyle
	// uniformStyle is a row of the uniform dialect: members by name, numbers as strings in canonical form.
	uniformStyle
)

// appendRow appends the row object found in the columns of s from first on.
func (t *table) appendRow(dst []byte, s *sqlite3.Stmt, first int, how style) []byte {
	order := t.sorted
	if how == jsonbStyle {
		order = t.jsonb
		for i, c := range t.columns {
			if c.kind == kindBytes && s.ColumnType(first+i) != sqlite3.NULL {
				order, how = t.sorted, committedStyle
				break
			}
		}
	}
	dst = append(dst, '{')
	for i, c := range order {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, t.labels[c]...)
		dst = t.columns[c].appendValue(dst, s, first+c, how)
	}
	return append(dst, '}')
}

func (c column) appendValue(dst []byte, s *sqlite3.Stmt, col int, how style) []byte {
	switch s.ColumnType(col) {
	case sqlite3.NULL:
		return append(dst, "null"...)
	case sqlite3.INTEGER:
		n := s.ColumnInt64(col)
		switch {
		case c.kind == kindBool:
			return strconv.AppendBool(dst, n != 0)
		case how == uniformStyle:
			dst = append(dst, '"')
			dst = strconv.AppendInt(dst, n, 10)
			return append(dst, '"')
		case how == committedStyle && (n > 1<<53 || n < -(1<<53)):
			return appendFloat(dst, float64(n))
		}
		return strconv.AppendInt(dst, n, 10)
	case sqlite3.FLOAT:
		f := s.ColumnFloat(col)
		switch how {
		case jsonbStyle:
			return strconv.AppendFloat(dst, f, 'f', -1, 64)
		case uniformStyle:
			if f == 0 {
				f = 0 // there is one zero
			}
			dst = append(dst, '"')
			dst = appendFloat(dst, f)
			return append(dst, '"')
		}
		return appendFloat(dst, f)
	case sqlite3.BLOB:
		b := s.ColumnRawBlob(col)
		if c.kind == kindUUIDBlob && len(b) == 16 {
			return appendString(dst, uuid.UUID(b).String())
		}
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, b)
		return append(dst, '"')
	}
	text := s.ColumnRawText(col)
	if c.kind == kindTime {
		// What SQL on the server wrote can be spelled in another way.
		if t, err := parseTime(string(text)); err == nil {
			return appendString(dst, formatTime(t))
		}
	}
	return appendString(dst, string(text))
}

// keyText returns the wire form of a key value as the database holds it.
func (c column) keyText(v sqlite3.Value) string {
	if c.kind == kindUUIDBlob {
		if id, err := uuid.FromBytes(v.RawBlob()); err == nil {
			return id.String()
		}
	}
	return v.Text()
}

// canonicalUUID reports whether s is a UUID in canonical dashed lower-case form.
func canonicalUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
