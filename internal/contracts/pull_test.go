package contracts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/oversqlite/oversqlite"
)

// pullCase is a case of pull-snapshot/behavior.
type pullCase struct {
	Schema       string
	SyncTables   []tableConfig
	ServerScript pullScript
	Steps        []pullStep
}

type pullScript struct {
	Kind      string
	Response  json.RawMessage
	Responses []json.RawMessage
	Sessions  []json.RawMessage
	Chunks    map[string]map[string]json.RawMessage // by snapshot and ordinal
}

type pullStep struct {
	Action                            string
	SetupSQL                          []string
	ExpectedException                 string
	ExpectedErrorContains             string
	ExpectedKmpErrorContains          string
	ExpectedCheckpointRecoveryBlocked json.RawMessage
	ExpectedState, ExpectedKmpState   *pullState
	ExpectedAppState                  map[string]json.RawMessage
}

type pullState struct {
	LastBundleSeqSeen, DirtyRowCount, SnapshotStageCount, RowStateCount, OutboxRowCount, RebuildRequired *int64

	CurrentSourceChangedFromStepStart, OldSourceReplacedByCurrent *bool
}

func TestPullApply(t *testing.T) {
	t.Parallel()
	each(t, "pull-snapshot/behavior/apply.json", func(t *testing.T, d *dialect, c *pullCase) {
		if c.Schema == "" {
			c.Schema = "users"
		}
		if len(c.SyncTables) == 0 {
			c.SyncTables = []tableConfig{{TableName: "users", SyncKeyColumnName: "id"}}
		}
		s := newServer(t, d)
		s.capable(func(int) any { return d.capabilities("main", c.SyncTables) })
		s.connects(defaultResolution)
		c.ServerScript.play(t, s)
		dev := newClient(t, s, statements(appSchemas[c.Schema]), "main", c.SyncTables).mustOpen().mustAttach()
		for i, step := range c.Steps {
			step.run(t, fmt.Sprintf("step %d (%s)", i, step.Action), d, dev)
			if t.Failed() {
				return
			}
		}
	})
}

func (s *pullStep) run(t *testing.T, what string, d *dialect, dev *client) {
	t.Helper()
	dev.sql(s.SetupSQL, false)
	before := dev.source()
	var err error
	switch s.Action {
	case "pullToStable":
		_, err = dev.engine.PullToStable(t.Context())
	case "rebuild":
		_, err = dev.engine.Rebuild(t.Context())
	default:
		t.Fatalf("%s is not known", what)
	}
	if !isError(t, err, s.ExpectedException) {
		t.Errorf("%s: got the error %T %v, want %s", what, err, err, s.ExpectedException)
	}
	// An engine says it in the words of either client. What a classic server's pages break has no name in that dialect.
	if err != nil && d.uniform && s.ExpectedErrorContains+s.ExpectedKmpErrorContains != "" {
		expectText(t, what, err, s.ExpectedErrorContains, s.ExpectedKmpErrorContains)
	}
	if s.ExpectedCheckpointRecoveryBlocked != nil {
		t.Errorf("%s: a blocked checkpoint recovery is expected, which this engine does not know", what)
	}
	// Rows are checked before they are staged, as the Kotlin client does it.
	want := s.ExpectedState
	if s.ExpectedKmpState != nil {
		want = s.ExpectedKmpState
	}
	want.compare(t, what, dev, before)
	compareApp(t, what, dev, s.ExpectedAppState)
}

func (e *pullState) compare(t *testing.T, what string, dev *client, before string) {
	t.Helper()
	if e == nil {
		return
	}
	for _, c := range []struct {
		name  string
		want  *int64
		query string
	}{
		{"lastBundleSeqSeen", e.LastBundleSeqSeen, `SELECT last_bundle_seq_seen FROM _sync_attachment_state`},
		{"dirtyRowCount", e.DirtyRowCount, `SELECT COUNT(*) FROM _sync_dirty_rows`},
		{"snapshotStageCount", e.SnapshotStageCount, `SELECT COUNT(*) FROM _sync_snapshot_stage`},
		{"rowStateCount", e.RowStateCount, `SELECT COUNT(*) FROM _sync_row_state`},
		{"outboxRowCount", e.OutboxRowCount, `SELECT COUNT(*) FROM _sync_outbox_rows`},
		{"rebuildRequired", e.RebuildRequired, `SELECT rebuild_required FROM _sync_attachment_state`},
	} {
		if c.want != nil {
			same(t, what+": "+c.name, value(t, dev.db(), c.query), any(*c.want))
		}
	}
	now := dev.source()
	if e.CurrentSourceChangedFromStepStart != nil {
		same(t, what+": currentSourceChangedFromStepStart", now != before, *e.CurrentSourceChangedFromStepStart)
	}
	if e.OldSourceReplacedByCurrent != nil {
		replaced := textOf(value(t, dev.db(), `SELECT COALESCE(MAX(replaced_by_source_id), '') FROM _sync_source_state WHERE source_id = '`+before+`'`))
		same(t, what+": oldSourceReplacedByCurrent", replaced == now && now != before, *e.OldSourceReplacedByCurrent)
	}
}

func (s *pullScript) play(t *testing.T, web *server) {
	t.Helper()
	switch s.Kind {
	case "pull_incremental_bundles", "pull_incremental_users":
		web.on("GET /sync/pull", func(request) *answer { return ok(s.Response) })
	case "pull_sequence":
		n := 0
		web.on("GET /sync/pull", func(request) *answer {
			n++
			if n > len(s.Responses) {
				t.Errorf("pull %d, and the script has %d", n, len(s.Responses))
				return refused(http.StatusInternalServerError, "script_ended")
			}
			return ok(s.Responses[n-1])
		})
	case "snapshot_sequence":
		s.playSnapshots(t, web)
	default:
		t.Fatalf("no script %q", s.Kind)
	}
}

func (s *pullScript) playSnapshots(t *testing.T, web *server) {
	t.Helper()
	n := 0
	web.on("POST /sync/snapshot-sessions", func(request) *answer {
		n++
		if n > len(s.Sessions) {
			t.Errorf("snapshot session %d, and the script has %d", n, len(s.Sessions))
			return refused(http.StatusInternalServerError, "script_ended")
		}
		return ok(s.Sessions[n-1])
	})
	web.on("GET /sync/snapshot-sessions/{id}", func(r request) *answer {
		after := r.URL.Query().Get("after_row_ordinal")
		body := s.Chunks[r.PathValue("id")][after]
		var other scripted
		decode(t, append(json.RawMessage{}, body...), &other)
		if other.Status != 0 {
			return other.answer()
		}
		return ok(web.dialect.spoken(t, body, true))
	})
	web.on("DELETE /sync/snapshot-sessions/{id}", func(request) *answer { return &answer{status: http.StatusNoContent} })
	web.on("POST /sync/push-sessions", func(request) *answer { return refused(http.StatusBadRequest, "pending_work") })
}

// remoteOutcome is how a fixture names the outcome of a pull.
func remoteOutcome(r oversqlite.RemoteSyncReport) object {
	return object{"kind": "remote_sync", "outcome": r.Outcome}
}
