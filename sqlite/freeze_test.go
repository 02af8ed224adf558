package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// sent reads the whole outbox.
func sent(t testing.TB, db *DB) []wire.PushRow {
	t.Helper()
	rows, err := db.OutboxRows(t.Context(), 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// outline spells push rows as table, key, op and base.
func outline(rows []wire.PushRow) (out []string) {
	for _, r := range rows {
		out = append(out, fmt.Sprintf("%s %s %s %d", r.Table, r.Key.Value, r.Op, r.BaseRowVersion))
	}
	return out
}

func TestFreezeOrdersAndFixesAPush(t *testing.T) {
	t.Parallel()
	db := synced(t, businessDB(t))
	serverRow(t, db, "users", `'gone', 'n', 'e', 'c', 'u'`, 3)
	serverRow(t, db, "posts", `'gone', 't', 'c', 'gone', 'c', 'u'`, 4)
	serverRow(t, db, "users", `'kept', 'n', 'e', 'c', 'u'`, 5)
	asServer(t, db, `UPDATE _sync_attachment_state SET pending_initialization_id = 'lease'`)
	exec(t, db, `INSERT INTO users (id, name, email) VALUES ('shortlived', 'n', 'e')`)
	inTx(t, db,
		`INSERT INTO teams VALUES ('t1', 'team', 'm1')`,
		`INSERT INTO posts (id, title, content, author_id) VALUES ('p1', 't', 'c', 'u1')`,
		`INSERT INTO team_members VALUES ('m1', 'm', 't1')`,
		`INSERT INTO teams VALUES ('t2', 'team', NULL)`,
		`INSERT INTO users (id, name, email) VALUES ('u1', 'n', 'e')`,
		`UPDATE users SET name = 'new' WHERE id = 'kept'`,
		`DELETE FROM users WHERE id = 'shortlived'`,
		`DELETE FROM users WHERE id = 'gone'`, `DELETE FROM posts WHERE id = 'gone'`)
	f := freeze(t, db, local.FreezeRequest{})
	got := sent(t, db)
	var flat []string
	cycle := map[string]bool{"teams": true, "team_members": true}
	var members []string
	for _, l := range outline(got) {
		if cycle[strings.Fields(l)[0]] {
			members = append(members, l)
		} else {
			flat = append(flat, l)
		}
	}
	same(t, "order", flat, []string{"users u1 INSERT 0", "users kept UPDATE 5", "posts p1 INSERT 0", "posts gone DELETE 4", "users gone DELETE 3"})
	same(t, "order in a cycle", members, []string{"teams t1 INSERT 0", "team_members m1 INSERT 0", "teams t2 INSERT 0"})
	contract, err := wire.ContractByName(wire.ClassicContract)
	if err != nil {
		t.Fatal(err)
	}
	h := contract.NewRequestHash()
	for i := range got {
		if err := h.Add(&got[i]); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "outbox", f.Outbox, local.Outbox{
		State: local.OutboxPrepared, SourceID: rows(t, db, `SELECT current_source_id FROM _sync_attachment_state`)[0], SourceBundleID: 1,
		InitializationID: "lease", RequestHash: h.Sum(), RowCount: 8,
	})
	var stored local.Outbox
	if err := db.read(t.Context(), "test", func() (err error) { stored, err = db.outbox(); return err }); err != nil {
		t.Fatal(err)
	}
	same(t, "stored", stored, f.Outbox)
	same(t, "dirty", dirty(t, db), []string{})
	same(t, "states stay", states(t, db), []string{"posts gone 4", "users gone 3", "users kept 5"})
	same(t, "wire key", rows(t, db, `SELECT DISTINCT wire_key_json FROM _sync_outbox_rows WHERE table_name = 'posts' ORDER BY 1`), []string{`{"id":"gone"}`, `{"id":"p1"}`})
}

func TestFreezeOfNothing(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	none := local.Frozen{Outbox: local.Outbox{State: local.OutboxNone}}
	same(t, "empty", freeze(t, db, local.FreezeRequest{}), none)
	edit(t, db, wire.OpInsert)
	exec(t, db, `DELETE FROM users`)
	same(t, "void", freeze(t, db, local.FreezeRequest{}), none)
	same(t, "dirty", dirty(t, db), []string{})
	if _, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: "klingon"}); err == nil {
		t.Error("an unknown contract was taken")
	}
	edit(t, db, wire.OpInsert)
	asServer(t, db, `DELETE FROM _sync_source_state`)
	if _, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: wire.ClassicContract}); err == nil {
		t.Error("frozen without a source")
	}
}

func TestK8_RealsAreFrozenExactly(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, `CREATE TABLE reals (id TEXT PRIMARY KEY NOT NULL, r REAL)`, "reals"))
	values := []float64{0.1, 1.0 / 3, math.MaxFloat64, math.SmallestNonzeroFloat64, 1e22, 123456789.12345679, -0.30000000000000004, 5e-324, 2.2250738585072014e-308, 9007199254740993}
	for i, v := range values {
		exec(t, db, `INSERT INTO reals VALUES (?, ?)`, fmt.Sprint(i), v)
	}
	freeze(t, db, local.FreezeRequest{})
	for i, r := range sent(t, db) {
		var row struct{ R float64 }
		if err := json.Unmarshal(r.Payload, &row); err != nil || row.R != values[i] {
			t.Errorf("%v was frozen as %s (%v)", values[i], r.Payload, err)
		}
	}
	// Frozen, it equals what the server sends back: the push is not dirty again.
	if err := db.RequeueOutbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		b, err := json.Marshal(map[string]any{"id": fmt.Sprint(i), "r": v})
		if err != nil {
			t.Fatal(err)
		}
		cast(t, db, "reals", keyOf(fmt.Sprint(i)), live(2, string(b)))
	}
	same(t, "accepted", settle(t, db, 0).Accepted, len(values))
}

func TestK11_AValueThatCannotBeSentIsNamedAndNothingIsFrozen(t *testing.T) {
	t.Parallel()
	const ddl = `CREATE TABLE vs (id BLOB PRIMARY KEY NOT NULL, n INTEGER, r REAL, s TEXT)`
	for insert, reason := range map[string]string{
		`INSERT INTO vs VALUES (x'000102030405060708090a0b0c0d0e0f', 9007199254740992, NULL, NULL)`: "integer_out_of_range",
		`INSERT INTO vs VALUES (x'000102030405060708090a0b0c0d0e0f', NULL, 9e999, NULL)`:            "non_finite_real",
		`INSERT INTO vs VALUES (x'000102030405060708090a0b0c0d0e0f', NULL, NULL, char(0))`:          "nul_in_text",
		`INSERT INTO vs VALUES (x'000102030405060708090a0b0c0d0e0f', 'abc', NULL, NULL)`:            "storage_class",
		`INSERT INTO vs VALUES (x'0001', NULL, NULL, NULL)`:                                         "not_a_uuid",
	} {
		db := synced(t, testDB(t, ddl, "vs"))
		exec(t, db, `INSERT INTO vs VALUES (x'ff0102030405060708090a0b0c0d0e0f', 1, 1, 'fine')`)
		exec(t, db, insert)
		before := intents(t, db)
		_, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: wire.ClassicContract})
		var value *wire.ValueError
		var in *local.IntentError
		if !errors.As(err, &value) || value.Reason != reason || !errors.As(err, &in) || in.Table != "vs" {
			t.Errorf("%s: %v", reason, err)
			continue
		}
		same(t, "intents", intents(t, db), before)
		// Deleting the row is enough, whatever was tried before.
		exec(t, db, `DELETE FROM vs WHERE lower(hex(id)) = ?`, strings.Split(in.KeyJSON, `"`)[3])
		same(t, "frozen", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(1))
	}
}

func TestFreezeReadsTheRowWhenTheChangeIsOlderThanItsColumns(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	edit(t, db, wire.OpInsert)
	asServer(t, db, `UPDATE _sync_dirty_rows SET payload = '{"id":"u1"}'`)
	if _, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: wire.ClassicContract}); err != nil {
		t.Fatal(err)
	}
	same(t, "pushed", string(sent(t, db)[0].Payload), `{"id":"u1","name":"mine"}`)
	if err := db.RequeueOutbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	asServer(t, db, `UPDATE _sync_dirty_rows SET payload = '{"id":"u1"}'`, `DELETE FROM users`)
	var in *local.IntentError
	if _, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: wire.ClassicContract}); !errors.As(err, &in) {
		t.Errorf("a change of no row: %v", err)
	}
}

func TestFreezeBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		req  local.FreezeRequest
		want []int64
	}{
		"none":             {local.FreezeRequest{}, []int64{10}},
		"rows":             {local.FreezeRequest{MaxRows: 4}, []int64{4, 4, 2}},
		"exactly":          {local.FreezeRequest{MaxRows: 10}, []int64{10}},
		"bytes":            {local.FreezeRequest{MaxBytes: 3 * int64(len(`{"id":"u0","name":"mine"}`))}, []int64{3, 3, 3, 1}},
		"less than one":    {local.FreezeRequest{MaxBytes: 1, MaxRows: 2}, []int64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		"rows before size": {local.FreezeRequest{MaxBytes: 1000, MaxRows: 9}, []int64{9, 1}},
	} {
		db := synced(t, testDB(t, usersDDL, "users"))
		for i := range 10 {
			exec(t, db, `INSERT INTO users VALUES (?, 'mine')`, fmt.Sprintf("u%d", i))
		}
		var got []int64
		for more := true; more; {
			f := freeze(t, db, c.req)
			got = append(got, f.Outbox.RowCount)
			more = f.More
			commit(t, db)
		}
		same(t, name, got, c.want)
		same(t, "dirty", len(dirty(t, db)), 0)
	}
}

// commit makes the outbox what the server has, as a replay would.
func commit(t testing.TB, db *DB) {
	t.Helper()
	err := db.write(t.Context(), "test", relaxed, func() error {
		for _, sql := range []string{
			`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted)
SELECT schema_name, table_name, key_json, source_bundle_id, op = 'DELETE' FROM _sync_outbox_rows WHERE true
ON CONFLICT DO UPDATE SET row_version = excluded.row_version, deleted = excluded.deleted`,
			`DELETE FROM _sync_base_rows WHERE (table_name, key_json) IN (SELECT table_name, key_json FROM _sync_outbox_rows)`,
			`UPDATE _sync_source_state SET next_source_bundle_id = next_source_bundle_id + 1`,
		} {
			if err := db.conn.run(sql); err != nil {
				return err
			}
		}
		return db.clearOutbox()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A reference to another column than the key does not say who is meant: such a group goes in one piece.
func TestFreezeKeepsAGroupTogetherThatItCannotLookInto(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, `CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, code TEXT UNIQUE, parent TEXT REFERENCES nodes(code))`, "nodes"))
	for i := range 6 {
		exec(t, db, `INSERT INTO nodes VALUES (?1, ?1, ?1)`, fmt.Sprint(i))
	}
	f := freeze(t, db, local.FreezeRequest{MaxRows: 2})
	same(t, "rows", []any{f.Outbox.RowCount, f.More}, []any{int64(6), false})
}

// Rows that were edited before they were deleted are deleted in the order of those edits, which can put a parent in
// front of its child: the two cannot be parted.
func TestFreezeDoesNotPartADeletedParentFromItsChild(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		db := synced(t, testDB(t, graphDDL, "roots", "nodes", "xs", "ys"))
		serverRow(t, db, "nodes", `'p', NULL, NULL`, 1)
		serverRow(t, db, "nodes", `'c', NULL, 'p'`, 1)
		serverRow(t, db, "nodes", `'z', NULL, NULL`, 1)
		exec(t, db, `UPDATE nodes SET parent = 'z' WHERE id = 'p'`)
		exec(t, db, `DELETE FROM nodes WHERE id = 'c'`)
		exec(t, db, `DELETE FROM nodes WHERE id = 'p'`)
		exec(t, db, `DELETE FROM nodes WHERE id = 'z'`)
		if !known {
			asServer(t, db, `DELETE FROM _sync_base_rows`)
		}
		f := freeze(t, db, local.FreezeRequest{MaxRows: 1})
		want := []string{"nodes p DELETE 1", "nodes c DELETE 1"}
		if !known {
			want = append(want, "nodes z DELETE 1") // it may be anybody's parent
		}
		same(t, "first bundle", outline(sent(t, db)), want)
		same(t, "more", f.More, known)
	}
}

// A group that cannot be parted goes beyond the bound by any number of rows; what comes behind it is for another bundle
// all the same.
func TestFreezeTellsOfMoreBehindAGroupBeyondTheBound(t *testing.T) {
	t.Parallel()
	for bound := range int64(4) {
		db := synced(t, testDB(t, graphDDL, "roots", "nodes", "xs", "ys"))
		serverRow(t, db, "roots", `'r', NULL`, 1)
		serverRow(t, db, "nodes", `'p', 'r', NULL`, 1)
		serverRow(t, db, "nodes", `'c', NULL, 'p'`, 1)
		exec(t, db, `UPDATE nodes SET root = NULL WHERE id = 'p'`)
		for _, sql := range []string{`nodes WHERE id = 'c'`, `nodes WHERE id = 'p'`, `roots`} {
			exec(t, db, `DELETE FROM `+sql)
		}
		want := []string{"nodes p DELETE 1", "nodes c DELETE 1", "roots r DELETE 1"}
		f := freeze(t, db, local.FreezeRequest{MaxRows: bound})
		cut := bound == 1 || bound == 2
		if cut {
			want = want[:2]
		}
		same(t, fmt.Sprintf("first bundle of %d", bound), outline(sent(t, db)), want)
		same(t, fmt.Sprintf("more behind %d", bound), f.More, cut)
	}
}

// A push so large that its index is built at the end leaves the same database as any other.
func TestFreezeInBulkKeepsTheIndex(t *testing.T) {
	t.Parallel()
	db := dirtyItems(t, bulkRows)
	index := func() []string {
		return rows(t, db, `SELECT sql FROM sqlite_schema WHERE name = 'idx_sync_outbox_rows_key'`)
	}
	before := index()
	same(t, "rows", freeze(t, db, local.FreezeRequest{MaxRows: bulkRows, MaxBytes: 100 * bulkBytes}).Outbox.RowCount, int64(bulkRows))
	same(t, "index", index(), before)
	// The triggers find the frozen rows by it.
	exec(t, db, `UPDATE items SET note = 'later' WHERE rowid <= 10`)
	same(t, "edited since", number(t, db, `SELECT COUNT(*) FROM _sync_dirty_rows JOIN _sync_outbox_rows USING (schema_name, table_name, key_json)`), int64(10))
	same(t, "integrity", rows(t, db, `PRAGMA integrity_check`), []string{"ok"})
}
