package actors

import (
	"testing"

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
