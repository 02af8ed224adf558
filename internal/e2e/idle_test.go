package e2e

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/internal/race"
)

// TestIdle lets hours pass in which nothing happens, as many as OVERSQLITE_E2E_IDLE says: an engine asks the server nothing while its stream is open, polls at
// the configured pace when there is none, and tells subscribers nothing that they could not have guessed.
func TestIdle(t *testing.T) {
	const poll = 5 * time.Minute
	length := envDuration(t, "OVERSQLITE_E2E_IDLE", 2*time.Hour)
	if race.Enabled {
		length = 20 * time.Minute
	}
	polls := func(interval time.Duration) (least, most int) {
		nominal := float64(length) / float64(interval)
		return int(nominal / 1.1), int(nominal/0.9) + 1
	}
	for name, c := range map[string]struct {
		prepare func(*testing.T, *oversqlite.Engine)
		reason  string // "": any
		every   time.Duration
	}{
		"watching": {nil, "watching for changes", 0},
		"polling":  {func(t *testing.T, e *oversqlite.Engine) { restart(t, e, poll) }, "polling", poll},
		"stopped": {func(t *testing.T, e *oversqlite.Engine) {
			if err := e.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, "nothing asked for", 0},
		"paused": {func(_ *testing.T, e *oversqlite.Engine) { e.PauseUploads(); e.PauseDownloads() }, "paused", 0},
		"detached": {func(t *testing.T, e *oversqlite.Engine) {
			if _, err := e.Detach(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, "waiting for Attach: detached", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := newVirtual(t)
				start(t, v.engine, virtualUser)
				reaches(t, v.engine, func(s *oversqlite.Status) bool { return s.Reason == "watching for changes" })
				if c.prepare != nil {
					c.prepare(t, v.engine)
				}
				<-time.After(2 * time.Minute) // also for the one poll after a stream has opened on the word of an answer from before it
				synctest.Wait()
				if s := v.engine.Status(); s.Reason != c.reason {
					t.Errorf("%+v", s)
				}
				before, _ := v.weather.seen()
				events := v.engine.Subscribe(oversqlite.WithBuffer(10_000))
				defer events.Close()
				<-time.After(length)
				synctest.Wait()
				after, _ := v.weather.seen()
				requests, told := after-before, len(events.C())+int(events.Dropped())
				t.Logf("%v: %d requests, %d events", length, requests, told)
				least, most, tells := 0, 0, 0
				if c.every > 0 {
					least, most = polls(c.every)
					tells = 4 * most // that a pull begins, how it goes, and that it has ended
				}
				if requests < least || requests > most {
					t.Errorf("%d requests, want %d to %d", requests, least, most)
				}
				if told > tells {
					t.Errorf("%d events, at most %d are worth telling", told, tells)
				}
				if s := v.engine.Status(); s.Reason != c.reason || s.LastError != nil {
					t.Errorf("%v later: %+v", length, s)
				}
			})
		})
	}
}

// restart has background sync go on without a stream.
func restart(t *testing.T, e *oversqlite.Engine, poll time.Duration) {
	t.Helper()
	err := e.Start(t.Context(), oversqlite.AutoConfig{UserID: virtualUser, Watch: oversqlite.WatchOff, PollInterval: poll})
	if err != nil {
		t.Fatal(err)
	}
}
