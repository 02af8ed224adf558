package wire

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ProtocolError is a response, or a value in one, that breaks the contract. It is final: asking again for the same
// thing is expected to bring the same answer. Nothing of such a response has been applied.
type ProtocolError struct {
	Operation string // what was being decoded, e.g. "pull"
	Table     string // "schema.table", where known
	Column    string // where known
	Reason    string // what is wrong, without any row content
	Err       error  // cause, may be nil
}

func (e *ProtocolError) Error() string {
	var b strings.Builder
	b.WriteString("oversqlite: the server's answer")
	if e.Operation != "" {
		fmt.Fprintf(&b, " to %s", e.Operation)
	}
	b.WriteString(" breaks the protocol: ")
	b.WriteString(e.Reason)
	if e.Table != "" {
		fmt.Fprintf(&b, " (table %s", e.Table)
		if e.Column != "" {
			fmt.Fprintf(&b, ", column %s", e.Column)
		}
		b.WriteByte(')')
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

func (e *ProtocolError) Unwrap() error { return e.Err }

// Retryable reports false: the answer is wrong, not late.
func (e *ProtocolError) Retryable() bool { return false }

// ValueError is a local value that a contract cannot carry exactly: in the classic contract an integer beyond
// ±(2^53−1); in every contract a NUL in text, a non-finite real, a value of a storage class that its column's kind has
// no spelling for, or a key that is no UUID where one is needed.
type ValueError struct {
	Table  string // "schema.table"
	Column string
	Reason string // "integer_out_of_range", "nul_in_text", "invalid_utf8", "non_finite_real", "storage_class", "not_a_uuid"
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("oversqlite: column %s of %s holds a value that cannot be sent to this server: %s", e.Column, e.Table, e.Reason)
}

// Retryable reports false: the row must change first.
func (e *ValueError) Retryable() bool { return false }

// LocalFormError is a payload or key in local form that cannot be read: a row of one of the _sync_ tables that neither
// the capture triggers nor the engine wrote like this.
type LocalFormError struct {
	Table  string // "schema.table"
	Column string // where known
	Reason string // what is wrong, without any row content
}

func (e *LocalFormError) Error() string {
	s := "oversqlite: a stored row of " + e.Table + " cannot be read"
	if e.Column != "" {
		s += " (column " + e.Column + ")"
	}
	return s + ": " + e.Reason
}

// Retryable reports false: what is stored must be repaired first.
func (e *LocalFormError) Retryable() bool { return false }

// UnsupportedContractError names a dialect of the protocol that this version does not speak.
type UnsupportedContractError struct{ Name ContractName }

func (e *UnsupportedContractError) Error() string {
	return fmt.Sprintf("oversqlite: this version does not speak the contract %q, only %q and %q: upgrade it", e.Name, ClassicContract, UniformContract)
}

// Retryable reports false.
func (e *UnsupportedContractError) Retryable() bool { return false }

// ContractChangedError is a server that speaks another dialect than the one this attachment goes by, found in its
// capabilities while a push spelled in the old one is under way, or in an answer that belongs to the other one. Nothing
// has been changed.
type ContractChangedError struct {
	Operation     string // what revealed it
	Pinned, Found ContractName
	Reason        string // more of what was found, may be empty
}

func (e *ContractChangedError) Error() string {
	s := fmt.Sprintf("oversqlite: %s: the server speaks the contract %q, while this database goes by %q: settle what is under way with a server that speaks that, or attach anew", e.Operation, e.Found, e.Pinned)
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	return s
}

// Retryable reports false: the server must change back first.
func (e *ContractChangedError) Retryable() bool { return false }

// RequestHashError is an answer about another push request than the one that was asked about: the server holds other
// content under its number. Only the uniform contract can tell.
type RequestHashError struct {
	Operation   string
	Sent, Named string // lower-case hex SHA-256
}

func (e *RequestHashError) Error() string {
	return fmt.Sprintf("oversqlite: %s: the server's answer is about the request %.12s…, sent was %.12s…", e.Operation, e.Named, e.Sent)
}

// Retryable reports false: the server holds what it holds.
func (e *RequestHashError) Retryable() bool { return false }

// ErrOtherBundle is the cause of a ProtocolError about the rows of a committed bundle: under its number the server has one of
// another push, as after a restore from a backup, when others have pushed since.
var ErrOtherBundle = errors.New("the server's history is another one")

// StableBehindError is an answer to a pull that ends before the checkpoint it was asked from: the server has less
// history than this client has applied, as after a restore from a backup.
type StableBehindError struct {
	Stable int64 // the newest bundle the server knows
	After  int64 // the checkpoint that was asked from
}

func (e *StableBehindError) Error() string {
	return fmt.Sprintf("oversqlite: the server's stable_bundle_seq %d is behind requested after_bundle_seq %d: its history was cut or restored", e.Stable, e.After)
}

// Retryable reports false: a snapshot is needed.
func (e *StableBehindError) Retryable() bool { return false }

// ProtocolVersionMismatchError is a server that speaks another protocol version than "v1".
type ProtocolVersionMismatchError struct{ Actual string }

func (e *ProtocolVersionMismatchError) Error() string {
	return fmt.Sprintf("oversqlite: the server speaks protocol version %q, this client speaks %q", e.Actual, ProtocolVersion)
}

// Retryable reports false.
func (e *ProtocolVersionMismatchError) Retryable() bool { return false }

// LifecycleUnsupportedError is a server without the connect lifecycle this client needs, or an address at which no
// oversqlite server answers.
type LifecycleUnsupportedError struct {
	Status int    // HTTP status of the capabilities request; 200 when the feature is missing from the answer
	URL    string // the capabilities URL that was asked
}

func (e *LifecycleUnsupportedError) Error() string {
	if e.Status == 200 {
		return fmt.Sprintf("oversqlite: the server at %s does not offer connect_lifecycle", e.URL)
	}
	return fmt.Sprintf("oversqlite: no oversqlite server at %s (status %d): check the base URL and the server's version", e.URL, e.Status)
}

// Retryable reports false.
func (e *LifecycleUnsupportedError) Retryable() bool { return false }

// SyncKeyMismatch is a table for which client and server disagree about the sync key.
type SyncKeyMismatch struct {
	QualifiedTable       string // "schema.table"
	ClientSyncKeyColumns []string
	ServerSyncKeyColumns []string
}

// TableContractMismatchError says that server and client do not sync the same tables. All lists are sorted.
type TableContractMismatchError struct {
	ServerOnlyTables  []string // "schema.table"
	ClientOnlyTables  []string
	SyncKeyMismatches []SyncKeyMismatch
}

func (e *TableContractMismatchError) Error() string {
	var parts []string
	if len(e.ServerOnlyTables) > 0 {
		parts = append(parts, "only on the server: "+strings.Join(e.ServerOnlyTables, ", "))
	}
	if len(e.ClientOnlyTables) > 0 {
		parts = append(parts, "only in this client's configuration: "+strings.Join(e.ClientOnlyTables, ", "))
	}
	for _, m := range e.SyncKeyMismatches {
		parts = append(parts, fmt.Sprintf("%s has sync key %v here and %v on the server", m.QualifiedTable, m.ClientSyncKeyColumns, m.ServerSyncKeyColumns))
	}
	return "oversqlite: client and server do not sync the same tables: " + strings.Join(parts, "; ")
}

// Retryable reports false.
func (e *TableContractMismatchError) Retryable() bool { return false }

// HTTPError is an answer other than 200 (204 for deletes). What it means for an operation is decided in one
// place, by transport.Classify.
type HTTPError struct {
	Operation  string        // e.g. "commit push session"
	Status     int           // HTTP status
	Code       string        // the server's error code; "" when the body had no usable one
	Message    string        // the server's text, bounded; never matched against
	RetryAfter time.Duration // from the Retry-After header; 0: none

	// Fields that some codes carry.
	Conflict           *Conflict    // push_conflict; nil when the body's conflict was not well formed
	ReplacedBySourceID string       // source_retired
	RequiredByteCount  int64        // snapshot_chunk_too_small (uniform)
	SessionLimit       SessionLimit // snapshot_session_limit_exceeded (uniform)
}

// SessionLimit tells which limit a snapshot would exceed.
type SessionLimit struct {
	Dimension     string // "row_count", "byte_count" or "row_byte_count"
	Actual, Limit int64
}

func (l SessionLimit) valid() bool {
	return (l.Dimension == "row_count" || l.Dimension == "byte_count" || l.Dimension == "row_byte_count") && l.Limit > 0 && l.Actual > l.Limit
}

func (e *HTTPError) Error() string {
	s := fmt.Sprintf("oversqlite: %s: the server answered %d", e.Operation, e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.RequiredByteCount > 0 {
		s += fmt.Sprintf(" (a row of %d bytes)", e.RequiredByteCount)
	}
	if l := e.SessionLimit; l.valid() {
		s += fmt.Sprintf(" (%s %d, allowed are %d)", l.Dimension, l.Actual, l.Limit)
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Retryable reports whether the same request may succeed later without any change: 408, 429 and 5xx.
func (e *HTTPError) Retryable() bool {
	return e.Status == 408 || e.Status == 429 || e.Status >= 500
}

// ProtocolVersion is the protocol version this package speaks.
const ProtocolVersion = "v1"
