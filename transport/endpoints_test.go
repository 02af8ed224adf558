package transport

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

const (
	pushID     = "11111111-1111-4111-8111-111111111111"
	hash       = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	leaseID    = "22222222-2222-4222-8222-222222222222"
	sourceName = "source-1"
)

var (
	firstPush = wire.CreatePushRequest{SourceBundleID: 7, PlannedRowCount: 2, InitializationID: leaseID, RequestHash: hash}
	pushRows  = []wire.PushRow{{
		Schema: "main", Table: "users", Key: wire.Key{Column: "id", Value: "user-1"}, Op: wire.OpInsert, Payload: []byte(`{"id":"user-1","name":"Ada"}`),
	}}
	replacement = &wire.SourceReplacement{PreviousSourceID: "source-old", NewSourceID: "source-new", Reason: "source_retired"}
)

// exchange is a request that a method is expected to make, and an answer to it.
type exchange struct {
	method, path string
	body         string // "": none
	status       int    // 0: 200
	answer       string
	call         func(context.Context, *Client) error
}

func exchanges() map[string]exchange {
	k := contract()
	return map[string]exchange{
		"capabilities": {
			method: "GET", path: "/api/v1/sync/capabilities", answer: capabilities,
			call: func(ctx context.Context, c *Client) error {
				got, err := c.Capabilities(ctx, sourceName)
				return expect(err, got.Features["connect_lifecycle"])
			},
		},
		"connect": {
			method: "POST", path: "/api/v1/sync/connect", body: `{"has_local_pending_rows":true}`, answer: `{"resolution":"retry_later","retry_after_seconds":3,"lease_expires_at":"2099-01-01T00:00:00Z"}`,
			call: func(ctx context.Context, c *Client) error {
				got, err := c.Connect(ctx, contract(), sourceName, true)
				return expect(err, got.Resolution == wire.ResolutionRetry && got.RetryAfterSeconds == 3)
			},
		},
		"create push": {
			method: "POST", path: "/api/v1/sync/push-sessions",
			body:   `{"source_bundle_id":7,"planned_row_count":2,"initialization_id":"` + leaseID + `"}`,
			answer: `{"push_id":"` + pushID + `","status":"staging","planned_row_count":2,"next_expected_row_ordinal":0}`,
			call: func(ctx context.Context, c *Client) error {
				got, err := c.CreatePush(ctx, k, sourceName, firstPush)
				return expect(err, got.PushID == pushID && !got.AlreadyCommitted)
			},
		},
		"push chunk": {
			method: "POST", path: "/api/v1/sync/push-sessions/" + pushID + "/chunks",
			body:   `{"start_row_ordinal":5,"rows":[{"schema":"main","table":"users","key":{"id":"user-1"},"op":"INSERT","base_row_version":0,"payload":{"id":"user-1","name":"Ada"}}]}`,
			answer: `{"push_id":"` + pushID + `","next_expected_row_ordinal":6}`,
			call: func(ctx context.Context, c *Client) error {
				return c.PushChunk(ctx, k, sourceName, pushID, 5, pushRows)
			},
		},
		"commit push": {
			method: "POST", path: "/api/v1/sync/push-sessions/" + pushID + "/commit",
			answer: `{"bundle_seq":9,"source_id":"` + sourceName + `","source_bundle_id":7,"row_count":2,"bundle_hash":"` + hash + `"}`,
			call: func(ctx context.Context, c *Client) error {
				got, err := c.CommitPush(ctx, k, sourceName, pushID, firstPush)
				return expect(err, got.Seq == 9 && got.Hash == hash)
			},
		},
		"delete push": {
			method: "DELETE", path: "/api/v1/sync/push-sessions/" + pushID, status: 204,
			call: func(ctx context.Context, c *Client) error { return c.DeletePush(ctx, sourceName, pushID) },
		},
		"first committed rows": {
			method: "GET", path: "/api/v1/sync/committed-bundles/9/rows?max_rows=17",
			answer: `{"bundle_seq":9,"source_id":"` + sourceName + `","source_bundle_id":7,"row_count":0,"bundle_hash":"` + hash + `","rows":[],"next_row_ordinal":0,"has_more":false}`,
			call: func(ctx context.Context, c *Client) error {
				_, err := c.CommittedRows(ctx, k, sourceName, wire.CommittedRowsRequest{Bundle: committed, After: -1, MaxRows: 17})
				return err
			},
		},
		"later committed rows": {
			method: "GET", path: "/api/v1/sync/committed-bundles/9/rows?after_row_ordinal=4&max_rows=17",
			answer: `{"bundle_seq":9,"source_id":"` + sourceName + `","source_bundle_id":7,"row_count":5,"bundle_hash":"` + hash + `","rows":[],"next_row_ordinal":4,"has_more":false}`,
			call: func(ctx context.Context, c *Client) error {
				_, err := c.CommittedRows(ctx, k, sourceName, wire.CommittedRowsRequest{Bundle: committed, After: 4, MaxRows: 17})
				return err
			},
		},
		"first pull": {
			method: "GET", path: "/api/v1/sync/pull?after_bundle_seq=3&max_bundles=11", answer: `{"stable_bundle_seq":3,"bundles":[],"has_more":false}`,
			call: func(ctx context.Context, c *Client) error {
				got, err := c.Pull(ctx, k, sourceName, wire.PullRequest{After: 3, MaxBundles: 11})
				return expect(err, got.StableSeq == 3)
			},
		},
		"later pull": {
			method: "GET", path: "/api/v1/sync/pull?after_bundle_seq=14&max_bundles=11&target_bundle_seq=14", answer: `{"stable_bundle_seq":14,"bundles":[],"has_more":false}`,
			call: func(ctx context.Context, c *Client) error {
				_, err := c.Pull(ctx, k, sourceName, wire.PullRequest{After: 14, MaxBundles: 11, Target: 14})
				return err
			},
		},
		"create snapshot": {
			method: "POST", path: "/api/v1/sync/snapshot-sessions",
			answer: `{"snapshot_id":"s.1/2","snapshot_bundle_seq":6,"row_count":0,"byte_count":0,"expires_at":"2099-01-01T00:00:00Z"}`,
			call: func(ctx context.Context, c *Client) error {
				got, err := c.CreateSnapshot(ctx, k, sourceName, nil)
				return expect(err, got.ID == "s.1/2" && got.BundleSeq == 6)
			},
		},
		"replace the source": {
			method: "POST", path: "/api/v1/sync/snapshot-sessions",
			body:   `{"source_replacement":{"previous_source_id":"source-old","new_source_id":"source-new","reason":"source_retired"}}`,
			answer: `{"snapshot_id":"s","snapshot_bundle_seq":6,"row_count":0,"byte_count":0,"expires_at":"2099-01-01T00:00:00Z"}`,
			call: func(ctx context.Context, c *Client) error {
				_, err := c.CreateSnapshot(ctx, k, sourceName, replacement)
				return err
			},
		},
		"snapshot page": {
			method: "GET", path: "/api/v1/sync/snapshot-sessions/s%2E1%2F2?after_row_ordinal=5&max_rows=19",
			answer: `{"snapshot_id":"s.1/2","snapshot_bundle_seq":6,"rows":[],"next_row_ordinal":5,"has_more":false}`,
			call: func(ctx context.Context, c *Client) error {
				_, err := c.SnapshotPage(ctx, k, sourceName, wire.SnapshotPageRequest{Session: session, After: 5, MaxRows: 19})
				return err
			},
		},
		"delete snapshot": {
			method: "DELETE", path: "/api/v1/sync/snapshot-sessions/s%2E1%2F2", status: 200, answer: "whatever",
			call: func(ctx context.Context, c *Client) error { return c.DeleteSnapshot(ctx, sourceName, "s.1/2") },
		},
		"watch": {
			method: "GET", path: "/api/v1/sync/watch?after_bundle_seq=12", answer: "event: bundle\ndata: {\"bundle_seq\":13}\n\n",
			call: func(ctx context.Context, c *Client) error {
				stream, err := c.Watch(ctx, sourceName, 12)
				if err != nil {
					return err
				}
				defer stream.Close()
				got, err := nextEvent(stream)
				return expect(err, got.BundleSeq == 13)
			},
		},
	}
}

var (
	committed = wire.BundleMeta{Seq: 9, SourceID: sourceName, SourceBundleID: 7, RowCount: -1}
	session   = wire.SnapshotSession{ID: "s.1/2", BundleSeq: 6, RowCount: 5}
)

func expect(err error, ok bool) error {
	if err == nil && !ok {
		return errors.New("the answer was not understood")
	}
	return err
}

// Every method asks for the right thing and understands the answer.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	for name, x := range exchanges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				if r.Method != x.method || r.RequestURI != x.path {
					t.Errorf("%s %s, want %s %s", r.Method, r.RequestURI, x.method, x.path)
				}
				body, _ := io.ReadAll(r.Body)
				if !sameJSON(body, []byte(x.body)) {
					t.Errorf("body %s, want %s", body, x.body)
				}
				want := map[string]string{"Oversync-Source-Id": sourceName, "User-Agent": "oversqlite-go", "Accept": "application/json"}
				if x.body != "" {
					want["Content-Type"] = "application/json"
				}
				if name == "watch" {
					want["Accept"], want["Accept-Encoding"] = "text/event-stream", "identity"
					w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				}
				for h, v := range want {
					if r.Header.Get(h) != v {
						t.Errorf("header %s: %q, want %q", h, r.Header.Get(h), v)
					}
				}
				if x.status != 0 {
					w.WriteHeader(x.status)
				}
				_, _ = io.WriteString(w, x.answer)
			}, func(c *Config) { c.BaseURL += "/api/v1/" })
			if err := x.call(t.Context(), client); err != nil {
				t.Error(err)
			}
			if asked != 1 {
				t.Errorf("%d requests", asked)
			}
		})
	}
}

// Every method hands a refusal on as what it is.
func TestEndpointsPassRefusalsOn(t *testing.T) {
	t.Parallel()
	for name, x := range exchanges() {
		client := inMemory(t, func(*http.Request) (*http.Response, error) {
			resp := answer(503, `{"error":"service_unavailable","message":"soon"}`)
			resp.Header.Set("Retry-After", "7")
			return resp, nil
		})
		err := x.call(t.Context(), client)
		var refused *wire.HTTPError
		if !errors.As(err, &refused) || refused.Code != "service_unavailable" || refused.RetryAfter.Seconds() != 7 || refused.Operation == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that does not speak the lifecycle is found out before anything else is asked of it.
func TestCapabilitiesOfOtherServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
	}{
		{404, ""},
		{405, ""},
		{501, `{"error":"not_implemented"}`},
		{200, `{"protocol_version":"v1","schema_version":1,"features":{"connect_lifecycle":false},"bundle_limits":{}}`},
		{200, `{"protocol_version":"v1","schema_version":1,"features":{},"bundle_limits":{}}`},
	} {
		client := inMemory(t, func(*http.Request) (*http.Response, error) { return answer(c.status, c.body), nil },
			func(cfg *Config) { cfg.BaseURL = "http://alice:hush@sync.test/x/" })
		_, err := client.Capabilities(t.Context(), "source")
		var old *wire.LifecycleUnsupportedError
		if !errors.As(err, &old) || old.Status != c.status || old.URL != "http://sync.test/x/sync/capabilities" || Classify(err).Class != Unsupported {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
	}
}

// sameJSON compares two bodies as JSON values; two empty ones are the same.
func sameJSON(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Refusals of snapshots go through the taxonomy of their contract; a server at its capacity that does not say when is asked
// again after a second.
func TestSnapshotRefusals(t *testing.T) {
	t.Parallel()
	k, err := wire.ContractByName(wire.UniformContract)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status           int
		retryAfter, body string
		code             string
		class            Class
		after            time.Duration
		chunk            bool
	}{
		{429, "", `{"error":"snapshot_build_capacity"}`, "snapshot_build_capacity", Transient, time.Second, false},
		{429, "30", `{"error":"snapshot_build_capacity"}`, "snapshot_build_capacity", Transient, 30 * time.Second, false},
		{429, "1.5", `{"error":"snapshot_chunk_capacity"}`, "snapshot_chunk_capacity", Transient, time.Second, true},
		{429, "Wed, 21 Oct 2015 07:28:00 GMT", `{"error":"snapshot_chunk_capacity"}`, "snapshot_chunk_capacity", Transient, time.Second, true},
		{429, "", `{"error":"slow_down"}`, "invalid_error_response", Transient, 0, true},
		{400, "", `{"error":"snapshot_chunk_too_small","required_byte_count":11}`, "snapshot_chunk_too_small", Code, 0, true},
		{400, "", `{"error":"snapshot_chunk_too_small","required_byte_count":10}`, "snapshot_chunk_too_small_invalid", Code, 0, true},
		{409, "", `{"error":"snapshot_session_limit_exceeded","dimension":"row_count","actual":2,"limit":1}`, "snapshot_session_limit_exceeded", Code, 0, false},
		{404, "", `{"error":"snapshot_session_not_found"}`, "snapshot_session_not_found", Code, 0, true},
		{409, "", `{"error":"whose_row","message":"of tenant 7"}`, "invalid_error_response", Code, 0, false},
	} {
		client := inMemory(t, func(*http.Request) (*http.Response, error) {
			resp := answer(c.status, c.body)
			if c.retryAfter != "" {
				resp.Header.Set("Retry-After", c.retryAfter)
			}
			return resp, nil
		})
		if c.chunk {
			_, err = client.SnapshotPage(t.Context(), k, "source", wire.SnapshotPageRequest{Session: session, MaxRows: 5, MaxBytes: 10})
		} else {
			_, err = client.CreateSnapshot(t.Context(), k, "source", nil)
		}
		if f := Classify(err); f.Class != c.class || f.Code != c.code || f.RetryAfter != c.after {
			t.Errorf("%d %s: %+v (%v)", c.status, c.body, f, err)
		}
	}
	// A session that cannot be used is named, so that it can be given up.
	client := inMemory(t, func(*http.Request) (*http.Response, error) {
		return answer(200, `{"snapshot_id":"s","snapshot_bundle_seq":1}`), nil
	})
	if got, err := client.CreateSnapshot(t.Context(), k, "source", nil); Classify(err).Class != Protocol || got.ID != "s" {
		t.Errorf("%+v, %v", got, err)
	}
}
