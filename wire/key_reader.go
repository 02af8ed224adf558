package wire

// KeyReader turns local keys of one table into wire form, as WireKey does, for many keys one after the other. Not safe
// for concurrent use.
type KeyReader struct {
	t    *Table
	head []byte // what every key begins with, up to and with the opening quote of its value
	text []byte // scratch
}

// NewKeyReader returns a reader of keys of t.
func NewKeyReader(t *Table) *KeyReader {
	head := append(appendString([]byte{'{'}, t.KeyColumn().Name), `:"`...)
	return &KeyReader{t: t, head: head}
}

// Read returns the wire key of a local key. same says that AppendWireKeyJSON would print exactly keyJSON. Errors are
// those of WireKey.
func (r *KeyReader) Read(keyJSON []byte) (key Key, same bool, err error) {
	if value, ok := r.plain(keyJSON); ok {
		switch r.t.KeyColumn().Kind {
		case KindText:
			return Key{Column: r.t.KeyColumn().Name, Value: string(value)}, true, nil
		case KindBlob, KindUUIDBlob:
			var id [16]byte
			if len(value) == 2*len(id) {
				if raw, ok := parseHex(id[:0], value); ok {
					r.text = appendUUID(r.text[:0], raw)
					return Key{Column: r.t.KeyColumn().Name, Value: string(r.text)}, false, nil
				}
			}
		}
	}
	if key, err = WireKey(r.t, string(keyJSON)); err != nil {
		return Key{}, false, err
	}
	r.text = AppendWireKeyJSON(r.text[:0], key)
	return key, string(r.text) == string(keyJSON), nil
}

// plain returns the value of a key that is written in the usual way, without anything that needs an escape.
func (r *KeyReader) plain(keyJSON []byte) ([]byte, bool) {
	n, end := len(r.head), len(keyJSON)-len(`"}`)
	if end < n || string(keyJSON[:n]) != string(r.head) || string(keyJSON[end:]) != `"}` {
		return nil, false
	}
	value := keyJSON[n:end]
	return value, plainRun(value) == len(value)
}
