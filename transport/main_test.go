package transport

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/oversqlite/oversqlite/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		DefaultHTTPClient().CloseIdleConnections()
		os.Exit(code)
	}))
}

// serve starts a server and returns a client of it. Both end with the test.
func serve(t *testing.T, handler http.HandlerFunc, adjust ...func(*Config)) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cfg := Config{BaseURL: server.URL, HTTPClient: server.Client()}
	for _, f := range adjust {
		f(&cfg)
	}
	return newClient(t, cfg)
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// roundTrip is an http.RoundTripper made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// inMemory returns a client whose requests f answers.
func inMemory(t *testing.T, f roundTrip, adjust ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{BaseURL: "http://sync.test", HTTPClient: &http.Client{Transport: f}}
	for _, a := range adjust {
		a(&cfg)
	}
	return newClient(t, cfg)
}

// answer is a plain answer to be given by a roundTrip.
func answer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

const (
	initializeEmpty = `{"resolution":"initialize_empty"}`
	capabilities    = `{"protocol_version":"v1","schema_version":1,"features":{"connect_lifecycle":true},"bundle_limits":{}}`
)

// connect makes the simplest request there is.
func connect(c *Client) error {
	_, err := c.Connect(context.Background(), contract(), "source", false)
	return err
}

var discard = log.New(io.Discard, "", 0)

func contract() wire.Contract {
	k, err := wire.ContractByName(wire.ClassicContract)
	if err != nil {
		panic(err)
	}
	return k
}
