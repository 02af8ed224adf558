package oversqlite_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// patience bounds the waits of these tests: nobody waits that long but in a failure.
const patience = 30 * time.Second

// auto starts background sync on a device, with short delays.
func (d *device) auto(change ...func(*oversqlite.AutoConfig)) *device {
	d.t.Helper()
	cfg := oversqlite.AutoConfig{UserID: d.user, Debounce: time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	if err := d.Start(d.t.Context(), cfg); err != nil {
		d.t.Fatal(err)
	}
	return d
}

func watchOff(c *oversqlite.AutoConfig) { c.Watch = oversqlite.WatchOff }

// until waits until something holds, looking whenever the device's state or tables have changed.
func (d *device) until(what string, holds func() bool) {
	d.t.Helper()
	sub := d.Subscribe(oversqlite.WithBuffer(256))
	defer sub.Close()
	late, look := time.NewTimer(patience), time.NewTicker(10*time.Millisecond) // counts alone are no news
	defer late.Stop()
	defer look.Stop()
	for !holds() {
		select {
		case <-sub.C():
		case <-look.C:
		case <-late.C:
			d.t.Fatalf("not within %v: %s; %+v", patience, what, d.Status())
		}
	}
}

// settled waits until the device has nothing pending and waits for work.
func (d *device) settled() {
	d.t.Helper()
	d.until("all is quiet", func() bool {
		pending, err := d.PendingSyncStatus(d.t.Context()) // it may be about to look at what was just written
		s := d.Status()
		return err == nil && !pending.HasPendingSyncData && s.AttachedUser != "" && s.Phase == oversqlite.PhaseIdle && s.LastError == nil
	})
}

// Two devices that do nothing but write see each other's rows.
func TestBackgroundSync(t *testing.T) {
	t.Parallel()
	for _, mode := range []oversqlite.WatchMode{oversqlite.WatchAuto, oversqlite.WatchOff} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			set := func(c *oversqlite.AutoConfig) { c.Watch, c.PollInterval = mode, 20*time.Millisecond }
			a, b := w.device("ann").open().auto(set), w.device("ann").open().auto(set)
			for i := range 5 {
				id := a.note(fmt.Sprint("from a ", i))
				b.until("a's note", func() bool { return b.title(id) != "" })
				b.exec(`UPDATE notes SET title = 'from b' WHERE id = ?`, id)
				a.until("b's title", func() bool { return a.title(id) == "from b" })
			}
			for _, d := range []*device{a, b} {
				if err := d.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			converged(a, b)
		})
	}
}

func TestStartRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.device("ann")
	var open *oversqlite.OpenRequiredError
	if err := d.Start(t.Context(), oversqlite.AutoConfig{}); !errors.As(err, &open) || open.Operation != "Start" {
		t.Error(err)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	d.open()
	for field, cfg := range map[string]oversqlite.AutoConfig{
		"AutoConfig.MaxDelay":     {Debounce: time.Second, MaxDelay: time.Millisecond},
		"AutoConfig.PollInterval": {PollInterval: -1},
		"AutoConfig.Watch":        {Watch: "sometimes"},
	} {
		var bad *oversqlite.ConfigError
		if err := d.Start(t.Context(), cfg); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	d.attach()
	var other *oversqlite.AttachBindingConflictError
	if err := d.Start(t.Context(), oversqlite.AutoConfig{UserID: "bob"}); !errors.As(err, &other) {
		t.Error(err)
	}
	if s := d.Status(); s.Reason != "nothing asked for" {
		t.Errorf("%+v", s)
	}
	if err := d.Start(t.Context(), oversqlite.AutoConfig{Debounce: time.Minute}); err != nil { // MaxDelay follows
		t.Error(err)
	}
	_ = d.Close()
	for name, err := range map[string]error{"Start": d.Start(t.Context(), oversqlite.AutoConfig{}), "Stop": d.Stop(t.Context())} {
		if !errors.Is(err, oversqlite.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

// A server that is away is waited for, and told of all the while; what was written meanwhile is pushed when it is back.
func TestBackgroundSyncOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann").auto()
	d.settled()
	fault := w.server.Inject(devserver.Fault{Status: http.StatusServiceUnavailable})
	d.note("written offline")
	d.until("it waits", func() bool {
		s := d.Status()
		return s.Pending.Rows == 1 && s.Attempt > 2 && s.LastError != nil && !s.WaitingUntil.IsZero() && strings.Contains(s.Reason, "waiting to repeat")
	})
	fault.Remove()
	d.settled()
	converged(d, w.ready("ann"))
}

// A foreground call takes place at once and ends as it would without background sync, whatever delay the background has
// come to; and the background goes on.
func TestForegroundCallsDoNotWaitForTheBackground(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann", func(c *oversqlite.Config) {
		c.Retry = oversqlite.RetryConfig{Initial: time.Hour, Max: 2 * time.Hour, MaxElapsed: time.Minute}
	}).auto(watchOff)
	d.settled()
	w.server.Inject(devserver.Fault{Status: http.StatusServiceUnavailable, Times: 1})
	d.note("one")
	d.until("it waits for an hour", func() bool { return time.Until(d.Status().WaitingUntil) > 30*time.Minute && d.Status().Attempt == 1 })
	if r, err := d.Sync(t.Context()); err != nil || r.Push != oversqlite.Committed {
		t.Fatal(r, err)
	}
	d.note("two")
	d.settled()
	// One that fails leaves the background its delay.
	fault := w.server.Inject(devserver.Fault{Status: http.StatusServiceUnavailable})
	d.note("three")
	d.until("it waits again", func() bool { return d.Status().Attempt == 1 })
	var exhausted *oversqlite.RetryExhaustedError
	if _, err := d.Sync(t.Context()); !errors.As(err, &exhausted) {
		t.Fatal(err)
	}
	d.until("it waits again", func() bool { return time.Until(d.Status().WaitingUntil) > 20*time.Minute })
	fault.Remove()
	d.Kick()
	d.settled()
}

// Refused credentials end everything until somebody says that they have changed.
func TestBackgroundSyncStopsAtRefusedCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann").auto()
	d.settled()
	fault := w.server.Inject(devserver.Fault{Status: http.StatusUnauthorized})
	d.note("one")
	d.until("it has stopped", func() bool { return strings.HasPrefix(d.Status().Reason, "stopped") })
	var auth *oversqlite.AuthError
	if s := d.Status(); !errors.As(s.LastError, &auth) || !s.WaitingUntil.IsZero() || len(s.WokenBy) == 0 || s.WokenBy[0] != oversqlite.WakerResume {
		t.Errorf("%+v", s)
	}
	before := d.wire.requests.Load()
	d.note("two")
	d.Kick()
	d.until("the row is counted", func() bool { return d.Status().Pending.Rows == 2 })
	if n := d.wire.requests.Load() - before; n != 0 {
		t.Errorf("%d requests with refused credentials", n)
	}
	fault.Remove()
	if err := d.Resume(); err != nil {
		t.Fatal(err)
	}
	d.settled()
}

// While uploads are paused local commits are counted and not sent. Resuming sends them.
func TestBackgroundSyncHeedsPauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.ready("ann").auto()
	d.settled()
	d.PauseUploads()
	d.note("one")
	d.until("the row is counted", func() bool { return d.Status().Pending.Rows == 1 })
	d.ResumeUploads()
	d.settled()
	d.PauseDownloads()
	d.until("downloads are paused", func() bool { return strings.HasPrefix(d.Status().Reason, "downloads paused") })
	w.serverWrite("ann", `INSERT INTO notes (id, title) VALUES ('5f0c9a52-4a52-4b86-9a47-3a0e6a2f9d11', 'from the server')`)
	d.note("two")
	d.settled()
	if d.title("5f0c9a52-4a52-4b86-9a47-3a0e6a2f9d11") != "" {
		t.Error("pulled while downloads are paused")
	}
	d.ResumeDownloads()
	d.until("the server's note", func() bool { return d.title("5f0c9a52-4a52-4b86-9a47-3a0e6a2f9d11") != "" })
}

// After a Detach nobody is attached behind the application's back.
func TestBackgroundSyncRestsAfterDetach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.device("ann").open().auto()
	d.note("one")
	d.settled()
	if r, err := d.Detach(t.Context()); err != nil || r.Outcome != oversqlite.Detached {
		t.Fatal(r, err)
	}
	if s := d.Status(); s.Reason != "waiting for Attach: detached" {
		t.Errorf("%+v", s)
	}
	d.attach()
	d.note("two")
	d.settled()
}

// Stop ends what runs, whatever it is, and leaves what is pending.
func TestStopDuringEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 18 {
		d := w.device("ann").open()
		begun := make(chan struct{}, 1)
		n := 0
		d.wire.set(func(*http.Request) {
			if n++; n == i%6+1 {
				begun <- struct{}{}
			}
		}, nil)
		d.note(fmt.Sprint("note ", i))
		d.auto()
		select {
		case <-begun:
		case <-time.After(100 * time.Millisecond): // there were not as many
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := d.Stop(ctx); err != nil {
			t.Fatalf("stopped at request %d: %v; %+v", i%6+1, err, d.Status())
		}
		cancel()
		if s := d.Status(); s.Phase != oversqlite.PhaseIdle || !s.WaitingUntil.IsZero() {
			t.Errorf("%+v", s)
		}
		_ = d.Close()
	}
}

// K18: a thousand lives of background sync leave nothing behind. It does not run beside other tests, because it counts.
func TestStartAndStopLeaveNothing(t *testing.T) {
	w := newWorld(t)
	d := w.ready("ann")
	cycle := func(i int) {
		if err := d.Start(t.Context(), oversqlite.AutoConfig{}); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 { // with a stream that is open
			d.until("the stream is open", func() bool { return d.Status().Reason == "watching for changes" })
		}
		if err := d.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cycles := 1000
	if testing.Short() {
		cycles = 100
	}
	for i := range 20 {
		cycle(i)
	}
	idle := w.conns.(*http.Transport).CloseIdleConnections // how many of them the server's client keeps is a matter of timing
	idle()
	before := left()
	for i := range cycles {
		cycle(i)
	}
	var after leftovers
	for range 500 { // the server's side of the last connection ends a moment later
		idle()
		if after = left(); after.goroutines <= before.goroutines && after.files <= before.files {
			break
		}
		runtime.Gosched()
		<-time.After(10 * time.Millisecond)
	}
	t.Logf("before %+v, after %+v", before, after)
	// What grows is the actor system's table of names. It is one a process, and stops growing at about 12 MB.
	if after.goroutines > before.goroutines || after.files > before.files || after.heap > before.heap+1<<20 {
		t.Errorf("before %+v, after %d cycles %+v", before, cycles, after)
	}
}

type leftovers struct {
	goroutines, files int
	heap              uint64
}

func left() leftovers {
	for range 2 { // what pools keep goes with the second
		runtime.GC()
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	files, _ := os.ReadDir("/proc/self/fd") // none elsewhere than on Linux
	return leftovers{goroutines: runtime.NumGoroutine(), files: len(files), heap: mem.HeapAlloc}
}
