package oversqlite

import "github.com/oversqlite/oversqlite/actors"

// Metrics.
type (
	// Metrics are functions that are told what an engine does, for counting: see each field. Any of them may be nil. The
	// module github.com/oversqlite/oversqlite/otelmetrics has some that speak OpenTelemetry.
	Metrics = actors.Metrics
	// RequestDone is a request to the server that has ended.
	RequestDone = actors.RequestDone
	// BackoffDelay is a delay before something that failed is repeated.
	BackoffDelay = actors.BackoffDelay
	// PendingWork is how much local work an engine has that the server does not have.
	PendingWork = actors.PendingWork
	// RunDone is a call, or a run of the engine's own, that has ended.
	RunDone = actors.RunDone
	// Way is on which way rows are.
	Way = actors.Way
	// Outcome says how a run ended, in one word of few. It is the word of metrics and log.
	Outcome = actors.Outcome
)

// The ways of rows.
const (
	WayPushed   = actors.WayPushed   // committed by the server
	WayPulled   = actors.WayPulled   // received as bundles
	WaySnapshot = actors.WaySnapshot // received as pages of a snapshot
	WayApplied  = actors.WayApplied  // written to the local tables
)

// The outcomes of a run.
const (
	OutcomeOK        = actors.OutcomeOK
	OutcomeCanceled  = actors.OutcomeCanceled  // nobody waited any more
	OutcomeClosed    = actors.OutcomeClosed    // the engine was closed
	OutcomeRefused   = actors.OutcomeRefused   // it made no sense in this state: not open, not attached, another user's
	OutcomeExhausted = actors.OutcomeExhausted // a failure that may pass did not, in time
	OutcomeAuth      = actors.OutcomeAuth      // the credentials were refused
	OutcomeRejected  = actors.OutcomeRejected  // the server refuses a change, or a value cannot be sent
	OutcomeConflict  = actors.OutcomeConflict  // a conflict could not be settled
	OutcomeRecovery  = actors.OutcomeRecovery  // a rebuild or a recovery of the source has to come first
	OutcomeServer    = actors.OutcomeServer    // the address, or what answers there, is not fit
	OutcomeProtocol  = actors.OutcomeProtocol  // an answer breaks the protocol, or is a refusal that has no meaning here
	OutcomeDatabase  = actors.OutcomeDatabase  // the local database cannot be used
	OutcomeFailed    = actors.OutcomeFailed    // something panicked
	OutcomeOther     = actors.OutcomeOther
)
