package actors

import (
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// decideAttach goes on with an Attach by the durable state.
func (m *sessionMachine) decideAttach() {
	r := m.current
	s := &m.state
	a := s.Attachment
	switch {
	case s.Operation.Kind == local.RemoteReplace && s.Operation.TargetUserID != r.user:
		m.finish(&messages.AttachLocalStateConflictError{PendingUserID: s.Operation.TargetUserID, RequestedUserID: r.user})
	case s.Operation.Kind == local.RemoteReplace:
		// Begun before: the server's decision stands, only its rows are missing.
		r.result.Attach = AttachUsedRemote
		r.next(actLink, actSnapshot, actRefresh)
	case (a.Binding == local.Attached || s.KeepIntents && a.UserID != "") && a.UserID != r.user:
		// After a lost lease what is here is still its user's, and must not end up in another account.
		m.finish(&messages.AttachBindingConflictError{AttachedUserID: a.UserID, RequestedUserID: r.user})
	case a.Binding == local.Attached && !s.ReattachRequired:
		r.result.Attach = AttachResumed
	default:
		r.source = a.CurrentSourceID
		if s.ReattachRequired {
			// A scope that the server lost is seeded by a fresh source, and a lease belongs to the source that
			// connected. The id becomes durable with the reset, before it names any push; until then it names nothing
			// but a lease that may run out.
			r.source = m.cfg.newID()
		}
		m.link = nil // an Attach that asks the server asks it anew what it can do
		r.next(actLink, actConnect)
	}
}

// attachAs goes on with an Attach as the server decided.
func (m *sessionMachine) attachAs(c wire.ConnectResponse) {
	r := m.current
	contract := m.link.contract
	switch c.Resolution {
	case wire.RemoteAuthoritative:
		r.result.Attach = AttachUsedRemote
		r.next(actRefresh, actSnapshot, actRefresh)
		if m.keepsIntents() {
			m.currentCommand(messages.AttachKeepingIntents{UserID: r.user, Contract: contract})
		} else {
			m.currentCommand(messages.BeginRemoteReplace{UserID: r.user, Contract: contract})
		}
	case wire.InitializeLocal:
		if c.InitializationID == "" {
			m.finish(&wire.ProtocolError{Operation: "connect", Reason: "initialize_local without an initialization_id"})
			return
		}
		r.result.Attach = AttachSeeded
		r.next(actRefresh)
		m.currentCommand(messages.AttachSeeding{UserID: r.user, InitializationID: c.InitializationID, Contract: contract})
		m.resetFirst()
	case wire.InitializeEmpty:
		r.result.Attach = AttachStartedEmpty
		r.next(actRefresh)
		m.currentCommand(messages.AttachEmpty{UserID: r.user, Contract: contract})
		m.resetFirst()
	case wire.ResolutionRetry:
		r.result.Attach = AttachRetryLater
		r.result.RetryAfter = time.Duration(c.RetryAfterSeconds) * time.Second
	default:
		m.finish(&wire.ProtocolError{Operation: "connect", Reason: "unknown resolution"})
	}
}

// keepsIntents reports whether the intents that are here were put back when a lease or the scope was lost, so that
// attaching must go around them. They are the user's: an Attach of another one is refused before.
func (m *sessionMachine) keepsIntents() bool { return m.state.ReattachRequired || m.state.KeepIntents }

// resetFirst puts the reset of a lost scope in front: what the server knew of this database is void.
func (m *sessionMachine) resetFirst() {
	if m.state.ReattachRequired {
		m.currentCommand(messages.ResetScope{SourceID: m.current.source})
	}
}

// beginLink asks for the server's capabilities, unless they are known or nothing is left to ask the server.
func (m *sessionMachine) beginLink() {
	r := m.current
	if (m.link == nil || m.link.fleeting && !r.linked) && m.needsCapabilities() {
		m.issue(fxCapabilities{Ref: m.nextRef(), SourceID: orElse(r.source, m.state.Attachment.CurrentSourceID), Failures: m.failuresBefore()})
		return
	}
	if m.link != nil {
		if err := m.checkPinned(m.link.contract); err != nil {
			m.finish(err)
		}
	}
}

func orElse[T ~string](s, other T) T {
	if s == "" {
		return other
	}
	return s
}

// needsCapabilities reports whether the rest of the current run asks the server anything. A remote replace whose stage
// is complete does not: it is finished without a network.
func (m *sessionMachine) needsCapabilities() bool {
	op := m.state.Operation
	if m.current.verb == VerbAttach && op.Kind == local.RemoteReplace && op.Stage.Complete && m.state.Contract != "" {
		return false
	}
	return m.needsNetwork()
}

// capabilitiesDone checks what the server says of itself against the configuration and the database.
func (m *sessionMachine) capabilitiesDone(e evCapable) {
	r := m.current
	if r == nil || r.at.action != actLink || r.ref != e.Ref {
		return
	}
	m.heardFrom(e.Err)
	if !m.settled(e.Err) {
		return
	}
	contract, err := m.checkCapabilities(&e.Capabilities)
	if err == nil {
		err = m.checkPinned(contract.Name())
	}
	if err != nil {
		m.finish(err)
		return
	}
	r.linked = true
	m.link = &serverLink{contract: contract.Name(), limits: e.Capabilities.Limits, fleeting: contract.GateEveryRun(), watch: e.Capabilities.Features["bundle_change_watch"]}
	if pinned := m.state.Contract; pinned != "" && pinned != contract.Name() && !r.plans(actConnect) {
		m.currentCommand(messages.PinContract{Contract: contract.Name()})
	}
	m.proceed()
}
