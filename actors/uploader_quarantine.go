package actors

import (
	"net/http"
	"slices"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// This file holds the part of the upload machine that deals with changes the server refuses for good: the search for
// them, and what becomes of what is found.

const (
	// maxDoubt is how many culprits in a row may be found with nothing committed in between before it is doubted that
	// they are what is wrong: rows from elsewhere are pushed to find out, and if none of those is committed either, it is
	// the server that refuses everything. Where hardly more rows are pending than would be tried for that, nothing is
	// learnt by it.
	maxDoubt = 3
	// wholePatience is how often the server may fail to commit a bundle before the search begins.
	wholePatience = 2
)

// quarantining is what the upload machine knows of a run's refusals.
type quarantining struct {
	search isolation
	// suspects were refused by the server in this run. What they are is told at its end: some may get a second chance.
	suspects []local.SetAside
	aside    []local.SetAside // set aside for other reasons, or again; not yet told
	chance   bool             // something was committed since the first suspect was found
	second   bool             // the suspects have had their second chance
	unfit    int              // how often rows that cannot be sent were set aside: the application may go on writing such
	many     bool             // so many rows are pending that some of them should be taken
	doubt    int              // culprits since something was last committed
	doubtful []int64          // what was set aside since then
	probe    int64            // the probe under way, from 1; 0: none

	refused     *messages.PushRejectedError // the last refusal
	refusedHash string                      // request hash of what it was about
}

func (q *quarantining) tell(rows []local.SetAside) { q.aside = append(q.aside, rows...) }

func (q *quarantining) committed(rows int64) {
	if q.probe == 0 {
		q.search.committed(rows)
	}
	q.probe, q.doubt, q.doubtful = 0, 0, nil
	q.chance = q.chance || len(q.suspects) > 0
}

// patience is how often the server may fail to commit what is in the outbox. Only of what would be set aside, or hold
// uploads, must be known that it will not be taken; of a bundle that will be tried in parts it need not.
func (m *uploadMachine) patience() int {
	q := &m.quarantine
	switch {
	case !m.isolate, m.only != nil, q.search.smallest(m.outbox.RowCount) && q.probe == 0 && !q.second:
		return maxCommitFailures
	case q.search.narrowing(), q.second:
		return 1
	default:
		return wholePatience
	}
}

// proveRefusal asks the server whether the outbox that it has just refused is not committed, which is what an answer
// alone does not prove. A commit that failed on the server's side is given time.
func (m *uploadMachine) proveRefusal(r *messages.PushRejectedError, answer *wire.HTTPError) {
	m.refusedBy = r
	if answer.Status >= http.StatusInternalServerError {
		m.createLater(answer)
		return
	}
	m.create()
}

// refusalProved goes on after the server has said that the refused outbox is not committed. Its session is the next one's
// business, which voids it.
func (m *uploadMachine) refusalProved() {
	q, why := &m.quarantine, m.refusedBy
	m.refusedBy = nil
	m.emit(fxProgressed{})
	switch {
	case m.only != nil:
		m.finishRefused(why)
	case q.probe > 0:
		if q.probe++; q.probe > local.Probes {
			m.refusesEverything(why)
			return
		}
		m.tryOtherwise()
	case !q.search.refused(m.outbox.RowCount):
		m.tryOtherwise()
	default:
		m.expect(pushIsolating, messages.IsolateOutbox{Reason: local.Reason{
			Code: why.Code, Message: why.Message, Origin: local.OriginServer, Attempts: q.search.refusals,
		}})
	}
}

// tryOtherwise puts a refused bundle back, in order to push its rows in other bundles. They are still to come, so that they
// do not count as pushed; what is set aside does, or the run would go on for as long as the application writes what the
// server refuses.
func (m *uploadMachine) tryOtherwise() {
	m.left += m.outbox.RowCount
	m.expect(pushRequeueing, messages.RequeueOutbox{})
}

// finishRefused ends a run that was to find out about some intents.
func (m *uploadMachine) finishRefused(why *messages.PushRejectedError) {
	m.finishAfter(messages.PushRefused, nil, messages.RequeueOutbox{})
	m.ending.refused = why
}

// isolated goes on behind a culprit.
func (m *uploadMachine) isolated(rows []local.SetAside) {
	q := &m.quarantine
	q.search.culprit()
	q.doubt++
	for _, r := range rows {
		q.doubtful = append(q.doubtful, r.ID)
	}
	if q.second {
		q.tell(rows)
	} else {
		q.suspects = append(q.suspects, rows...)
	}
	if q.doubt%maxDoubt == 0 && q.many && !q.second {
		q.probe = 1
	}
	if m.left <= 0 && q.probe == 0 {
		m.more = false
		m.succeed()
		return
	}
	m.settleNext()
}

// refusesEverything ends the search: the server has refused whatever it was sent. What was set aside on its word goes
// back, and uploads are held.
func (m *uploadMachine) refusesEverything(why *messages.PushRejectedError) {
	q := &m.quarantine
	back := q.doubtful
	taken := func(r local.SetAside) bool { return slices.Contains(back, r.ID) }
	m.quarantine = quarantining{suspects: slices.DeleteFunc(q.suspects, taken), aside: slices.DeleteFunc(q.aside, taken)}
	m.finishAfter(0, why, messages.RequeueOutbox{}, messages.RetryQuarantined{IDs: back, Lenient: true}, messages.SetUploadBlocked{Blocked: m.blocked(why)})
}

// secondChance tries what the server has refused in this run once more, now that other things are committed: a row may
// have had to wait for another one to give up a unique value. It reports false when there is nothing to try.
func (m *uploadMachine) secondChance() bool {
	q := &m.quarantine
	if q.second || !q.chance || m.replay || m.only != nil {
		return false
	}
	again := messages.RetryQuarantined{Lenient: true}
	for _, r := range q.suspects {
		if r.Origin == local.OriginServer {
			again.IDs = append(again.IDs, r.ID)
		}
	}
	m.left += 2 * int64(len(q.suspects))
	q.search, q.suspects, q.second = isolation{}, nil, true
	m.expect(pushRetrying, again)
	return true
}

// unfit deals with a change that cannot be sent.
func (m *uploadMachine) unfit(why *messages.PushRejectedError) {
	switch {
	case m.only != nil && m.stage == pushFreezing:
		m.ending.refused = why
		m.finish(messages.PushRefused, nil)
	case m.isolate && m.only == nil && m.quarantine.unfit < maxStale:
		m.quarantine.unfit++
		m.quarantine.refused = why
		m.expect(pushSettingAside, messages.SetAsideUnfit{Contract: m.link.Contract})
	default:
		m.reject(why)
	}
}

func (m *uploadMachine) unfitSetAside(rows []local.SetAside) {
	if len(rows) == 0 {
		m.reject(m.quarantine.refused) // what could not be sent was not found among what is pending
		return
	}
	m.quarantine.tell(rows)
	m.settleNext()
}

// announce tells what was set aside for good.
func (m *uploadMachine) announce() {
	q := &m.quarantine
	if rows := append(q.aside[:len(q.aside):len(q.aside)], q.suspects...); len(rows) > 0 {
		m.report(messages.RowsQuarantined{Rows: rows})
	}
	q.aside, q.suspects = nil, nil
}
