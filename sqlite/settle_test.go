package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// synced pins the classic contract, as attaching does.
func synced(t testing.TB, db *DB) *DB {
	t.Helper()
	asServer(t, db, `INSERT OR REPLACE INTO _sync_engine_state (name, value) VALUES ('`+engineContract+`', '`+string(wire.ClassicContract)+`')`)
	return db
}

// keyOf is the local key of a text id.
func keyOf(id string) string { return `{"id":"` + id + `"}` }

// cast makes an image the shadow of a row, as a pull does.
func cast(t testing.TB, db *DB, table, key string, s shadow) {
	t.Helper()
	if err := db.write(t.Context(), "test", relaxed, func() error { return db.setShadow(db.byName[table], key, &s) }); err != nil {
		t.Fatal(err)
	}
}

// live is the image of a row, gone that of a tombstone.
func live(version int64, payload string) shadow {
	return shadow{version: version, exact: true, payload: []byte(payload)}
}
func gone(version int64) shadow { return shadow{version: version, exact: true, deleted: true} }

// inexact is a deletion that a snapshot told of.
func inexact(version int64) shadow { return shadow{version: version, deleted: true} }

// never is a row that the server has never had.
var never = shadow{exact: true, deleted: true}

// intents checks what must hold between the metadata tables after every transaction, and answers the intents: table,
// key, op, base, payload, row state, base row, shadow.
func intents(t testing.TB, db *DB) []string {
	t.Helper()
	verify(t, db)
	return rows(t, db, `SELECT d.table_name || ' ' || (SELECT value FROM json_each(d.key_json)) || ' ' || d.op || ' on ' || d.base_row_version
  || CASE WHEN d.payload IS NULL THEN '' ELSE ' ' || d.payload END
  || COALESCE(' state ' || r.row_version || CASE r.deleted WHEN 1 THEN ' deleted' ELSE '' END, '')
  || COALESCE(' base ' || b.payload, '')
  || COALESCE(' shadow ' || s.row_version || CASE s.deleted WHEN 1 THEN ' deleted' ELSE '' END, '')
FROM _sync_dirty_rows d
  LEFT JOIN _sync_row_state r USING (schema_name, table_name, key_json)
  LEFT JOIN _sync_base_rows b USING (schema_name, table_name, key_json)
  LEFT JOIN _sync_shadow s USING (schema_name, table_name, key_json)
ORDER BY d.dirty_ordinal`)
}

// states answers the row states: table, key, version, deleted.
func states(t testing.TB, db *DB) []string {
	t.Helper()
	return rows(t, db, `SELECT table_name || ' ' || (SELECT value FROM json_each(key_json)) || ' ' || row_version || CASE deleted WHEN 1 THEN ' deleted' ELSE '' END
FROM _sync_row_state ORDER BY 1`)
}

// verify checks the invariants of the metadata: what Verify does, and what only a database shows to which nothing
// unusual was done.
func verify(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ says, query string }{
		{"ordinals that are not unique", `SELECT dirty_ordinal FROM _sync_dirty_rows GROUP BY 1 HAVING COUNT(*) > 1`},
		{"an outbox whose header does not fit", `SELECT state, row_count FROM _sync_outbox_bundle
  WHERE row_count <> (SELECT COUNT(*) FROM _sync_outbox_rows) OR (state = 'none') <> (row_count = 0)
    OR (state = 'none') = EXISTS (SELECT 1 FROM _sync_engine_state WHERE name = 'frozen_contract')`},
		{"dangling references", `SELECT "table", parent FROM pragma_foreign_key_check`},
	} {
		if bad := rows(t, db, c.query); len(bad) > 0 {
			t.Errorf("%s: %v", c.says, bad)
		}
	}
	for _, tb := range db.tables {
		if bad := rows(t, db, `SELECT d.key_json FROM _sync_dirty_rows d LEFT JOIN `+quote(tb.local)+` r ON `+tb.keyJSON("r")+` = d.key_json
WHERE d.table_name = `+literal(tb.Name)+` AND d.payload IS NOT CASE WHEN r.`+quote(tb.key().name)+` IS NULL THEN NULL ELSE `+tb.payload("r")+` END`); len(bad) > 0 {
			t.Errorf("dirty rows of %s that are not what the table holds: %v", tb.Name, bad)
		}
	}
}

func settle(t testing.TB, db *DB, max int) local.Settled {
	t.Helper()
	s, err := db.Settle(t.Context(), max)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, db)
	return s
}

func freeze(t testing.TB, db *DB, req local.FreezeRequest) local.Frozen {
	t.Helper()
	req.Contract = wire.ClassicContract
	f, err := db.Freeze(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, db)
	return f
}

// edit makes a local change of users u1 by op, based on a server row at version 5 unless it is an insert.
func edit(t testing.TB, db *DB, op wire.Op) {
	t.Helper()
	if op != wire.OpInsert {
		serverRow(t, db, "users", `'u1', 'old'`, 5)
	}
	exec(t, db, map[wire.Op]string{
		wire.OpInsert: `INSERT INTO users VALUES ('u1', 'mine')`,
		wire.OpUpdate: `UPDATE users SET name = 'mine' WHERE id = 'u1'`,
		wire.OpDelete: `DELETE FROM users WHERE id = 'u1'`,
	}[op])
}

func TestSettleSortsEveryMeetingOfIntentAndShadow(t *testing.T) {
	t.Parallel()
	const mine, theirs, old = `{"id":"u1","name":"mine"}`, `{"id":"u1","name":"theirs"}`, `{"id":"u1","name":"old"}`
	for _, c := range []struct {
		name    string
		op      wire.Op
		then    string // a further local change
		shadow  *shadow
		settled string // dropped/accepted/kept/conflicts
		intents []string
		states  []string
		users   []string
	}{
		{"insert alone", wire.OpInsert, "", nil, "0/0/0/0", []string{`users u1 INSERT on 0 ` + mine}, nil, []string{"u1|mine"}},
		{"update alone", wire.OpUpdate, "", nil, "0/0/0/0", []string{`users u1 UPDATE on 5 ` + mine + ` state 5 base ` + old}, []string{"users u1 5"}, []string{"u1|mine"}},
		{"delete alone", wire.OpDelete, "", nil, "0/0/0/0", []string{`users u1 DELETE on 5 state 5 base ` + old}, []string{"users u1 5"}, nil},

		{"inserted and deleted", wire.OpInsert, `DELETE FROM users`, nil, "0/0/0/0", nil, nil, nil},
		{"inserted and deleted over a row", wire.OpInsert, `DELETE FROM users`, new(live(9, theirs)), "1/0/0/0", nil, []string{"users u1 9"}, []string{"u1|theirs"}},
		{"inserted and deleted over a tombstone", wire.OpInsert, `DELETE FROM users`, new(gone(9)), "1/0/0/0", nil, []string{"users u1 9 deleted"}, nil},
		{"reverted", wire.OpUpdate, `UPDATE users SET name = 'old'`, nil, "0/0/0/0", nil, []string{"users u1 5"}, []string{"u1|old"}},
		{"reverted over a newer row", wire.OpUpdate, `UPDATE users SET name = 'old'`, new(live(9, theirs)), "1/0/0/0", nil, []string{"users u1 9"}, []string{"u1|theirs"}},
		{"reverted over a tombstone", wire.OpUpdate, `UPDATE users SET name = 'old'`, new(gone(9)), "1/0/0/0", nil, []string{"users u1 9 deleted"}, nil},
		{"reverted over an inferred deletion", wire.OpUpdate, `UPDATE users SET name = 'old'`, new(inexact(9)), "1/0/0/0", nil, nil, nil},
		{"deleted and put back", wire.OpDelete, `INSERT INTO users VALUES ('u1', 'old')`, nil, "0/0/0/0", nil, []string{"users u1 5"}, []string{"u1|old"}},

		{"insert, the same there", wire.OpInsert, "", new(live(9, mine)), "0/1/0/0", nil, []string{"users u1 9"}, []string{"u1|mine"}},
		{"update, the same there", wire.OpUpdate, "", new(live(9, mine)), "0/1/0/0", nil, []string{"users u1 9"}, []string{"u1|mine"}},
		{"deleted on both sides", wire.OpDelete, "", new(gone(9)), "0/1/0/0", nil, []string{"users u1 9 deleted"}, nil},
		{"deleted here, inferred there", wire.OpDelete, "", new(inexact(9)), "0/1/0/0", nil, nil, nil},
		{"deleted here, never there", wire.OpDelete, "", &never, "0/1/0/0", nil, nil, nil},

		{"insert over a tombstone", wire.OpInsert, "", new(gone(9)), "0/0/1/0", []string{`users u1 INSERT on 9 ` + mine + ` state 9 deleted`}, []string{"users u1 9 deleted"}, []string{"u1|mine"}},
		{"insert over an inferred deletion", wire.OpInsert, "", new(inexact(9)), "0/0/1/0", []string{`users u1 INSERT on 0 ` + mine}, nil, []string{"u1|mine"}},
		{"insert over nothing", wire.OpInsert, "", &never, "0/0/1/0", []string{`users u1 INSERT on 0 ` + mine}, nil, []string{"u1|mine"}},

		{"insert over a row", wire.OpInsert, "", new(live(9, theirs)), "0/0/0/1", []string{`users u1 INSERT on 0 ` + mine + ` shadow 9`}, nil, []string{"u1|mine"}},
		{"update over a row", wire.OpUpdate, "", new(live(9, theirs)), "0/0/0/1", []string{`users u1 UPDATE on 5 ` + mine + ` state 5 base ` + old + ` shadow 9`}, []string{"users u1 5"}, []string{"u1|mine"}},
		{"update over a tombstone", wire.OpUpdate, "", new(gone(9)), "0/0/0/1", []string{`users u1 UPDATE on 5 ` + mine + ` state 5 base ` + old + ` shadow 9 deleted`}, []string{"users u1 5"}, []string{"u1|mine"}},
		{"update over nothing", wire.OpUpdate, "", &never, "0/0/0/1", []string{`users u1 UPDATE on 5 ` + mine + ` state 5 base ` + old + ` shadow 0 deleted`}, []string{"users u1 5"}, []string{"u1|mine"}},
		{"delete over a row", wire.OpDelete, "", new(live(9, theirs)), "0/0/0/1", []string{`users u1 DELETE on 5 state 5 base ` + old + ` shadow 9`}, []string{"users u1 5"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := synced(t, testDB(t, usersDDL, "users"))
			edit(t, db, c.op)
			if c.then != "" {
				exec(t, db, c.then)
			}
			if c.shadow != nil {
				cast(t, db, "users", keyOf("u1"), *c.shadow)
			}
			s := settle(t, db, 10)
			same(t, "outcome", fmt.Sprintf("%d/%d/%d/%d", s.Dropped, s.Accepted, s.Kept, len(s.Conflicts)), c.settled)
			if c.then != "" && c.shadow == nil {
				// It is void, and the server has nothing new to say: freezing drops it.
				same(t, "intents", len(intents(t, db)), 1)
				same(t, "frozen", freeze(t, db, local.FreezeRequest{}).Outbox.State, local.OutboxNone)
			}
			same(t, "intents", strings.Join(intents(t, db), "\n"), strings.Join(c.intents, "\n"))
			same(t, "row states", strings.Join(states(t, db), "\n"), strings.Join(c.states, "\n"))
			same(t, "users", strings.Join(rows(t, db, `SELECT * FROM users`), "\n"), strings.Join(c.users, "\n"))
			again := settle(t, db, 10)
			same(t, "settled a second time", fmt.Sprintf("%d/%d/%d/%d", again.Dropped, again.Accepted, again.Kept, len(again.Conflicts)), "0/0/0/"+c.settled[len(c.settled)-1:])
		})
	}
}

func TestSettleTellsResolversEverything(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, `CREATE TABLE files (id BLOB PRIMARY KEY NOT NULL, n INTEGER, data BLOB)`, "files"))
	const id = "00112233-4455-6677-8899-aabbccddeeff"
	serverRow(t, db, "files", `x'00112233445566778899aabbccddeeff', 1, x'0102'`, 5)
	exec(t, db, `UPDATE files SET data = x'0304'`)
	cast(t, db, "files", `{"id":"00112233445566778899aabbccddeeff"}`, live(8, `{"id":"`+id+`","n":2,"data":"AQI="}`))
	s := settle(t, db, 1)
	if len(s.Conflicts) != 1 {
		t.Fatalf("conflicts: %v", s.Conflicts)
	}
	c := s.Conflicts[0]
	same(t, "key", c.Key, wire.Key{Column: "id", Value: id})
	same(t, "local", string(c.Local), `{"id":"00112233445566778899aabbccddeeff","n":"1","data":"0304"}`)
	same(t, "local on the wire", string(c.LocalWire), `{"id":"`+id+`","n":1,"data":"AwQ="}`)
	same(t, "base on the wire", string(c.BaseWire), `{"id":"`+id+`","n":1,"data":"AQI="}`)
	same(t, "server", string(c.ServerWire), `{"id":"`+id+`","n":2,"data":"AQI="}`)
	same(t, "the rest", []any{c.Table, c.LocalOp, c.Base, c.ServerVersion, c.ServerExact, c.ServerDeleted}, []any{"files", wire.OpUpdate, int64(5), int64(8), true, false})
}

// A server spells times and reals in its own way. What it holds is what is kept, so that both sides are the same.
func TestSettleTakesTheServersSpelling(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, `CREATE TABLE events (id TEXT PRIMARY KEY NOT NULL, at TEXT)`, "events"))
	exec(t, db, `INSERT INTO events VALUES ('e1', '2026-01-02T03:04:05.000Z')`)
	cast(t, db, "events", keyOf("e1"), live(3, `{"id":"e1","at":"2026-01-02T03:04:05+00:00"}`))
	s := settle(t, db, 10)
	same(t, "accepted", s.Accepted, 1)
	same(t, "tables", s.Tables, local.TableSet{"events"})
	same(t, "intents", len(intents(t, db)), 0)
	same(t, "row", rows(t, db, `SELECT * FROM events`), []string{"e1|2026-01-02T03:04:05+00:00"})
}

func TestSettleBoundsWhatItReturns(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	for i := range 600 {
		id := fmt.Sprintf("u%04d", i)
		exec(t, db, `INSERT INTO users VALUES (?, 'mine')`, id)
		cast(t, db, "users", keyOf(id), live(int64(i+1), `{"id":"`+id+`","name":"theirs"}`))
	}
	s := settle(t, db, 599)
	same(t, "conflicts and more", []any{len(s.Conflicts), s.More}, []any{599, true})
	s = settle(t, db, 600)
	same(t, "conflicts and more", []any{len(s.Conflicts), s.More}, []any{600, false})
	s = settle(t, db, 0)
	same(t, "conflicts and more", []any{len(s.Conflicts), s.More}, []any{600, false})
}

const treeDDL = `
CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, parent TEXT REFERENCES nodes(id) DEFERRABLE INITIALLY DEFERRED, code TEXT UNIQUE);
CREATE TABLE leaves (id TEXT PRIMARY KEY NOT NULL, node TEXT REFERENCES nodes(id) ON DELETE CASCADE, code TEXT REFERENCES nodes(code))`

// revert makes a row of the server and a local change that is taken back.
func revert(t testing.TB, db *DB, table, id, values, change, back string, version int64) {
	t.Helper()
	serverRow(t, db, table, values, version)
	exec(t, db, `UPDATE `+table+` SET `+change+` WHERE id = '`+id+`'`)
	exec(t, db, `UPDATE `+table+` SET `+back+` WHERE id = '`+id+`'`)
}

func TestSettleLaysDownRowsThatLeanOnEachOther(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, treeDDL, "nodes", "leaves"))
	serverRow(t, db, "nodes", `'p', NULL, 'p'`, 1)
	revert(t, db, "nodes", "a", `'a', NULL, 'x'`, `parent = 'a'`, `parent = NULL`, 2)
	revert(t, db, "nodes", "b", `'b', NULL, 'y'`, `parent = 'b'`, `parent = NULL`, 2)
	revert(t, db, "leaves", "l", `'l', 'a', NULL`, `node = 'b'`, `node = 'a'`, 2)
	// They swap their unique values and become each other's parent.
	cast(t, db, "nodes", keyOf("a"), live(7, `{"id":"a","parent":"b","code":"y"}`))
	cast(t, db, "nodes", keyOf("b"), live(7, `{"id":"b","parent":"a","code":"x"}`))
	cast(t, db, "leaves", keyOf("l"), live(7, `{"id":"l","node":"b","code":"x"}`))
	s := settle(t, db, 10)
	same(t, "dropped and stuck", []int{s.Dropped, s.Stuck}, []int{3, 0})
	same(t, "tables", s.Tables, local.TableSet{"leaves", "nodes"})
	same(t, "nodes", rows(t, db, `SELECT * FROM nodes ORDER BY id`), []string{"a|b|y", "b|a|x", "p|∅|p"})
	same(t, "leaves", rows(t, db, `SELECT * FROM leaves`), []string{"l|b|x"})
	same(t, "states", states(t, db), []string{"leaves l 7", "nodes a 7", "nodes b 7", "nodes p 1"})
}

func TestSettleLeavesWhatCannotBeLaidDown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		setup  func(t *testing.T, db *DB)
		shadow shadow
		free   string // what makes room
	}{
		{
			"a parent that is not here", func(*testing.T, *DB) {}, live(7, `{"id":"a","parent":"nobody","code":"x"}`),
			`INSERT INTO nodes VALUES ('nobody', NULL, NULL)`,
		},
		{
			"a unique value that another row holds", func(t *testing.T, db *DB) { exec(t, db, `INSERT INTO nodes VALUES ('z', NULL, 'taken')`) },
			live(7, `{"id":"a","parent":null,"code":"taken"}`), `UPDATE nodes SET code = 'other' WHERE id = 'z'`,
		},
		{
			"a deletion under a new child", func(t *testing.T, db *DB) { exec(t, db, `INSERT INTO leaves VALUES ('l', 'a', NULL)`) },
			gone(7), `DELETE FROM leaves`,
		},
		{
			"a deletion under a self-reference", func(t *testing.T, db *DB) { exec(t, db, `INSERT INTO nodes VALUES ('c', 'a', NULL)`) },
			gone(7), `UPDATE nodes SET parent = NULL WHERE id = 'c'`,
		},
		{
			"a value that a child refers to", func(t *testing.T, db *DB) { exec(t, db, `INSERT INTO leaves VALUES ('l', NULL, 'x')`) },
			live(7, `{"id":"a","parent":null,"code":"other"}`), `UPDATE leaves SET code = NULL`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := synced(t, testDB(t, treeDDL, "nodes", "leaves"))
			attachAt(t, db, 8) // no pull brings these images again
			revert(t, db, "nodes", "a", `'a', NULL, 'x'`, `parent = 'a'`, `parent = NULL`, 2)
			revert(t, db, "nodes", "other", `'other', NULL, 'o'`, `parent = 'a'`, `parent = NULL`, 2)
			c.setup(t, db)
			before := rows(t, db, `SELECT * FROM nodes ORDER BY id`)
			cast(t, db, "nodes", keyOf("a"), c.shadow)
			cast(t, db, "nodes", keyOf("other"), live(8, `{"id":"other","parent":null,"code":"oo"}`))
			s := settle(t, db, 10)
			same(t, "dropped and stuck", []int{s.Dropped, s.Stuck}, []int{1, 1})
			same(t, "nodes", rows(t, db, `SELECT * FROM nodes WHERE id <> 'other' ORDER BY id`), rowsWithout(before, "other|"))

			// It holds up nothing else, and is tried again.
			f := freeze(t, db, local.FreezeRequest{})
			same(t, "unsettled", f.Unsettled, false)
			same(t, "stays", rows(t, db, `SELECT key_json FROM _sync_dirty_rows`), []string{keyOf("a")})
			if err := db.RequeueOutbox(t.Context()); err != nil {
				t.Fatal(err)
			}
			exec(t, db, c.free)
			same(t, "stuck after there is room", settle(t, db, 10).Stuck, 0)
			same(t, "settled after there is room", rows(t, db, `SELECT key_json FROM _sync_dirty_rows WHERE key_json = ?`, keyOf("a")), []string{})
		})
	}
}

func rowsWithout(lines []string, prefix string) (out []string) {
	for _, l := range lines {
		if !strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	return out
}

func TestK4_AKeptBlobStaysExact(t *testing.T) {
	t.Parallel()
	for _, kind := range []local.ResolutionKind{local.KeepLocal, local.KeepMerged} {
		db := synced(t, testDB(t, `CREATE TABLE files (id BLOB PRIMARY KEY NOT NULL, name TEXT, data BLOB)`, "files"))
		const hexID, id = "00112233445566778899aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff"
		// In hexadecimal digits this blob looks like base64 of something else.
		serverRow(t, db, "files", `x'`+hexID+`', 'old', x'deadbeef'`, 5)
		exec(t, db, `UPDATE files SET data = x'cafebabe'`)
		cast(t, db, "files", `{"id":"`+hexID+`"}`, live(8, `{"id":"`+id+`","name":"theirs","data":"3q2+7w=="}`))
		s := settle(t, db, 1)
		r := local.Resolution{Conflict: s.Conflicts[0], Kind: kind}
		if kind == local.KeepMerged {
			r.Merged = []byte(`{"id":"` + id + `","name":"theirs","data":"yv66vg=="}`)
		}
		if _, err := db.Resolve(t.Context(), []local.Resolution{r}); err != nil {
			t.Fatal(err)
		}
		verify(t, db)
		same(t, "data here", rows(t, db, `SELECT hex(data) FROM files`), []string{"CAFEBABE"})
		same(t, "base row", rows(t, db, `SELECT payload FROM _sync_base_rows`), []string{`{"id":"` + hexID + `","name":"theirs","data":"deadbeef"}`})
		freeze(t, db, local.FreezeRequest{})
		sent, err := db.OutboxRows(t.Context(), 0, 10, 0)
		if err != nil || len(sent) != 1 {
			t.Fatalf("%v, %v", sent, err)
		}
		if !strings.Contains(string(sent[0].Payload), `"data":"yv66vg=="`) || sent[0].BaseRowVersion != 8 || sent[0].Op != wire.OpUpdate {
			t.Errorf("pushed: %+v %s", sent[0], sent[0].Payload)
		}
	}
}

func TestSettleRefusesWhileAPushIsInFlight(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	edit(t, db, wire.OpInsert)
	freeze(t, db, local.FreezeRequest{})
	_, settled := db.Settle(t.Context(), 1)
	_, resolved := db.Resolve(t.Context(), nil)
	_, frozen := db.Freeze(t.Context(), local.FreezeRequest{Contract: wire.ClassicContract})
	for _, err := range []error{settled, resolved, frozen} {
		var dberr *local.DatabaseError
		if !errors.As(err, &dberr) || dberr.Table != "_sync_outbox_bundle" {
			t.Errorf("got %v", err)
		}
	}
}

func TestSettleNeedsSoundMetadata(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"no contract":         `DELETE FROM _sync_engine_state WHERE name = 'contract'`,
		"an unknown contract": `UPDATE _sync_engine_state SET value = 'klingon' WHERE name = 'contract'`,
		"half an image":       `UPDATE _sync_shadow SET deleted = 1`,
		"no outbox":           `DELETE FROM _sync_outbox_bundle`,
		"no base":             `UPDATE _sync_shadow SET payload = 'x'`,
	} {
		db := synced(t, testDB(t, usersDDL, "users"))
		edit(t, db, wire.OpInsert)
		cast(t, db, "users", keyOf("u1"), live(9, `{"id":"u1","name":"theirs"}`))
		asServer(t, db, harm)
		if s, err := db.Settle(t.Context(), 1); err == nil {
			t.Errorf("%s: settled %+v", name, s)
		}
	}
	db := testDB(t, usersDDL, "users")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Settle(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A value that no resolver can be shown is the freeze's finding as well: it names the row.
func TestK11_AConflictOfARowThatCannotBeSentNamesIt(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, `CREATE TABLE ns (id TEXT PRIMARY KEY NOT NULL, n INTEGER)`, "ns"))
	exec(t, db, `INSERT INTO ns VALUES ('a', 9223372036854775807)`)
	cast(t, db, "ns", keyOf("a"), live(3, `{"id":"a","n":1}`))
	_, err := db.Settle(t.Context(), 1)
	var value *wire.ValueError
	var in *local.IntentError
	if !errors.As(err, &value) || !errors.As(err, &in) || in.KeyJSON != keyOf("a") || in.Table != "ns" {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), keyOf("a")) || in.Retryable() {
		t.Errorf("the key is in %q, or it is retryable", err)
	}
}
