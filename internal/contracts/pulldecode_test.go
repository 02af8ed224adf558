package contracts

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/oversqlite/oversqlite/wire"
)

// decodeCase is a case of pull-snapshot/basic.json: answers to be decoded and checked.
type decodeCase struct {
	AfterBundleSeq                       int64
	PullResponse                         json.RawMessage
	ExpectedPullErrorContains            string
	HistoryPrunedResponse                *scripted
	CheckpointAheadResponse              *scripted
	SourceReplacementInvalidResponse     *scripted
	SnapshotSessionCreateRequest         json.RawMessage
	SnapshotSession                      json.RawMessage
	SnapshotChunkResponse                json.RawMessage
	SnapshotChunkAfterRowOrdinal         int64
	ExpectedSnapshotSessionErrorContains string
	ExpectedSnapshotChunkErrorContains   string

	ExpectedKmpSnapshotSessionErrorContains string
	ExpectedKmpSnapshotChunkErrorContains   string

	ExpectedFinalState *struct{ LastBundleSeqSeen *int64 }
}

func TestPullDecoding(t *testing.T) {
	t.Parallel()
	eachIn(t, both, "pull-snapshot/basic.json", "cases", func(t *testing.T, d *dialect, c *decodeCase) {
		k := d.contract(t)
		if c.PullResponse != nil {
			page, err := k.DecodePull(c.PullResponse, wire.PullRequest{After: c.AfterBundleSeq})
			expectText(t, "pull", err, c.ExpectedPullErrorContains)
			if f := c.ExpectedFinalState; err == nil && f != nil && f.LastBundleSeqSeen != nil {
				same(t, "stable_bundle_seq", page.StableSeq, *f.LastBundleSeqSeen)
			}
		}
		for code, r := range map[string]*scripted{
			"history_pruned": c.HistoryPrunedResponse, "checkpoint_ahead": c.CheckpointAheadResponse,
			"source_replacement_invalid": c.SourceReplacementInvalidResponse,
		} {
			if r != nil {
				e := wire.DecodeError("pull", r.Status, r.Body)
				same(t, "status", e.Status, http.StatusConflict)
				same(t, "code", e.Code, code)
			}
		}
		if r := c.SnapshotSessionCreateRequest; r != nil {
			c.compareRequest(t, r)
		}
		c.decodeSnapshot(t, d, k)
	})
}

// compareRequest builds the request for a snapshot session that replaces a source.
func (c *decodeCase) compareRequest(t *testing.T, want json.RawMessage) {
	t.Helper()
	var r struct {
		Replacement struct {
			Previous string `json:"previous_source_id"`
			New      string `json:"new_source_id"`
			Reason   string
		} `json:"source_replacement"`
	}
	decode(t, want, &r)
	same(t, "reason", r.Replacement.Reason, "source_retired")
	got := wire.AppendSnapshotRequest(nil, &wire.SourceReplacement{PreviousSourceID: r.Replacement.Previous, NewSourceID: r.Replacement.New, Reason: r.Replacement.Reason})
	sameJSON(t, "request for a snapshot session", json.RawMessage(got), want)
}

func (c *decodeCase) decodeSnapshot(t *testing.T, d *dialect, k wire.Contract) {
	t.Helper()
	if c.SnapshotSession == nil {
		return
	}
	session, err := k.DecodeSnapshotSession(c.SnapshotSession)
	expectText(t, "session", err, c.ExpectedSnapshotSessionErrorContains, c.ExpectedKmpSnapshotSessionErrorContains)
	if err != nil || c.SnapshotChunkResponse == nil {
		return
	}
	r := wire.SnapshotPageRequest{Session: session, After: c.SnapshotChunkAfterRowOrdinal, MaxRows: 1000}
	if d.uniform {
		r.MaxBytes = 4194304
	}
	_, err = k.DecodeSnapshotPage(d.spoken(t, c.SnapshotChunkResponse, true), r)
	expectText(t, "chunk", err, c.ExpectedSnapshotChunkErrorContains, c.ExpectedKmpSnapshotChunkErrorContains)
}
