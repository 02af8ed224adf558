package actors

import (
	"context"
	"errors"
	"time"

	"github.com/oversqlite/oversqlite/messages"
)

// This file holds the part of background sync that learns from how runs end when there may be another.

// learn takes in what the end of any run means for background sync.
func (m *sessionMachine) learn(r *sessionRun, err error) {
	if !m.bg.on {
		return
	}
	if err == nil && (r.result.Detached || r.verb == VerbUninstallSync) {
		m.bg.rests = true
	}
	if r.auto {
		m.laneDone(r, err)
		return
	}
	m.foregroundDone(r, err)
}

// foregroundDone takes in what a caller's run has found out.
func (m *sessionMachine) foregroundDone(r *sessionRun, err error) {
	b := &m.bg
	covers := r.verb.lanes()
	var exhausted *messages.RetryExhaustedError
	var auth *messages.AuthError
	switch {
	case len(covers) == 0:
	case err == nil:
		b.auth, b.failures = nil, 0
		for _, l := range covers {
			b.pace[l] = pace{}
		}
		if r.verb == VerbAttach {
			m.attachDone(r)
		}
	case errors.As(err, &auth):
		b.auth = err
	case errors.As(err, &exhausted):
		if away(err) {
			b.failures = max(b.failures, exhausted.Attempts)
		}
		m.hush(exhausted.NextRetryAt, exhausted.Attempts, err)
	case m.user == "" && r.verb != VerbAttach && r.id != 0: // one that was refused before it began had none to lose
		m.lostAttachment(err)
	}
}

// lanes returns what of background sync a caller's run does as well.
func (v Verb) lanes() []lane {
	switch v {
	case VerbAttach:
		return []lane{laneAttach, lanePush, lanePull}
	case VerbSync, VerbSyncThenDetach, VerbRebuild:
		return []lane{lanePush, lanePull}
	case VerbPushPending:
		return []lane{lanePush}
	case VerbPullToStable:
		return []lane{lanePull}
	default:
		return nil
	}
}

// attachDone goes on after an Attach that did not fail.
func (m *sessionMachine) attachDone(r *sessionRun) {
	if r.result.Attach == AttachRetryLater {
		m.delay(laneAttach, nil, r.result.RetryAfter)
		return
	}
	m.bg.rests = false
	failures := m.bg.pace[laneAttach].failures
	m.free()
	if r.auto { // it has proved nothing until something has been pushed or pulled
		m.bg.pace[laneAttach].failures = failures
	}
	m.openWindow(m.now)
	if r.result.Attach != AttachResumed {
		m.bg.pull, m.bg.hinted = false, 0 // whatever called for it, that was another attachment
	}
	// What was restored is as new as can be, unless it was staged before a restart: nobody has asked the server since.
	if r.result.Sync.Restored == nil || m.link == nil {
		m.catchUp()
	}
}

// lostAttachment paces the Attach that follows an attachment which ended by itself, so that two that keep ending each
// other do not go round without a pause.
func (m *sessionMachine) lostAttachment(err error) {
	if m.wants(laneAttach) {
		m.delay(laneAttach, err, 0)
	}
}

// laneDone paces a lane by how its run ended. What the run was for stays wanted unless it succeeded.
func (m *sessionMachine) laneDone(r *sessionRun, err error) {
	b := &m.bg
	if err == nil {
		m.laneSucceeded(r)
		return
	}
	if r.lane == lanePull {
		b.pull = true
	}
	if !r.fresh {
		m.openWindow(m.now)
	}
	var auth *messages.AuthError
	var lost *messages.AttachRequiredError
	switch p := &b.pace[r.lane]; {
	case err == context.Canceled: //nolint:errorlint // the bare value is what a cancelled run ends with
		switch {
		case r.until.IsZero():
		case r.yields:
			m.madeWay(r)
		default:
			m.gaveWay(r)
		}
	case errors.As(err, &auth):
		b.auth = err
	case errors.As(err, &lost):
		m.lostAttachment(err)
	case needsApplication(err):
		p.hold, p.err = holdApplication, err
	case r.lane == lanePush && holdsUploads(err):
		m.delayRefused(err)
	default:
		m.delay(r.lane, err, 0)
	}
}

// laneSucceeded goes on after a background run that did not fail. When it left work of its own kind without having got
// anywhere, the next one waits like after a failure.
func (m *sessionMachine) laneSucceeded(r *sessionRun) {
	b := &m.bg
	before := b.pace[r.lane]
	b.pace[r.lane] = pace{}
	stuck := false
	switch r.lane {
	case laneAttach:
		b.pace[r.lane] = before
		m.attachDone(r)
	case lanePush:
		stuck = m.unsent() && !m.uploadsPaused && !r.result.Sync.Committed && !b.window.open // else it was written since
	case lanePull:
		b.pollAt = m.nextPoll()
		stuck = m.unsettled() && !m.downloadsPaused
		if push := &b.pace[lanePush]; r.result.Sync.Downloads != messages.PullAtTarget && push.hold == holdDelay && push.err == nil {
			push.at = time.Time{} // what it lacked may have come
		}
	}
	if r.lane != laneAttach {
		b.pace[laneAttach] = pace{}
	}
	if stuck {
		b.pace[r.lane].failures = before.failures
		m.delay(r.lane, nil, 0)
	}
}

// needsApplication reports whether only the application can do something about err: nothing changes by repeating.
func needsApplication(err error) bool {
	var (
		binding *messages.AttachBindingConflictError
		state   *messages.AttachLocalStateConflictError
	)
	return needsRecovery(err) || errors.As(err, &binding) || errors.As(err, &state)
}

// needsRecovery reports whether err says that the source has to be replaced.
func needsRecovery(err error) bool {
	var (
		recovery *messages.SourceRecoveryRequiredError
		diverged *messages.SourceReplacementDivergedError
	)
	return errors.As(err, &recovery) || errors.As(err, &diverged)
}
