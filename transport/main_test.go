package transport

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// shared reads a file of the conformance fixtures, or skips the test where they are not at hand.
func shared(t *testing.T, name string, into any) {
	t.Helper()
	root := os.Getenv("OVERSQLITE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "shared")
	}
	data, err := os.ReadFile(filepath.Join(root, "contracts", name))
	if err != nil {
		t.Skipf("conformance fixtures are not at hand: %v", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

var discard = log.New(io.Discard, "", 0)

func contract() wire.Contract {
	k, err := wire.ContractByName(wire.ClassicContract)
	if err != nil {
		panic(err)
	}
	return k
}
