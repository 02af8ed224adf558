package actors

import (
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// Verb is what a caller asks a session for.
type Verb uint8

// The verbs. Those up to VerbRestart queue: one of them runs at a time, in the order in which they came. The others are
// answered at once, whatever runs.
const (
	VerbOpen Verb = iota + 1
	VerbAttach
	VerbDetach
	VerbSyncThenDetach
	VerbUninstallSync
	VerbSync
	VerbPushPending
	VerbPullToStable
	VerbRebuild
	VerbRestart

	VerbSyncStatus
	VerbPendingSyncStatus
	VerbSourceInfo
	VerbQuarantined
	VerbRetryQuarantined
	VerbDiscardQuarantined
	VerbResume
	VerbStart
	VerbStop
	VerbClose
)

var verbNames = [...]string{
	VerbOpen:               "Open",
	VerbAttach:             "Attach",
	VerbDetach:             "Detach",
	VerbSyncThenDetach:     "SyncThenDetach",
	VerbUninstallSync:      "UninstallSync",
	VerbSync:               "Sync",
	VerbPushPending:        "PushPending",
	VerbPullToStable:       "PullToStable",
	VerbRebuild:            "Rebuild",
	VerbRestart:            "Restart",
	VerbSyncStatus:         "SyncStatus",
	VerbPendingSyncStatus:  "PendingSyncStatus",
	VerbSourceInfo:         "SourceInfo",
	VerbQuarantined:        "Quarantined",
	VerbRetryQuarantined:   "RetryQuarantined",
	VerbDiscardQuarantined: "DiscardQuarantined",
	VerbResume:             "Resume",
	VerbStart:              "Start",
	VerbStop:               "Stop",
	VerbClose:              "Close",
}

// String returns the verb as the public API spells it; it is the operation named in errors.
func (v Verb) String() string { return verbNames[v] }

// needsAttachment reports whether v makes sense only for an attached user.
func (v Verb) needsAttachment() bool {
	switch v {
	case VerbSync, VerbPushPending, VerbPullToStable, VerbRebuild, VerbSyncThenDetach, VerbSyncStatus:
		return true
	default:
		return false
	}
}

// aside returns the one transaction that serves v beside whatever runs; nil for other verbs.
func (c evCalled) aside() messages.Command {
	switch c.Verb {
	case VerbSyncStatus, VerbPendingSyncStatus, VerbSourceInfo:
		return messages.LoadState{}
	case VerbQuarantined:
		return messages.LoadQuarantine{}
	case VerbRetryQuarantined:
		return messages.RetryQuarantined{IDs: c.IDs}
	case VerbDiscardQuarantined:
		return messages.DiscardQuarantined{IDs: c.IDs}
	default:
		return nil
	}
}

// shareable reports whether a caller may join a run of v that has begun to freeze or to pull. What those two see is
// fixed by when they began, so a caller who has written something since must not be told that it was pushed.
func (v Verb) shareable() bool {
	return v == VerbOpen || v == VerbAttach || v == VerbUninstallSync || v == VerbRestart
}

// AttachOutcome is how an Attach ended.
type AttachOutcome uint8

// The outcomes of an Attach.
const (
	AttachResumed AttachOutcome = iota + 1
	AttachUsedRemote
	AttachSeeded
	AttachStartedEmpty
	AttachRetryLater
)

// SyncResult is what a run pushed and pulled.
type SyncResult struct {
	Committed       bool // something was committed
	UploadsSkipped  bool // uploads were paused
	Downloads       messages.PullVerdict
	DownloadSkipped bool // downloads were paused
	Restored        *local.Restored
	State           local.State // after the run
}

// Result answers a verb. Which fields mean something depends on the verb: Attach and RetryAfter for VerbAttach, Sync
// for the verbs that push or pull and for VerbSyncThenDetach, Detached and Pending for the two verbs that detach,
// Quarantine for VerbQuarantined.
type Result struct {
	State      local.State
	Attach     AttachOutcome
	RetryAfter time.Duration
	Sync       SyncResult
	Detached   bool
	Pending    local.Pending // what stood in the way of a detach
	Rounds     int           // of sync and detach
	Quarantine []local.SetAside
}
