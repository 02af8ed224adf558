package actors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// checkAuto checks what must hold of background sync in every reachable state: whatever it wants has somebody who will see
// to it. That is the alarm, an effect of the run under way, the watcher, or a person, whom the status names then.
func (w *sessionWalk) checkAuto(t *testing.T) {
	t.Helper()
	m, b := w.machine, &w.machine.bg
	s := m.status()
	if !m.active() {
		switch {
		case !b.alarm.IsZero():
			w.fail(t, "an alarm is set for nobody")
		case w.signal:
			w.fail(t, "commits are signalled to nobody")
		case w.watcher != streamNone && w.watcher != streamEnding && !m.stopping:
			w.fail(t, "a watcher watches for nobody")
		}
		return
	}
	if !b.alarm.IsZero() && !b.alarm.After(m.now) {
		w.fail(t, "the alarm is set for what is due")
	}
	if !w.signal && !b.window.open {
		w.fail(t, "commits are neither signalled nor looked for")
	}
	if b.window.open && !armed(b.alarm, b.window.due) {
		w.fail(t, "a window is open and nothing closes it")
	}
	if watched := w.watcher == streamOpening; watched != m.streamWanted() && w.watcher != streamEnding {
		w.fail(t, "the watcher is there %t, and wanted %t", watched, m.streamWanted())
	}
	w.checkProbe(t)
	if m.current != nil || len(m.queue) > 0 {
		return // somebody answers the effect outstanding: see check
	}
	polls := m.user != "" && (b.stream.state != streamOpen || b.stream.vouched)
	if polls && b.auth == nil && !armed(b.alarm, b.pollAt) {
		w.fail(t, "there is neither a stream nor a poll")
	}
	busy := b.window.open || polls
	for l := range lanes {
		w.checkLane(t, l, &s)
		if _, ok := m.wakes(l); ok {
			busy = true
		}
	}
	if !busy && !b.alarm.IsZero() {
		w.fail(t, "an alarm is set, and there is nothing to do: %+v", s)
	}
	if s.Phase == messages.PhaseIdle && !s.WaitingUntil.IsZero() && !s.WaitingUntil.After(m.now) {
		w.fail(t, "the status promises what is past: %+v", s)
	}
	if len(s.WokenBy) == 0 && s.WaitingUntil.IsZero() {
		w.fail(t, "the status does not say what would wake it: %+v", s)
	}
	if !s.WaitingUntil.IsZero() && !armed(b.alarm, s.WaitingUntil) && b.auth == nil {
		w.fail(t, "the status promises what no alarm brings: %+v", s)
	}
}

// checkProbe checks what must hold while the server is away and one asks for all: that there is one. It is a run, whose effect
// somebody answers, or an alarm brings one. And a run that only waits keeps no other lane from running for long.
func (w *sessionWalk) checkProbe(t *testing.T) {
	t.Helper()
	m, b := w.machine, &w.machine.bg
	asking := m.current != nil || len(m.queue) > 0
	for l := range lanes {
		asking = asking || b.pace[l].hold != holdApplication && b.auth == nil && m.wants(l) && !b.alarm.IsZero()
	}
	stream := b.auto.Watch && b.auth == nil && b.stream.refused == nil && m.user != "" && !m.downloadsPaused && m.link != nil && m.link.watch
	if stream && w.watcher == streamNone && !asking {
		w.fail(t, "the stream waits for somebody who asks whether the server is back, and nobody does")
	}
	r := m.current
	if r == nil || m.waiting == nil || !r.background() || r.abandoned {
		return
	}
	for l := range lanes {
		if l == r.lane || !m.wants(l) || b.auth != nil || b.pace[l].hold == holdApplication {
			continue
		}
		latest := r.stuck.Add(patience)
		if b.pace[l].at.After(latest) {
			latest = b.pace[l].at
		}
		if l == lanePush && b.window.due.After(latest) {
			latest = b.window.due
		}
		if !armed(b.alarm, latest) {
			w.fail(t, "%s waits for %s, which waits, and nothing ends that", laneVerbs[l], laneVerbs[r.lane])
		}
	}
}

// checkLane checks that what is wanted of a lane is not forgotten. What is wanted is worked out anew here, from what the
// database holds and what was told.
func (w *sessionWalk) checkLane(t *testing.T, l lane, s *Status) {
	t.Helper()
	m, b := w.machine, &w.machine.bg
	p := m.state.Pending
	var wanted, paused bool
	switch l {
	case laneAttach:
		wanted = m.user == "" && b.auto.UserID != "" && !b.rests
	case lanePush:
		wanted, paused = m.user != "" && (p.Dirty+p.Outbox > 0 || p.Lease), m.uploadsPaused
	default:
		wanted, paused = m.user != "" && (w.unpulled || m.state.Attachment.RebuildRequired || m.state.Operation.Kind == local.SourceRecovery), m.downloadsPaused
	}
	named := func(who Waker) bool { return slices.Contains(s.WokenBy, who) }
	switch {
	case !wanted:
	case b.auth != nil && named(WakerResume) && named(WakerAttach):
	case paused && (l == lanePush && named(WakerResumeUploads) || l == lanePull && named(WakerResumeDownloads)):
	case b.pace[l].hold == holdApplication && named(WakerKick) && (l == laneAttach || named(WakerRebuild)):
	case armed(b.alarm, b.pace[l].at), l == lanePush && b.window.open && armed(b.alarm, b.window.due):
	default:
		w.fail(t, "%s is wanted, and nobody sees to it: %+v", laneVerbs[l], *s)
	}
}

// armed reports whether an alarm comes no later than a moment that is to come.
func armed(alarm, at time.Time) bool { return !alarm.IsZero() && !at.IsZero() && !alarm.After(at) }

// autoChoices are the lines that can come next because of background sync.
func (w *sessionWalk) autoChoices() []string {
	m, b := w.machine, &w.machine.bg
	var lines []string
	if w.signal {
		lines = append(lines, "written")
	}
	if !b.alarm.IsZero() {
		lines = append(lines, "alarm")
	}
	if b.stream.state == streamOpening || b.stream.state == streamDown {
		lines = append(lines, "opened", "lost", "refused forbidden")
	}
	if b.stream.state == streamOpen {
		lines = append(lines, "hint 7", "alive", "lost", "watcher-panic")
	}
	if w.watcher == streamEnding {
		lines = append(lines, "unwatched")
	}
	if r := m.current; r != nil && r.outstanding != nil {
		switch r.outstanding.(type) {
		case fxPush, fxPull, fxConnect:
			if m.waiting == nil && r.background() && w.waits != 0 {
				lines = append(lines, "waiting", "waiting busy")
			} else if m.waiting != nil {
				lines = append(lines, "resumed")
			}
			if b.failures > 0 {
				lines = append(lines, "answered")
			}
		}
	}
	return lines
}

// TestEveryBackgroundStateHasAWaker walks through every state that the session machine can reach with background sync on. With
// the stream there are too many in which both an outage and something out of the ordinary come: TestBackgroundWalks looks
// for those.
func TestEveryBackgroundStateHasAWaker(t *testing.T) {
	t.Parallel()
	for _, life := range []struct {
		auto             string
		surprises, waits int
	}{{"", 1, -1}, {"ann", 1, -1}, {"ann watch", 1, 0}, {"ann watch", 0, 2}} {
		t.Run(strings.ReplaceAll(fmt.Sprint("auto ", life.auto, " ", life.surprises), " ", "_"), func(t *testing.T) {
			t.Parallel()
			if testing.Short() || race.Enabled {
				life.surprises = 0
			}
			explore(t, newBackgroundWalk(t, life.auto, life.surprises, life.waits), 500_000, (*sessionWalk).backgroundChoices)
		})
	}
}

func newBackgroundWalk(t *testing.T, auto string, surprises, waits int) *sessionWalk {
	t.Helper()
	w := newSessionWalk(false)
	w.take(t, "call 1 Open")
	w.take(t, "state user=ann")
	w.take(t, "call 2 Start "+auto)
	w.calls, w.surprises, w.waits = 2, surprises, waits
	return w
}

// TestBackgroundWalks walks at random through whatever can come.
func TestBackgroundWalks(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	walks := 3000
	if testing.Short() || race.Enabled {
		walks = 300
	}
	for range walks {
		w := newBackgroundWalk(t, []string{"ann", "ann watch", "ann watch", "watch"}[random.IntN(4)], random.IntN(6), -1)
		for range 100 {
			lines := w.backgroundChoices()
			if len(lines) == 0 || w.ended {
				break
			}
			w.take(t, lines[random.IntN(len(lines))])
		}
	}
}

// backgroundChoices are what can come next, with only so many things in a life that are out of the ordinary, so that all
// states can be visited.
func (w *sessionWalk) backgroundChoices() []string {
	if len(w.looks) > 0 { // what comes before its answer is taken as what comes after
		lines := []string{"looked user=ann", "looked user=ann dirty=1"}
		if w.surprises > 0 {
			lines = append(lines, "looked error")
		}
		return lines
	}
	lines := w.autoChoices()
	m := w.machine
	if r := m.current; r != nil {
		lines = append(lines, w.outcomes(r)...)
	}
	if w.stopOut {
		lines = append(lines, "stopped")
	}
	if w.surprises <= 0 {
		return slices.DeleteFunc(lines, surprising)
	}
	w.calls++
	call := func(verbs ...string) {
		for _, v := range verbs {
			lines = append(lines, fmt.Sprint("call ", w.calls, " ", v))
		}
	}
	switch r := m.current; {
	case r == nil && m.life == lifeFailed:
		call("Restart")
	case r == nil:
		call("Attach ann", "Detach", "Rebuild", "Sync", "Resume")
	case r.background():
		call("Sync", laneVerbs[r.lane].String()+" "+r.user)
	case len(r.callers) > 0:
		lines = append(lines, fmt.Sprint("leave ", r.callers[0]))
	}
	if m.life == lifeOpen {
		lines = append(lines, "crash", "kick")
		for _, p := range []struct {
			what string
			on   bool
		}{{"uploads", m.uploadsPaused}, {"downloads", m.downloadsPaused}} {
			if p.on {
				lines = append(lines, "resume "+p.what)
			} else {
				lines = append(lines, "pause "+p.what)
			}
		}
	}
	if m.bg.on {
		call("Stop")
	}
	return lines
}

// surprising reports whether a line is one of those that backgroundChoices counts.
func surprising(line string) bool {
	for _, s := range []string{
		"call ", "leave ", "crash", "waiting busy", "kick", "pause ", "resume ", "looked error", "watcher-panic",
		"state user=ann gate", "state user=ann recovery", "error lost", "error auth", "error retired", "error rejected",
	} {
		if strings.HasPrefix(line, s) || line == "state" {
			return true
		}
	}
	return false
}

// outcomes are the ends of the effect outstanding, one of each kind.
func (w *sessionWalk) outcomes(r *sessionRun) []string {
	if r.abandoned {
		return []string{"error canceled", success(r)}
	}
	switch e := r.outstanding.(type) {
	case fxDo:
		switch e.Command.(type) {
		case messages.LoadState:
			return []string{"state user=ann", "state user=ann dirty=1", "state user=ann gate", "state user=ann recovery=source_retired", "state", "error down"}
		case messages.Detach:
			return []string{"detached", "blocked 1"}
		default:
			return []string{"ok", "error down"}
		}
	case fxCapabilities:
		return []string{"capable", "capable watch", "error down", "error auth"}
	case fxConnect:
		return []string{"connect initialize_empty", "connect retry_later", "error down"}
	case fxPush:
		return []string{"pushed nochange", "pushed committed", "error rejected", "error lost", "error auth", "error down", "error retired"}
	case fxPull, fxSnapshot:
		return []string{"pulled at-target", "pulled incremental", "error lost", "error auth", "error down", "error retired"}
	default:
		return []string{"state user=ann", "error down"}
	}
}

// autoSignature tells states apart as far as decisions of background sync go.
func (w *sessionWalk) autoSignature() string {
	m, b := w.machine, &w.machine.bg
	if !b.on && len(b.stoppers) == 0 && w.watcher == streamNone {
		return ""
	}
	s := fmt.Sprint(w.surprises, w.waits, b.on, b.rests, b.auth != nil, b.window.open, b.pull, b.hinted > m.state.Attachment.Checkpoint, b.stream.state, b.stream.refused != nil,
		len(b.stoppers) > 0, !b.alarm.IsZero(), m.waiting != nil, w.signal, w.watcher, min(len(w.looks), 1), w.unpulled, w.pulling,
		m.unsent(), m.unsettled(), m.link != nil && m.link.watch, b.failures > 0, b.pace[lanePush].last, b.pace[lanePull].last)
	for l := range lanes {
		s += fmt.Sprint(b.pace[l].hold, b.pace[l].at.After(m.now), b.pace[l].err != nil, b.pace[l].shared)
	}
	if r := m.current; r != nil {
		s += fmt.Sprint(r.auto, len(r.callers), r.until.IsZero(), r.result.Detached, r.result.Sync.Committed, r.tried > 0, r.yields)
	}
	return s
}
