package actors

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
)

// bearer adds a token to every request.
type bearer struct {
	base  http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.base.RoundTrip(r)
}

// TestWatchingARealServer watches a server over HTTP, which cuts the stream, comes back, goes away and forgets the account.
func TestWatchingARealServer(t *testing.T) {
	t.Parallel()
	server, err := devserver.New(devserver.Config{InMemory: true, HeartbeatInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	web := httptest.NewServer(server.Handler())
	defer web.Close()
	token, err := server.IssueToken("u")
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	client, err := transport.New(transport.Config{BaseURL: web.URL, HTTPClient: &http.Client{Transport: bearer{base, token}}})
	if err != nil {
		t.Fatal(err)
	}
	write := func(n int) {
		t.Helper()
		err := server.ExecWrite(t.Context(), "u", "other", func(tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO users (id, name, email) VALUES (?, 'n', ?)`, fmt.Sprintf("00000000-0000-4000-8000-%012d", n), fmt.Sprint(n))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write(1)

	system := newSystem()
	defer system.Shutdown()
	db := &fakeDB{state: attached(0)}
	p := &parent{heard: make(chan messages.Session, 100), ready: make(chan *actor.PID, 1), failed: make(chan any, 1)}
	p.spawn = func(c actor.Context) *actor.PID {
		n := &network{client: client, log: noLog}
		writer := c.Spawn(writerProps(noLog, &n.world, func(context.Context) (database, error) { return db, nil }))
		c.Request(writer, messages.Do{Command: messages.OpenDatabase{}})
		retry := RetryConfig{Initial: time.Millisecond, Max: 20 * time.Millisecond, Multiplier: 2}
		return c.Spawn(watcherProps(ownerConfig{log: noLog, retry: retry, network: n, writer: writer}))
	}
	root := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return p }))
	watcher := <-p.ready
	defer func() {
		if err := system.Root.StopFuture(root).Wait(); err != nil {
			t.Error(err)
		}
	}()

	next := func() messages.Session {
		t.Helper()
		select {
		case m := <-p.heard:
			return m
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is told")
			return nil
		}
	}
	mustHear := func(want ...messages.Session) {
		t.Helper()
		for _, w := range want {
			if m := next(); m != w {
				t.Fatalf("told %+v, want %+v", m, w)
			}
		}
	}
	lost := func() {
		t.Helper()
		if m, ok := next().(messages.WatchLost); !ok || m.Epoch != 1 || m.Err == nil {
			t.Fatalf("told %+v", m)
		}
	}

	system.Root.Send(watcher, messages.Watch{Epoch: 1})
	mustHear(messages.WatchOpened{Epoch: 1}, messages.WatchHint{Epoch: 1, Seq: 1}) // behind: told at once
	write(2)
	mustHear(messages.WatchHint{Epoch: 1, Seq: 2})

	// Cut in the middle, and opened again: from the checkpoint, which has not moved.
	web.CloseClientConnections()
	lost()
	for m := next(); m != (messages.WatchOpened{Epoch: 1}); m = next() {
		if _, again := m.(messages.WatchLost); !again {
			t.Fatalf("told %+v", m)
		}
	}
	mustHear(messages.WatchHint{Epoch: 1, Seq: 2})

	// A bundle that comes while nobody listens is told when somebody does.
	fault := server.Inject(devserver.Fault{Endpoint: devserver.EndpointWatch, Times: 1, Status: 503, Code: "service_unavailable", RetryAfter: time.Second})
	web.CloseClientConnections()
	lost()
	write(3)
	for m := next(); m != (messages.WatchOpened{Epoch: 1}); m = next() {
		if _, again := m.(messages.WatchLost); !again {
			t.Fatalf("told %+v", m)
		}
	}
	mustHear(messages.WatchHint{Epoch: 1, Seq: 3})
	if fault.Hits() != 1 {
		t.Errorf("%d refusals", fault.Hits())
	}

	// The account is gone: so is the watch, for good.
	if err := server.Forget("u"); err != nil {
		t.Fatal(err)
	}
	for m := next(); ; m = next() {
		if _, again := m.(messages.WatchLost); again {
			continue
		}
		refused, ok := m.(messages.WatchRefused)
		if !ok {
			t.Fatalf("told %+v", m)
		}
		if e := mustBe[*messages.AttachRequiredError](t, refused.Err); e.Reason != "scope_uninitialized" {
			t.Errorf("refused: %v", e)
		}
		break
	}
}
