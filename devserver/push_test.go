package devserver_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

func TestPushCreateChecks(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	create := func(n, rows int, status int, code string) object {
		t.Helper()
		return d.do("POST", "/sync/push-sessions", object{"source_bundle_id": n, "planned_row_count": rows}, status, code)
	}
	create(1, 1, 409, "scope_uninitialized")
	create(0, 1, 400, "push_session_invalid") // before the scope is looked at
	d.connect(false)
	create(-1, 1, 400, "push_session_invalid")
	create(1, 0, 400, "push_session_invalid")
	create(1, 1<<24, 400, "push_session_invalid")
	create(2, 1, 409, "source_sequence_out_of_order")
	d.do("POST", "/sync/push-sessions", `[]`, 400, "invalid_request")
	d.do("POST", "/sync/push-sessions", object{"source_bundle_id": 1, "planned_row_count": 1, "initialization_id": "x"}, 400, "push_session_invalid")

	first := create(1, 1, 200, "")
	second := create(1, 1, 200, "")
	chunk := object{"start_row_ordinal": 0, "rows": []object{userRow("INSERT", 1, 0, "x")}}
	d.do("POST", fmt.Sprintf("/sync/push-sessions/%s/chunks", first["push_id"]), chunk, 404, "push_session_not_found")
	d.do("POST", fmt.Sprintf("/sync/push-sessions/%s/chunks", second["push_id"]), chunk, 200, "")
	committed := d.do("POST", fmt.Sprintf("/sync/push-sessions/%s/commit", second["push_id"]), nil, 200, "")
	d.do("POST", fmt.Sprintf("/sync/push-sessions/%s/commit", second["push_id"]), nil, 404, "push_session_not_found")
	if again := create(1, 5, 200, ""); again["status"] != "already_committed" || again["bundle_hash"] != committed["bundle_hash"] || again["row_count"] != 1.0 {
		t.Error(again)
	}
	d.next = 2
	d.push(userRow("INSERT", 2, 0, "x"))
	if err := s.SetRetentionFloor("u", 1); err != nil {
		t.Fatal(err)
	}
	create(1, 1, 409, "history_pruned")
	create(4, 1, 409, "source_sequence_out_of_order")
	other := newDevice(t, s, web, "u", "other")
	other.push(userRow("INSERT", 3, 0, "x"))
	if err := s.SetRetentionFloor("u", 3); err != nil {
		t.Fatal(err)
	}
	create(2, 1, 409, "history_pruned") // the last of its source
	d.next = 3
	d.push(userRow("INSERT", 4, 0, "x"))

	// A retired source: its committed tuples are answered, the rest is refused whatever its number.
	d.do("POST", "/sync/snapshot-sessions", object{"source_replacement": object{"previous_source_id": "s", "new_source_id": "s2", "reason": "history_pruned"}}, 200, "")
	create(3, 1, 200, "")
	for _, n := range []int{1, 4, 9} {
		if refused := create(n, 1, 409, "source_retired"); refused["source_id"] != "s" || refused["replaced_by_source_id"] != "s2" {
			t.Error(refused)
		}
	}
}

func TestPushChunkChecks(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{Limits: wire.Limits{MaxRowsPerPushChunk: 2}})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	id, _ := d.do("POST", "/sync/push-sessions", object{"source_bundle_id": 1, "planned_row_count": 4}, 200, "")["push_id"].(string)
	path := "/sync/push-sessions/" + id + "/chunks"
	send := func(start int, status int, code string, rows ...object) {
		t.Helper()
		d.do("POST", path, object{"start_row_ordinal": start, "rows": rows}, status, code)
	}
	good := userRow("INSERT", 1, 0, "x")
	send(0, 400, "push_chunk_invalid", good, userRow("INSERT", 2, 0, "x"), userRow("INSERT", 3, 0, "x")) // too many for a chunk
	send(0, 400, "push_chunk_invalid")
	send(-1, 400, "push_chunk_invalid", good)
	send(3, 409, "push_chunk_out_of_order", good)
	d.do("POST", path, `{"rows":`, 400, "invalid_request")
	with := func(change func(r object)) object {
		r := userRow("INSERT", 1, 0, "x")
		change(r)
		return r
	}
	payload := func(r object) object { return r["payload"].(object) }
	for name, bad := range map[string]object{
		"unknown table":        with(func(r object) { r["table"] = "nope" }),
		"upper-case table":     with(func(r object) { r["table"] = "Users" }),
		"unknown op":           with(func(r object) { r["op"] = "UPSERT" }),
		"negative base":        with(func(r object) { r["base_row_version"] = -1 }),
		"no key":               with(func(r object) { delete(r, "key") }),
		"null key":             with(func(r object) { r["key"] = nil }),
		"empty key":            with(func(r object) { r["key"] = object{} }),
		"other key column":     with(func(r object) { r["key"] = object{"name": uid(1)} }),
		"two key columns":      with(func(r object) { r["key"] = object{"id": uid(1), "name": "x"} }),
		"number as key":        with(func(r object) { r["key"] = object{"id": 5} }),
		"upper-case UUID":      with(func(r object) { r["key"] = object{"id": "ABCDEF00-0000-4000-8000-000000000001"} }),
		"short UUID":           with(func(r object) { r["key"] = object{"id": "abc"} }),
		"dashes elsewhere":     with(func(r object) { r["key"] = object{"id": strings.ReplaceAll(uid(1), "-4000-", "4-000-")} }),
		"no payload":           with(func(r object) { delete(r, "payload") }),
		"null payload":         with(func(r object) { r["payload"] = nil }),
		"array payload":        with(func(r object) { r["payload"] = []int{} }),
		"payload without key":  with(func(r object) { delete(payload(r), "id") }),
		"payload of another":   with(func(r object) { payload(r)["id"] = uid(2) }),
		"payload key a number": with(func(r object) { payload(r)["id"] = 1 }),
		"hidden column":        with(func(r object) { payload(r)["_sync_scope_id"] = "x" }),
		"DELETE with payload":  with(func(r object) { r["op"] = "DELETE" }),
		"DELETE with null":     with(func(r object) { r["op"], r["payload"] = "DELETE", nil }),
	} {
		t.Run(name, func(t *testing.T) {
			d := *d
			d.t = t
			d.do("POST", path, object{"start_row_ordinal": 0, "rows": []object{bad}}, 400, "push_chunk_invalid")
		})
	}
	send(0, 400, "push_chunk_invalid", good, good)
	send(0, 200, "", good)
	send(0, 409, "push_chunk_out_of_order", good)
	d.do("POST", "/sync/push-sessions/"+id+"/commit", nil, 400, "push_commit_invalid")
	send(1, 200, "", userRow("INSERT", 2, 0, "x"), userRow("INSERT", 3, 0, "x"))
	send(3, 400, "push_chunk_invalid", userRow("INSERT", 4, 0, "x"), userRow("INSERT", 5, 0, "x")) // more than planned
	send(3, 200, "", good)
	d.do("POST", "/sync/push-sessions/"+id+"/commit", nil, 400, "push_commit_invalid") // a row twice over chunks

	mallory := newDevice(t, s, web, "mallory", "s")
	mallory.do("POST", path, object{"start_row_ordinal": 0, "rows": []object{good}}, 403, "push_session_forbidden")
	mallory.do("DELETE", "/sync/push-sessions/"+id, nil, 403, "push_session_forbidden")
	d.do("GET", "/sync/snapshot-sessions/"+id, nil, 404, "snapshot_session_not_found")
	d.source = "another source of the same user"
	d.do("DELETE", "/sync/push-sessions/"+id, nil, 204, "")
	d.do("DELETE", "/sync/push-sessions/"+id, nil, 404, "push_session_not_found")
}

func TestPushSessionTTL(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s, web := start(t, devserver.Config{Now: clock.Now, PushSessionTTL: 10 * time.Second})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	id, _ := d.do("POST", "/sync/push-sessions", object{"source_bundle_id": 1, "planned_row_count": 3}, 200, "")["push_id"].(string)
	path := "/sync/push-sessions/" + id
	for i := range 2 { // a chunk renews the session
		clock.advance(9 * time.Second)
		d.do("POST", path+"/chunks", object{"start_row_ordinal": i, "rows": []object{userRow("INSERT", i, 0, "x")}}, 200, "")
	}
	clock.advance(10 * time.Second)
	d.do("POST", path+"/chunks", object{"start_row_ordinal": 2, "rows": []object{userRow("INSERT", 2, 0, "x")}}, 410, "push_session_expired")
	d.do("POST", path+"/commit", nil, 410, "push_session_expired")
	clock.advance(11 * time.Second)
	other := newDevice(t, s, web, "u", "other")
	other.stage("", userRow("INSERT", 9, 0, "x")) // sweeps
	d.do("POST", path+"/commit", nil, 404, "push_session_not_found")
}

// TestCommitFailures tries what the database refuses: 500, nothing committed, the tuple still free.
func TestCommitFailures(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	typed := func(change object) object {
		payload := object{"name": "t", "note": nil, "count_value": 1, "enabled_flag": 0, "rating": nil, "data": nil, "created_at": nil}
		for k, v := range change {
			payload[k] = v
		}
		return row("typed_rows", "INSERT", uid(1), 0, payload)
	}
	ok := userRow("INSERT", 50, 0, "goes down with the rest")
	for name, bad := range map[string]object{
		"unknown column":      typed(object{"colour": "red"}),
		"NUL in text":         typed(object{"note": "a\x00b"}),
		"integer 2^63-1":      typed(object{"count_value": json.Number("9223372036854775807")}),
		"fraction as integer": typed(object{"count_value": 1.5}),
		"boolean as integer":  typed(object{"enabled_flag": true}),
		"words as integer":    typed(object{"count_value": "many"}),
		"words as real":       typed(object{"rating": "a lot"}),
		"infinity as real":    typed(object{"rating": "Infinity"}),
		"no base64":           typed(object{"data": "*"}),
		"no padding":          typed(object{"data": "3q2+7w"}),
		"no time":             typed(object{"created_at": "yesterday"}),
		"object as time":      typed(object{"created_at": object{}}),
		"not null":            typed(object{"name": nil}),
		"not null, absent":    row("typed_rows", "INSERT", uid(1), 0, object{"name": "t"}),
		"no such parent":      row("posts", "INSERT", uid(1), 0, object{"title": "t", "content": "c", "author_id": uid(99), "created_at": when, "updated_at": when}),
		"reference no UUID":   row("posts", "INSERT", uid(1), 0, object{"title": "t", "content": "c", "author_id": "x", "created_at": when, "updated_at": when}),
	} {
		t.Run(name, func(t *testing.T) {
			d := *d
			d.t = t
			d.refused(500, "push_session_commit_failed", ok, bad)
		})
	}
	if info, err := s.Scope(t.Context(), "u"); err != nil || info.LastBundleSeq != 0 {
		t.Error(info, err)
	}
	if dump, err := s.Dump(t.Context(), "u"); err != nil || len(dump) != 0 {
		t.Error(dump, err)
	}
	d.push(ok)
}

// TestSpelling pushes values in the spellings a client may use and looks at what comes back.
func TestSpelling(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	pull := func() map[string]any {
		rows, err := s.Rows(t.Context(), "u", "typed_rows")
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		dec := json.NewDecoder(strings.NewReader(string(rows[0])))
		dec.UseNumber()
		var v map[string]any
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	d.push(row("typed_rows", "INSERT", uid(1), 0, object{"name": "t", "enabled_flag": 0}))
	version := 1
	for _, c := range []struct {
		column string
		in     any
		want   any
	}{
		{"count_value", json.Number("9007199254740993"), json.Number("9007199254740992")}, // through a float64
		{"count_value", json.Number("1e3"), json.Number("1000")},
		{"count_value", json.Number("-9223372036854775808"), json.Number("-9223372036854776000")}, // kept, and printed as a float64
		{"count_value", "42", json.Number("42")},
		{"rating", json.Number("1e21"), json.Number("1e+21")},
		{"rating", json.Number("0.0000001"), json.Number("1e-7")},
		{"rating", json.Number("100"), json.Number("100")},
		{"rating", json.Number("0.1000000000000000055511151231257827"), json.Number("0.1")},
		{"rating", "2.5", json.Number("2.5")},
		{"data", "3q2+7w==", "3q2+7w=="},
		{"data", "", ""},
		{"created_at", "2026-03-24T18:42:11Z", "2026-03-24T18:42:11+00:00"},
		{"created_at", "2026-03-24T20:42:11.123456+02:00", "2026-03-24T18:42:11.123456+00:00"},
		{"created_at", "2026-03-24 18:42:11", "2026-03-24T18:42:11+00:00"},
		{"created_at", "2026-03-24 18:42:11+02", "2026-03-24T16:42:11+00:00"},
		{"created_at", "2026-03-24", "2026-03-24T00:00:00+00:00"},
		{"created_at", "2026-03-24T18:42:11.1000000009Z", "2026-03-24T18:42:11.1+00:00"},
		{"created_at", "2026-03-24T18:42:11.9999999Z", "2026-03-24T18:42:12+00:00"},
		{"note", 5, "5"},
		{"note", true, "true"},
		{"note", object{"a": 1}, `{"a":1}`},
		{"note", "a<b>&\u2028 é \"", "a<b>&\u2028 é \""},
		{"note", nil, nil},
	} {
		// A partial payload: the other columns stay.
		d.push(row("typed_rows", "UPDATE", uid(1), version, object{c.column: c.in}))
		version++
		if got := pull()[c.column]; got != c.want {
			t.Errorf("%s %v: want %v, got %v", c.column, c.in, c.want, got)
		}
	}
	if pull()["name"] != "t" {
		t.Error("a column that a partial UPDATE leaves out stays")
	}
	// Defaults of columns that an INSERT leaves out.
	d.push(row("users", "INSERT", uid(1), 0, object{"name": "n", "email": "e"}))
	rows, err := s.Rows(t.Context(), "u", "users")
	if err != nil {
		t.Fatal(err)
	}
	var u struct {
		CreatedAt string `json:"created_at"`
	}
	if err := json.Unmarshal(rows[0], &u); err != nil || !strings.HasSuffix(u.CreatedAt, "+00:00") {
		t.Errorf("%s", rows[0])
	}
}

func TestCascades(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	team := func(op string, n, base int, captain any) object {
		return row("teams", op, uid(n), base, object{"name": "t", "captain_member_id": captain})
	}
	member := func(op string, n, base int, name string) object {
		return row("team_members", op, uid(n), base, object{"name": name, "team_id": uid(1)})
	}
	file := row("files", "INSERT", uid(3), 0, object{"name": "f", "data": "AAE="})
	review := row("file_reviews", "INSERT", uid(4), 0, object{"review": "r", "file_id": uid(3)})
	// A cycle, children before parents: foreign keys wait for the commit.
	d.push(review, team("INSERT", 1, 0, uid(2)), member("INSERT", 2, 0, "m"), file)
	want := []string{"file_reviews INSERT " + uid(4), "teams INSERT " + uid(1), "team_members INSERT " + uid(2), "files INSERT " + uid(3)}
	if got := d.rows(1); !slices.Equal(got, want) {
		t.Error(got)
	}
	// A parent takes its children with it, itself first; a child that is pushed as deleted as well comes once.
	d.push(row("files", "DELETE", uid(3), 1, nil), row("file_reviews", "DELETE", uid(4), 1, nil))
	if got := d.rows(2); !slices.Equal(got, []string{"files DELETE " + uid(3), "file_reviews DELETE " + uid(4)}) {
		t.Error(got)
	}
	// An update of a row that the same push has cascaded away: deleted is what it is.
	d.push(row("teams", "DELETE", uid(1), 1, nil), member("UPDATE", 2, 1, "again"))
	if got := d.rows(3); !slices.Equal(got, []string{"teams DELETE " + uid(1), "team_members DELETE " + uid(2)}) {
		t.Error(got)
	}
	// A no-op update makes a bundle with its row.
	d.push(userRow("INSERT", 5, 0, "x"))
	d.push(userRow("UPDATE", 5, 4, "x"))
	if got := d.rows(5); !slices.Equal(got, []string{"users UPDATE " + uid(5)}) {
		t.Error(got)
	}
	// Came and went in one transaction: not in the bundle.
	d.push(row("categories", "INSERT", uid(6), 0, object{"name": "parent", "parent_id": nil}))
	d.push(row("categories", "INSERT", uid(7), 0, object{"name": "child", "parent_id": uid(6)}), row("categories", "DELETE", uid(6), 6, nil))
	if got := d.rows(7); !slices.Equal(got, []string{"categories DELETE " + uid(6)}) {
		t.Error(got)
	}
	if versions, err := s.LiveVersions(t.Context(), "u", "categories"); err != nil || len(versions) != 0 {
		t.Error(versions, err)
	}
}

// noteSchema has what the business tables lack: a unique value, a server-side trigger, a BLOB key, a text key.
const noteSchema = `
CREATE TABLE tag (name TEXT PRIMARY KEY NOT NULL, slot INTEGER UNIQUE, hot BOOLEAN);
CREATE TABLE doc (id BLOB PRIMARY KEY NOT NULL, title TEXT, parent BLOB REFERENCES doc(id) ON DELETE SET NULL);
CREATE TRIGGER cold AFTER INSERT ON tag WHEN new.slot = 13 BEGIN DELETE FROM tag WHERE name = new.name; END;
`

func noteServer(t *testing.T) (*devserver.Server, *device) {
	s, web := start(t, devserver.Config{Schema: noteSchema, Tables: []devserver.Table{{Schema: "n", Name: "tag", Key: "name"}, {Schema: "n", Name: "doc", Key: "id"}}})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	return s, d
}

func tagRow(op, name string, base int, slot any, hot any) object {
	return object{"schema": "n", "table": "tag", "op": op, "key": object{"name": name}, "base_row_version": base,
		"payload": object{"name": name, "slot": slot, "hot": hot}}
}

func TestOwnSchema(t *testing.T) {
	t.Parallel()
	s, d := noteServer(t)
	d.push(tagRow("INSERT", "any text: \" \\ é", 0, 1, true), tagRow("INSERT", "b", 0, 2, "f"))
	// Unique constraints are not deferred: a swap fails on the way.
	d.refused(500, "push_session_commit_failed", tagRow("UPDATE", "any text: \" \\ é", 1, 2, true), tagRow("UPDATE", "b", 1, 1, true))
	d.refused(500, "push_session_commit_failed", tagRow("INSERT", "c", 0, 2, "perhaps"))
	d.refused(500, "push_session_commit_failed", tagRow("INSERT", "c", 0, 3, object{}))
	// The trigger undoes the only row.
	d.refused(400, "push_commit_invalid", tagRow("INSERT", "c", 0, 13, nil))
	// A row that a REPLACE evicts through the unique value is seen as deleted.
	if err := s.ExecWrite(t.Context(), "u", "w", func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT OR REPLACE INTO tag VALUES ('evicts', 2, 0)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got, _ := json.Marshal(list(d.do("GET", "/sync/committed-bundles/2/rows", nil, 200, "")["rows"])); !strings.Contains(string(got), `{"name":"b"},"op":"DELETE"`) ||
		!strings.Contains(string(got), `"payload":{"hot":false,"name":"evicts","slot":2}`) {
		t.Errorf("%s", got)
	}
	rows, err := s.Rows(t.Context(), "u", "n.tag")
	if err != nil || len(rows) != 2 || string(rows[0]) != `{"hot":true,"name":"any text: \" \\ é","slot":1}` {
		t.Errorf("%s %v", rows, err)
	}
	doc := func(op string, n, base int, parent any) object {
		return object{"schema": "n", "table": "doc", "op": op, "key": object{"id": uid(n)}, "base_row_version": base,
			"payload": object{"id": uid(n), "title": "d", "parent": parent}}
	}
	d.push(doc("INSERT", 2, 0, uid(1)), doc("INSERT", 1, 0, nil)) // the child first: every foreign key waits
	if err := s.ExecWrite(t.Context(), "u", "writer", func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM doc WHERE parent IS NULL`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	bundle := list(d.do("GET", "/sync/committed-bundles/4/rows", nil, 200, "")["rows"])
	raw, _ := json.Marshal(bundle)
	want := fmt.Sprintf(`[{"key":{"id":%q},"op":"DELETE","row_version":4,"schema":"n","table":"doc"},`+
		`{"key":{"id":%q},"op":"UPDATE","payload":{"id":%q,"parent":null,"title":"d"},"row_version":4,"schema":"n","table":"doc"}]`, uid(1), uid(2), uid(2))
	if string(raw) != want {
		t.Errorf("a set-null cascade:\n%s\n%s", raw, want)
	}
	// The key conflicts are told in wire form, and a snapshot finds BLOB keys.
	if c := d.refused(409, "push_conflict", doc("UPDATE", 2, 3, nil))["conflict"].(object); c["server_row"].(object)["id"] != uid(2) {
		t.Error(c)
	}
	snapshot := d.do("POST", "/sync/snapshot-sessions", nil, 200, "")
	if snapshot["row_count"] != 3.0 {
		t.Error(snapshot)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	d.push(userRow("INSERT", 1, 0, "live"), userRow("INSERT", 2, 0, "gone"))
	d.push(row("users", "DELETE", uid(2), 1, nil), userRow("UPDATE", 1, 1, "now"))
	for _, c := range []struct {
		row     object
		version float64
		deleted bool
		name    string // of the server's row
	}{
		{userRow("UPDATE", 1, 1, "x"), 2, false, "now"},
		{userRow("INSERT", 1, 0, "x"), 2, false, "now"},
		{userRow("INSERT", 1, 2, "x"), 2, false, "now"},
		{row("users", "DELETE", uid(1), 9, nil), 2, false, "now"},
		{userRow("UPDATE", 2, 2, "x"), 2, true, ""},
		{row("users", "DELETE", uid(2), 2, nil), 2, true, ""},
		{userRow("INSERT", 2, 1, "x"), 2, true, ""},
		{userRow("INSERT", 3, 1, "x"), 0, false, ""},
		{userRow("UPDATE", 3, 0, "x"), 0, false, ""},
		{row("users", "DELETE", uid(3), 0, nil), 0, false, ""},
	} {
		got := d.refused(409, "push_conflict", userRow("INSERT", 9, 0, "fine"), c.row)["conflict"].(object)
		server, _ := got["server_row"].(object)
		name, _ := server["name"].(string)
		if got["server_row_version"] != c.version || got["server_row_deleted"] != c.deleted || name != c.name ||
			got["op"] != c.row["op"] || got["base_row_version"] != float64(c.row["base_row_version"].(int)) {
			t.Errorf("%v: %v", c.row, got)
		}
	}
	d.push(userRow("INSERT", 2, 2, "back"))
	if versions, err := s.LiveVersions(t.Context(), "u", "business.users"); err != nil || versions[uid(1)] != 2 || versions[uid(2)] != 3 || len(versions) != 2 {
		t.Error(versions, err)
	}
}

// TestSourceMovesUnderASession commits for a source while a session of it is staged.
func TestSourceMovesUnderASession(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	id := d.stage("", userRow("INSERT", 1, 0, "x"))
	// The same source, in another session; the first one is superseded when it is of the same tuple, so write as the server.
	if err := s.ExecWrite(t.Context(), "u", "s", func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO users (id, name, email) VALUES (?, 'n', 'e')`, uid(2))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	d.do("POST", "/sync/push-sessions/"+id+"/commit", nil, 409, "source_sequence_changed")
	d.next = 2
	id = d.stage("", userRow("INSERT", 1, 0, "x"))
	d.do("POST", "/sync/snapshot-sessions", object{"source_replacement": object{"previous_source_id": "s", "new_source_id": "s2", "reason": "source_sequence_changed"}}, 200, "")
	if refused := d.do("POST", "/sync/push-sessions/"+id+"/commit", nil, 409, "source_retired"); refused["replaced_by_source_id"] != "s2" {
		t.Error(refused)
	}
}

// TestBundleHash computes the hash as the protocol words it, with nothing of ours.
func TestBundleHash(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	answer := d.push(userRow("INSERT", 1, 0, "N"))
	if answer["bundle_hash"] != "ca1dc9883eb7afb9eb6363e83ed7c8b8aff769ab1db64754374770ca26979520" { // as the reference server has it
		t.Error(answer)
	}
	d.push(userRow("INSERT", 2, 0, "<é\u2028>"), row("users", "DELETE", uid(1), 1, nil),
		row("typed_rows", "INSERT", uid(3), 0, object{"name": "t", "enabled_flag": 1, "rating": 1e21, "count_value": -7, "data": "3q2+7w=="}))
	page := d.do("GET", "/sync/committed-bundles/2/rows", nil, 200, "")
	rows := list(page["rows"])
	for i, r := range rows {
		r["row_ordinal"] = i
		if _, ok := r["payload"]; !ok {
			r["payload"] = nil
		}
	}
	raw, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	if page["bundle_hash"] != hex.EncodeToString(sum[:]) {
		t.Errorf("%s: %v", raw, page["bundle_hash"])
	}
}
