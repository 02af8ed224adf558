package contracts

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// mock is the authoritative server ("MOCK") of the fixtures' guide: a fake that keeps rows, checks versions and takes
// snapshots.
type mock struct {
	*fake
	live        map[string]bundleRow // by table and key
	initialized bool
	leaseID     string // of a seed that is under way
	leaseSource string
	floor       int64 // bundles at or below are gone
	forced      map[string]*forcedConflict
	snapshots   map[string]*mockSnapshot
	features    object // beyond what every server has
}

// forcedConflict is a conflict that a test wants to happen.
type forcedConflict struct {
	version int64
	row     json.RawMessage
}

type mockSnapshot struct {
	seq   int64
	rows  []snapshotRow
	bytes int
}

type snapshotRow struct {
	Schema     string          `json:"schema"`
	Table      string          `json:"table"`
	Key        json.RawMessage `json:"key"`
	RowVersion int64           `json:"row_version"`
	Payload    json.RawMessage `json:"payload"`
}

func newMock(t testing.TB, d *dialect, tables []tableConfig) *mock {
	m := &mock{fake: newFake(t, d), live: map[string]bundleRow{}, forced: map[string]*forcedConflict{}, snapshots: map[string]*mockSnapshot{}}
	m.capable(func(int) any {
		body := d.capabilities("main", tables)
		maps.Copy(body["features"].(object), m.features)
		return body
	})
	m.on("POST /sync/connect", m.connect)
	m.onCreate = m.checkLease
	m.onCommit = m.checkRows
	m.pulled = m.pull
	m.fake.routed()
	m.on("POST /sync/snapshot-sessions", m.takeSnapshot)
	m.on("GET /sync/snapshot-sessions/{id}", m.snapshotPage)
	m.on("DELETE /sync/snapshot-sessions/{id}", func(r request) *answer {
		delete(m.snapshots, r.PathValue("id"))
		return &answer{status: http.StatusNoContent}
	})
	return m
}

func rowKey(table string, key json.RawMessage) string { return table + " " + keyValue(key) }

func (m *mock) connect(r request) *answer {
	var in struct {
		Pending bool `json:"has_local_pending_rows"`
	}
	m.parse(r, &in)
	switch {
	case m.initialized || len(m.bundles) > 0:
		return ok(object{"resolution": "remote_authoritative"})
	case m.leaseID != "" && m.leaseSource != r.Source:
		return ok(object{"resolution": "retry_later", "retry_after_seconds": 1, "lease_expires_at": "2099-01-01T00:00:00Z"})
	case in.Pending:
		m.leaseID, m.leaseSource = uuid.NewString(), r.Source
		return ok(object{"resolution": "initialize_local", "initialization_id": m.leaseID, "lease_expires_at": "2099-01-01T00:00:00Z"})
	default:
		m.initialized = true
		return ok(object{"resolution": "initialize_empty"})
	}
}

func (m *mock) checkLease(r createRequest) *answer {
	if m.leaseID != "" && m.leaseID != r.InitializationID {
		return refused(http.StatusConflict, "initialization_stale")
	}
	return nil
}

// checkRows refuses a commit that conflicts, and else lays its rows down.
func (m *mock) checkRows(p *pushSession) *answer {
	if m.committed[tupleOf(p.source, p.SourceBundleID)] != nil {
		return nil
	}
	if int64(len(p.rows)) != p.PlannedRowCount {
		return refused(http.StatusConflict, "push_session_incomplete")
	}
	for _, u := range p.rows {
		at := rowKey(u.Table, u.Key)
		row, known := m.live[at]
		if f := m.forced[at]; f != nil {
			delete(m.forced, at)
			m.live[at] = bundleRow{Schema: u.Schema, Table: u.Table, Key: u.Key, RowVersion: f.version, Payload: f.row}
			return m.conflict(u, f.version, f.row)
		}
		if row.RowVersion != u.Base {
			if !known {
				row.Payload = nil
			}
			return m.conflict(u, row.RowVersion, row.Payload)
		}
	}
	for _, u := range p.rows {
		m.lay(bundleRow{Schema: u.Schema, Table: u.Table, Key: u.Key, Op: u.Op, RowVersion: m.next, Payload: u.Payload})
	}
	m.leaseID, m.initialized = "", true
	return nil
}

func (m *mock) conflict(u uploadedRow, version int64, row json.RawMessage) *answer {
	if row == nil {
		row = json.RawMessage("null")
	}
	return &answer{status: http.StatusConflict, body: object{"error": "push_conflict", "message": "scripted", "conflict": object{
		"schema": u.Schema, "table": u.Table, "key": u.Key, "op": u.Op, "base_row_version": u.Base,
		"server_row_version": version, "server_row_deleted": false, "server_row": row,
	}}}
}

// lay makes a row of a bundle the live one.
func (m *mock) lay(r bundleRow) {
	if r.Op == "DELETE" {
		delete(m.live, rowKey(r.Table, r.Key))
		return
	}
	m.live[rowKey(r.Table, r.Key)] = r
}

// force has the next push of a row meet a conflict.
func (m *mock) force(table, id string, version int64, row string) {
	m.serving.Lock()
	defer m.serving.Unlock()
	m.forced[table+" "+id] = &forcedConflict{version, json.RawMessage(row)}
}

func (m *mock) pull(r request) *answer {
	m.pulls++
	after, target := number(r, "after_bundle_seq", 0), number(r, "target_bundle_seq", 0)
	if target <= 0 {
		target = m.stable()
	}
	if after < m.floor && m.stable() > after {
		return refused(http.StatusConflict, "history_pruned")
	}
	last, bundles := after, []object{}
	for _, b := range m.bundles {
		if b.seq > after && b.seq <= target && int64(len(bundles)) < number(r, "max_bundles", 1000) {
			bundles, last = append(bundles, m.bundle(b)), b.seq
		}
	}
	return ok(object{"stable_bundle_seq": target, "bundles": bundles, "has_more": last < target})
}

func (m *mock) takeSnapshot(request) *answer {
	s := &mockSnapshot{seq: m.stable()}
	rows := slices.SortedFunc(maps.Values(m.live), func(a, b bundleRow) int {
		return strings.Compare(a.Table+"\x00"+keyValue(a.Key), b.Table+"\x00"+keyValue(b.Key))
	})
	for _, r := range rows {
		row := snapshotRow{r.Schema, r.Table, r.Key, r.RowVersion, r.Payload}
		s.rows = append(s.rows, row)
		s.bytes += len(mustJSON(row))
	}
	id := fmt.Sprintf("snapshot-%d", len(m.snapshots)+1)
	m.snapshots[id] = s
	return ok(object{"snapshot_id": id, "snapshot_bundle_seq": s.seq, "row_count": len(s.rows), "byte_count": s.bytes, "expires_at": "2099-01-01T00:00:00Z"})
}

func (m *mock) snapshotPage(r request) *answer {
	s := m.snapshots[r.PathValue("id")]
	if s == nil {
		return refused(http.StatusNotFound, "snapshot_session_not_found")
	}
	after := number(r, "after_row_ordinal", 0)
	rows, more := page(s.rows, after, number(r, "max_rows", 1000))
	o := object{"snapshot_id": r.PathValue("id"), "snapshot_bundle_seq": s.seq, "rows": rows, "next_row_ordinal": after + int64(len(rows)), "has_more": more}
	if m.dialect.uniform {
		size := 0
		for _, row := range rows {
			size += len(mustJSON(row))
		}
		o["byte_count"] = size
	}
	return ok(o)
}
