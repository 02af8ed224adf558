package actors

import (
	"errors"
	"slices"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// openDone takes the answer of opening.
func (m *sessionMachine) openDone(e evOpened) {
	r := m.current
	if r == nil || r.at.action != actOpen || r.ref != e.Ref {
		return
	}
	if !m.settled(e.Err) {
		return
	}
	m.life, m.failure = lifeOpen, nil
	m.state = e.State
	m.takeUp()
	if m.user != "" && (m.state.Attachment.Binding != local.Attached || m.state.Attachment.UserID != m.user) {
		m.user = ""
	}
	m.proceed()
}

// writerDone takes the writer's answer to a command of the session.
func (m *sessionMachine) writerDone(e messages.WriterDone) {
	if i := slices.IndexFunc(m.reads, func(r sessionRead) bool { return r.ref == e.Ref }); i >= 0 {
		read := m.reads[i]
		m.reads = slices.Delete(m.reads, i, i+1)
		if read.look {
			m.looked(e)
		} else {
			m.asideDone(read.call, e)
		}
		return
	}
	r := m.current
	if r == nil || r.ref != e.Ref || servedBy(r.outstanding) != ChildWriter {
		return
	}
	if !m.settled(e.Err) {
		return
	}
	switch r.at.action {
	case actLoad:
		m.state = e.Result.(local.State)
		r.fresh = true
		m.loaded()
	case actRefresh:
		m.state = e.Result.(local.State)
		r.fresh = true
		m.refreshed()
	case actDetach:
		m.detached(e.Result.(local.Detached))
	case actUninstall:
		m.life, m.user, m.attachReason, m.link, m.state = lifeNew, "", "", nil, local.State{}
	default:
		r.fresh = false
	}
	if m.current == r {
		m.proceed()
	}
}

// asideDone answers a call that one transaction has served. One that wrote is answered with the state that it left.
func (m *sessionMachine) asideDone(call uint64, e messages.WriterDone) {
	result := Result{}
	switch r := e.Result.(type) {
	case local.State:
		m.state = r
	case []local.SetAside:
		result.Quarantine = r
	default:
		if d, ok := r.(local.Discarded); ok && len(d.Tables) > 0 {
			m.emit(fxPublish{TablesChanged{Tables: d.Tables, Cause: messages.CauseDiscard}})
		}
		if e.Err == nil {
			m.read(call, messages.LoadState{})
			return
		}
	}
	result.State = m.state
	m.answer(call, result, e.Err)
}

// pushDone goes on after a push.
func (m *sessionMachine) pushDone(d messages.PushDone) {
	r := m.current
	if r == nil || servedBy(r.outstanding) != ChildUploader || d.Run != r.id {
		return
	}
	r.fresh = false
	if r.at.action == actPush {
		r.result.Sync.Committed = r.result.Sync.Committed || d.Committed
		r.result.Sync.UploadsSkipped = false
	}
	if r.at.action == actPushThese {
		m.thesePushed(d)
		return
	}
	if r.at.action == actReplay && r.verb == VerbRebuild {
		m.replayedFirst(d.Err)
		return
	}
	if m.recovers(d.Err) {
		return
	}
	if d.Err != nil && holdsUploads(d.Err) && (r.plans(actPull) || r.verb == VerbAttach && r.plans(actSnapshot)) && !r.abandoned {
		// The server's rows come in whatever becomes of ours.
		r.outstanding, m.waiting = nil, nil
		r.held = d.Err
		r.without(actPush)
		r.without(actDetach)
		m.proceed()
		return
	}
	if !m.settled(d.Err) {
		return
	}
	switch d.Verdict {
	case messages.PushNeedsPull:
		// The uploader bounds these rounds: each must leave an intent gone or changed.
		if m.downloadsPaused {
			r.next(actPush)
		} else {
			r.next(actPull, actPush)
		}
	case messages.PushNeedsRebuild:
		if m.downloadsPaused || r.rebuilds == maxRebuilds {
			m.fail(&messages.RebuildRequiredError{Operation: r.verb.String(), Reason: orElse(m.state.Operation.Reason, local.ReasonResume)})
			return
		}
		r.rebuilds++
		if r.colliding && len(r.collision.Intents) > 0 && r.collisions > 0 {
			// The snapshot waits for changes to be pushed, which wait for what is in the outbox, which waits for the snapshot.
			m.makeRoom(nil)
		}
		r.next(actSnapshot, actPush)
	case messages.PushLeaseUnused:
		r.next(actAskForLease, actPush)
	}
	m.proceed()
}

// uncertain reports whether a snapshot might settle a committed push that the server has lost: it cannot tell a row that
// never came from one that was deleted since. Only the push's own bundle tells, as long as there is one.
func (m *sessionMachine) uncertain() bool {
	s := &m.state
	return s.Outbox.State == local.OutboxCommittedRemote && !m.downloadsPaused && s.Operation.Reason != local.ReasonHistoryPruned
}

// replayedFirst goes on with a Rebuild that has asked for what the push in flight was committed as. It is the way out of
// a server that refuses that, or answers it wrongly, for good.
func (m *sessionMachine) replayedFirst(err error) {
	var (
		r         = m.current
		refused   *wire.HTTPError
		wrong     *wire.ProtocolError
		exhausted *messages.RetryExhaustedError
		auth      *messages.AuthError
		required  *messages.SourceRecoveryRequiredError
	)
	switch {
	case errors.As(err, &exhausted), errors.As(err, &auth): // nothing was said of it
	case errors.As(err, &required): // the snapshot replaces the source
		r.recovered = true
		r.without(actGate)
		err = nil
	case errors.As(err, &refused), errors.As(err, &wrong), holdsUploads(err):
		err = nil
	}
	if m.settled(err) {
		m.proceed()
	}
}

// holdsUploads reports whether err keeps uploads back without saying anything against downloads.
func holdsUploads(err error) bool {
	var (
		rejected  *messages.PushRejectedError
		invalid   *messages.InvalidConflictResolutionError
		exhausted *messages.PushConflictRetryExhaustedError
		value     *wire.ValueError
		sequence  *messages.SourceSequenceMismatchError
	)
	return errors.As(err, &rejected) || errors.As(err, &invalid) || errors.As(err, &exhausted) || errors.As(err, &value) || errors.As(err, &sequence)
}

// pullDone goes on after a pull or a snapshot.
func (m *sessionMachine) pullDone(d messages.PullDone) {
	r := m.current
	if r == nil || servedBy(r.outstanding) != ChildPuller || d.Run != r.id {
		return
	}
	r.fresh = false
	again := r.at.action
	m.rotated(d.Rotated)
	if m.recovers(d.Err) || !m.settled(d.Err) {
		return
	}
	if d.Verdict == messages.PullNeedsPush {
		m.collided(again, d.Collision)
		return
	}
	m.answered()
	m.checked = m.now
	if r.watched {
		m.bg.stream.vouched = false
	}
	// A run may pull more than once: it reports the most that happened.
	r.result.Sync.Downloads = max(r.result.Sync.Downloads, d.Verdict)
	if d.Restored != nil {
		r.result.Sync.Restored = d.Restored
		if n := d.Restored.DroppedLocalRows; n > 0 {
			m.emit(fxPublish{LocalRowsDropped{Rows: n}}) // nobody may be waiting for the result
		}
	}
	if d.Verdict == messages.PullSnapshot {
		r.without(actPull) // it is newer than the call: there is nothing that a pull would have to add
	}
	r.colliding = false
	if r.displace != nil {
		m.displaced()
	}
	m.proceed()
}

// collided goes on after a bundle or a snapshot that cannot be applied around local intents: push them, then again, as
// long as that helps.
func (m *sessionMachine) collided(again action, c *local.Collision) {
	r := m.current
	if again == actSnapshot && r.verb != VerbAttach {
		again = actPull // the gate is set: a pull takes the snapshot, unless another one has come first
	}
	stuck := r.collision != nil && c.BundleSeq <= r.collision.BundleSeq // the pull has come no further
	if stuck {
		r.collisions++
	} else {
		r.collisions, r.displace = 0, nil
	}
	same := stuck && slices.Equal(c.Intents, r.collision.Intents)
	r.collision, r.colliding = c, true
	switch {
	case r.held != nil && m.excludes(c) && r.collisions < maxCollisions:
		r.next(actPushThese, again)
		m.proceed()
	case r.held != nil:
		m.fail(r.held)
	case m.uploadsPaused && c.Cause == collisionLease:
		// What this source is to seed the scope with has to wait, and till then there is nothing to pull.
		r.result.Sync.DownloadSkipped = true
		m.proceed()
	case m.uploadsPaused && c.Cause == collisionOutbox && !same:
		// It is committed: settling it uploads nothing.
		r.next(actReplay, again)
		m.proceed()
	case m.uploadsPaused || r.collisions >= maxCollisions:
		m.fail(collisionError(c, m.uploadsPaused))
	case len(r.plan) > 0 && r.plan[0].action == actPush:
		// In the middle of a push, which goes on: what it has come upon since may be what helps. It bounds these rounds.
		push := r.plan[0]
		r.plan = r.plan[1:]
		if !r.plans(again) {
			r.next(again)
		}
		r.plan = append([]step{push}, r.plan...)
		m.proceed()
	case same && m.excludes(c):
		r.next(actPushThese, again)
		m.proceed()
	case same:
		m.fail(collisionError(c, false))
	default:
		r.next(actPush, again)
		m.proceed()
	}
}

// excludes reports whether a collision is one of changes with rows of the server, in a run that may push: then these
// changes alone are put to the server once more, and if it does not take them they make room. That a push got nowhere for
// conflicts tells nothing of them: what was decided may itself wait for the pull.
func (m *sessionMachine) excludes(c *local.Collision) bool {
	var rejected *messages.PushRejectedError
	held := m.current.held
	return len(c.Intents) > 0 && !m.uploadsPaused && (held == nil || errors.As(held, &rejected) || conflicting(held))
}

func conflicting(err error) bool {
	var exhausted *messages.PushConflictRetryExhaustedError
	return errors.As(err, &exhausted)
}

// thesePushed goes on after a push of exactly what is in a pull's way.
func (m *sessionMachine) thesePushed(d messages.PushDone) {
	r := m.current
	r.result.Sync.Committed = r.result.Sync.Committed || d.Committed
	if conflicting(d.Err) && !r.abandoned { // the decisions cannot be carried out while the pull has not come, nor it while they have not
		r.outstanding, m.waiting = nil, nil
		m.makeRoom(nil)
		m.proceed()
		return
	}
	if m.recovers(d.Err) || !m.settled(d.Err) {
		return
	}
	switch d.Verdict {
	case messages.PushRefused, messages.PushNoChange: // refused, or set aside before
		m.makeRoom(d.Refused)
	case messages.PushNeedsPull: // one of them is in conflict, which is decided before it is pushed again
		r.next(actPushThese)
	case messages.PushNeedsRebuild:
		m.fail(collisionError(r.collision, false))
		return
	}
	m.proceed()
}

// makeRoom has the pull to come displace what it collided with.
func (m *sessionMachine) makeRoom(why *messages.PushRejectedError) {
	r := m.current
	how := local.Displacement{Reason: local.Reason{Code: local.CodeCollision, Message: collisionError(r.collision, false).Message, Origin: local.OriginCollision}}
	if why != nil {
		how.Reason = local.Reason{Code: why.Code, Message: why.Message, Origin: local.OriginServer, Attempts: 1}
	}
	how.Intents = slices.Clone(r.collision.Intents)
	if r.displace != nil { // that was not all
		for _, k := range r.displace.Intents {
			if !slices.Contains(how.Intents, k) {
				how.Intents = append(how.Intents, k)
			}
		}
	}
	r.displace = &how
}

// displaced goes on after a pull that what was in its way has made room for. If that is what held uploads, they are free
// again, or something else is in their way: a call that pushes finds out.
func (m *sessionMachine) displaced() {
	r := m.current
	r.displace = nil
	if r.held == nil {
		return
	}
	r.held = nil
	switch r.verb {
	case VerbSync, VerbPushPending, VerbSyncThenDetach:
		r.next(actPush)
	}
}

// codePullCollision is the code of a push that would have to come first but cannot.
const codePullCollision = local.CodeCollision

func collisionError(c *local.Collision, uploadsPaused bool) *messages.PushRejectedError {
	e := &messages.PushRejectedError{Code: codePullCollision}
	if len(c.Intents) > 0 {
		e.Table = c.Intents[0].Table
	}
	e.Message = "a pulled bundle and local changes exclude each other (" + c.Cause + ")"
	if uploadsPaused {
		e.Message += " and uploads are paused"
	}
	return e
}

// connectDone goes on after the server said who is to initialize the scope.
func (m *sessionMachine) connectDone(e evConnected) {
	r := m.current
	if r == nil || r.ref != e.Ref || (r.at.action != actConnect && r.at.action != actAskForLease) {
		return
	}
	r.fresh = false
	m.heardFrom(e.Err)
	if !m.settled(e.Err) {
		return
	}
	m.checked = m.now
	if r.at.action == actConnect {
		m.attachAs(e.Response)
	} else {
		m.leaseAnswered(e.Response)
	}
	if m.current == r {
		m.proceed()
	}
}

// leaseAnswered goes on after a connect with nothing pending, in exchange for a lease that could not be used.
func (m *sessionMachine) leaseAnswered(c wire.ConnectResponse) {
	switch c.Resolution {
	case wire.InitializeEmpty, wire.RemoteAuthoritative:
		// Ours to have been empty, or initialized by another source after the lease ran out. There is nothing to keep
		// in either case: what was written in between is pushed, and what is there is pulled.
		m.currentCommand(messages.DropLease{})
	case wire.ResolutionRetry:
		// The lease ran out and another source has one.
		m.currentCommand(messages.LoseLease{})
		m.current.plan = append(m.current.plan[:1], step{action: actLoad})
		m.attachReason = "lease_lost"
	default:
		m.finish(&wire.ProtocolError{Operation: "connect", Reason: "initialize_local for a source that has nothing to initialize with"})
	}
}

// currentCommand puts a command for the writer in front of the current run's plan.
func (m *sessionMachine) currentCommand(commands ...messages.Command) {
	r := m.current
	steps := make([]step, 0, len(commands)+len(r.plan))
	for _, c := range commands {
		steps = append(steps, step{action: actCommand, command: c})
	}
	r.plan = append(steps, r.plan...)
}
