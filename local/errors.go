package local

import (
	"errors"
	"fmt"
)

// ErrClosed is the answer of a database that has been closed.
var ErrClosed = errors.New("oversqlite: closed")

// SourceReplacementDivergedError says that the server has replaced the current source by another one than the id that
// was reserved here: another copy of this database is in use. That is recorded, and local changes are kept; the next
// rebuild leaves the current source alone and goes on under the reserved id.
type SourceReplacementDivergedError struct{ Reserved, Server string }

func (e *SourceReplacementDivergedError) Error() string {
	return fmt.Sprintf("oversqlite: the server replaced this source by %s, reserved here is %s: another copy of this database is in use; call Rebuild again, local changes are kept", e.Server, e.Reserved)
}

// Retryable reports true: the next rebuild does not ask for the replacement.
func (e *SourceReplacementDivergedError) Retryable() bool { return true }

// ConfigError is a configuration that cannot work: of the engine, or of a table it is to sync. Nothing has been
// created or changed.
type ConfigError struct {
	Field  string // configuration field, e.g. "Tables"; "" for a table's shape
	Table  string // where known
	Column string // where known
	Reason string // what is wrong and what to do about it
	Err    error  // cause, may be nil
}

func (e *ConfigError) Error() string {
	s := "oversqlite: unusable configuration"
	if e.Field != "" {
		s += ": " + e.Field
	}
	if e.Table != "" {
		s += ": table " + e.Table
	}
	if e.Column != "" {
		s += ": column " + e.Column
	}
	s += ": " + e.Reason
	if e.Err != nil {
		s += fmt.Sprintf(": %v", e.Err)
	}
	return s
}

func (e *ConfigError) Unwrap() error { return e.Err }

// Retryable reports false.
func (e *ConfigError) Retryable() bool { return false }

// DatabaseOwnedError says that another engine, in this process or another, has the database open.
type DatabaseOwnedError struct {
	Path        string
	ThisProcess bool
}

func (e *DatabaseOwnedError) Error() string {
	who := "another process"
	if e.ThisProcess {
		who = "this process"
	}
	return fmt.Sprintf("oversqlite: %s is owned by another engine of %s: one engine a database file", e.Path, who)
}

// Retryable reports true: the owner may close it.
func (e *DatabaseOwnedError) Retryable() bool { return true }

// DatabaseError is a local database that cannot be used: no database, read-only, on a full disk, or with metadata
// that somebody changed by hand. What had been committed is still there.
type DatabaseError struct {
	Operation string // e.g. "open", "freeze"
	Path      string
	Table     string // a _sync_* table with unusable content, where known
	Reason    string // what it means and what to do about it
	Err       error
	Transient bool // busy or out of space: the same operation may succeed later
}

func (e *DatabaseError) Error() string {
	s := "oversqlite: " + e.Operation
	if e.Path != "" {
		s += " " + e.Path
	}
	if e.Table != "" {
		s += ": table " + e.Table
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil {
		s += fmt.Sprintf(": %v", e.Err)
	}
	return s
}

func (e *DatabaseError) Unwrap() error { return e.Err }

// Retryable reports whether waiting can help.
func (e *DatabaseError) Retryable() bool { return e.Transient }
