package actors

import (
	"errors"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// This file holds the part of the pull machine that takes a snapshot: a rebuild, or the second half of a remote
// replace. Which of them it is, the durable state says; ApplySnapshot goes by it.

// rebuild sets the gate, which lets no other way out, and takes a snapshot at once.
func (m *pullMachine) rebuild(reason string) {
	m.expect(pullGating, messages.SetRebuildGate{Reason: reason})
}

// resumeReplace goes on with a remote replace where it was interrupted: a complete stage is not fetched again.
func (m *pullMachine) resumeReplace(s local.Stage) {
	if !s.Complete {
		m.openSnapshot()
		return
	}
	m.session = wire.SnapshotSession{ID: s.SnapshotID, BundleSeq: s.BundleSeq, RowCount: s.RowCount, ByteCount: s.ByteCount}
	m.restore()
}

func (m *pullMachine) openSnapshot() {
	bounds, err := m.contract().SnapshotBounds(m.link.Limits, m.limits.SnapshotRows, m.limits.SnapshotBytes)
	if err != nil {
		m.fail(err)
		return
	}
	m.pageRows, m.pageBytes = bounds.MaxRows, bounds.MaxBytes
	m.request(pullOpening, createSnapshotRequest{call: m.call(), replacement: m.replacement()})
}

// pageOn asks for the next page, or completes the stage. Pages are fetched in sequence: that is what a bounded stage
// and both contracts allow.
func (m *pullMachine) pageOn() {
	if m.after == m.session.RowCount {
		m.expect(pullCompleting, messages.CompleteStage{Session: m.session})
		return
	}
	m.request(pullPaging, snapshotPageRequest{call: m.call(), page: wire.SnapshotPageRequest{
		Session: m.session, After: m.after, MaxRows: m.pageRows, AfterBytes: m.afterBytes, MaxBytes: m.pageBytes,
	}})
}

// pageStaged goes on after a page. What the last one leaves of the session's totals is found out only now, so that what a
// server sent can be looked at.
func (m *pullMachine) pageStaged() {
	m.after += int64(len(m.given.(fxTell).command.(messages.StageSnapshotPage).Rows))
	m.afterBytes += m.page.ByteCount
	m.emit(fxProgressed{})
	m.report(messages.Progress{Run: m.run, Phase: messages.PhaseStaging, Done: m.after, Total: m.session.RowCount})
	if !m.page.HasMore {
		if err := m.contract().CheckTransfer(m.session, m.after, m.afterBytes); err != nil {
			m.fail(err)
			return
		}
	}
	m.pageOn()
}

func (m *pullMachine) paged(p wire.SnapshotPage) {
	rows := int64(len(p.Rows))
	switch {
	case rows == 0, m.after+rows > m.session.RowCount, p.HasMore && m.after+rows == m.session.RowCount:
		m.fail(&wire.ProtocolError{Operation: transport.OpSnapshotPage, Reason: "its pages do not add up to its row_count"})
	default:
		m.page = p
		m.page.Rows = nil
		m.expect(pullStaging, messages.StageSnapshotPage{Session: m.session, After: m.after, Rows: p.Rows})
	}
}

// closeSnapshot has the server forget a session of which nothing more is needed.
func (m *pullMachine) closeSnapshot() {
	if m.open {
		m.open = false
		m.emit(fxDiscard{deleteSnapshotRequest{call: m.call(), snapshotID: m.session.ID}})
	}
}

func (m *pullMachine) restore() {
	m.report(messages.Progress{Run: m.run, Phase: messages.PhaseApplying, Total: m.session.RowCount})
	m.expect(pullRestoring, messages.ApplySnapshot{Contract: m.link.Contract, Session: m.session, Displace: m.displace})
}

func (m *pullMachine) restored(r local.Restored) {
	if rows := m.session.RowCount; rows > 0 {
		m.report(messages.Progress{Run: m.run, Phase: messages.PhaseApplying, Done: rows, Total: rows})
	}
	m.reportTables(messages.CauseSnapshot, r.Tables)
	m.displaced(r.Displaced)
	m.finish(messages.PullDone{Verdict: messages.PullSnapshot, Restored: &r, Rotated: r.Rotated})
}

// notRestored handles a snapshot that is here but could not be applied. One that collides with local intents can be
// applied once they are pushed; the gate stays. What is to be pushed needs a source that can push.
func (m *pullMachine) notRestored(err error) {
	var collision *local.CollisionError
	if errors.As(err, &collision) && m.state.Operation.Kind == local.SourceRecovery {
		m.collision = &collision.Collision
		m.expect(pullRotating, messages.RotateSource{Contract: m.link.Contract})
		return
	}
	if errors.As(err, &collision) {
		m.finish(messages.PullDone{Verdict: messages.PullNeedsPush, Collision: &collision.Collision})
		return
	}
	m.fail(err)
}

// snapshotRefused decides by what became of a request of a snapshot.
func (m *pullMachine) snapshotRefused(err error) {
	f := transport.Classify(err)
	switch {
	case f.Class == transport.TooLarge && m.stage == pullPaging && m.pageRows > 1:
		m.pageRows /= 2
		m.pageOn()
		return
	case f.Class != transport.Code:
		m.fail(runError(err))
		return
	}
	switch f.Code {
	case "snapshot_session_not_found", "snapshot_session_expired", "snapshot_session_forbidden":
		m.stageVoid(err)
	case "source_retired", "source_sequence_changed", "source_sequence_out_of_order", "history_pruned":
		m.recover(f.Code, err)
	case "source_replacement_invalid":
		m.notReplaceable(err)
	case "scope_uninitialized", "scope_initializing":
		if m.state.Operation.Kind == local.RemoteReplace {
			m.failAfter(messages.CancelReplace{}, &messages.AttachRequiredError{Operation: VerbAttach.String(), Reason: f.Code})
			return
		}
		m.refusedWith(f.Code, err)
	default:
		m.fail(runError(err))
	}
}

// stageVoid begins again with a new session after the server dropped the old one: all pages are void.
func (m *pullMachine) stageVoid(err error) {
	m.open = false
	m.voids++
	if m.voids >= maxVoidStages {
		m.fail(&messages.SnapshotExpiredError{Rows: m.after, Total: m.session.RowCount, Err: err})
		return
	}
	m.openSnapshot()
}
