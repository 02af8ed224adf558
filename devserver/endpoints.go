package devserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// Endpoint names one operation of the server, for faults and counters.
type Endpoint string

// The endpoints.
const (
	EndpointCapabilities   Endpoint = "capabilities"
	EndpointConnect        Endpoint = "connect"
	EndpointPushCreate     Endpoint = "push_session_create"
	EndpointPushChunk      Endpoint = "push_session_chunk"
	EndpointPushCommit     Endpoint = "push_session_commit"
	EndpointPushDelete     Endpoint = "push_session_delete"
	EndpointCommittedRows  Endpoint = "committed_bundle_rows"
	EndpointPull           Endpoint = "pull"
	EndpointSnapshotCreate Endpoint = "snapshot_session_create"
	EndpointSnapshotPage   Endpoint = "snapshot_chunk"
	EndpointSnapshotDelete Endpoint = "snapshot_session_delete"
	EndpointWatch          Endpoint = "watch"
	EndpointSignIn         Endpoint = "dummy_signin"
	EndpointRetentionFloor Endpoint = "retention_floor"
	EndpointHealth         Endpoint = "health"
	EndpointStatus         Endpoint = "status"
)

var endpoints = [...]Endpoint{EndpointCapabilities, EndpointConnect, EndpointPushCreate, EndpointPushChunk, EndpointPushCommit,
	EndpointPushDelete, EndpointCommittedRows, EndpointPull, EndpointSnapshotCreate, EndpointSnapshotPage, EndpointSnapshotDelete,
	EndpointWatch, EndpointSignIn, EndpointRetentionFloor, EndpointHealth, EndpointStatus}

// endpoint is one operation: where it is and who answers.
type endpoint struct {
	number int // index into endpoints
	name   Endpoint
	method string
	path   string
	open   bool // needs no authentication
	handle func(*call) error
}

func (s *Server) endpoints() []endpoint {
	const get, post, del = http.MethodGet, http.MethodPost, http.MethodDelete
	list := []endpoint{
		{name: EndpointCapabilities, method: get, path: "/sync/capabilities", handle: s.capabilities},
		{name: EndpointConnect, method: post, path: "/sync/connect", handle: s.connect},
		{name: EndpointPushCreate, method: post, path: "/sync/push-sessions", handle: s.pushCreate},
		{name: EndpointPushChunk, method: post, path: "/sync/push-sessions/{id}/chunks", handle: s.pushChunk},
		{name: EndpointPushCommit, method: post, path: "/sync/push-sessions/{id}/commit", handle: s.pushCommit},
		{name: EndpointPushDelete, method: del, path: "/sync/push-sessions/{id}", handle: s.pushDelete},
		{name: EndpointCommittedRows, method: get, path: "/sync/committed-bundles/{seq}/rows", handle: s.committedRows},
		{name: EndpointPull, method: get, path: "/sync/pull", handle: s.pull},
		{name: EndpointSnapshotCreate, method: post, path: "/sync/snapshot-sessions", handle: s.snapshotCreate},
		{name: EndpointSnapshotPage, method: get, path: "/sync/snapshot-sessions/{id}", handle: s.snapshotPage},
		{name: EndpointSnapshotDelete, method: del, path: "/sync/snapshot-sessions/{id}", handle: s.snapshotDelete},
		{name: EndpointWatch, method: get, path: "/sync/watch", handle: s.watch},
		{name: EndpointSignIn, method: post, path: "/dummy-signin", open: true, handle: s.signIn},
		{name: EndpointRetentionFloor, method: post, path: "/test/retention-floor", open: true, handle: s.retentionFloor},
		{name: EndpointHealth, method: get, path: "/syncx/health", open: true, handle: s.health},
		{name: EndpointStatus, method: get, path: "/syncx/status", open: true, handle: s.status},
	}
	for i := range list {
		list[i].number = i
	}
	return list
}

// RequestInfo describes a request to Config.OnRequest.
type RequestInfo struct {
	Endpoint Endpoint
	Method   string
	Path     string
	UserID   string // "": no valid token
	SourceID string // "": no header
}

// Requests returns how many requests each endpoint has had, faulted and refused ones included.
func (s *Server) Requests() map[Endpoint]int64 {
	counts := make(map[Endpoint]int64, len(endpoints))
	for i, name := range endpoints {
		counts[name] = s.counts[i].Load()
	}
	return counts
}

// read returns the whole request body.
func (c *call) read() ([]byte, error) {
	var buf bytes.Buffer
	if n := c.r.ContentLength; n > 0 {
		buf.Grow(int(min(n, 8<<20)) + bytes.MinRead) // what a header claims is not believed without bound
	}
	_, err := buf.ReadFrom(c.r.Body)
	return buf.Bytes(), err
}

// body reads a JSON request body into v; code names the error of one that is broken.
func (c *call) body(v any, code string) error {
	raw, err := c.read()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return refuse(http.StatusBadRequest, code, "the body is not what it should be: %v", err)
	}
	return nil
}

// number reads an integer query parameter between low and high; code names the error of another one.
func (c *call) number(name string, def, low, high int64, code string) (int64, error) {
	values, ok := c.r.URL.Query()[name]
	if !ok {
		return def, nil
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || n < low || n > high {
		return 0, refuse(http.StatusBadRequest, code, "%s must be an integer between %d and %d", name, low, high)
	}
	return n, nil
}
