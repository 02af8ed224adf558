package devserver_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/devserver"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	pull := func() (int, string, http.Header, error) {
		status, raw, header, err := d.try("GET", "/sync/pull", nil)
		return status, string(raw), header, err
	}
	const whole = `{"stable_bundle_seq":0,"bundles":[],"has_more":false}`
	fine := func() {
		t.Helper()
		if status, body, _, err := pull(); status != 200 || body != whole || err != nil {
			t.Errorf("%d %s %v", status, body, err)
		}
	}

	s.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Times: 1, Skip: 1, Status: 503, RetryAfter: 1500 * time.Millisecond})
	fine()
	if status, body, header, _ := pull(); status != 503 || header.Get("Retry-After") != "2" || !strings.Contains(body, `"error":"injected_fault"`) {
		t.Error(status, body, header)
	}
	fine()

	s.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Times: 1, Status: 429, RetryAfter: time.Minute, RetryAfterDate: true, Code: "slow_down"})
	status, body, header, _ := pull()
	if at, err := http.ParseTime(header.Get("Retry-After")); status != 429 || err != nil || time.Until(at) < 55*time.Second || !strings.Contains(body, `"error":"slow_down"`) {
		t.Error(status, body, header)
	}

	s.Inject(devserver.Fault{Times: 1, Status: 502, Body: []byte("<html>Bad Gateway</html>")})
	if status, body, _, _ := pull(); status != 502 || body != "<html>Bad Gateway</html>" {
		t.Error(status, body)
	}

	cut := s.Inject(devserver.Fault{CutBefore: true, Delay: time.Millisecond}) // every time: the HTTP client repeats a GET by itself
	if _, _, _, err := pull(); err == nil {
		t.Error("the connection was not cut")
	}
	cut.Remove()
	s.Inject(devserver.Fault{Times: 1, TruncateBody: 20})
	if _, body, _, err := pull(); err == nil || body != whole[:20] {
		t.Errorf("%q %v", body, err)
	}
	s.Inject(devserver.Fault{Times: 1, TruncateBody: 1000})
	fine()
	s.Inject(devserver.Fault{Times: 1, Delay: time.Millisecond})
	fine()
	s.Inject(devserver.Fault{Times: 1, Corrupt: func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("false"), []byte("true")) }})
	if status, body, header, _ := pull(); status != 200 || body != strings.ReplaceAll(whole, "false", "true") || header.Get("Content-Type") != "application/json" {
		t.Error(status, body, header)
	}
	fine()

	forUser := s.Inject(devserver.Fault{UserID: "u", Method: "GET", Status: 500})
	newDevice(t, s, web, "v", "s").do("GET", "/sync/capabilities", nil, 200, "")
	d.connect(false)
	d.do("GET", "/sync/capabilities", nil, 500, "injected_fault")
	d.do("GET", "/sync/pull", nil, 500, "injected_fault")
	if forUser.Hits() != 2 {
		t.Error(forUser.Hits())
	}
	forUser.Remove()
	fine()
}

// TestFaultsAfterProcessing loses answers of commits that were made.
func TestFaultsAfterProcessing(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{Faults: []devserver.Fault{{Endpoint: devserver.EndpointPushCommit, Times: 1, CutAfter: true}}})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	id := d.stage("", userRow("INSERT", 1, 0, "x"))
	if _, _, _, err := d.try("POST", "/sync/push-sessions/"+id+"/commit", nil); err == nil {
		t.Error("the connection was not cut")
	}
	if again := d.do("POST", "/sync/push-sessions", object{"source_bundle_id": 1, "planned_row_count": 1}, 200, ""); again["status"] != "already_committed" {
		t.Error(again)
	}
	d.next = 2
	s.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Times: 1, Status: 504, AfterProcessing: true})
	d.refused(504, "injected_fault", userRow("INSERT", 2, 0, "x"))
	if info, _ := s.Scope(t.Context(), "u"); info.LastBundleSeq != 2 {
		t.Error(info)
	}
}

// TestFaultChance draws the same requests for the same seed.
func TestFaultChance(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) string {
		s, web := start(t, devserver.Config{Seed: seed})
		s.Inject(devserver.Fault{Probability: 0.3, Status: 500})
		var out strings.Builder
		for range 60 {
			status, _, _, err := (&device{t: t, web: web}).try("GET", "/syncx/health", nil)
			if err != nil {
				t.Fatal(err)
			}
			out.WriteByte("0123456789"[status/100])
		}
		return out.String()
	}
	one := draw(7)
	if n := strings.Count(one, "5"); n < 5 || n > 35 {
		t.Error(one)
	}
	if draw(7) != one || draw(8) == one {
		t.Error("the seed does not decide")
	}
}

// TestDelayEnds with the request, and with the server.
func TestDelayEnds(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	slow := s.Inject(devserver.Fault{Delay: time.Hour})
	hits := func(n int64) {
		for slow.Hits() < n {
			<-time.After(time.Millisecond)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		hits(1) // the client gives up once the server has the request
		cancel()
	}()
	req, _ := http.NewRequestWithContext(ctx, "GET", web.URL+"/syncx/health", nil)
	if resp, err := web.Client().Do(req); err == nil {
		resp.Body.Close()
		t.Error("answered")
	}
	ended := make(chan error, 1)
	go func() {
		resp, err := web.Client().Get(web.URL + "/syncx/health")
		if err == nil {
			resp.Body.Close()
		}
		ended <- err
	}()
	hits(2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("answered after Close")
	}
}

// TestCutWatch truncates a stream.
func TestCutWatch(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{HeartbeatInterval: time.Millisecond})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	s.Inject(devserver.Fault{Endpoint: devserver.EndpointWatch, Times: 1, TruncateBody: 40})
	n := 0
	for range d.events(t.Context(), "") {
		n++
	}
	if n < 2 || n > 4 {
		t.Errorf("%d lines of the cut stream", n)
	}
}
