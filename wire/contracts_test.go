package wire

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// withoutMember returns object without one of its members: what a classic server would have sent.
func withoutMember(t *testing.T, object json.RawMessage, name string) json.RawMessage {
	t.Helper()
	if object == nil {
		return nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		t.Fatal(err)
	}
	delete(members, name)
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// inBothContracts runs a test once a contract.
func inBothContracts(t *testing.T, f func(t *testing.T, c Contract)) {
	for _, c := range []Contract{classic{}, uniform{}} {
		t.Run(string(c.Name()), func(t *testing.T) {
			t.Parallel()
			f(t, c)
		})
	}
}

// uniformOnly are the cases of the shared fixtures that rest on rules the classic contract does not have.
var uniformOnly = []string{"pull-rejects-hidden-scope-payload", "snapshot-rejects-hidden-scope-payload", "snapshot-rejects-malformed-expiry"}

// TestSharedPullAndSnapshotCases runs the language-neutral cases of ../shared/contracts/pull-snapshot/basic.json.
func TestSharedPullAndSnapshotCases(t *testing.T) {
	t.Parallel()
	inBothContracts(t, sharedPullAndSnapshotCases)
}

func sharedPullAndSnapshotCases(t *testing.T, contract Contract) {
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
			Name                                    string
			AfterBundleSeq                          int64
			PullResponse                            json.RawMessage
			ExpectedPullErrorContains               string
			HistoryPrunedResponse                   *refusal
			CheckpointAheadResponse                 *refusal
			SourceReplacementInvalidResponse        *refusal
			SnapshotSession                         json.RawMessage
			SnapshotChunkResponse                   json.RawMessage
			SnapshotChunkAfterRowOrdinal            int64
			ExpectedSnapshotSessionErrorContains    string
			ExpectedSnapshotChunkErrorContains      string
			ExpectedKmpSnapshotSessionErrorContains string
			ExpectedKmpSnapshotChunkErrorContains   string
			ExpectedFinalState                      *struct{ LastBundleSeqSeen *int64 }
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
			if contract.Name() == ClassicContract {
				if slices.Contains(uniformOnly, c.Name) {
					t.Skip("a rule of the uniform contract")
				}
				c.SnapshotChunkResponse = withoutMember(t, c.SnapshotChunkResponse, "byte_count")
			} else {
				// The names of the family are in the message beside the text.
				defer func() {
					if c.ExpectedKmpSnapshotSessionErrorContains != "" {
						_, err := contract.DecodeSnapshotSession(c.SnapshotSession)
						expect(t, err, c.ExpectedKmpSnapshotSessionErrorContains)
					}
				}()
			}
			if c.PullResponse != nil {
				page, err := contract.DecodePull(c.PullResponse, PullRequest{After: c.AfterBundleSeq})
				expect(t, err, c.ExpectedPullErrorContains)
				if err == nil && c.ExpectedFinalState != nil && c.ExpectedFinalState.LastBundleSeqSeen != nil && page.StableSeq != *c.ExpectedFinalState.LastBundleSeqSeen {
					t.Errorf("stable_bundle_seq %d", page.StableSeq)
				}
			}
			for code, r := range map[string]*refusal{"history_pruned": c.HistoryPrunedResponse, "checkpoint_ahead": c.CheckpointAheadResponse, "source_replacement_invalid": c.SourceReplacementInvalidResponse} {
				if r == nil {
					continue
				}
				if e := contract.DecodeError("test", r.Status, r.Body); e.Status != 409 || e.Code != code || e.Message == "" {
					t.Errorf("%+v", e)
				}
			}
			if c.SnapshotSession == nil {
				return
			}
			session, err := contract.DecodeSnapshotSession(c.SnapshotSession)
			expect(t, err, c.ExpectedSnapshotSessionErrorContains)
			if err != nil || c.SnapshotChunkResponse == nil {
				return
			}
			_, err = contract.DecodeSnapshotPage(c.SnapshotChunkResponse, SnapshotPageRequest{Session: session, After: c.SnapshotChunkAfterRowOrdinal, MaxRows: 1000, MaxBytes: 4 << 20})
			expect(t, err, c.ExpectedSnapshotChunkErrorContains)
			if c.ExpectedKmpSnapshotChunkErrorContains != "" {
				expect(t, err, c.ExpectedKmpSnapshotChunkErrorContains)
			}
		})
	}
}

// TestSharedPushCases decodes the answers of ../shared/contracts/push/basic-insert.json.
func TestSharedPushCases(t *testing.T) {
	t.Parallel()
	inBothContracts(t, sharedPushCases)
}

func sharedPushCases(t *testing.T, contract Contract) {
	text, err := os.ReadFile(filepath.Join(sharedDir(t), "contracts", "push", "basic-insert.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name                        string
			PushSessionCreateRequest    json.RawMessage
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
			hashes := map[string]string{}
			for name, answer := range map[string]*json.RawMessage{"create": &c.PushSessionCreateResponse, "commit": &c.PushCommitResponse, "rows": &c.CommittedBundleRowsResponse} {
				if contract.Name() == ClassicContract {
					*answer = withoutMember(t, *answer, "canonical_request_hash")
				} else if *answer != nil {
					var named struct {
						Hash string `json:"canonical_request_hash"`
					}
					if err := json.Unmarshal(*answer, &named); err != nil {
						t.Fatal(err)
					}
					hashes[name] = named.Hash
				}
			}
			if c.PushSessionCreateRequest != nil && contract.Name() == UniformContract {
				var sent struct {
					Hash string `json:"canonical_request_hash"`
				}
				if err := json.Unmarshal(c.PushSessionCreateRequest, &sent); err != nil {
					t.Fatal(err)
				}
				request.RequestHash = sent.Hash
			}
			// expect wants an answer that names another request to be refused as such, and any other one to be taken.
			expect := func(what string, err error) bool {
				t.Helper()
				var other *RequestHashError
				if hash, named := hashes[what]; named && request.RequestHash != "" && hash != request.RequestHash {
					if !errors.As(err, &other) {
						t.Errorf("%s: %v", what, err)
					}
					return false
				}
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				return err == nil
			}
			var pushID string
			if c.PushSessionCreateResponse != nil {
				var source struct {
					ID string `json:"source_id"`
				}
				if err := json.Unmarshal(c.PushSessionCreateResponse, &source); err != nil {
					t.Fatal(err)
				}
				r, err := contract.DecodeCreatePush(c.PushSessionCreateResponse, request, source.ID)
				expect("create", err)
				pushID = r.PushID
			}
			if c.PushChunkResponse != nil {
				if err := contract.DecodePushChunk(c.PushChunkResponse, pushID, 1); err != nil {
					t.Error(err)
				}
			}
			committed := BundleMeta{RowCount: -1}
			if c.PushCommitResponse != nil {
				if committed, err = contract.DecodeCommit(c.PushCommitResponse, request, "source-fixture"); expect("commit", err) && committed.Seq != 1 {
					t.Errorf("%+v", committed)
				}
			}
			if c.CommittedBundleRowsResponse != nil {
				committed.RequestHash = request.RequestHash
				page, err := contract.DecodeCommittedRows(c.CommittedBundleRowsResponse, CommittedRowsRequest{Bundle: committed, After: -1})
				if expect("rows", err) && (len(page.Rows) != 1 || page.Rows[0].RowVersion != 1) {
					t.Errorf("%+v", page)
				}
			}
			if c.PushConflictResponse != nil {
				e := contract.DecodeError("commit", 409, c.PushConflictResponse)
				if e.Code != "push_conflict" || e.Conflict == nil || e.Conflict.ServerRowVersion != 2 {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}
