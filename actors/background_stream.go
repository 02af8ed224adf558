package actors

import (
	"errors"
	"time"

	"github.com/oversqlite/oversqlite/messages"
)

// This file holds the part of background sync that has the watch stream kept open, and takes what it tells.

// streamState is what there is of the watch stream.
type streamState uint8

const (
	streamNone    streamState = iota
	streamOpening             // asked for
	streamOpen                // changes are told: no polls
	streamDown                // lost, or not to be had at the moment: the watcher tries again, polls go on
	streamEnding              // the watcher is being stopped
)

// stream is the watch stream. There is a watcher from fxWatch to evUnwatched.
type stream struct {
	state   streamState
	epoch   uint64
	err     error     // streamDown: why
	attempt int       // streamDown: failures in a row
	until   time.Time // streamDown: when the watcher tries again
	refused error     // why there is none to be had

	vouched bool // streamOpen: that the checkpoint is one of the server's is known from before it was open, so that a poll is due yet
}

// lossSpread scatters the pulls of clients that lose their streams in the same moment, because their server ended.
const lossSpread = 500 * time.Millisecond

// checkedFor is for how long the end of a pull vouches for the checkpoint: the stream that is asked for next to it is open by then.
const checkedFor = 5 * time.Second

// streamWanted reports whether the stream ought to be open. Whether the server offers one is known with its
// capabilities, which the first run brings. While a run asks whether a server is back that was away, nobody asks it for a stream
// besides.
func (m *sessionMachine) streamWanted() bool {
	b := &m.bg
	if b.stream.state != streamOpen && m.probed() {
		return false
	}
	return m.active() && b.auto.Watch && b.auth == nil && b.stream.refused == nil &&
		m.user != "" && !m.downloadsPaused && m.link != nil && m.link.watch
}

// tendStream asks for the stream, or for its end.
func (m *sessionMachine) tendStream() {
	s := &m.bg.stream
	if m.stopping {
		s.state = streamNone // goes with the rest
		return
	}
	switch want := m.streamWanted(); {
	case want && s.state == streamNone:
		m.watch()
	case !want && s.state != streamNone && s.state != streamEnding:
		s.state, s.err = streamEnding, nil
		m.checked = time.Time{}
		m.emit(fxUnwatch{})
	}
}

func (m *sessionMachine) watch() {
	s := &m.bg.stream
	s.epoch++
	s.state, s.err = streamOpening, nil
	if s.attempt > 0 {
		s.state = streamDown // as it was before the server was found to be away: polls have gone on
	}
	m.emit(fxWatch{messages.Watch{Epoch: s.epoch, Failures: s.attempt}})
}

// unwatched takes that the watcher is gone, and the stream with it.
func (m *sessionMachine) unwatched() {
	if m.bg.stream.state == streamEnding {
		m.bg.stream.state = streamNone
	}
}

// watching reports whether something that the watcher tells is about the stream that was asked for last.
func (m *sessionMachine) watching(epoch uint64) bool {
	s := &m.bg.stream
	return s.epoch == epoch && s.state != streamNone && s.state != streamEnding
}

// hear takes what the watcher tells. It reports false for anything else.
func (m *sessionMachine) hear(event any) bool {
	s := &m.bg.stream
	switch e := event.(type) {
	case messages.WatchOpened:
		if m.watching(e.Epoch) {
			s.state, s.err, s.attempt = streamOpen, nil, 0
			m.answered()
			m.check()
		}
	case messages.WatchHint:
		if m.watching(e.Epoch) {
			m.bg.hinted = max(m.bg.hinted, e.Seq)
			m.answered()
		}
	case messages.WatchAlive:
		if m.watching(e.Epoch) {
			m.look()
		}
	case messages.WatchLost:
		if m.watching(e.Epoch) {
			m.streamLost(e)
		}
	case messages.WatchRefused:
		if m.watching(e.Epoch) {
			m.streamRefused(e.Err)
		}
	default:
		return false
	}
	return true
}

// check asks for a pull where nothing has shown of late that the checkpoint is one of the server's. A stream tells of what
// comes after it, and of nothing if the server was put back to an older state meanwhile. What has shown it was before the
// stream, so that polls go on until one more pull has been answered.
func (m *sessionMachine) check() {
	r := m.current
	pulling := r != nil && r.auto && r.lane == lanePull
	if !pulling && m.now.Sub(m.checked) > checkedFor {
		m.bg.pull = true
	}
	m.bg.stream.vouched = true
	if r != nil {
		r.watched = false // the watcher may have opened it again since
	}
}

// streamLost goes on without the stream. What may have gone unseen is asked for once, then polls do.
func (m *sessionMachine) streamLost(e messages.WatchLost) {
	s := &m.bg.stream
	if s.state != streamDown {
		m.pullSoon()
	}
	s.state, s.err, s.attempt, s.until = streamDown, e.Err, e.Attempt, e.Until
	m.checked = time.Time{}
	m.emit(fxPublish{BackoffScheduled{Operation: "watch", Attempt: e.Attempt, Until: e.Until, Err: e.Err}})
}

// streamRefused goes on without the stream for good: until the next Start, Resume or Attach.
func (m *sessionMachine) streamRefused(err error) {
	m.bg.stream.refused = err
	var auth *messages.AuthError
	if errors.As(err, &auth) {
		m.bg.auth = err
		m.noteError(err)
		return
	}
	m.pullSoon()
}

// pullSoon polls within a moment.
func (m *sessionMachine) pullSoon() {
	soon := m.now.Add(time.Duration(float64(min(lossSpread, m.bg.auto.PollInterval)) * m.cfg.chance()))
	if m.bg.pollAt.IsZero() || soon.Before(m.bg.pollAt) {
		m.bg.pollAt = soon
	}
}

// watcherLost goes on after a panic of the watcher: it is brought back, knows nothing then, and finds what it is asked
// for now.
func (m *sessionMachine) watcherLost(err error) {
	s := &m.bg.stream
	if s.state == streamNone || s.state == streamEnding {
		return
	}
	m.pullSoon()
	m.watch()
	s.state, s.err = streamDown, err
}
