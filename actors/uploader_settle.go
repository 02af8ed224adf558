package actors

import (
	"errors"
	"slices"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// This file holds the part of the upload machine that comes before a push: what is known is settled, with the
// application's resolver where it has to be asked, and what is left is frozen.

// settleNext looks for what is known to need no push, or a decision before it.
func (m *uploadMachine) settleNext() {
	m.report(messages.Progress{Run: m.run, Phase: messages.PhaseSettling})
	most := m.limits.Conflicts
	if most <= 0 {
		most = defaultConflicts
	}
	m.expect(pushSettling, messages.Settle{Max: most + len(m.without)})
}

func (m *uploadMachine) settled(s local.Settled) {
	m.reportTables(messages.CauseConflict, s.Tables)
	m.quarantine.tell(s.SetAside)
	if len(s.Conflicts) > 0 {
		m.asked = s.Conflicts
		m.conflicts += len(s.Conflicts)
		m.request(pushAskingResolver, resolveRequest{conflicts: s.Conflicts})
		return
	}
	m.freeze()
}

func (m *uploadMachine) freeze() {
	advertised := m.link.Limits
	m.expect(pushFreezing, messages.Freeze{Request: local.FreezeRequest{
		Contract: m.link.Contract,
		MaxRows:  narrower(narrower(m.limits.BundleRows, advertised.MaxRowsPerBundle), m.quarantine.search.size),
		MaxBytes: narrower(m.limits.BundleBytes, advertised.MaxBytesPerBundle),
		Without:  m.without,
		Only:     m.only,
		Probe:    m.quarantine.probe,
	}})
}

// resolved goes on settling until no conflict is left.
func (m *uploadMachine) resolved(r local.ResolutionsApplied) {
	m.reportTables(messages.CauseConflict, r.Tables)
	m.reportResolved(r)
	m.quarantine.tell(r.SetAside)
	if r.Applied > 0 {
		m.stale, m.pulledFor = 0, false
	}
	switch {
	case !r.NeedsPull:
		m.settleAgain(r.Applied > 0)
	case !m.pulledFor:
		// A row that was accepted needs another one that has not been pulled.
		m.pulledFor = true
		m.finish(messages.PushNeedsPull, nil)
	default:
		// The pull did not bring it. What stands in its way are local changes: they go first, without it.
		m.without = r.Deferred
		m.freeze()
	}
}

// reportResolved tells which conflicts are settled: not those that changed meanwhile, nor those that have to wait.
func (m *uploadMachine) reportResolved(r local.ResolutionsApplied) {
	resolutions := m.given.(fxTell).command.(messages.Resolve).Resolutions
	for i := range resolutions {
		c := &resolutions[i].Conflict
		key := local.IntentKey{Table: c.Table, KeyJSON: c.KeyJSON}
		if !slices.Contains(r.Deferred, key) && !slices.Contains(r.StaleKeys, key) {
			m.report(messages.ConflictResolved{Table: c.Table, Resolution: resolutions[i].Kind})
		}
	}
}

// settleAgain settles once more, because what was known has changed meanwhile. Rounds without progress are bounded: an
// application may write faster than a resolver answers.
func (m *uploadMachine) settleAgain(progress bool) {
	if !progress {
		m.stale++
		if m.stale > maxStale {
			m.finish(0, m.noProgress(m.lastTable()))
			return
		}
	}
	m.settleNext()
}

// lastTable names the table of a conflict that could not be settled, where one is known.
func (m *uploadMachine) lastTable() string {
	switch {
	case len(m.without) > 0:
		return m.without[0].Table
	case len(m.asked) > 0:
		return m.asked[0].Table
	default:
		return ""
	}
}

func (m *uploadMachine) noProgress(table string) error {
	return &messages.PushConflictRetryExhaustedError{Table: table, Conflicts: m.conflicts}
}

func (m *uploadMachine) froze(f local.Frozen) {
	switch {
	case f.Unsettled:
		m.settleAgain(false)
		return
	case f.Outbox.State != local.OutboxPrepared && len(m.without) > 0:
		m.finish(0, m.noProgress(m.lastTable()))
		return
	case f.Outbox.State != local.OutboxPrepared && m.only != nil:
		m.finish(messages.PushNoChange, nil) // whatever else this run has committed
		return
	case f.Outbox.State != local.OutboxPrepared:
		m.more, m.quarantine.probe = false, 0
		m.giveUpSession() // that of a bundle that was refused and is no more
		m.succeed()
		return
	case m.only != nil && f.Outbox.RequestHash == m.quarantine.refusedHash:
		// This very content was refused in this run.
		m.finishRefused(m.quarantine.refused)
		return
	}
	m.left -= f.Outbox.RowCount
	m.requeued = true // what is new has not been refused before
	m.outbox, m.more = f.Outbox, (f.More || len(m.without) > 0 || m.quarantine.probe > 0) && m.left > 0 && m.only == nil
	m.frozen = tuple{f.Outbox.SourceID, f.Outbox.SourceBundleID}
	m.sessions, m.commitFailures, m.notFound, m.high = 0, 0, 0, 0
	m.create()
}

// intentCode is the code of a local change that cannot be sent.
func intentCode(e *local.IntentError) string {
	var value *wire.ValueError
	if errors.As(e.Err, &value) {
		return value.Reason
	}
	return "unreadable_change"
}

// blockedByResolver is the code under which uploads are held for a resolver's sake.
const blockedByResolver = "invalid_conflict_resolution"
