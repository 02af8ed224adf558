package actors

import (
	"errors"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// This file holds the part of the session machine that has a source replaced which is at its end. A snapshot does it; a
// run does it at most once, and once more when the server turns out to have replaced the source by another one.

// recoverFirst begins a run that finds a source recovery pending.
func (m *sessionMachine) recoverFirst() {
	r := m.current
	err := recoveryError(r.verb.String(), &m.state)
	var required *messages.SourceRecoveryRequiredError
	switch {
	case !errors.As(err, &required) || !m.mayRecover():
		m.finish(err)
	case r.verb == VerbRebuild:
		r.recovered = true // by the snapshot that it is about
		r.without(actGate)
	default:
		r.recovered = true
		r.next(actLink, actSnapshot)
	}
}

// mayRecover reports whether the current run may replace the source: it was asked for, or is to be done by itself.
func (m *sessionMachine) mayRecover() bool {
	return m.current.verb == VerbRebuild || m.cfg.recover && !m.downloadsPaused
}

// recovers goes on after an error that a snapshot mends, and reports whether it has. The step that met it is made again
// afterwards.
func (m *sessionMachine) recovers(err error) bool {
	r := m.current
	var (
		required *messages.SourceRecoveryRequiredError
		diverged *messages.SourceReplacementDivergedError
		mismatch *messages.SourceSequenceMismatchError
	)
	begin := false // the recovery has still to be recorded
	switch {
	case err == nil || r.abandoned || r.ending:
		return false
	case errors.As(err, &mismatch) && m.cfg.recover && m.mayRecover() && !r.recovered:
		r.recovered, begin = true, true
	case errors.As(err, &required) && m.mayRecover() && !r.recovered:
		r.recovered = true
	case errors.As(err, &diverged) && m.cfg.recover && !r.diverged:
		r.diverged = true
	default:
		return false
	}
	r.outstanding, m.waiting = nil, nil
	again := r.at.action
	if again != actSnapshot {
		r.next(again)
	}
	r.next(actSnapshot)
	if begin {
		m.currentCommand(beginRecovery)
	}
	m.proceed()
	return true
}

// wantsRebuild reports whether err asks the application for a Rebuild.
func wantsRebuild(err error) bool {
	var (
		required *messages.SourceRecoveryRequiredError
		diverged *messages.SourceReplacementDivergedError
		mismatch *messages.SourceSequenceMismatchError
	)
	return errors.As(err, &required) || errors.As(err, &diverged) || errors.As(err, &mismatch)
}

// beginRecovery ends a source under whose number the server holds another push.
var beginRecovery = messages.SetSourceRecovery{Reason: local.ReasonSourceSequenceChanged}

// mismatched reports whether a push was refused because the server holds another one under its number. A Rebuild of such a
// database replaces its source, whatever has become of the outbox since: a pull settles it when its rows tell no difference.
func mismatched(s *local.State) bool {
	return s.UploadBlocked != nil && s.UploadBlocked.Code == local.BlockedBySequence
}

// rotated takes in that the database writes under another source now.
func (m *sessionMachine) rotated(by *local.Rotation) {
	if by == nil {
		return
	}
	m.state.Attachment.CurrentSourceID = by.To
	m.state.Operation = local.Operation{Kind: local.NoOperation}
	m.emit(fxPublish{SourceRotated{From: by.From, To: by.To, Reason: by.Reason}})
	for l := range lanes { // another lane, or a call, has done what this one waited for
		if p := &m.bg.pace[l]; p.hold == holdApplication && needsRecovery(p.err) {
			*p = pace{}
		}
	}
}
