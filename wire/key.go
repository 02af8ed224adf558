package wire

// WireKey turns a local key, as SQLite's json_object prints it, into wire form: a BLOB key in hexadecimal digits
// becomes UUID text. A key that cannot travel is a *ValueError, one that is no local key of t a *LocalFormError.
func WireKey(t *Table, keyJSON string) (Key, error) {
	column := t.KeyColumn()
	bad := func(reason string) (Key, error) {
		return Key{}, &LocalFormError{Table: t.qualified(), Column: column.Name, Reason: reason}
	}
	unfit := func(reason string) (Key, error) {
		return Key{}, &ValueError{Table: t.qualified(), Column: column.Name, Reason: reason}
	}
	s := scanner{b: []byte(keyJSON), carryUTF8: true}
	name, value, fault := s.singleText()
	switch {
	case fault == notText:
		return unfit("storage_class")
	case fault != "":
		return bad(fault)
	case string(name) != column.Name:
		return bad("the key names another column")
	}
	switch column.Kind {
	case KindText:
		if reason := validText(value); reason != "" {
			return unfit(reason)
		}
		return Key{Column: column.Name, Value: string(value)}, nil
	case KindBlob, KindUUIDBlob:
		var id [16]byte
		if len(value) != 2*len(id) {
			return unfit("not_a_uuid")
		}
		raw, ok := parseHex(id[:0], value)
		if !ok {
			return unfit("not_a_uuid")
		}
		var text [36]byte
		return Key{Column: column.Name, Value: string(appendUUID(text[:0], raw))}, nil
	}
	return unfit("storage_class")
}

// notText is the fault of a key whose value is well-formed JSON, but not a string: a storage class leaks.
const notText = "a key that is not a string"

// singleText reads a whole document that is an object with one member, a string. fault says why it is not.
func (s *scanner) singleText() (name, value []byte, fault string) {
	s.beginObject()
	name, ok := s.member()
	if !ok && !s.failed() {
		return nil, nil, "a key without a member"
	}
	isText := s.peek() == '"'
	if isText {
		value = s.text()
	} else {
		s.skip()
	}
	if s.more('}') {
		return nil, nil, "a key with more than one member"
	}
	s.end()
	switch {
	case s.failed():
		return nil, nil, s.reason()
	case !isText:
		return nil, nil, notText
	}
	return name, value, ""
}

// AppendWireKeyJSON appends the wire key as a JSON object.
func AppendWireKeyJSON(dst []byte, k Key) []byte {
	dst = append(dst, '{')
	dst = appendString(dst, k.Column)
	dst = append(dst, ':')
	dst = appendString(dst, k.Value)
	return append(dst, '}')
}

// ParseWireKeyJSON reads a wire key that AppendWireKeyJSON wrote. The error is a *LocalFormError without a table.
func ParseWireKeyJSON(keyJSON string) (Key, error) {
	s := scanner{b: []byte(keyJSON)}
	name, value, fault := s.singleText()
	if fault != "" {
		return Key{}, &LocalFormError{Reason: fault}
	}
	return Key{Column: string(name), Value: string(value)}, nil
}

// KeyValue turns a wire key of t into the value to bind locally: text, or the 16 bytes of a UUID. A key of another
// column or form is a *ProtocolError.
func KeyValue(t *Table, k Key) (Value, error) {
	column := t.KeyColumn()
	if k.Column != column.Name {
		return Value{}, &ProtocolError{Table: t.qualified(), Column: column.Name, Reason: "a row key that does not name the sync key column"}
	}
	switch column.Kind {
	case KindText:
		return Value{Type: Text, Bytes: []byte(k.Value)}, nil
	case KindBlob, KindUUIDBlob:
		if id, ok := parseUUID(make([]byte, 0, 16), k.Value); ok {
			return Value{Type: Blob, Bytes: id}, nil
		}
		return Value{}, &ProtocolError{Table: t.qualified(), Column: column.Name, Reason: "a row key that is no UUID"}
	}
	return Value{}, &ProtocolError{Table: t.qualified(), Column: column.Name, Reason: "a row key for a column that cannot be one"}
}

// LocalKeyJSON returns the local key of the row of t whose key column holds value (the text, or the blob's bytes),
// exactly as SQLite's json_object prints it. False means that this cannot be told without asking SQLite, which
// alone decides how keys are spelled: the text or the column name is not plain printable ASCII.
func LocalKeyJSON(t *Table, value []byte) (string, bool) {
	column := t.KeyColumn()
	if !plainASCII(column.Name) {
		return "", false
	}
	size := len(column.Name) + len(`{"":""}`)
	switch column.Kind {
	case KindText:
		if !plainASCII(value) {
			return "", false
		}
		size += len(value)
	case KindBlob, KindUUIDBlob:
		size += 2 * len(value)
	default:
		return "", false
	}
	var stack [128]byte
	b := stack[:0]
	if size > len(stack) {
		b = make([]byte, 0, size)
	}
	b = append(b, `{"`...)
	b = append(b, column.Name...)
	b = append(b, `":"`...)
	if column.Kind == KindText {
		b = append(b, value...)
	} else {
		b = appendHex(b, value)
	}
	return string(append(b, `"}`...)), true
}

// plainASCII reports whether s is printable ASCII without quote and backslash.
func plainASCII[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !plainByte[c] || c == 0x7f {
			return false
		}
	}
	return true
}
