package actors

import (
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// engineNumbers tells the engines of the process apart in the log.
var engineNumbers atomic.Uint64

// engineLogger returns the logger of a new engine: it does not fail, does not repeat itself, and says whose line it is.
func engineLogger(log *zap.Logger) *zap.Logger {
	if log == nil {
		log = zap.NewNop()
	}
	if quiet := quietLogger(log); quiet != log {
		return safeLogger(quiet).With(zap.Uint64(keyEngine, engineNumbers.Add(1)))
	}
	return log
}

// safeLogger returns a logger that swallows the panics of another. Actors log where they must not fail: while they
// stop, and while they deal with a failure. A panic there would leave somebody waiting for ever.
func safeLogger(log *zap.Logger) *zap.Logger {
	if log == nil || !log.Core().Enabled(zapcore.FatalLevel) { // logs nothing
		return log
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return safeCore{c} }))
}

// safeCore is a core that does not panic.
type safeCore struct{ zapcore.Core }

func swallow() { _ = recover() }

// With implements zapcore.Core.
func (c safeCore) With(fields []zapcore.Field) (core zapcore.Core) {
	core = c
	defer swallow()
	return safeCore{c.Core.With(fields)}
}

// Check implements zapcore.Core. What the other core decides is kept, so that one that samples or splits still does.
func (c safeCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) (checked *zapcore.CheckedEntry) {
	checked = ce
	defer swallow()
	if taken := c.Core.Check(e, nil); taken != nil {
		return ce.AddCore(e, takenEntry{Core: c, entry: taken})
	}
	return ce
}

// Write implements zapcore.Core.
func (c safeCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	defer swallow()
	return c.Core.Write(e, fields)
}

// takenEntry writes one entry, to where it was to go.
type takenEntry struct {
	zapcore.Core
	entry *zapcore.CheckedEntry
}

// Write implements zapcore.Core.
func (t takenEntry) Write(e zapcore.Entry, fields []zapcore.Field) error {
	defer swallow()
	t.entry.Entry = e
	t.entry.Write(fields...)
	return nil
}
