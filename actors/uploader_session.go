package actors

import (
	"errors"
	"slices"
	"strconv"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// This file holds the part of the upload machine that talks to the server: the push session, the refusals, and the
// replay of what was committed.

func (m *uploadMachine) pushRequest() wire.CreatePushRequest {
	r := wire.CreatePushRequest{
		SourceBundleID:  m.outbox.SourceBundleID,
		PlannedRowCount: m.outbox.RowCount,
		RequestHash:     m.outbox.RequestHash,
	}
	if !m.withoutLease {
		r.InitializationID = m.outbox.InitializationID
	}
	return r
}

// create opens a session for the outbox. It is also what proves whether the outbox was committed before.
func (m *uploadMachine) create() {
	m.pushID, m.next = "", 0
	m.request(pushCreating, createPushRequest{call: m.call(), push: m.pushRequest()})
}

func (m *uploadMachine) created(r wire.CreatePushResponse) {
	if r.AlreadyCommitted {
		m.alreadyCommitted(r.Committed)
		return
	}
	m.pushID, m.begun = r.PushID, tuple{m.outbox.SourceID, m.outbox.SourceBundleID}
	switch {
	case m.withoutLease:
		// The seed was not committed, and the scope takes no lease any more: somebody else initialized it.
		m.leaseLost("lease_lost")
	case m.refusedBy != nil:
		m.refusalProved()
	case (m.state.UploadBlocked != nil || m.only != nil) && !m.requeued:
		// What is frozen was refused before. This answer proves that it was not committed, so it may be frozen anew,
		// with whatever the application has changed since.
		m.requeued = true
		m.more = false
		m.giveUpSession()
		m.expect(pushRequeueing, messages.RequeueOutbox{})
	default:
		m.readOn()
	}
}

func (m *uploadMachine) alreadyCommitted(bundle wire.BundleMeta) {
	this := tuple{m.outbox.SourceID, m.outbox.SourceBundleID}
	named := m.contract().NamesRequest()
	if m.frozen == this && m.sent != this && !named {
		// Committed, but not by us: this database is a copy of one that went on, or an older state of itself. The bundle
		// is somebody else's and will come back as such.
		m.recover(local.ReasonSourceSequenceChanged, "", messages.RequeueOutbox{})
		return
	}
	m.bundle, m.inferred = bundle, !named
	if m.withoutLease {
		m.expect(pushDroppingLease, messages.DropLease{})
		return
	}
	m.markCommitted(bundle)
}

// markCommitted records a commit. What is only inferred may be that of another push, and is new to nobody.
func (m *uploadMachine) markCommitted(bundle wire.BundleMeta) {
	m.bundle, m.pushID = bundle, ""
	m.expect(pushMarking, messages.MarkCommitted{Bundle: bundle, New: !m.inferred && m.begun == tuple{m.outbox.SourceID, m.outbox.SourceBundleID}})
}

// marked goes on when the commit is on disk. What contradicts the checkpoint is settled by a snapshot.
func (m *uploadMachine) marked(behind bool) {
	m.committedBefore, m.committed = m.committed, true
	m.emit(fxProgressed{})
	if behind {
		m.finish(messages.PushNeedsRebuild, nil)
		return
	}
	m.prove()
}

// readOn reads the rows of the next chunk.
func (m *uploadMachine) readOn() {
	l := m.link.Limits
	bytes := m.limits.PushChunkBytes
	if bytes <= 0 {
		bytes = defaultChunkBytes
	}
	m.expect(pushReading, messages.OutboxRows{
		From:     m.next,
		MaxRows:  within(m.limits.PushChunkRows, l.DefaultRowsPerPushChunk, defaultRows, l.MaxRowsPerPushChunk),
		MaxBytes: bytes,
	})
}

func (m *uploadMachine) read(rows []wire.PushRow) {
	if len(rows) == 0 {
		m.finish(0, &local.DatabaseError{
			Operation: "read the outbox", Table: "_sync_outbox_rows",
			Reason: "it holds fewer rows than _sync_outbox_bundle says: somebody changed it",
		})
		return
	}
	m.request(pushSending, pushChunkRequest{call: m.call(), pushID: m.pushID, start: m.next, rows: rows})
}

func (m *uploadMachine) chunkSent() {
	m.next += int64(len(m.given.(fxAsk).request.(pushChunkRequest).rows))
	if m.next > m.high {
		m.high, m.sessions = m.next, 0
		if m.commitFailures == 0 {
			m.emit(fxProgressed{})
		}
	}
	m.report(messages.Progress{Run: m.run, Phase: messages.PhasePushing, Done: m.next, Total: m.outbox.RowCount})
	if m.next < m.outbox.RowCount {
		m.readOn()
		return
	}
	m.sent = tuple{m.outbox.SourceID, m.outbox.SourceBundleID}
	m.request(pushCommitting, commitPushRequest{call: m.call(), pushID: m.pushID, push: m.pushRequest()})
}

// refusal decides by what the server refused. This is the answer table of the specification.
func (m *uploadMachine) refusal(err error) {
	var (
		refused *wire.HTTPError
		other   *wire.RequestHashError
	)
	switch f := transport.Classify(err); {
	case errors.As(err, &other):
		m.otherRequest(other)
	case errors.Is(err, wire.ErrOtherBundle):
		m.contradicted()
	case f.Class == transport.CommitFailed && errors.As(err, &refused):
		m.commitFailed(refused)
	case f.Class == transport.TooLarge && m.stage == pushFetching && m.pageRows > 1:
		m.pageRows /= 2
		m.fetch()
	case f.Class == transport.Code && errors.As(err, &refused) && m.stage == pushFetching:
		m.rowsRefused(refused)
	case f.Class == transport.Code && errors.As(err, &refused):
		m.pushRefused(refused)
	default:
		m.finish(0, runError(err))
	}
}

// otherRequest decides what becomes of an outbox under whose number the server holds another request. Not committed as far
// as we know, it is kept: another copy of this database, or an older state of it, has used the number, and only the
// application can know what that means. Rebuild then goes on as another source. Committed, the server contradicts itself, and a snapshot
// tells what it holds.
func (m *uploadMachine) otherRequest(err *wire.RequestHashError) {
	if m.stage == pushFetching {
		m.contradicted()
		return
	}
	mismatch := &messages.SourceSequenceMismatchError{SourceBundleID: m.outbox.SourceBundleID, Err: err}
	m.block(&local.Blocked{Code: local.BlockedBySequence, Message: err.Error()}, mismatch)
}

// contradicted has a snapshot tell what the server holds that shows another bundle where it had committed ours, and create
// what became of that: it may be lost. A server that then says again that it is committed is believed.
func (m *uploadMachine) contradicted() {
	if m.doubted {
		m.finishAfter(messages.PushNeedsRebuild, nil, messages.SetRebuildGate{Reason: local.ReasonResume})
		return
	}
	m.doubt()
	m.finishAfter(messages.PushNeedsRebuild, nil, messages.DoubtCommit{Gate: local.ReasonResume})
}

// doubt takes back that the outbox is known to be committed.
func (m *uploadMachine) doubt() { m.doubted, m.committed = true, m.committedBefore }

// pushRefused decides what becomes of an outbox that is not known to be committed.
func (m *uploadMachine) pushRefused(e *wire.HTTPError) {
	switch e.Code {
	case "push_conflict":
		if m.stage != pushCommitting || e.Conflict == nil {
			m.rejectAnswer(e)
			return
		}
		m.conflict = e
		m.expect(pushTakingConflict, messages.TakeConflict{Conflict: *e.Conflict})
	case "history_pruned":
		m.recover(local.ReasonHistoryPruned, "")
	case "source_sequence_out_of_order", "source_sequence_changed", "source_retired":
		m.recover(e.Code, e.ReplacedBySourceID)
	case "initialization_expired", "initialization_stale":
		m.leaseLost(e.Code)
	case "scope_uninitialized", "scope_initializing":
		m.scopeLost(e.Code)
	case "push_session_invalid":
		switch {
		case m.stage != pushCreating:
			m.rejectAnswer(e)
		case m.pushRequest().InitializationID == "":
			// A create of ours is always well formed, so what it lacks is a lease: somebody else is seeding a scope that
			// the server had lost.
			m.scopeLost("scope_initializing")
		default:
			m.withoutLease = true
			m.create()
		}
	case "push_session_not_found", "push_session_expired", "push_session_forbidden", "push_chunk_out_of_order":
		m.sessionLost(e)
	default:
		m.rejectAnswer(e)
	}
}

// rowsRefused decides what becomes of an outbox that is committed but whose rows cannot be fetched.
func (m *uploadMachine) rowsRefused(e *wire.HTTPError) {
	switch e.Code {
	case "history_pruned":
		// A snapshot holds them, and settles the outbox.
		m.finishAfter(messages.PushNeedsRebuild, nil, messages.SetRebuildGate{Reason: local.ReasonHistoryPruned})
	case "committed_bundle_not_found":
		m.bundleMissing(e)
	case "source_sequence_out_of_order", "source_sequence_changed", "source_retired":
		m.recover(e.Code, e.ReplacedBySourceID)
	case "scope_uninitialized", "scope_initializing":
		m.scopeLost(e.Code)
	default:
		m.rejectAnswer(e)
	}
}

// sessionLost begins again with a new session: at once the first time, then with growing delays, and not for ever.
func (m *uploadMachine) sessionLost(e *wire.HTTPError) {
	m.sessions++
	switch {
	case m.sessions > maxSessions:
		m.finish(0, e)
	case m.sessions == 1:
		m.create()
	default:
		m.createLater(e)
	}
}

// createLater begins the session again after the delay that is due.
func (m *uploadMachine) createLater(cause error) {
	m.stage, m.pushID, m.next = pushCreating, "", 0
	m.askLater(createPushRequest{call: m.call(), push: m.pushRequest()}, cause)
}

// commitFailed repeats a commit that the server could not make, through create, which tells whether it was made
// after all. Only when that has happened several times, with everything in between in order, it is a refusal.
func (m *uploadMachine) commitFailed(e *wire.HTTPError) {
	m.commitFailures++
	if m.commitFailures < m.patience() {
		m.createLater(e)
		return
	}
	m.rejectAnswer(e)
}

// bundleMissing asks again for a committed bundle: a replica may lag behind. When it does so for too long, the server may have
// been put back to what it was before the commit. Then nobody will ever see that bundle, and create tells whether the push is to be made
// once more.
func (m *uploadMachine) bundleMissing(e *wire.HTTPError) {
	m.notFound++
	switch {
	case m.notFound <= maxNotFound:
		m.askLater(m.given.(fxAsk).request, e)
	case m.doubted:
		m.finish(0, e)
	case m.replay: // create is not to be asked now
		m.doubt()
		m.finishAfter(messages.PushNoChange, nil, messages.DoubtCommit{})
	default:
		m.doubt()
		m.expect(pushDoubting, messages.DoubtCommit{})
	}
}

// recover records that this writer stream is no longer valid. Every local change is kept.
func (m *uploadMachine) recover(reason, replacedBy string, before ...messages.Command) {
	m.finishAfter(0, &messages.SourceRecoveryRequiredError{Operation: "push", Reason: reason},
		slices.Concat(before, []messages.Command{messages.SetSourceRecovery{Reason: reason, ReplacedBy: replacedBy}})...)
}

func (m *uploadMachine) scopeLost(reason string) {
	m.finishAfter(0, &messages.AttachRequiredError{Operation: "push", Reason: reason}, messages.RequireReattach{})
}

func (m *uploadMachine) leaseLost(reason string) {
	m.finishAfter(0, &messages.AttachRequiredError{Operation: "push", Reason: reason}, messages.LoseLease{})
}

func (m *uploadMachine) rejectAnswer(e *wire.HTTPError) {
	// Whoever stands before the server refuses without a code of the protocol's; there has to be some reason all the same.
	rejected := &messages.PushRejectedError{Code: orElse(e.Code, "status_"+strconv.Itoa(e.Status)), Status: e.Status, Message: e.Message, Err: e}
	if e.Conflict != nil {
		rejected.Table = e.Conflict.Table
	}
	m.quarantine.refused, m.quarantine.refusedHash = rejected, m.outbox.RequestHash
	if (m.isolate || m.only != nil) && (m.stage == pushSending || m.stage == pushCommitting) {
		m.proveRefusal(rejected, e)
		return
	}
	m.reject(rejected)
}

// reject holds uploads: the outbox is kept, and why is kept too.
func (m *uploadMachine) reject(e *messages.PushRejectedError) {
	m.finishAfter(0, e, messages.SetUploadBlocked{Blocked: m.blocked(e)})
}

// blocked is why uploads are held after a refusal.
func (m *uploadMachine) blocked(e *messages.PushRejectedError) *local.Blocked {
	return m.heldSince(&local.Blocked{Code: e.Code, Status: e.Status, Message: e.Message, Table: e.Table})
}

func (m *uploadMachine) block(b *local.Blocked, err error) {
	m.finishAfter(0, err, messages.SetUploadBlocked{Blocked: m.heldSince(b)})
}

// heldSince keeps the time at which uploads were first held for the same reason.
func (m *uploadMachine) heldSince(b *local.Blocked) *local.Blocked {
	if before := m.state.UploadBlocked; before != nil && before.Code == b.Code {
		b.Since = before.Since
	}
	return b
}

// conflictTaken ends the attempt: the server names one conflict a commit, a pull reveals the others. The same intent
// refused twice is no progress.
func (m *uploadMachine) conflictTaken(t local.ConflictTaken) {
	m.pushID = ""
	m.conflicts++
	m.reportTables(messages.CausePushReplay, t.Tables)
	if t.Settled {
		m.committed = true
		m.finish(messages.PushNeedsPull, nil)
		return
	}
	c := m.conflict.Conflict
	r := refusal{table: c.Table, key: c.Key.Value, base: t.Base, op: t.Op}
	if m.refused[r] {
		m.finish(0, m.noProgress(c.Table))
		return
	}
	if m.refused == nil {
		m.refused = make(map[refusal]bool)
	}
	m.refused[r] = true
	m.finish(messages.PushNeedsPull, nil)
}

// prove settles the outbox by the hash of what was committed, if that proves that it is row for row what was sent.
func (m *uploadMachine) prove() {
	m.report(messages.Progress{Run: m.run, Phase: messages.PhaseReplaying})
	m.expect(pushProving, messages.ReplayFrozen{Contract: m.link.Contract, Bundle: m.bundle})
}

func (m *uploadMachine) proved(r messages.FrozenReplay) {
	if r.Proved {
		m.replayed(r.Replayed)
		return
	}
	if m.inferred {
		// Rows of which the server made something else than was sent are intents again after the replay. They were pending
		// when the call was made, so they go with it.
		m.more = m.left > 0 && !m.finishes
	}
	l := m.link.Limits
	m.pageRows = within(m.limits.CommittedRows, l.DefaultRowsPerCommittedBundleChunk, defaultRows, l.MaxRowsPerCommittedBundleChunk)
	m.after = -1
	m.fetch()
}

func (m *uploadMachine) fetch() {
	m.request(pushFetching, committedRowsRequest{call: m.call(), page: wire.CommittedRowsRequest{
		Bundle: m.bundle, After: m.after, MaxRows: m.pageRows,
	}})
}

// fetched replays a bundle that is on one page from memory, and stages a larger one page by page.
func (m *uploadMachine) fetched(p wire.CommittedRowsPage) {
	m.emit(fxProgressed{})
	m.notFound = 0
	first := m.after < 0
	if first {
		m.bundle = p.Bundle
		if !p.HasMore {
			m.expect(pushReplaying, messages.Replay{
				Contract: m.link.Contract, Bundle: wire.Bundle{BundleMeta: p.Bundle, Rows: p.Rows}, Proof: m.inferred,
			})
			return
		}
	}
	if p.HasMore && p.Next <= m.after {
		m.finish(0, &wire.ProtocolError{Operation: transport.OpCommittedRows, Reason: "an empty page says that more follow"})
		return
	}
	before := m.after
	m.after, m.hasMore = p.Next, p.HasMore
	m.expect(pushStaging, messages.StageBundlePage{Bundle: m.bundle, After: before, Rows: p.Rows})
}

func (m *uploadMachine) staged() {
	if m.hasMore {
		m.report(messages.Progress{Run: m.run, Phase: messages.PhaseReplaying, Done: m.after + 1, Total: max(m.bundle.RowCount, 0)})
		m.fetch()
		return
	}
	m.expect(pushReplaying, messages.ReplayStaged{Contract: m.link.Contract, Bundle: m.bundle, Proof: m.inferred})
}

func (m *uploadMachine) replayed(r local.Replayed) {
	m.reportTables(messages.CausePushReplay, r.Tables)
	switch {
	case r.Foreign:
		m.committed = m.committedBefore
		m.finish(0, &messages.SourceRecoveryRequiredError{Operation: "push", Reason: local.ReasonSourceSequenceChanged})
	case r.RebuildRequired:
		m.finish(messages.PushNeedsRebuild, nil)
	default:
		rows := max(m.bundle.RowCount, m.outbox.RowCount)
		m.report(messages.Progress{Run: m.run, Phase: messages.PhaseReplaying, Done: rows, Total: rows})
		m.quarantine.committed(m.outbox.RowCount)
		m.outbox = local.Outbox{}
		m.withoutLease, m.without, m.pulledFor = false, nil, false
		m.state.Attachment.InitializationID = ""
		m.succeed()
	}
}
