package wire

import "strings"

// Kind is how the values of a column are spelled, locally and on the wire. It follows from the declared type.
type Kind uint8

// The column kinds.
const (
	KindText Kind = iota
	KindInteger
	KindReal
	KindBlob
	// KindUUIDBlob is a BLOB column that is the sync key or the child side of a foreign key: it holds the 16 bytes
	// of a UUID and travels as its canonical text.
	KindUUIDBlob
)

// Column describes one synced column. Generated columns are not described, they never travel.
type Column struct {
	Name string // lower case
	Kind Kind
}

// Table describes a synced table in the order of its local columns.
type Table struct {
	Schema  string // the remote schema
	Name    string // lower case
	Columns []Column
	Key     int // index into Columns of the sync key
}

// KeyColumn returns the sync-key column of t.
func (t *Table) KeyColumn() Column { return t.Columns[t.Key] }

// KindOf derives the kind of a column from its declared SQL type. reference says whether the column is the sync
// key or the child side of a foreign key.
func KindOf(declared string, reference bool) Kind {
	d := strings.ToLower(declared)
	switch {
	case strings.Contains(d, "blob"):
		if reference {
			return KindUUIDBlob
		}
		return KindBlob
	case strings.Contains(d, "real"), strings.Contains(d, "float"), strings.Contains(d, "double"):
		return KindReal
	case strings.Contains(d, "int"):
		return KindInteger
	default:
		return KindText
	}
}

// ValueType is the storage class of a Value.
type ValueType uint8

// The storage classes of SQLite.
const (
	Null ValueType = iota
	Integer
	Real
	Text
	Blob
)

// Value is one column value in SQLite's own terms, exact for everything SQLite can hold.
type Value struct {
	Type  ValueType
	Int   int64
	Float float64
	// Bytes is the content of a Text or Blob. It may alias a decoder's buffer: valid until that decoder's next call.
	Bytes []byte
}
