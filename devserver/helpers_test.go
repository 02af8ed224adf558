package devserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/oversqlite/oversqlite/devserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
	os.Exit(0) // not reached: VerifyTestMain exits
}

type object = map[string]any

// clock is a settable clock.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// start runs a server behind HTTP until the test ends. Without Dir it is in memory.
func start(t testing.TB, cfg devserver.Config) (*devserver.Server, *httptest.Server) {
	t.Helper()
	cfg.InMemory = cfg.Dir == ""
	s, err := devserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return s, web
}

// device is a source of a user.
type device struct {
	t      testing.TB
	web    *httptest.Server
	token  string
	source string
	next   int64
}

func newDevice(t testing.TB, s *devserver.Server, web *httptest.Server, user, source string) *device {
	t.Helper()
	token, err := s.IssueToken(user)
	if err != nil {
		t.Fatal(err)
	}
	return &device{t: t, web: web, token: token, source: source, next: 1}
}

// try sends a request; body is JSON text or a value.
func (d *device) try(method, path string, body any) (int, []byte, http.Header, error) {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = bytes.NewReader([]byte(b))
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			d.t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.web.URL+path, reader)
	if err != nil {
		d.t.Fatal(err)
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	if d.source != "" {
		req.Header.Set("Oversync-Source-ID", d.source)
	}
	resp, err := d.web.Client().Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, raw, resp.Header, err
}

// do sends a request and wants a status, and for an error its code.
func (d *device) do(method, path string, body any, status int, code string) object {
	d.t.Helper()
	got, raw, _, err := d.try(method, path, body)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	answer := object{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &answer); err != nil {
			d.t.Fatalf("%s %s: %d %s: %v", method, path, got, raw, err)
		}
	}
	if have, _ := answer["error"].(string); got != status || have != code {
		d.t.Fatalf("%s %s: want %d %q, got %d %.400s", method, path, status, code, got, raw)
	}
	return answer
}

func (d *device) connect(pending bool) object {
	d.t.Helper()
	return d.do("POST", "/sync/connect", object{"has_local_pending_rows": pending}, 200, "")
}

// stage creates a push session for the device's next tuple and sends its rows, and returns its id.
func (d *device) stage(lease string, rows ...object) string {
	d.t.Helper()
	create := object{"source_bundle_id": d.next, "planned_row_count": len(rows)}
	if lease != "" {
		create["initialization_id"] = lease
	}
	id, _ := d.do("POST", "/sync/push-sessions", create, 200, "")["push_id"].(string)
	for at := 0; at < len(rows); at += 1000 {
		d.do("POST", "/sync/push-sessions/"+id+"/chunks", object{"start_row_ordinal": at, "rows": rows[at:min(at+1000, len(rows))]}, 200, "")
	}
	return id
}

// push commits rows and returns the commit's answer.
func (d *device) push(rows ...object) object {
	d.t.Helper()
	answer := d.do("POST", "/sync/push-sessions/"+d.stage("", rows...)+"/commit", nil, 200, "")
	d.next++
	return answer
}

// refused stages rows and wants their commit refused.
func (d *device) refused(status int, code string, rows ...object) object {
	d.t.Helper()
	return d.do("POST", "/sync/push-sessions/"+d.stage("", rows...)+"/commit", nil, status, code)
}

// rows returns "table op key" of a committed bundle's rows.
func (d *device) rows(seq int) []string {
	d.t.Helper()
	var out []string
	for _, r := range list(d.do("GET", fmt.Sprintf("/sync/committed-bundles/%d/rows", seq), nil, 200, "")["rows"]) {
		key, _ := r["key"].(object)
		out = append(out, fmt.Sprintf("%v %v %v", r["table"], r["op"], key["id"]))
	}
	return out
}

func list(v any) []object {
	items, _ := v.([]any)
	out := make([]object, len(items))
	for i, item := range items {
		out[i], _ = item.(object)
	}
	return out
}

func uid(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-%012d", n, n) }

// row is a pushed row of schema business.
func row(table, op string, key string, base int, payload object) object {
	r := object{"schema": "business", "table": table, "key": object{"id": key}, "op": op, "base_row_version": base}
	if payload != nil {
		payload["id"] = key
		r["payload"] = payload
	}
	return r
}

const when = "2026-03-24T18:42:11+00:00"

func userRow(op string, n, base int, name string) object {
	return row("users", op, uid(n), base, object{"name": name, "email": fmt.Sprintf("u%d@example.com", n), "created_at": when, "updated_at": when})
}
