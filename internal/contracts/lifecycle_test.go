package contracts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite"
)

// lifecycleCase is a case of lifecycle/behavior and of runtime-state/transitions: steps, each followed by a dump.
type lifecycleCase struct {
	Name         string
	ServerScript lifecycleScript
	Steps        []lifecycleStep
}

type lifecycleScript struct {
	Kind                  string
	ConnectResolution     string
	ProtocolVersions      []string
	LateWritesByPull      [][]string
	Snapshots             []lifecycleSnapshot
	SnapshotSessionErrors []struct {
		Status                                       int
		Error, Message, SourceID, ReplacedBySourceID string
	}

	// Of runtime-state.
	BundleSeq           int64
	ReplacementSourceID string
	Response            json.RawMessage
}

type lifecycleSnapshot struct {
	ID                  string
	BundleSeq           int64
	FailAfterRowOrdinal *int64
	RowsPerChunk        int64
	Rows                []struct {
		Key        json.RawMessage
		RowVersion int64
		Payload    json.RawMessage
	}
}

type lifecycleStep struct {
	Action              string
	SQL                 []string
	ExpectedException   string
	ExpectedResult      json.RawMessage
	ExpectedState       json.RawMessage
	ExpectedServerState *struct {
		CreateRequestCount                *int
		CreateSourceBundleIDs             []int64
		SnapshotSessionCreateCount        *int
		SnapshotSourceReplacementRequests []string
	}
}

func TestLifecycle(t *testing.T) { testLifecycle(t, "lifecycle/behavior/basic.json", false) }
func TestLifecycleProtocolGates(t *testing.T) {
	testLifecycle(t, "lifecycle/behavior/protocol-gates.json", false)
}
func TestLifecycleSourceRecovery(t *testing.T) {
	testLifecycle(t, "lifecycle/behavior/source-recovery-replacement.json", false)
}
func TestRuntimeState(t *testing.T) { testLifecycle(t, "runtime-state/transitions/basic.json", true) }

var usersOnly = []tableConfig{{TableName: "users", SyncKeyColumnName: "id"}}

// lifecycleRun is a case being played.
type lifecycleRun struct {
	*lifecycleCase
	*client
	t    *testing.T
	fake *fake
	// reattach makes "reopen" attach again, as runtime-state means it.
	reattach     bool
	sessions     int      // requests for a snapshot session
	replacements []string // canonical source_replacement of each, "" none
}

func testLifecycle(t *testing.T, family string, runtime bool) {
	t.Parallel()
	each(t, family, func(t *testing.T, d *dialect, c *lifecycleCase) {
		r := &lifecycleRun{lifecycleCase: c, t: t, fake: newFake(t, d), reattach: runtime}
		r.play(runtime)
		r.client = newClient(t, r.fake, statements(appSchemas["users"]), "main", usersOnly)
		for i := range c.Steps {
			r.step(i)
			if t.Failed() {
				return
			}
		}
	})
}

func (r *lifecycleRun) step(i int) {
	s := &r.Steps[i]
	what := fmt.Sprintf("step %d (%s)", i, s.Action)
	result, err := r.act(what, s)
	want := s.ExpectedException
	if !isError(r.t, err, want) {
		r.t.Errorf("%s: got the error %T %v, want %q", what, err, err, want)
	}
	if s.ExpectedResult != nil {
		sameJSON(r.t, what+": result", result, s.ExpectedResult)
	}
	if e := s.ExpectedServerState; e != nil {
		r.compareServer(what, e.CreateRequestCount, e.CreateSourceBundleIDs, e.SnapshotSessionCreateCount, e.SnapshotSourceReplacementRequests)
	}
	db := openPlain(r.t, r.cfg.Path)
	defer db.Close()
	sameJSON(r.t, what+": ", dump(r.t, db), s.ExpectedState)
}

func (r *lifecycleRun) compareServer(what string, creates *int, ids []int64, sessions *int, replacements []string) {
	r.fake.serving.Lock()
	defer r.fake.serving.Unlock()
	if creates != nil {
		same(r.t, what+": requests for a push session", len(r.fake.creates), *creates)
	}
	if ids != nil {
		got := []int64{}
		for _, c := range r.fake.creates {
			got = append(got, c.SourceBundleID)
		}
		same(r.t, what+": source bundle ids", got, ids)
	}
	if sessions != nil {
		same(r.t, what+": requests for a snapshot session", r.sessions, *sessions)
	}
	if replacements != nil {
		same(r.t, what+": source replacements", r.replacements, replacements)
	}
}

// act does what a step says and returns the result in the form of the fixtures.
func (r *lifecycleRun) act(what string, s *lifecycleStep) (result any, err error) {
	ctx := r.t.Context()
	switch s.Action {
	case "open", "reopenOpen":
		return nil, r.open()
	case "reopen":
		if err := r.open(); err != nil || !r.reattach {
			return nil, err
		}
		return r.attachNow()
	case "attach":
		return r.attachNow()
	case "localSql":
		return nil, script(ctx, r.db(), s.SQL, false)
	case "applyModeSql":
		return nil, script(ctx, r.db(), s.SQL, true)
	case "pushPending":
		_, err := r.engine.PushPending(ctx)
		return nil, err
	case "pullToStable":
		p, err := r.engine.PullToStable(ctx)
		return remoteOutcome(p), err
	case "rebuild":
		p, err := r.engine.Rebuild(ctx)
		return remoteOutcome(p), err
	case "sync":
		p, err := r.engine.Sync(ctx)
		return object{"kind": "sync", "pushOutcome": p.Push, "remoteOutcome": p.Remote}, err
	case "syncThenDetach":
		p, err := r.engine.SyncThenDetach(ctx)
		return object{
			"kind": "sync_then_detach", "isSuccess": p.IsSuccess(), "detach": p.Detach.Outcome, "syncRounds": p.SyncRounds,
			"remainingPendingRowCount": p.RemainingPendingRowCount, "pushOutcome": p.LastSync.Push, "remoteOutcome": p.LastSync.Remote,
		}, err
	case "detach":
		p, err := r.engine.Detach(ctx)
		return object{"kind": "detach", "outcome": p.Outcome}, err
	case "sourceInfo":
		p, err := r.engine.SourceInfo(ctx)
		o := object{
			"kind": "source_info", "currentSourceIdPresent": p.CurrentSourceID != "",
			"rebuildRequired": p.RebuildRequired, "sourceRecoveryRequired": p.SourceRecoveryRequired,
		}
		if p.SourceRecoveryReason != "" {
			o["sourceRecoveryReason"] = p.SourceRecoveryReason
		}
		return o, err
	default:
		r.t.Fatalf("%s is not known", what)
		return nil, nil
	}
}

func (r *lifecycleRun) attachNow() (any, error) {
	a, err := r.engine.Attach(r.t.Context(), userID)
	switch a := a.(type) {
	case oversqlite.Connected:
		return object{"kind": "attach", "outcome": a.Outcome}, err
	case oversqlite.RetryLater:
		return object{"kind": "attach_retry_later", "retryAfterSeconds": int64(a.RetryAfter.Seconds())}, err
	default:
		return nil, err
	}
}

// play sets the server up.
func (r *lifecycleRun) play(runtime bool) {
	s, f := &r.ServerScript, r.fake
	// Some clients ask twice before they take a snapshot. Whoever asks once an operation leaves the second answer out.
	versions := slices.Compact(slices.Clone(s.ProtocolVersions))
	f.capable(func(n int) any {
		caps := f.dialect.capabilities("main", usersOnly)
		if len(versions) > 0 {
			caps["protocol_version"] = versions[min(n, len(versions))-1]
		}
		return caps
	})
	r.playConnect()
	switch s.Kind {
	case "chunked_sync":
		f.onPull = func(n int) {
			if n > len(s.LateWritesByPull) {
				return
			}
			if err := script(r.t.Context(), r.db(), s.LateWritesByPull[n-1], false); err != nil {
				r.t.Error(err)
			}
		}
		f.routed()
	case "default", "":
		if runtime {
			f.routed()
			return
		}
		r.playSnapshots()
	case "snapshot_rebuild", "remote_authoritative_partial_snapshot":
		r.playSnapshots()
	case "pull_incremental_users":
		(&pullScript{Kind: s.Kind, Response: s.Response}).play(r.t, f.server)
	case "source_retired_on_push_create":
		replacement := s.ReplacementSourceID
		if replacement == "" {
			replacement = "replacement-source"
		}
		f.onCreate = func(c createRequest) *answer {
			return &answer{status: http.StatusConflict, body: object{
				"error": "source_retired", "message": "scripted", "source_id": c.source, "replaced_by_source_id": replacement,
			}}
		}
		f.routed()
	default:
		(&pushScript{Kind: s.Kind, BundleSeq: s.BundleSeq}).play(r.t, f)
	}
}

func (r *lifecycleRun) playConnect() {
	s := &r.ServerScript
	r.fake.connects(func(pending bool) object {
		switch {
		case s.ConnectResolution != "" && s.ConnectResolution != "default":
			return object{"resolution": s.ConnectResolution}
		case len(s.ProtocolVersions) > 0:
			return defaultResolution(false)
		default:
			return defaultResolution(pending)
		}
	})
}

// playSnapshots serves the snapshots of the script, in the indented text whose bytes its dumps count.
func (r *lifecycleRun) playSnapshots() {
	s, f := &r.ServerScript, r.fake
	f.on("POST /sync/snapshot-sessions", func(req request) *answer {
		r.sessions++
		var in struct {
			Replacement map[string]any `json:"source_replacement"`
		}
		canonical := ""
		if len(bytes.TrimSpace(req.Body)) > 0 {
			f.parse(req, &in)
		}
		if in.Replacement != nil {
			canonical = string(jcs(nil, in.Replacement))
		}
		r.replacements = append(r.replacements, canonical)
		if n := r.sessions - 1; n < len(s.SnapshotSessionErrors) {
			e := s.SnapshotSessionErrors[n]
			body := object{"error": e.Error, "message": e.Message, "source_id": e.SourceID}
			if body["source_id"] == "" {
				body["source_id"] = "current-source"
			}
			if e.ReplacedBySourceID != "" {
				body["replaced_by_source_id"] = e.ReplacedBySourceID
			}
			if e.Status == 0 {
				e.Status = http.StatusConflict
			}
			return &answer{status: e.Status, body: body}
		}
		if len(s.Snapshots) == 0 {
			return refused(http.StatusNotFound, "snapshot_session_not_found")
		}
		snapshot := &s.Snapshots[min(r.sessions, len(s.Snapshots))-1]
		rows, size := snapshot.texts()
		return ok(object{
			"snapshot_id": snapshot.ID, "snapshot_bundle_seq": snapshot.BundleSeq, "row_count": len(rows), "byte_count": size,
			"expires_at": "2099-01-01T00:00:00Z",
		})
	})
	f.on("GET /sync/snapshot-sessions/{id}", func(req request) *answer {
		for i := range s.Snapshots {
			if s.Snapshots[i].ID == req.PathValue("id") {
				return s.Snapshots[i].page(req, f.dialect)
			}
		}
		return refused(http.StatusNotFound, "snapshot_session_not_found")
	})
	f.on("DELETE /sync/snapshot-sessions/{id}", func(request) *answer { return &answer{status: http.StatusNoContent} })
}

// texts returns the rows as they travel, and how many bytes they are.
func (s *lifecycleSnapshot) texts() (rows []string, size int) {
	for _, row := range s.Rows {
		text, err := json.MarshalIndent(struct {
			Schema     string          `json:"schema"`
			Table      string          `json:"table"`
			Key        json.RawMessage `json:"key"`
			RowVersion int64           `json:"row_version"`
			Payload    json.RawMessage `json:"payload"`
		}{"main", "users", row.Key, row.RowVersion, row.Payload}, "", "  ")
		if err != nil {
			panic(err) // of a fixture that was decoded before
		}
		rows = append(rows, string(text))
		size += len(text)
	}
	return rows, size
}

func (s *lifecycleSnapshot) page(r request, d *dialect) *answer {
	after := number(r, "after_row_ordinal", 0)
	if s.FailAfterRowOrdinal != nil && *s.FailAfterRowOrdinal == after {
		return refused(http.StatusInternalServerError, "snapshot_failed")
	}
	n := number(r, "max_rows", 1000)
	if s.RowsPerChunk > 0 {
		n = min(n, s.RowsPerChunk)
	}
	all, _ := s.texts()
	rows, more := page(all, after, n)
	size := 0
	for _, text := range rows {
		size += len(text)
	}
	head := object{"snapshot_id": s.ID, "snapshot_bundle_seq": s.BundleSeq, "next_row_ordinal": after + int64(len(rows)), "has_more": more}
	if d.uniform {
		head["byte_count"] = size
	}
	text := strings.TrimSuffix(string(mustJSON(head)), "}")
	return ok(json.RawMessage(text + `,"rows":[` + strings.Join(rows, ",") + `]}`))
}
