package local

import "github.com/oversqlite/oversqlite/wire"

// TableSet names the tables a transaction changed, sorted, without duplicates.
type TableSet []string

// Conflict is a local intent that meets a newer server image of its row.
type Conflict struct {
	Table   string // lower case
	KeyJSON string // local key
	Key     wire.Key
	LocalOp wire.Op
	Base    int64 // base_row_version of the intent
	// Local is the newest local content in local form, nil for a delete. Together with LocalOp, Base and the server's
	// version it identifies what a resolution was made for.
	Local []byte

	LocalWire  []byte // Local in wire form
	BaseWire   []byte // the base row in wire form; nil when not known
	ServerWire []byte // the server's row; nil: deleted, or never existed when ServerVersion is 0

	ServerVersion int64
	ServerExact   bool // false: a deletion inferred from a snapshot, its version is not the tombstone's own
	ServerDeleted bool
}

// ResolutionKind is what is to become of a conflict.
type ResolutionKind uint8

// The resolutions.
const (
	AcceptServer ResolutionKind = iota + 1
	KeepLocal
	KeepMerged
)

// Resolution is an answer to a Conflict. It is applied only while the intent and the server image are still those
// of the Conflict.
type Resolution struct {
	Conflict Conflict
	Kind     ResolutionKind
	Merged   []byte // wire form, every column; KeepMerged only
}

// Settled is the outcome of a settling transaction.
type Settled struct {
	Dropped   int        // void intents over a newer server image, dropped
	Accepted  int        // intents whose shadow had the same content
	Kept      int        // new rows over old tombstones, rebased
	Conflicts []Conflict // to be resolved, at most the asked-for number
	More      bool       // more conflicts than were returned
	Tables    TableSet   // business tables whose rows changed (void intents that laid down their shadow)
	// Stuck counts void intents whose server image cannot be laid down yet: it needs a parent that is not here, takes
	// a unique value that a local row holds, or would leave local rows without their parent. They stay, delay nobody
	// (Freeze leaves them out), and are tried again by every Settle.
	Stuck int
	// SetAside lists what went into quarantine because it depends on what is there, and what was displaced from there because
	// it was all that was in the way of a server's row.
	SetAside []SetAside
}

// ResolutionsApplied is the outcome of applying resolutions.
type ResolutionsApplied struct {
	Applied int
	Stale   int // intent or shadow changed meanwhile: ask again
	// StaleKeys names the rows of the stale ones, in the order of the resolutions.
	StaleKeys []IntentKey
	Tables    TableSet
	// SetAside lists changes in quarantine that were displaced, as they were all that was in an accepted row's way.
	SetAside []SetAside
	// NeedsPull is set when an accepted server row cannot be laid down yet: it refers to a parent that is not here,
	// takes a unique value that another row holds, or is a deletion that would leave local rows without their parent.
	// Intents that would then be in that pull's way, too, are dropped and count as applied, their rows being what they
	// were before; the others, in Deferred, were left as they are.
	NeedsPull bool
	// Deferred names the rows to which nothing was done. When a pull does not help, a Freeze with them in Without pushes
	// the intents that they collide with.
	Deferred []IntentKey
}

// FreezeRequest says how much to freeze and in which dialect.
type FreezeRequest struct {
	Contract wire.ContractName
	MaxRows  int64 // 0: no bound
	MaxBytes int64 // of wire payloads; 0: no bound
	// Without names intents to leave dirty, although they have a known conflict.
	Without []IntentKey
	// Only freezes nothing but these, and what the server must have or lose first.
	Only []IntentKey
	// Probe, from 1 to Probes, freezes as Only does, but a row taken from that part of what is dirty.
	Probe int64
}

// Probes is how many rows FreezeRequest.Probe can tell apart.
const Probes = 8

// Frozen is the outcome of a freeze. Outbox.State is OutboxNone when there was nothing to freeze.
type Frozen struct {
	Outbox Outbox
	More   bool // dirty rows were left for a further bundle because of the bounds
	// Unsettled is set when an intent has a conflict that nobody has settled: nothing was frozen, settle again.
	Unsettled bool
}

// Replayed is the outcome of settling the outbox with the bundle as which it was committed.
type Replayed struct {
	Rows       int64
	Checkpoint int64
	Tables     TableSet // of the committed rows that stand here now, and of those that came with them
	// Foreign is set when the bundle turned out not to be this outbox's: the outbox went back to dirty and source
	// recovery was recorded.
	Foreign bool
	// RebuildRequired is set when an update or delete had no effect on the server: the rebuild gate was set.
	RebuildRequired bool
}

// Applied is the outcome of applying pulled bundles.
type Applied struct {
	Bundles    int
	Rows       int64
	Checkpoint int64
	Tables     TableSet
	// Replayed is set when one of the bundles was the outbox's own.
	Replayed        bool
	Foreign         bool // as in Replayed.Foreign
	RebuildRequired bool
	// Displaced lists the intents that made room.
	Displaced []SetAside
	// Collision is set when the bundle after Checkpoint cannot be applied around local intents; nothing of it was
	// applied, the bundles before it were.
	Collision *Collision
	// Diverged is set when the bundle after Checkpoint does not fit to the rows here, though no intent is in its way: it
	// refers to a row that is not here, or needs a unique value that is taken. Nothing of it was applied, the bundles
	// before it were. The server's history has become another one (it lost the scope, and somebody seeded it anew beyond
	// this checkpoint): only a snapshot tells which rows it leads to.
	Diverged *wire.ProtocolError
}

// Collision names the intents around which a bundle could not be applied.
type Collision struct {
	BundleSeq int64
	Cause     string // "foreign_key" or "unique"; "doubt": they cannot make room while it is open whether the outbox was committed
	Intents   []IntentKey
}

// IntentKey names an intent.
type IntentKey struct {
	Table   string
	KeyJSON string
}

// Restored is the outcome of applying a snapshot.
type Restored struct {
	BundleSeq        int64
	Rows             int64
	DroppedLocalRows int64 // anonymous local intents dropped by a remote replace
	Tables           TableSet
	OutboxSettled    bool // a committed outbox was settled by the snapshot
	// Rotated is set when the snapshot ended a source recovery: the database writes under another source now.
	Rotated   *Rotation
	Displaced []SetAside // the intents that made room
}

// Rotation tells which source has been replaced by which, and why.
type Rotation struct{ From, To, Reason string }

// ConflictTaken is the outcome of recording a push_conflict.
type ConflictTaken struct {
	// Settled is set when the server's image equals the frozen row: the push of that row had been committed after
	// all and was settled as a replay.
	Settled bool
	// Base and Op are those of the refused row, for bounding retries.
	Base   int64
	Op     wire.Op
	Tables TableSet // the row's table, if the row was written
}

// Detached is the outcome of a detach.
type Detached struct {
	Blocked bool
	Pending Pending
	Tables  TableSet
}
