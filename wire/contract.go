package wire

// ContractName names a dialect of the protocol. It is stored in local databases; its values never change.
type ContractName string

// The dialects.
const (
	ClassicContract ContractName = "classic"
	UniformContract ContractName = "jcs_uniform_numeric_strings_v1"
)

// Contract is one dialect of the wire: value spelling, canonical JSON, hashes, and the shapes of requests and
// responses. Implementations are stateless and safe for concurrent use; the coders and hashers they hand out are
// not, and keep scratch buffers so that steady work does not allocate.
//
// Every Decode method checks everything that can be checked without knowledge of the local database and answers a
// *ProtocolError for a response that breaks the contract.
type Contract interface {
	Name() ContractName

	// NewRowDecoder returns a decoder of wire payloads of t into values.
	NewRowDecoder(t *Table) RowDecoder
	// AppendPayload appends the wire spelling of a row of t to dst. A value that this dialect cannot carry exactly
	// is answered with a *ValueError, and dst is returned unchanged.
	AppendPayload(dst []byte, t *Table, row []Value) ([]byte, error)
	// SameImage reports whether the committed payload is what the frozen one asked for, once the spelling
	// differences that a server may introduce are set aside (classic: numbers as float64, times as instants).
	SameImage(t *Table, frozen, committed []byte) (bool, error)
	// LosslessPayload reports whether the bundle hash proves a payload that AppendPayload wrote: no other content
	// that the server can hold in its place has the same hash. Where it is true of every row of a push, a commit
	// whose hash is the one predicted from the frozen rows need not be fetched.
	LosslessPayload(t *Table, payload []byte) bool

	NewBundleHash() BundleHash
	NewRequestHash() RequestHash

	// Requests. An Append method appends a JSON body to dst.
	AppendCreatePush(dst []byte, r CreatePushRequest) []byte
	AppendPushChunk(dst []byte, start int64, rows []PushRow) []byte

	// Responses to 200.
	DecodeCreatePush(body []byte, r CreatePushRequest, sourceID string) (CreatePushResponse, error)
	DecodePushChunk(body []byte, pushID string, next int64) error
	DecodeCommit(body []byte, r CreatePushRequest, sourceID string) (BundleMeta, error)
	DecodeCommittedRows(body []byte, r CommittedRowsRequest) (CommittedRowsPage, error)
	DecodePull(body []byte, r PullRequest) (PullPage, error)
	// DecodeSnapshotSession answers the session's ID beside an error where it is known, so that it can be given up.
	DecodeSnapshotSession(body []byte) (SnapshotSession, error)
	DecodeSnapshotPage(body []byte, r SnapshotPageRequest) (SnapshotPage, error)
	DecodeConnect(body []byte) (ConnectResponse, error)

	// DecodeError makes an error of an answer other than success, from any endpoint but those of snapshots.
	DecodeError(operation string, status int, body []byte) *HTTPError
	// DecodeSnapshotError is the same for the endpoints of snapshots, which have a taxonomy of their own. bounds are
	// those of the page that was asked for, zero for a session.
	DecodeSnapshotError(operation string, status int, body []byte, bounds SnapshotBounds) *HTTPError

	// SnapshotBounds says how large pages to ask for of a server with these limits. rows and bytes are what the
	// configuration wants, 0: no wish. Limits that contradict each other are a *ProtocolError.
	SnapshotBounds(l Limits, rows, bytes int64) (SnapshotBounds, error)
	// CheckTransfer checks the totals of a snapshot whose last page has come. bytes is the sum of the pages' ByteCount.
	CheckTransfer(s SnapshotSession, rows, bytes int64) error
	// GateEveryRun reports whether the capabilities are asked for anew before every run that asks the server anything.
	GateEveryRun() bool
	// NamesRequest reports whether the server's answers to a push name the request that they are about, by its hash.
	// Then nothing else has to tell whether what was committed is what is in the outbox: an answer about another request
	// is a *RequestHashError. Where it does not, the committed rows have to tell.
	NamesRequest() bool
}

// RowDecoder decodes wire payloads of one table. Not safe for concurrent use.
type RowDecoder interface {
	// Decode returns the row's values in the table's column order. The slice and what its values point to are
	// valid until the next call. A payload that breaks the contract is a *ProtocolError naming table and column.
	Decode(payload []byte) ([]Value, error)
}

// BundleHash computes the hash of a committed bundle row by row, in bundle order. Not safe for concurrent use.
type BundleHash interface {
	Add(r *Row) error
	// Sum returns the lower-case hex hash of what was added and resets.
	Sum() string
	Reset()
}

// RequestHash computes the hash of a push request row by row, in push order. Not safe for concurrent use.
type RequestHash interface {
	Add(r *PushRow) error
	// Sum returns the lower-case hex hash of what was added and resets.
	Sum() string
	Reset()
}

// CreatePushRequest opens a push session.
type CreatePushRequest struct {
	SourceBundleID   int64
	PlannedRowCount  int64
	InitializationID string // "": no lease is held
	RequestHash      string // sent in the uniform contract only
}

// CreatePushResponse answers it: either a staging session or the bundle as which the tuple was committed before.
type CreatePushResponse struct {
	AlreadyCommitted bool
	PushID           string     // when staging
	Committed        BundleMeta // when AlreadyCommitted
}

// CommittedRowsRequest asks for a page of a committed bundle.
type CommittedRowsRequest struct {
	Bundle  BundleMeta // what the commit (or an earlier page) said; a zero RowCount < 0 or empty Hash is not compared
	After   int64      // last ordinal already fetched; -1: from the start
	MaxRows int64
}

// CommittedRowsPage is a page of a committed bundle.
type CommittedRowsPage struct {
	Bundle  BundleMeta
	Rows    []Row
	Next    int64 // last ordinal on the page; the request's After on an empty page
	HasMore bool
}

// PullRequest asks for bundles after a checkpoint.
type PullRequest struct {
	After      int64
	MaxBundles int64
	Target     int64 // 0 on the first page: the server freezes a ceiling; later pages send it back
}

// PullPage is one page of a pull.
type PullPage struct {
	StableSeq int64
	Bundles   []Bundle
	HasMore   bool
}

// SourceReplacement asks a snapshot session to retire a source in favour of another.
type SourceReplacement struct {
	PreviousSourceID, NewSourceID string
	Reason                        string
}

// SnapshotSession is the server's answer to the creation of a snapshot.
type SnapshotSession struct {
	ID        string
	BundleSeq int64
	RowCount  int64
	ByteCount int64
	ExpiresAt string
}

// SnapshotPageRequest asks for a page of a snapshot.
type SnapshotPageRequest struct {
	Session SnapshotSession
	After   int64 // rows already consumed
	MaxRows int64
	// Uniform contract only.
	AfterBytes int64 // sum of the ByteCount of the pages already consumed
	MaxBytes   int64
}

// SnapshotPage is a page of a snapshot. Its rows have OpInsert.
type SnapshotPage struct {
	Rows      []Row
	Next      int64 // After + len(Rows)
	ByteCount int64 // of the rows, as the server counts them; uniform contract only
	HasMore   bool
}

// SnapshotBounds bounds the pages that are asked for.
type SnapshotBounds struct {
	MaxRows  int64
	MaxBytes int64 // 0: this dialect bounds pages by rows alone
}

// Resolution is the server's decision in the answer to connect.
type Resolution string

// The resolutions of connect.
const (
	RemoteAuthoritative Resolution = "remote_authoritative"
	InitializeLocal     Resolution = "initialize_local"
	InitializeEmpty     Resolution = "initialize_empty"
	ResolutionRetry     Resolution = "retry_later"
)

// ConnectResponse answers connect.
type ConnectResponse struct {
	Resolution        Resolution
	InitializationID  string
	LeaseExpiresAt    string
	RetryAfterSeconds int64
}

// Conflict is the body of a push_conflict: the first row of a push that the server refused, and what it holds.
type Conflict struct {
	Schema, Table    string
	Key              Key
	Op               Op
	BaseRowVersion   int64
	ServerRowVersion int64
	ServerRowDeleted bool
	ServerRow        []byte // JSON object; nil: tombstone or never existed
}

// TableSpec names a table that a server or a client syncs.
type TableSpec struct {
	Schema, Table  string
	SyncKeyColumns []string
}

// Limits are the bundle limits a server advertises; 0 means not given.
type Limits struct {
	MaxRowsPerBundle                   int64
	MaxBytesPerBundle                  int64
	MaxBundlesPerPull                  int64
	DefaultRowsPerPushChunk            int64
	MaxRowsPerPushChunk                int64
	DefaultRowsPerCommittedBundleChunk int64
	MaxRowsPerCommittedBundleChunk     int64
	DefaultRowsPerSnapshotChunk        int64
	MaxRowsPerSnapshotChunk            int64
	PushSessionTTLSeconds              int64
	SnapshotSessionTTLSeconds          int64
	MaxRowsPerSnapshotSession          int64
	MaxBytesPerSnapshotSession         int64
	InitializationLeaseTTLSeconds      int64

	// Uniform contract only.
	DefaultBytesPerSnapshotChunk       int64
	MaxBytesPerSnapshotChunk           int64
	MaxBytesPerSnapshotRow             int64
	MaxConcurrentSnapshotBuilds        int64
	MaxConcurrentSnapshotChunkRequests int64
}

// Capabilities is what a server says of itself.
type Capabilities struct {
	ProtocolVersion string
	SchemaVersion   int64
	AppName         string
	Contract        ContractName // detected by the limit names, see DecodeCapabilities
	TableSpecs      []TableSpec  // nil: not given
	Features        map[string]bool
	Limits          Limits
}
