package actors

import (
	"time"

	"github.com/oversqlite/oversqlite/messages"
)

// Event is something that happened in an engine, as its subscribers see it: one of StateChanged, Progressed,
// TablesChanged, BackoffScheduled, ConflictResolved, LocalRowsDropped, SourceRotated, RowQuarantined.
type Event interface{ Kind() Kind }

type (
	// StateChanged tells that an engine's status has changed in more than its counts and times.
	StateChanged struct {
		From, To messages.Phase
		Reason   string // of the new phase
		Err      error  // LastError of the status; nil: none
	}

	// Progressed tells how far a push, a pull or a snapshot has come. A subscriber who is slow sees the newest one of a
	// phase only, and always the last of a phase of which he has seen another one.
	Progressed struct {
		Phase messages.Phase
		Done  int64
		Total int64 // 0: not known
	}

	// TablesChanged tells which tables a transaction changed, or several of the application's. Tables is sorted; it must not be changed.
	TablesChanged struct {
		Tables []string
		Cause  messages.Cause
	}

	// BackoffScheduled tells that a request failed and when it will be repeated.
	BackoffScheduled struct {
		Operation string
		Attempt   int
		Until     time.Time
		Err       error
	}

	// RowQuarantined tells that a change was set aside: it is not pushed any more until it is retried or its row is
	// written again.
	RowQuarantined struct {
		ID     int64
		Table  string
		Code   string // why
		Origin string // who found it: "server", "value", "collision", "dependency"
		// Displaced tells that the row now holds what the server has. One that was in quarantine before is told of again.
		Displaced bool
	}

	// ConflictResolved tells that a conflict in a table was settled, and how.
	ConflictResolved struct {
		Table      string
		Resolution string // "accept_server", "keep_local" or "keep_merged"
	}

	// LocalRowsDropped tells that an Attach replaced rows written before anybody was attached by those that the user has on
	// the server, and how many changes that cost.
	LocalRowsDropped struct{ Rows int64 }

	// SourceRotated tells that the identity under which the database writes was at its end, and was replaced by a fresh
	// one. Local changes were kept.
	SourceRotated struct {
		From, To string // opaque
		Reason   string // a reason of source recovery
	}
)
