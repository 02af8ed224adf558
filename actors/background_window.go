package actors

import (
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// This file holds the part of background sync that gathers local commits, and looks at what they have left.

// window gathers local commits. While it is open the commit signal is silent; closing it is looking at the state, with
// the signal on again before.
type window struct {
	open       bool
	first, due time.Time
	signalled  bool   // by a commit, not by us
	commits    uint64 // counted when it was last put off
}

// written takes the commit signal: something was committed after the signal had been switched on.
func (m *sessionMachine) written(e evWritten) {
	b := &m.bg
	b.listening = false
	if !m.active() {
		return
	}
	if p := &b.pace[lanePush]; p.hold == holdRefused && p.soonest.Before(p.at) {
		p.at = p.soonest // it may have mended what was refused
	}
	if !b.window.open {
		b.window = window{open: true, signalled: true, first: m.now, due: m.now.Add(m.debounce()), commits: e.Commits}
	}
}

// debounce is how long to wait after a commit signal. The signal comes again while somebody else holds the database, and
// comes for tables that are not synced: the more often nothing new is found, the less there is to hurry for.
func (m *sessionMachine) debounce() time.Duration {
	b := &m.bg
	return min(b.auto.Debounce<<min(b.vain, 10), b.auto.MaxDelay)
}

// openWindow has the state looked at when due, as after a local commit.
func (m *sessionMachine) openWindow(due time.Time) {
	if !m.bg.window.open {
		m.bg.window = window{open: true, first: m.now, due: due}
	}
}

// closeWindow switches the commit signal on. What was committed before is seen by whoever reads the state after it.
func (m *sessionMachine) closeWindow() {
	if m.bg.window.signalled {
		m.bg.vain++ // until something is found
	}
	m.bg.window = window{}
	m.bg.listening = true
	m.emit(fxListen{On: true})
}

// tendWindow looks at the state when a window is due that no push has closed: Status is to be true whatever holds
// pushes up.
func (m *sessionMachine) tendWindow() {
	w := &m.bg.window
	if !m.active() {
		*w = window{}
		return
	}
	if w.open && !w.due.After(m.now) {
		m.closeWindow()
		m.look()
	}
}

// look has the state read beside whatever runs.
func (m *sessionMachine) look() {
	m.lastRef++
	m.reads = append(m.reads, sessionRead{ref: m.lastRef, look: true})
	m.emit(fxDo{Ref: m.lastRef, Command: messages.LoadState{}})
}

// looked takes the answer to a look. One that failed is repeated.
func (m *sessionMachine) looked(e messages.WriterDone) {
	if e.Err == nil {
		state := e.Result.(local.State)
		if state.Pending != m.state.Pending {
			m.bg.vain = 0
		}
		m.state, m.bg.blind = state, 0
		return
	}
	m.noteError(e.Err)
	m.bg.blind++
	m.openWindow(m.now.Add(m.cfg.retry.between(m.bg.blind, 0, m.cfg.chance)))
}

// alarmed takes an alarm. A window in which commits keep coming is put off, for so long.
func (m *sessionMachine) alarmed(e evAlarm) {
	b := &m.bg
	if e.Ref != b.alarmRef {
		return
	}
	b.alarm = time.Time{}
	w := &b.window
	if last := w.first.Add(b.auto.MaxDelay); w.open && !w.due.After(m.now) && e.Commits != w.commits && w.due.Before(last) {
		w.commits = e.Commits
		if w.due = m.now.Add(b.auto.Debounce); w.due.After(last) {
			w.due = last
		}
	}
}
