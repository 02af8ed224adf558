package local

import (
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

// Binding says whether the database belongs to a user.
type Binding string

// The bindings.
const (
	Anonymous Binding = "anonymous"
	Attached  Binding = "attached"
)

// OperationKind is the durable transition that a database is in the middle of.
type OperationKind string

// The durable transitions.
const (
	NoOperation    OperationKind = "none"
	RemoteReplace  OperationKind = "remote_replace"
	SourceRecovery OperationKind = "source_recovery"
)

// OutboxState is how far the one push in flight is known to have come.
type OutboxState string

// The outbox states.
const (
	OutboxNone            OutboxState = "none"
	OutboxPrepared        OutboxState = "prepared"
	OutboxCommittedRemote OutboxState = "committed_remote"
)

// Reasons stored with source recovery (kind source_recovery) and with the rebuild gate (kind none).
const (
	ReasonHistoryPruned            = "history_pruned"
	ReasonSourceSequenceOutOfOrder = "source_sequence_out_of_order"
	ReasonSourceSequenceChanged    = "source_sequence_changed"
	ReasonSourceRetired            = "source_retired"

	ReasonCheckpointAhead = "checkpoint_ahead"
	ReasonExplicitRebuild = "explicit_rebuild"
	ReasonResume          = "resume"
)

// RecoveryReason reports whether reason is one of those for which a source is replaced.
func RecoveryReason(reason string) bool {
	switch reason {
	case ReasonHistoryPruned, ReasonSourceSequenceOutOfOrder, ReasonSourceSequenceChanged, ReasonSourceRetired:
		return true
	default:
		return false
	}
}

// State is everything durable that decisions rest on, read in one transaction.
type State struct {
	Attachment         Attachment
	Operation          Operation
	Outbox             Outbox
	NextSourceBundleID int64 // of the current source
	Pending            Pending
	// HasLiveRows reports whether any row known to be live on the server is here.
	HasLiveRows bool
	// Contract is the dialect pinned for this attachment; "" when none has been detected yet.
	Contract wire.ContractName
	// FrozenContract is the dialect in which the outbox rows are spelled; "" when the outbox is empty.
	FrozenContract wire.ContractName
	// ReattachRequired is set when the server lost or reset the scope while attached.
	ReattachRequired bool
	// KeepIntents is set when a lost lease or scope put intents back: the next attach must not drop them.
	KeepIntents bool
	// UploadBlocked is why uploads are held, nil when they are not.
	UploadBlocked *Blocked

	// Written are the managed tables with rows that the application's transactions changed, as far as they were committed
	// over the engine's connections since the State before. Each is told once, to whoever reads the state.
	// What a savepoint took back, or a commit that failed, may be told, too.
	Written TableSet
	// DataVersion is another than that of the State before if another connection than the engine's own may have committed
	// in between: the application's, or another process's. The same one says that none has.
	DataVersion uint64
}

// Attachment mirrors _sync_attachment_state.
type Attachment struct {
	CurrentSourceID  string
	Binding          Binding
	UserID           string
	Schema           string
	Checkpoint       int64 // last_bundle_seq_seen
	RebuildRequired  bool
	InitializationID string // pending_initialization_id: a lease to seed the scope; "" none
}

// Operation mirrors _sync_operation_state.
type Operation struct {
	Kind                OperationKind
	TargetUserID        string
	Reason              string
	ReplacementSourceID string // of source recovery: the id that is to follow the current source, never used before
	// ReplacedBy is the id by which the server says it has replaced the current source, where that is another one than
	// ReplacementSourceID: it belongs to another copy of this database.
	ReplacedBy string
	Stage      Stage
}

// Stage describes the snapshot that is being staged.
type Stage struct {
	SnapshotID string
	BundleSeq  int64
	RowCount   int64
	ByteCount  int64
	Complete   bool
}

// Outbox mirrors _sync_outbox_bundle: the one push in flight.
type Outbox struct {
	State            OutboxState
	SourceID         string
	SourceBundleID   int64
	InitializationID string
	RequestHash      string
	RowCount         int64
	RemoteHash       string
	RemoteSeq        int64
}

// Pending counts local work that the server does not have yet. A key both dirty and in the outbox counts twice.
type Pending struct {
	Dirty       int64
	Outbox      int64
	Quarantined int64
	Lease       bool      // an unused initialization lease is held
	OldestAt    time.Time // when the oldest row that is dirty or in the outbox was last written; zero when none is
}

// Rows is the number of pending entries, the unused lease included.
func (p Pending) Rows() int64 {
	n := p.Dirty + p.Outbox + p.Quarantined
	if p.Lease && p.Dirty == 0 && p.Outbox == 0 {
		n++
	}
	return n
}

// Any reports whether anything is pending.
func (p Pending) Any() bool { return p.Rows() > 0 }

// BlockedBySequence is the code of a Blocked for which the server holds another request under the outbox's number. Rebuild
// goes on as another source.
const BlockedBySequence = "source_sequence_mismatch"

// Blocked is why uploads are held.
type Blocked struct {
	Code    string // the server's code, a ValueError's reason, "invalid_conflict_resolution", or BlockedBySequence
	Status  int    // HTTP status, 0 when the reason is local
	Message string
	Table   string // where known
	Since   time.Time
}
