package actors

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/sqlite"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// The keys of what is logged. This package is the only one of the engine's that logs, so they are declared here and
// nowhere else; they are the words of the events, the metrics and the documents.
//
// A line tells what kind of thing has happened, never what it holds: no row, no key of a row, no user id, no path of a
// file (which may be named after a user), and no text that somebody else wrote. A user's id is told nowhere, not even
// hashed: whoever can guess ids can hash them. What a server or SQLite says of an error may quote a row: it is told at
// debug, under keyText alone. What a panic, a resolver or the application's HTTP client says may quote a credential: it is
// told nowhere, and left to the error that the application gets.
const (
	keyEngine     = "engine"    // which engine of the process: they are numbered
	keySource     = "source"    // the identity under which the database writes: opaque, and made at random
	keyFrom       = "from"      // phase or source
	keyTo         = "to"        // phase or source
	keyReason     = "reason"    // one of the engine's own words
	keyVerb       = "verb"      // what was called
	keyOutcome    = "outcome"   // an Outcome, or how an Attach ended
	keyTook       = "took"      //
	keyOperation  = "operation" // a request, or a transaction
	keyAttempt    = "attempt"   // from 1
	keyRetryAt    = "retry_at"  //
	keySince      = "since"     //
	keyTable      = "table"     //
	keyColumn     = "column"    //
	keyRows       = "rows"      //
	keyOrigin     = "origin"    // who found a row that was set aside
	keyResolution = "resolution"
	keyCause      = "cause"       // who changed a table
	keyErrorType  = "error_type"  // the types of an error and of what it wraps
	keyClass      = "class"       // what a request's failure means: transport.Class
	keyStatus     = "status"      // HTTP status
	keyCode       = "code"        // the server's, or the engine's, error code
	keySQLite     = "sqlite_code" // SQLite's extended result code
	keyErrno      = "errno"       // the operating system's words for an error
	keyChild      = "child"       // which actor
	keyPanicType  = "panic_type"  // the type of what was panicked with; of Go's own run-time errors also the text
	keyStack      = "stack"
	keySuppressed = "suppressed" // how many lines like this one were held back before it
	keyText       = "text"       // debug only: what the server or SQLite said
)

// fail logs an error: what kind of error it is at a level, what it says at debug.
func fail(log *zap.Logger, say func(string, ...zap.Field), message string, err error, fields ...zap.Field) {
	say(message, append(fields, errorFields(err)...)...)
	if entry := log.Check(zap.DebugLevel, message); entry != nil {
		if text := textOf(err); text != "" {
			entry.Write(zap.String(keyText, text))
		}
	}
}

// textOf is what the server or SQLite says of an error; "" nothing.
func textOf(err error) string {
	var (
		answer   *wire.HTTPError
		protocol *wire.ProtocolError
		database *local.DatabaseError
		config   *local.ConfigError
	)
	switch {
	case errors.As(err, &answer):
		return answer.Error()
	case errors.As(err, &protocol):
		return protocol.Error()
	case errors.As(err, &database):
		return database.Error()
	case errors.As(err, &config):
		return config.Error()
	default:
		return ""
	}
}

// failPanicked logs a panic in the same way.
func failPanicked(log *zap.Logger, message string, reason any, fields ...zap.Field) {
	p := asPanicked(reason)
	kind := fmt.Sprintf("%T", p.cause)
	var run runtime.Error
	if err, ok := p.cause.(error); ok && errors.As(err, &run) {
		kind += ": " + run.Error() // an index, a nil, a type: nothing of anybody's data
	}
	log.Error(message, append(fields, zap.String(keyPanicType, kind), zap.ByteString(keyStack, p.stack))...)
}

// errorFields says what an error is, without what it says.
func errorFields(err error) []zap.Field {
	if err == nil {
		return nil
	}
	fields := []zap.Field{zap.String(keyErrorType, typesOf(err))}
	var (
		answer   *wire.HTTPError
		rejected *messages.PushRejectedError
		database *local.DatabaseError
		value    *wire.ValueError
		errno    syscall.Errno
	)
	isLocal := errors.As(err, &database)
	if failure := transport.Classify(err); !isLocal && (failure.Class != transport.Protocol || failure.Status != 0) {
		fields = append(fields, zap.Stringer(keyClass, failure.Class))
		if failure.Status != 0 {
			fields = append(fields, zap.Int(keyStatus, failure.Status))
		}
	}
	switch {
	case errors.As(err, &rejected):
		fields = append(fields, zap.String(keyCode, word(rejected.Code)))
		if rejected.Table != "" {
			fields = append(fields, zap.String(keyTable, word(rejected.Table)))
		}
	case errors.As(err, &answer) && answer.Code != "":
		fields = append(fields, zap.String(keyCode, word(answer.Code)))
	}
	if errors.As(err, &value) {
		fields = append(fields, zap.String(keyColumn, value.Column))
	}
	if isLocal {
		fields = append(fields, zap.String(keyOperation, database.Operation))
	}
	if code := sqlite.ResultCode(err); code != 0 {
		fields = append(fields, zap.Uint16(keySQLite, code))
	}
	if errors.As(err, &errno) {
		fields = append(fields, zap.String(keyErrno, errno.Error()))
	}
	return fields
}

// typesOf names the types of an error and of what it wraps, outermost first.
func typesOf(err error) string {
	const most = 8
	var names []string
	for ; err != nil && len(names) < most; err = errors.Unwrap(err) {
		switch name := fmt.Sprintf("%T", err); name {
		case "*fmt.wrapError", "*errors.errorString", "*errors.joinError":
		default:
			names = append(names, strings.TrimPrefix(name, "*"))
		}
	}
	return strings.Join(names, " < ")
}

// word lets an identifier pass that somebody else wrote, and nothing else.
func word(s string) string {
	const longest = 64
	if len(s) > longest {
		return "(too long)"
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return "(no identifier)"
		}
	}
	return s
}

// Outcome says how a run ended, in one word of few.
type Outcome string

// The outcomes of a run.
const (
	OutcomeOK        Outcome = "ok"
	OutcomeCanceled  Outcome = "canceled"        // nobody waited any more
	OutcomeClosed    Outcome = "closed"          // the engine was closed
	OutcomeRefused   Outcome = "refused"         // it made no sense in this state: not open, not attached, another user's
	OutcomeExhausted Outcome = "retry_exhausted" // a failure that may pass did not, in time
	OutcomeAuth      Outcome = "auth"            // the credentials were refused
	OutcomeRejected  Outcome = "rejected"        // the server refuses a change, or a value cannot be sent
	OutcomeConflict  Outcome = "conflict"        // a conflict could not be settled
	OutcomeRecovery  Outcome = "recovery"        // a rebuild or a recovery of the source has to come first
	OutcomeServer    Outcome = "server"          // the address, or what answers there, is not fit
	OutcomeProtocol  Outcome = "protocol"        // an answer breaks the protocol, or is a refusal that has no meaning here
	OutcomeDatabase  Outcome = "database"        // the local database cannot be used
	OutcomeFailed    Outcome = "failed"          // something panicked
	OutcomeOther     Outcome = "other"
)

// outcomeOf says how a run ended that ended with err.
func outcomeOf(err error) Outcome {
	is := func(target any) bool { return errors.As(err, target) }
	switch {
	case err == nil:
		return OutcomeOK
	case errors.Is(err, messages.ErrClosed):
		return OutcomeClosed
	case is(new(*messages.EngineFailedError)), is(new(*panicked)) && !is(new(*messages.InvalidConflictResolutionError)):
		return OutcomeFailed
	case is(new(*messages.RetryExhaustedError)):
		return OutcomeExhausted
	case is(new(*messages.AuthError)):
		return OutcomeAuth
	case is(new(*messages.PushRejectedError)):
		return OutcomeRejected
	case is(new(*messages.InvalidConflictResolutionError)), is(new(*messages.PushConflictRetryExhaustedError)):
		return OutcomeConflict
	case is(new(*messages.SourceRecoveryRequiredError)), is(new(*messages.SourceReplacementDivergedError)),
		is(new(*messages.SourceSequenceMismatchError)), is(new(*messages.RebuildRequiredError)):
		return OutcomeRecovery
	case is(new(*messages.OpenRequiredError)), is(new(*messages.AttachRequiredError)), is(new(*messages.AttachBindingConflictError)),
		is(new(*messages.AttachLocalStateConflictError)), is(new(*messages.DirtyStateRejectedError)), is(new(*local.QuarantineError)):
		return OutcomeRefused
	case is(new(*wire.ContractChangedError)), is(new(*wire.UnsupportedContractError)):
		return OutcomeServer
	case is(new(*local.DatabaseError)), is(new(*local.ConfigError)), is(new(*local.DatabaseOwnedError)):
		return OutcomeDatabase
	case is(new(*wire.ProtocolError)), is(new(*messages.SnapshotExpiredError)), is(new(*wire.HTTPError)), is(new(*transport.BodyTooLargeError)):
		if c := transport.Classify(err).Class; c == transport.WrongAddress || c == transport.Unsupported {
			return OutcomeServer
		}
		return OutcomeProtocol
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return OutcomeCanceled
	}
	if c := transport.Classify(err).Class; c == transport.WrongAddress || c == transport.Unsupported {
		return OutcomeServer
	}
	return OutcomeOther
}
