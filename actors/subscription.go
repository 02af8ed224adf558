package actors

import (
	"sync"
	"sync/atomic"

	"github.com/oversqlite/oversqlite/messages"
)

// Kind names the type of an Event.
type Kind string

// The kinds of events.
const (
	KindStateChanged     Kind = "state_changed"
	KindProgress         Kind = "progress"
	KindTablesChanged    Kind = "tables_changed"
	KindBackoffScheduled Kind = "backoff_scheduled"
	KindConflictResolved Kind = "conflict_resolved"
	KindLocalRowsDropped Kind = "local_rows_dropped"
	KindSourceRotated    Kind = "source_rotated"
	KindRowQuarantined   Kind = "row_quarantined"
)

// Kind implements Event.
func (StateChanged) Kind() Kind { return KindStateChanged }

// Kind implements Event.
func (Progressed) Kind() Kind { return KindProgress }

// Kind implements Event.
func (TablesChanged) Kind() Kind { return KindTablesChanged }

// Kind implements Event.
func (BackoffScheduled) Kind() Kind { return KindBackoffScheduled }

// Kind implements Event.
func (ConflictResolved) Kind() Kind { return KindConflictResolved }

// Kind implements Event.
func (LocalRowsDropped) Kind() Kind { return KindLocalRowsDropped }

// Kind implements Event.
func (SourceRotated) Kind() Kind { return KindSourceRotated }

// Kind implements Event.
func (RowQuarantined) Kind() Kind { return KindRowQuarantined }

// final reports whether nothing more is to come of what p tells about.
func (p Progressed) final() bool { return p.Total > 0 && p.Done >= p.Total }

// progressPhases is in how many phases there is progress. For each a subscription keeps a place free, so that whoever has
// seen a phase begin sees it end.
const progressPhases = 6 // settling, pushing, replaying, pulling, staging and applying a snapshot

// Subscription delivers an engine's events to one subscriber. It never slows the engine down: what finds no room is
// dropped and counted. It needs no goroutine.
type Subscription struct {
	hub     *hub
	kinds   map[Kind]bool // nil: every kind
	size    int
	events  chan Event // with room for size events and progressPhases more
	dropped atomic.Uint64

	// Guarded by hub.mu.
	held   *Progressed // the newest progress that was not worth its place yet
	begun  map[messages.Phase]bool
	closed bool
}

// C returns the channel of events. It is closed by Close and when the engine is closed; what had been delivered before
// can still be received.
func (s *Subscription) C() <-chan Event { return s.events }

// Dropped returns how many events found no room. Progress that newer progress replaced is not counted.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. It may be called more than once and from any goroutine.
func (s *Subscription) Close() { s.hub.remove(s) }

// deliver hands an event to the subscriber. hub.mu is held.
//
// Progress may take half of the room only, so that it never crowds out news; beyond that the newest is held back until
// something newer replaces it or there is room. The last progress of a phase is news, and there is always room for it when
// the subscriber has seen other progress of that phase: cap(events)-len(events) is never less than len(begun). A phase
// begins only while less than size events wait, other news come only then, and the end of a phase takes the place that was
// kept for it, or one that is kept for nobody.
func (s *Subscription) deliver(e Event) {
	if s.kinds != nil && !s.kinds[e.Kind()] {
		return
	}
	p, progress := e.(Progressed)
	if progress && !p.final() {
		if len(s.events) >= s.size/2 {
			s.held = &p
			return
		}
		s.held = nil
		s.begin(p)
		return
	}
	if s.held != nil && (!progress || p.Phase != s.held.Phase) && len(s.events)+1 < s.size {
		s.begin(*s.held)
	}
	s.held = nil
	room := len(s.events) < s.size
	if progress {
		delete(s.begun, p.Phase)
		room = cap(s.events)-len(s.events) > len(s.begun)
	}
	if !room {
		s.dropped.Add(1)
		return
	}
	s.events <- e // only the hub sends, one event at a time: there is room
}

// begin delivers progress that is not the last of its phase.
func (s *Subscription) begin(p Progressed) {
	if s.begun == nil {
		s.begun = map[messages.Phase]bool{}
	}
	s.begun[p.Phase] = true
	s.events <- p
}

// hub holds the subscriptions of an engine.
type hub struct {
	mu     sync.Mutex
	subs   map[*Subscription]struct{}
	closed bool
}

// add makes a subscription for some kinds of events, or for all when none are named. One that is made after the engine
// was closed is closed from the start.
func (h *hub) add(size int, kinds []Kind) *Subscription {
	s := &Subscription{hub: h, size: size, events: make(chan Event, size+progressPhases)}
	if len(kinds) > 0 {
		s.kinds = make(map[Kind]bool, len(kinds))
		for _, k := range kinds {
			s.kinds[k] = true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		s.closed = true
		close(s.events)
		return s
	}
	if h.subs == nil {
		h.subs = map[*Subscription]struct{}{}
	}
	h.subs[s] = struct{}{}
	return s
}

func (h *hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.closed {
		s.closed = true
		delete(h.subs, s)
		close(s.events)
	}
}

func (h *hub) publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.deliver(e)
	}
}

// close ends every subscription.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		s.closed = true
		close(s.events)
	}
	h.subs = nil
}
