package actors

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// Streams pass the gate as requests do, and one that is cut tells it so.
func TestStreamsPassTheGate(t *testing.T) {
	t.Parallel()
	c := newCrowd(outageStreak+1, 20)
	opened := 0
	server := &fakeServer{watch: func(context.Context, string, int64) (*transport.Stream, error) {
		opened++
		return nil, &wire.HTTPError{Operation: transport.OpWatch, Status: 503, RetryAfter: time.Minute}
	}}
	follow := func(m *member) (time.Time, error) {
		w := &streamWorker{network: &network{client: server, visitor: m.visitor, log: noLog}}
		return w.follow(nil, context.Background(), 1, watchRequest{})
	}
	for i, m := range c.engines[:outageStreak] {
		turn, err := follow(m)
		mustBe[*wire.HTTPError](t, err)
		if errors.As(err, new(*messages.HeldBackError)) {
			t.Fatalf("stream %d was held back", i)
		}
		if last := i == outageStreak-1; last == turn.IsZero() || last && turn.Sub(c.time) < time.Minute {
			t.Fatalf("stream %d is to come again at %v", i, turn)
		}
	}
	turn, err := follow(c.engines[outageStreak])
	if held := mustBe[*messages.HeldBackError](t, err); opened != outageStreak || !held.Until.Equal(turn) || held.Operation != transport.OpWatch {
		t.Errorf("%d streams were asked for: %v", opened, err)
	}
}

// A request that panics gives its place up, and a best-effort one takes nobody's.
func TestWhatThePlaceAtTheGateIsFor(t *testing.T) {
	t.Parallel()
	c := newCrowd(2, 21)
	first := c.engines[0].visitor
	first.left(pass{}, &wire.HTTPError{Operation: "pull", Status: 503, RetryAfter: time.Second})
	deletes := 0
	server := &fakeServer{deletePush: func(context.Context, string) error { deletes++; return nil }}
	n := &network{client: server, visitor: first, log: noLog}
	discard := func() {
		ctx, cancel := context.WithCancel(context.Background())
		(&worker{network: n}).discard(job{ctx: ctx, request: deletePushRequest{}, discard: cancel})
	}
	discard()
	c.time = c.time.Add(3 * time.Second)
	discard()
	if deletes != 0 || first.ticket == 0 {
		t.Errorf("%d best-effort requests passed", deletes)
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = n.through("it", func() error { panic("boom") })
		t.Error("no panic")
	}()
	if c.gate.trials != 0 || first.admitted != c.gate.term {
		t.Errorf("%d trials are left", c.gate.trials)
	}
	discard()
	if deletes != 1 {
		t.Errorf("%d best-effort requests passed of an engine that was let in", deletes)
	}
}

// When the gate has given a turn, the owner waits for just that, whatever its own delays are: for a request that was not
// sent they do not even grow.
func TestATurnIsWaitedForExactly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRetries(RetryConfig{Initial: 8 * time.Second, Max: time.Minute, Multiplier: 2, MaxElapsed: time.Minute}, &World{})
		held := &messages.HeldBackError{Operation: "pull", Err: io.EOF}
		for i := range 3 {
			if d, e := r.turn("pull", held, time.Now().Add(time.Second), true); d != time.Second || e != nil || r.attempts != i+1 {
				t.Fatalf("%v, %v, attempt %d", d, e, r.attempts)
			}
		}
		if d, _ := r.turn("pull", held, time.Now().Add(-time.Second), true); d != 0 {
			t.Errorf("a turn that is over makes %v", d)
		}
		if d, _ := r.turn("pull", io.EOF, time.Now().Add(20*time.Second), true); d != 20*time.Second {
			t.Errorf("a turn after a failure makes %v", d)
		}
		if d, _ := r.turn("pull", io.EOF, time.Now().Add(time.Second), true); d != 16*time.Second {
			t.Errorf("a turn before the engine's own delay makes %v", d)
		}
		if _, e := r.turn("pull", held, time.Now().Add(time.Hour), true); e == nil || !errors.Is(e, io.EOF) {
			t.Errorf("an hour is waited for: %v", e)
		}
	})
}
