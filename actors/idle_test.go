package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/wire"
)

// turnstile counts whatever gets an engine to do anything: timers that are set, and actors that are woken.
type turnstile struct{ timers, turns atomic.Int64 }

func (s *turnstile) Schedule(fn func()) {
	s.turns.Add(1)
	go fn()
}

func (*turnstile) Throughput() int { return 300 }

func (s *turnstile) world() World {
	return World{Dispatcher: s, AfterFunc: func(d time.Duration, f func()) func() {
		s.timers.Add(1)
		timer := time.AfterFunc(d, f)
		return func() { timer.Stop() }
	}}
}

var _ actor.Dispatcher = (*turnstile)(nil)

// An engine that has nothing to do sets no timer and wakes nobody for a day, but for heartbeats and the polls that were
// configured.
func TestADayOfNothing(t *testing.T) {
	const day, beat, poll = 24 * time.Hour, 25 * time.Second, 10 * time.Minute
	beats, polls := int64(day/beat), int64(day/poll)
	// The stream worker tells the watcher, the watcher the session, the session has the writer look, which answers.
	const turnsPerBeat = 4
	// The alarm tells the session, which has the state read, a puller started, a request made, what it brings written, and the
	// state read again, and sets the next alarm.
	const turnsPerPoll = 12
	for name, c := range map[string]struct {
		watch         bool
		then          []Verb // after Start
		timers, turns int64
	}{
		"watching": {watch: true, turns: turnsPerBeat*beats + 100},
		"polling":  {timers: polls + polls/9 + 1, turns: turnsPerPoll * (polls + polls/9 + 1)},
		"stopped":  {watch: true, then: []Verb{VerbStop}},
		"detached": {watch: true, then: []Verb{VerbDetach}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				system := newSystem()
				settleSystem(t, system)
				watched := &streams{asked: make(chan *streamAsked, 10)}
				server := newServer()
				server.capabilities = func(context.Context) (wire.Capabilities, error) {
					return parseCapabilities([]string{"no-specs", "watch"}), nil
				}
				server.watch = watched.client(t, func() time.Duration { return 0 }).Watch
				count := &turnstile{}
				e := NewEngine(Options{
					Client: server, Retry: testRetry, System: system, Log: zap.NewNop(), ResolveTimeout: time.Second, World: count.world(),
					open: func(context.Context) (database, error) { return newSessionDB(), nil },
				})
				t.Cleanup(e.Close)
				mustAsk(t, e, VerbOpen)
				if err := e.Start(t.Context(), AutoConfig{UserID: "ann", PollInterval: poll, Watch: c.watch}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second) // what there is to take up
				for _, v := range c.then {
					mustAsk(t, e, v)
				}
				synctest.Wait()
				timers, turns := count.timers.Load(), count.turns.Load()
				end := time.Now().Add(day)
				for stream := watched.latest(); stream != nil && !stream.gone() && time.Now().Before(end); time.Sleep(beat) {
					stream.beat()
				}
				time.Sleep(time.Until(end))
				synctest.Wait()
				timers, turns = count.timers.Load()-timers, count.turns.Load()-turns
				t.Logf("a day: %d timers, %d turns of actors", timers, turns)
				if turns < c.turns*3/4 {
					t.Errorf("%d turns: it does not even do what it has to", turns)
				}
				if timers > c.timers || turns > c.turns {
					t.Errorf("%d timers and %d turns, at most %d and %d are worth it", timers, turns, c.timers, c.turns)
				}
			})
		})
	}
}

// latest returns the stream that was asked for last; nil: none was.
func (s *streams) latest() *streamAsked {
	var a *streamAsked
	for len(s.asked) > 0 {
		a = <-s.asked
	}
	return a
}
