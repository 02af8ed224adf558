package actors

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// systemLogger returns the logger factory of an actor system that logs to log.
func systemLogger(log *zap.Logger) func(*actor.ActorSystem) *slog.Logger {
	return func(*actor.ActorSystem) *slog.Logger { return slog.New(&logBridge{log: log}) }
}

// logBridge writes the actor system's log lines to zap. Lines that are no news are left out: a worker that fails on
// purpose, and dead letters, which are what is left of a run that was cancelled. Messages hold rows of the
// application; only their types are ever written.
type logBridge struct {
	log    *zap.Logger
	fields []zap.Field
}

// Enabled implements slog.Handler.
func (b *logBridge) Enabled(_ context.Context, level slog.Level) bool {
	return b.log.Core().Enabled(zapLevel(level))
}

// Handle implements slog.Handler.
func (b *logBridge) Handle(_ context.Context, record slog.Record) error {
	if record.Message == "[DeadLetter]" {
		return nil
	}
	fields := append(make([]zap.Field, 0, len(b.fields)+record.NumAttrs()), b.fields...)
	expected := false
	record.Attrs(func(a slog.Attr) bool {
		if _, ok := a.Value.Any().(*RetryLater); ok {
			expected = true
			return false
		}
		fields = append(fields, zapField(a))
		return true
	})
	if expected {
		return nil
	}
	if entry := b.log.Check(zapLevel(record.Level), record.Message); entry != nil {
		entry.Write(fields...)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (b *logBridge) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := append(make([]zap.Field, 0, len(b.fields)+len(attrs)), b.fields...)
	for _, a := range attrs {
		fields = append(fields, zapField(a))
	}
	return &logBridge{log: b.log, fields: fields}
}

// WithGroup implements slog.Handler. The actor system uses no groups; a name in front of the fields will do.
func (b *logBridge) WithGroup(name string) slog.Handler {
	return &logBridge{log: b.log.Named(name), fields: b.fields}
}

func zapField(a slog.Attr) zap.Field {
	switch v := a.Value.Any().(type) {
	case *panicked:
		return zap.String(a.Key, fmt.Sprintf("%T", v.cause)) // what it says may be a row; the engine's own line has its stack
	case *actor.PID:
		return zap.String(a.Key, v.GetId())
	case string, bool, int64, uint64, float64:
		return zap.Any(a.Key, v)
	default:
		return zap.String(a.Key, fmt.Sprintf("%T", v))
	}
}

func zapLevel(level slog.Level) zapcore.Level {
	switch {
	case level >= slog.LevelError:
		return zapcore.ErrorLevel
	case level >= slog.LevelWarn:
		return zapcore.WarnLevel
	default:
		// What the actor system calls information is of interest to its own developers.
		return zapcore.DebugLevel
	}
}
