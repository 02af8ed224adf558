package actors

import (
	"errors"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// This file holds the part of the pull machine that replaces a source at its end by a fresh one. The request for the
// snapshot asks for the replacement as well, and ApplySnapshot makes it here. The id that follows is on disk before it is
// named, and repeating the request is fine, so that a run that was interrupted anywhere is simply made again.
//
// The server may have replaced the source already, by another id: the file was copied, and the other copy has been
// through this. Then this one leaves that source alone, takes a plain snapshot and goes on under its own fresh id, of
// which the server learns with the first push.

// unknownReplacement stands for the id of another copy that the server does not name.
const unknownReplacement = "unknown"

// replaceSource begins the snapshot that replaces the source.
func (m *pullMachine) replaceSource() {
	switch {
	case !local.RecoveryReason(m.state.Operation.Reason):
		m.fail(recoveryError(m.operation(), &m.state))
		return
	case m.state.Operation.ReplacementSourceID == "":
		m.fail(&local.DatabaseError{
			Operation: m.operation(), Table: "_sync_operation_state",
			Reason: "source recovery is pending and no id is reserved: somebody changed it",
		})
		return
	}
	if m.state.Operation.ReplacedBy != "" {
		m.writeAs(m.state.Operation.ReplacementSourceID)
	}
	m.openSnapshot()
}

// writeAs makes the rest of the run's requests under the source that is going to follow.
func (m *pullMachine) writeAs(source string) { m.state.Attachment.CurrentSourceID = source }

// replacement is what a snapshot session asks for beside the snapshot; nil: nothing.
func (m *pullMachine) replacement() *wire.SourceReplacement {
	op := &m.state.Operation
	if op.Kind != local.SourceRecovery || op.ReplacedBy != "" {
		return nil
	}
	return &wire.SourceReplacement{PreviousSourceID: m.state.Attachment.CurrentSourceID, NewSourceID: op.ReplacementSourceID, Reason: op.Reason}
}

// recover decides by a refusal that means the end of the source.
func (m *pullMachine) recover(code string, err error) {
	var refused *wire.HTTPError
	replacedBy := ""
	if code == local.ReasonSourceRetired && errors.As(err, &refused) {
		replacedBy = refused.ReplacedBySourceID
	}
	op := &m.state.Operation
	switch {
	case op.Kind == local.RemoteReplace:
		m.fail(runError(err)) // nothing of this source is pending: attaching again begins with another one
	case op.Kind != local.SourceRecovery:
		m.failAfter(messages.SetSourceRecovery{Reason: code, ReplacedBy: replacedBy},
			&messages.SourceRecoveryRequiredError{Operation: m.operation(), Reason: code})
	case code != local.ReasonSourceRetired || op.ReplacedBy != "":
		m.fail(runError(err))
	case replacedBy == op.ReplacementSourceID:
		// It has done what it is asked for, so the rest is an ordinary snapshot.
		op.ReplacedBy = replacedBy
		m.writeAs(replacedBy)
		m.openSnapshot()
	default:
		replacedBy = orElse(replacedBy, unknownReplacement)
		m.failAfter(messages.SetSourceRecovery{Reason: op.Reason, ReplacedBy: replacedBy},
			&messages.SourceReplacementDivergedError{Reserved: op.ReplacementSourceID, Server: replacedBy})
	}
}

// notReplaceable handles a server that does not take the id that was reserved. Another one may do, once.
func (m *pullMachine) notReplaceable(err error) {
	if m.state.Operation.Kind != local.SourceRecovery || m.reserved {
		m.fail(runError(err))
		return
	}
	m.reserved = true
	m.expect(pullReserving, messages.ReserveAnother{})
}
