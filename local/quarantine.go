package local

import (
	"fmt"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

// Origin says who found a change unfit to be pushed.
type Origin string

// The origins.
const (
	// OriginServer: the server refuses it for good.
	OriginServer Origin = "server"
	// OriginValue: it holds a value that the wire cannot carry.
	OriginValue Origin = "value"
	// OriginCollision: it and rows of the server exclude each other.
	OriginCollision Origin = "collision"
	// OriginDependency: its row refers to a row that the server does not have because that one is in quarantine. It goes
	// back by itself as soon as that is over.
	OriginDependency Origin = "dependency"
)

// Reason is why a change was set aside.
type Reason struct {
	Code     string // the server's code, or a ValueError's reason
	Message  string
	Origin   Origin
	Attempts int64 // pushes with this change that were refused before it was found
}

// CodeDependency is the code of a change with OriginDependency.
const CodeDependency = "depends_on_quarantined"

// Displacement says which intents are to make room for what the server has, and why: they and it exclude each other, and
// the server does not take them.
type Displacement struct {
	Intents []IntentKey
	Reason  Reason // of those that are not in quarantine yet
}

// CodeCollision is the code of a change that was not refused by itself.
const CodeCollision = "pull_collision"

// SetAside is an intent in quarantine. Its row keeps the local content, unless it was displaced.
type SetAside struct {
	ID      int64 // never used twice in a database
	Table   string
	KeyJSON string // local key
	Key     wire.Key
	Op      wire.Op
	Base    int64  // base_row_version
	Local   []byte // content in local form; nil: deleted
	Reason
	// Displaced is set when the row holds what the server has, and the content is here only.
	Displaced            bool
	CreatedAt, UpdatedAt time.Time
	// Server is what is known of the server's side since: a newer image than the one the change was made on.
	Server *ServerImage
}

// ServerImage is a row as the server has it.
type ServerImage struct {
	Version int64
	Deleted bool
	Wire    []byte // wire form; nil: deleted
}

// Discarded is the outcome of discarding intents in quarantine.
type Discarded struct {
	Tables TableSet
	// RebuildRequired is set when what the server has in place of a discarded change is not known here: the rebuild gate
	// was set.
	RebuildRequired bool
}

// QuarantineError says that changes in quarantine cannot be retried or discarded as asked. Nothing has been changed.
type QuarantineError struct {
	Operation string // "retry" or "discard"
	ID        int64
	Table     string // where known
	Reason    string
	Err       error // cause, may be nil
}

func (e *QuarantineError) Error() string {
	s := fmt.Sprintf("oversqlite: %s of quarantined change %d", e.Operation, e.ID)
	if e.Table != "" {
		s += " of table " + e.Table
	}
	s += ": " + e.Reason
	if e.Err != nil {
		s += fmt.Sprintf(": %v", e.Err)
	}
	return s
}

func (e *QuarantineError) Unwrap() error { return e.Err }

// Retryable reports false: something else has to be asked for.
func (e *QuarantineError) Retryable() bool { return false }
