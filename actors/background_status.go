package actors

// Waker names what ends a wait.
type Waker string

// The wakers. Those that are a method's name are that method.
const (
	WakerOpen            Waker = "Open"
	WakerAttach          Waker = "Attach"
	WakerStart           Waker = "Start"
	WakerResume          Waker = "Resume"
	WakerKick            Waker = "Kick"
	WakerRebuild         Waker = "Rebuild"
	WakerRestart         Waker = "Restart"
	WakerResumeUploads   Waker = "ResumeUploads"
	WakerResumeDownloads Waker = "ResumeDownloads"
	WakerCall            Waker = "a call"
	WakerCommit          Waker = "a local commit" // over a connection of the engine's DB
	WakerStream          Waker = "the watch stream"
)

// statusBetween says what background sync waits for between two runs.
func (m *sessionMachine) statusBetween(s *Status) {
	b := &m.bg
	switch l, p := m.heldBack(); {
	case b.auth != nil:
		s.Reason = "stopped: the server refused the credentials"
		s.WokenBy = []Waker{WakerResume, WakerAttach, WakerStart}
	case m.user == "" && !m.wants(laneAttach):
		s.Reason = m.idleReason()
		s.WokenBy = []Waker{WakerAttach}
		if b.rests && b.auto.UserID != "" {
			s.Reason = "waiting for Attach: detached"
			s.WokenBy = []Waker{WakerAttach, WakerStart}
		}
	case p != nil && p.hold == holdApplication:
		s.Reason = "waiting for the application: " + p.err.Error()
		s.WokenBy = []Waker{WakerAttach, WakerStart, WakerResume, WakerKick}
		if l != laneAttach {
			s.WokenBy = append([]Waker{WakerRebuild}, s.WokenBy...)
		}
	case p != nil:
		m.statusDelayed(s, l, p)
	case b.window.open:
		s.Reason = "waiting for more local commits"
		s.WaitingUntil = b.window.due
	default:
		m.statusQuiet(s)
	}
	if m.user != "" && b.auth == nil {
		s.WokenBy = append(s.WokenBy, m.pauses()...)
	}
}

// heldBack returns the lane that has something to do and is held back, the one that waits for longest in person first;
// nil: none is.
func (m *sessionMachine) heldBack() (lane, *pace) {
	found, first := lanes, (*pace)(nil)
	for l := range lanes {
		p := &m.bg.pace[l]
		if p.hold == holdNone || !m.wants(l) {
			continue
		}
		if first == nil || p.hold == holdApplication && first.hold != holdApplication || first.hold != holdApplication && p.at.Before(first.at) {
			found, first = l, p
		}
	}
	return found, first
}

// statusDelayed tells of a lane that waits to run again.
func (m *sessionMachine) statusDelayed(s *Status, l lane, p *pace) {
	s.WaitingUntil, _ = m.wakes(l)
	s.Attempt = p.failures
	s.WokenBy = []Waker{WakerKick}
	switch {
	case p.hold == holdRefused:
		s.Reason = m.idleReason()
		if m.state.UploadBlocked == nil {
			s.Reason = "uploads held back: " + p.err.Error()
		}
		s.WokenBy = append(s.WokenBy, WakerCommit)
		if mismatched(&m.state) && !m.cfg.recover {
			s.WokenBy = append([]Waker{WakerRebuild}, s.WokenBy...)
		}
	case p.err != nil:
		s.Reason = "waiting to repeat " + laneVerbs[l].String() + ": " + p.err.Error()
	case l == laneAttach:
		s.Reason = "waiting to repeat Attach: another device is seeding the server"
	default:
		s.Reason = "waiting to repeat " + laneVerbs[l].String() + ": it got nowhere"
	}
}

// statusQuiet tells what would bring work when there is none.
func (m *sessionMachine) statusQuiet(s *Status) {
	b := &m.bg
	switch st := &b.stream; {
	case m.downloadsPaused && m.uploadsPaused:
		s.Reason = "paused"
	case m.downloadsPaused:
		s.Reason = "downloads paused: waiting for local commits"
	case st.state == streamOpen:
		s.Reason = "watching for changes"
		s.WokenBy = append(s.WokenBy, WakerStream)
	case st.state == streamDown:
		s.Reason = "polling: the watch stream is down"
		s.Attempt = st.attempt
		s.WokenBy = append(s.WokenBy, WakerKick, WakerStream)
	case st.state == streamOpening:
		s.Reason = "polling until the watch stream is open"
		s.WokenBy = append(s.WokenBy, WakerKick, WakerStream)
	case st.refused != nil:
		s.Reason = "polling: there is no watch stream"
		s.WokenBy = append(s.WokenBy, WakerKick, WakerResume) // Resume brings the stream back
	default:
		s.Reason = "polling"
		s.WokenBy = append(s.WokenBy, WakerKick)
	}
	if !m.downloadsPaused {
		s.WaitingUntil = b.pollAt
	}
	if !m.uploadsPaused {
		s.WokenBy = append(s.WokenBy, WakerCommit)
	}
}

// pauses names what ends the pauses.
func (m *sessionMachine) pauses() []Waker {
	var wakers []Waker
	if m.uploadsPaused {
		wakers = append(wakers, WakerResumeUploads)
	}
	if m.downloadsPaused {
		wakers = append(wakers, WakerResumeDownloads)
	}
	return wakers
}

// autoError is what is wrong with background sync at the moment; nil when nothing is. A poll that succeeds says nothing of
// pushes that fail.
func (m *sessionMachine) autoError() error {
	b := &m.bg
	if !b.on {
		return nil
	}
	if b.auth != nil {
		return b.auth
	}
	for l := range lanes {
		if err := b.pace[l].err; err != nil && m.wants(l) {
			return err
		}
	}
	return b.stream.err
}
