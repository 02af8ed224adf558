package contracts

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
)

// pushCase is a case of push/behavior.
type pushCase struct {
	Name                string
	Schema              string
	Resolver            string
	SyncTables          []tableConfig
	LocalSetupSQL       []string
	LocalApplyModeSQL   []string
	ServerScript        pushScript
	Steps               []pushStep
	ExpectedServerState json.RawMessage
}

type pushScript struct {
	Kind             string
	BundleSeq        int64
	NotFoundCount    int
	RowCount         int
	Conflict         json.RawMessage
	CommittedPayload json.RawMessage
	CommittedRows    []bundleRow
}

type pushStep struct {
	Action              string
	SQL                 []string
	ExpectedException   string
	ExpectedState       *pushState
	ExpectedAppState    map[string]json.RawMessage
	ExpectedServerState *struct {
		CreateRequestCount *int
		UploadedRows       []string
	}
}

type pushState struct {
	RebuildRequired    *bool
	OutboxState        *string
	OutboxRowCount     *int64
	DirtyRowCount      *int64
	NextSourceBundleID *int64
	LastBundleSeqSeen  *int64
	ApplyMode          *int64
}

func TestPushRecovery(t *testing.T) { testPush(t, "push/behavior/recovery.json") }
func TestPushApply(t *testing.T)    { testPush(t, "push/behavior/apply.json") }

func testPush(t *testing.T, family string) {
	t.Parallel()
	each(t, family, func(t *testing.T, d *dialect, c *pushCase) {
		if c.Schema == "" {
			c.Schema = "users"
		}
		if len(c.SyncTables) == 0 {
			c.SyncTables = []tableConfig{{TableName: "users", SyncKeyColumnName: "id"}}
		}
		if _, known := resolvers[c.Resolver]; !known {
			t.Fatalf("no resolver %q", c.Resolver)
		}
		f := newFake(t, d)
		f.capable(func(int) any { return d.capabilities("main", c.SyncTables) })
		f.connects(defaultResolution)
		c.ServerScript.play(t, f)
		dev := newClient(t, f, statements(appSchemas[c.Schema]), "main", c.SyncTables, func(cfg *oversqlite.Config) {
			cfg.Resolver = resolvers[c.Resolver]
			if c.ServerScript.Kind == "committed_bundle_not_found_then_success" {
				cfg.Retry.MaxElapsed = time.Minute // a replica that lags behind is waited for
			}
		}).mustOpen().mustAttach()
		dev.sql(c.LocalSetupSQL, false)
		dev.sql(c.LocalApplyModeSQL, true)
		for i, s := range c.Steps {
			s.run(t, fmt.Sprintf("step %d (%s)", i, s.Action), dev, f)
			if t.Failed() {
				return
			}
		}
	})
}

func (s *pushStep) run(t *testing.T, what string, dev *client, f *fake) {
	t.Helper()
	var err error
	switch s.Action {
	case "pushPending":
		_, err = dev.engine.PushPending(t.Context())
	case "localSql":
		err = script(t.Context(), dev.db(), s.SQL, false)
	case "applyModeSql":
		err = script(t.Context(), dev.db(), s.SQL, true)
	default:
		t.Fatalf("%s is not known", what)
	}
	if !isError(t, err, s.ExpectedException) {
		t.Errorf("%s: got the error %T %v, want %s", what, err, err, s.ExpectedException)
	}
	if s.ExpectedState != nil {
		s.ExpectedState.compare(t, what, dev)
	}
	compareApp(t, what, dev, s.ExpectedAppState)
	if e := s.ExpectedServerState; e != nil {
		if e.CreateRequestCount != nil {
			same(t, what+": requests for a push session", f.count("POST /sync/push-sessions"), *e.CreateRequestCount)
		}
		if e.UploadedRows != nil {
			same(t, what+": rows of the last chunk", f.uploads(), e.UploadedRows)
		}
	}
}

func (e *pushState) compare(t *testing.T, what string, dev *client) {
	t.Helper()
	number := func(name string, want *int64, query string) {
		t.Helper()
		if want != nil {
			same(t, what+": "+name, value(t, dev.db(), query), any(*want))
		}
	}
	if e.RebuildRequired != nil {
		same(t, what+": rebuildRequired", value(t, dev.db(), `SELECT rebuild_required FROM _sync_attachment_state`) != int64(0), *e.RebuildRequired)
	}
	if e.OutboxState != nil {
		same(t, what+": outboxState", textOf(value(t, dev.db(), `SELECT state FROM _sync_outbox_bundle`)), *e.OutboxState)
	}
	number("outboxRowCount", e.OutboxRowCount, `SELECT COUNT(*) FROM _sync_outbox_rows`)
	number("dirtyRowCount", e.DirtyRowCount, `SELECT COUNT(*) FROM _sync_dirty_rows`)
	number("nextSourceBundleId", e.NextSourceBundleID, `SELECT next_source_bundle_id FROM _sync_source_state WHERE source_id = (SELECT current_source_id FROM _sync_attachment_state)`)
	number("lastBundleSeqSeen", e.LastBundleSeqSeen, `SELECT last_bundle_seq_seen FROM _sync_attachment_state`)
	number("applyMode", e.ApplyMode, `SELECT apply_mode FROM _sync_apply_state`)
}

// compareApp compares whole tables of the application's.
func compareApp(t *testing.T, what string, dev *client, want map[string]json.RawMessage) {
	t.Helper()
	for name, rows := range want {
		table := appTables[name]
		if table == "" {
			t.Fatalf("%s: no table is called %s", what, name)
		}
		found := rowsOf(t, dev.db(), `SELECT * FROM `+table+` ORDER BY id`)
		for _, row := range found {
			for column, v := range row {
				if raw, blob := v.([]byte); blob {
					row[column] = hex.EncodeToString(raw)
				}
			}
		}
		sameJSON(t, what+": "+name, found, rows)
	}
}

// play sets the server up for a case.
//
// An engine that proves from the hash of a commit that it holds what was committed asks for no rows (03-behaviour.md 3.2,
// step 4). Scripts about that request therefore commit an INSERT as an UPDATE, as a server would whose own trigger touches
// the row once more: nothing else differs, but now the rows are needed.
func (s *pushScript) play(t *testing.T, f *fake) {
	t.Helper()
	mustFetch := func() {
		f.amend = func(rows []bundleRow) []bundleRow {
			for i := range rows {
				if rows[i].Op == "INSERT" {
					rows[i].Op = "UPDATE"
				}
			}
			return rows
		}
	}
	once := func(a *answer, when func(*pushSession) bool) func(*pushSession) *answer {
		done := false
		return func(p *pushSession) *answer {
			if done || !when(p) {
				return nil
			}
			done = true
			return a
		}
	}
	always := func(*pushSession) bool { return true }
	conflict := &answer{status: http.StatusConflict, body: object{"error": "push_conflict", "message": "scripted", "conflict": s.Conflict}}
	switch s.Kind {
	case "default", "", "echo_committed_rows":
	case "committed_bundle_seq_gap":
		f.next = s.BundleSeq
	case "committed_replay_first_fetch_http_error":
		mustFetch()
		failed := false
		f.onRows = func(*committedBundle, bool) *answer {
			if failed {
				return nil
			}
			failed = true
			return refused(http.StatusInternalServerError, "temporary")
		}
	case "precommit_retry":
		f.onCommit = once(refused(http.StatusInternalServerError, "temporary"), always)
	case "committed_replay_pruned":
		mustFetch()
		f.onRows = func(*committedBundle, bool) *answer { return refused(http.StatusConflict, "history_pruned") }
	case "committed_replay_bad_bundle_hash":
		f.hash = func(string) string { return "bad-hash" }
	case "committed_bundle_not_found_then_success":
		mustFetch()
		left := s.NotFoundCount
		f.onRows = func(_ *committedBundle, first bool) *answer {
			if !first || left == 0 {
				return nil
			}
			left--
			return refused(http.StatusNotFound, "committed_bundle_not_found")
		}
	case "conflict_once":
		f.onCommit = once(conflict, always)
	case "conflict_once_on_row_count":
		f.onCommit = once(conflict, func(p *pushSession) bool { return len(p.rows) == s.RowCount })
	case "committed_remote_request_hash_mismatch":
		mustFetch()
		f.asked = func(string) string { return strings.Repeat("b", 64) }
	case "already_committed_request_hash_mismatch":
		s.alreadyCommitted(f, []bundleRow{{
			Schema: "main", Table: "users", Key: json.RawMessage(`{"id":"user-1"}`), Op: "INSERT", RowVersion: 1, Payload: s.CommittedPayload,
		}}, func(createRequest) string { return strings.Repeat("b", 64) }, func(createRequest) int64 { return 1 })
		return
	case "already_committed_rows":
		s.alreadyCommitted(f, s.CommittedRows, func(r createRequest) string { return r.RequestHash }, func(r createRequest) int64 { return r.SourceBundleID })
		return
	default:
		t.Fatalf("no script %q", s.Kind)
	}
	f.routed()
}

// alreadyCommitted plays a server to which every push is one that it has committed before, as bundle 1.
func (s *pushScript) alreadyCommitted(f *fake, rows []bundleRow, asked func(createRequest) string, id func(createRequest) int64) {
	var b *committedBundle
	f.onCreate = func(r createRequest) *answer {
		if b == nil {
			b = f.append(r.source, id(r), rows)
		}
		b.asked = asked(r)
		o := f.meta(b)
		o["status"] = "already_committed"
		return ok(o)
	}
	f.on("POST /sync/push-sessions", f.create)
	f.on("GET /sync/committed-bundles/{seq}/rows", f.rows)
}
