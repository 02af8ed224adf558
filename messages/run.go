package messages

import (
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// RunID numbers the runs that a session gives to its uploader and puller. Answers carry it back; an answer with
// another number than the current run's is stale and dropped.
type RunID uint64

// Link is what is known of the server for the length of a run.
type Link struct {
	Contract wire.ContractName
	Limits   wire.Limits
	SourceID string
}

// Uploader is what the uploader receives from its session.
type Uploader interface{ uploader() }

// Push asks for everything pending to be pushed. With the RunID of a run that answered PushNeedsPull it continues
// that run: what was refused in it is remembered, which bounds the retries.
type Push struct {
	Run  RunID
	Link Link
	// OneShot runs give up after the configured elapsed time; others retry for ever.
	OneShot bool
	// Failures is how many requests in a row have failed before the run: its delays go on from there. It is told when one is
	// Answered.
	Failures int
	// PastGate pushes although the rebuild gate is set: a snapshot collides with what is pending, so that must go first.
	PastGate bool
	// FinishOnly ends the run with the push that an earlier one left unfinished, where there is one: what was written since
	// is for the next.
	FinishOnly bool
	// ReplayOnly settles a push that is known to be committed, and uploads nothing: uploads are paused.
	ReplayOnly bool
	// Only, when not nil, pushes exactly the intents of a collision, with what they cannot go without, to find out whether
	// the server takes them: else they are in a pull's way for good. PushRefused tells that it does not.
	Only *local.Collision
}

// Puller is what the puller receives from its session.
type Puller interface{ puller() }

// Pull asks for everything up to a frozen ceiling to be pulled and applied. A rebuild gate that is set or found on
// the way is resolved by a keep-source rebuild in the same run.
type Pull struct {
	Run     RunID
	Link    Link
	OneShot bool
	// Failures is as in Push.
	Failures int
	// Displace makes room for what was in the way: see local.Displacement. Nil: nothing.
	Displace *local.Displacement
}

// Snapshot asks for a snapshot to be staged and applied: a rebuild, or the second half of a remote replace
// (whichever the durable state says). A complete stage of a remote replace is not fetched again.
type Snapshot struct {
	Run     RunID
	Link    Link
	OneShot bool
	// Failures is as in Push.
	Failures int
	// Displace makes room for what was in the way: see local.Displacement. Nil: nothing.
	Displace *local.Displacement
}

// Cancel ends a run: the outstanding request is cancelled, a scheduled retry dropped, and the run answered with
// context.Canceled. What is durable stays as it is. Sent to uploader and puller.
type Cancel struct{ Run RunID }

// Kick ends a backoff delay now. Sent to uploader and puller.
type Kick struct{}

func (Push) uploader()   {}
func (Cancel) uploader() {}
func (Kick) uploader()   {}
func (Pull) puller()     {}
func (Snapshot) puller() {}
func (Cancel) puller()   {}
func (Kick) puller()     {}

// Session is what a session receives from its children.
type Session interface{ session() }

// PushVerdict is how a push run ended without an error.
type PushVerdict uint8

// The verdicts.
const (
	PushNoChange PushVerdict = iota
	PushCommitted
	// PushNeedsPull: the server refused a row; pull, so that shadows reveal the other conflicts, then continue the
	// run with the same RunID.
	PushNeedsPull
	// PushNeedsRebuild: the rebuild gate is set (found, or set by this run); resolve it, then continue the run.
	PushNeedsRebuild
	// PushLeaseUnused: a lease is held but there is nothing to seed with: connect again with nothing pending.
	PushLeaseUnused
	// PushRefused answers a Push with Only: the server refuses these intents. They are dirty.
	PushRefused
)

// PushDone ends a push run. Err is typed and final for the run; everything pending is still there.
type PushDone struct {
	Run     RunID
	Verdict PushVerdict
	// Committed reports whether anything was committed in this run, also when it then failed or needs a pull.
	Committed bool
	// Refused is why, with PushRefused.
	Refused *PushRejectedError
	Err     error
}

// PullVerdict is how a pull or snapshot run ended without an error.
type PullVerdict uint8

// The verdicts.
const (
	PullAtTarget PullVerdict = iota
	PullIncremental
	PullSnapshot
	// PullNeedsPush: a bundle collides with local intents; push first, then pull again.
	PullNeedsPush
)

// PullDone ends a pull or snapshot run.
type PullDone struct {
	Run       RunID
	Verdict   PullVerdict
	Restored  *local.Restored // PullSnapshot only
	Collision *local.Collision
	// Rotated is set when the source was replaced, by a snapshot or, where that collides, before it.
	Rotated *local.Rotation
	Err     error
}

// Waiting tells that an owner waits before it repeats a request, and why.
type Waiting struct {
	Run     RunID
	Upload  bool   // else download
	Reason  string // the request that failed, e.g. "commit push session"
	Err     error
	Attempt int
	Until   time.Time
}

// Resumed tells that a wait is over.
type Resumed struct {
	Run    RunID
	Upload bool
}

// Answered tells that the server has answered a request, whatever it said, after others of the run, or before it, had failed.
type Answered struct{ Run RunID }

// Progress tells how far a run has come.
type Progress struct {
	Run   RunID
	Phase Phase
	Done  int64
	Total int64 // 0: not known
}

// TablesChanged tells which tables a transaction changed.
type TablesChanged struct {
	Cause  Cause
	Tables local.TableSet
}

// ConflictResolved tells that a conflict was settled.
type ConflictResolved struct {
	Table      string
	Resolution local.ResolutionKind
}

// RowsQuarantined tells that changes were set aside.
type RowsQuarantined struct{ Rows []local.SetAside }

// StateChanged tells the session that durable state changed in a way its status shows.
type StateChanged struct{ State local.State }

// ChildFailed tells that a child stopped for good: it panicked more often than its supervisor allows.
type ChildFailed struct {
	Child string
	Cause any
	Stack []byte
}

func (PushDone) session()         {}
func (PullDone) session()         {}
func (Waiting) session()          {}
func (Resumed) session()          {}
func (Answered) session()         {}
func (Progress) session()         {}
func (TablesChanged) session()    {}
func (ConflictResolved) session() {}
func (RowsQuarantined) session()  {}
func (StateChanged) session()     {}
func (ChildFailed) session()      {}

// Phase is what an engine is doing, as its status and its progress events say it.
type Phase string

// The phases.
const (
	PhaseClosed     Phase = "closed"
	PhaseIdle       Phase = "idle"
	PhaseOpening    Phase = "opening"
	PhaseConnecting Phase = "connecting"
	PhaseSettling   Phase = "settling"
	PhasePushing    Phase = "pushing"
	PhaseReplaying  Phase = "replaying"
	PhasePulling    Phase = "pulling"
	PhaseStaging    Phase = "staging_snapshot"
	PhaseApplying   Phase = "applying_snapshot"
	PhaseDetaching  Phase = "detaching"
	PhaseFailed     Phase = "failed"
)

// Cause is who changed a table.
type Cause string

// The causes.
const (
	CausePushReplay Cause = "push_replay"
	CausePull       Cause = "pull"
	CauseSnapshot   Cause = "snapshot"
	CauseConflict   Cause = "conflict"
	CauseDetach     Cause = "detach"
	CauseDiscard    Cause = "discard"
	CauseLocal      Cause = "local"
)
