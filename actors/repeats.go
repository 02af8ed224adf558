package actors

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// How often an engine says the same: at once, and then not again before a time that doubles from the first to the last as
// long as there is something to say. An outage of ten hours is some fifteen lines, of which the newest is never much
// older than an hour, says how things are now, and counts those it stands for.
const (
	firstQuiet = time.Minute
	lastQuiet  = time.Hour
)

// sameness are the keys whose values tell lines of one message apart. Each has few values.
var sameness = []string{keyOutcome, keyOperation, keyChild, keyTo}

// repeats remembers what an engine has said. It is made for lines of which one more says nothing new.
//
// zap's own sampler counts by message and second, in a table of 450 kB, which an engine that is one of ten thousand
// cannot have; and it forgets within a second what an outage repeats for hours.
type repeats struct {
	mu   sync.Mutex
	said map[string]*quiet // nil until there was something to say
}

// quiet is the silence about one thing.
type quiet struct {
	until time.Time
	span  time.Duration
	held  int // lines since it was last said
}

// pass reports whether a line is to be written, and how many it stands for beside itself.
func (r *repeats) pass(what string, now time.Time) (held int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.said[what]
	switch {
	case q == nil:
		q = &quiet{span: firstQuiet}
		if r.said == nil {
			r.said = map[string]*quiet{}
		}
		r.said[what] = q
	case now.Before(q.until):
		q.held++
		return 0, false
	case now.Sub(q.until) >= q.span:
		q.span = firstQuiet // it has been quiet for as long again: this is another outage
	default:
		q.span = min(2*q.span, lastQuiet)
	}
	held, q.held, q.until = q.held, 0, now.Add(q.span)
	return held, true
}

// quietCore writes what repeats lets pass. Of what it does not, a line at debug remains; debug itself is not its business.
type quietCore struct {
	zapcore.Core
	repeats *repeats
}

// quietLogger returns a logger that does not repeat itself.
func quietLogger(log *zap.Logger) *zap.Logger {
	if log == nil || !log.Core().Enabled(zapcore.FatalLevel) { // logs nothing
		return log
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return quietCore{Core: c, repeats: new(repeats)} }))
}

// With implements zapcore.Core.
func (c quietCore) With(fields []zapcore.Field) zapcore.Core {
	return quietCore{Core: c.Core.With(fields), repeats: c.repeats}
}

// Check implements zapcore.Core. What the other core decides is kept.
func (c quietCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level < zapcore.InfoLevel {
		return c.Core.Check(e, ce)
	}
	if taken := c.Core.Check(e, nil); taken != nil {
		return ce.AddCore(e, quietEntry{quietCore: c, taken: taken})
	}
	return ce
}

// quietEntry writes one entry, unless it has been said.
type quietEntry struct {
	quietCore
	taken *zapcore.CheckedEntry
}

// Write implements zapcore.Core.
func (w quietEntry) Write(e zapcore.Entry, fields []zapcore.Field) error {
	what := e.Message
	for _, f := range fields {
		if f.Type == zapcore.StringType && slices.Contains(sameness, f.Key) {
			what += "\x00" + f.String
		}
	}
	held, ok := w.repeats.pass(what, e.Time)
	if !ok {
		e.Level = zapcore.DebugLevel
		if again := w.Core.Check(e, nil); again != nil {
			again.Write(fields...)
		}
		return nil
	}
	if held > 0 {
		fields = append(fields[:len(fields):len(fields)], zap.Int(keySuppressed, held))
	}
	w.taken.Entry = e
	w.taken.Write(fields...)
	return nil
}
