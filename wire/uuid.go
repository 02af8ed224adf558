package wire

import "encoding/base64"

// appendUUID appends the canonical text of the 16 bytes of a UUID.
func appendUUID(dst, id []byte) []byte {
	for i, c := range id {
		switch i {
		case 4, 6, 8, 10:
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}

// parseUUID appends the 16 bytes of a UUID in any of its usual spellings: dashed, without dashes, in braces, as a
// URN, in either case. False when it is none.
func parseUUID[T string | []byte](dst []byte, s T) ([]byte, bool) {
	const urn = "urn:uuid:"
	switch {
	case len(s) == len(urn)+36 && string(lowerASCII(s[:len(urn)])) == urn:
		s = s[len(urn):]
	case len(s) == 38 && s[0] == '{' && s[37] == '}':
		s = s[1:37]
	}
	if len(s) != 36 && len(s) != 32 {
		return dst, false
	}
	dashed := len(s) == 36
	start := len(dst)
	for i := 0; i < len(s); {
		if dashed && (i == 8 || i == 13 || i == 18 || i == 23) {
			if s[i] != '-' {
				return dst[:start], false
			}
			i++
			continue
		}
		hi, lo := hexDigit(s[i]), hexDigit(s[i+1])
		if hi < 0 || lo < 0 {
			return dst[:start], false
		}
		dst = append(dst, byte(hi<<4|lo))
		i += 2
	}
	return dst, true
}

func lowerASCII[T string | []byte](s T) []byte {
	out := []byte(s)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c | 0x20
		}
	}
	return out
}

// appendHex appends b in lower-case hexadecimal digits.
func appendHex(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}

// parseHex appends the bytes that hexadecimal digits stand for; false when they are none.
func parseHex[T string | []byte](dst []byte, s T) ([]byte, bool) {
	if len(s)%2 != 0 {
		return dst, false
	}
	start := len(dst)
	for i := 0; i < len(s); i += 2 {
		hi, lo := hexDigit(s[i]), hexDigit(s[i+1])
		if hi < 0 || lo < 0 {
			return dst[:start], false
		}
		dst = append(dst, byte(hi<<4|lo))
	}
	return dst, true
}

// parseBase64 appends the bytes of standard base64, padded or not; false when it is none.
func parseBase64(dst, s []byte) ([]byte, bool) {
	enc := base64.StdEncoding
	if len(s)%4 != 0 {
		enc = base64.RawStdEncoding
	}
	start := len(dst)
	out, err := enc.AppendDecode(dst, s)
	if err != nil {
		return dst[:start], false
	}
	return out, true
}
