package devserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

// uniformPush stages rows under the hash that they have, or under another one, and commits them.
func uniformPush(d *device, hash string, status int, code string, rows ...object) object {
	d.t.Helper()
	k, err := wire.ContractByName(wire.UniformContract)
	if err != nil {
		d.t.Fatal(err)
	}
	h := k.NewRequestHash()
	for _, r := range rows {
		key, _ := r["key"].(object)
		pushed := wire.PushRow{Schema: r["schema"].(string), Table: r["table"].(string), Key: wire.Key{Column: "id", Value: key["id"].(string)},
			Op: wire.Op(r["op"].(string)), BaseRowVersion: int64(r["base_row_version"].(int))}
		if r["payload"] != nil {
			if pushed.Payload, err = json.Marshal(r["payload"]); err != nil {
				d.t.Fatal(err)
			}
		}
		if err := h.Add(&pushed); err != nil {
			d.t.Fatal(err)
		}
	}
	if sum := h.Sum(); hash == "" {
		hash = sum
	}
	created := d.do("POST", "/sync/push-sessions", object{"source_bundle_id": d.next, "planned_row_count": len(rows), "canonical_request_hash": hash}, 200, "")
	if created["canonical_request_hash"] != hash {
		d.t.Errorf("%v", created)
	}
	id, _ := created["push_id"].(string)
	d.do("POST", "/sync/push-sessions/"+id+"/chunks", object{"start_row_ordinal": 0, "rows": rows}, 200, "")
	answer := d.do("POST", "/sync/push-sessions/"+id+"/commit", nil, status, code)
	if status == 200 {
		d.next++
		if answer["canonical_request_hash"] != hash {
			d.t.Errorf("%v", answer)
		}
	}
	return answer
}

func typedRow(n int, count any) object {
	return row("typed_rows", "INSERT", uid(n), 0, object{"name": "n", "note": nil, "count_value": count, "enabled_flag": "1", "rating": "0.5", "data": "AP8=", "created_at": nil})
}

// TestUniformDialect: numbers are strings, exact beyond a float64, in bundles, snapshots and conflicts; pushes are named by
// their hash; a checkpoint ahead of the server is refused.
func TestUniformDialect(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{Contract: wire.UniformContract})
	d := newDevice(t, s, web, "u", "s")
	if limits := d.do("GET", "/sync/capabilities", nil, 200, "")["bundle_limits"].(object); limits["max_bytes_per_snapshot_row"] != 4194304.0 || limits["max_concurrent_snapshot_builds"] != 2.0 {
		t.Errorf("%v", limits)
	}
	d.connect(false)
	for _, hash := range []string{"", "abc", strings.Repeat("A", 64)} {
		d.do("POST", "/sync/push-sessions", object{"source_bundle_id": 1, "planned_row_count": 1, "canonical_request_hash": hash}, 400, "push_session_invalid")
	}
	uniformPush(d, strings.Repeat("0", 64), 400, "push_commit_invalid", typedRow(1, "1"))
	for _, count := range []any{1, "01", "1.0", " 1", true} {
		uniformPush(d, "", 500, "push_session_commit_failed", typedRow(1, count))
	}
	answer := uniformPush(d, "", 200, "", typedRow(1, "9223372036854775807"))
	page := d.do("GET", "/sync/committed-bundles/1/rows", nil, 200, "")
	if page["canonical_request_hash"] != answer["canonical_request_hash"] || page["bundle_hash"] != answer["bundle_hash"] {
		t.Errorf("%v, %v", page, answer)
	}
	payload := list(page["rows"])[0]["payload"].(object)
	if payload["count_value"] != "9223372036854775807" || payload["enabled_flag"] != "1" || payload["rating"] != "0.5" || payload["data"] != "AP8=" {
		t.Errorf("%v", payload)
	}
	again := d.do("POST", "/sync/push-sessions", object{"source_bundle_id": 1, "planned_row_count": 1, "canonical_request_hash": strings.Repeat("1", 64)}, 200, "")
	if again["status"] != "already_committed" || again["canonical_request_hash"] != answer["canonical_request_hash"] {
		t.Errorf("%v", again)
	}
	d.do("GET", "/sync/pull?after_bundle_seq=2", nil, 409, "checkpoint_ahead")
	pulled := list(d.do("GET", "/sync/pull?after_bundle_seq=0", nil, 200, "")["bundles"])
	if pulled[0]["canonical_request_hash"] != nil {
		t.Errorf("%v", pulled)
	}
	conflict := uniformPush(d, "", 409, "push_conflict", typedRow(1, "2"))
	if row := conflict["conflict"].(object)["server_row"].(object); row["count_value"] != "9223372036854775807" {
		t.Errorf("%v", conflict)
	}
}

// TestUniformSnapshotsAreBoundedInBytes: pages end where the next row would be too much, and all counts add up.
func TestUniformSnapshotsAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{Contract: wire.UniformContract, Limits: wire.Limits{MaxBytesPerSnapshotChunk: 2000, MaxBytesPerSnapshotRow: 1000, MaxBytesPerSnapshotSession: 8000}})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	empty := d.do("POST", "/sync/snapshot-sessions", nil, 200, "")
	if empty["byte_count"] != 0.0 || empty["row_count"] != 0.0 {
		t.Errorf("%v", empty)
	}
	var rows []object
	for n := range 10 {
		rows = append(rows, typedRow(n, fmt.Sprint(n)))
	}
	uniformPush(d, "", 200, "", rows...)
	session := d.do("POST", "/sync/snapshot-sessions", nil, 200, "")
	at, size, pages := 0, 0.0, 0
	for more := true; more; pages++ {
		path := snapshotPath(session, fmt.Sprintf("?after_row_ordinal=%d&max_rows=5&max_bytes=900", at))
		_, raw, _, err := d.try("GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		k, _ := wire.ContractByName(wire.UniformContract)
		page, err := k.DecodeSnapshotPage(raw, wire.SnapshotPageRequest{
			Session: wire.SnapshotSession{ID: session["snapshot_id"].(string), BundleSeq: 1, RowCount: 10, ByteCount: int64(session["byte_count"].(float64))},
			After:   int64(at), AfterBytes: int64(size), MaxRows: 5, MaxBytes: 900,
		})
		if err != nil {
			t.Fatal(err)
		}
		at, size, more = int(page.Next), size+float64(page.ByteCount), page.HasMore
	}
	if at != 10 || size != session["byte_count"] || pages < 3 {
		t.Errorf("%d rows and %v bytes on %d pages of %v", at, size, pages, session)
	}
	small := d.do("GET", snapshotPath(session, "?max_bytes=10"), nil, 400, "snapshot_chunk_too_small")
	if small["required_byte_count"].(float64) <= 10 {
		t.Errorf("%v", small)
	}
	large := typedRow(20, "1")
	large["payload"].(object)["name"] = strings.Repeat("x", 1000)
	uniformPush(d, "", 200, "", large)
	refused := d.do("POST", "/sync/snapshot-sessions", nil, 409, "snapshot_session_limit_exceeded")
	if refused["dimension"] != "row_byte_count" || refused["limit"] != 1000.0 {
		t.Errorf("%v", refused)
	}
}

// TestAUserKeepsHisDialect: what is stored is spelled in it.
func TestAUserKeepsHisDialect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, web := start(t, devserver.Config{Dir: dir})
	newDevice(t, s, web, "u", "s").connect(false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other, front := start(t, devserver.Config{Dir: dir, Contract: wire.UniformContract})
	newDevice(t, other, front, "u", "s").do("POST", "/sync/connect", object{"has_local_pending_rows": false}, 500, "connect_failed")
	newDevice(t, other, front, "somebody new", "s").connect(false)
}
