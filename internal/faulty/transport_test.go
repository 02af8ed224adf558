package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const body = `{"stable_bundle_seq":0,"bundles":[],"has_more":false}`

// network returns a faulty network to a server that counts what it gets.
func network(t *testing.T, seed uint64) (tr *Transport, get func(path string) (int, string, error), served *atomic.Int32) {
	t.Helper()
	served = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		sent, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPost && string(sent) != "sent" {
			t.Errorf("the server got %q", sent)
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	tr = New(server.Client().Transport, seed)
	client := &http.Client{Transport: tr}
	get = func(path string) (int, string, error) {
		method, sent := http.MethodGet, ""
		if strings.Contains(path, "push-sessions") {
			method, sent = http.MethodPost, "sent"
		}
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	return tr, get, served
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault  Fault
		served int32
		ok     func(status int, got string, err error) bool
	}{
		{Fault{}, 1, func(_ int, got string, err error) bool { return err == nil && got == body }},
		{Fault{Kind: Refuse}, 0, func(_ int, _ string, err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		{Fault{Kind: Lose}, 1, func(_ int, _ string, err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{Fault{Kind: Delay, Delay: time.Millisecond}, 1, func(_ int, got string, err error) bool { return err == nil && got == body }},
		{Fault{Kind: Cut, Bytes: 5}, 1, func(_ int, got string, err error) bool {
			return errors.Is(err, io.ErrUnexpectedEOF) && got == body[:5]
		}},
		{Fault{Kind: Cut, Bytes: 5000}, 1, func(_ int, got string, err error) bool {
			return errors.Is(err, io.ErrUnexpectedEOF) && got == body
		}},
		{Fault{Kind: Status, Status: 503, RetryAfter: "1"}, 0, func(status int, got string, err error) bool { return status == 503 && got == "" && err == nil }},
		{Fault{Kind: Overrule, Status: 504, Body: "x"}, 1, func(status int, got string, err error) bool { return status == 504 && got == "x" && err == nil }},
		{Fault{Kind: WrongBody, Body: "<html>"}, 1, func(status int, got string, err error) bool {
			return status == 200 && got == "<html>" && err == nil
		}},
		{Fault{Kind: Duplicate}, 2, func(_ int, got string, err error) bool { return err == nil && got == body }},
	} {
		t.Run(c.fault.Kind.String(), func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/x/sync/pull?after=1", "/x/sync/push-sessions/p/commit"} {
				tr, get, served := network(t, 1)
				var before, after int
				c.fault.BeforeSend = func(*http.Request) { before = int(served.Load()) + 1 }
				c.fault.BeforeAnswer = func(*http.Request) { after = int(served.Load()) + 1 }
				tr.Inject(Any, 1, c.fault)
				status, got, err := get(path)
				if !c.ok(status, got, err) || served.Load() != c.served {
					t.Errorf("status %d, body %q, %v; served %d", status, got, err, served.Load())
				}
				if before != 1 || after != int(c.served)+1 {
					t.Errorf("called before sending: %d, before the answer: %d", before, after)
				}
				want := 1
				if c.fault.Kind == None {
					want = 0
				}
				if n := tr.Faults(Any, c.fault.Kind); n != want {
					t.Errorf("%d faults are counted", n)
				}
				if _, got, err := get(path); err != nil || got != body {
					t.Errorf("the fault goes on: %q, %v", got, err)
				}
				if tr.Requests(Any) != 2 || tr.Requests(Connect) != 0 {
					t.Errorf("%d requests are counted", tr.Requests(Any))
				}
			}
		})
	}
}

func TestOrdersGoToTheirEndpoint(t *testing.T) {
	t.Parallel()
	tr, get, _ := network(t, 1)
	tr.InjectAfter(Pull, 1, 2, Fault{Kind: Refuse})
	tr.Inject(Pull, 1, Fault{Kind: Status, Status: 500})
	var got []string
	for range 5 {
		status, _, err := get("/sync/pull")
		got = append(got, fmt.Sprint(status, err != nil))
		if _, _, err := get("/sync/watch"); err != nil {
			t.Errorf("a fault of another endpoint: %v", err)
		}
	}
	if want := []string{"200 false", "0 true", "0 true", "500 false", "200 false"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if tr.Faults(Pull, Refuse) != 2 || tr.Faults(Pull, Status) != 1 || tr.Faults(Watch, Refuse) != 0 {
		t.Error("the faults are counted wrong")
	}
	tr.Inject(Any, 100, Fault{Kind: Refuse})
	tr.Random(1)
	tr.Heal()
	if _, _, err := get("/sync/pull"); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

// The same seed brings the same faults to an endpoint, whatever happens at the others; every kind turns up.
func TestRandomFaultsFollowTheSeed(t *testing.T) {
	t.Parallel()
	drawn := func(seed uint64, noise int) (kinds []Kind) {
		tr := New(nil, seed)
		tr.Random(0.3)
		for range 2000 {
			kinds = append(kinds, tr.next(Pull).Kind)
			for range noise {
				tr.next(Connect)
			}
		}
		return kinds
	}
	first := drawn(7, 0)
	if !slices.Equal(first, drawn(7, 3)) {
		t.Error("requests to another endpoint change what happens")
	}
	if slices.Equal(first, drawn(8, 0)) {
		t.Error("the seed does not matter")
	}
	count := map[Kind]int{}
	for _, k := range first {
		count[k]++
	}
	for _, k := range Every {
		if count[k] == 0 {
			t.Errorf("no %v among 2000 requests", k)
		}
	}
	if faults := 2000 - count[None]; faults < 500 || faults > 700 {
		t.Errorf("%d faults among 2000 requests at a rate of 0.3", faults)
	}
	only := New(nil, 1)
	only.Random(1, Lose)
	if k := only.next(Pull).Kind; k != Lose {
		t.Errorf("%v", k)
	}
}

func TestDelayEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := New(nil, 1)
		tr.Inject(Any, 1, Fault{Kind: Delay, Delay: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://sync.test/sync/pull", nil)
		if _, err := tr.RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestEndpointOf(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]Endpoint{
		"GET /sync/capabilities":                 Capabilities,
		"POST /a/b/sync/connect":                 Connect,
		"POST /sync/push-sessions":               CreatePush,
		"POST /sync/push-sessions/x/chunks":      PushChunk,
		"POST /sync/push-sessions/x/commit":      CommitPush,
		"DELETE /sync/push-sessions/x":           DeletePush,
		"GET /sync/committed-bundles/9/rows?a=1": CommittedRows,
		"GET /sync/pull?a=1":                     Pull,
		"POST /sync/snapshot-sessions":           CreateSnapshot,
		"GET /sync/snapshot-sessions/x":          SnapshotPage,
		"DELETE /sync/snapshot-sessions/x":       DeleteSnapshot,
		"GET /sync/watch":                        Watch,
		"GET /sync/else":                         Other,
		"POST /dummy-signin":                     Other,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := EndpointOf(httptest.NewRequest(method, path, nil)); got != want {
			t.Errorf("%s: %q, want %q", request, got, want)
		}
	}
}
