package wire

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string, escaping only what JSON demands: quote, backslash and controls, with the
// short forms where there are any. SQLite and RFC 8785 print the same.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscape(dst, c)
		start = i + 1
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
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

// classicPlain marks the bytes that encoding/json prints as they are; 0xE2 may begin U+2028 or U+2029.
var classicPlain = func() (t [256]bool) {
	for c := 0x20; c < 0x100; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && c != 0xE2
	}
	return t
}()

// appendClassicString appends s, valid UTF-8, as encoding/json prints a string by default, HTML escapes included.
func appendClassicString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if classicPlain[c] {
			continue
		}
		switch {
		case c != 0xE2:
			dst = append(dst, s[start:i]...)
			if c == '<' || c == '>' || c == '&' {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			} else {
				dst = appendEscape(dst, c)
			}
			start = i + 1
		case i+2 < len(s) && s[i+1] == 0x80 && s[i+2]&^1 == 0xA8:
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\u202`...)
			dst = append(dst, hexDigits[s[i+2]&15])
			i += 2
			start = i + 1
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// validText names what keeps text from travelling, "" when nothing does: no server stores a NUL in text.
func validText(s []byte) string {
	plain := true
	for _, c := range s {
		if c == 0 {
			return "nul_in_text"
		}
		plain = plain && c < utf8.RuneSelf
	}
	if !plain && !utf8.Valid(s) {
		return "invalid_utf8"
	}
	return ""
}
