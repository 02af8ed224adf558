package oversqlite

import (
	"time"

	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// AttachResult is how an Attach ended without an error: Connected or RetryLater.
type AttachResult interface{ attachResult() }

// Connected is an Attach that ended with the user attached.
type Connected struct {
	Outcome AttachOutcome
	Status  SyncStatus
	Restore *RestoreSummary // of UsedRemoteState; nil otherwise
}

// RetryLater is an Attach that has to be repeated: another device of the user is about to seed the server with its rows.
// Nothing has changed here.
type RetryLater struct {
	RetryAfter time.Duration // from now on; what the server asks for
}

func (Connected) attachResult()  {}
func (RetryLater) attachResult() {}

// AttachOutcome is how the local state came to be attached.
type AttachOutcome string

// The outcomes of Attach.
const (
	// ResumedAttachedState: the database was attached to this user already. The server was not asked.
	ResumedAttachedState AttachOutcome = "resumed_attached_state"
	// UsedRemoteState: the server has rows of this user; they have replaced what was here.
	UsedRemoteState AttachOutcome = "used_remote_state"
	// SeededFromLocal: the server has never seen this user; the rows that are here will be pushed.
	SeededFromLocal AttachOutcome = "seeded_from_local"
	// StartedEmpty: the server has never seen this user and nothing was here to push.
	StartedEmpty AttachOutcome = "started_empty"
)

// DetachResult is how a Detach ended without an error.
type DetachResult struct {
	Outcome         DetachOutcome
	PendingRowCount int64 // what stood in the way; 0 when detached
}

// DetachOutcome is whether a Detach took place.
type DetachOutcome string

// The outcomes of Detach.
const (
	// Detached: the synced rows are gone from this database, which is anonymous again.
	Detached DetachOutcome = "detached"
	// BlockedUnsyncedData: there is local work that the server does not have. Nothing has changed.
	BlockedUnsyncedData DetachOutcome = "blocked_unsynced_data"
)

// SyncThenDetachResult is how a SyncThenDetach ended.
type SyncThenDetachResult struct {
	LastSync                 SyncReport // of the last round
	Detach                   DetachResult
	SyncRounds               int
	RemainingPendingRowCount int64
}

// IsSuccess reports whether the database was detached.
func (r SyncThenDetachResult) IsSuccess() bool { return r.Detach.Outcome == Detached }

// SyncReport is what a Sync did.
type SyncReport struct {
	Push    PushOutcome
	Remote  RemoteOutcome
	Status  SyncStatus
	Restore *RestoreSummary // of AppliedSnapshot; nil otherwise
}

// PushReport is what a PushPending did.
type PushReport struct {
	Outcome PushOutcome
	Status  SyncStatus
}

// RemoteSyncReport is what a PullToStable or a Rebuild did.
type RemoteSyncReport struct {
	Outcome RemoteOutcome
	Status  SyncStatus
	Restore *RestoreSummary // of AppliedSnapshot; nil otherwise
}

// PushOutcome is what became of local changes.
type PushOutcome string

// The outcomes of a push, beside SkippedPaused.
const (
	// NoChange: there was nothing to push.
	NoChange PushOutcome = "no_change"
	// Committed: local changes were committed on the server.
	Committed PushOutcome = "committed"
)

// RemoteOutcome is what came from the server.
type RemoteOutcome string

// The outcomes of a pull, beside SkippedPaused.
const (
	// AlreadyAtTarget: there was nothing new.
	AlreadyAtTarget RemoteOutcome = "already_at_target"
	// AppliedIncremental: new bundles were applied.
	AppliedIncremental RemoteOutcome = "applied_incremental"
	// AppliedSnapshot: the local state was rebuilt from a snapshot, local changes kept.
	AppliedSnapshot RemoteOutcome = "applied_snapshot"
)

// SkippedPaused says, as a PushOutcome or as a RemoteOutcome, that nothing was done in that direction because it is
// paused.
const SkippedPaused = "skipped_paused"

// RestoreSummary is what a snapshot brought.
type RestoreSummary struct {
	BundleSeq        int64 // the server's state that it was taken from
	RowCount         int64
	DroppedLocalRows int64 // changes made here before the first Attach, which the user's existing rows have replaced
}

// SyncStatus is how this database stands to its user's rows on the server.
type SyncStatus struct {
	Authority         Authority
	Pending           PendingSyncStatus
	LastBundleSeqSeen int64 // the newest server state that has been applied
}

// Authority says where the rows that are here come from.
type Authority string

// The authorities.
const (
	// PendingLocalSeed: from here; the server is to get them with the next push.
	PendingLocalSeed Authority = "pending_local_seed"
	// AuthoritativeEmpty: the server decides, and no row of its is here.
	AuthoritativeEmpty Authority = "authoritative_empty"
	// AuthoritativeMaterialized: the server decides, and its rows are here.
	AuthoritativeMaterialized Authority = "authoritative_materialized"
)

// PendingSyncStatus counts local work that the server does not have.
type PendingSyncStatus struct {
	HasPendingSyncData bool
	// PendingRowCount counts entries: a row that was changed again while its last change is being pushed counts twice, and
	// the unused right to seed the server counts as one.
	PendingRowCount int64
	BlocksDetach    bool // an attached database with pending work is not detached
}

// SourceInfo is the identity under which this database writes.
type SourceInfo struct {
	CurrentSourceID        string // opaque
	RebuildRequired        bool   // the local state has to be rebuilt; the next sync does it
	SourceRecoveryRequired bool   // the identity is no longer valid on the server
	SourceRecoveryReason   SourceRecoveryReason
}

// SourceRecoveryReason is why the identity under which a database writes is no longer valid. "" when it is valid. As a rule
// the file was copied, or restored from a backup, and the server knows more of its identity than it does itself.
type SourceRecoveryReason string

// The reasons of a source recovery.
const (
	// SourceHistoryPruned: what became of a push cannot be told any more.
	SourceHistoryPruned SourceRecoveryReason = local.ReasonHistoryPruned
	// SourceSequenceOutOfOrder: the server has seen fewer pushes than were made.
	SourceSequenceOutOfOrder SourceRecoveryReason = local.ReasonSourceSequenceOutOfOrder
	// SourceSequenceChanged: the server has another push under the same number.
	SourceSequenceChanged SourceRecoveryReason = local.ReasonSourceSequenceChanged
	// SourceRetired: the identity has been replaced on the server.
	SourceRetired SourceRecoveryReason = local.ReasonSourceRetired
)

func attachResult(r actors.Result) AttachResult {
	c := Connected{Status: syncStatus(&r.State), Restore: restoreSummary(r.Sync.Restored)}
	switch r.Attach {
	case actors.AttachResumed:
		c.Outcome = ResumedAttachedState
	case actors.AttachUsedRemote:
		c.Outcome = UsedRemoteState
	case actors.AttachSeeded:
		c.Outcome = SeededFromLocal
	case actors.AttachStartedEmpty:
		c.Outcome = StartedEmpty
	default:
		return RetryLater{RetryAfter: r.RetryAfter}
	}
	return c
}

func detachResult(r actors.Result) DetachResult {
	if r.Detached {
		return DetachResult{Outcome: Detached}
	}
	return DetachResult{Outcome: BlockedUnsyncedData, PendingRowCount: r.Pending.Rows()}
}

func syncThenDetachResult(r actors.Result) SyncThenDetachResult {
	detach := detachResult(r)
	return SyncThenDetachResult{
		LastSync: syncReport(r), Detach: detach, SyncRounds: r.Rounds, RemainingPendingRowCount: detach.PendingRowCount,
	}
}

func syncReport(r actors.Result) SyncReport {
	return SyncReport{
		Push: pushOutcome(&r.Sync), Remote: remoteOutcome(&r.Sync),
		Status: syncStatus(&r.Sync.State), Restore: restoreSummary(r.Sync.Restored),
	}
}

func pushReport(r actors.Result) PushReport {
	return PushReport{Outcome: pushOutcome(&r.Sync), Status: syncStatus(&r.Sync.State)}
}

func remoteSyncReport(r actors.Result) RemoteSyncReport {
	return RemoteSyncReport{
		Outcome: remoteOutcome(&r.Sync), Status: syncStatus(&r.Sync.State), Restore: restoreSummary(r.Sync.Restored),
	}
}

func pushOutcome(s *actors.SyncResult) PushOutcome {
	switch {
	case s.Committed:
		return Committed
	case s.UploadsSkipped:
		return SkippedPaused
	default:
		return NoChange
	}
}

func remoteOutcome(s *actors.SyncResult) RemoteOutcome {
	switch {
	case s.DownloadSkipped:
		return SkippedPaused
	case s.Downloads == messages.PullSnapshot:
		return AppliedSnapshot
	case s.Downloads == messages.PullIncremental:
		return AppliedIncremental
	default:
		return AlreadyAtTarget
	}
}

func restoreSummary(r *local.Restored) *RestoreSummary {
	if r == nil {
		return nil
	}
	return &RestoreSummary{BundleSeq: r.BundleSeq, RowCount: r.Rows, DroppedLocalRows: r.DroppedLocalRows}
}

func syncStatus(s *local.State) SyncStatus {
	status := SyncStatus{Authority: AuthoritativeEmpty, Pending: pendingStatus(s), LastBundleSeqSeen: s.Attachment.Checkpoint}
	switch {
	case s.Attachment.InitializationID != "":
		status.Authority = PendingLocalSeed
	case s.HasLiveRows:
		status.Authority = AuthoritativeMaterialized
	}
	return status
}

func pendingStatus(s *local.State) PendingSyncStatus {
	return PendingSyncStatus{
		HasPendingSyncData: s.Pending.Any(),
		PendingRowCount:    s.Pending.Rows(),
		BlocksDetach:       s.Pending.Any() && s.Attachment.Binding == local.Attached,
	}
}

func sourceInfo(s *local.State) SourceInfo {
	info := SourceInfo{CurrentSourceID: s.Attachment.CurrentSourceID, RebuildRequired: s.Attachment.RebuildRequired}
	if s.Operation.Kind == local.SourceRecovery {
		info.SourceRecoveryRequired = true
		if local.RecoveryReason(s.Operation.Reason) {
			info.SourceRecoveryReason = SourceRecoveryReason(s.Operation.Reason)
		}
	}
	return info
}
