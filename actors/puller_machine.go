package actors

import (
	"context"
	"errors"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// pullStage is what the answer that the pull machine waits for is about, or would be about after the wait.
type pullStage uint8

const (
	pullIdle         pullStage = iota
	pullLoading                // LoadState
	pullFetching               // pullRequest
	pullApplying               // ApplyBundles
	pullFetchingRows           // committedRowsRequest: a bundle too large for a page of a pull
	pullStagingRows            // StageBundlePage
	pullApplyingRows           // ApplyStaged
	pullGating                 // SetRebuildGate
	pullOpening                // createSnapshotRequest
	pullBeginning              // BeginStage
	pullPaging                 // snapshotPageRequest
	pullStaging                // StageSnapshotPage
	pullCompleting             // CompleteStage
	pullRestoring              // ApplySnapshot
	pullReserving              // ReserveAnother
	pullRotating               // RotateSource, because the snapshot collides with what cannot be pushed before it
	pullEnding                 // the last command of a run, then it ends with an error
)

// maxVoidStages is how often a snapshot session may end before its last page has been read. A download that takes
// longer than the session lives can never end: it is reported, not repeated for ever.
const maxVoidStages = 2

// pullMachine decides what becomes of what the server has: bundles are applied one after the other up to a ceiling
// that the first answer freezes, and where history does not reach back far enough, or does not fit, a snapshot takes
// their place. See SPEC.md for its transitions.
type pullMachine struct {
	flow
	limits Limits
	strict bool // pull only when nothing is pending
	stage  pullStage

	// Of the run.
	snapshot bool                // a snapshot was asked for
	err      error               // with which the run ends after its last command
	displace *local.Displacement // what is still to make room

	// Of a pull.
	from, checkpoint int64 // where it began, how far it is
	target           int64 // its ceiling; 0 before the first answer
	bundles          int64 // asked for per page
	calm             int   // answers since bundles last changed
	patience         int   // answers after which more bundles are tried
	grown            bool  // more bundles have been asked for, not yet answered
	applied          bool
	hasMore          bool

	// Of a bundle fetched by pages.
	bundle   wire.BundleMeta
	pageRows int64 // also of a snapshot's pages
	after    int64 // likewise: last ordinal of the bundle, or rows of the snapshot, that are staged

	// Of a snapshot.
	session    wire.SnapshotSession
	open       bool // the server holds the session
	voids      int
	pageBytes  int64             // bound of a page; 0: none
	afterBytes int64             // byte count of the pages that are staged
	page       wire.SnapshotPage // being staged, without its rows

	// Of a source recovery.
	reserved  bool // another id has been reserved, the server did not take the first one
	collision *local.Collision
}

func newPullMachine(limits Limits, strict bool, ref uint64) *pullMachine {
	return &pullMachine{flow: flow{ref: ref}, limits: limits, strict: strict}
}

// step implements machine.
func (m *pullMachine) step(ev event) []effect {
	m.begin()
	switch e := ev.(type) {
	case evStartPull:
		m.displace = e.Displace
		m.start(e.Run, e.Link, e.OneShot, false, e.Failures)
	case evStartSnapshot:
		m.displace = e.Displace
		m.start(e.Run, e.Link, e.OneShot, true, e.Failures)
	case evCancelRun:
		if e.run == m.run && m.stage != pullIdle {
			m.cancel()
		}
	default:
		if o, ended := m.came(ev); ended {
			m.take(o)
		}
	}
	return m.out
}

func (m *pullMachine) start(run messages.RunID, link messages.Link, oneShot, snapshot bool, failures int) {
	if m.stage != pullIdle {
		if run == m.run {
			return
		}
		m.cancel() // the session has given up the old run without saying so
	}
	m.run, m.link, m.oneShot, m.snapshot = run, link, oneShot, snapshot
	m.applied, m.hasMore, m.target, m.voids, m.err = false, false, 0, 0, nil
	m.reserved, m.collision = false, nil
	m.bundles = m.mostBundles()
	m.calm, m.patience, m.grown = 0, minPatience, false
	m.emit(fxProgressed{failures})
	m.expect(pullLoading, messages.LoadState{})
}

func (m *pullMachine) cancel() {
	m.emit(fxAbandon{})
	m.fail(context.Canceled)
}

func (m *pullMachine) expect(stage pullStage, c messages.Command) {
	m.stage = stage
	m.tell(c)
}

func (m *pullMachine) request(stage pullStage, r request) {
	m.stage = stage
	m.ask(r)
}

// take handles what came of the outstanding effect.
func (m *pullMachine) take(o outcome) {
	switch {
	case o.final:
		m.fail(o.err)
		return
	case o.err != nil:
		if a, partly := o.result.(local.Applied); partly {
			m.partlyApplied(a, o.err)
		}
		m.takeError(o.err)
		return
	}
	switch m.stage {
	case pullLoading:
		m.loaded(o.result.(local.State))
	case pullFetching:
		m.fetched(o.result.(wire.PullPage))
	case pullApplying, pullApplyingRows:
		m.bundlesApplied(o.result.(local.Applied))
	case pullFetchingRows:
		m.rowsFetched(o.result.(wire.CommittedRowsPage))
	case pullStagingRows:
		m.rowsStaged()
	case pullGating:
		m.openSnapshot()
	case pullOpening:
		m.session, m.open, m.after, m.afterBytes = o.result.(wire.SnapshotSession), true, 0, 0
		m.expect(pullBeginning, messages.BeginStage{Session: m.session})
	case pullBeginning:
		m.pageOn()
	case pullPaging:
		m.paged(o.result.(wire.SnapshotPage))
	case pullStaging:
		m.pageStaged()
	case pullCompleting:
		m.closeSnapshot()
		m.restore()
	case pullRestoring:
		m.restored(o.result.(local.Restored))
	case pullReserving:
		m.state.Operation.ReplacementSourceID = o.result.(string)
		m.openSnapshot()
	case pullRotating:
		rotated := o.result.(local.Rotation)
		m.finish(messages.PullDone{Verdict: messages.PullNeedsPush, Collision: m.collision, Rotated: &rotated})
	case pullEnding:
		m.fail(m.err)
	}
}

// takeError handles the error of the outstanding effect.
func (m *pullMachine) takeError(err error) {
	switch m.stage {
	case pullFetching:
		m.pullRefused(err)
	case pullFetchingRows:
		m.rowsRefused(err)
	case pullOpening, pullPaging:
		m.snapshotRefused(err)
	case pullRestoring:
		m.notRestored(err)
	default:
		m.fail(err)
	}
}

// loaded decides by what is durable how the run begins.
func (m *pullMachine) loaded(s local.State) {
	m.state = s
	m.from, m.checkpoint = s.Attachment.Checkpoint, s.Attachment.Checkpoint
	m.report(messages.StateChanged{State: s})
	replacing := m.snapshot && s.Operation.Kind == local.RemoteReplace
	if replacing {
		m.resumeReplace(s.Operation.Stage)
		return
	}
	if m.snapshot && s.Operation.Kind == local.SourceRecovery && s.Attachment.Binding == local.Attached && !s.ReattachRequired {
		m.replaceSource()
		return
	}
	if err := gateError(m.operation(), s); err != nil {
		m.fail(err)
		return
	}
	switch {
	case s.Attachment.InitializationID != "" && s.Outbox.State != local.OutboxCommittedRemote:
		// There is nothing to pull, and no snapshot to be had, from a scope that this source has yet to seed. To ask would
		// end in an answer that means the loss of the lease.
		m.finish(messages.PullDone{Verdict: messages.PullNeedsPush, Collision: &local.Collision{Cause: collisionLease}})
	case s.Attachment.RebuildRequired:
		m.openSnapshot()
	case m.snapshot:
		m.rebuild(local.ReasonExplicitRebuild)
	case s.Outbox.State == local.OutboxCommittedRemote:
		// Its bundle is between us and the ceiling; the uploader knows how to replay it.
		m.finish(messages.PullDone{Verdict: messages.PullNeedsPush, Collision: &local.Collision{Cause: collisionOutbox}})
	case m.strict && s.Pending.Dirty+s.Pending.Outbox > 0:
		m.fail(&messages.DirtyStateRejectedError{DirtyRows: s.Pending.Dirty + s.Pending.Outbox})
	default:
		m.fetch()
	}
}

// Causes of a PullNeedsPush for which no bundle was met.
const (
	collisionOutbox = "outbox"
	collisionLease  = "lease"
)

func (m *pullMachine) operation() string {
	if m.snapshot {
		return "rebuild"
	}
	return "pull"
}

func (m *pullMachine) mostBundles() int64 {
	return within(m.limits.PullBundles, 0, defaultBundles, m.link.Limits.MaxBundlesPerPull)
}

// fetch asks for the next page up to the ceiling.
func (m *pullMachine) fetch() {
	m.request(pullFetching, pullRequest{call: m.call(), page: wire.PullRequest{
		After: m.checkpoint, MaxBundles: m.bundles, Target: m.target,
	}})
}

func (m *pullMachine) fetched(p wire.PullPage) {
	m.emit(fxProgressed{})
	if _, _, gap := p.Gap(m.checkpoint); gap {
		// Seqs have none, so history was lost. A checkpoint of 0 is never answered history_pruned.
		m.rebuild(local.ReasonHistoryPruned)
		return
	}
	m.target, m.hasMore = p.StableSeq, p.HasMore
	if len(p.Bundles) == 0 {
		m.pulled()
		return
	}
	m.expect(pullApplying, messages.ApplyBundles{Contract: m.link.Contract, Bundles: p.Bundles, Displace: m.displace})
}

// pulled ends a pull at its ceiling.
func (m *pullMachine) pulled() {
	verdict := messages.PullAtTarget
	if m.applied {
		verdict = messages.PullIncremental
	}
	m.finish(messages.PullDone{Verdict: verdict})
}

// bundlesApplied goes on after bundles were applied, all of them or those before one that cannot be.
func (m *pullMachine) bundlesApplied(a local.Applied) {
	moved := m.advanced(a)
	switch {
	case a.Foreign:
		m.fail(&messages.SourceRecoveryRequiredError{Operation: "pull", Reason: local.ReasonSourceSequenceChanged})
	case a.RebuildRequired:
		m.openSnapshot()
	case a.Collision != nil:
		m.finish(messages.PullDone{Verdict: messages.PullNeedsPush, Collision: a.Collision})
	case a.Diverged != nil:
		m.rebuild(local.ReasonResume)
	case !moved:
		m.fail(&local.DatabaseError{
			Operation: "apply bundles", Table: "_sync_attachment_state",
			Reason: "the checkpoint did not move: somebody changed it",
		})
	case m.stage == pullApplying && !m.hasMore:
		m.pulled()
	default:
		m.askForMore()
		m.fetch()
	}
}

// displaced tells what has made room, which it has once and for all.
func (m *pullMachine) displaced(rows []local.SetAside) {
	if len(rows) > 0 {
		m.displace = nil
		m.report(messages.RowsQuarantined{Rows: rows})
	}
}

// advanced reports what bundles have changed, and whether the checkpoint moved.
func (m *pullMachine) advanced(a local.Applied) bool {
	m.reportTables(messages.CausePull, a.Tables)
	m.displaced(a.Displaced)
	moved := a.Checkpoint > m.checkpoint
	if moved {
		m.applied, m.checkpoint = true, a.Checkpoint
		m.report(messages.Progress{Run: m.run, Phase: messages.PhasePulling, Done: m.checkpoint - m.from, Total: max(m.target-m.from, 0)})
	}
	return moved
}

// partlyApplied reports what lies before a bundle that the local schema cannot hold: it is applied. Any other error
// means that nothing is.
func (m *pullMachine) partlyApplied(a local.Applied, err error) {
	var broken *wire.ProtocolError
	if errors.As(err, &broken) {
		m.advanced(a)
	}
}

// After an answer that was too large more bundles are tried again, later and later as long as that fails: a long pull of
// large bundles is not to fetch every second page in vain.
const (
	minPatience = 2
	maxPatience = 64
)

func (m *pullMachine) askForMore() {
	if m.grown {
		m.grown, m.patience = false, max(m.patience/2, minPatience)
	}
	m.calm++
	if most := m.mostBundles(); m.bundles < most && m.calm >= m.patience {
		m.bundles = min(m.bundles*2, most)
		m.calm, m.grown = 0, true
	}
}

func (m *pullMachine) askForFewer() {
	if m.grown {
		m.grown, m.patience = false, min(m.patience*2, maxPatience)
	}
	m.bundles /= 2
	m.calm = 0
}

// pullRefused decides by what became of a request for bundles.
func (m *pullMachine) pullRefused(err error) {
	var behind *wire.StableBehindError
	switch f := transport.Classify(err); {
	case errors.As(err, &behind):
		m.rebuild(local.ReasonCheckpointAhead)
	case f.Class == transport.TooLarge && m.bundles > 1:
		m.askForFewer()
		m.fetch()
	case f.Class == transport.TooLarge:
		l := m.link.Limits
		m.pageRows = within(m.limits.CommittedRows, l.DefaultRowsPerCommittedBundleChunk, defaultRows, l.MaxRowsPerCommittedBundleChunk)
		m.after = -1
		m.bundle = wire.BundleMeta{Seq: m.checkpoint + 1, RowCount: -1}
		m.fetchRows()
	case f.Class == transport.Code:
		m.refusedWith(f.Code, err)
	default:
		m.fail(runError(err))
	}
}

// refusedWith handles the codes that say something about the scope, whatever was asked of it.
func (m *pullMachine) refusedWith(code string, err error) {
	switch code {
	case "history_pruned":
		m.rebuild(local.ReasonHistoryPruned)
	case "checkpoint_ahead":
		m.rebuild(local.ReasonCheckpointAhead)
	case "scope_uninitialized", "scope_initializing":
		m.failAfter(messages.RequireReattach{}, &messages.AttachRequiredError{Operation: m.operation(), Reason: code})
	case "source_retired", "source_sequence_changed", "source_sequence_out_of_order":
		m.recover(code, err)
	default:
		m.fail(runError(err))
	}
}

// fetchRows asks for the next page of a bundle that is too large for a page of a pull.
func (m *pullMachine) fetchRows() {
	m.request(pullFetchingRows, committedRowsRequest{call: m.call(), page: wire.CommittedRowsRequest{
		Bundle: m.bundle, After: m.after, MaxRows: m.pageRows,
	}})
}

func (m *pullMachine) rowsFetched(p wire.CommittedRowsPage) {
	m.emit(fxProgressed{})
	if p.HasMore && p.Next <= m.after {
		m.fail(&wire.ProtocolError{Operation: transport.OpCommittedRows, Reason: "an empty page says that more follow"})
		return
	}
	before := m.after
	m.bundle, m.after, m.hasMore = p.Bundle, p.Next, p.HasMore
	m.expect(pullStagingRows, messages.StageBundlePage{Bundle: m.bundle, After: before, Rows: p.Rows})
}

func (m *pullMachine) rowsStaged() {
	if m.hasMore {
		m.fetchRows()
		return
	}
	m.expect(pullApplyingRows, messages.ApplyStaged{Contract: m.link.Contract, Bundle: m.bundle, Displace: m.displace})
}

func (m *pullMachine) rowsRefused(err error) {
	switch f := transport.Classify(err); {
	case f.Class == transport.TooLarge && m.pageRows > 1:
		m.pageRows /= 2
		m.fetchRows()
	case f.Class == transport.Code && f.Code == "committed_bundle_not_found":
		// The pull said that there is something after the checkpoint, and it is not the next bundle.
		m.rebuild(local.ReasonHistoryPruned)
	case f.Class == transport.Code:
		m.refusedWith(f.Code, err)
	default:
		m.fail(runError(err))
	}
}

// failAfter ends the run after a command. If that fails, so does the run, with its error.
func (m *pullMachine) failAfter(c messages.Command, err error) {
	m.err = err
	m.expect(pullEnding, c)
}

func (m *pullMachine) fail(err error) { m.finish(messages.PullDone{Err: err}) }

// finish answers the session and rests.
func (m *pullMachine) finish(d messages.PullDone) {
	m.closeSnapshot()
	d.Run = m.run
	m.report(d)
	m.stage, m.state, m.err, m.collision = pullIdle, local.State{}, nil, nil
	m.bundle, m.session = wire.BundleMeta{}, wire.SnapshotSession{}
	m.rest()
}
