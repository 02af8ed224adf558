package oversqlite

import (
	"time"

	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/messages"
)

// Status is what an engine is doing, why, and what it waits for.
type Status struct {
	// Phase is what the engine is doing.
	Phase Phase
	// Reason says in a few words why; for a phase that waits, what for. It is for people, not for programs.
	Reason string
	// WaitingUntil is when the engine goes on by itself: when it repeats what failed, or polls the server. Zero when it
	// does not wait for a moment.
	WaitingUntil time.Time
	// Attempt counts the failures of what waits, from 1; 0 when it waits for another reason.
	Attempt int
	// WokenBy names what would end the wait sooner or, when there is no WaitingUntil, what is waited for. It is sorted by
	// nothing, must not be changed, and may be empty while something runs.
	WokenBy []Waker
	// LastProgressAt is when something last succeeded; zero before anything did.
	LastProgressAt time.Time
	// LastError is what last went wrong; nil once a call has succeeded since.
	LastError error

	// AttachedUser is the user as whom the engine syncs; "" before Attach.
	AttachedUser string
	// Pending is the local work that the server does not have, as of the last time the engine looked. With background sync
	// it looks after every local commit, within AutoConfig.MaxDelay; without it, rows written while no call runs are
	// counted with the next one. PendingSyncStatus looks now.
	Pending StatusPending
	// Checkpoint is the newest server state that has been applied.
	Checkpoint int64
	// RebuildRequired is set while the local state has to be rebuilt; the next sync does it.
	RebuildRequired bool
	// SourceRecovery is why the identity under which the database writes is at its end, and has to be replaced by Rebuild, or
	// by the next sync with Config.AutoRecover; "" when it is not.
	SourceRecovery SourceRecoveryReason
	// UploadBlocked is why uploads are held back, nil when they are not. Downloads go on.
	UploadBlocked *UploadBlocked
	// UploadsPaused and DownloadsPaused are the application's own doing.
	UploadsPaused, DownloadsPaused bool
	// Failure is set in PhaseFailed: what panicked, and where. Restart brings the engine back.
	Failure *EngineFailedError
}

// StatusPending is how much local work waits, and for how long.
type StatusPending struct {
	Rows        int64         // those in quarantine among them
	Quarantined int64         // changes set aside: they wait for the application, not for the server
	OldestAge   time.Duration // since the oldest waiting row was last written; 0 when none waits
}

// UploadBlocked is why uploads are held back.
type UploadBlocked struct {
	Code    string // the server's code, or what is wrong with the row
	Status  int    // the HTTP status; 0 when it is not the server that refuses
	Message string
	Table   string // where known
	Since   time.Time
}

// Phase is what an engine is doing.
type Phase = messages.Phase

// The phases.
const (
	PhaseClosed           = messages.PhaseClosed // not open yet, closing, or closed
	PhaseIdle             = messages.PhaseIdle
	PhaseOpening          = messages.PhaseOpening
	PhaseConnecting       = messages.PhaseConnecting
	PhaseSettling         = messages.PhaseSettling // deciding conflicts
	PhasePushing          = messages.PhasePushing
	PhaseReplaying        = messages.PhaseReplaying // fetching back what was committed
	PhasePulling          = messages.PhasePulling
	PhaseStagingSnapshot  = messages.PhaseStaging
	PhaseApplyingSnapshot = messages.PhaseApplying
	PhaseDetaching        = messages.PhaseDetaching
	PhaseFailed           = messages.PhaseFailed
)

// Waker names what ends a wait.
type Waker = actors.Waker

// The wakers. One whose name is a method's is a call of that method.
const (
	WakerOpen            = actors.WakerOpen
	WakerAttach          = actors.WakerAttach
	WakerStart           = actors.WakerStart
	WakerResume          = actors.WakerResume
	WakerKick            = actors.WakerKick
	WakerRebuild         = actors.WakerRebuild
	WakerRestart         = actors.WakerRestart
	WakerResumeUploads   = actors.WakerResumeUploads
	WakerResumeDownloads = actors.WakerResumeDownloads
	WakerCall            = actors.WakerCall   // any call that syncs
	WakerCommit          = actors.WakerCommit // a commit over a connection of DB, or in Write
	WakerStream          = actors.WakerStream // the server, over the watch stream
)

// Status returns what the engine is doing. It can be called at any time, also before Open and after Close, and never
// blocks.
func (e *Engine) Status() Status { return publicStatus(e.engine.Status()) }

func publicStatus(s actors.Status) Status {
	p := Status{
		Phase: s.Phase, Reason: s.Reason, WaitingUntil: s.WaitingUntil, Attempt: s.Attempt, WokenBy: s.WokenBy,
		LastProgressAt: s.LastProgressAt, LastError: s.LastError,
		AttachedUser: s.AttachedUser, Checkpoint: s.Checkpoint, RebuildRequired: s.RebuildRequired,
		SourceRecovery: SourceRecoveryReason(s.SourceRecovery),
		Pending:        StatusPending{Rows: s.Pending.Rows, Quarantined: s.Pending.Quarantined, OldestAge: s.Pending.OldestAge(time.Now())},
		UploadsPaused:  s.UploadsPaused, DownloadsPaused: s.DownloadsPaused,
		Failure: s.Failure,
	}
	if b := s.UploadBlocked; b != nil {
		u := UploadBlocked(*b)
		p.UploadBlocked = &u
	}
	return p
}

// Event is something that happened in an engine: one of StateChanged, ProgressMade, TablesChanged, BackoffScheduled,
// ConflictResolved, LocalRowsDropped, SourceRotated and RowQuarantined.
type Event = actors.Event

// Kind names the type of an Event.
type Kind = actors.Kind

// The kinds of events.
const (
	KindStateChanged     = actors.KindStateChanged
	KindProgress         = actors.KindProgress
	KindTablesChanged    = actors.KindTablesChanged
	KindBackoffScheduled = actors.KindBackoffScheduled
	KindConflictResolved = actors.KindConflictResolved
	KindLocalRowsDropped = actors.KindLocalRowsDropped
	KindSourceRotated    = actors.KindSourceRotated
	KindRowQuarantined   = actors.KindRowQuarantined
)

// The events.
type (
	// StateChanged tells that Status has changed in more than its counts and times: From which phase To which, the new
	// Reason, and the last error Err.
	StateChanged = actors.StateChanged
	// ProgressMade tells how far a push, a pull or a snapshot has come: Phase, Done, Total (0: not known). They count rows, those
	// of a pull bundles. A slow subscriber gets the newest of several. What succeeds ends with Done equal to Total, and whoever
	// has seen some of it sees that, too; what fails is told by StateChanged.
	ProgressMade = actors.Progressed
	// TablesChanged tells which Tables changed, and by whom, the Cause. A push that was committed tells those of its rows,
	// although their content may be what it was. What the application writes over DB and in Write is told when the engine
	// next looks at the database, all transactions since the last time in one event, with CauseLocal; that a savepoint took
	// it back again is not seen. What other processes write is not told.
	TablesChanged = actors.TablesChanged
	// BackoffScheduled tells that a request failed, with what Err, and that it will be repeated, at Until.
	BackoffScheduled = actors.BackoffScheduled
	// ConflictResolved tells that a conflict in Table was settled, and how: Resolution.
	ConflictResolved = actors.ConflictResolved
	// LocalRowsDropped tells that an Attach, also one that background sync made, has replaced the rows written before anybody was
	// attached by those that the user has on the server, and how many changes that cost, Rows.
	LocalRowsDropped = actors.LocalRowsDropped
	// SourceRotated tells that the identity under which the database writes was replaced, From which To which, and for what
	// Reason. Local changes were kept.
	SourceRotated = actors.SourceRotated
	// RowQuarantined tells that a change of a row in Table was set aside, with what ID, with what Code and by whom, the
	// Origin. Quarantined tells more of it.
	RowQuarantined = actors.RowQuarantined
)

// Cause is who changed a table.
type Cause = messages.Cause

// The causes.
const (
	CausePushReplay = messages.CausePushReplay // the server's image of what was pushed
	CausePull       = messages.CausePull
	CauseSnapshot   = messages.CauseSnapshot
	CauseConflict   = messages.CauseConflict // a conflict was settled
	CauseDetach     = messages.CauseDetach
	CauseDiscard    = messages.CauseDiscard // the application discarded changes in quarantine
	CauseLocal      = messages.CauseLocal   // the application wrote
)

// Subscription delivers events: receive them from C, and Close it. Dropped counts those that found no room.
type Subscription = actors.Subscription

// SubscribeOption says what a subscription delivers.
type SubscribeOption func(*subscribeOptions)

type subscribeOptions struct {
	size  int
	kinds []Kind
}

// WithKinds limits a subscription to events of some kinds. Default: all.
func WithKinds(kinds ...Kind) SubscribeOption {
	return func(o *subscribeOptions) { o.kinds = append(o.kinds, kinds...) }
}

// WithBuffer says how many events wait for a subscriber who is slow, at least 4. Default: 64. Beyond that events are dropped and
// counted; the engine never waits.
func WithBuffer(n int) SubscribeOption {
	return func(o *subscribeOptions) { o.size = n }
}

// Subscribe returns a subscription to the engine's events. It ends with its Close or the engine's.
func (e *Engine) Subscribe(options ...SubscribeOption) *Subscription {
	o := subscribeOptions{size: 64}
	for _, set := range options {
		set(&o)
	}
	return e.engine.Subscribe(max(o.size, 4), o.kinds...)
}
