package wire

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMessage bounds the server's text in an HTTPError, in bytes.
const maxMessage = 512

// DecodeError makes an HTTPError of an answer other than success. The body can be anything, also a proxy's page: what
// cannot be read is left out, and of a body that is no JSON object the beginning becomes the message. RetryAfter is
// left to the caller, it is in a header.
func DecodeError(operation string, status int, body []byte) *HTTPError {
	e := &HTTPError{Operation: operation, Status: status}
	if !e.decode(body) {
		*e = HTTPError{Operation: operation, Status: status, Message: boundedText(body)}
	}
	return e
}

// decode reads an error body; false when it is no JSON object.
func (e *HTTPError) decode(body []byte) bool {
	d := newDecoder(e.Operation, body)
	var conflict []byte
	for name := range d.members {
		switch c := d.peek(); {
		case c == '"' && string(name) == "error":
			e.Code = boundedText(d.text())
		case c == '"' && string(name) == "message":
			e.Message = boundedText(d.text())
		case c == '"' && string(name) == "replaced_by_source_id":
			d.string(&e.ReplacedBySourceID)
		case c == '{' && string(name) == "conflict":
			conflict = d.skip()
		case string(name) == "required_byte_count":
			d.positive(&e.RequiredByteCount)
		case string(name) == "actual":
			d.positive(&e.SessionLimit.Actual)
		case string(name) == "limit":
			d.positive(&e.SessionLimit.Limit)
		case c == '"' && string(name) == "dimension":
			e.SessionLimit.Dimension = boundedText(d.text())
		default:
			d.skip()
		}
	}
	if d.finish() != nil {
		return false
	}
	if conflict != nil {
		e.Conflict = decodeConflict(conflict)
	}
	return true
}

// positive reads a positive integer; whatever else comes leaves dst alone.
func (d *decoder) positive(dst *int64) {
	if n, ok := canonicalInt(d.skip()); ok && n > 0 {
		*dst = n
	}
}

// decodeConflict returns nil for a conflict that is not well formed.
func decodeConflict(object []byte) *Conflict {
	d := newDecoder("conflict", object)
	var seen memberSet
	c := &Conflict{BaseRowVersion: -1}
	for name := range d.members {
		switch string(name) {
		case "schema":
			d.once(&seen, 1)
			d.string(&c.Schema)
		case "table":
			d.once(&seen, 2)
			d.string(&c.Table)
		case "key":
			d.once(&seen, 4)
			d.key(&c.Key)
		case "op":
			d.once(&seen, 8)
			d.op(&c.Op)
		case "base_row_version":
			d.once(&seen, 16)
			d.int(&c.BaseRowVersion)
		case "server_row_version":
			d.once(&seen, 32)
			d.int(&c.ServerRowVersion)
		case "server_row_deleted":
			d.once(&seen, 64)
			d.bool(&c.ServerRowDeleted)
		case "server_row":
			d.once(&seen, 128)
			c.ServerRow = d.object()
		default:
			d.skip()
		}
	}
	if d.finish() != nil || c.Schema == "" || c.Table == "" || c.Key.Column == "" || !c.Op.Valid() || c.BaseRowVersion < 0 {
		return nil
	}
	// A live row, a tombstone, or a row that never was: anything else contradicts itself.
	live := c.ServerRow != nil && !c.ServerRowDeleted && c.ServerRowVersion > 0
	tombstone := c.ServerRow == nil && c.ServerRowDeleted && c.ServerRowVersion > 0
	never := c.ServerRow == nil && !c.ServerRowDeleted && c.ServerRowVersion == 0
	if !live && !tombstone && !never {
		return nil
	}
	return c
}

// boundedText makes server text fit to be shown: valid UTF-8, on one line, of bounded length.
func boundedText(b []byte) string {
	text := strings.ToValidUTF8(string(b[:min(len(b), maxMessage)]), "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	for len(text) > maxMessage {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	return strings.TrimSpace(text)
}
