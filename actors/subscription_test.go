package actors

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/oversqlite/oversqlite/messages"
)

func drain(s *Subscription) (events []Event) {
	for {
		select {
		case e, open := <-s.C():
			if !open {
				return events
			}
			events = append(events, e)
		default:
			return events
		}
	}
}

func TestSubscriptionKinds(t *testing.T) {
	t.Parallel()
	var h hub
	all, some := h.add(8, nil), h.add(8, []Kind{KindTablesChanged})
	h.publish(StateChanged{})
	h.publish(TablesChanged{})
	if n, m := len(drain(all)), len(drain(some)); n != 2 || m != 1 {
		t.Fatal(n, m)
	}
	all.Close()
	all.Close()
	h.publish(StateChanged{})
	if _, open := <-all.C(); open {
		t.Fatal("a closed subscription delivers")
	}
	h.publish(TablesChanged{})
	h.close()
	if events := drain(some); len(events) != 1 { // what was delivered before the end can still be read
		t.Fatal(events)
	}
	if _, open := <-h.add(1, nil).C(); open {
		t.Fatal("a closed hub delivers")
	}
	some.Close()
}

// Progress never crowds out news, is never older than what came after it, and always ends at its end.
func TestProgressIsCoalesced(t *testing.T) {
	t.Parallel()
	var h hub
	s := h.add(8, nil)
	for i := range int64(1000) {
		h.publish(Progressed{Phase: messages.PhasePulling, Done: i + 1, Total: 1000})
	}
	events := drain(s)
	if len(events) > 5 || events[len(events)-1] != (Progressed{Phase: messages.PhasePulling, Done: 1000, Total: 1000}) {
		t.Fatal(events)
	}
	if s.Dropped() != 0 {
		t.Fatalf("%d dropped: what newer progress replaces is not lost", s.Dropped())
	}
	// Without a total the newest is held back until something else comes.
	for i := range int64(1000) {
		h.publish(Progressed{Phase: messages.PhasePulling, Done: i + 1})
	}
	h.publish(StateChanged{})
	events = drain(s)
	if last := events[len(events)-2]; last != (Progressed{Phase: messages.PhasePulling, Done: 1000}) {
		t.Fatal(events)
	}
	if _, ok := events[len(events)-1].(StateChanged); !ok {
		t.Fatal(events)
	}
}

func TestSlowSubscriberIsCountedAndNeverWaitedFor(t *testing.T) {
	t.Parallel()
	var h hub
	s := h.add(4, nil)
	for range 10 {
		h.publish(TablesChanged{})
	}
	if n := len(drain(s)); n != 4 || s.Dropped() != 6 {
		t.Fatal(n, s.Dropped())
	}
}

// Whatever is published, and however slowly it is received: what a subscriber has seen begin he sees end, everything comes
// in its order, and what was dropped is counted.
func TestWhoSawItBeginSeesItEnd(t *testing.T) {
	t.Parallel()
	phases := []messages.Phase{
		messages.PhaseSettling, messages.PhasePushing, messages.PhaseReplaying, messages.PhasePulling, messages.PhaseStaging, messages.PhaseApplying,
	}
	if len(phases) != progressPhases {
		t.Fatal("a phase has no place kept for it")
	}
	rapid.Check(t, func(t *rapid.T) {
		var (
			h               hub
			s               = h.add(rapid.IntRange(4, 12).Draw(t, "size"), nil)
			slow            = rapid.IntRange(0, 8).Draw(t, "slowness")
			told, got       int // news and ends
			last            int
			published, seen = map[messages.Phase]Progressed{}, map[messages.Phase]Progressed{}
			done            = map[messages.Phase]int64{}
		)
		receive := func() {
			select {
			case e := <-s.C():
				switch e := e.(type) {
				case BackoffScheduled:
					got++
					if e.Attempt <= last {
						t.Fatalf("%d comes after %d", e.Attempt, last)
					}
					last = e.Attempt
				case Progressed:
					if e.Done <= seen[e.Phase].Done {
						t.Fatalf("%v comes after %v", e, seen[e.Phase])
					}
					seen[e.Phase] = e
					if e.final() {
						got++
					}
				}
			default:
			}
		}
		for range rapid.IntRange(1, 400).Draw(t, "events") {
			switch p := rapid.SampledFrom(phases).Draw(t, "phase"); rapid.IntRange(0, 3+slow).Draw(t, "what") {
			case 0:
				receive()
			case 1:
				told++
				h.publish(BackoffScheduled{Attempt: told})
			case 2:
				done[p]++
				published[p] = Progressed{Phase: p, Done: done[p], Total: done[p]}
				told++
				h.publish(published[p])
			default:
				done[p]++
				published[p] = Progressed{Phase: p, Done: done[p], Total: done[p] + 1}
				h.publish(published[p])
			}
		}
		for range 100 {
			receive()
		}
		for p, end := range published {
			if at, began := seen[p]; began && end.final() && !at.final() {
				t.Fatalf("%s was seen at %v and ended with %v", p, at, end)
			}
		}
		if dropped := int(s.Dropped()); got+dropped != told {
			t.Fatalf("%d received, %d dropped, of %d", got, dropped, told)
		}
	})
}
