package wire

import (
	"fmt"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document, so that no answer can exhaust the stack.
const maxDepth = 128

// twice is the fault of a document in which an object has one member twice.
const twice = "duplicate_object_member: an object member that comes twice"

// scanner reads one JSON document (RFC 8259) from a byte slice without allocating. It is stricter than
// encoding/json where a lenient reading would change content: invalid UTF-8 and unpaired surrogates are faults, not
// replacement characters.
//
// Its first fault is sticky: every later call answers a zero value and every loop over members or elements ends,
// so that callers look at err once, at the end.
type scanner struct {
	b     []byte
	i     int
	depth int
	fresh bool // a bracket has just been opened: no comma comes first
	// carryUTF8 takes invalid UTF-8 in strings as it is. SQLite's json_object writes the bytes of a TEXT unchecked,
	// and the local form has to give them back.
	carryUTF8 bool
	arena     []byte // decoded text of strings with escapes; earlier results stay valid when it grows
	fault     string
	faultAt   int
}

// maxScratch bounds what is kept between documents: one row with a large value must not hold its size for ever.
const maxScratch = 1 << 20

func (s *scanner) reset(b []byte) {
	arena := s.arena[:0]
	if cap(arena) > maxScratch {
		arena = nil
	}
	*s = scanner{b: b, carryUTF8: s.carryUTF8, arena: arena}
}

// fail records the first fault and moves to the end, where every other call fails as well.
func (s *scanner) fail(reason string) {
	if s.fault == "" {
		s.fault, s.faultAt = reason, s.i
	}
	s.i = len(s.b)
}

func (s *scanner) failed() bool { return s.fault != "" }

// reason describes the fault without any of the content.
func (s *scanner) reason() string { return fmt.Sprintf("%s at byte %d", s.fault, s.faultAt) }

// peek returns the first byte of the next token, 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

// end checks that nothing but white space is left.
func (s *scanner) end() {
	if !s.failed() && s.peek() != 0 || s.i < len(s.b) {
		s.fail("text after the end of the document")
	}
}

func (s *scanner) open(bracket byte, what string) bool {
	if s.peek() != bracket {
		s.fail(what)
		return false
	}
	if s.depth == maxDepth {
		s.fail("excessive_nesting: deeper than 128 levels")
		return false
	}
	s.depth++
	s.i++
	s.fresh = true
	return true
}

func (s *scanner) beginObject() bool { return s.open('{', "not an object") }
func (s *scanner) beginArray() bool  { return s.open('[', "not an array") }

// more says whether another member or element comes before the closing bracket, which it consumes otherwise.
func (s *scanner) more(closing byte) bool {
	c := s.peek()
	if c == closing {
		s.i++
		s.depth--
		s.fresh = false
		return false
	}
	if s.fresh {
		s.fresh = false
		return !s.failed()
	}
	if c != ',' {
		s.fail("no comma or closing bracket")
		return false
	}
	s.i++
	return true
}

// member moves to the next member of the current object and returns its name; false at the end of the object.
func (s *scanner) member() ([]byte, bool) {
	if !s.more('}') {
		return nil, false
	}
	name := s.text()
	if s.peek() != ':' {
		s.fail("no colon after a member name")
		return nil, false
	}
	s.i++
	return name, true
}

// members ranges over the names of the members of the object that comes next. The body reads each value.
func (s *scanner) members(yield func(name []byte) bool) {
	for s.beginObject(); !s.failed(); {
		if name, ok := s.member(); !ok || !yield(name) {
			return
		}
	}
}

// elements ranges over the array that comes next. The body reads each element.
func (s *scanner) elements(yield func() bool) {
	for s.beginArray(); !s.failed(); {
		if !s.more(']') || !yield() {
			return
		}
	}
}

// skip passes over one value of any type, checking it, and returns its text.
func (s *scanner) skip() []byte {
	c := s.peek()
	start := s.i
	switch c {
	case '{':
		for s.beginObject(); s.more('}'); {
			s.str()
			if s.peek() != ':' {
				s.fail("no colon after a member name")
				break
			}
			s.i++
			s.skip()
		}
	case '[':
		for s.beginArray(); s.more(']'); {
			s.skip()
		}
	case '"':
		s.str()
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
	if s.failed() {
		return nil
	}
	return s.b[start:s.i:s.i]
}

func (s *scanner) literal(word string) {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		s.fail("not a JSON value")
		return
	}
	s.i += len(word)
}

// null consumes a null, if one comes next.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.literal("null")
	return !s.failed()
}

// boolean reads true or false.
func (s *scanner) boolean() bool {
	switch s.peek() {
	case 't':
		s.literal("true")
		return !s.failed()
	case 'f':
		s.literal("false")
	default:
		s.fail("not a boolean")
	}
	return false
}

// number reads a number and says whether it is written as an integer, without fraction and exponent.
func (s *scanner) number() (text []byte, integer bool) {
	s.peek()
	b, start := s.b, s.i
	i := start
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i == len(b) || b[i] < '0' || b[i] > '9':
		s.fail("not a JSON value")
		return nil, false
	case b[i] == '0':
		i++
	default:
		i = digits(b, i)
	}
	integer = true
	if i < len(b) && b[i] == '.' {
		integer = false
		first := i + 1
		if i = digits(b, first); i == first {
			s.fail("a number without digits after its point")
			return nil, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		integer = false
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		first := i
		if i = digits(b, first); i == first {
			s.fail("a number without digits in its exponent")
			return nil, false
		}
	}
	s.i = i
	return b[start:i:i], integer
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// plainByte marks the bytes that stand for themselves in a string: ASCII but controls, quote and backslash.
var plainByte = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// str reads a string and returns what is between its quotes, still escaped where escaped says so.
func (s *scanner) str() (raw []byte, escaped bool) {
	if s.peek() != '"' {
		s.fail("not a string")
		return nil, false
	}
	b, start := s.b, s.i+1
	i := start
	for {
		i += plainRun(b[i:])
		if i == len(b) {
			s.fail("a string without end")
			return nil, false
		}
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return b[start:i:i], escaped
		case c == '\\':
			n := escapeLen(b[i:])
			if n == 0 {
				s.i = i
				s.fail("a bad escape in a string")
				return nil, false
			}
			escaped = true
			i += n
		case c < 0x20:
			s.i = i
			s.fail("a control character in a string")
			return nil, false
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 && !s.carryUTF8 {
				s.i = i
				s.fail("invalid UTF-8 in a string")
				return nil, false
			}
			i += n
		}
	}
}

// text reads a string and returns its decoded content: part of the document, or of the arena where it had escapes.
func (s *scanner) text() []byte {
	raw, escaped := s.str()
	if !escaped {
		return raw
	}
	start := len(s.arena)
	s.arena = appendUnescaped(s.arena, raw)
	return s.arena[start:len(s.arena):len(s.arena)]
}

// escapeLen returns the length of the escape at the start of b, 0 when there is none that stands for a character.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
	default:
		return 0
	}
	r := hex4(b[2:])
	switch {
	case r < 0 || r >= 0xDC00 && r < 0xE000:
		return 0
	case r < 0xD800 || r >= 0xE000:
		return 6
	}
	if len(b) < 12 || b[6] != '\\' || b[7] != 'u' {
		return 0
	}
	if low := hex4(b[8:]); low < 0xDC00 || low >= 0xE000 {
		return 0
	}
	return 12
}

// hex4 returns the value of the four hexadecimal digits at the start of b, -1 when there are none.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, c := range b[:4] {
		d := hexDigit(c)
		if d < 0 {
			return -1
		}
		r = r<<4 | rune(d)
	}
	return r
}

func hexDigit(c byte) int {
	switch {
	case c-'0' <= 9:
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20) - 'a' + 10
	}
	return -1
}

// appendUnescaped appends the decoded form of raw, which str has checked.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			start := i
			for i < len(raw) && raw[i] != '\\' {
				i++
			}
			dst = append(dst, raw[start:i]...)
			continue
		}
		switch c := raw[i+1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(raw[i+2:])
			i += 6
			if r >= 0xD800 && r < 0xE000 {
				r = (r-0xD800)<<10 | (hex4(raw[i+2:]) - 0xDC00) + 0x10000
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
			continue
		default: // quote, backslash, solidus
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}
