package wire

// The classic hashes are over the canonical JSON that the reference server makes with encoding/json, by decoding
// every row into maps, which turns each number into a float64, and encoding it again.

// NewBundleHash returns a hash of the rows of one bundle.
func (classic) NewBundleHash() BundleHash {
	return &bundleHash{rowHash: newRowHash(classicDialect), appendInt: appendClassicInt}
}

// NewRequestHash returns a hash of the rows of one push.
func (classic) NewRequestHash() RequestHash {
	return &classicRequestHash{rowHash: newRowHash(classicDialect)}
}

type classicRequestHash struct{ rowHash }

// Add adds the next row. A payload that is no JSON object is a *LocalFormError, after which only Reset is useful.
func (h *classicRequestHash) Add(r *PushRow) error {
	h.begin()
	h.buf = append(h.buf, `{"base_row_version":`...)
	h.buf = appendClassicInt(h.buf, r.BaseRowVersion)
	h.key(`,"key":`, r.Key)
	h.string(`,"op":`, string(r.Op))
	if r.Op != OpDelete {
		if fault := h.object(`,"payload":`, r.Payload); fault != "" {
			return &LocalFormError{Table: r.Schema + "." + r.Table, Reason: "a payload with " + fault}
		}
	}
	h.string(`,"schema":`, r.Schema)
	h.string(`,"table":`, r.Table)
	h.end()
	return nil
}
