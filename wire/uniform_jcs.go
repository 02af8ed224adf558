package wire

import "math"

// This file holds canonical JSON by RFC 8785 (JCS), over which the hashes of the uniform contract are.

// jcsDialect spells the leaves of canonical JSON by RFC 8785.
var jcsDialect = dialect{
	appendString: appendString[[]byte],
	appendNumber: appendJCSNumber,
	compareNames: compareUTF16[[]byte],
}

// compareUTF16 orders names by their UTF-16 code units. That is the order of their UTF-8 bytes, except that a character
// beyond the basic plane, which UTF-16 spells with surrogates, comes before U+E000…U+FFFF.
func compareUTF16[T string | []byte](a, b T) int {
	n := min(len(a), len(b))
	for i := 0; i < n; i++ {
		if a[i] != b[i] {
			return int(utf16Weight(a[i])) - int(utf16Weight(b[i]))
		}
	}
	return len(a) - len(b)
}

// utf16Weight orders the first bytes in which two strings differ. The bytes from 0xEE on lead a character, 0xEE and
// 0xEF one of U+E000…U+FFFF, 0xF0 to 0xF4 one beyond.
func utf16Weight(c byte) byte {
	if c == 0xEE || c == 0xEF {
		return c + 0x10
	}
	return c
}

// appendJCSNumber appends a number literal in the one spelling that its float64 has; false when no float64 comes near it.
func appendJCSNumber(dst, text []byte, integer bool) ([]byte, bool) {
	if integer && len(text) <= 15 && string(text) != "-0" {
		return append(dst, text...), true // exact as a float64, and printed like this
	}
	f, ok := parseFloat(text)
	if !ok {
		return dst, false
	}
	return appendJCSFloat(dst, f), true
}

// appendJCSFloat appends f, which is finite, as ECMAScript prints a number: as encoding/json does, but both zeros alike.
func appendJCSFloat(dst []byte, f float64) []byte {
	if f == 0 {
		return append(dst, '0')
	}
	return appendFloat(dst, f)
}

// canonicalFloat parses a finite real in the spelling of appendJCSFloat; every other one is refused.
func canonicalFloat(text []byte) (float64, bool) {
	f, ok := parseFloat(text)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) || len(text) > maxFloatText {
		return 0, false
	}
	var canonical [maxFloatText]byte
	return f, string(appendJCSFloat(canonical[:0], f)) == string(text)
}

// maxFloatText is longer than any number that appendJCSFloat writes.
const maxFloatText = 32

// NewBundleHash returns a hash of the rows of one bundle.
func (uniform) NewBundleHash() BundleHash {
	return &bundleHash{rowHash: newRowHash(jcsDialect), appendInt: appendQuotedInt}
}

// NewRequestHash returns a hash of the rows of one push.
func (uniform) NewRequestHash() RequestHash {
	return &uniformRequestHash{rowHash: newRowHash(jcsDialect)}
}

type uniformRequestHash struct{ rowHash }

// Add adds the next row. A payload that is no JSON object is a *LocalFormError, after which only Reset is useful.
func (h *uniformRequestHash) Add(r *PushRow) error {
	ordinal := h.rows
	h.begin()
	h.buf = append(h.buf, `{"base_row_version":`...)
	h.buf = appendQuotedInt(h.buf, r.BaseRowVersion)
	h.key(`,"key":`, r.Key)
	h.string(`,"op":`, string(r.Op))
	if r.Op == OpDelete {
		h.buf = append(h.buf, `,"payload":null`...)
	} else if fault := h.object(`,"payload":`, r.Payload); fault != "" {
		return &LocalFormError{Table: r.Schema + "." + r.Table, Reason: "a payload with " + fault}
	}
	h.buf = append(h.buf, `,"row_ordinal":`...)
	h.buf = appendQuotedInt(h.buf, ordinal)
	h.string(`,"schema":`, r.Schema)
	h.string(`,"table":`, r.Table)
	h.end()
	return nil
}
