package actors

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// Bounds of what one run may repeat.
const (
	// maxDetachRounds bounds the rounds of SyncThenDetach.
	maxDetachRounds = 3
	// maxRebuilds bounds the snapshots in one run of push and pull. One is the rule; a second is needed when the push
	// after it meets another row whose change had no effect on the server.
	maxRebuilds = 3
	// maxCollisions bounds how often one run pushes because of one and the same bundle. Each time the intents in its way
	// must differ from those of the time before, so only an application that keeps writing such rows gets here.
	maxCollisions = 8
)

// action is a kind of step of a run.
type action uint8

const (
	actOpen        action = iota + 1
	actLoad               // read the state and decide by it
	actRefresh            // read the state for the answer
	actLink               // capabilities, unless they are known and the contract takes them as lasting
	actConnect            // of an Attach
	actAskForLease        // connect of a run that holds a lease it cannot use
	actGate               // set the rebuild gate
	actPush
	actPushThese // push exactly what a pull collides with
	actReplay    // settle a push that is committed already: no upload
	actPull
	actSnapshot
	actDetach
	actUninstall
	actCommand // any other command for the writer
)

// step is one step of a run: an effect and what its outcome means.
type step struct {
	action  action
	command messages.Command // actCommand only
}

// sessionRun serves a verb for one or more callers. Its plan is what is still to be done; outcomes may put further
// steps in front. While a run is current exactly one effect is outstanding.
type sessionRun struct {
	verb    Verb
	user    string // VerbAttach
	callers []uint64

	auto  bool      // begun by background sync, for a lane; callers may have joined since
	lane  lane      // auto only
	tried int       // failures in a row of what it is for, in runs before
	stuck time.Time // since when its requests fail; zero: they do not

	// Of the wait in which it was told to give way.
	until    time.Time // its end; zero: it was not waiting
	failures int
	err      error
	yields   bool // to another lane

	id          messages.RunID // 0: refused before it began
	since       time.Time      // when it began
	plan        []step
	at          step          // the step whose effect is outstanding
	outstanding sessionEffect // nil between steps only
	ref         uint64        // of the outstanding effect, where it has one

	begun     bool // has begun to freeze, to pull or to detach
	abandoned bool // nobody waits any more: ends with the outstanding effect
	ending    bool // has failed with held: reads the state and ends
	fresh     bool // nothing has happened since the state was read
	linked    bool // has asked for the capabilities

	watched bool // the stream has been open ever since it last asked for what is new

	result Result
	held   error // with which the run will end; uploads are held back by it, downloads may go on

	source     string // source id with which an Attach connects
	collision  *local.Collision
	collisions int
	colliding  bool                // nothing has been pulled since
	displace   *local.Displacement // what the pull to come is to make room for
	rebuilds   int
	recovered  bool  // has begun to replace the source
	diverged   bool  // has found that the server has replaced it by another one
	pending    int64 // of the last blocked detach
}

// is reports whether r serves what c asks for.
func (r *sessionRun) is(c evCalled) bool { return r.verb == c.Verb && r.user == c.User }

// background reports whether nobody waits for r, as nobody asked for it. It retries for ever, and gives way.
func (r *sessionRun) background() bool { return r.auto && len(r.callers) == 0 }

// drop takes a caller out and reports whether he was there.
func (r *sessionRun) drop(id uint64) bool {
	n := len(r.callers)
	r.callers = slices.DeleteFunc(r.callers, func(c uint64) bool { return c == id })
	return len(r.callers) < n
}

// next puts steps in front of what is left of the plan.
func (r *sessionRun) next(actions ...action) {
	steps := make([]step, 0, len(actions)+len(r.plan))
	for _, a := range actions {
		steps = append(steps, step{action: a})
	}
	r.plan = append(steps, r.plan...)
}

// without removes the steps of one kind from what is left of the plan.
func (r *sessionRun) without(a action) {
	r.plan = slices.DeleteFunc(r.plan, func(s step) bool { return s.action == a })
}

func (r *sessionRun) plans(a action) bool {
	return slices.ContainsFunc(r.plan, func(s step) bool { return s.action == a })
}

// planFor is what a verb does, as far as that is known before the state is read.
func (m *sessionMachine) planFor(r *sessionRun) []step {
	var r0 sessionRun
	switch r.verb {
	case VerbOpen:
		if m.life == lifeNew {
			r0.next(actOpen)
		}
	case VerbRestart:
		if m.life == lifeFailed {
			r0.next(actOpen)
		}
	case VerbAttach:
		r0.next(actLoad)
	case VerbSync:
		r0.next(actLoad, actLink, actPush, actPull, actRefresh)
	case VerbPushPending:
		r0.next(actLoad, actLink, actPush, actRefresh)
	case VerbPullToStable:
		r0.next(actLoad, actLink, actPull, actRefresh)
	case VerbRebuild:
		r0.next(actLoad, actGate, actLink, actSnapshot, actRefresh)
	case VerbDetach:
		r0.next(actLoad, actDetach, actRefresh)
	case VerbSyncThenDetach:
		r0.next(actLoad, actLink, actPush, actPull, actRefresh, actDetach)
	case VerbUninstallSync:
		r0.next(actUninstall)
	}
	return r0.plan
}

// proceed starts steps until one is outstanding or the run has ended.
func (m *sessionMachine) proceed() {
	r := m.current
	for m.current == r && r.outstanding == nil {
		if len(r.plan) == 0 {
			m.complete()
			return
		}
		s := r.plan[0]
		r.plan = r.plan[1:]
		m.begin(s)
	}
}

// complete ends a run that has nothing left to do.
func (m *sessionMachine) complete() {
	r := m.current
	if r.verb == VerbAttach && (r.held == nil && r.result.Attach != AttachRetryLater || m.boundFor(r.held)) {
		m.user, m.attachReason = r.user, ""
	}
	m.finish(r.held)
}

// boundFor reports whether an Attach that failed has bound the database, and lacks the application's Rebuild only: that has to be
// possible then, without another Attach.
func (m *sessionMachine) boundFor(err error) bool {
	a := m.state.Attachment
	return wantsRebuild(err) && a.Binding == local.Attached && a.UserID == m.current.user && !m.state.ReattachRequired
}

// begin starts a step of the current run. A step that has nothing to do leaves nothing outstanding.
func (m *sessionMachine) begin(s step) {
	r := m.current
	r.at = s
	if phase, _ := s.action.phase(); phase != "" {
		m.phase = "" // what the step before told of is over
	}
	switch s.action {
	case actOpen:
		m.issue(fxOpen{Ref: m.nextRef()})
	case actLoad:
		m.write(messages.LoadState{})
	case actRefresh:
		if r.fresh {
			m.refreshed()
			return
		}
		m.write(messages.LoadState{})
	case actLink:
		m.beginLink()
	case actConnect:
		m.issue(fxConnect{Ref: m.nextRef(), Contract: m.linkNow().Contract, SourceID: r.source, Pending: m.hasRowsToSend(), Failures: m.failuresBefore()})
	case actAskForLease:
		m.issue(fxConnect{Ref: m.nextRef(), Contract: m.linkNow().Contract, SourceID: m.state.Attachment.CurrentSourceID, Failures: m.failuresBefore()})
	case actGate:
		if !m.downloadsPaused && !m.state.Attachment.RebuildRequired {
			m.write(messages.SetRebuildGate{Reason: local.ReasonExplicitRebuild})
		}
	case actPush:
		if m.uploadsPaused {
			r.result.Sync.UploadsSkipped = !r.result.Sync.Committed
			return
		}
		r.begun = true
		// What collides with a snapshot goes before it, although that leaves the gate set until then.
		m.issue(fxPush{messages.Push{
			Run: r.id, Link: m.linkNow(), OneShot: !r.background(), Failures: m.failuresBefore(), PastGate: r.collision != nil,
			FinishOnly: r.verb == VerbPushPending && !r.background() && r.collision == nil,
		}})
	case actPushThese:
		m.issue(fxPush{messages.Push{Run: r.id, Link: m.linkNow(), OneShot: !r.background(), Failures: m.failuresBefore(), PastGate: true, Only: r.collision}})
	case actReplay:
		r.begun = true
		m.issue(fxPush{messages.Push{Run: r.id, Link: m.linkNow(), OneShot: !r.background(), Failures: m.failuresBefore(), ReplayOnly: true, PastGate: r.verb == VerbRebuild}})
	case actPull:
		if m.downloadsPaused {
			r.result.Sync.DownloadSkipped = true
			return
		}
		r.begun, r.watched = true, m.bg.stream.state == streamOpen
		m.issue(fxPull{messages.Pull{Run: r.id, Link: m.linkNow(), OneShot: !r.background(), Failures: m.failuresBefore(), Displace: r.displace}})
	case actSnapshot:
		if m.downloadsPaused && r.verb == VerbRebuild {
			r.result.Sync.DownloadSkipped = true
			return
		}
		r.begun, r.watched = true, m.bg.stream.state == streamOpen
		m.issue(fxSnapshot{messages.Snapshot{Run: r.id, Link: m.linkNow(), OneShot: !r.background(), Failures: m.failuresBefore(), Displace: r.displace}})
	case actDetach:
		r.begun = true
		m.write(messages.Detach{})
	case actUninstall:
		r.begun = true
		m.write(messages.Uninstall{})
	case actCommand:
		m.write(s.command)
	}
}

func (m *sessionMachine) nextRef() uint64 {
	m.lastRef++
	m.current.ref = m.lastRef
	return m.lastRef
}

func (m *sessionMachine) issue(e sessionEffect) {
	m.current.outstanding = e
	m.emit(e)
}

func (m *sessionMachine) write(c messages.Command) {
	m.issue(fxDo{Ref: m.nextRef(), Command: c})
}

func (m *sessionMachine) linkNow() messages.Link {
	link := messages.Link{Contract: m.state.Contract, SourceID: m.state.Attachment.CurrentSourceID}
	if m.link != nil { // else a complete stage is about to be applied, which asks the server nothing
		link.Contract, link.Limits = m.link.contract, m.link.limits
	}
	return link
}

// hasRowsToSend is has_local_pending_rows of an Attach. After the server lost the scope every row that is here will
// have to be sent.
func (m *sessionMachine) hasRowsToSend() bool {
	p := m.state.Pending
	return p.Dirty > 0 || p.Outbox > 0 || (m.state.ReattachRequired && m.state.HasLiveRows)
}

// settled takes the answer to the outstanding effect of the current run. It reports whether the run goes on with it;
// an error, or nobody waiting any more, ends the run.
func (m *sessionMachine) settled(err error) bool {
	r := m.current
	r.outstanding = nil
	m.waiting = nil
	switch {
	case r.ending: // the last read; without it the state is what it was last known to be
		if err == nil {
			return true
		}
		m.finish(r.held)
		return false
	case r.abandoned:
		m.fail(context.Canceled)
		return false
	case err != nil:
		m.fail(m.noteLoss(err))
		return false
	default:
		m.lastProgressAt = m.now
		return true
	}
}

// fail ends the current run with an error. What a push or a pull did before it failed is on disk, and why uploads are
// held back is too, so the state is read first: neither the answer nor the status may be older than the error.
func (m *sessionMachine) fail(err error) {
	r := m.current
	switch r.at.action {
	case actPush, actPushThese, actReplay, actPull, actSnapshot:
		r.held, r.ending, r.fresh, r.plan = err, true, false, nil
		r.next(actRefresh)
		m.proceed()
	default:
		m.finish(err)
	}
}

// noteLoss remembers an attachment that ended by itself, and names the call that met it.
func (m *sessionMachine) noteLoss(err error) error {
	var lost *messages.AttachRequiredError
	if !errors.As(err, &lost) {
		return err
	}
	m.user, m.attachReason = "", lost.Reason
	return &messages.AttachRequiredError{Operation: m.current.verb.String(), Reason: lost.Reason}
}

// loaded decides by the durable state how the run goes on.
func (m *sessionMachine) loaded() {
	r := m.current
	switch r.verb {
	case VerbAttach:
		m.decideAttach()
		return
	case VerbDetach:
		if m.state.Attachment.Binding != local.Attached && m.state.Operation.Kind == local.NoOperation {
			m.finish(&messages.AttachRequiredError{Operation: r.verb.String(), Reason: m.attachReason})
		}
		return
	}
	if m.state.Attachment.Binding != local.Attached || m.state.ReattachRequired {
		err := &messages.AttachRequiredError{Operation: r.verb.String(), Reason: m.attachReason}
		m.user = ""
		m.finish(err)
		return
	}
	if m.unsent() {
		m.bg.vain = 0
	}
	switch {
	case r.background() && r.lane == lanePush && !m.unsent():
		r.plan = nil // a commit that changed nothing of ours, or undid it
	case m.state.Operation.Kind == local.SourceRecovery:
		m.recoverFirst()
	case r.verb == VerbRebuild && mismatched(&m.state) && !m.downloadsPaused:
		r.recovered = true
		r.without(actGate)
		m.currentCommand(beginRecovery)
	case r.verb == VerbRebuild && m.uncertain():
		r.next(actLink, actReplay)
	}
}

// refreshed ends a round of push and pull with the state it left behind.
func (m *sessionMachine) refreshed() {
	r := m.current
	if r.verb != VerbSyncThenDetach || r.plans(actDetach) || r.ending {
		r.result.Sync.State = m.state
	}
}

// detached goes on after a detach: done, or another round as long as rounds help.
func (m *sessionMachine) detached(d local.Detached) {
	r := m.current
	r.fresh = false
	r.result.Rounds++
	r.result.Detached = !d.Blocked
	r.result.Pending = d.Pending
	if !r.plans(actRefresh) {
		r.next(actRefresh)
	}
	if !d.Blocked {
		m.user, m.attachReason, m.link = "", "", nil
		if len(d.Tables) > 0 {
			m.emit(fxPublish{TablesChanged{Tables: d.Tables, Cause: messages.CauseDetach}})
		}
		return
	}
	pending := d.Pending.Rows()
	shrunk := r.result.Rounds == 1 || pending < r.pending
	r.pending = pending
	if r.verb != VerbSyncThenDetach || r.result.Rounds == maxDetachRounds || !shrunk {
		return
	}
	// A new round is a new push: what was refused in the last one does not count against it.
	m.lastRun++
	r.id = m.lastRun
	r.result.Sync = SyncResult{}
	r.collision, r.collisions, r.displace, r.rebuilds = nil, 0, nil, 0
	r.plan = nil
	r.next(actLink, actPush, actPull, actRefresh, actDetach)
}

// needsNetwork reports whether what is left of a plan asks the server anything.
func (m *sessionMachine) needsNetwork() bool {
	r := m.current
	return r.plans(actConnect) ||
		r.plans(actPush) && !m.uploadsPaused ||
		r.plans(actPull) && !m.downloadsPaused ||
		r.plans(actSnapshot) && !(m.downloadsPaused && r.verb == VerbRebuild)
}
