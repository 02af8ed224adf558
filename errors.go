package oversqlite

import (
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// Errors.
//
// Every error of this package is one of those below, an error of the caller's context, or, where a method says so, the
// application's own. They are pointers to structs: find them with errors.As. All say what failed and for what, wrap
// their cause, and have a method Retryable that tells whether the same call may succeed later without any change.
// None of them means that anything pending was lost.
//
//	var rejected *oversqlite.PushRejectedError
//	if errors.As(err, &rejected) { … }

// ErrClosed answers every call that meets a closed engine, or that was under way when it was closed.
var ErrClosed = messages.ErrClosed

// Calls out of order, and configuration.
type (
	// OpenRequiredError is a call that needs Open first.
	OpenRequiredError = messages.OpenRequiredError
	// AttachRequiredError is a call that needs Attach. Reason is set when an earlier attachment ended by itself, because
	// the right to seed the server ran out or the server lost the user's rows. Local changes are kept, and pushed after
	// the next Attach.
	AttachRequiredError = messages.AttachRequiredError
	// ConfigError is a configuration that cannot work, or a table that cannot be synced as it is. It names the field, the
	// table and the column, and says what to do. Nothing has been created or changed.
	ConfigError = local.ConfigError
	// DatabaseOwnedError is a database file that another engine has open, here or in another process.
	DatabaseOwnedError = local.DatabaseOwnedError
	// DatabaseError is a local database that cannot be used: no database, read-only, damaged, on a full disk, locked for
	// longer than the busy timeout, or with private tables that somebody changed.
	DatabaseError = local.DatabaseError
	// AttachBindingConflictError is an Attach of another user than the one the database belongs to. Detach first.
	AttachBindingConflictError = messages.AttachBindingConflictError
	// AttachLocalStateConflictError is an Attach while the replacement of local rows for another user is unfinished.
	// Attach that user again, or Detach.
	AttachLocalStateConflictError = messages.AttachLocalStateConflictError
)

// The server is not one that this client can work with.
type (
	// LifecycleUnsupportedError is an address at which no server of this protocol answers, or one too old.
	LifecycleUnsupportedError = wire.LifecycleUnsupportedError
	// ProtocolVersionMismatchError is a server of another protocol version.
	ProtocolVersionMismatchError = wire.ProtocolVersionMismatchError
	// TableContractMismatchError is a server that does not sync the tables of the configuration. It lists every difference.
	TableContractMismatchError = wire.TableContractMismatchError
	// ProtocolError is an answer that breaks the contract. Nothing of it has been applied.
	ProtocolError = wire.ProtocolError
	// HTTPError is a refusal that has no more specific error.
	HTTPError = wire.HTTPError
	// UnsupportedContractError is a server that speaks a dialect which this version of the client does not.
	UnsupportedContractError = wire.UnsupportedContractError
	// ContractChangedError is a server that speaks another dialect than before while a push in the old one is under way, or
	// whose answers belong to another dialect than its capabilities told.
	ContractChangedError = wire.ContractChangedError
	// RequestHashError is met as the cause of a SourceSequenceMismatchError.
	RequestHashError = wire.RequestHashError
)

// Requests fail.
type (
	// AuthError is a request whose credentials the server refused. Renew those of the HTTP client, then call again.
	AuthError = messages.AuthError
	// RetryExhaustedError is a call that gave up on a passing failure after RetryConfig.MaxElapsed.
	RetryExhaustedError = messages.RetryExhaustedError
	// NetworkError is a request that brought no whole answer: no connection, or one that broke. It passes, so it is met
	// as the cause of a RetryExhaustedError, and in Status.LastError while the engine waits.
	NetworkError = transport.NetworkError
	// HeldBackError is a request that was not sent, because the server had told another engine of this process that it is
	// unavailable and until when, or because many of them had failed in a row. It is met where a NetworkError is, and its cause is
	// that answer or failure. Kick lets an engine try at once.
	HeldBackError = messages.HeldBackError
	// AddressError says that whoever answers at Config.ServerURL is no server of this protocol: a redirect elsewhere, a
	// certificate that does not verify, a path at which nothing is.
	AddressError = transport.AddressError
	// BaseURLError is a Config.ServerURL that cannot be used. It is the cause of a ConfigError.
	BaseURLError = transport.BaseURLError
	// BodyTooLargeError is an answer beyond Limits that cannot be asked for in smaller parts.
	BodyTooLargeError = transport.BodyTooLargeError
)

// A push or a pull cannot go on.
type (
	// PushRejectedError is a push that the server refuses and will keep refusing, or that cannot be sent: Code is the
	// server's code, or says what is wrong with the value or row. Everything pending is kept, downloads go on, and
	// Status.UploadBlocked says why and since when. Changing or deleting the row and pushing again clears it.
	PushRejectedError = messages.PushRejectedError
	// PushConflictRetryExhaustedError is a push in which the server refused the same change on the same version twice.
	PushConflictRetryExhaustedError = messages.PushConflictRetryExhaustedError
	// InvalidConflictResolutionError is a resolver that failed, panicked, took too long or answered what cannot be.
	InvalidConflictResolutionError = messages.InvalidConflictResolutionError
	// InvalidResolutionError says what is wrong with a resolution that the table cannot take. It is the cause of an
	// InvalidConflictResolutionError.
	InvalidResolutionError = local.InvalidResolutionError
	// ValueError is a value that the protocol cannot carry exactly.
	ValueError = wire.ValueError
	// IntentError is a local change that cannot be sent; its cause is a ValueError as a rule. It is the cause of a
	// PushRejectedError.
	IntentError = local.IntentError
	// LocalFormError is a captured change that does not have the form in which changes are captured: somebody wrote to
	// the private tables.
	LocalFormError = wire.LocalFormError
	// DirtyStateRejectedError is a pull under PullStrict while local changes are pending.
	DirtyStateRejectedError = messages.DirtyStateRejectedError
	// QuarantineError is a retry or a discard of changes in quarantine that cannot be done as asked.
	QuarantineError = local.QuarantineError
	// CollisionError says that a snapshot and local changes exclude each other. The engine pushes such changes first; when
	// that is of no use the call ends with a PushRejectedError of code "pull_collision".
	CollisionError = local.CollisionError
	// StableBehindError is a server that has less than was pulled from it before: it was restored from a backup. The
	// engine takes a snapshot then.
	StableBehindError = wire.StableBehindError
	// SnapshotExpiredError is a snapshot whose download took longer, twice, than the server keeps one.
	SnapshotExpiredError = messages.SnapshotExpiredError
	// RebuildRequiredError is a call that has to wait for a rebuild which cannot take place, because downloads are paused.
	RebuildRequiredError = messages.RebuildRequiredError
	// SourceRecoveryRequiredError is a call that a pending source recovery stands in the way of: the identity under which
	// this database writes is no longer valid on the server.
	SourceRecoveryRequiredError = messages.SourceRecoveryRequiredError
	// SourceReplacementDivergedError says that the server replaced this database's identity by another than the one
	// reserved here: another copy of the file is in use. The next Rebuild goes on under an identity of its own.
	SourceReplacementDivergedError = messages.SourceReplacementDivergedError
	// SourceSequenceMismatchError says that the server holds other content under the number of the push under way.
	SourceSequenceMismatchError = messages.SourceSequenceMismatchError
)

// EngineFailedError is an engine that stopped after a panic that nobody expected, with its cause and stack. The database
// is sound: a transaction happened whole or not at all. Restart brings the engine back.
type EngineFailedError = messages.EngineFailedError
