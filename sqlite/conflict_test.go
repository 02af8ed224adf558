package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// conflictOf describes what is known of a dirty row to a resolver, whatever Settle would do with it.
func conflictOf(t testing.TB, db *DB, table, key string) local.Conflict {
	t.Helper()
	var c local.Conflict
	err := db.read(t.Context(), "test", func() error {
		contract, err := db.pinnedContract()
		if err != nil {
			return err
		}
		in, err := db.loadIntent(db.byName[table], key)
		if err != nil {
			return err
		}
		c, err = newImages(contract).conflict(in)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func resolve(t testing.TB, db *DB, rs ...local.Resolution) local.ResolutionsApplied {
	t.Helper()
	out, err := db.Resolve(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, db)
	return out
}

// The whole table of conflicts and resolutions: each local operation over each server image, for images from a pull and
// from a refused push, with and without an edit between the question and the answer.
func TestResolveEveryConflict(t *testing.T) {
	t.Parallel()
	const mine, theirs, old, merged, later = `{"id":"u1","name":"mine"}`, `{"id":"u1","name":"theirs"}`, `{"id":"u1","name":"old"}`, `{"id":"u1","name":"both"}`, `{"id":"u1","name":"later"}`
	type end struct{ intents, states, users string }
	onServer := end{"", "users u1 9", "u1|theirs"}
	onTomb := end{"", "users u1 9 deleted", ""}
	onNothing := end{}
	insertOn := func(payload string, tomb bool) end {
		var kept wireRow
		kept.decode(payload)
		if tomb {
			return end{"users u1 INSERT on 9 " + payload + " state 9 deleted", "users u1 9 deleted", kept.line()}
		}
		return end{"users u1 INSERT on 0 " + payload, "", kept.line()}
	}
	updateOn := func(payload string) end {
		var kept wireRow
		kept.decode(payload)
		return end{"users u1 UPDATE on 9 " + payload + " state 9 base " + theirs, "users u1 9", kept.line()}
	}
	images := map[string]shadow{"live": live(9, theirs), "tombstone": gone(9), "inferred": inexact(9), "never": never}
	accepted := map[string]end{"live": onServer, "tombstone": onTomb, "inferred": onNothing, "never": onNothing}
	for _, op := range []wire.Op{wire.OpInsert, wire.OpUpdate, wire.OpDelete} {
		for image, s := range images {
			for _, kind := range []local.ResolutionKind{local.AcceptServer, local.KeepLocal, local.KeepMerged} {
				var want *end // nil: invalid
				content := mine
				if kind == local.KeepMerged {
					content = merged
				}
				switch {
				case kind == local.AcceptServer:
					want = new(accepted[image])
				case op == wire.OpDelete && kind == local.KeepMerged:
				case op == wire.OpDelete && image == "live":
					want = &end{"users u1 DELETE on 9 state 9 base " + theirs, "users u1 9", ""}
				case op == wire.OpDelete:
					want = new(accepted[image])
				case image == "live":
					want = new(updateOn(content))
				default:
					want = new(insertOn(content, image == "tombstone"))
				}
				for _, edited := range []bool{false, true} {
					for _, refused := range []bool{false, true} {
						if refused && image == "inferred" {
							continue // a server knows the version
						}
						t.Run(fmt.Sprintf("%s over %s %d edited=%t refused=%t", op, image, kind, edited, refused), func(t *testing.T) {
							t.Parallel()
							db := synced(t, testDB(t, usersDDL, "users"))
							edit(t, db, op)
							if refused {
								freeze(t, db, local.FreezeRequest{})
								if take(t, db, "users", "u1", op, s).Settled {
									return // both deleted: nothing to ask
								}
							} else {
								cast(t, db, "users", keyOf("u1"), s)
							}
							c := conflictOf(t, db, "users", keyOf("u1"))
							if edited {
								if op == wire.OpDelete {
									exec(t, db, `INSERT INTO users VALUES ('u1', 'later')`)
								} else {
									exec(t, db, `UPDATE users SET name = 'later'`)
								}
							}
							before := intents(t, db)
							out, err := db.Resolve(t.Context(), []local.Resolution{{Conflict: c, Kind: kind, Merged: []byte(merged)}})
							got := end{strings.Join(intents(t, db), "\n"), strings.Join(states(t, db), "\n"), strings.Join(rows(t, db, `SELECT * FROM users`), "\n")}
							switch {
							case edited:
								same(t, "stale", []any{out.Applied, out.Stale, err}, []any{0, 1, nil})
								same(t, "intents", intents(t, db), before)
								same(t, "later content", strings.Contains(got.intents, later), true)
							case want == nil:
								var bad *local.InvalidResolutionError
								if !errors.As(err, &bad) || bad.Table != "users" || bad.KeyJSON != keyOf("u1") {
									t.Errorf("got %v", err)
								}
								same(t, "intents", intents(t, db), before)
							default:
								if err != nil {
									t.Fatal(err)
								}
								same(t, "applied", []int{out.Applied, out.Stale}, []int{1, 0})
								same(t, "end", got, *want)
							}
						})
					}
				}
			}
		}
	}
}

// wireRow is a users row spelled in a payload.
type wireRow struct{ id, name string }

func (r *wireRow) decode(payload string) {
	parts := strings.Split(payload, `"`)
	r.id, r.name = parts[3], parts[7]
}

func (r *wireRow) line() string { return r.id + "|" + r.name }

// take refuses the push in flight for a row, with an image.
func take(t testing.TB, db *DB, table, id string, op wire.Op, s shadow) local.ConflictTaken {
	t.Helper()
	out, err := db.TakeConflict(t.Context(), wire.Conflict{
		Schema: db.cfg.Schema, Table: table, Key: wire.Key{Column: "id", Value: id}, Op: op,
		ServerRow: s.payload, ServerRowVersion: s.version, ServerRowDeleted: s.deleted && s.version > 0,
	})
	if err != nil {
		t.Fatal(err)
	}
	verify(t, db)
	return out
}

func TestResolveNoticesAnotherShadow(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]shadow{
		"newer": live(10, `{"id":"u1","name":"theirs"}`), "other content": live(9, `{"id":"u1","name":"them"}`), "gone": gone(9),
	} {
		db := synced(t, testDB(t, usersDDL, "users"))
		edit(t, db, wire.OpUpdate)
		cast(t, db, "users", keyOf("u1"), live(9, `{"id":"u1","name":"theirs"}`))
		c := settle(t, db, 1).Conflicts[0]
		cast(t, db, "users", keyOf("u1"), s)
		out := resolve(t, db, local.Resolution{Conflict: c, Kind: local.AcceptServer})
		same(t, name, []int{out.Applied, out.Stale}, []int{0, 1})
	}
	db := synced(t, testDB(t, usersDDL, "users"))
	edit(t, db, wire.OpUpdate)
	cast(t, db, "users", keyOf("u1"), inexact(9))
	c := settle(t, db, 1).Conflicts[0]
	cast(t, db, "users", keyOf("u1"), gone(9))
	strange := c
	strange.Table = "nothing"
	out := resolve(t, db, local.Resolution{Conflict: c, Kind: local.AcceptServer}, local.Resolution{Conflict: strange, Kind: local.AcceptServer})
	same(t, "exact now, and no table", out, local.ResolutionsApplied{Stale: 2, StaleKeys: keys("users", keyOf("u1"), "nothing", keyOf("u1"))})
}

func TestResolveOneConflictOnce(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	edit(t, db, wire.OpUpdate)
	cast(t, db, "users", keyOf("u1"), live(9, `{"id":"u1","name":"theirs"}`))
	c := settle(t, db, 1).Conflicts[0]
	out := resolve(t, db, local.Resolution{Conflict: c, Kind: local.AcceptServer}, local.Resolution{Conflict: c, Kind: local.KeepLocal})
	same(t, "applied and stale", []int{out.Applied, out.Stale}, []int{1, 1})
}

func TestResolveRefusesWhatIsNoRow(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, `CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL UNIQUE, boss TEXT REFERENCES users(id), tag TEXT UNIQUE);
CREATE TABLE tags (id TEXT PRIMARY KEY NOT NULL, tag TEXT REFERENCES users(tag))`, "users", "tags"))
	serverRow(t, db, "users", `'u2', 'taken', NULL, 't2'`, 1)
	serverRow(t, db, "users", `'u1', 'old', NULL, 't1'`, 5)
	exec(t, db, `INSERT INTO tags VALUES ('t', 't1')`)
	exec(t, db, `UPDATE users SET name = 'mine' WHERE id = 'u1'`)
	cast(t, db, "users", keyOf("u1"), live(9, `{"id":"u1","name":"theirs","boss":null,"tag":"t1"}`))
	c := settle(t, db, 1).Conflicts[0]
	before := intents(t, db)
	for name, merged := range map[string]string{
		"nothing":          ``,
		"no object":        `[1]`,
		"cut off":          `{"id":"u1","name":`,
		"cut off earlier":  `{"id":"u1",`,
		"a column less":    `{"id":"u1","name":"x","boss":null}`,
		"a column more":    `{"id":"u1","name":"x","boss":null,"tag":"t1","age":1}`,
		"a column twice":   `{"id":"u1","name":"x","boss":null,"tag":"t1","tag":"t1"}`,
		"another type":     `{"id":"u1","name":{},"boss":null,"tag":"t1"}`,
		"another key":      `{"id":"u3","name":"x","boss":null,"tag":"t1"}`,
		"null in not null": `{"id":"u1","name":null,"boss":null,"tag":"t1"}`,
		"taken value":      `{"id":"u1","name":"taken","boss":null,"tag":"t1"}`,
		"no parent":        `{"id":"u1","name":"x","boss":"nobody","tag":"t1"}`,
		"a child's value":  `{"id":"u1","name":"x","boss":null,"tag":"t9"}`,
	} {
		_, err := db.Resolve(t.Context(), []local.Resolution{{Conflict: c, Kind: local.KeepMerged, Merged: []byte(merged)}})
		var bad *local.InvalidResolutionError
		if !errors.As(err, &bad) || err != error(bad) {
			t.Errorf("%s: %v", name, err)
		}
		same(t, "intents", intents(t, db), before)
	}
	_, err := db.Resolve(t.Context(), []local.Resolution{{Conflict: c, Kind: 99}})
	var bad *local.InvalidResolutionError
	if !errors.As(err, &bad) || bad.Retryable() || bad.Error() == "" {
		t.Errorf("an unknown resolution: %v", err)
	}
	out := resolve(t, db, local.Resolution{Conflict: c, Kind: local.KeepMerged, Merged: []byte(`{"tag":"t1","boss":"u1","name":"x","id":"u1"}`)})
	same(t, "its own boss", out.Applied, 1)
	same(t, "tables", out.Tables, local.TableSet{"users"})
}

func TestResolveAcceptsRowsThatLeanOnEachOther(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, treeDDL, "nodes", "leaves"))
	serverRow(t, db, "nodes", `'a', NULL, 'x'`, 2)
	serverRow(t, db, "leaves", `'l', 'a', NULL`, 2)
	exec(t, db, `DELETE FROM nodes`) // takes the leaf with it
	cast(t, db, "nodes", keyOf("a"), live(7, `{"id":"a","parent":null,"code":"y"}`))
	cast(t, db, "leaves", keyOf("l"), live(7, `{"id":"l","node":"a","code":"y"}`))
	var rs []local.Resolution
	for _, c := range settle(t, db, 10).Conflicts {
		rs = append([]local.Resolution{{Conflict: c, Kind: local.AcceptServer}}, rs...)
	}
	out := resolve(t, db, rs...)
	same(t, "applied", []any{out.Applied, out.NeedsPull}, []any{2, false})
	same(t, "leaves", rows(t, db, `SELECT * FROM leaves`), []string{"l|a|y"})
	same(t, "intents", intents(t, db), []string{})
}

// The server changed a row whose parent is deleted here: accepting that cannot bring the row back without its parent.
func TestResolveLetsTheDeletionOfAParentGoOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ddl, parent, child, child2 string }{
		{"by key", treeDDL, `'a', NULL, 'x'`, `'l', 'a', NULL`, `{"id":"l","node":"a","code":null}`},
		{"by another column", treeDDL, `'a', NULL, 'x'`, `'l', NULL, 'x'`, `{"id":"l","node":null,"code":"x"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := synced(t, testDB(t, c.ddl, "nodes", "leaves"))
			serverRow(t, db, "nodes", c.parent, 2)
			serverRow(t, db, "leaves", c.child, 3)
			inTx(t, db, `DELETE FROM leaves`, `DELETE FROM nodes`)
			cast(t, db, "leaves", keyOf("l"), live(7, strings.Replace(c.child2, `"code":null`, `"code":null`, 1)))
			// Content that differs from the base row, else the deletion would be the only change.
			conflict := settle(t, db, 10).Conflicts[0]
			out := resolve(t, db, local.Resolution{Conflict: conflict, Kind: local.AcceptServer})
			same(t, "applied", []any{out.Applied, out.NeedsPull}, []any{1, false})
			same(t, "intents", rows(t, db, `SELECT table_name, op, base_row_version FROM _sync_dirty_rows ORDER BY 1`), []string{"leaves|DELETE|7", "nodes|DELETE|2"})
			same(t, "settled", len(settle(t, db, 10).Conflicts), 0)
		})
	}
}

func TestResolveLetsTheDeletionOfABlobParentGoOn(t *testing.T) {
	t.Parallel()
	db := synced(t, businessDB(t))
	serverRow(t, db, "files", `x'00112233445566778899aabbccddeeff', 'f', x''`, 2)
	serverRow(t, db, "file_reviews", `x'00112233445566778899aabbccddee00', 'r', x'00112233445566778899aabbccddeeff'`, 2)
	exec(t, db, `DELETE FROM files`)
	cast(t, db, "file_reviews", `{"id":"00112233445566778899aabbccddee00"}`,
		live(7, `{"id":"00112233-4455-6677-8899-aabbccddee00","review":"new","file_id":"00112233-4455-6677-8899-aabbccddeeff"}`))
	out := resolve(t, db, local.Resolution{Conflict: settle(t, db, 10).Conflicts[0], Kind: local.AcceptServer})
	same(t, "applied", []any{out.Applied, out.NeedsPull}, []any{1, false})
}

func TestResolveNeedsAPull(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, treeDDL, "nodes", "leaves"))
	attachAt(t, db, 7) // no pull brings these images again
	serverRow(t, db, "leaves", `'l', NULL, NULL`, 2)
	serverRow(t, db, "leaves", `'m', NULL, NULL`, 2)
	exec(t, db, `INSERT INTO nodes VALUES ('mine', NULL, NULL)`)
	exec(t, db, `UPDATE leaves SET node = 'mine'`)
	cast(t, db, "leaves", keyOf("l"), live(7, `{"id":"l","node":"new","code":null}`))
	cast(t, db, "leaves", keyOf("m"), live(7, `{"id":"m","node":null,"code":null}`))
	conflicts := settle(t, db, 10).Conflicts
	var rs []local.Resolution
	for _, c := range conflicts {
		rs = append(rs, local.Resolution{Conflict: c, Kind: local.AcceptServer})
	}
	out := resolve(t, db, rs...)
	same(t, "applied", []any{out.Applied, out.NeedsPull, out.Deferred}, []any{1, true, []local.IntentKey{{Table: "leaves", KeyJSON: keyOf("l")}}})
	same(t, "leaves", rows(t, db, `SELECT * FROM leaves`), []string{"l|mine|∅", "m|∅|∅"})

	same(t, "a freeze waits for it", freeze(t, db, local.FreezeRequest{}).Unsettled, true)
	f := freeze(t, db, local.FreezeRequest{Without: out.Deferred})
	same(t, "a freeze without it", []any{f.Unsettled, f.Outbox.RowCount}, []any{false, int64(1)})
	if err := db.RequeueOutbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	serverRow(t, db, "nodes", `'new', NULL, NULL`, 6)
	out = resolve(t, db, rs...)
	same(t, "applied after the pull", []any{out.Applied, out.Stale, out.NeedsPull}, []any{1, 1, false})
}

func TestTakeConflictOfARowThatWasCommittedAfterAll(t *testing.T) {
	t.Parallel()
	const mine = `{"id":"u1","name":"mine"}`
	type end struct{ intents, states, users string }
	for _, c := range []struct {
		name  string
		op    wire.Op
		then  string // edited since
		image shadow
		end   end
	}{
		{"insert", wire.OpInsert, ``, live(9, mine), end{"", "users u1 9", "u1|mine"}},
		{"update", wire.OpUpdate, ``, live(9, mine), end{"", "users u1 9", "u1|mine"}},
		{"delete", wire.OpDelete, ``, gone(9), end{"", "users u1 9 deleted", ""}},
		{"delete of nothing", wire.OpDelete, ``, never, end{}},
		{
			"insert, edited since", wire.OpInsert, `UPDATE users SET name = 'later'`, live(9, mine),
			end{`users u1 UPDATE on 9 {"id":"u1","name":"later"} state 9 base ` + mine, "users u1 9", "u1|later"},
		},
		{
			"update, edited since", wire.OpUpdate, `UPDATE users SET name = 'later'`, live(9, mine),
			end{`users u1 UPDATE on 9 {"id":"u1","name":"later"} state 9 base ` + mine, "users u1 9", "u1|later"},
		},
		{
			"update, deleted since", wire.OpUpdate, `DELETE FROM users`, live(9, mine),
			end{`users u1 DELETE on 9 state 9 base ` + mine, "users u1 9", ""},
		},
		{
			"delete, put back since", wire.OpDelete, `INSERT INTO users VALUES ('u1', 'later')`, gone(9),
			end{`users u1 INSERT on 9 {"id":"u1","name":"later"} state 9 deleted`, "users u1 9 deleted", "u1|later"},
		},
		{
			"delete, put back and deleted since", wire.OpDelete, `INSERT INTO users VALUES ('u1', 'later'); DELETE FROM users`, gone(9),
			end{"", "users u1 9 deleted", ""},
		},
	} {
		for _, older := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s shadow=%t", c.name, older), func(t *testing.T) {
				t.Parallel()
				db := synced(t, testDB(t, usersDDL, "users"))
				edit(t, db, c.op)
				freeze(t, db, local.FreezeRequest{})
				for _, s := range strings.Split(c.then, ";") {
					if s != "" {
						exec(t, db, s)
					}
				}
				if older {
					cast(t, db, "users", keyOf("u1"), live(12, `{"id":"u1","name":"whatever was pulled"}`))
				}
				out := take(t, db, "users", "u1", c.op, c.image)
				base := int64(5)
				if c.op == wire.OpInsert {
					base = 0
				}
				same(t, "taken", out, local.ConflictTaken{Settled: true, Op: c.op, Base: base})
				same(t, "end", end{strings.Join(intents(t, db), "\n"), strings.Join(states(t, db), "\n"), strings.Join(rows(t, db, `SELECT * FROM users`), "\n")}, c.end)
			})
		}
	}
}

func TestTakeConflictLaysDownTheServersSpelling(t *testing.T) {
	t.Parallel()
	for _, stuck := range []bool{false, true} {
		db := synced(t, testDB(t, `CREATE TABLE events (id TEXT PRIMARY KEY NOT NULL, at TEXT UNIQUE)`, "events"))
		exec(t, db, `INSERT INTO events VALUES ('e1', '2026-01-02T03:04:05.000Z')`)
		if stuck {
			serverRow(t, db, "events", `'e2', '2026-01-02T03:04:05+00:00'`, 1)
		}
		freeze(t, db, local.FreezeRequest{})
		out := take(t, db, "events", "e1", wire.OpInsert, live(3, `{"id":"e1","at":"2026-01-02T03:04:05+00:00"}`))
		if stuck {
			same(t, "stuck", []any{out.Settled, out.Tables == nil, len(intents(t, db))}, []any{false, true, 1})
			same(t, "settle", settle(t, db, 1).Stuck, 1)
			same(t, "freeze", freeze(t, db, local.FreezeRequest{}), local.Frozen{Outbox: local.Outbox{State: local.OutboxNone}})
			continue
		}
		same(t, "taken", out, local.ConflictTaken{Settled: true, Op: wire.OpInsert, Tables: local.TableSet{"events"}})
		same(t, "row", rows(t, db, `SELECT at FROM events`), []string{"2026-01-02T03:04:05+00:00"})
	}
}

func TestTakeConflictKeepsTheRestAndTheNumber(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	for i := range 5 {
		exec(t, db, `INSERT INTO users VALUES (?, 'mine')`, fmt.Sprint(i))
	}
	first := freeze(t, db, local.FreezeRequest{})
	exec(t, db, `UPDATE users SET name = 'later' WHERE id = '3'`)
	exec(t, db, `INSERT INTO users VALUES ('9', 'new')`)
	out := take(t, db, "users", "2", wire.OpInsert, live(7, `{"id":"2","name":"theirs"}`))
	same(t, "taken", out, local.ConflictTaken{Op: wire.OpInsert})
	same(t, "dirty", rows(t, db, `SELECT key_json, payload ->> 'name' FROM _sync_dirty_rows ORDER BY dirty_ordinal`),
		[]string{keyOf("0") + "|mine", keyOf("1") + "|mine", keyOf("2") + "|mine", keyOf("3") + "|later", keyOf("4") + "|mine", keyOf("9") + "|new"})
	same(t, "frozen with a conflict", freeze(t, db, local.FreezeRequest{}).Unsettled, true)
	resolve(t, db, local.Resolution{Conflict: settle(t, db, 9).Conflicts[0], Kind: local.KeepLocal})
	second := freeze(t, db, local.FreezeRequest{})
	same(t, "number", second.Outbox.SourceBundleID, first.Outbox.SourceBundleID)
	same(t, "rows", second.Outbox.RowCount, int64(6))
}

func TestTakeConflictRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	ok := wire.Conflict{Schema: "main", Table: "users", Key: wire.Key{Column: "id", Value: "u1"}, Op: wire.OpUpdate, ServerRowVersion: 9, ServerRow: []byte(`{"id":"u1","name":"theirs"}`)}
	var dberr *local.DatabaseError
	if _, err := db.TakeConflict(t.Context(), ok); !errors.As(err, &dberr) {
		t.Errorf("nothing in flight: %v", err)
	}
	edit(t, db, wire.OpUpdate)
	freeze(t, db, local.FreezeRequest{})
	for name, change := range map[string]func(c *wire.Conflict){
		"another table":     func(c *wire.Conflict) { c.Table = "nothing" },
		"another schema":    func(c *wire.Conflict) { c.Schema = "other" },
		"another row":       func(c *wire.Conflict) { c.Key.Value, c.ServerRow = "u2", []byte(`{"id":"u2","name":"theirs"}`) },
		"another column":    func(c *wire.Conflict) { c.Key.Column = "name" },
		"two rows":          func(c *wire.Conflict) { c.ServerRow = []byte(`{"id":"u2","name":"theirs"}`) },
		"half a row":        func(c *wire.Conflict) { c.ServerRow = []byte(`{"id":"u1"}`) },
		"deleted and live":  func(c *wire.Conflict) { c.ServerRowDeleted = true },
		"live at 0":         func(c *wire.Conflict) { c.ServerRowVersion = 0 },
		"below 0":           func(c *wire.Conflict) { c.ServerRowVersion = -1 },
		"tombstone at 0":    func(c *wire.Conflict) { c.ServerRow, c.ServerRowDeleted, c.ServerRowVersion = nil, true, 0 },
		"never, at version": func(c *wire.Conflict) { c.ServerRow = nil },
	} {
		c := ok
		change(&c)
		var proto *wire.ProtocolError
		if _, err := db.TakeConflict(t.Context(), c); !errors.As(err, &proto) {
			t.Errorf("%s: %v", name, err)
		}
		same(t, "outbox", number(t, db, `SELECT COUNT(*) FROM _sync_outbox_rows`), int64(1))
	}
	if _, err := db.TakeConflict(t.Context(), ok); err != nil {
		t.Error(err)
	}
}

func TestK10_ManyConflictsAreSettledAtOnce(t *testing.T) {
	race.Skip(t, "thousands of rows on one goroutine")
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	const n = 2000
	asServer(t, db,
		fmt.Sprintf(`WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < %d) INSERT INTO users SELECT 'u' || n, 'old' FROM i`, n),
		`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version) SELECT 'main', 'users', json_object('id', id), 5 FROM users`)
	exec(t, db, `UPDATE users SET name = 'mine'`)
	asServer(t, db, `INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, payload)
SELECT 'main', 'users', json_object('id', id), 9, json_object('id', id, 'name', 'theirs') FROM users`)
	s := settle(t, db, 0)
	same(t, "conflicts", len(s.Conflicts), n)
	var rs []local.Resolution
	for i, c := range s.Conflicts {
		rs = append(rs, local.Resolution{Conflict: c, Kind: local.ResolutionKind(i%2) + local.AcceptServer})
	}
	out := resolve(t, db, rs...)
	same(t, "applied", out.Applied, n)
	same(t, "kept", number(t, db, `SELECT COUNT(*) FROM users WHERE name = 'mine'`), int64(n/2))
	same(t, "frozen", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(n/2))
}
