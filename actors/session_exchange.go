package actors

import (
	"errors"
	"slices"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

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
	if d.Err != nil && holdsUploads(d.Err) && r.plans(actPull) && !r.abandoned {
		// The server's rows come in whatever becomes of ours.
		r.outstanding, m.waiting = nil, nil
		r.held = d.Err
		r.without(actPush)
		r.without(actDetach)
		m.proceed()
		return
	}
	if m.recovers(d.Err) || !m.settled(d.Err) {
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
		r.next(actSnapshot, actPush)
	case messages.PushLeaseUnused:
		r.next(actAskForLease, actPush)
	}
	m.proceed()
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
	// A run may pull more than once: it reports the most that happened.
	r.result.Sync.Downloads = max(r.result.Sync.Downloads, d.Verdict)
	if d.Restored != nil {
		r.result.Sync.Restored = d.Restored
	}
	if d.Verdict == messages.PullSnapshot {
		r.without(actPull) // it is newer than the call: there is nothing that a pull would have to add
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
		r.collisions = 0
	}
	same := stuck && slices.Equal(c.Intents, r.collision.Intents)
	r.collision = c
	switch {
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
	case same:
		m.fail(collisionError(c, false))
	default:
		r.next(actPush, again)
		m.proceed()
	}
}

// codePullCollision is the code of a push that would have to come first but cannot.
const codePullCollision = "pull_collision"

func collisionError(c *local.Collision, uploadsPaused bool) error {
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
	if !m.settled(e.Err) {
		return
	}
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
