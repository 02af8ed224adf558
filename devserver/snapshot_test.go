package devserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

func snapshotPath(answer object, query string) string {
	return fmt.Sprintf("/sync/snapshot-sessions/%s%s", answer["snapshot_id"], query)
}

func TestSnapshotIsFrozen(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.do("POST", "/sync/snapshot-sessions", nil, 409, "scope_uninitialized")
	d.connect(false)
	d.push(userRow("INSERT", 2, 0, "b"), userRow("INSERT", 1, 0, "a"), userRow("INSERT", 3, 0, "gone"))
	d.push(row("users", "DELETE", uid(3), 1, nil))
	session := d.do("POST", "/sync/snapshot-sessions", `{}`, 200, "")
	if session["snapshot_bundle_seq"] != 2.0 || session["row_count"] != 2.0 || session["byte_count"].(float64) < 200 {
		t.Error(session)
	}
	d.push(userRow("UPDATE", 1, 1, "changed"), userRow("INSERT", 4, 0, "new"))
	for query, want := range map[string]string{
		"":                                    "[1 2] next 2 more false",
		"?max_rows=1":                         "[1] next 1 more true",
		"?after_row_ordinal=1&max_rows=1":     "[2] next 2 more false",
		"?after_row_ordinal=2":                "[] next 2 more false",
		"?after_row_ordinal=999&max_rows=100": "[] next 999 more false",
	} {
		answer := d.do("GET", snapshotPath(session, query), nil, 200, "")
		keys := []int{}
		for _, r := range list(answer["rows"]) {
			for n := range 5 {
				if r["key"].(object)["id"] == uid(n) {
					keys = append(keys, n)
				}
			}
			if name := r["payload"].(object)["name"]; name != "a" && name != "b" || r["row_version"] != 1.0 {
				t.Error(r)
			}
		}
		if got := fmt.Sprintf("%v next %v more %v", keys, answer["next_row_ordinal"], answer["has_more"]); got != want {
			t.Errorf("%s: want %s, got %s", query, want, got)
		}
	}
	for _, bad := range []string{"?max_rows=0", "?after_row_ordinal=-1", "?max_rows=many"} {
		d.do("GET", snapshotPath(session, bad), nil, 400, "snapshot_chunk_invalid")
	}
	mallory := newDevice(t, s, web, "mallory", "s")
	mallory.do("GET", snapshotPath(session, ""), nil, 403, "snapshot_session_forbidden")
	mallory.do("DELETE", snapshotPath(session, ""), nil, 403, "snapshot_session_forbidden")
	d.do("DELETE", snapshotPath(session, ""), nil, 204, "")
	d.do("GET", snapshotPath(session, ""), nil, 404, "snapshot_session_not_found")
}

func TestSnapshotTTLIsNotRenewed(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s, web := start(t, devserver.Config{Now: clock.Now, SnapshotSessionTTL: 10 * time.Second})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	session := d.do("POST", "/sync/snapshot-sessions", nil, 200, "")
	if session["expires_at"] != "2026-06-01T12:00:10Z" {
		t.Error(session)
	}
	clock.advance(9 * time.Second)
	d.do("GET", snapshotPath(session, ""), nil, 200, "")
	clock.advance(time.Second)
	d.do("GET", snapshotPath(session, ""), nil, 410, "snapshot_session_expired")
	clock.advance(11 * time.Second)
	d.do("POST", "/sync/snapshot-sessions", nil, 200, "") // sweeps
	d.do("GET", snapshotPath(session, ""), nil, 404, "snapshot_session_not_found")
}

func TestSnapshotRequests(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{Limits: wire.Limits{MaxRowsPerSnapshotSession: 1}})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	replace := func(previous, next, reason string) object {
		return object{"source_replacement": object{"previous_source_id": previous, "new_source_id": next, "reason": reason}}
	}
	const reason = "source_retired"
	for _, bad := range []any{`{`, `[]`, `{} {}`, `{"x":1}`, `{"source_replacement":{"x":1}}`, `{"source_replacement":1}`,
		replace("other", "s2", reason), replace("s", "", reason), replace("s", "s", reason), replace("s", "s2", "bored")} {
		d.do("POST", "/sync/snapshot-sessions", bad, 400, "snapshot_session_invalid")
	}
	d.do("POST", "/sync/snapshot-sessions", `{"source_replacement":null}`, 200, "")

	// A snapshot that fails retires nothing.
	d.push(userRow("INSERT", 1, 0, "x"), userRow("INSERT", 2, 0, "x"))
	d.do("POST", "/sync/snapshot-sessions", replace("s", "s2", reason), 500, "snapshot_session_create_failed")
	d.push(row("users", "DELETE", uid(1), 1, nil))

	d.do("POST", "/sync/snapshot-sessions", replace("s", "s2", reason), 200, "")
	d.do("POST", "/sync/snapshot-sessions", replace("s", "s2", "history_pruned"), 200, "")
	if refused := d.do("POST", "/sync/snapshot-sessions", replace("s", "s3", reason), 409, "source_retired"); refused["replaced_by_source_id"] != "s2" || refused["source_id"] != "s" {
		t.Error(refused)
	}
	d.do("POST", "/sync/snapshot-sessions", nil, 200, "") // a retired source may still read
	d2 := newDevice(t, s, web, "u", "s2")
	d2.do("POST", "/sync/snapshot-sessions", replace("s2", "s", reason), 409, "source_replacement_invalid")
	d2.push(userRow("UPDATE", 2, 1, "by the successor"))
}

// TestSnapshotSpelling: members by length and numbers in full, as jsonb prints them, unless there are bytes in the row.
func TestSnapshotSpelling(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	typed := func(n int, data any) object {
		return row("typed_rows", "INSERT", uid(n), 0, object{"name": "t", "note": nil, "count_value": json.Number("-9223372036854775808"),
			"enabled_flag": 1, "rating": json.Number("1e21"), "data": data, "created_at": nil})
	}
	d.push(typed(1, nil), typed(2, "3q2+7w=="))
	_, raw, _, err := d.try("GET", snapshotPath(d.do("POST", "/sync/snapshot-sessions", nil, 200, ""), ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"row_version":1,"payload":{"id":"` + uid(1) + `","data":null,"name":"t","note":null,"rating":1000000000000000000000,"created_at":null,"count_value":-9223372036854775808,"enabled_flag":1}}`,
		`"row_version":1,"payload":{"count_value":-9223372036854776000,"created_at":null,"data":"3q2+7w==","enabled_flag":1,"id":"` + uid(2) + `","name":"t","note":null,"rating":1e+21}}`,
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s lacks %s", raw, want)
		}
	}
}

func TestSnapshotByteLimit(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{Limits: wire.Limits{MaxBytesPerSnapshotSession: 300}})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	d.push(userRow("INSERT", 1, 0, "x"))
	d.do("POST", "/sync/snapshot-sessions", nil, 200, "")
	d.push(userRow("INSERT", 2, 0, "x"))
	d.do("POST", "/sync/snapshot-sessions", nil, 500, "snapshot_session_create_failed")
}
