package wire

import "fmt"

// decoder reads one response. It adds to the scanner what all responses share: names that recur are made strings
// once, and a member that is read must not come twice.
type decoder struct {
	scanner
	operation string
	uniform   bool       // rows by the rules of the uniform contract
	strict    bool       // a null stands for nothing
	names     [16]string // strings that recur from row to row: schemas, tables, key columns
	known     int
}

func newDecoder(operation string, body []byte) *decoder {
	return &decoder{scanner: scanner{b: body}, operation: operation}
}

// memberSet tells which of its members an object has had, one bit each.
type memberSet uint32

// null consumes a null, if one comes next and may.
func (d *decoder) null() bool { return !d.strict && d.scanner.null() }

// once notes a member that is read.
func (d *decoder) once(seen *memberSet, bit memberSet) {
	if *seen&bit != 0 {
		d.fail(twice)
	}
	*seen |= bit
}

// finish checks the end of the document and answers the first fault of its JSON.
func (d *decoder) finish() error {
	if d.end(); d.failed() {
		return d.bad("%s", d.reason())
	}
	return nil
}

func (d *decoder) bad(format string, args ...any) error {
	return &ProtocolError{Operation: d.operation, Reason: fmt.Sprintf(format, args...)}
}

func (d *decoder) otherBundle(format string, args ...any) error {
	return &ProtocolError{Operation: d.operation, Reason: fmt.Sprintf(format, args...), Err: ErrOtherBundle}
}

// int reads a 64-bit integer; a null leaves dst alone, as an absent member does.
func (d *decoder) int(dst *int64) {
	if d.null() {
		return
	}
	text, integer := d.number()
	if d.failed() {
		return
	}
	n, ok := parseInt(text)
	if !integer || !ok {
		d.fail("not a 64-bit integer")
		return
	}
	*dst = n
}

// string reads a string; a null leaves dst alone.
func (d *decoder) string(dst *string) {
	if !d.null() {
		*dst = string(d.text())
	}
}

// name reads a string that is expected to recur.
func (d *decoder) name(dst *string) {
	if !d.null() {
		*dst = d.intern(d.text())
	}
}

func (d *decoder) intern(b []byte) string {
	for i := range d.known {
		if d.names[i] == string(b) {
			return d.names[i]
		}
	}
	s := string(b)
	if d.known < len(d.names) {
		d.names[d.known] = s
		d.known++
	}
	return s
}

// bool reads a boolean; a null leaves dst alone.
func (d *decoder) bool(dst *bool) {
	if !d.null() {
		*dst = d.boolean()
	}
}

// op reads an operation; an unknown one is kept for the check of the row.
func (d *decoder) op(dst *Op) {
	if d.null() {
		return
	}
	switch text := d.text(); string(text) {
	case string(OpInsert):
		*dst = OpInsert
	case string(OpUpdate):
		*dst = OpUpdate
	case string(OpDelete):
		*dst = OpDelete
	default:
		d.fail("an unknown op")
	}
}

// key reads a row key: an object with one member, a string.
func (d *decoder) key(dst *Key) {
	if d.null() || !d.beginObject() {
		return
	}
	column, ok := d.member()
	if !ok {
		d.fail("a row key without a member")
		return
	}
	dst.Column = d.intern(column)
	dst.Value = string(d.text())
	if d.uniform && !d.failed() {
		d.checkKey(dst)
	}
	if d.more('}') {
		d.fail("a row key with more than one member")
	}
}

// object passes over an object and returns its text, nil for null.
func (d *decoder) object() []byte {
	if d.null() {
		return nil
	}
	if d.peek() != '{' {
		d.fail("not an object")
		return nil
	}
	return d.skip()
}

// list ranges over the elements of an array, of which the body reads each; a null is an empty one.
func (d *decoder) list(yield func() bool) {
	if !d.null() {
		d.elements(yield)
	}
}

// row reads one committed row and checks what can be checked of it alone.
func (d *decoder) row(r *Row, snapshot bool) error {
	var seen memberSet
	for name := range d.members {
		switch string(name) {
		case "schema":
			d.once(&seen, 1)
			d.name(&r.Schema)
		case "table":
			d.once(&seen, 2)
			d.name(&r.Table)
		case "key":
			d.once(&seen, 4)
			d.key(&r.Key)
		case "op":
			d.once(&seen, 8)
			if snapshot {
				d.skip()
				break
			}
			d.op(&r.Op)
		case "row_version":
			d.once(&seen, 16)
			d.int(&r.RowVersion)
		case "payload":
			d.once(&seen, 32)
			r.Payload = d.payload()
		default:
			d.skip()
		}
	}
	if d.failed() {
		return nil // reported at the end, with its place
	}
	return d.checkRow(r, snapshot)
}

func (d *decoder) checkRow(r *Row, snapshot bool) error {
	bad := func(format string, args ...any) error {
		e := &ProtocolError{Operation: d.operation, Reason: fmt.Sprintf(format, args...)}
		if r.Table != "" {
			e.Table = r.Schema + "." + r.Table
		}
		return e
	}
	if snapshot {
		r.Op = OpInsert
	}
	kind := "bundle"
	if snapshot {
		kind = "snapshot"
	}
	switch {
	case r.Schema == "" || r.Table == "":
		return bad("a %s row without schema or table", kind)
	case r.Key.Column == "":
		return bad("a %s row without a key", kind)
	case !r.Op.Valid():
		return bad("a %s row without an op", kind)
	case r.RowVersion <= 0:
		return bad("%s row row_version %d must be positive", kind, r.RowVersion)
	case r.Op == OpDelete:
		r.Payload = nil // a payload says nothing of a row that is gone
	case r.Payload == nil:
		return bad("a %s row without a payload", kind)
	}
	return nil
}

// The members of a bundle's meta data, as bits of a memberSet.
const (
	hasSeq memberSet = 1 << iota
	hasSource
	hasSourceBundle
	hasRowCount
	hasHash
	hasRequestHash
	metaBits = iota
)

// meta reads a member of a bundle's meta data; false when name is none.
func (d *decoder) meta(name []byte, m *BundleMeta, seen *memberSet) bool {
	switch string(name) {
	case "bundle_seq":
		d.once(seen, hasSeq)
		d.int(&m.Seq)
	case "source_id":
		d.once(seen, hasSource)
		d.name(&m.SourceID)
	case "source_bundle_id":
		d.once(seen, hasSourceBundle)
		d.int(&m.SourceBundleID)
	case "row_count":
		d.once(seen, hasRowCount)
		d.int(&m.RowCount)
	case "bundle_hash":
		d.once(seen, hasHash)
		d.string(&m.Hash)
	case "canonical_request_hash":
		d.once(seen, hasRequestHash)
		d.string(&m.RequestHash)
	default:
		return false
	}
	return true
}

// checkMeta checks meta data alone.
func (d *decoder) checkMeta(m *BundleMeta) error {
	switch {
	case m.Seq <= 0:
		return d.bad("bundle_seq %d must be positive", m.Seq)
	case m.SourceID == "":
		return d.bad("bundle %d without a source_id", m.Seq)
	case m.SourceBundleID < 0:
		return d.bad("bundle %d has source_bundle_id %d", m.Seq, m.SourceBundleID)
	case m.RowCount < -1:
		return d.bad("bundle %d has row_count %d", m.Seq, m.RowCount)
	}
	return nil
}
