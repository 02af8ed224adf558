package contracts

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/oversqlite/oversqlite/wire"
)

// pushDecodeCase is a case of push/basic-insert.json: requests to be built and answers to be decoded.
type pushDecodeCase struct {
	PushSessionCreateRequest, PushSessionCreateResponse json.RawMessage
	PushChunkRequest, PushChunkResponse                 json.RawMessage
	PushCommitResponse, CommittedBundleRowsResponse     json.RawMessage
	PushConflictResponse                                json.RawMessage
	ExpectedFinalState                                  struct{ Error, OutboxState string }
}

// fixtureSource is the source of which the answers speak.
const fixtureSource = "source-fixture"

func TestPushDecoding(t *testing.T) {
	t.Parallel()
	eachIn(t, both, "push/basic-insert.json", "cases", func(t *testing.T, d *dialect, c *pushDecodeCase) {
		k := d.contract(t)
		asked := c.create(t, d, k)
		c.chunk(t, k)
		c.committed(t, d, k, asked)
		if c.PushConflictResponse != nil {
			e := wire.DecodeError("commit push session", http.StatusConflict, c.PushConflictResponse)
			if e.Code != "push_conflict" || e.Conflict == nil || e.Conflict.ServerRowVersion != 2 {
				t.Errorf("%+v", e)
			}
		}
		switch f := c.ExpectedFinalState; f.Error {
		case "":
		case "source_sequence_mismatch":
			same(t, "outbox", f.OutboxState, "prepared")
		case "rebuild_required":
			same(t, "outbox", f.OutboxState, "committed_remote")
		default:
			t.Errorf("the fixture ends with %q", f.Error)
		}
	})
}

// mismatched reports whether the case is about answers to a request with another hash.
func (c *pushDecodeCase) mismatched() bool { return c.ExpectedFinalState.Error != "" }

func (c *pushDecodeCase) create(t *testing.T, d *dialect, k wire.Contract) wire.CreatePushRequest {
	t.Helper()
	r := wire.CreatePushRequest{SourceBundleID: 1, PlannedRowCount: 1}
	if d.uniform {
		r.RequestHash = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	}
	if c.PushSessionCreateRequest != nil {
		sameJSON(t, "create", json.RawMessage(k.AppendCreatePush(nil, r)), d.spoken(t, c.PushSessionCreateRequest, false))
	}
	if c.PushSessionCreateResponse != nil {
		answer, err := k.DecodeCreatePush(d.spoken(t, c.PushSessionCreateResponse, false), r, fixtureSource)
		switch {
		case c.mismatched() && err == nil:
			t.Error("an answer to another request was taken for ours")
		case !c.mismatched() && (err != nil || answer.AlreadyCommitted || answer.PushID != fixturePushID):
			t.Errorf("%+v, %v", answer, err)
		}
	}
	return r
}

func (c *pushDecodeCase) chunk(t *testing.T, k wire.Contract) {
	t.Helper()
	if c.PushChunkRequest != nil {
		var in struct {
			Start int64         `json:"start_row_ordinal"`
			Rows  []uploadedRow `json:"rows"`
		}
		decode(t, c.PushChunkRequest, &in)
		var rows []wire.PushRow
		for _, u := range in.Rows {
			rows = append(rows, wire.PushRow{
				Schema: u.Schema, Table: u.Table, Key: wire.Key{Column: "id", Value: keyValue(u.Key)}, Op: wire.Op(u.Op), BaseRowVersion: u.Base, Payload: u.Payload,
			})
		}
		same(t, "rows", len(rows), 1)
		same(t, "op", rows[0].Op, wire.OpInsert)
		sameJSON(t, "chunk", json.RawMessage(k.AppendPushChunk(nil, in.Start, rows)), c.PushChunkRequest)
	}
	if c.PushChunkResponse != nil {
		if err := k.DecodePushChunk(c.PushChunkResponse, fixturePushID, 1); err != nil {
			t.Error(err)
		}
	}
}

func (c *pushDecodeCase) committed(t *testing.T, d *dialect, k wire.Contract, asked wire.CreatePushRequest) {
	t.Helper()
	bundle := wire.BundleMeta{Seq: 1, SourceID: fixtureSource, SourceBundleID: 1, RowCount: -1}
	if c.PushCommitResponse != nil {
		meta, err := k.DecodeCommit(d.spoken(t, c.PushCommitResponse, false), asked, fixtureSource)
		switch {
		case c.mismatched() && err == nil:
			t.Error("the commit of another request was taken for ours")
		case !c.mismatched() && (err != nil || meta.Seq != 1 || meta.RowCount != 1 || meta.Hash != "fixture-hash"):
			t.Errorf("%+v, %v", meta, err)
		case !c.mismatched():
			bundle = meta
		}
	}
	if c.CommittedBundleRowsResponse != nil && !c.mismatched() {
		page, err := k.DecodeCommittedRows(d.spoken(t, c.CommittedBundleRowsResponse, false), wire.CommittedRowsRequest{Bundle: bundle, After: -1, MaxRows: 1000})
		if err != nil || len(page.Rows) != 1 || page.Rows[0].RowVersion != 1 {
			t.Errorf("%+v, %v", page, err)
		}
	}
}
