package actors

import (
	"slices"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// Status is what an engine is doing, why, and what it waits for. It is a snapshot of what the engine knows; reading it
// costs nothing and never blocks.
type Status struct {
	// Phase is what the engine is doing.
	Phase messages.Phase
	// Reason says in a few words why it is in that phase; for a phase that waits, what it waits for.
	Reason string
	// WaitingUntil is when the engine goes on by itself: when a failed request or run is repeated, when the server is
	// polled next. Zero when it does not wait for a moment.
	WaitingUntil time.Time
	// Attempt counts the failures of what waits, from 1; 0 when it waits for another reason.
	Attempt int
	// WokenBy names what would end the wait sooner, or, without a WaitingUntil, what is waited for.
	WokenBy []Waker
	// LastProgressAt is when something last succeeded; zero before anything did.
	LastProgressAt time.Time
	// LastError is what last went wrong, nil once something has succeeded since.
	LastError error

	// AttachedUser is the attached user's id, "" when none is attached.
	AttachedUser string
	// Pending is the local work that the server does not have, as of the engine's last read. While background sync is on
	// that is never older than AutoConfig.MaxDelay, commits of other processes apart; else what is written while nothing
	// runs is counted with the next run or status call.
	Pending Pending
	// Checkpoint is the highest bundle_seq that has been applied.
	Checkpoint int64
	// RebuildRequired is set while the local state has to be rebuilt from a snapshot; the next sync does it.
	RebuildRequired bool
	// SourceRecovery is why the source has to be replaced; "" when it has not.
	SourceRecovery string
	// UploadBlocked is why uploads are held back, nil when they are not. Downloads go on.
	UploadBlocked *local.Blocked
	// UploadsPaused and DownloadsPaused are the flags set by the application.
	UploadsPaused, DownloadsPaused bool
	// Failure is set in PhaseFailed: what panicked, and where.
	Failure *messages.EngineFailedError

	errors uint64 // counts how often LastError was set or cleared
}

// Pending counts local work.
type Pending struct {
	// Rows is the number of pending entries.
	Rows int64
	// Quarantined is how many of them are in quarantine.
	Quarantined int64
	// OldestAt is when the oldest row that waits to be pushed, or to be known as pushed, was last written; zero when none does.
	OldestAt time.Time
}

// OldestAge is how long the oldest of them has been waiting at the time now; 0 when none is.
func (p Pending) OldestAge(now time.Time) time.Duration {
	if p.OldestAt.IsZero() {
		return 0
	}
	return max(0, now.Sub(p.OldestAt))
}

// differs reports whether a subscriber would want to know: counts and times alone are no news.
func (s *Status) differs(o *Status) bool {
	return s.Phase != o.Phase || s.Reason != o.Reason || !s.WaitingUntil.Equal(o.WaitingUntil) || s.Attempt != o.Attempt ||
		!slices.Equal(s.WokenBy, o.WokenBy) || s.errors != o.errors || s.AttachedUser != o.AttachedUser || s.RebuildRequired != o.RebuildRequired || s.SourceRecovery != o.SourceRecovery ||
		(s.UploadBlocked == nil) != (o.UploadBlocked == nil) || s.Pending.Quarantined != o.Pending.Quarantined ||
		s.UploadsPaused != o.UploadsPaused || s.DownloadsPaused != o.DownloadsPaused
}

// status describes the machine.
func (m *sessionMachine) status() Status {
	s := Status{
		LastProgressAt:  m.lastProgressAt,
		LastError:       m.lastErr,
		errors:          m.errors,
		AttachedUser:    m.user,
		Pending:         Pending{Rows: m.state.Pending.Rows(), Quarantined: m.state.Pending.Quarantined, OldestAt: m.state.Pending.OldestAt},
		Checkpoint:      m.state.Attachment.Checkpoint,
		RebuildRequired: m.state.Attachment.RebuildRequired,
		UploadBlocked:   m.state.UploadBlocked,
		UploadsPaused:   m.uploadsPaused,
		DownloadsPaused: m.downloadsPaused,
	}
	if m.state.Operation.Kind == local.SourceRecovery {
		s.SourceRecovery = m.state.Operation.Reason
	}
	s.Phase, s.Reason = m.phaseNow()
	switch {
	case m.waiting != nil:
		s.Reason = "waiting to repeat: " + m.waiting.Reason
		s.WaitingUntil = m.waiting.Until
		s.Attempt = m.waiting.Attempt
		s.WokenBy = []Waker{WakerKick}
	case m.current == nil && m.active():
		m.statusBetween(&s)
	case m.current == nil && m.life == lifeOpen:
		s.WokenBy = m.idleWakers()
	case m.life == lifeFailed:
		s.WokenBy = []Waker{WakerRestart}
	case m.life == lifeNew:
		s.WokenBy = []Waker{WakerOpen}
	}
	if s.LastError == nil {
		s.LastError = m.autoError()
	}
	if m.life == lifeFailed {
		s.Failure = m.failure
	}
	return s
}

// phaseNow says what the machine is doing and why.
func (m *sessionMachine) phaseNow() (messages.Phase, string) {
	switch m.life {
	case lifeFailed:
		return messages.PhaseFailed, "stopped after a panic: call Restart"
	case lifeClosing:
		return messages.PhaseClosed, "closing: waiting for the running transaction"
	case lifeClosed:
		return messages.PhaseClosed, "closed"
	}
	r := m.current
	if r == nil {
		if m.life == lifeNew {
			return messages.PhaseClosed, reasonNotOpen
		}
		return messages.PhaseIdle, m.idleReason()
	}
	phase, reason := r.at.action.phase()
	if phase == "" {
		phase = r.verb.phase()
	}
	if m.phase != "" && (phase == messages.PhasePushing || phase == messages.PhaseReplaying || phase == messages.PhasePulling || phase == messages.PhaseStaging) {
		phase = m.phase
	}
	return phase, reason + " for " + r.verb.String()
}

func (m *sessionMachine) idleReason() string {
	switch {
	case m.user == "" && m.attachReason != "":
		return "waiting for Attach: " + m.attachReason
	case m.user == "":
		return "waiting for Attach"
	case m.state.Operation.Kind == local.SourceRecovery && m.cfg.recover:
		return "source recovery pending: the next sync does it"
	case m.state.Operation.Kind == local.SourceRecovery:
		return "source recovery pending: call Rebuild"
	case mismatched(&m.state) && !m.cfg.recover:
		return "uploads held back: " + m.state.UploadBlocked.Code + ": call Rebuild"
	case m.state.UploadBlocked != nil:
		return "uploads held back: " + m.state.UploadBlocked.Code
	default:
		return "nothing asked for"
	}
}

// idleWakers says what an engine without background sync waits for.
func (m *sessionMachine) idleWakers() []Waker {
	switch {
	case m.user == "":
		return []Waker{WakerAttach}
	case (m.state.Operation.Kind == local.SourceRecovery || mismatched(&m.state)) && !m.cfg.recover:
		return []Waker{WakerRebuild}
	default:
		return []Waker{WakerCall, WakerStart}
	}
}

// phase says in which phase an action is done, and what it does.
func (a action) phase() (messages.Phase, string) {
	switch a {
	case actOpen:
		return messages.PhaseOpening, "opening the database"
	case actLink:
		return messages.PhaseConnecting, "asking for the server's capabilities"
	case actConnect, actAskForLease:
		return messages.PhaseConnecting, "connecting"
	case actPush:
		return messages.PhasePushing, "pushing local changes"
	case actPushThese:
		return messages.PhasePushing, "pushing what stands in a pull's way"
	case actReplay:
		return messages.PhaseReplaying, "settling what was pushed before"
	case actPull:
		return messages.PhasePulling, "pulling"
	case actSnapshot:
		return messages.PhaseStaging, "fetching and applying a snapshot"
	case actDetach, actUninstall:
		return messages.PhaseDetaching, "removing the synced state"
	default:
		return "", "reading or writing the local state"
	}
}

// phase is the phase of a verb's own transactions.
func (v Verb) phase() messages.Phase {
	switch v {
	case VerbAttach:
		return messages.PhaseConnecting
	case VerbDetach, VerbUninstallSync:
		return messages.PhaseDetaching
	case VerbRebuild:
		return messages.PhaseStaging
	case VerbPullToStable:
		return messages.PhasePulling
	default:
		return messages.PhasePushing
	}
}

const reasonNotOpen = "not open yet"
