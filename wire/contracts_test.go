package wire

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// uniformOnly are the cases of the shared fixtures that rest on rules the classic contract does not have.
var uniformOnly = []string{"pull-rejects-hidden-scope-payload", "snapshot-rejects-hidden-scope-payload", "snapshot-rejects-malformed-expiry"}

// TestSharedPullAndSnapshotCases runs the language-neutral cases of ../shared/contracts/pull-snapshot/basic.json.
func TestSharedPullAndSnapshotCases(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(sharedDir(t), "contracts", "pull-snapshot", "basic.json"))
	if err != nil {
		t.Fatal(err)
	}
	type refusal struct {
		Status int
		Body   json.RawMessage
	}
	var file struct {
		FormatVersion int
		Cases         []struct {
			Name                                 string
			AfterBundleSeq                       int64
			PullResponse                         json.RawMessage
			ExpectedPullErrorContains            string
			HistoryPrunedResponse                *refusal
			CheckpointAheadResponse              *refusal
			SourceReplacementInvalidResponse     *refusal
			SnapshotSession                      json.RawMessage
			SnapshotChunkResponse                json.RawMessage
			SnapshotChunkAfterRowOrdinal         int64
			ExpectedSnapshotSessionErrorContains string
			ExpectedSnapshotChunkErrorContains   string
			ExpectedFinalState                   *struct{ LastBundleSeqSeen *int64 }
		}
	}
	if err := json.Unmarshal(text, &file); err != nil || file.FormatVersion != 1 {
		t.Fatalf("format %d: %v", file.FormatVersion, err)
	}
	expect := func(t *testing.T, err error, fragment string) {
		t.Helper()
		switch {
		case fragment == "" && err != nil:
			t.Error(err)
		case fragment != "" && (err == nil || !strings.Contains(err.Error(), fragment)):
			t.Errorf("%v, want %q", err, fragment)
		}
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			if slices.Contains(uniformOnly, c.Name) {
				t.Skip("a rule of the uniform contract")
			}
			if c.PullResponse != nil {
				page, err := classic{}.DecodePull(c.PullResponse, PullRequest{After: c.AfterBundleSeq})
				expect(t, err, c.ExpectedPullErrorContains)
				if err == nil && c.ExpectedFinalState != nil && c.ExpectedFinalState.LastBundleSeqSeen != nil && page.StableSeq != *c.ExpectedFinalState.LastBundleSeqSeen {
					t.Errorf("stable_bundle_seq %d", page.StableSeq)
				}
			}
			for code, r := range map[string]*refusal{"history_pruned": c.HistoryPrunedResponse, "checkpoint_ahead": c.CheckpointAheadResponse, "source_replacement_invalid": c.SourceReplacementInvalidResponse} {
				if r == nil {
					continue
				}
				if e := DecodeError("test", r.Status, r.Body); e.Status != 409 || e.Code != code || e.Message == "" {
					t.Errorf("%+v", e)
				}
			}
			if c.SnapshotSession == nil {
				return
			}
			session, err := classic{}.DecodeSnapshotSession(c.SnapshotSession)
			expect(t, err, c.ExpectedSnapshotSessionErrorContains)
			if err != nil || c.SnapshotChunkResponse == nil {
				return
			}
			_, err = classic{}.DecodeSnapshotPage(c.SnapshotChunkResponse, SnapshotPageRequest{Session: session, After: c.SnapshotChunkAfterRowOrdinal, MaxRows: 1000})
			expect(t, err, c.ExpectedSnapshotChunkErrorContains)
		})
	}
}

// TestSharedPushCases decodes the answers of ../shared/contracts/push/basic-insert.json.
func TestSharedPushCases(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(sharedDir(t), "contracts", "push", "basic-insert.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name                        string
			PushSessionCreateResponse   json.RawMessage
			PushChunkResponse           json.RawMessage
			PushCommitResponse          json.RawMessage
			CommittedBundleRowsResponse json.RawMessage
			PushConflictResponse        json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &file); err != nil || len(file.Cases) == 0 {
		t.Fatalf("%d cases: %v", len(file.Cases), err)
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			request := CreatePushRequest{SourceBundleID: 1, PlannedRowCount: 1}
			var pushID string
			if c.PushSessionCreateResponse != nil {
				var source struct {
					ID string `json:"source_id"`
				}
				if err := json.Unmarshal(c.PushSessionCreateResponse, &source); err != nil {
					t.Fatal(err)
				}
				r, err := classic{}.DecodeCreatePush(c.PushSessionCreateResponse, request, source.ID)
				if err != nil {
					t.Error(err)
				}
				pushID = r.PushID
			}
			if c.PushChunkResponse != nil {
				if err := (classic{}).DecodePushChunk(c.PushChunkResponse, pushID, 1); err != nil {
					t.Error(err)
				}
			}
			committed := BundleMeta{RowCount: -1}
			if c.PushCommitResponse != nil {
				if committed, err = (classic{}).DecodeCommit(c.PushCommitResponse, request, "source-fixture"); err != nil || committed.Seq != 1 {
					t.Errorf("%+v, %v", committed, err)
				}
			}
			if c.CommittedBundleRowsResponse != nil {
				page, err := classic{}.DecodeCommittedRows(c.CommittedBundleRowsResponse, CommittedRowsRequest{Bundle: committed, After: -1})
				if err != nil || len(page.Rows) != 1 || page.Rows[0].RowVersion != 1 {
					t.Errorf("%+v, %v", page, err)
				}
			}
			if c.PushConflictResponse != nil {
				e := DecodeError("commit", 409, c.PushConflictResponse)
				if e.Code != "push_conflict" || e.Conflict == nil || e.Conflict.ServerRowVersion != 2 {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}
