package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// hashFlush is how much canonical text is gathered before it is given to the hash.
const hashFlush = 4 << 10

// rowHash hashes the canonical JSON of an array of rows as they come. Nothing but the row in work is kept.
type rowHash struct {
	canon canonicaliser
	sum   hash.Hash
	buf   []byte
	rows  int64
}

func newRowHash(d dialect) rowHash {
	return rowHash{canon: canonicaliser{dialect: d}, sum: sha256.New()}
}

// begin starts the next row.
func (h *rowHash) begin() {
	if h.rows == 0 {
		h.buf = append(h.buf, '[')
	} else {
		h.buf = append(h.buf, ',')
	}
	h.rows++
}

// object appends a member holding an object in canonical form.
func (h *rowHash) object(name string, object []byte) string {
	h.buf = append(h.buf, name...)
	var fault string
	h.buf, fault = h.canon.append(h.buf, object)
	return fault
}

func (h *rowHash) key(name string, k Key) {
	h.buf = append(h.buf, name...)
	h.buf = append(h.buf, '{')
	h.string("", k.Column)
	h.string(":", k.Value)
	h.buf = append(h.buf, '}')
}

// string appends a member holding a string; name comes with its punctuation.
func (h *rowHash) string(name, s string) {
	h.buf = append(h.buf, name...)
	h.canon.s.arena = append(h.canon.s.arena[:0], s...)
	h.buf = h.canon.dialect.appendString(h.buf, h.canon.s.arena)
}

// end closes the row.
func (h *rowHash) end() {
	h.buf = append(h.buf, '}')
	if len(h.buf) >= hashFlush {
		h.sum.Write(h.buf)
		h.buf = h.buf[:0]
		if cap(h.buf) > maxScratch {
			h.buf = nil
		}
	}
}

// Sum returns the hash of the rows so far and starts anew.
func (h *rowHash) Sum() string {
	if h.rows == 0 {
		h.buf = append(h.buf, '[')
	}
	h.buf = append(h.buf, ']')
	h.sum.Write(h.buf)
	var sum [sha256.Size]byte
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], h.sum.Sum(sum[:0]))
	h.Reset()
	return string(text[:])
}

// Reset forgets what was added.
func (h *rowHash) Reset() {
	h.sum.Reset()
	h.buf = h.buf[:0]
	h.rows = 0
}

// bundleHash hashes the rows of a bundle. Both contracts name the same members in the same order, which is the one that
// their canonical forms sort them into.
type bundleHash struct {
	rowHash
	appendInt func(dst []byte, v int64) []byte // how a number is spelled
}

// Add adds the next row. A payload that is no JSON object is a *ProtocolError, after which only Reset is useful.
func (h *bundleHash) Add(r *Row) error {
	ordinal := h.rows
	h.begin()
	h.key(`{"key":`, r.Key)
	h.string(`,"op":`, string(r.Op))
	if r.Op == OpDelete {
		h.buf = append(h.buf, `,"payload":null`...)
	} else if fault := h.object(`,"payload":`, r.Payload); fault != "" {
		return &ProtocolError{Operation: "bundle hash", Table: r.Schema + "." + r.Table, Reason: "a payload with " + fault}
	}
	h.buf = append(h.buf, `,"row_ordinal":`...)
	h.buf = h.appendInt(h.buf, ordinal)
	h.buf = append(h.buf, `,"row_version":`...)
	h.buf = h.appendInt(h.buf, r.RowVersion)
	h.string(`,"schema":`, r.Schema)
	h.string(`,"table":`, r.Table)
	h.end()
	return nil
}
