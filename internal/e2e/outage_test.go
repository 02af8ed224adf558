package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/internal/race"
)

// outage is a way in which a server is not there.
type outage struct {
	name  string
	storm func(*http.Request) (*http.Response, error)
	// takes is how long one request takes, floor how long the server asks to be left alone.
	takes, floor time.Duration
	// drained is how long after its end the last row has arrived, at the latest, if nobody tells the engine.
	drained time.Duration
}

var outages = []outage{
	{"refused", func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}, 0, 0, time.Minute + time.Second},
	{"silent", func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}, 10 * time.Second, 0, time.Minute + 11*time.Second},
	{"busy", func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			Status: "503", StatusCode: http.StatusServiceUnavailable, ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Retry-After": {"30"}, "Content-Type": {"application/json"}},
			Body:   io.NopCloser(strings.NewReader(`{"error":"service_unavailable","message":"later"}`)), ContentLength: -1,
		}, nil
	}, 0, 30 * time.Second, 2*time.Minute + time.Second}, // what is asked of it is scattered by up to a minute
}

// attempts is how many requests an engine makes in so long an outage that backs off as Config.Retry says by default, all
// delays being nominal.
func (o *outage) attempts(length time.Duration) int {
	n, delay := 0, 500*time.Millisecond
	for at := time.Duration(0); at < length; n++ {
		at += o.takes + max(delay, o.floor)
		delay = min(2*delay, time.Minute)
	}
	return n
}

// TestOutage takes the server away for ten minutes of virtual time, in several ways, while the application goes on
// writing. The engine asks now and then, says all the while what it waits for, and sends everything when the server is back.
func TestOutage(t *testing.T) {
	for _, o := range outages {
		for _, kicked := range []bool{false, true} {
			name := o.name
			if kicked {
				name += " and kicked"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { o.run(t, kicked) })
			})
		}
	}
}

func (o *outage) run(t *testing.T, kicked bool) {
	const length = 10 * time.Minute
	writes := 200
	if race.Enabled {
		writes = 10
	}
	v := newVirtual(t)
	start(t, v.engine, virtualUser)
	reaches(t, v.engine, func(s *oversqlite.Status) bool { return s.Reason == "watching for changes" })

	before, _ := v.weather.seen()
	v.weather.change(o.storm)
	v.wires.cut() // the watch stream, too
	begun := time.Now()
	written, lastWrite := 0, begun
	for i := 0; time.Since(begun) < length; i++ {
		if i%10 == 0 && written < writes { // a row a second, for as long as there are any
			if _, err := v.engine.DB().Exec(`INSERT INTO users (id, name, email) VALUES (?, 'n', ?)`,
				fmt.Sprintf("00000000-0000-4000-8000-%012d", i), fmt.Sprint(i, "@example.com")); err != nil {
				t.Fatal(err)
			}
			written++
			lastWrite = time.Now()
		}
		<-time.After(100 * time.Millisecond)
		synctest.Wait()
		o.check(t, v, written, time.Since(lastWrite), time.Since(begun))
	}
	asked, _ := v.weather.seen()
	asked -= before
	// One asks at a time; which attempts fall into the outage is left to chance.
	if ideal := o.attempts(length); asked > ideal+ideal/4+2 || asked < ideal/2 {
		t.Errorf("%d requests during the outage, the ideal is %d", asked, ideal)
	}

	if kicked {
		// Kick ends delays; a request under way has to fail before there is one.
		for _, inFlight := v.weather.seen(); inFlight > 0; _, inFlight = v.weather.seen() {
			<-time.After(100 * time.Millisecond)
			synctest.Wait()
		}
	}
	v.weather.change(nil)
	over := time.Now()
	limit := o.drained
	if kicked {
		limit = time.Second
		v.engine.Kick()
	}
	for v.rows(t) < written || v.engine.Status().Pending.Rows > 0 {
		if time.Since(over) > limit {
			t.Fatalf("not drained %v after the outage: %d rows; %+v", time.Since(over), v.rows(t), v.engine.Status())
		}
		<-time.After(100 * time.Millisecond)
		synctest.Wait()
	}
	drained := time.Since(over)
	all, _ := v.weather.seen()
	t.Logf("%d requests in %v of outage, the ideal for one that asks is %d; %d rows drained %v after it, with %d requests",
		asked, length, o.attempts(length), written, drained, all-before-asked)
	<-time.After(2*time.Minute + time.Second)
	synctest.Wait()
	if s := v.engine.Status(); s.Reason != "watching for changes" || s.LastError != nil || s.Attempt != 0 {
		t.Errorf("after all: %+v", s)
	}
}

// check checks what the engine says of itself during an outage, at a moment at which it does nothing but wait.
func (o *outage) check(t *testing.T, v *virtual, written int, sinceWrite, since time.Duration) {
	t.Helper()
	s := v.engine.Status()
	_, inFlight := v.weather.seen()
	wrong := ""
	switch {
	case s.AttachedUser != virtualUser:
		wrong = "not attached"
	case inFlight == 0 && !s.WaitingUntil.After(time.Now()):
		wrong = "neither a request nor a moment that is waited for"
	case inFlight == 0 && time.Until(s.WaitingUntil) > 2*time.Minute:
		wrong = "it waits for too long"
	case s.Phase == "" || s.Reason == "":
		wrong = "no phase or no reason"
	case !s.WaitingUntil.IsZero() && s.Attempt > 0 && !slices.Contains(s.WokenBy, oversqlite.WakerKick):
		wrong = "it waits to repeat, and Kick would not end it"
	case since > o.takes+2*time.Second && s.LastError == nil:
		wrong = "no error"
	case sinceWrite > time.Second && s.Pending.Rows != int64(written):
		wrong = fmt.Sprintf("%d rows are pending", written)
	case s.Pending.Rows > int64(written) || s.Pending.Rows < int64(written)-2:
		wrong = fmt.Sprintf("%d rows are pending, or few less", written)
	}
	if wrong != "" {
		t.Fatalf("%v into the outage, with %d requests under way: %s; %+v", since, inFlight, wrong, s)
	}
}

// rows counts the users on the server.
func (v *virtual) rows(t *testing.T) int {
	t.Helper()
	rows, err := v.server.Rows(t.Context(), virtualUser, "users")
	if err != nil {
		t.Fatal(err)
	}
	return len(rows)
}
