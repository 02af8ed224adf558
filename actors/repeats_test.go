package actors

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// An outage of ten hours with an attempt every thirty seconds is a handful of lines, the newest of which is never much
// older than an hour; they account for every one that was held back. The next outage is told at once.
func TestAnOutageIsToldInFewLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, seen := observer.New(zap.InfoLevel)
		log := quietLogger(zap.New(core))
		failed := func() { log.Warn("it failed", zap.String(keyOperation, "pull")) }
		const attempts = 10 * 120
		for range attempts {
			failed()
			time.Sleep(30 * time.Second)
		}
		lines := seen.TakeAll()
		if len(lines) < 12 || len(lines) > 17 {
			t.Errorf("%d lines", len(lines))
		}
		told := 0
		for i, line := range lines {
			held, _ := line.ContextMap()[keySuppressed].(int64)
			told += 1 + int(held)
			if i > 0 && line.Time.Sub(lines[i-1].Time) > lastQuiet+time.Minute {
				t.Errorf("nothing was said for %v", line.Time.Sub(lines[i-1].Time))
			}
		}
		if missing := attempts - told; missing < 0 || missing > 120 {
			t.Errorf("%d of %d attempts are not accounted for", missing, attempts)
		}
		time.Sleep(3 * lastQuiet)
		failed()
		time.Sleep(firstQuiet)
		failed()
		if n := seen.Len(); n != 2 {
			t.Errorf("%d lines about the beginning of another outage, want 2", n)
		}
	})
}

// What differs in what it is about is told apart; what debug is enabled for is told all the same, as debug.
func TestWhatIsNewIsNotHeldBack(t *testing.T) {
	t.Parallel()
	core, seen := observer.New(zap.DebugLevel)
	log := quietLogger(zap.New(core)).With(zap.Int("n", 1))
	for range 3 {
		log.Warn("it failed", zap.String(keyOperation, "pull"), zap.Int(keyAttempt, 1))
		log.With(zap.Int("m", 2)).Warn("it failed", zap.String(keyOperation, "watch"))
		log.Debug("a detail")
	}
	count := map[zapcore.Level]int{}
	for _, line := range seen.All() {
		count[line.Level]++
		if line.ContextMap()["n"] != int64(1) {
			t.Errorf("a field is lost: %v", line)
		}
	}
	if count[zap.WarnLevel] != 2 || count[zap.DebugLevel] != 4+3 {
		t.Errorf("%v", count)
	}
	if nop := zap.NewNop(); quietLogger(nop) != nop || quietLogger(nil) != nil || engineLogger(nil) == nil {
		t.Error("a logger that logs nothing is wrapped")
	}
}

// Levels of the application's logger stay what they are, also where it has several parts.
func TestAQuietLoggerGoesWhereItWould(t *testing.T) {
	t.Parallel()
	errorsOnly, bad := observer.New(zapcore.ErrorLevel)
	all, seen := observer.New(zapcore.InfoLevel)
	log := engineLogger(zap.New(zapcore.NewTee(all, errorsOnly)))
	for range 5 {
		log.Error("e")
		log.Info("i")
		log.Debug("d")
	}
	if seen.Len() != 2 || bad.Len() != 1 {
		t.Fatalf("%d and %d lines", seen.Len(), bad.Len())
	}
	if seen.All()[0].ContextMap()[keyEngine] == nil {
		t.Error("a line does not say whose it is")
	}
}
