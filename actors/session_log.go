package actors

import (
	"time"

	"go.uber.org/zap"
)

// This file says what the session logs and counts of what its machine does. Levels: error: somebody has to look at it;
// warn: the engine cannot do its work now, or the application has to do something; info: what is rare and nobody's
// fault; debug: all the rest.

// record is what a session remembers for the sake of log and metrics.
type record struct {
	failing  time.Time // since when requests have been failing; zero: they do not
	failures int
	pending  int64 // rows that the metrics know of
	aside    []RowQuarantined
}

// noted logs and counts an event.
func (s *session) noted(e Event) {
	switch e := e.(type) {
	case BackoffScheduled:
		if s.record.failing.IsZero() {
			s.record.failing = s.machine.now
		}
		s.record.failures++
		s.metrics.backoff(e.Operation, e.Until.Sub(s.machine.now), e.Attempt)
		fail(s.log, s.log.Warn, "a request failed and will be repeated", e.Err, zap.String(keyOperation, e.Operation),
			zap.Int(keyAttempt, e.Attempt), zap.Time(keyRetryAt, e.Until), zap.Time(keySince, s.record.failing))
	case ConflictResolved:
		s.metrics.conflict(e.Resolution)
		s.log.Debug("a conflict was settled", zap.String(keyTable, e.Table), zap.String(keyResolution, e.Resolution))
	case RowQuarantined:
		s.metrics.quarantined(e.Origin)
		s.record.aside = append(s.record.aside, e)
	case LocalRowsDropped:
		s.log.Warn("rows of the account replaced local ones that it did not have", zap.Int64(keyRows, e.Rows))
	case SourceRotated:
		s.log.Info("the source was replaced", zap.String(keyFrom, e.From), zap.String(keyTo, e.To), zap.String(keyReason, e.Reason))
	case TablesChanged:
		if line := s.log.Check(zap.DebugLevel, "tables changed"); line != nil {
			line.Write(zap.String(keyCause, string(e.Cause)), zap.Strings(keyTable, e.Tables))
		}
	}
}

// notedAside logs the rows that were set aside in one go as one line: they may be thousands.
func (s *session) notedAside() {
	rows := s.record.aside
	if len(rows) == 0 {
		return
	}
	s.record.aside = nil
	s.log.Warn("rows were set aside: they wait for the application", zap.Int(keyRows, len(rows)),
		zap.String(keyTable, rows[0].Table), zap.String(keyCode, word(rows[0].Code)), zap.String(keyOrigin, rows[0].Origin))
}

// notedStatus logs what is new in a status, and counts it.
func (s *session) notedStatus(before, now *Status) {
	s.metrics.phase(before.Phase, now.Phase)
	if before.Phase != now.Phase {
		s.log.Debug("another phase", zap.String(keyFrom, string(before.Phase)), zap.String(keyTo, string(now.Phase)))
	}
	if now.Pending.Rows != s.record.pending {
		s.measurePending(now)
	}
	if b := now.UploadBlocked; b != nil && before.UploadBlocked == nil {
		s.log.Warn("uploads are held back", zap.String(keyCode, word(b.Code)), zap.Int(keyStatus, b.Status), zap.String(keyTable, word(b.Table)))
	} else if b == nil && before.UploadBlocked != nil {
		s.log.Info("uploads go on")
	}
	if now.SourceRecovery != "" && before.SourceRecovery == "" {
		s.log.Warn("the source is at its end and has to be replaced", zap.String(keyReason, word(now.SourceRecovery)))
	}
	if now.RebuildRequired && !before.RebuildRequired {
		s.log.Info("the local state has to be rebuilt", zap.String(keyReason, word(s.machine.state.Operation.Reason)))
	}
}

func (s *session) measurePending(now *Status) {
	rows := now.Pending.Rows
	s.metrics.pending(PendingWork{
		Rows: rows, Change: rows - s.record.pending, Quarantined: now.Pending.Quarantined,
		OldestAge: now.Pending.OldestAge(s.machine.now),
	})
	s.record.pending = rows
}

// ran logs and counts a run that has ended.
func (s *session) ran(e fxRan) {
	outcome := outcomeOf(e.Err)
	took := s.machine.now.Sub(e.Began)
	s.metrics.run(e.Verb, outcome, took)
	now := s.machine.status()
	s.measurePending(&now)
	call := []zap.Field{zap.String(keyVerb, e.Verb.String()), zap.String(keyOutcome, string(outcome)), zap.Duration(keyTook, took)}
	if e.Err != nil {
		fail(s.log, s.levelOf(outcome), "a call ended with an error", e.Err, call...)
		return
	}
	if s.record.failures > 0 && e.Verb.asksServer() {
		s.log.Info("requests succeed again", zap.Time(keySince, s.record.failing), zap.Int(keyAttempt, s.record.failures))
		s.record.failing, s.record.failures = time.Time{}, 0
	}
	switch {
	case e.Verb == VerbOpen || e.Verb == VerbRestart:
		s.log.Info("the database is open", zap.String(keySource, s.machine.state.Attachment.CurrentSourceID))
	case e.Verb == VerbAttach && e.Result.Attach != AttachRetryLater:
		s.log.Info("a user is attached", zap.String(keyOutcome, e.Result.Attach.String()), zap.String(keySource, s.machine.state.Attachment.CurrentSourceID))
	case e.Result.Detached:
		s.log.Info("the user is detached", zap.String(keySource, s.machine.state.Attachment.CurrentSourceID))
	default:
		s.log.Debug("a call ended", call...)
	}
}

// levelOf says how the log speaks of a run that ended with an error.
func (s *session) levelOf(o Outcome) func(string, ...zap.Field) {
	switch o {
	case OutcomeCanceled, OutcomeClosed, OutcomeRefused: // the application's own doing
		return s.log.Debug
	case OutcomeDatabase, OutcomeProtocol, OutcomeServer, OutcomeFailed, OutcomeOther:
		return s.log.Error
	default:
		return s.log.Warn
	}
}

// forgotten takes out of the metrics what this engine has put in.
func (s *session) forgotten() {
	s.metrics.phase(s.shown.Phase, "")
	s.measurePending(&Status{})
}

// asksServer reports whether a run of v that succeeds has had an answer of the server, as a rule.
func (v Verb) asksServer() bool {
	switch v {
	case VerbAttach, VerbSync, VerbPushPending, VerbPullToStable, VerbRebuild, VerbSyncThenDetach:
		return true
	default:
		return false
	}
}

var attachOutcomes = [...]string{
	AttachResumed: "resumed_attached_state", AttachUsedRemote: "used_remote_state", AttachSeeded: "seeded_from_local",
	AttachStartedEmpty: "started_empty", AttachRetryLater: "retry_later",
}

// String returns the outcome as the protocol family spells it.
func (o AttachOutcome) String() string { return attachOutcomes[o] }
