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

// line is a dispatcher that lets nothing run before it is told to.
type line struct{ waiting []func() }

func (l *line) Schedule(fn func()) { l.waiting = append(l.waiting, fn) }
func (l *line) Throughput() int    { return 1 }

// run lets everything run, one after the other, until nothing is left.
func (l *line) run() {
	for len(l.waiting) > 0 {
		fn := l.waiting[0]
		l.waiting = l.waiting[1:]
		fn()
	}
}

// shyServer fails the first request.
type shyServer struct {
	endpoints
	asked int
}

func (s *shyServer) Capabilities(context.Context, string) (wire.Capabilities, error) {
	if s.asked++; s.asked == 1 {
		return wire.Capabilities{}, &transport.NetworkError{Operation: "capabilities", Err: io.EOF}
	}
	return wire.Capabilities{}, io.ErrShortBuffer // final
}

// An engine in a world of its own does nothing of its own accord: each actor waits until the world lets it run, and each
// delay until the world says that it has passed.
func TestWorldRunsTheEngine(t *testing.T) {
	t.Parallel()
	var l line
	clock := time.Unix(1000, 0)
	var pass func() // what the engine waits for
	server := &shyServer{}
	e := NewEngine(Options{
		Client: server, Log: noLog, System: NewSystem(noLog), Retry: RetryConfig{Initial: time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.5},
		World: World{
			Dispatcher: &l, Now: func() time.Time { return clock }, Chance: func() float64 { return 0.75 },
			AfterFunc: func(d time.Duration, f func()) func() {
				pass = func() { clock = clock.Add(d); f() }
				return func() { pass = nil }
			},
		},
		open: func(context.Context) (database, error) { return &fakeDB{}, nil },
	})
	ask := func(verb Verb) error {
		t.Helper()
		c := e.Begin(verb, "u")
		if _, _, done := c.Answer(); done {
			t.Fatalf("%s was answered before anything could run", verb)
		}
		for l.run(); pass != nil; l.run() {
			if w := e.Status().WaitingUntil; w != clock.Add(1250*time.Millisecond) {
				t.Errorf("waits until %v, it is %v", w, clock)
			}
			pass()
		}
		_, err, done := c.Answer()
		if !done {
			t.Fatalf("%s was not answered", verb)
		}
		if _, _, done := c.Answer(); done {
			t.Errorf("%s was answered twice", verb)
		}
		return err
	}
	if err := ask(VerbOpen); err != nil {
		t.Fatal(err)
	}
	var attach *messages.AttachRequiredError
	if err := ask(VerbSync); !errors.As(err, &attach) {
		t.Errorf("not attached: %v", err)
	}
	if err := ask(VerbAttach); !errors.Is(err, io.ErrShortBuffer) || server.asked != 2 {
		t.Errorf("attach: %v after %d requests", err, server.asked)
	}
	left := e.Begin(VerbSync, "")
	left.Leave()
	e.Begin(VerbClose, "")
	l.run()
	if !e.Closed() {
		t.Error("not closed")
	}
	if _, _, done := left.Answer(); !done {
		t.Error("a call of a closed engine is still under way")
	}
}
