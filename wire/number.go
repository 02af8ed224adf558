package wire

import (
	"math"
	"strconv"
)

// maxSafeInteger is the largest integer up to which every integer survives a passage through a float64.
const maxSafeInteger = 1<<53 - 1

// parseInt parses an integer literal of JSON; false when it is beyond int64.
func parseInt(text []byte) (int64, bool) {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	if len(text) == 0 || len(text) > 19 {
		return 0, false
	}
	var v uint64
	for _, c := range text {
		v = v*10 + uint64(c-'0') // 19 digits always fit
	}
	switch {
	case negative && v <= 1<<63:
		return -int64(v), true // −2^63 wraps onto itself
	case !negative && v < 1<<63:
		return int64(v), true
	}
	return 0, false
}

// parseFloat parses a number literal of JSON; false when it is beyond float64.
func parseFloat(text []byte) (float64, bool) {
	f, err := strconv.ParseFloat(string(text), 64)
	return f, err == nil
}

// integralValue returns the integer that a number literal stands for, however it is written (12, 1.2e1, 12.0),
// without going through a float64; false when it is no integer or beyond int64.
func integralValue(text []byte, integer bool) (int64, bool) {
	if integer {
		return parseInt(text)
	}
	var digits [24]byte // sign and significant digits; a longer int64 there is not
	n, point, exponent := 0, 0, 0
	i := 0
	negative := text[0] == '-'
	if negative {
		i++
	}
	seenPoint := false
	zeros := 0 // zeros not yet known to be followed by another digit
	for ; i < len(text) && text[i]|0x20 != 'e'; i++ {
		c := text[i]
		if c == '.' {
			seenPoint = true
			continue
		}
		if !seenPoint {
			point++
		}
		switch {
		case c == '0' && n == 0:
			point-- // a leading zero counts for nothing but the position of the point
			continue
		case c == '0':
			zeros++
			continue
		}
		if n+zeros >= 19 {
			return 0, false
		}
		for ; zeros > 0; zeros-- {
			digits[n] = '0'
			n++
		}
		digits[n] = c
		n++
	}
	if n == 0 {
		return 0, true
	}
	if i < len(text) {
		e, err := strconv.Atoi(string(text[i+1:]))
		if err != nil || e > 1<<20 || e < -1<<20 {
			return 0, false
		}
		exponent = e
	}
	length := point + exponent // digits before the point
	if length < n || length > 19 {
		return 0, false
	}
	for n < length {
		digits[n] = '0'
		n++
	}
	v, err := strconv.ParseUint(string(digits[:n]), 10, 64)
	switch {
	case err != nil:
		return 0, false
	case negative && v <= 1<<63:
		return -int64(v), true
	case !negative && v < 1<<63:
		return int64(v), true
	}
	return 0, false
}

// appendFloat appends f as encoding/json prints a float64: the shortest digits that read back as f, an exponent
// only below 1e-6 and from 1e21, without padding.
func appendFloat(dst []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	if format == 'e' {
		if n := len(dst); n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' { // e-09 to e-9
			dst[n-2] = dst[n-1]
			dst = dst[:n-1]
		}
	}
	return dst
}

// appendClassicNumber appends a number literal as it looks after a passage through a float64, which is what the
// classic server does with every number; false when no float64 comes near it.
func appendClassicNumber(dst, text []byte, integer bool) ([]byte, bool) {
	if integer && len(text) <= 15 {
		return append(dst, text...), true // exact as a float64, and printed like this
	}
	f, ok := parseFloat(text)
	if !ok {
		return dst, false
	}
	return appendFloat(dst, f), true
}

// appendClassicInt appends an integer as it looks after a passage through a float64.
func appendClassicInt(dst []byte, v int64) []byte {
	if v > maxSafeInteger || v < -maxSafeInteger {
		return appendFloat(dst, float64(v))
	}
	return strconv.AppendInt(dst, v, 10)
}

// appendSQLiteReal appends f in the layout of SQLite's printf('%!.17g'): always with a fraction, an exponent below
// 1e-4 and from 1e17 with at least two digits, no negative zero, Inf. The digits are the shortest that read back as
// f; SQLite's own may differ from them in the last places, but stand for the same float64.
func appendSQLiteReal(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "Inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-Inf"...)
	case f == 0:
		return append(dst, "0.0"...)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	mark := len(dst) - 1
	for dst[mark] != 'e' {
		mark--
	}
	exponent, _ := strconv.Atoi(string(dst[mark+1:]))
	if exponent >= -4 && exponent < 17 {
		dst = strconv.AppendFloat(dst[:start], f, 'f', -1, 64)
		for _, c := range dst[start:] {
			if c == '.' {
				return dst
			}
		}
		return append(dst, ".0"...)
	}
	point := start + 1
	if dst[start] == '-' {
		point++
	}
	if dst[point] == 'e' {
		dst = append(dst, ".0"...)
		copy(dst[point+2:], dst[point:len(dst)-2])
		dst[point], dst[point+1] = '.', '0'
	}
	return dst
}
