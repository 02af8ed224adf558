package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"http://a", "https://a:8443/x/y/", "http://[::1]:80", "https://user:pw@a/%2Fx/"} {
		if _, err := New(Config{BaseURL: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "a", "/x", "ftp://a", "http://", "http:///x", "http:a", "https://a?token=secret", "https://a?", "https://a#secret",
		"http://u:secret@a b", "http://a:secret", "\x7f", "unix:///run/secret",
	} {
		_, err := New(Config{BaseURL: bad})
		var address *BaseURLError
		if !errors.As(err, &address) || address.Retryable() {
			t.Errorf("%q: %v", bad, err)
			continue
		}
		if strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), "u:secret") {
			t.Errorf("%q is quoted with its secret: %v", bad, err)
		}
	}
}

func TestErrorsShowNoSecrets(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/cut") {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Query().Get("token") == "" {
			http.Redirect(w, r, "/cut?token=hush", http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(server.Close)
	withUser := strings.Replace(server.URL, "http://", "http://alice:hush@", 1)
	gone := httptest.NewServer(nil)
	gone.Close()
	k := contract()

	for name, base := range map[string]string{
		"redirected": withUser,
		"refused":    strings.Replace(gone.URL, "http://", "http://alice:hush@", 1),
	} {
		client := newClient(t, Config{BaseURL: base, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
		_, err := client.Pull(context.Background(), k, "source", wire.PullRequest{After: 1, MaxBundles: 1})
		if Classify(err).Class != Transient {
			t.Errorf("%s: %v", name, err)
		}
		if text := err.Error(); strings.Contains(text, "hush") || strings.Contains(text, "alice") || strings.Contains(text, "token") {
			t.Errorf("%s: the error gives something away: %s", name, text)
		}
	}
}

func TestNetworkFailuresAreTransient(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"refused":    &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"reset":      &net.OpError{Op: "read", Err: syscall.ECONNRESET},
		"name":       &net.DNSError{Err: "no such host", Name: "sync.test", IsNotFound: true},
		"whatever":   errors.New("the token endpoint is down"),
		"short read": io.ErrUnexpectedEOF,
	} {
		client := inMemory(t, func(*http.Request) (*http.Response, error) { return nil, cause })
		err := connect(client)
		var network *NetworkError
		if !errors.As(err, &network) || !errors.Is(err, cause) || network.Timeout || Classify(err).Class != Transient {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCertificatesAndSchemesArePermanent(t *testing.T) {
	t.Parallel()
	quiet := func(s *httptest.Server) { s.Config.ErrorLog = discard }
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	quiet(secure)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)

	for name, base := range map[string]string{
		"unknown authority":  secure.URL,
		"TLS to a plain one": strings.Replace(plain.URL, "http:", "https:", 1),
	} {
		client := newClient(t, Config{BaseURL: base, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
		err := connect(client)
		var address *AddressError
		if !errors.As(err, &address) || Classify(err).Class != WrongAddress || address.Status != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever a network that wants to be signed in to, or a site that is not the server, puts in place of an answer: that it is
// no answer is what there is to say of it.
func TestAWebPageIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, media := range []string{"text/html", "Text/HTML; charset=utf-8"} {
		client := inMemory(t, func(*http.Request) (*http.Response, error) {
			resp := answer(200, "<html>Sign in to the Wi-Fi</html>")
			resp.Header.Set("Content-Type", media)
			return resp, nil
		})
		err := connect(client)
		var address *AddressError
		if !errors.As(err, &address) || address.Status != 200 || Classify(err).Class != WrongAddress || !strings.Contains(err.Error(), "web page") {
			t.Errorf("%s: %v", media, err)
		}
	}
}

// A server that never answers is given up; a slow one that keeps sending is not.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := inMemory(t, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		start := time.Now()
		err := connect(client)
		var network *NetworkError
		if !errors.As(err, &network) || !network.Timeout || Classify(err).Class != Transient {
			t.Errorf("%v", err)
		}
		if waited := time.Since(start); waited != DefaultIdleTimeout {
			t.Errorf("given up after %v", waited)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		client := inMemory(t, func(r *http.Request) (*http.Response, error) {
			rest := initializeEmpty
			slow := readerFunc(func(p []byte) (int, error) {
				time.Sleep(DefaultIdleTimeout - time.Second)
				if err := r.Context().Err(); err != nil {
					return 0, err
				}
				if rest == "" {
					return 0, io.EOF
				}
				n := copy(p[:1], rest)
				rest = rest[n:]
				return n, nil
			})
			return &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: io.NopCloser(slow), ContentLength: -1}, nil
		})
		if err := connect(client); err != nil {
			t.Errorf("a slow answer was cut: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		client := inMemory(t, func(r *http.Request) (*http.Response, error) {
			for {
				time.Sleep(DefaultIdleTimeout - time.Second)
				if _, err := r.Body.Read(make([]byte, 1)); err != nil {
					break
				}
			}
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return answer(200, initializeEmpty), nil
		})
		if err := connect(client); err != nil {
			t.Errorf("a slow upload was cut: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		client := inMemory(t, func(*http.Request) (*http.Response, error) {
			time.Sleep(24 * time.Hour)
			return answer(200, initializeEmpty), nil
		}, func(c *Config) { c.IdleTimeout = -1 })
		if err := connect(client); err != nil {
			t.Errorf("a timeout that was turned off: %v", err)
		}
	})
}

// Whoever asks learns when something of a request last moved, whatever the timeout is.
func TestActivity(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			var a Activity
			moved := func(when string, want time.Duration) {
				t.Helper()
				if got := a.Last().Sub(begun); got != want {
					t.Errorf("%s: something has moved at %v, want %v", when, got, want)
				}
			}
			client := inMemory(t, func(r *http.Request) (*http.Response, error) {
				if !a.Last().IsZero() {
					t.Error("something has moved before the request was made")
				}
				time.Sleep(time.Second)
				_, _ = r.Body.Read(make([]byte, 1))
				moved("the body is read", time.Second)
				time.Sleep(time.Second)
				body := strings.NewReader(initializeEmpty)
				length := int64(body.Len())
				slow := readerFunc(func(p []byte) (int, error) {
					moved("the answer is there", 2*time.Second)
					time.Sleep(time.Second)
					return body.Read(p)
				})
				return &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: io.NopCloser(io.LimitReader(slow, length)), ContentLength: length}, nil
			}, func(c *Config) { c.IdleTimeout = timeout })
			if _, err := client.Connect(WithActivity(t.Context(), &a), contract(), "source", true); err != nil {
				t.Fatal(err)
			}
			moved("all is read", 3*time.Second)
		})
	}
}

// The client's own total timeout is a network failure, not the caller's doing.
func TestClientTimeoutIsTransient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t, Config{BaseURL: "http://sync.test", HTTPClient: &http.Client{
			Timeout: time.Second,
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}),
		}})
		err := connect(client)
		var network *NetworkError
		if !errors.As(err, &network) || !network.Timeout || Classify(err).Class != Transient {
			t.Errorf("%v", err)
		}
	})
}

func TestCallerEndsItsRequest(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"resolution":`)
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		<-release
	})
	defer close(release)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := client.Connect(ctx, contract(), "source", false)
	if !errors.Is(err, context.Canceled) || Classify(err).Class != Canceled {
		t.Errorf("%v", err)
	}
	if _, err = client.Connect(ctx, contract(), "source", false); Classify(err).Class != Canceled {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(w, initializeEmpty)
	}))
	t.Cleanup(other.Close)
	handler := http.NewServeMux()
	handler.HandleFunc("/moved/sync/connect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/here/sync/connect", http.StatusTemporaryRedirect)
	})
	handler.HandleFunc("/here/sync/connect", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || string(body) != `{"has_local_pending_rows":true}` || r.Header.Get("Oversync-Source-ID") != "source" {
			t.Errorf("after the redirect: %s %s %v", r.Method, body, r.Header)
		}
		_, _ = io.WriteString(w, initializeEmpty)
	})
	handler.HandleFunc("/found/sync/connect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/here/sync/connect", http.StatusFound) // a POST becomes a GET by this
	})
	handler.HandleFunc("/away/sync/connect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/sync/connect", http.StatusPermanentRedirect)
	})
	handler.HandleFunc("/round/sync/connect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/round/sync/connect", http.StatusTemporaryRedirect)
	})
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)

	ask := func(prefix string, client *http.Client) error {
		_, err := newClient(t, Config{BaseURL: server.URL + prefix, HTTPClient: client}).Connect(context.Background(), contract(), "source", true)
		return err
	}
	if err := ask("/moved", server.Client()); err != nil {
		t.Errorf("a redirect on the same server: %v", err)
	}
	for _, prefix := range []string{"/found", "/away", "/round"} {
		if err := ask(prefix, server.Client()); Classify(err).Class != WrongAddress {
			t.Errorf("%s: %v", prefix, err)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests, and the credentials with them, went to another host", n)
	}
	// Whoever brings a policy of his own answers for the hosts himself; a lost method stays lost.
	own := &http.Client{Transport: server.Client().Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	if err := ask("/away", own); err != nil || elsewhere.Load() != 1 {
		t.Errorf("own policy: %v", err)
	}
	if err := ask("/found", own); Classify(err).Class != WrongAddress {
		t.Errorf("own policy, lost method: %v", err)
	}
}

func TestSameServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		same     bool
	}{
		{"http://a/x", "http://a/y", true},
		{"http://a/x", "https://a/x", true},
		{"http://a:80/x", "https://a:8443/x", true},
		{"https://a/x", "http://a/x", false},
		{"https://a/x", "https://a:8443/x", false},
		{"https://a/x", "https://b/x", false},
	} {
		from, _ := url.Parse(c.from)
		to, _ := url.Parse(c.to)
		if sameServer(from, to) != c.same {
			t.Errorf("%s to %s", c.from, c.to)
		}
	}
}

// Every kind of answer leaves its connection in a state in which the next request can use it.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	var dials atomic.Int32
	answers := []func(w http.ResponseWriter){
		func(w http.ResponseWriter) { _, _ = io.WriteString(w, initializeEmpty) },
		func(w http.ResponseWriter) { w.WriteHeader(503); _, _ = io.WriteString(w, strings.Repeat("x", 50_000)) },
		func(w http.ResponseWriter) { w.WriteHeader(404) },
		func(w http.ResponseWriter) {
			w.WriteHeader(409)
			_, _ = io.WriteString(w, `{"error":"scope_uninitialized"}`)
		},
		func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, initializeEmpty)
		},
		func(w http.ResponseWriter) { _, _ = io.WriteString(w, "no JSON") },
	}
	var n int
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		answers[n%len(answers)](w)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			dials.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, Config{BaseURL: server.URL, HTTPClient: server.Client()})
	for range 4 * len(answers) {
		_ = connect(client)
	}
	if got := dials.Load(); got != 1 {
		t.Errorf("%d requests took %d connections", 4*len(answers), got)
	}
}

// Two hundred tenants that ask at the same time, twice, dial once each at most.
func TestK20_ConnectionsAreKeptForManyTenants(t *testing.T) {
	t.Parallel()
	const tenants = 200
	var (
		dials  atomic.Int32
		inside = make(chan struct{})
		wave   sync.WaitGroup
	)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		wave.Done()
		<-inside
		_, _ = io.WriteString(w, initializeEmpty)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			dials.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, Config{BaseURL: server.URL})
	t.Cleanup(DefaultHTTPClient().CloseIdleConnections)

	for range 3 {
		wave.Add(tenants)
		var done sync.WaitGroup
		for range tenants {
			done.Go(func() {
				if err := connect(client); err != nil {
					t.Error(err)
				}
			})
		}
		wave.Wait() // all are on the wire at once
		old := inside
		close(old)
		done.Wait()
		inside = make(chan struct{})
	}
	if got := dials.Load(); got > tenants+tenants/10 {
		t.Errorf("%d requests of %d tenants took %d dials", 3*tenants, tenants, got)
	}
}

func TestTheInjectedClientIsNotChanged(t *testing.T) {
	t.Parallel()
	injected := &http.Client{Timeout: time.Minute}
	newClient(t, Config{BaseURL: "http://a", HTTPClient: injected})
	if injected.CheckRedirect != nil || injected.Timeout != time.Minute {
		t.Error("the injected client was changed")
	}
}
