package messages

import (
	"fmt"
	"time"

	"github.com/oversqlite/oversqlite/local"
)

// ErrClosed answers every call that meets a closed engine, or that was under way when it was closed.
var ErrClosed = local.ErrClosed

// PushRejectedError is a push that the server refuses and will keep refusing, or a row that cannot be sent at all.
// Every pending row is kept, downloads go on, Status().UploadBlocked says since when.
type PushRejectedError struct {
	Code    string // the server's error code or the reason a value cannot be sent
	Status  int    // HTTP status; 0 when the reason is local
	Message string
	Table   string // where known
	Err     error
}

func (e *PushRejectedError) Error() string {
	s := fmt.Sprintf("oversqlite: the push was refused: %s", e.Code)
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d)", e.Status)
	}
	if e.Table != "" {
		s += " for table " + e.Table
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s + "; every pending row is kept: change or remove the offending row and push again"
}

func (e *PushRejectedError) Unwrap() error { return e.Err }

// Retryable reports false: something has to change first.
func (e *PushRejectedError) Retryable() bool { return false }

// RetryExhaustedError is a one-shot call that gave up on a transient failure after Config.Retry.MaxElapsed. What was
// pending still is.
type RetryExhaustedError struct {
	Operation   string // the request that kept failing
	Attempts    int    // how often it failed or was held back
	LastErr     error
	NextRetryAt time.Time // when the next attempt would have been made
}

func (e *RetryExhaustedError) Error() string {
	return fmt.Sprintf("oversqlite: giving up on %s (attempts: %d): %v", e.Operation, e.Attempts, e.LastErr)
}

func (e *RetryExhaustedError) Unwrap() error { return e.LastErr }

// Retryable reports true.
func (e *RetryExhaustedError) Retryable() bool { return true }

// HeldBackError is a request that was not sent, because the server serves nobody at the moment: it said so to another
// engine of this process, or many of them failed in a row. It is made when the time has come; engines that wait for the same server
// are let in one after the other.
type HeldBackError struct {
	Operation string    // the request
	Until     time.Time // when it is this engine's turn
	Err       error     // the answer or failure that closed the way, which another engine met as a rule
}

func (e *HeldBackError) Error() string {
	return fmt.Sprintf("oversqlite: %s is held back until %s: the server serves nobody at the moment: %v", e.Operation, e.Until.UTC().Format(time.RFC3339), e.Err)
}

func (e *HeldBackError) Unwrap() error { return e.Err }

// Retryable reports true.
func (e *HeldBackError) Retryable() bool { return true }

// AuthError is a request that the server refused for its authentication. Background work stops until Attach or
// Resume; nothing is lost.
type AuthError struct {
	Operation string
	Status    int
	Err       error
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("oversqlite: %s: authentication was refused (status %d): renew the credentials of the HTTP client, then Resume or Attach", e.Operation, e.Status)
}

func (e *AuthError) Unwrap() error { return e.Err }

// Retryable reports false: credentials have to change first.
func (e *AuthError) Retryable() bool { return false }

// OpenRequiredError is a call that needs Open first.
type OpenRequiredError struct{ Operation string }

func (e *OpenRequiredError) Error() string {
	return fmt.Sprintf("oversqlite: %s needs Open first", e.Operation)
}

// Retryable reports false.
func (e *OpenRequiredError) Retryable() bool { return false }

// AttachRequiredError is a call that needs an attached user. Reason is set when an earlier attachment ended by itself:
// "initialization_expired", "initialization_stale", "lease_lost", "scope_uninitialized", "scope_initializing".
type AttachRequiredError struct {
	Operation string
	Reason    string
}

func (e *AttachRequiredError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("oversqlite: %s needs Attach again: %s; local changes are kept", e.Operation, e.Reason)
	}
	return fmt.Sprintf("oversqlite: %s needs Attach first", e.Operation)
}

// Retryable reports false.
func (e *AttachRequiredError) Retryable() bool { return false }

// AttachBindingConflictError is an Attach for another user than the one the database belongs to.
type AttachBindingConflictError struct{ AttachedUserID, RequestedUserID string }

func (e *AttachBindingConflictError) Error() string {
	return "oversqlite: the database is attached to another user: Detach first"
}

// Retryable reports false.
func (e *AttachBindingConflictError) Retryable() bool { return false }

// AttachLocalStateConflictError is an Attach while a remote replace for another user is unfinished. Attach that user
// to finish it, or Detach to cancel it.
type AttachLocalStateConflictError struct{ PendingUserID, RequestedUserID string }

func (e *AttachLocalStateConflictError) Error() string {
	return "oversqlite: a remote replace for another user is unfinished: attach that user again, or Detach to cancel it"
}

// Retryable reports false.
func (e *AttachLocalStateConflictError) Retryable() bool { return false }

// RebuildRequiredError is a call that a set rebuild gate stands in the way of.
type RebuildRequiredError struct{ Operation, Reason string }

func (e *RebuildRequiredError) Error() string {
	return fmt.Sprintf("oversqlite: %s: the local state must be rebuilt from a snapshot first (%s): call Rebuild", e.Operation, e.Reason)
}

// Retryable reports false.
func (e *RebuildRequiredError) Retryable() bool { return false }

// SourceRecoveryRequiredError is a call that a pending source recovery stands in the way of. Every local change is
// kept; Rebuild resolves it.
type SourceRecoveryRequiredError struct{ Operation, Reason string }

func (e *SourceRecoveryRequiredError) Error() string {
	return fmt.Sprintf("oversqlite: %s: this database's writer stream is no longer valid on the server (%s): call Rebuild; local changes are kept", e.Operation, e.Reason)
}

// Retryable reports false.
func (e *SourceRecoveryRequiredError) Retryable() bool { return false }

// SourceReplacementDivergedError says that the server replaced this source by another id than the one reserved here.
type SourceReplacementDivergedError = local.SourceReplacementDivergedError

// SourceSequenceMismatchError says that the server holds other content under the number of the outbox's push.
type SourceSequenceMismatchError struct {
	SourceBundleID int64
	Err            error
}

func (e *SourceSequenceMismatchError) Error() string {
	return fmt.Sprintf("oversqlite: the server holds other content for push %d of this source: call Rebuild; local changes are kept", e.SourceBundleID)
}

func (e *SourceSequenceMismatchError) Unwrap() error { return e.Err }

// Retryable reports false.
func (e *SourceSequenceMismatchError) Retryable() bool { return false }

// DirtyStateRejectedError is a pull under PullStrict while local changes are pending.
type DirtyStateRejectedError struct{ DirtyRows int64 }

func (e *DirtyStateRejectedError) Error() string {
	return fmt.Sprintf("oversqlite: %d local changes are pending and the pull policy is strict: push first", e.DirtyRows)
}

// Retryable reports false.
func (e *DirtyStateRejectedError) Retryable() bool { return false }

// SnapshotExpiredError is a snapshot whose download took longer, twice in a row, than the server keeps one. Nothing was
// changed; what is staged is void. A faster connection, smaller pages or a longer time to live on the server help.
type SnapshotExpiredError struct {
	Rows, Total int64 // downloaded when the session ended, and in all
	Err         error // the server's answer
}

func (e *SnapshotExpiredError) Error() string {
	return fmt.Sprintf("oversqlite: the server dropped the snapshot twice before it was downloaded, last after %d of %d rows: its session's time to live is too short for this connection", e.Rows, e.Total)
}

func (e *SnapshotExpiredError) Unwrap() error { return e.Err }

// Retryable reports true: the next download may be faster.
func (e *SnapshotExpiredError) Retryable() bool { return true }

// InvalidConflictResolutionError is a resolver that answered what cannot be, panicked, failed or took too long. The
// intent is kept and uploads are held.
type InvalidConflictResolutionError struct {
	Table  string
	Reason string
	Err    error // what the resolver returned or panicked with, where known
}

func (e *InvalidConflictResolutionError) Error() string {
	return fmt.Sprintf("oversqlite: the resolver's answer to a conflict in table %s cannot be used: %s", e.Table, e.Reason)
}

func (e *InvalidConflictResolutionError) Unwrap() error { return e.Err }

// Retryable reports false: the resolver must change.
func (e *InvalidConflictResolutionError) Retryable() bool { return false }

// PushConflictRetryExhaustedError is a push in which the server refused the same row on the same version twice. All
// intents are still pending.
type PushConflictRetryExhaustedError struct {
	Table     string
	Conflicts int // conflicts met in this call
}

func (e *PushConflictRetryExhaustedError) Error() string {
	return fmt.Sprintf("oversqlite: no progress after %d conflicts, last in table %s: all local changes are kept", e.Conflicts, e.Table)
}

// Retryable reports true: the server's rows may have moved on.
func (e *PushConflictRetryExhaustedError) Retryable() bool { return true }

// EngineFailedError is an engine that stopped after repeated unexpected panics. Restart brings it back.
type EngineFailedError struct {
	Cause any
	Stack []byte
}

func (e *EngineFailedError) Error() string {
	return fmt.Sprintf("oversqlite: the engine failed: %v; call Restart", e.Cause)
}

// Retryable reports false.
func (e *EngineFailedError) Retryable() bool { return false }
