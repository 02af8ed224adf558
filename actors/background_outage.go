package actors

import (
	"time"

	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
)

// This file holds the part of background sync that has a server which is away asked by one at a time: by the run under way,
// in turns with what else is to be done, and not by the watcher besides. Nobody is appointed and nothing waits for a
// word: who asks is derived from what runs and what is wanted, after every event, as everything else is.

// patience is how long a background run that waits to repeat a request keeps others from running that there is something to do
// for. What keeps one from being served may be about its requests alone. It is not shorter, for a run that ends may have to
// send again what it has sent.
const patience = 30 * time.Second

// away reports whether an error says that the server was not there.
func away(err error) bool { return transport.Classify(err).Away() }

// failuresBefore is how often in a row the server was found to be away, or what the current run is for failed to be served. Delays
// go on from there. A caller's run is served by delays of its own.
func (m *sessionMachine) failuresBefore() int {
	if r := m.current; r.background() {
		return max(m.bg.failures, r.tried)
	}
	return 0
}

// waits takes that a request of the current run has failed and will be repeated.
func (m *sessionMachine) waits(e messages.Waiting) {
	r := m.current
	if r.stuck.IsZero() {
		r.stuck = m.now
	}
	f := transport.Classify(e.Err)
	switch {
	case f.Away():
		m.bg.failures = e.Attempt
	case f.Class == transport.Transient:
		m.answered() // it is there, and has its hands full
	}
}

// served takes that the server has answered a request of the current run.
func (m *sessionMachine) served() {
	m.current.stuck = time.Time{}
	m.answered()
}

// heardFrom takes what came of a request of the session's own.
func (m *sessionMachine) heardFrom(err error) {
	if transport.Classify(err).Sign == transport.Serving {
		m.served()
	}
}

// gotOn takes that the current run has come further.
func (m *sessionMachine) gotOn() {
	m.current.stuck, m.current.tried = time.Time{}, 0
}

// answered takes that the server is there. What was held back on another's word is not any more.
func (m *sessionMachine) answered() {
	m.bg.failures = 0
	for l := range lanes {
		if m.bg.pace[l].shared {
			m.bg.pace[l] = pace{}
		}
	}
}

// probed reports whether the server is away and there is a run that finds out when it is back: under way, or at a time.
func (m *sessionMachine) probed() bool {
	if m.bg.failures == 0 {
		return false
	}
	if m.current != nil || len(m.queue) > 0 {
		return true
	}
	for l := range lanes {
		if _, ok := m.wakes(l); ok {
			return true
		}
	}
	return false
}

// stands reports whether a lane is kept from running by a background run of another that waits.
func (m *sessionMachine) stands(l lane) bool {
	r := m.current
	return m.waiting != nil && r != nil && r.background() && !r.abandoned && r.lane != l
}

// makesWay returns when a background run that waits makes way for another lane: when there is something to do for that, and the
// run has had the time it is given.
func (m *sessionMachine) makesWay() (at time.Time, ok bool) {
	for l := range lanes {
		if wanted, due := m.wakes(l); due && m.stands(l) && (!ok || wanted.Before(at)) {
			at, ok = wanted, true
		}
	}
	if r := m.current; ok && r.tried == 0 && at.Before(r.stuck.Add(patience)) {
		at = r.stuck.Add(patience)
	}
	return at, ok
}

// madeWay paces the lanes after a run that made way for another.
func (m *sessionMachine) madeWay(r *sessionRun) {
	if away(r.err) && m.bg.stream.state != streamOpen { // whoever asks next, it is not sooner than this run would have
		m.hush(r.until, r.failures, r.err)
	}
	for l := range lanes {
		m.bg.pace[l].last = l == r.lane
	}
	p := &m.bg.pace[r.lane]
	p.until(r.until, r.failures, r.err)
	p.tried, p.last = r.failures, true
}

// gaveWay paces the lanes after a run that made way for a caller's.
func (m *sessionMachine) gaveWay(r *sessionRun) {
	m.hush(r.until, r.failures, r.err)
	if p := &m.bg.pace[r.lane]; p.at.Before(r.until) {
		p.until(r.until, r.failures, r.err)
		p.shared, p.tried = away(r.err), r.tried
	}
}
