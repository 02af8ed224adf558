package sqlite

import (
	"errors"
	"fmt"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// replayWay is a way in which a bundle can settle the outbox.
type replayWay struct {
	name string
	run  func(t *testing.T, db *DB, b wire.Bundle, proof bool) local.Replayed
}

func replayed(t *testing.T, db *DB, b wire.Bundle, proof bool) local.Replayed {
	t.Helper()
	out, err := db.Replay(t.Context(), classic(t), b, proof)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stage puts a bundle into the bundle stage, in pages of two rows.
func stage(t testing.TB, db *DB, b wire.Bundle) {
	t.Helper()
	for i := 0; i < len(b.Rows); i += 2 {
		if err := db.StageBundlePage(t.Context(), b.BundleMeta, int64(i)-1, b.Rows[i:min(i+2, len(b.Rows))]); err != nil {
			t.Fatal(err)
		}
	}
}

// ways are the ways in which a bundle can settle the outbox.
var ways = []replayWay{
	{"replay", func(t *testing.T, db *DB, b wire.Bundle, proof bool) local.Replayed { return replayed(t, db, b, proof) }},
	{"staged", func(t *testing.T, db *DB, b wire.Bundle, proof bool) local.Replayed {
		stage(t, db, b)
		out, err := db.ReplayStaged(t.Context(), classic(t), b.BundleMeta, proof)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "stage", number(t, db, `SELECT count(*) FROM _sync_bundle_stage`), int64(0))
		return out
	}},
	{"pulled", func(t *testing.T, db *DB, b wire.Bundle, proof bool) local.Replayed {
		if !proof {
			markCommitted(t, db, b)
		}
		attachAt(t, db, b.Seq-1)
		out := pulled(t, db, b)
		return local.Replayed{Rows: out.Rows, Checkpoint: out.Checkpoint, Tables: out.Tables, Foreign: out.Foreign, RebuildRequired: out.RebuildRequired}
	}},
}

func TestReplaySettlesTheOutbox(t *testing.T) {
	t.Parallel()
	const u1, u2 = `{"id":"u1","name":"old"}`, `{"id":"u2","name":"old"}`
	type step func(t *testing.T, db *DB)
	sql := func(statements ...string) step { return func(t *testing.T, db *DB) { inTx(t, db, statements...) } }
	pull := func(rows ...wire.Row) step {
		return func(t *testing.T, db *DB) { pulled(t, db, bundle(11, rows...)) }
	}
	for _, c := range []struct {
		name    string
		change  string // what is pushed: rows u1 and u2 are known at version 5
		between step
		rows    []wire.Row // of the bundle, at version 12
		proof   bool
		users   []string
		states  []string
		intents []string
		foreign bool
		gate    bool
	}{
		{name: "an update", change: `UPDATE users SET name = 'mine' WHERE id = 'u1'`, rows: []wire.Row{put("users", "u1", name("mine"))},
			users: []string{"u1|mine", "u2|old"}, states: []string{"users u1 12", "users u2 5"}},
		{name: "an insert", change: `INSERT INTO users VALUES ('u3', 'mine')`, rows: []wire.Row{put("users", "u3", name("mine"))},
			users: []string{"u1|old", "u2|old", "u3|mine"}, states: []string{"users u1 5", "users u2 5", "users u3 12"}},
		{name: "a deletion", change: `DELETE FROM users WHERE id = 'u1'`, rows: []wire.Row{removed("users", "u1")},
			users: []string{"u2|old"}, states: []string{"users u1 12 deleted", "users u2 5"}},
		{name: "K1_the committed image is spelled otherwise", change: `UPDATE users SET name = '2026-11-22T17:20:01.123456789Z' WHERE id = 'u1'`,
			rows:  []wire.Row{put("users", "u1", name("2026-11-22T17:20:01.123457Z"))},
			users: []string{"u1|2026-11-22T17:20:01.123457Z", "u2|old"}, states: []string{"users u1 12", "users u2 5"}},
		{name: "a server trigger changed it", change: `UPDATE users SET name = 'mine' WHERE id = 'u1'`, rows: []wire.Row{put("users", "u1", name("MINE"))},
			users: []string{"u1|MINE", "u2|old"}, states: []string{"users u1 12", "users u2 5"}},
		{name: "edited again since the freeze", change: `UPDATE users SET name = 'mine' WHERE id = 'u1'`, between: sql(`UPDATE users SET name = 'newer' WHERE id = 'u1'`),
			rows:  []wire.Row{put("users", "u1", name("MINE"))},
			users: []string{"u1|newer", "u2|old"}, states: []string{"users u1 12", "users u2 5"},
			intents: []string{`users u1 UPDATE on 12 {"id":"u1","name":"newer"} state 12 base {"id":"u1","name":"MINE"}`}},
		{name: "deleted since the freeze", change: `INSERT INTO users VALUES ('u3', 'mine')`, between: sql(`DELETE FROM users WHERE id = 'u3'`),
			rows:  []wire.Row{put("users", "u3", name("mine"))},
			users: []string{"u1|old", "u2|old"}, states: []string{"users u1 5", "users u2 5", "users u3 12"},
			intents: []string{`users u3 DELETE on 12 state 12 base {"id":"u3","name":"mine"}`}},
		{name: "inserted again since the freeze", change: `DELETE FROM users WHERE id = 'u1'`, between: sql(`INSERT INTO users VALUES ('u1', 'again')`),
			rows:  []wire.Row{removed("users", "u1")},
			users: []string{"u1|again", "u2|old"}, states: []string{"users u1 12 deleted", "users u2 5"},
			intents: []string{`users u1 INSERT on 12 {"id":"u1","name":"again"} state 12 deleted`}},
		{name: "a cascaded row without an intent", change: `DELETE FROM users WHERE id = 'u1'`, rows: []wire.Row{removed("users", "u2"), removed("users", "u1")},
			users: []string{}, states: []string{"users u1 12 deleted", "users u2 12 deleted"}},
		{name: "a cascaded row that was edited since", change: `DELETE FROM users WHERE id = 'u1'`, between: sql(`UPDATE users SET name = 'newer' WHERE id = 'u2'`),
			rows:  []wire.Row{removed("users", "u2"), removed("users", "u1")},
			users: []string{"u2|newer"}, states: []string{"users u1 12 deleted", "users u2 5"},
			intents: []string{`users u2 UPDATE on 5 {"id":"u2","name":"newer"} state 5 base ` + u2 + ` shadow 12 deleted`}},
		{name: "an older shadow goes", change: `UPDATE users SET name = 'mine' WHERE id = 'u1'`, between: pull(put("users", "u1", name("theirs"))),
			rows:  []wire.Row{put("users", "u1", name("mine"))},
			users: []string{"u1|mine", "u2|old"}, states: []string{"users u1 12", "users u2 5"}},
		{name: "an insert without effect", change: `INSERT INTO users VALUES ('u3', 'mine'), ('u4', 'mine')`, rows: []wire.Row{put("users", "u4", name("mine"))},
			users: []string{"u1|old", "u2|old", "u4|mine"}, states: []string{"users u1 5", "users u2 5", "users u4 12"}},
		{name: "an insert without effect, edited since", change: `INSERT INTO users VALUES ('u3', 'mine'), ('u4', 'mine')`, between: sql(`UPDATE users SET name = 'newer' WHERE id = 'u3'`),
			rows:  []wire.Row{put("users", "u4", name("mine"))},
			users: []string{"u1|old", "u2|old", "u3|newer", "u4|mine"}, states: []string{"users u1 5", "users u2 5", "users u4 12"},
			intents: []string{`users u3 INSERT on 0 {"id":"u3","name":"newer"}`}},
		{name: "an update without effect", change: `UPDATE users SET name = 'mine'`, rows: []wire.Row{put("users", "u1", name("mine"))},
			users: []string{"u1|mine", "u2|mine"}, states: []string{"users u1 12", "users u2 5"}, gate: true},

		{name: "proof by equal images", proof: true, change: `UPDATE users SET name = 'mine'`, rows: []wire.Row{put("users", "u1", name("mine")), put("users", "u2", name("mine"))},
			users: []string{"u1|mine", "u2|mine"}, states: []string{"users u1 12", "users u2 12"}},
		{name: "proof with another image", proof: true, change: `UPDATE users SET name = 'mine'`, rows: []wire.Row{put("users", "u1", name("theirs")), put("users", "u2", name("mine"))},
			users: []string{"u1|mine", "u2|mine"}, states: []string{"users u1 12", "users u2 12"},
			intents: []string{`users u1 UPDATE on 12 {"id":"u1","name":"mine"} state 12 base {"id":"u1","name":"theirs"}`}},
		{name: "proof with a deletion for an update", proof: true, change: `UPDATE users SET name = 'mine'`, rows: []wire.Row{removed("users", "u1"), put("users", "u2", name("mine"))},
			users: []string{"u1|mine", "u2|mine"}, states: []string{"users u1 12 deleted", "users u2 12"},
			intents: []string{`users u1 INSERT on 12 {"id":"u1","name":"mine"} state 12 deleted`}},
		{name: "proof with a row for a deletion", proof: true, change: `DELETE FROM users WHERE id = 'u1'`, rows: []wire.Row{put("users", "u1", name("theirs"))},
			users: []string{"u2|old"}, states: []string{"users u1 12", "users u2 5"},
			intents: []string{`users u1 DELETE on 12 state 12 base {"id":"u1","name":"theirs"}`}},
		{name: "proof without an insert", proof: true, change: `INSERT INTO users VALUES ('u3', 'mine'), ('u4', 'mine')`, rows: []wire.Row{put("users", "u4", name("mine"))},
			users: []string{"u1|old", "u2|old", "u3|mine", "u4|mine"}, states: []string{"users u1 5", "users u2 5", "users u4 12"},
			intents: []string{`users u3 INSERT on 0 {"id":"u3","name":"mine"}`}},
		{name: "proof without an update", proof: true, foreign: true, change: `UPDATE users SET name = 'mine'`, rows: []wire.Row{put("users", "u1", name("mine"))},
			users: []string{"u1|mine", "u2|mine"}, states: []string{"users u1 5", "users u2 5"},
			intents: []string{`users u1 UPDATE on 5 {"id":"u1","name":"mine"} state 5 base ` + u1, `users u2 UPDATE on 5 {"id":"u2","name":"mine"} state 5 base ` + u2}},
		{name: "proof without any key", proof: true, foreign: true, change: `INSERT INTO users VALUES ('u3', 'mine')`, rows: []wire.Row{put("users", "u9", name("theirs"))},
			users: []string{"u1|old", "u2|old", "u3|mine"}, states: []string{"users u1 5", "users u2 5"},
			intents: []string{`users u3 INSERT on 0 {"id":"u3","name":"mine"}`}},
	} {
		if c.intents == nil {
			c.intents = []string{}
		}
		for _, way := range ways {
			t.Run(c.name+", "+way.name, func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, usersDDL, "users")
				attachAt(t, db, 10)
				serverRow(t, db, "users", `'u1', 'old'`, 5)
				serverRow(t, db, "users", `'u2', 'old'`, 5)
				exec(t, db, c.change)
				box := outboxOf(t, db)
				if c.between != nil {
					c.between(t, db)
				}
				before := checkpoint(t, db)
				b := committed(t, box, 12, c.rows...)
				out := way.run(t, db, b, c.proof)
				verify(t, db)
				same(t, "foreign, gate", []bool{out.Foreign, out.RebuildRequired}, []bool{c.foreign, c.gate})
				if c.foreign && way.name == "pulled" {
					// Somebody else's bundle then, and applied as such.
					same(t, "operation", rows(t, db, `SELECT kind, reason FROM _sync_operation_state`), []string{"source_recovery|source_sequence_changed"})
					same(t, "checkpoint", checkpoint(t, db), int64(12))
					return
				}
				same(t, "users", rows(t, db, `SELECT id, name FROM users ORDER BY id`), c.users)
				same(t, "states", states(t, db), c.states)
				same(t, "intents", intents(t, db), c.intents)
				same(t, "outbox", rows(t, db, `SELECT state, (SELECT count(*) FROM _sync_outbox_rows) FROM _sync_outbox_bundle`), []string{"none|0"})
				if c.foreign {
					same(t, "operation", rows(t, db, `SELECT kind, reason FROM _sync_operation_state`), []string{"source_recovery|source_sequence_changed"})
					same(t, "checkpoint", checkpoint(t, db), before)
					return
				}
				same(t, "next push", number(t, db, `SELECT next_source_bundle_id FROM _sync_source_state`), box.SourceBundleID+1)
				if before == 11 || way.name == "pulled" {
					before = 12
				}
				same(t, "checkpoint moves only to the next bundle", []int64{checkpoint(t, db), out.Checkpoint}, []int64{before, before})
				if c.gate != (number(t, db, `SELECT rebuild_required FROM _sync_attachment_state`) == 1) {
					t.Error("the gate is not what was said")
				}
			})
		}
	}
}

func TestReplayLaysDownANewerShadow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		newer  []wire.Row
		users  []string
		states []string
	}{
		{"a row", []wire.Row{put("users", "u1", name("theirs"))}, []string{"theirs"}, []string{"users u1 13"}},
		{"a deletion", []wire.Row{removed("users", "u1")}, []string{}, []string{"users u1 13 deleted"}},
	} {
		for _, quick := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, quick), func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, usersDDL, "users")
				attachAt(t, db, 10)
				serverRow(t, db, "users", `'u1', 'old'`, 5)
				exec(t, db, `UPDATE users SET name = 'mine' WHERE id = 'u1'`)
				box := outboxOf(t, db)
				own := committed(t, box, 11, put("users", "u1", name("mine")))
				// Both bundles were committed, the later one is known first: as after a restored database.
				attachAt(t, db, 12)
				pulled(t, db, bundle(13, c.newer...))
				if quick {
					proved, _, err := db.ReplayFrozen(t.Context(), classic(t), own.BundleMeta)
					if err != nil || !proved {
						t.Fatal(proved, err)
					}
				} else {
					replayed(t, db, own, false)
				}
				verify(t, db)
				same(t, "users", rows(t, db, `SELECT name FROM users`), c.users)
				same(t, "states", states(t, db), c.states)
				same(t, "intents", intents(t, db), []string{})
				same(t, "checkpoint", checkpoint(t, db), int64(13))
			})
		}
	}
}

func TestReplayFrozen(t *testing.T) {
	t.Parallel()
	set := func(t *testing.T) (*DB, wire.Bundle) {
		db := attachedDB(t, usersDDL, "users")
		attachAt(t, db, 10)
		for _, u := range []string{"u1", "u2", "u3"} {
			serverRow(t, db, "users", `'`+u+`', 'old'`, 5)
		}
		inTx(t, db, `UPDATE users SET name = 'mine' WHERE id <= 'u2'`, `DELETE FROM users WHERE id = 'u3'`, `INSERT INTO users VALUES ('u4', 'mine'), ('u5', 'mine')`)
		box := outboxOf(t, db)
		inTx(t, db, `UPDATE users SET name = 'newer' WHERE id = 'u2'`, `INSERT INTO users VALUES ('u3', 'again')`, `DELETE FROM users WHERE id = 'u4'`)
		b := echo(t, db, box, 11)
		markCommitted(t, db, b)
		return db, b
	}
	t.Run("settles as a replay does", func(t *testing.T) {
		t.Parallel()
		quick, b := set(t)
		proved, out, err := quick.ReplayFrozen(t.Context(), classic(t), b.BundleMeta)
		if err != nil || !proved {
			t.Fatal(proved, err)
		}
		verify(t, quick)
		same(t, "outcome", out, local.Replayed{Rows: 5, Checkpoint: 11, Tables: local.TableSet{"users"}})
		slow, b := set(t)
		replayed(t, slow, b, false)
		for _, what := range []func(testing.TB, *DB) []string{states, intents, shadows, func(t testing.TB, db *DB) []string {
			return rows(t, db, `SELECT * FROM users ORDER BY id`)
		}} {
			same(t, "as a replay", what(t, quick), what(t, slow))
		}
		same(t, "intents", intents(t, quick), []string{
			`users u2 UPDATE on 11 {"id":"u2","name":"newer"} state 11 base {"id":"u2","name":"mine"}`,
			`users u3 INSERT on 11 {"id":"u3","name":"again"} state 11 deleted`,
			`users u4 DELETE on 11 state 11 base {"id":"u4","name":"mine"}`})
	})
	t.Run("proves nothing with another hash or count", func(t *testing.T) {
		t.Parallel()
		db, b := set(t)
		before := everything(t, db)
		for _, change := range []func(m *wire.BundleMeta){
			func(m *wire.BundleMeta) { m.Hash = "00" },
			func(m *wire.BundleMeta) { m.Hash = "" },
			func(m *wire.BundleMeta) { m.RowCount++ },
		} {
			m := b.BundleMeta
			change(&m)
			proved, _, err := db.ReplayFrozen(t.Context(), classic(t), m)
			if err != nil || proved {
				t.Fatal(proved, err)
			}
		}
		same(t, "nothing changed", everything(t, db), before)
	})
	t.Run("proves nothing where a number may come back otherwise", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, `CREATE TABLE reals (id TEXT PRIMARY KEY NOT NULL, at TEXT, r REAL)`, "reals")
		exec(t, db, `INSERT INTO reals VALUES ('r1', 'x', 0.1)`)
		b := echo(t, db, outboxOf(t, db), 1)
		proved, _, err := db.ReplayFrozen(t.Context(), classic(t), b.BundleMeta)
		if err != nil {
			t.Fatal(err)
		}
		if !proved { // then the ordinary way must do it
			replayed(t, db, b, false)
		}
		same(t, "states", states(t, db), []string{"reals r1 1"})
	})
	t.Run("refuses a bundle that is not the push in flight", func(t *testing.T) {
		t.Parallel()
		db, b := set(t)
		before := everything(t, db)
		for _, m := range []wire.BundleMeta{
			{Seq: 11, SourceID: "other", SourceBundleID: b.SourceBundleID, RowCount: 5, Hash: b.Hash},
			{Seq: 11, SourceID: b.SourceID, SourceBundleID: b.SourceBundleID + 1, RowCount: 5, Hash: b.Hash},
			{Seq: 14, SourceID: b.SourceID, SourceBundleID: b.SourceBundleID, RowCount: 5, Hash: b.Hash},
		} {
			var fault *wire.ProtocolError
			if _, _, err := db.ReplayFrozen(t.Context(), classic(t), m); !errors.As(err, &fault) {
				t.Errorf("got %v", err)
			}
			if _, err := db.Replay(t.Context(), classic(t), wire.Bundle{BundleMeta: m}, false); !errors.As(err, &fault) {
				t.Errorf("got %v", err)
			}
		}
		same(t, "nothing changed", everything(t, db), before)
	})
	t.Run("refuses when nothing is in flight", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, usersDDL, "users")
		var fault *local.DatabaseError
		if _, _, err := db.ReplayFrozen(t.Context(), classic(t), wire.BundleMeta{Seq: 1}); !errors.As(err, &fault) {
			t.Errorf("got %v", err)
		}
	})
}

func TestReplayUsesUpTheLease(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	asServer(t, db, `UPDATE _sync_attachment_state SET pending_initialization_id = 'lease'`)
	exec(t, db, `INSERT INTO users VALUES ('u1', 'mine')`)
	replayed(t, db, echo(t, db, outboxOf(t, db), 1), false)
	same(t, "lease", rows(t, db, `SELECT pending_initialization_id, last_bundle_seq_seen FROM _sync_attachment_state`), []string{"|1"})
}

// TestReplayAroundIntents: the committed image of our own push cannot be laid down around a newer local edit. The push
// is settled all the same, nothing local is lost, and a rebuild is asked for.
func TestReplayAroundIntents(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, pairDDL, "pairs")
			attachAt(t, db, 10)
			serverRow(t, db, "pairs", `'free', 'f'`, 5)
			exec(t, db, `INSERT INTO pairs VALUES ('a', 'x'), ('b', 'y')`)
			box := outboxOf(t, db)
			exec(t, db, `INSERT INTO pairs VALUES ('mine', 'taken')`)
			b := committed(t, box, 12, put("pairs", "a", name("taken")), put("pairs", "b", name("y")), put("pairs", "free", name("g")))
			out := way.run(t, db, b, false)
			verify(t, db)
			same(t, "gate", out.RebuildRequired, true)
			same(t, "rows", rows(t, db, `SELECT id, name FROM pairs ORDER BY id`), []string{"a|x", "b|y", "free|f", "mine|taken"})
			same(t, "intents", intents(t, db), []string{
				`pairs mine INSERT on 0 {"id":"mine","name":"taken"}`,
				`pairs a UPDATE on 12 {"id":"a","name":"x"} state 12 base {"id":"a","name":"taken"}`})
			same(t, "states", states(t, db), []string{"pairs a 12", "pairs b 12", "pairs free 5"})
			if checkpoint(t, db) == 12 {
				t.Error("the checkpoint passed a bundle that was not applied")
			}
		})
	}
}

// TestReplayKeepsWhatLocalRowsLeanOn: an INSERT had no effect on the server, but a newer local row refers to it here.
func TestReplayKeepsWhatLocalRowsLeanOn(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, familyDDL, "parents", "children")
	exec(t, db, `INSERT INTO parents (id, name) VALUES ('p1', 'mine'), ('p2', 'mine')`)
	box := outboxOf(t, db)
	exec(t, db, `INSERT INTO children (id, parent) VALUES ('c1', 'p1')`)
	out := replayed(t, db, committed(t, box, 1, parent("p2", "name=mine")), false)
	verify(t, db)
	same(t, "gate", out.RebuildRequired, true)
	same(t, "parents", rows(t, db, `SELECT id FROM parents ORDER BY id`), []string{"p1", "p2"})
	same(t, "states", states(t, db), []string{"parents p2 1"})
	same(t, "intents", rows(t, db, `SELECT key_json, op, base_row_version FROM _sync_dirty_rows ORDER BY dirty_ordinal`), []string{`{"id":"c1"}|INSERT|0`, `{"id":"p1"}|INSERT|0`})
}
