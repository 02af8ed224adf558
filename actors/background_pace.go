package actors

import (
	"math"
	"time"
)

// hold is why a lane of background sync does not run at once.
type hold uint8

const (
	holdNone        hold = iota
	holdDelay            // a delay between runs
	holdRefused          // the server refuses what is pending: until it may have changed
	holdApplication      // the application has to do something
)

// pace is when a lane may run next, and why not sooner.
type pace struct {
	hold     hold
	at       time.Time // not before; zero: at once
	soonest  time.Time // holdRefused: not before even after a local commit
	failures int       // in a row
	err      error     // of the last of them; nil: it got nowhere without failing
	shared   bool      // another lane, or a caller, found the server away; nothing is known against this one
	tried    int       // failures in a row of the request for which a run of the lane made way for another
	last     bool      // made way: the others go first
}

// until has a lane wait as long as a request of it would have.
func (p *pace) until(at time.Time, failures int, err error) {
	*p = pace{hold: holdDelay, at: at, failures: failures, err: err}
}

// hush has every lane wait as long as a request that failed for a passing reason has to: that is the server's doing or the
// network's, whatever the request was for.
func (m *sessionMachine) hush(at time.Time, failures int, err error) {
	for l := range lanes {
		switch p := &m.bg.pace[l]; {
		case p.hold == holdNone:
			p.until(at, failures, err)
			p.shared = away(err)
		case p.hold == holdDelay && !p.at.After(m.now):
			p.at = at
		}
	}
}

// delay has a lane wait before its next run, longer with each failure and never less than floor.
func (m *sessionMachine) delay(l lane, err error, floor time.Duration) {
	p := &m.bg.pace[l]
	failures := p.failures + 1
	p.until(m.now.Add(m.cfg.retry.between(failures, floor, m.cfg.chance)), failures, err)
	m.announce(l)
}

// delayRefused has pushes wait for the next local commit, or for the longest delay.
func (m *sessionMachine) delayRefused(err error) {
	p := &m.bg.pace[lanePush]
	failures := p.failures + 1
	soonest := m.now.Add(m.cfg.retry.between(failures, 0, m.cfg.chance))
	at := m.now.Add(m.cfg.retry.between(math.MaxInt32, 0, m.cfg.chance))
	if at.Before(soonest) {
		at = soonest
	}
	*p = pace{hold: holdRefused, at: at, soonest: soonest, failures: failures, err: err}
	m.announce(lanePush)
}

// announce tells subscribers when a lane runs again.
func (m *sessionMachine) announce(l lane) {
	p := &m.bg.pace[l]
	m.emit(fxPublish{BackoffScheduled{Operation: laneVerbs[l].String(), Attempt: p.failures, Until: p.at, Err: p.err}})
}
