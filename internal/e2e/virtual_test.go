package e2e

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/devserver"
)

// This file makes whole worlds in virtual time (testing/synctest): the engine with its database, the server, and HTTP
// between them over pipes. Nothing in it is faked but the time and the wires.

// wires is a network within a bubble.
type wires struct {
	calls chan net.Conn
	done  chan struct{}

	mu  sync.Mutex
	far []net.Conn // the server's ends
}

func newWires() *wires { return &wires{calls: make(chan net.Conn), done: make(chan struct{})} }

func (w *wires) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.calls <- far:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.far = append(w.far, far)
		return near, nil
	case <-w.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cut ends every connection.
func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.far {
		_ = c.Close()
	}
	w.far = nil
}

func (w *wires) Accept() (net.Conn, error) {
	select {
	case c := <-w.calls:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

func (w *wires) Close() error {
	close(w.done)
	return nil
}

func (w *wires) Addr() net.Addr { return &net.UnixAddr{} }

// virtual is a server and one device of a user's, in a bubble.
type virtual struct {
	server  *devserver.Server
	wires   *wires
	weather *weather
	engine  *oversqlite.Engine
}

const virtualUser = "virtual"

// newVirtual makes a world with an engine that is open and attached. It ends with the test.
func newVirtual(t *testing.T) *virtual {
	t.Helper()
	server, err := devserver.New(devserver.Config{InMemory: true, TokenTTL: 1000 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	v := &virtual{server: server, wires: newWires()}
	web := &http.Server{Handler: server.Handler()}
	served := make(chan error, 1)
	go func() { served <- web.Serve(v.wires) }()
	conns := &http.Transport{DialContext: v.wires.dial}
	v.weather = &weather{next: conns}
	token, err := server.IssueToken(virtualUser)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "device.db")
	if err := createSchema(path); err != nil {
		t.Fatal(err)
	}
	// A name of its own: engines of one process that ask the same server share what they know of it.
	host := strings.NewReplacer("/", ".", " ", "-", "_", "-").Replace(strings.ToLower(t.Name()))
	cfg := engineConfig(path, "http://"+host, token, v.weather)
	cfg.Retry = oversqlite.RetryConfig{} // the defaults
	cfg.Limits.RequestIdle = 10 * time.Second
	system := actors.NewSystem(zap.NewNop())
	cfg.System = system
	if v.engine, err = oversqlite.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = v.engine.Close()
		conns.CloseIdleConnections()
		if err := errors.Join(web.Close(), server.Close()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		shutDown(system)
	})
	if err := v.engine.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	attach(t.Context(), t, v.engine, virtualUser)
	return v
}

// shutDown ends an actor system within a bubble.
func shutDown(system *actor.ActorSystem) {
	system.Shutdown()
	<-time.After(2 * time.Second) // what is told to nobody makes the system count for a second
}

// weather stands between an engine and its server, and lets the one or the other storm pass.
type weather struct {
	next http.RoundTripper

	mu       sync.Mutex
	storm    func(*http.Request) (*http.Response, error) // nil: fair
	requests []time.Time
	inFlight int
}

func (w *weather) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	storm := w.storm
	w.requests = append(w.requests, time.Now())
	w.inFlight++
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.inFlight--
	}()
	if storm == nil {
		return w.next.RoundTrip(r)
	}
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return storm(r)
}

func (w *weather) change(storm func(*http.Request) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.storm = storm
}

// seen returns how many requests there have been, and how many are under way.
func (w *weather) seen() (requests, inFlight int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.requests), w.inFlight
}
