package oversqlite_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/race"
)

// What one engine is told, that the server is unavailable for so long, all engines of the process that use this server have
// learnt: none of them asks before, all are served after, and each says meanwhile what it waits for.
func TestAnUnavailableServerIsAskedByNobody(t *testing.T) {
	t.Parallel()
	// The server is away for as long as a slow machine needs to bring everybody to the gate.
	const devices = 8
	away := 8 * time.Second
	if race.Enabled {
		away = 30 * time.Second
	}
	w := newWorld(t)
	var (
		mu   sync.Mutex
		sent []time.Time
	)
	all := make([]*device, devices)
	for i := range all {
		all[i] = w.ready("user-"+string(rune('a'+i)), func(c *oversqlite.Config) { c.Retry.MaxElapsed = 10 * time.Minute })
		all[i].note("note")
		all[i].wire.set(func(*http.Request) {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, time.Now())
		}, nil)
	}
	hasty := w.device("user-h", func(c *oversqlite.Config) { c.Retry.MaxElapsed = time.Millisecond }).open()
	fault := w.server.Inject(devserver.Fault{Status: 503, Code: "service_unavailable", RetryAfter: away, Times: 1})
	var calls sync.WaitGroup
	begin := func(d *device) {
		calls.Go(func() {
			if _, err := d.Sync(t.Context()); err != nil {
				t.Errorf("sync: %v", err)
			}
		})
	}
	waits := func(d *device) {
		sub := d.Subscribe(oversqlite.WithKinds(oversqlite.KindStateChanged))
		defer sub.Close()
		begin(d)
		for e := range sub.C() {
			if e.(oversqlite.StateChanged).Err != nil {
				return
			}
		}
	}
	waits(all[0])
	closed := time.Now()
	waits(all[1])
	for _, d := range all[2:] {
		begin(d)
	}
	status := all[1].Status()
	var held *oversqlite.HeldBackError
	var answer *oversqlite.HTTPError
	if !errors.As(status.LastError, &held) || !errors.As(status.LastError, &answer) || answer.Code != "service_unavailable" ||
		held.Until.Sub(status.WaitingUntil).Abs() > time.Second || status.Attempt != 1 || status.WaitingUntil.Before(closed.Add(away-time.Second)) {
		t.Errorf("the status says %+v", status)
	}

	// A call that has less time than that is told so at once.
	_, err := hasty.Attach(t.Context(), "user-h")
	var exhausted *oversqlite.RetryExhaustedError
	if !errors.As(err, &exhausted) || !errors.As(err, &held) || hasty.wire.requests.Load() != 0 {
		t.Errorf("attach: %v after %d requests", err, hasty.wire.requests.Load())
	}

	calls.Wait()
	mu.Lock()
	defer mu.Unlock()
	if fault.Hits() != 1 || len(sent) < 2*devices {
		t.Fatalf("%d requests met the fault, %d were sent", fault.Hits(), len(sent))
	}
	if d := sent[1].Sub(sent[0]); d < away {
		t.Errorf("the server was asked again after %v", d)
	}
	for _, d := range all {
		if s := d.Status(); s.LastError != nil || s.Pending.Rows != 0 {
			t.Errorf("afterwards: %+v", s)
		}
	}
}
