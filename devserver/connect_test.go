package devserver_test

import (
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/devserver"
)

func resolution(t *testing.T, answer object, want string) {
	t.Helper()
	if answer["resolution"] != want {
		t.Fatalf("want %s, got %v", want, answer)
	}
}

func TestConnectLease(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s, web := start(t, devserver.Config{Now: clock.Now, LeaseTTL: 10 * time.Second})
	a, b := newDevice(t, s, web, "u", "a"), newDevice(t, s, web, "u", "b")
	first := a.connect(true)
	resolution(t, first, "initialize_local")
	if first["lease_expires_at"] != "2026-06-01T12:00:10Z" {
		t.Error(first)
	}
	clock.advance(4500 * time.Millisecond)
	held := b.connect(true)
	resolution(t, held, "retry_later")
	if held["retry_after_seconds"] != 6.0 || held["lease_expires_at"] != "2026-06-01T12:00:10Z" {
		t.Error("retry_later tells the remaining seconds, rounded up:", held)
	}
	again := a.connect(true)
	if again["initialization_id"] != first["initialization_id"] || again["lease_expires_at"] != "2026-06-01T12:00:14.5Z" {
		t.Error("the same lease, extended:", again)
	}
	clock.advance(10 * time.Second) // the lease has expired
	taken := b.connect(true)
	resolution(t, taken, "initialize_local")
	if taken["initialization_id"] == first["initialization_id"] {
		t.Error("a new lease has a new id")
	}
	resolution(t, b.connect(false), "initialize_empty")
	resolution(t, a.connect(true), "remote_authoritative")
}

func TestLeaseGuardsPushes(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s, web := start(t, devserver.Config{Now: clock.Now, LeaseTTL: 10 * time.Second})
	a := newDevice(t, s, web, "u", "a")
	create := func(lease string) object {
		return object{"source_bundle_id": 1, "planned_row_count": 1, "initialization_id": lease}
	}
	lease, _ := a.connect(true)["initialization_id"].(string)

	// Every step of a push extends the lease.
	a.stage(lease, userRow("INSERT", 1, 0, "x"))
	clock.advance(9 * time.Second)
	id := a.stage(lease, userRow("INSERT", 1, 0, "x"))
	clock.advance(9 * time.Second)
	a.do("POST", "/sync/push-sessions/"+id+"/chunks", object{"start_row_ordinal": 7, "rows": []object{}}, 400, "push_chunk_invalid")

	clock.advance(10 * time.Second)
	chunk := object{"start_row_ordinal": 1, "rows": []object{userRow("INSERT", 2, 0, "x")}}
	a.do("POST", "/sync/push-sessions/"+id+"/chunks", chunk, 409, "initialization_stale")
	a.do("POST", "/sync/push-sessions/"+id+"/commit", nil, 409, "initialization_stale")
	a.do("POST", "/sync/push-sessions", create(lease), 410, "initialization_expired")
	a.do("POST", "/sync/push-sessions", create("another"), 409, "initialization_stale")

	// Somebody else seeds; the old lease stays out.
	b := newDevice(t, s, web, "u", "b")
	lease2, _ := b.connect(true)["initialization_id"].(string)
	a.do("POST", "/sync/push-sessions", create(lease), 409, "initialization_stale")
	a.do("POST", "/sync/push-sessions", create(lease2), 409, "initialization_stale")
	id2 := b.stage(lease2, userRow("INSERT", 1, 0, "seed"))
	b.do("POST", "/sync/push-sessions/"+id2+"/commit", nil, 200, "")
	b.do("POST", "/sync/push-sessions", create(lease2), 400, "push_session_invalid")
	a.do("POST", "/sync/push-sessions/"+id+"/commit", nil, 409, "initialization_stale")
	b.do("POST", "/sync/push-sessions", object{"source_bundle_id": 1, "planned_row_count": 1}, 200, "")
	resolution(t, a.connect(true), "remote_authoritative")
}

func TestARefusedSeedKeepsTheLease(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	a := newDevice(t, s, web, "u", "a")
	lease, _ := a.connect(true)["initialization_id"].(string)
	id := a.stage(lease, userRow("UPDATE", 1, 1, "x"))
	a.do("POST", "/sync/push-sessions/"+id+"/commit", nil, 409, "push_conflict")
	if again := a.connect(true); again["initialization_id"] != lease {
		t.Error(again)
	}
	a.do("GET", "/sync/pull", nil, 409, "scope_initializing")
}
