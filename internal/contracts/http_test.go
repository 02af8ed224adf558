package contracts

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// httpCase is a case of protocol-http/requests.json: one call of the request layer, and what has to travel.
type httpCase struct {
	Operation string
	SourceID  string
	Args      struct {
		HasLocalPendingRows                                                               bool
		AfterBundleSeq, MaxBundles, TargetBundleSeq                                       int64
		SourceBundleID, PlannedRowCount                                                   int64
		InitializationID, PushID, SnapshotID, PreviousSourceID, NewSourceID, Reason       string
		StartRowOrdinal, BundleSeq, AfterRowOrdinal, MaxRows, MaxBytes, SnapshotBundleSeq int64
	}
	Expected struct {
		Method, Path, SourceHeader string
		Query                      map[string]string
		Body                       json.RawMessage
		BodyMustNotContain         []string
	}
}

const fixturePushID = "11111111-1111-4111-8111-111111111111"

func TestRequests(t *testing.T) {
	t.Parallel()
	const family = "protocol-http/requests.json"
	var head struct{ BaseURI string }
	read(t, family, &head)
	eachIn(t, both, family, "cases", func(t *testing.T, d *dialect, c *httpCase) {
		line := &capture{answer: c.response(d)}
		client, err := transport.New(transport.Config{BaseURL: head.BaseURI, HTTPClient: &http.Client{Transport: line}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.call(t, d, client); err != nil {
			t.Fatal(err)
		}
		c.compare(t, d, line)
	})
}

// capture keeps the one request and answers it.
type capture struct {
	request *http.Request
	body    []byte
	answer  any
}

// RoundTrip implements http.RoundTripper.
func (c *capture) RoundTrip(r *http.Request) (*http.Response, error) {
	c.request = r
	if r.Body != nil {
		c.body, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
	}
	text := []byte(mustJSON(c.answer))
	media := "application/json"
	if c.answer == nil {
		text, media = nil, "text/event-stream"
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {media}},
		Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)), Request: r,
	}, nil
}

func (c *httpCase) requestHash(d *dialect) string {
	if d.uniform {
		return strings.Repeat("a", 64)
	}
	return ""
}

func (c *httpCase) pushRequest(d *dialect) wire.CreatePushRequest {
	return wire.CreatePushRequest{
		SourceBundleID: max(c.Args.SourceBundleID, 1), PlannedRowCount: max(c.Args.PlannedRowCount, 1),
		InitializationID: c.Args.InitializationID, RequestHash: c.requestHash(d),
	}
}

// call calls the operation of the request layer.
func (c *httpCase) call(t *testing.T, d *dialect, client *transport.Client) error {
	ctx, k, a := t.Context(), d.contract(t), &c.Args
	switch c.Operation {
	case "capabilities":
		_, err := client.Capabilities(ctx, c.SourceID)
		return err
	case "connect":
		_, err := client.Connect(ctx, k, c.SourceID, a.HasLocalPendingRows)
		return err
	case "pull":
		_, err := client.Pull(ctx, k, c.SourceID, wire.PullRequest{After: a.AfterBundleSeq, MaxBundles: a.MaxBundles, Target: a.TargetBundleSeq})
		return err
	case "pushSessionCreate":
		_, err := client.CreatePush(ctx, k, c.SourceID, c.pushRequest(d))
		return err
	case "pushSessionChunk":
		return client.PushChunk(ctx, k, c.SourceID, a.PushID, a.StartRowOrdinal, []wire.PushRow{{
			Schema: "main", Table: "users", Key: wire.Key{Column: "id", Value: "user-1"}, Op: wire.OpInsert, Payload: []byte(`{"id":"user-1","name":"Ada"}`),
		}})
	case "pushSessionCommit":
		_, err := client.CommitPush(ctx, k, c.SourceID, a.PushID, c.pushRequest(d))
		return err
	case "committedRows":
		_, err := client.CommittedRows(ctx, k, c.SourceID, wire.CommittedRowsRequest{Bundle: wire.BundleMeta{Seq: a.BundleSeq, RowCount: -1}, After: a.AfterRowOrdinal, MaxRows: a.MaxRows})
		return err
	case "snapshotSession":
		_, err := client.CreateSnapshot(ctx, k, c.SourceID, nil)
		return err
	case "sourceReplacement":
		_, err := client.CreateSnapshot(ctx, k, c.SourceID, &wire.SourceReplacement{PreviousSourceID: a.PreviousSourceID, NewSourceID: a.NewSourceID, Reason: a.Reason})
		return err
	case "snapshotChunk":
		r := wire.SnapshotPageRequest{
			Session: wire.SnapshotSession{ID: a.SnapshotID, BundleSeq: a.SnapshotBundleSeq, RowCount: a.AfterRowOrdinal, ExpiresAt: "2099-01-01T00:00:00Z"},
			After:   a.AfterRowOrdinal, MaxRows: a.MaxRows,
		}
		if d.uniform {
			r.MaxBytes = a.MaxBytes
		}
		_, err := client.SnapshotPage(ctx, k, c.SourceID, r)
		return err
	case "watch":
		stream, err := client.Watch(ctx, c.SourceID, a.AfterBundleSeq)
		if err != nil {
			return err
		}
		return stream.Close()
	default:
		t.Fatalf("no operation %q", c.Operation)
		return nil
	}
}

// response is the least that the operation takes for an answer; nil is an empty stream.
func (c *httpCase) response(d *dialect) any {
	a := &c.Args
	hashed := func(o object) object {
		if d.uniform {
			o["canonical_request_hash"] = c.requestHash(d)
		}
		return o
	}
	switch c.Operation {
	case "capabilities":
		return d.capabilities("main", usersOnly)
	case "connect":
		return object{"resolution": "remote_authoritative"}
	case "pull":
		// The guide's own answer ends before the ceiling, which the request layer takes for the fault that it is.
		bundles := []object{}
		for seq := a.AfterBundleSeq + 1; seq <= a.TargetBundleSeq; seq++ {
			bundles = append(bundles, object{"bundle_seq": seq, "source_id": "remote-source", "source_bundle_id": seq, "rows": []any{}})
		}
		return object{"stable_bundle_seq": a.TargetBundleSeq, "bundles": bundles, "has_more": false}
	case "pushSessionCreate":
		return hashed(object{"status": "staging", "push_id": fixturePushID, "planned_row_count": a.PlannedRowCount, "next_expected_row_ordinal": 0})
	case "pushSessionChunk":
		return object{"push_id": a.PushID, "next_expected_row_ordinal": 1}
	case "pushSessionCommit":
		return hashed(object{"bundle_seq": 1, "source_id": c.SourceID, "source_bundle_id": 1, "row_count": 1, "bundle_hash": "fixture-hash"})
	case "committedRows":
		return hashed(object{
			"bundle_seq": a.BundleSeq, "source_id": c.SourceID, "source_bundle_id": 1, "row_count": a.AfterRowOrdinal + 1, "bundle_hash": "fixture-hash",
			"rows": []any{}, "next_row_ordinal": a.AfterRowOrdinal, "has_more": false,
		})
	case "snapshotSession", "sourceReplacement":
		return object{"snapshot_id": "snapshot-fixture", "snapshot_bundle_seq": 6, "row_count": 0, "byte_count": 0, "expires_at": "2099-01-01T00:00:00Z"}
	case "snapshotChunk":
		page := object{"snapshot_id": a.SnapshotID, "snapshot_bundle_seq": a.SnapshotBundleSeq, "rows": []any{}, "next_row_ordinal": a.AfterRowOrdinal, "has_more": false}
		if d.uniform {
			page["byte_count"] = 0
		}
		return page
	default:
		return nil
	}
}

func (c *httpCase) compare(t *testing.T, d *dialect, line *capture) {
	t.Helper()
	r := line.request
	same(t, "method", r.Method, c.Expected.Method)
	same(t, "path", r.URL.EscapedPath(), c.Expected.Path)
	same(t, "source", r.Header.Get("Oversync-Source-ID"), c.Expected.SourceHeader)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name, values := range query {
		got[name] = strings.Join(values, ",")
	}
	if !d.uniform {
		delete(c.Expected.Query, "max_bytes")
	}
	same(t, "query", got, c.Expected.Query)
	want := c.Expected.Body
	if len(want) == 0 || string(want) == "null" {
		same(t, "body", string(line.body), "")
		return
	}
	sameJSON(t, "body", json.RawMessage(line.body), d.spoken(t, want, false))
	for _, name := range c.Expected.BodyMustNotContain {
		if holds(generic(t, json.RawMessage(line.body)), name) {
			t.Errorf("the body holds %s", name)
		}
	}
}

// holds reports whether a decoded value has a member of a name at any depth.
func holds(v any, name string) bool {
	switch v := v.(type) {
	case map[string]any:
		for n, member := range v {
			if n == name || holds(member, name) {
				return true
			}
		}
	case []any:
		for _, e := range v {
			if holds(e, name) {
				return true
			}
		}
	}
	return false
}
