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

const pairDDL = `CREATE TABLE pairs (id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE)`

func name(n string) string { return fmt.Sprintf(`"name":%q`, n) }

func TestApplyLaysRowsDown(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	out := pulled(t, db,
		bundle(1, put("users", "u1", name("Ada")), put("users", "u2", name("Bob"))),
		bundle(2, put("users", "u1", name("Ada L.")), removed("users", "u2"), put("users", `q"\u`+"é\x01", name("odd key"))))
	same(t, "outcome", out, local.Applied{Bundles: 2, Rows: 3, Checkpoint: 2, Tables: local.TableSet{"users"}})
	same(t, "rows", rows(t, db, `SELECT name FROM users ORDER BY name`), []string{"Ada L.", "odd key"})
	same(t, "every key is spelled as the triggers spell it", rows(t, db, `SELECT u.name, s.row_version, s.deleted FROM _sync_row_state s
LEFT JOIN users u ON json_object('id', u.id) = s.key_json ORDER BY u.name`), []string{"∅|2|1", "Ada L.|2|0", "odd key|2|0"})
}

func TestApplySkipsWhatIsKnown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		state   int64
		row     wire.Row
		applied bool
	}{
		{"an older row state", 4, put("users", "u1", name("new")), true},
		{"the same version", 5, put("users", "u1", name("new")), false},
		{"a newer version", 6, put("users", "u1", name("new")), false},
		{"a deletion of the same version", 5, removed("users", "u1"), false},
		{"a newer deletion", 4, removed("users", "u1"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, usersDDL, "users")
			attachAt(t, db, 4)
			serverRow(t, db, "users", `'u1', 'old'`, c.state)
			out := pulled(t, db, bundle(5, c.row))
			want, state := []string{"old"}, fmt.Sprintf("users u1 %d", c.state)
			switch {
			case c.applied && c.row.Op == wire.OpDelete:
				want, state = []string{}, "users u1 5 deleted"
			case c.applied:
				want, state = []string{"new"}, "users u1 5"
			}
			same(t, "rows", rows(t, db, `SELECT name FROM users`), want)
			same(t, "states", states(t, db), []string{state})
			same(t, "checkpoint", out.Checkpoint, int64(5))
			same(t, "changed", len(out.Tables) == 1, c.applied)
		})
	}
}

func TestApplyMakesShadowsOfRowsWithAnIntent(t *testing.T) {
	t.Parallel()
	mine := map[string]func(t *testing.T, db *DB){
		"dirty": func(t *testing.T, db *DB) {},
		"frozen": func(t *testing.T, db *DB) {
			outboxOf(t, db)
		},
		"quarantined": func(t *testing.T, db *DB) {
			asServer(t, db, `INSERT INTO _sync_quarantine (schema_name, table_name, key_json, op, base_row_version, payload, code)
SELECT schema_name, table_name, key_json, op, base_row_version, payload, 'test' FROM _sync_dirty_rows`, `DELETE FROM _sync_dirty_rows`)
		},
	}
	for kind, make := range mine {
		for _, op := range []wire.Op{wire.OpInsert, wire.OpUpdate, wire.OpDelete} {
			t.Run(kind+" "+string(op), func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, usersDDL, "users")
				attachAt(t, db, 5)
				edit(t, db, op)
				make(t, db)
				before := rows(t, db, `SELECT * FROM users`)
				state := states(t, db)
				out := pulled(t, db, bundle(6, put("users", "u1", name("theirs")), put("users", "u2", name("free"))), bundle(7, put("users", "u1", name("newer"))))
				same(t, "shadow", shadows(t, db), []string{`users|u1|7|1|0|{"id":"u1","name":"newer"}`})
				same(t, "content", rows(t, db, `SELECT * FROM users WHERE id = 'u1'`), before)
				same(t, "state", states(t, db), append(state, "users u2 6"))
				same(t, "outcome", out, local.Applied{Bundles: 2, Rows: 1, Checkpoint: 7, Tables: local.TableSet{"users"}})

				pulled(t, db, bundle(8, removed("users", "u1")))
				same(t, "shadow", shadows(t, db), []string{`users|u1|8|1|1|∅`})
				same(t, "content", rows(t, db, `SELECT * FROM users WHERE id = 'u1'`), before)
			})
		}
	}
}

func TestK2_AnEditMadeWhileThePullWasOnItsWayIsKept(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	pulled(t, db, bundle(1, put("users", "u1", name("old"))))
	answer := bundle(2, put("users", "u1", name("theirs"))) // asked for while nothing was dirty
	exec(t, db, `UPDATE users SET name = 'mine' WHERE id = 'u1'`)
	pulled(t, db, answer)
	same(t, "content", rows(t, db, `SELECT name FROM users`), []string{"mine"})
	same(t, "intents", intents(t, db), []string{`users u1 UPDATE on 1 {"id":"u1","name":"mine"} state 1 base {"id":"u1","name":"old"} shadow 2`})
}

func TestK13_UniqueValuesMayMoveBetweenRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		then []wire.Row
		want []string
	}{
		{"swap", []wire.Row{put("pairs", "a", name("y")), put("pairs", "b", name("x"))}, []string{"a|y", "b|x", "c|z"}},
		{"rotation", []wire.Row{put("pairs", "a", name("y")), put("pairs", "b", name("z")), put("pairs", "c", name("x"))}, []string{"a|y", "b|z", "c|x"}},
		{"taken from a row deleted later", []wire.Row{put("pairs", "a", name("z")), removed("pairs", "c")}, []string{"a|z", "b|y"}},
		{"taken by a new row", []wire.Row{put("pairs", "0", name("z")), put("pairs", "c", name("other"))}, []string{"0|z", "a|x", "b|y", "c|other"}},
	} {
		for i := range 2 {
			t.Run(fmt.Sprint(c.name, i), func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, pairDDL, "pairs")
				first := bundle(1, put("pairs", "a", name("x")), put("pairs", "b", name("y")), put("pairs", "c", name("z")))
				second := bundle(2, c.then...)
				if i == 0 {
					pulled(t, db, first)
					pulled(t, db, second)
				} else { // merged into one
					pulled(t, db, first, second)
				}
				same(t, "rows", rows(t, db, `SELECT id, name FROM pairs ORDER BY id`), c.want)
				same(t, "states", number(t, db, `SELECT count(*) FROM _sync_row_state WHERE row_version = 2`), int64(len(c.then)))
				verify(t, db)
			})
		}
	}
}

// keys are intents, given as table and local key in turn.
func keys(names ...string) (out []local.IntentKey) {
	for i := 0; i < len(names); i += 2 {
		out = append(out, local.IntentKey{Table: names[i], KeyJSON: names[i+1]})
	}
	return out
}

func TestApplyUniqueCollisions(t *testing.T) {
	t.Parallel()
	t.Run("with an intent", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, pairDDL, "pairs")
		exec(t, db, `INSERT INTO pairs VALUES ('mine', 'x'), ('also', 'y'), ('free', 'f')`)
		out := pulled(t, db, bundle(1, put("pairs", "a", name("before"))), bundle(2, put("pairs", "b", name("x")), put("pairs", "c", name("y"))), bundle(3, put("pairs", "d", name("after"))))
		same(t, "outcome", out, local.Applied{Bundles: 1, Rows: 1, Checkpoint: 1, Tables: local.TableSet{"pairs"},
			Collision: &local.Collision{BundleSeq: 2, Cause: "unique", Intents: keys("pairs", `{"id":"also"}`, "pairs", `{"id":"mine"}`)}})
		same(t, "rows", rows(t, db, `SELECT id FROM pairs ORDER BY id`), []string{"a", "also", "free", "mine"})
		same(t, "checkpoint", checkpoint(t, db), int64(1))
		same(t, "states", states(t, db), []string{"pairs a 1"})
	})
	t.Run("with a row that has none", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, pairDDL, "pairs")
		pulled(t, db, bundle(1, put("pairs", "a", name("x"))))
		out, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(2, put("pairs", "b", name("y"))), bundle(3, put("pairs", "c", name("x")))})
		if err != nil || out.Diverged == nil || out.Diverged.Table != "main.pairs" {
			t.Fatalf("got %+v, %v", out, err)
		}
		out.Diverged = nil
		same(t, "what came before is kept", []int64{out.Checkpoint, checkpoint(t, db)}, []int64{2, 2})
		same(t, "and told", out, local.Applied{Bundles: 1, Rows: 1, Checkpoint: 2, Tables: local.TableSet{"pairs"}})
		same(t, "rows", rows(t, db, `SELECT id, name FROM pairs ORDER BY id`), []string{"a|x", "b|y"})
	})
	t.Run("inside a bundle", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, pairDDL, "pairs")
		out, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(1, put("pairs", "b", name("y")), put("pairs", "c", name("y")))})
		if err != nil || out.Diverged == nil {
			t.Fatalf("got %+v, %v", out, err)
		}
		same(t, "rows", rows(t, db, `SELECT id FROM pairs`), []string{})
	})
}

const familyDDL = `
CREATE TABLE parents (id TEXT PRIMARY KEY NOT NULL, name TEXT, code TEXT UNIQUE, best TEXT REFERENCES children(id));
CREATE TABLE children (id TEXT PRIMARY KEY NOT NULL, name TEXT, parent TEXT REFERENCES parents(id) ON DELETE CASCADE, code TEXT REFERENCES parents(code), up TEXT REFERENCES children(id));
CREATE INDEX children_parent ON children (parent)`

func parent(id, rest string) wire.Row {
	return put("parents", id, fields(rest, "name", "code", "best"))
}
func child(id, rest string) wire.Row {
	return put("children", id, fields(rest, "name", "parent", "code", "up"))
}

// fields completes the members of a payload, written as name=value, with nulls.
func fields(rest string, columns ...string) string {
	given := map[string]string{}
	for _, f := range strings.Fields(rest) {
		k, v, _ := strings.Cut(f, "=")
		given[k] = fmt.Sprintf("%q", v)
	}
	var out []string
	for _, c := range columns {
		v := given[c]
		if v == "" {
			v = "null"
		}
		out = append(out, fmt.Sprintf("%q:%s", c, v))
	}
	return strings.Join(out, ",")
}

func TestApplyReferences(t *testing.T) {
	t.Parallel()
	start := bundle(1, child("c1", "parent=p1"), parent("p1", "code=K best=c1"), child("c2", "parent=p1 up=c1 code=K"), parent("p2", ""))
	for _, c := range []struct {
		name   string
		before []string // the application's SQL
		server []string // SQL in apply mode
		rows   []wire.Row
		cause  string
		blame  []local.IntentKey
		fault  string // table of Applied.Diverged
	}{
		{name: "cascade, the parent first", rows: []wire.Row{removed("parents", "p1"), removed("children", "c1"), removed("children", "c2")}},
		{name: "cascade, the children first", rows: []wire.Row{removed("children", "c2"), removed("children", "c1"), removed("parents", "p1")}},
		{name: "a cycle and a self-reference", rows: []wire.Row{child("c8", "parent=p8 up=c8"), parent("p8", "best=c8")}},
		{name: "a move to another parent", rows: []wire.Row{removed("parents", "p1"), child("c1", "parent=p2"), child("c2", "parent=p2 up=c1")}},
		{name: "a missing parent", rows: []wire.Row{child("c3", "parent=nobody")}, fault: "main.children"},
		{name: "a child left behind", rows: []wire.Row{removed("parents", "p1")}, fault: "main.children"},
		{name: "a child left behind by a value beside the key", rows: []wire.Row{parent("p1", "code=L best=c1")}, fault: "main.children"},
		{name: "a self-reference left behind", rows: []wire.Row{removed("children", "c1"), parent("p1", "code=K")}, fault: "main.children"},
		{name: "a local child of a deleted parent", before: []string{`INSERT INTO children (id, parent) VALUES ('mine', 'p2')`},
			rows: []wire.Row{removed("parents", "p2")}, cause: "foreign_key", blame: keys("children", `{"id":"mine"}`)},
		{name: "a child of a parent deleted here", before: []string{`DELETE FROM parents WHERE id = 'p2'`},
			rows: []wire.Row{child("c3", "parent=p2")}, cause: "foreign_key", blame: keys("parents", `{"id":"p2"}`)},
		{name: "a child of a value changed here", before: []string{`INSERT INTO parents (id) VALUES ('x')`, `UPDATE parents SET code = 'M' WHERE id = 'p9'`},
			server: []string{`INSERT INTO parents (id, code) VALUES ('p9', 'Z')`, `INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version) VALUES ('main', 'parents', '{"id":"p9"}', 1)`},
			rows:   []wire.Row{child("c3", "code=Z")}, cause: "foreign_key", blame: keys("parents", `{"id":"p9"}`)},
		{name: "a shadowed deletion", before: []string{`UPDATE children SET name = 'mine' WHERE id = 'c2'`},
			rows:  []wire.Row{removed("parents", "p1"), removed("children", "c1"), removed("children", "c2")},
			cause: "foreign_key", blame: keys("children", `{"id":"c2"}`)},
		{name: "a reference that dangled before", server: []string{`INSERT INTO children (id, parent) VALUES ('c7', 'lost')`},
			rows: []wire.Row{child("c7", "parent=lost name=again")}},
		{name: "a reference that dangled before, and one that did not", server: []string{`INSERT INTO children (id, parent) VALUES ('c7', 'lost')`},
			rows: []wire.Row{child("c7", "parent=lost name=again"), child("c6", "parent=lost")}, fault: "main.children"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, familyDDL, "parents", "children")
			pulled(t, db, start)
			if len(c.server) > 0 {
				asServer(t, db, c.server...)
			}
			for _, sql := range c.before {
				exec(t, db, sql)
			}
			before := everything(t, db)
			out, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(2, c.rows...)})
			switch {
			case err != nil:
				t.Fatal(err)
			case c.fault != "":
				if out.Diverged == nil || out.Diverged.Table != c.fault {
					t.Fatalf("got %+v", out)
				}
			case c.cause != "":
				same(t, "collision", out.Collision, &local.Collision{BundleSeq: 2, Cause: c.cause, Intents: c.blame})
			}
			if c.fault != "" || c.cause != "" {
				same(t, "nothing changed", everything(t, db), before)
				return
			}
			same(t, "outcome", []int64{int64(out.Bundles), out.Checkpoint}, []int64{1, 2})
			if len(c.server) == 0 {
				verify(t, db)
			}
			for _, r := range c.rows {
				same(t, r.Table+" "+r.Key.Value, number(t, db, `SELECT count(*) FROM `+r.Table+` WHERE id = ?`, r.Key.Value) == 0, r.Op == wire.OpDelete)
			}
		})
	}
}

func TestApplyRefusesBadRows(t *testing.T) {
	t.Parallel()
	good := put("users", "u1", name("Ada"))
	for what, row := range map[string]wire.Row{
		"another schema":             {Schema: "other", Table: "users", Key: good.Key, Op: wire.OpInsert, Payload: good.Payload},
		"an unknown table":           {Schema: "main", Table: "ghosts", Key: good.Key, Op: wire.OpInsert, Payload: good.Payload},
		"an unknown op":              {Schema: "main", Table: "users", Key: good.Key, Op: "MERGE", Payload: good.Payload},
		"no payload":                 {Schema: "main", Table: "users", Key: good.Key, Op: wire.OpInsert},
		"a deletion with a payload":  {Schema: "main", Table: "users", Key: good.Key, Op: wire.OpDelete, Payload: good.Payload},
		"another key column":         {Schema: "main", Table: "users", Key: wire.Key{Column: "uid", Value: "u1"}, Op: wire.OpInsert, Payload: good.Payload},
		"another key in the payload": {Schema: "main", Table: "users", Key: wire.Key{Column: "id", Value: "u9"}, Op: wire.OpInsert, Payload: good.Payload},
		"a NULL the table refuses":   put("users", "u1", `"name":null`),
		"a missing column":           put("users", "u1", ""),
		"a payload that is no JSON":  {Schema: "main", Table: "users", Key: good.Key, Op: wire.OpInsert, Payload: []byte(`{"id":`)},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, intent := range []bool{false, true} {
				db := attachedDB(t, usersDDL, "users")
				if intent {
					if what == "a NULL the table refuses" {
						continue // becomes a shadow
					}
					exec(t, db, `INSERT INTO users VALUES ('u1', 'mine'), ('u9', 'mine')`)
				}
				before := everything(t, db)
				_, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(1, row)})
				var fault *wire.ProtocolError
				if !errors.As(err, &fault) {
					t.Fatalf("got %v", err)
				}
				same(t, "nothing changed", everything(t, db), before)
			}
		})
	}
	t.Run("another version", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, usersDDL, "users")
		b := bundle(1, good)
		b.Rows[0].RowVersion = 2
		_, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{b})
		var fault *wire.ProtocolError
		if !errors.As(err, &fault) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestApplyRefusesGaps(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	attachAt(t, db, 4)
	before := everything(t, db)
	for _, bundles := range [][]wire.Bundle{
		{bundle(6, put("users", "u1", name("x")))},
		{bundle(5, put("users", "u1", name("x"))), bundle(7, put("users", "u1", name("y")))},
	} {
		out, err := db.ApplyBundles(t.Context(), classic(t), bundles)
		var fault *local.DatabaseError
		if !errors.As(err, &fault) {
			t.Fatalf("got %v", err)
		}
		same(t, "nothing is told", out, local.Applied{})
	}
	same(t, "nothing changed", everything(t, db), before)
	out := pulled(t, db, bundle(3, put("users", "u1", name("old"))), bundle(4, put("users", "u1", name("old"))), bundle(5, put("users", "u2", name("new"))))
	same(t, "what lies behind the checkpoint is passed over", rows(t, db, `SELECT id FROM users`), []string{"u2"})
	same(t, "bundles", out.Bundles, 1)
}

// A transaction that is taken back at its very end, after all was laid down, leaves nothing to tell.
func TestApplyTellsOnlyWhatWasCommitted(t *testing.T) {
	t.Parallel()
	b := sealed(t, bundle(1, put("users", "u1", name("x"))))
	for how, apply := range map[string]func(*DB) (local.Applied, error){
		"bundles": func(db *DB) (local.Applied, error) { return db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{b}) },
		"staged":  func(db *DB) (local.Applied, error) { return db.ApplyStaged(t.Context(), classic(t), b.BundleMeta) },
	} {
		t.Run(how, func(t *testing.T) {
			db := attachedDB(t, usersDDL, "users")
			stage(t, db, b)
			asServer(t, db, `CREATE TRIGGER last AFTER UPDATE ON _sync_apply_state WHEN NEW.apply_mode = 0 AND EXISTS (SELECT 1 FROM users)
BEGIN SELECT RAISE(ABORT, 'taken back'); END`)
			before := everything(t, db)
			out, err := apply(db)
			var fault *local.DatabaseError
			if !errors.As(err, &fault) {
				t.Fatalf("got %v", err)
			}
			same(t, "nothing is told", out, local.Applied{})
			same(t, "nothing changed", everything(t, db), before)
			asServer(t, db, `DROP TRIGGER last`)
			out, err = apply(db)
			same(t, "then", []any{out.Bundles, err}, []any{1, nil})
		})
	}
}

func TestApplyNeedsAnAttachedDatabase(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	_, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(1, put("users", "u1", name("x")))})
	var fault *local.DatabaseError
	if !errors.As(err, &fault) {
		t.Fatalf("got %v", err)
	}
}

// TestApplyIsOneTransaction interrupts an apply at many points: it happened whole or not at all.
func TestApplyIsOneTransaction(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, pairDDL, "pairs")
	var first, second []wire.Row
	for i := range 300 {
		first = append(first, put("pairs", fmt.Sprint("k", i), name(fmt.Sprint("n", i))))
		second = append(second, put("pairs", fmt.Sprint("k", i), name(fmt.Sprint("n", (i+1)%300)))) // takes both attempts
	}
	pulled(t, db, bundle(1, first...))
	before := everything(t, db)
	for polls := 1; ; polls += 7 {
		ctx := &endingContext{Context: t.Context(), left: polls}
		out, err := db.ApplyBundles(ctx, classic(t), []wire.Bundle{bundle(2, second...)})
		if err == nil {
			if polls == 1 {
				t.Fatal("nothing was interrupted")
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d polls: %v", polls, err)
		}
		same(t, fmt.Sprintf("after %d polls nothing changed", polls), everything(t, db), before)
		same(t, fmt.Sprintf("after %d polls nothing is told", polls), out, local.Applied{})
	}
	same(t, "then all is there", rows(t, db, `SELECT name FROM pairs WHERE id = 'k299'`), []string{"n0"})
	verify(t, db)
}

// endingContext ends after it has been asked for its error a number of times.
type endingContext struct {
	context.Context
	left int
}

func (c *endingContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func (c *endingContext) Done() <-chan struct{} { return make(chan struct{}) }

// A conflict clause in a trigger of the application's is its own affair: it counts, whatever statement of ours makes the
// trigger fire. A constraint with a conflict clause does not get to drop rows either way.
func TestApplyLeavesTheApplicationsTriggersTheirConflictClauses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ddl string }{
		{"ordinary", usersDDL},
		{"with a constraint that drops rows", strings.Replace(usersDDL, "PRIMARY KEY", "PRIMARY KEY ON CONFLICT REPLACE", 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			into := `INSERT OR REPLACE INTO search VALUES (1, `
			if c.ddl != usersDDL { // our own clause has to come first
				into = `INSERT INTO search VALUES (NULL, `
			}
			db := attachedDB(t, c.ddl+`; CREATE TABLE search (one INTEGER PRIMARY KEY, last TEXT); CREATE TABLE log (n TEXT);
CREATE TRIGGER added AFTER INSERT ON users BEGIN `+into+`NEW.id); INSERT INTO log VALUES ('+' || NEW.id); END;
CREATE TRIGGER changed AFTER UPDATE ON users BEGIN `+into+`NEW.name); INSERT INTO log VALUES ('=' || NEW.id); END;
CREATE TRIGGER gone AFTER DELETE ON users BEGIN `+into+`OLD.id); INSERT INTO log VALUES ('-' || OLD.id); END`, "users")
			pulled(t, db, bundle(1, put("users", "a", name("x")), put("users", "b", name("x"))))
			pulled(t, db, bundle(2, put("users", "a", name("y")), put("users", "c", name("x"))))
			pulled(t, db, bundle(3, removed("users", "b")))
			same(t, "log", rows(t, db, `SELECT n FROM log ORDER BY rowid`), []string{"+a", "+b", "=a", "+c", "-b"})
			same(t, "last", rows(t, db, `SELECT last FROM search ORDER BY one DESC LIMIT 1`), []string{"b"})
			same(t, "users", rows(t, db, `SELECT id, name FROM users ORDER BY id`), []string{"a|y", "c|x"})

			s := snap(t, db, 9, at(8, put("users", "a", name("z"))), at(8, put("users", "d", name("z"))))
			restored(t, db, s)
			same(t, "users of the snapshot", rows(t, db, `SELECT id, name FROM users ORDER BY id`), []string{"a|z", "d|z"})
			verify(t, db)
		})
	}
}

// Triggers that come and go while the database is open are seen.
func TestApplySeesNewTriggers(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	pulled(t, db, bundle(1, put("users", "a", name("x"))))
	exec(t, db, `CREATE TABLE search (one INTEGER PRIMARY KEY, last TEXT)`)
	exec(t, db, `CREATE TRIGGER changed AFTER UPDATE ON users BEGIN INSERT OR REPLACE INTO search VALUES (1, NEW.name); END`)
	pulled(t, db, bundle(2, put("users", "a", name("y"))))
	pulled(t, db, bundle(3, put("users", "a", name("z"))))
	same(t, "last", rows(t, db, `SELECT last FROM search`), []string{"z"})
}

func TestApplyFiresTheApplicationsTriggers(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL+`; CREATE TABLE log (n TEXT); CREATE TRIGGER mine AFTER INSERT ON users BEGIN INSERT INTO log VALUES (NEW.id); END`, "users")
	var many []wire.Row
	for i := range manyRows + 1 {
		many = append(many, put("users", fmt.Sprint("u", i), name("x")))
	}
	pulled(t, db, bundle(1, many...))
	same(t, "log", number(t, db, `SELECT count(*) FROM log`), int64(len(many)))
	exec(t, db, `DROP TRIGGER mine`)
	for i := range many {
		many[i] = put("users", fmt.Sprint("v", i), name("x"))
	}
	pulled(t, db, bundle(2, many...))
	same(t, "dirty", dirty(t, db), []string{})
	exec(t, db, `UPDATE users SET name = 'mine' WHERE id = 'v1'`)
	same(t, "captured again", len(dirty(t, db)), 1)
}
