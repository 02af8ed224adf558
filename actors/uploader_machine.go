package actors

import (
	"context"
	"errors"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// pushStage is what the answer that the upload machine waits for is about, or would be about after the wait.
type pushStage uint8

const (
	pushIdle           pushStage = iota
	pushLoading                  // LoadState
	pushSettling                 // Settle
	pushAskingResolver           // resolveRequest
	pushResolving                // Resolve
	pushFreezing                 // Freeze
	pushCreating                 // createPushRequest
	pushDoubting                 // DoubtCommit: the server does not have what it had committed
	pushRequeueing               // RequeueOutbox: what was refused before is frozen anew
	pushReading                  // OutboxRows
	pushSending                  // pushChunkRequest
	pushCommitting               // commitPushRequest
	pushDroppingLease            // DropLease: the lease was used up by the commit of this outbox
	pushMarking                  // MarkCommitted
	pushProving                  // ReplayFrozen
	pushFetching                 // committedRowsRequest
	pushStaging                  // StageBundlePage
	pushReplaying                // Replay, ReplayStaged
	pushTakingConflict           // TakeConflict
	pushSettingAside             // SetAsideUnfit
	pushIsolating                // IsolateOutbox
	pushRetrying                 // RetryQuarantined: a second chance
	pushUnblocking               // SetUploadBlocked{nil}
	pushEnding                   // the commands of ending, then the run ends
)

// Bounds of the loops of a push run. Every other loop consumes something: rows of the outbox, pages of a bundle,
// conflicts.
const (
	// maxSessions is how often a push session may be lost before the outbox has been committed.
	maxSessions = 8
	// maxCommitFailures is how often the server itself may fail to commit before that counts as a refusal.
	maxCommitFailures = 5
	// maxNotFound is how often a committed bundle may be missing: a replica that lags behind.
	maxNotFound = 5
	// maxStale is how often in a row the application may change what a resolver is being asked about.
	maxStale = 16
)

// tuple is the idempotency key of a push.
type tuple struct {
	source string
	id     int64
}

// refusal identifies an intent that the server refused: the same one refused twice in a run is no progress.
type refusal struct {
	table, key string
	base       int64
	op         wire.Op
}

// ending is how a run ends once its last commands are done.
type ending struct {
	commands []messages.Command
	verdict  messages.PushVerdict
	refused  *messages.PushRejectedError
	err      error
}

// uploadMachine decides what becomes of the pending local changes. See SPEC.md for its transitions.
//
// What it knows across runs is only what this process has done, never what is durable: that it reads at the start of
// each run.
type uploadMachine struct {
	flow
	limits  Limits
	isolate bool // set refused changes aside instead of holding uploads
	stage   pushStage

	// Of the process.
	frozen tuple // the push that this process froze last
	sent   tuple // the push whose commit this process sent last

	// Of the run, kept while a run is continued under its number.
	lastRun   messages.RunID
	pastGate  bool // a set rebuild gate is no obstacle
	finishes  bool // a push that is found unfinished is the last
	replay    bool // settle what is committed, upload nothing
	committed bool
	// committedBefore is committed without the outbox, should that turn out not to be what the server committed.
	committedBefore bool
	refused         map[refusal]bool // looked up, never iterated
	conflicts       int
	stale           int  // rounds of settling in a row without progress
	pulledFor       bool // a pull was asked for because of rows that cannot be laid down yet
	requeued        bool // the outbox was frozen in this run
	doubted         bool // it was asked whether the outbox was committed after all
	only            []local.IntentKey
	quarantine      quarantining

	// Of the attempt.
	begun  tuple // the push that the server did not have when it was asked
	outbox local.Outbox
	more   bool // there may be more to freeze after this bundle
	// left is how many rows the run may still freeze. Rows go in the order in which they were written, so that all that
	// were pending at the start are among twice as many; without a bound an application that writes as fast as bundles
	// go out would keep the run, and the pull after it, from ever ending.
	left  int64
	asked []local.Conflict
	// without are rows whose accepted image cannot be laid down although a pull was made: what they collide with is
	// pushed first.
	without []local.IntentKey
	ending  ending

	// Of the push session.
	pushID         string
	withoutLease   bool
	next           int64 // ordinal of the next row to be uploaded
	high           int64 // highest such ordinal of this outbox: beyond it is progress
	sessions       int   // lost ones, since the last progress
	commitFailures int
	conflict       *wire.HTTPError
	refusedBy      *messages.PushRejectedError // why the outbox was refused; create is to prove it

	// Of the replay.
	bundle   wire.BundleMeta
	inferred bool // this database has not seen the commit answered
	pageRows int64
	after    int64
	hasMore  bool
	notFound int
}

func newUploadMachine(limits Limits, isolate bool, ref uint64) *uploadMachine {
	return &uploadMachine{flow: flow{ref: ref}, limits: limits, isolate: isolate}
}

// step implements machine.
func (m *uploadMachine) step(ev event) []effect {
	m.begin()
	switch e := ev.(type) {
	case evStartPush:
		m.start(e.Push)
	case evCancelRun:
		if e.run == m.run && m.stage != pushIdle {
			m.emit(fxAbandon{})
			m.finish(0, context.Canceled)
		}
	default:
		if o, ended := m.came(ev); ended {
			m.take(o)
		}
	}
	return m.out
}

func (m *uploadMachine) start(p messages.Push) {
	if m.stage != pushIdle {
		if p.Run == m.run {
			return
		}
		// The session has given up the old run without saying so.
		m.emit(fxAbandon{})
		m.finish(0, context.Canceled)
	}
	if p.Run != m.lastRun {
		m.committed, m.committedBefore, m.refused, m.conflicts = false, false, nil, 0
		m.stale, m.pulledFor, m.requeued, m.doubted = 0, false, false, false
		m.announce()
		m.quarantine = quarantining{}
		m.emit(fxProgressed{p.Failures})
	}
	m.run, m.lastRun, m.oneShot, m.link = p.Run, p.Run, p.OneShot, p.Link
	m.pastGate, m.finishes, m.replay = p.PastGate, p.FinishOnly, p.ReplayOnly
	m.only = nil
	if p.Only != nil {
		m.only, m.requeued = p.Only.Intents, false
	}
	m.sessions, m.commitFailures, m.notFound, m.high = 0, 0, 0, 0
	m.pushID, m.withoutLease, m.more, m.without, m.refusedBy, m.begun = "", false, false, nil, nil, tuple{}
	m.expect(pushLoading, messages.LoadState{})
}

// expect gives the writer a command whose answer belongs to a stage.
func (m *uploadMachine) expect(stage pushStage, c messages.Command) {
	m.stage = stage
	m.tell(c)
}

// request gives the worker a request whose answer belongs to a stage.
func (m *uploadMachine) request(stage pushStage, r request) {
	m.stage = stage
	m.ask(r)
}

// take handles what came of the outstanding effect.
func (m *uploadMachine) take(o outcome) {
	if o.final {
		m.finish(0, o.err)
		return
	}
	if o.err != nil {
		m.takeError(o.err)
		return
	}
	switch m.stage {
	case pushLoading:
		m.loaded(o.result.(local.State))
	case pushSettling:
		m.settled(o.result.(local.Settled))
	case pushAskingResolver:
		m.expect(pushResolving, messages.Resolve{Resolutions: o.result.([]local.Resolution)})
	case pushResolving:
		m.resolved(o.result.(local.ResolutionsApplied))
	case pushFreezing:
		m.froze(o.result.(local.Frozen))
	case pushCreating:
		m.created(o.result.(wire.CreatePushResponse))
	case pushDoubting:
		m.outbox.State = local.OutboxPrepared
		m.create()
	case pushRequeueing:
		m.prepare()
	case pushReading:
		m.read(o.result.([]wire.PushRow))
	case pushSending:
		m.chunkSent()
	case pushCommitting:
		m.inferred = false
		m.markCommitted(o.result.(wire.BundleMeta))
	case pushDroppingLease:
		m.markCommitted(m.bundle)
	case pushMarking:
		m.marked(o.result.(bool))
	case pushProving:
		m.proved(o.result.(messages.FrozenReplay))
	case pushFetching:
		m.fetched(o.result.(wire.CommittedRowsPage))
	case pushStaging:
		m.staged()
	case pushReplaying:
		m.replayed(o.result.(local.Replayed))
	case pushTakingConflict:
		m.conflictTaken(o.result.(local.ConflictTaken))
	case pushSettingAside:
		m.unfitSetAside(o.result.([]local.SetAside))
	case pushIsolating:
		m.isolated(o.result.([]local.SetAside))
	case pushRetrying:
		m.settleNext()
	case pushUnblocking:
		m.goOn()
	case pushEnding:
		m.end()
	}
}

// takeError handles the error of the outstanding effect.
func (m *uploadMachine) takeError(err error) {
	var (
		intent  *local.IntentError
		refused *local.InvalidResolutionError
		invalid *messages.InvalidConflictResolutionError
	)
	switch m.stage {
	case pushSettling, pushFreezing:
		if errors.As(err, &intent) {
			m.unfit(&messages.PushRejectedError{Code: intentCode(intent), Table: intent.Table, Err: err})
			return
		}
	case pushAskingResolver, pushResolving:
		if errors.As(err, &refused) {
			invalid = &messages.InvalidConflictResolutionError{Table: refused.Table, Reason: refused.Reason, Err: err}
		}
		if invalid != nil || errors.As(err, &invalid) {
			m.block(&local.Blocked{Code: blockedByResolver, Message: invalid.Reason, Table: invalid.Table}, invalid)
			return
		}
	case pushCreating, pushSending, pushCommitting, pushFetching:
		m.refusal(err)
		return
	case pushTakingConflict:
		var unknown *wire.ProtocolError
		if errors.As(err, &unknown) {
			// A conflict about a row that was not pushed cannot be resolved; it is a refusal like any other.
			m.rejectAnswer(m.conflict)
			return
		}
	}
	m.finish(0, err)
}

// loaded decides by what is durable how the run begins.
func (m *uploadMachine) loaded(s local.State) {
	m.state, m.outbox = s, s.Outbox
	m.report(messages.StateChanged{State: s})
	if err := gateError("push", s); err != nil {
		m.finish(0, err)
		return
	}
	if s.Attachment.RebuildRequired && !m.pastGate {
		m.finish(messages.PushNeedsRebuild, nil)
		return
	}
	if m.replay && s.Outbox.State != local.OutboxCommittedRemote {
		m.finish(messages.PushNoChange, nil)
		return
	}
	m.finishes = m.finishes && s.Outbox.State != local.OutboxNone
	m.left = 2 * (s.Pending.Dirty + s.Outbox.RowCount)
	m.quarantine.many = m.quarantine.many || s.Pending.Dirty+s.Pending.Outbox > maxDoubt+local.Probes
	switch s.Outbox.State {
	case local.OutboxPrepared:
		// What was written while this outbox was in flight follows in the same run, unless that was not asked for.
		m.more = s.Pending.Dirty > 0 && !m.finishes
		m.create()
	case local.OutboxCommittedRemote:
		// Whether the commit was answered or only inferred is not on disk: take it for inferred.
		m.more, m.inferred = s.Pending.Dirty > 0 && !m.finishes, !m.contract().NamesRequest()
		m.committedBefore, m.committed = m.committed, true
		m.bundle = wire.BundleMeta{
			Seq: s.Outbox.RemoteSeq, SourceID: s.Outbox.SourceID, SourceBundleID: s.Outbox.SourceBundleID,
			RowCount: -1, Hash: s.Outbox.RemoteHash, RequestHash: s.Outbox.RequestHash,
		}
		m.prove()
	default:
		m.prepare()
	}
}

// prepare freezes what was asked for. What is to go alone has been settled as far as it can be: Freeze says so if not.
func (m *uploadMachine) prepare() {
	if m.only != nil {
		m.freeze()
		return
	}
	m.settleNext()
}

// gateError returns the error of a run that the durable state stands in the way of; nil: it does not.
func gateError(operation string, s local.State) error {
	switch {
	case s.ReattachRequired:
		return &messages.AttachRequiredError{Operation: operation, Reason: "scope_uninitialized"}
	case s.Operation.Kind == local.SourceRecovery:
		return recoveryError(operation, &s)
	case s.Attachment.Binding != local.Attached && s.KeepIntents:
		return &messages.AttachRequiredError{Operation: operation, Reason: "lease_lost"}
	case s.Attachment.Binding != local.Attached, s.Operation.Kind == local.RemoteReplace:
		return &messages.AttachRequiredError{Operation: operation}
	default:
		return nil
	}
}

// recoveryError returns the error of a call that a pending source recovery stands in the way of.
func recoveryError(operation string, s *local.State) error {
	if !local.RecoveryReason(s.Operation.Reason) {
		return &local.DatabaseError{
			Operation: operation, Table: "_sync_operation_state",
			Reason: "source recovery is pending for a reason that is none: somebody changed it",
		}
	}
	return &messages.SourceRecoveryRequiredError{Operation: operation, Reason: s.Operation.Reason}
}

// succeed ends an attempt after which nothing of it is pending: what held uploads before holds them no more.
func (m *uploadMachine) succeed() {
	if m.state.UploadBlocked != nil && m.only == nil {
		m.state.UploadBlocked = nil
		m.expect(pushUnblocking, messages.SetUploadBlocked{})
		return
	}
	m.goOn()
}

// goOn pushes what is left, or ends the run.
func (m *uploadMachine) goOn() {
	switch {
	case m.more && !m.replay:
		m.settleNext()
	case m.secondChance():
	case m.committed:
		m.finish(messages.PushCommitted, nil)
	case m.state.Attachment.InitializationID != "":
		m.finish(messages.PushLeaseUnused, nil)
	default:
		m.finish(messages.PushNoChange, nil)
	}
}

// finishAfter ends the run after some commands. One that fails decides how the run ends.
func (m *uploadMachine) finishAfter(verdict messages.PushVerdict, err error, commands ...messages.Command) {
	m.giveUpSession()
	m.ending = ending{commands: commands, verdict: verdict, err: err}
	m.end()
}

func (m *uploadMachine) end() {
	if len(m.ending.commands) == 0 {
		m.finish(m.ending.verdict, m.ending.err)
		return
	}
	c := m.ending.commands[0]
	m.ending.commands = m.ending.commands[1:]
	m.expect(pushEnding, c)
}

// finish answers the session and rests.
func (m *uploadMachine) finish(verdict messages.PushVerdict, err error) {
	if err != nil {
		m.giveUpSession()
	}
	if err != nil || verdict != messages.PushNeedsPull && verdict != messages.PushNeedsRebuild {
		m.announce()
	}
	m.report(messages.PushDone{Run: m.run, Verdict: verdict, Committed: m.committed, Refused: m.ending.refused, Err: err})
	m.stage, m.pushID = pushIdle, ""
	m.state, m.outbox, m.bundle = local.State{}, local.Outbox{}, wire.BundleMeta{}
	m.asked, m.without, m.ending, m.conflict, m.refusedBy, m.only = nil, nil, ending{}, nil, nil, nil
	m.rest()
}

// giveUpSession has the server forget a session that will not be committed, unless its commit may be on its way.
func (m *uploadMachine) giveUpSession() {
	if m.pushID != "" && m.stage != pushCommitting {
		m.emit(fxDiscard{deletePushRequest{call: m.call(), pushID: m.pushID}})
	}
	m.pushID = ""
}
