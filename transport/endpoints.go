package transport

import (
	"context"
	"net/http"
	"strconv"

	"github.com/oversqlite/oversqlite/wire"
)

const (
	pushSessions     = "/sync/push-sessions"
	snapshotSessions = "/sync/snapshot-sessions"
)

// query builds the encoded query of a request out of integers. Its zero value is empty.
type query []byte

// with appends name=value.
func (q query) with(name string, value int64) query {
	if len(q) > 0 {
		q = append(q, '&')
	}
	q = append(q, name...)
	q = append(q, '=')
	return strconv.AppendInt(q, value, 10)
}

// Capabilities asks what the server is. An address without such an endpoint, and a server without the connect
// lifecycle, is a *wire.LifecycleUnsupportedError.
func (c *Client) Capabilities(ctx context.Context, sourceID string) (wire.Capabilities, error) {
	const path = "/sync/capabilities"
	body, err := c.do(ctx, request{
		op: OpCapabilities, method: http.MethodGet, path: path, sourceID: sourceID, limit: max(c.cfg.Bounds.Other, maxCapabilities),
	})
	if err != nil {
		return wire.Capabilities{}, err
	}
	caps, err := wire.DecodeCapabilities(body)
	if err != nil {
		return wire.Capabilities{}, err
	}
	if !caps.Features["connect_lifecycle"] {
		return wire.Capabilities{}, &wire.LifecycleUnsupportedError{Status: http.StatusOK, URL: c.shown(path)}
	}
	return caps, nil
}

// Connect asks what is to become of the user's scope. hasPending says whether there are local rows to seed it with.
// A resolution of retry_later is an answer, not an error.
func (c *Client) Connect(ctx context.Context, k wire.Contract, sourceID string, hasPending bool) (wire.ConnectResponse, error) {
	body, err := c.do(ctx, request{
		op: OpConnect, method: http.MethodPost, path: "/sync/connect", sourceID: sourceID,
		body: wire.AppendConnect(nil, hasPending), limit: c.cfg.Bounds.Other, refused: k.DecodeError,
	})
	if err != nil {
		return wire.ConnectResponse{}, err
	}
	return k.DecodeConnect(body)
}

// CreatePush opens a push session, or learns that the push was committed before.
func (c *Client) CreatePush(ctx context.Context, k wire.Contract, sourceID string, r wire.CreatePushRequest) (wire.CreatePushResponse, error) {
	body, err := c.do(ctx, request{
		op: OpCreatePush, method: http.MethodPost, path: pushSessions, sourceID: sourceID,
		body: k.AppendCreatePush(nil, r), limit: c.cfg.Bounds.Other, refused: k.DecodeError,
	})
	if err != nil {
		return wire.CreatePushResponse{}, err
	}
	return k.DecodeCreatePush(body, r, sourceID)
}

// PushChunk uploads rows start, start+1, … of a push and checks that the server counts along.
func (c *Client) PushChunk(ctx context.Context, k wire.Contract, sourceID, pushID string, start int64, rows []wire.PushRow) error {
	body, err := c.do(ctx, request{
		op: OpPushChunk, method: http.MethodPost, path: sessionPath(pushSessions, pushID, "/chunks"), sourceID: sourceID,
		body: k.AppendPushChunk(make([]byte, 0, chunkSize(rows)), start, rows), limit: c.cfg.Bounds.Other,
		refused: k.DecodeError,
	})
	if err != nil {
		return err
	}
	return k.DecodePushChunk(body, pushID, start+int64(len(rows)))
}

// chunkSize estimates the length of a chunk's body, so that it is rarely moved while it is written.
func chunkSize(rows []wire.PushRow) int {
	n := 64
	for i := range rows {
		r := &rows[i]
		n += len(r.Schema) + len(r.Table) + len(r.Key.Column) + len(r.Key.Value) + len(r.Payload) + 112
	}
	return n
}

// CommitPush commits a push session. r is what it was created with. The refusal of a row is a *wire.HTTPError with
// code push_conflict and, where the server named the row, its Conflict.
func (c *Client) CommitPush(ctx context.Context, k wire.Contract, sourceID, pushID string, r wire.CreatePushRequest) (wire.BundleMeta, error) {
	body, err := c.do(ctx, request{
		op: OpCommitPush, method: http.MethodPost, path: sessionPath(pushSessions, pushID, "/commit"), sourceID: sourceID,
		limit: c.cfg.Bounds.Other, conflict: c.cfg.Bounds.CommittedRows, refused: k.DecodeError,
	})
	if err != nil {
		return wire.BundleMeta{}, err
	}
	return k.DecodeCommit(body, r, sourceID)
}

// DeletePush gives up a push session that will not be committed. Best effort: its time to live ends it as well.
func (c *Client) DeletePush(ctx context.Context, sourceID, pushID string) error {
	return c.remove(ctx, OpDeletePush, sessionPath(pushSessions, pushID, ""), sourceID)
}

// CommittedRows fetches a page of a committed bundle.
func (c *Client) CommittedRows(ctx context.Context, k wire.Contract, sourceID string, r wire.CommittedRowsRequest) (wire.CommittedRowsPage, error) {
	var q query
	if r.After >= 0 {
		q = q.with("after_row_ordinal", r.After)
	}
	q = q.with("max_rows", r.MaxRows)
	body, err := c.do(ctx, request{
		op: OpCommittedRows, method: http.MethodGet, path: "/sync/committed-bundles/" + strconv.FormatInt(r.Bundle.Seq, 10) + "/rows",
		query: string(q), sourceID: sourceID, limit: c.cfg.Bounds.CommittedRows, refused: k.DecodeError,
	})
	if err != nil {
		return wire.CommittedRowsPage{}, err
	}
	return k.DecodeCommittedRows(body, r)
}

// Pull fetches bundles after a checkpoint. A page beyond its bound is a *BodyTooLargeError: ask again for fewer
// bundles; one that is alone beyond it is fetched through CommittedRows.
func (c *Client) Pull(ctx context.Context, k wire.Contract, sourceID string, r wire.PullRequest) (wire.PullPage, error) {
	q := query(nil).with("after_bundle_seq", r.After).with("max_bundles", r.MaxBundles)
	if r.Target > 0 {
		q = q.with("target_bundle_seq", r.Target)
	}
	body, err := c.do(ctx, request{
		op: OpPull, method: http.MethodGet, path: "/sync/pull", query: string(q), sourceID: sourceID, limit: c.cfg.Bounds.Pull,
		refused: k.DecodeError,
	})
	if err != nil {
		return wire.PullPage{}, err
	}
	return k.DecodePull(body, r)
}

// CreateSnapshot opens a snapshot session. A replacement, where given, retires this source in favour of another one. Where
// the answer breaks the contract but names a session, its ID comes beside the error, so that it can be given up.
func (c *Client) CreateSnapshot(ctx context.Context, k wire.Contract, sourceID string, replacement *wire.SourceReplacement) (wire.SnapshotSession, error) {
	r := request{op: OpCreateSnapshot, method: http.MethodPost, path: snapshotSessions, sourceID: sourceID, limit: c.cfg.Bounds.Other, refused: snapshotRefusal(k, wire.SnapshotBounds{})}
	if replacement != nil {
		r.body = wire.AppendSnapshotRequest(nil, replacement)
	}
	body, err := c.do(ctx, r)
	if err != nil {
		return wire.SnapshotSession{}, err
	}
	return k.DecodeSnapshotSession(body)
}

// snapshotRefusal returns the decoder of the refusals of a snapshot endpoint.
func snapshotRefusal(k wire.Contract, bounds wire.SnapshotBounds) func(string, int, []byte) *wire.HTTPError {
	return func(op string, status int, body []byte) *wire.HTTPError {
		return k.DecodeSnapshotError(op, status, body, bounds)
	}
}

// SnapshotPage fetches a page of a snapshot. Where the request bounds the page's rows in bytes, that bound and some
// room for what surrounds the rows is the bound of the body.
func (c *Client) SnapshotPage(ctx context.Context, k wire.Contract, sourceID string, r wire.SnapshotPageRequest) (wire.SnapshotPage, error) {
	limit := c.cfg.Bounds.SnapshotPage
	q := query(nil).with("after_row_ordinal", r.After).with("max_rows", r.MaxRows)
	if r.MaxBytes > 0 {
		q = q.with("max_bytes", r.MaxBytes)
		limit = r.MaxBytes + r.MaxRows + 64<<10
	}
	body, err := c.do(ctx, request{
		op: OpSnapshotPage, method: http.MethodGet, path: sessionPath(snapshotSessions, r.Session.ID, ""),
		query: string(q), sourceID: sourceID, limit: limit, refused: snapshotRefusal(k, wire.SnapshotBounds{MaxRows: r.MaxRows, MaxBytes: r.MaxBytes}),
	})
	if err != nil {
		return wire.SnapshotPage{}, err
	}
	return k.DecodeSnapshotPage(body, r)
}

// DeleteSnapshot gives up a snapshot session. Best effort: its time to live ends it as well.
func (c *Client) DeleteSnapshot(ctx context.Context, sourceID, snapshotID string) error {
	return c.remove(ctx, OpDeleteSnapshot, sessionPath(snapshotSessions, snapshotID, ""), sourceID)
}

// remove deletes a session. Any answer of success will do, and its body does not matter.
func (c *Client) remove(ctx context.Context, op, path, sourceID string) error {
	_, err := c.do(ctx, request{op: op, method: http.MethodDelete, path: path, sourceID: sourceID, limit: c.cfg.Bounds.Other})
	return err
}
