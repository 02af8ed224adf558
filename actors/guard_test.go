package actors

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// dying panics in every message of its end.
type dying struct{ stopped chan struct{} }

func (d *dying) Receive(c actor.Context) {
	switch c.Message().(type) {
	case *actor.Stopping, *actor.Restarting:
		panic("at the end")
	case *actor.Stopped:
		close(d.stopped)
		panic("after the end")
	case string:
		panic("boom")
	}
}

// Without the guard a panic in Stopping resurrects the actor and one in Stopped makes its parent wait for ever.
func TestAPanicAtTheEndDoesNotKeepAnActorAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		core, logged := observer.New(zap.InfoLevel)
		system := newSystem()
		stopped := make(chan struct{})
		p := &parent{heard: make(chan messages.Session, 1), ready: make(chan *actor.PID, 1), failed: make(chan any, 1)}
		p.spawn = func(c actor.Context) *actor.PID {
			return c.Spawn(propsOf(zap.New(core), new(World), func() actor.Actor { return &dying{stopped} }))
		}
		root := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return p }))
		pid := <-p.ready
		system.Root.Send(pid, "go")
		failure := (<-p.failed).(*panicked)
		if failure.cause != "boom" || !strings.Contains(string(failure.stack), "dying") {
			t.Errorf("the supervisor hears of %v with stack %s", failure, failure.stack)
		}
		synctest.Wait()
		if err := system.Root.StopFuture(root).Wait(); err != nil {
			t.Errorf("the parent does not stop: %v", err)
		}
		<-stopped
		if n := logged.FilterMessage("panic while an actor was ending").Len(); n != 3 {
			t.Errorf("%d panics logged, want those of Restarting, Stopping and Stopped", n)
		}
		system.Shutdown()
		time.Sleep(2 * time.Second)
	})
}

func TestExpectedFailuresAndMessagesAreNotLogged(t *testing.T) {
	t.Parallel()
	core, logged := observer.New(zap.DebugLevel)
	log := systemLogger(zap.New(core))(nil)
	row := wire.Row{Payload: []byte("secret")}

	log.Info("[ACTOR] Recovering", slog.Any("self", actor.NewPID("nonhost", "worker")), slog.Any("reason", &RetryLater{Err: errors.New("503")}))
	log.Info("[DeadLetter]", slog.Any("message", row))
	if logged.Len() != 0 {
		t.Errorf("logged %v", logged.All())
	}

	log.Info("[ACTOR] Recovering", slog.Any("self", actor.NewPID("nonhost", "worker")), slog.Any("reason", &panicked{cause: "secret boom"}))
	log.With(slog.Any("message", row)).WithGroup("group").Warn("odd", slog.Int("n", 3))
	log.Error("worse", slog.Any("message", row))
	text := ""
	for _, e := range logged.All() {
		text += fmt.Sprintln(e.Level, e.LoggerName, e.Message, e.ContextMap())
	}
	for _, want := range []string{"debug  [ACTOR] Recovering", "reason:string", "warn group odd", "n:3", "wire.Row", "error  worse", "self:worker"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing logged like %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "115 101 99") {
		t.Errorf("a row's content is logged:\n%s", text)
	}
}

func TestFailuresSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	cause := errors.New("no network")
	later := &RetryLater{Operation: "pull", Err: cause}
	if !errors.Is(later, cause) || !strings.Contains(later.Error(), "pull") {
		t.Errorf("%v", later)
	}
	if p := asPanicked(&panicked{cause: 1, stack: []byte("s")}); string(p.stack) != "s" || !strings.Contains(p.Error(), "1") {
		t.Errorf("%v", p)
	}
}
