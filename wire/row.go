package wire

// Op is what happened to a row: INSERT, UPDATE or DELETE, spelled as on the wire and in the local tables.
type Op string

// The three operations of the protocol.
const (
	OpInsert Op = "INSERT"
	OpUpdate Op = "UPDATE"
	OpDelete Op = "DELETE"
)

// Valid reports whether o is one of the three operations of the protocol.
func (o Op) Valid() bool { return o == OpInsert || o == OpUpdate || o == OpDelete }

// Key identifies a row inside its table, in wire form: exactly one member, whose value is always a string. A BLOB
// key is spelled as canonical lower-case dashed UUID text.
type Key struct {
	Column string // sync-key column, lower case
	Value  string
}

// Row is one committed row as a server sends it, in a pulled bundle, a committed-bundle page or a snapshot page.
type Row struct {
	Schema, Table string // lower case
	Key           Key
	Op            Op    // OpInsert in a snapshot
	RowVersion    int64 // the bundle_seq that last wrote the row
	// Payload is the full row after the change, a JSON object exactly as received; nil for OpDelete. It aliases the
	// buffer of the response that it was decoded from and must not be written to.
	Payload []byte
}

// PushRow is one row of a push, in wire form.
type PushRow struct {
	Schema, Table  string
	Key            Key
	Op             Op
	BaseRowVersion int64  // the row version on which the change was made; 0: the row was not known on the server
	Payload        []byte // JSON object with every column; nil for OpDelete
}

// Bundle is one committed server transaction, the unit of replication. It is applied whole or not at all.
type Bundle struct {
	BundleMeta
	Rows []Row
}

// BundleMeta identifies a committed bundle and carries what its content is checked against.
type BundleMeta struct {
	Seq            int64  // the server's per-user commit number, from 1, without gaps
	SourceID       string // the writer stream that pushed it
	SourceBundleID int64  // its number in that stream
	RowCount       int64  // -1: not given
	Hash           string // lower-case hex SHA-256; "": not given
	// RequestHash is the hash of the push request that was committed as this bundle. Uniform contract only.
	RequestHash string
}
