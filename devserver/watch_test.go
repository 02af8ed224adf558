package devserver_test

import (
	"bufio"
	"context"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/devserver"
)

// events opens a watch and returns its non-empty lines until ctx ends or the server does.
func (d *device) events(ctx context.Context, query string) <-chan string {
	d.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", d.web.URL+"/sync/watch"+query, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Oversync-Source-ID", d.source)
	resp, err := d.web.Client().Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		d.t.Fatal(resp.Status, resp.Header)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		defer resp.Body.Close()
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			if s.Text() != "" {
				lines <- s.Text()
			}
		}
	}()
	return lines
}

func expect(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got, ok := <-lines:
			if !ok || got != w {
				t.Fatalf("want %q, got %q (open: %v)", w, got, ok)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %q", w)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.do("GET", "/sync/watch", nil, 409, "scope_uninitialized")
	d.connect(false)
	d.do("GET", "/sync/watch?after_bundle_seq=-1", nil, 400, "invalid_request")
	d.push(userRow("INSERT", 1, 0, "x"))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	behind := d.events(ctx, "?after_bundle_seq=0")
	expect(t, behind, "event: bundle", `data: {"bundle_seq":1}`) // at once, without source fields
	current := d.events(ctx, "?after_bundle_seq=1")
	expect(t, current, ": watching")
	ahead := d.events(ctx, "?after_bundle_seq=2")
	expect(t, ahead, ": watching")

	d.push(userRow("INSERT", 2, 0, "x"))
	for _, lines := range []<-chan string{behind, current} {
		expect(t, lines, "event: bundle", `data: {"bundle_seq":2,"source_id":"s","source_bundle_id":2}`)
	}
	if err := s.ExecWrite(t.Context(), "u", `the "writer"`, func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE users SET name = 'y'`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, lines := range []<-chan string{behind, current, ahead} {
		expect(t, lines, "event: bundle", `data: {"bundle_seq":3,"source_id":"the \"writer\"","source_bundle_id":1}`)
	}
	// A transaction without effect, and another user's bundle, wake nobody.
	if err := s.ExecWrite(t.Context(), "u", "w", func(*sql.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	stranger := newDevice(t, s, web, "stranger", "s")
	stranger.connect(false)
	stranger.push(userRow("INSERT", 1, 0, "x"))
	d.push(userRow("INSERT", 4, 0, "x"))
	expect(t, current, "event: bundle", `data: {"bundle_seq":4,"source_id":"s","source_bundle_id":3}`)

	cancel()
	for range current { // ends
	}
}

func TestWatchHeartbeatAndClose(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{HeartbeatInterval: 5 * time.Millisecond})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	lines := d.events(t.Context(), "")
	expect(t, lines, ": watching", ": heartbeat", ": heartbeat")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range lines { // ends
		if line != ": heartbeat" {
			t.Error(line)
		}
	}
	d.do("GET", "/sync/watch", nil, 503, "service_unavailable")
}

func TestWatchDisabled(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{DisableWatch: true})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	d.do("GET", "/sync/watch", nil, 503, "bundle_change_watch_disabled")
}

func TestForgetEndsWatches(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	d.push(userRow("INSERT", 1, 0, "x"))
	lines := d.events(t.Context(), "?after_bundle_seq=1")
	expect(t, lines, ": watching")
	if err := s.Forget("u"); err != nil {
		t.Fatal(err)
	}
	for line := range lines {
		t.Error(line)
	}
}

// forgetful is a connection over which an answer goes while the account is forgotten.
type forgetful struct {
	http.ResponseWriter
	forget func()
}

func (f *forgetful) Write(p []byte) (int, error) {
	f.forget()
	return f.ResponseWriter.Write(p)
}

func (f *forgetful) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// An end that comes while the first line is on its way is not missed, though the watch does not wait for anything yet.
func TestAnEndBeforeTheWatchWaitsIsNotMissed(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{HeartbeatInterval: time.Hour})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	req := httptest.NewRequest("GET", "/sync/watch", nil)
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Oversync-Source-ID", d.source)
	forget := sync.OnceFunc(func() {
		if err := s.Forget("u"); err != nil {
			t.Error(err)
		}
	})
	recorded := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Handler().ServeHTTP(&forgetful{recorded, forget}, req)
	}()
	select {
	case <-done:
		if got := recorded.Body.String(); recorded.Code != 200 || got != ": watching\n\n" {
			t.Errorf("%d %q", recorded.Code, got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the watch goes on without an account")
	}
}

// TestWatchCoalesces makes bundles without a reader of the stream; the events tell fewer, and the last one.
func TestWatchCoalesces(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	lines := d.events(t.Context(), "")
	expect(t, lines, ": watching")
	const n = 30
	for i := range n {
		d.push(userRow("INSERT", i, 0, "x"))
	}
	events, last := 0, ""
	for !strings.Contains(last, `"bundle_seq":30,`) {
		select {
		case line := <-lines:
			if strings.HasPrefix(line, "data: ") {
				events++
				last = line
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("the last event is %q", last)
		}
	}
	if events > n {
		t.Errorf("%d events for %d bundles", events, n)
	}
}
