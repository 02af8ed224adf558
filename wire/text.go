package wire

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// Eight bytes at a time: the constants repeat a byte, and zeroBytes sets the high bit of the lowest zero byte of w
// (bits above it may be wrong). See https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord.
const (
	low  = 0x0101010101010101
	high = 0x80 * low
)

func zeroBytes(w uint64) uint64 { return (w - low) &^ w & high }

// notPlain sets the high bit of the first byte of w that does not stand for itself in a JSON string: controls, quote,
// backslash, and everything beyond ASCII.
func notPlain(w uint64) uint64 {
	return ((w-0x20*low)&^w | w | zeroBytes(w^'"'*low) | zeroBytes(w^'\\'*low)) & high
}

// plainRun counts the bytes at the start of b that stand for themselves in a JSON string.
func plainRun(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if m := notPlain(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for i < len(b) && plainByte[b[i]] {
		i++
	}
	return i
}

// appendString appends s as a JSON string, escaping only what JSON demands: quote, backslash and controls, with the
// short forms where there are any. SQLite and RFC 8785 print the same.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := len(dst)
	dst = append(dst, s...)
	for i := start; i < len(dst); i++ {
		i += plainRun(dst[i:])
		if i < len(dst) && (dst[i] < 0x20 || dst[i] == '"' || dst[i] == '\\') {
			return appendEscaped(dst[:i], s, i-start)
		}
	}
	return append(dst, '"')
}

// appendEscaped appends the rest of a string from its byte i on, escaping where needed.
func appendEscaped[T string | []byte](dst []byte, s T, i int) []byte {
	for start := i; ; i++ {
		if i == len(s) {
			dst = append(dst, s[start:]...)
			return append(dst, '"')
		}
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' {
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, c)
			start = i + 1
		}
	}
}

// appendEscape appends the escape of an ASCII character.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// classicRun counts the bytes at the start of b that encoding/json prints as they are, for certain.
func classicRun(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if m := notPlain(w) | zeroBytes(w^'<'*low) | zeroBytes(w^'>'*low) | zeroBytes(w^'&'*low); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for i < len(b) && plainByte[b[i]] && b[i] != '<' && b[i] != '>' && b[i] != '&' {
		i++
	}
	return i
}

// appendClassicString appends s, valid UTF-8, as encoding/json prints a string by default, HTML escapes included.
func appendClassicString(dst, s []byte) []byte {
	dst = append(dst, '"')
	for {
		n := classicRun(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			return append(dst, '"')
		}
		switch c := s[0]; {
		case c == '<' || c == '>' || c == '&':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c == 0xE2 && len(s) > 2 && s[1] == 0x80 && s[2]&^1 == 0xA8: // U+2028 and U+2029
			dst = append(dst, `\u202`...)
			dst = append(dst, hexDigits[s[2]&15])
			s = s[2:]
		case c >= utf8.RuneSelf:
			dst = append(dst, c)
		default:
			dst = appendEscape(dst, c)
		}
		s = s[1:]
	}
}

// validText names what keeps text from travelling, "" when nothing does: no server stores a NUL in text.
func validText(s []byte) string {
	i, beyondASCII := 0, uint64(0)
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		if zeroBytes(w) != 0 {
			return "nul_in_text"
		}
		beyondASCII |= w & high
	}
	for _, c := range s[i:] {
		if c == 0 {
			return "nul_in_text"
		}
		beyondASCII |= uint64(c) & high
	}
	if beyondASCII != 0 && !utf8.Valid(s) {
		return "invalid_utf8"
	}
	return ""
}
