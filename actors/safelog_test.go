package actors

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/oversqlite/oversqlite/messages"
)

// brokenCore panics wherever it is touched.
type brokenCore struct{ zapcore.LevelEnabler }

func (brokenCore) With([]zapcore.Field) zapcore.Core          { panic("log") }
func (brokenCore) Write(zapcore.Entry, []zapcore.Field) error { panic("log") }
func (brokenCore) Sync() error                                { return nil }
func (c brokenCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Message == "check" {
		panic("log")
	}
	return ce.AddCore(e, c)
}

func TestASafeLoggerDoesNotPanic(t *testing.T) {
	t.Parallel()
	log := safeLogger(zap.New(brokenCore{zapcore.DebugLevel}))
	log.Error("write")
	log.Error("check")
	log.With(zap.Int("n", 1)).Error("with")
	if err := log.Core().Write(zapcore.Entry{}, nil); err != nil {
		t.Error(err)
	}
	if nop := zap.NewNop(); safeLogger(nop) != nop || safeLogger(nil) != nil {
		t.Error("a logger that logs nothing is wrapped")
	}
}

// What goes where, and with what, is as it would be without it.
func TestASafeLoggerChangesNothing(t *testing.T) {
	t.Parallel()
	all, seen := observer.New(zapcore.DebugLevel)
	errorsOnly, bad := observer.New(zapcore.ErrorLevel)
	log := safeLogger(zap.New(zapcore.NewTee(all, errorsOnly))).With(zap.Int("n", 1))
	log.Debug("d", zap.String("k", "v"))
	log.Error("e")
	if seen.Len() != 2 || bad.Len() != 1 {
		t.Fatalf("%d and %d lines", seen.Len(), bad.Len())
	}
	if first := seen.All()[0]; first.Message != "d" || first.ContextMap()["k"] != "v" || first.ContextMap()["n"] != int64(1) {
		t.Errorf("%+v", first)
	}
}

// A logger that panics, a database that panics, and a crash: callers are told, and Close comes to an end.
func TestALoggerThatPanicsHangsNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		db := newSessionDB()
		e := NewEngine(Options{
			Client: newServer(), Retry: testRetry, System: system, Log: zap.New(brokenCore{zapcore.DebugLevel}),
			open: func(context.Context) (database, error) { return panickingClose{db}, nil },
		})
		t.Cleanup(e.Close)
		// Naming an unknown verb in a refusal panics in the session, which logs it.
		if _, err := e.Ask(t.Context(), Verb(200), ""); !errors.As(err, new(*messages.EngineFailedError)) {
			t.Error(err)
		}
		synctest.Wait()
		mustAsk(t, e, VerbRestart)
		e.Close()
	})
}

// panickingClose panics when it is closed, which the writer does while it stops.
type panickingClose struct{ *sessionDB }

func (panickingClose) Close() error { panic("close") }
