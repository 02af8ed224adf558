package sqlite

import (
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// settlings are the ways in which the bundle that echoes the outbox settles it when it is named for a prepared outbox.
var settlings = map[string]func(t *testing.T, db *DB, b wire.Bundle){
	"replay": func(t *testing.T, db *DB, b wire.Bundle) { replayed(t, db, b, true) },
	"staged": func(t *testing.T, db *DB, b wire.Bundle) {
		stage(t, db, b)
		if _, err := db.ReplayStaged(t.Context(), classic(t), b.BundleMeta, true); err != nil {
			t.Fatal(err)
		}
	},
	"frozen": func(t *testing.T, db *DB, b wire.Bundle) {
		if proved, _, err := db.ReplayFrozen(t.Context(), classic(t), b.BundleMeta); err != nil || !proved {
			t.Fatal(proved, err)
		}
	},
}

// TestReplayAfterARebuild settles a push of which a rebuild has already brought news: its commit went unanswered, and
// the snapshot was taken after it. The shadows that left are older than the commit, the commit itself, or newer.
func TestReplayAfterARebuild(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		seq      int64      // of the snapshot; the push was committed at 12
		snapshot []wire.Row // what it says of u1
		edited   bool
		users    []string
		states   []string
		intents  []string
	}{
		{name: "as it was before the commit", seq: 11, snapshot: []wire.Row{at(11, put("users", "u1", name("theirs")))},
			users: []string{"mine"}, states: []string{"users u1 12"}},
		{name: "as it was before the commit, edited since", seq: 11, snapshot: []wire.Row{at(11, put("users", "u1", name("theirs")))}, edited: true,
			users: []string{"newer"}, states: []string{"users u1 12"},
			intents: []string{`users u1 UPDATE on 12 {"id":"u1","name":"newer"} state 12 base {"id":"u1","name":"mine"}`}},
		{name: "as it was committed", seq: 12, snapshot: []wire.Row{at(12, put("users", "u1", name("mine")))},
			users: []string{"mine"}, states: []string{"users u1 12"}},
		{name: "as it was committed, edited since", seq: 12, snapshot: []wire.Row{at(12, put("users", "u1", name("mine")))}, edited: true,
			users: []string{"newer"}, states: []string{"users u1 12"},
			intents: []string{`users u1 UPDATE on 12 {"id":"u1","name":"newer"} state 12 base {"id":"u1","name":"mine"}`}},
		{name: "changed after the commit", seq: 15, snapshot: []wire.Row{at(14, put("users", "u1", name("theirs")))},
			users: []string{"theirs"}, states: []string{"users u1 14"}},
		{name: "changed after the commit, edited since", seq: 15, snapshot: []wire.Row{at(14, put("users", "u1", name("theirs")))}, edited: true,
			users: []string{"newer"}, states: []string{"users u1 12"},
			intents: []string{`users u1 UPDATE on 12 {"id":"u1","name":"newer"} state 12 base {"id":"u1","name":"mine"} shadow 14`}},
		{name: "gone after the commit", seq: 15, users: []string{}, states: []string{}},
		{name: "gone after the commit, edited since", seq: 15, edited: true,
			users: []string{"newer"}, states: []string{"users u1 12"},
			intents: []string{`users u1 UPDATE on 12 {"id":"u1","name":"newer"} state 12 base {"id":"u1","name":"mine"} shadow 15 deleted`}},
	} {
		if c.intents == nil {
			c.intents = []string{}
		}
		for how, settle := range settlings {
			t.Run(c.name+", "+how, func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, usersDDL, "users")
				attachAt(t, db, 10)
				serverRow(t, db, "users", `'u1', 'old'`, 5)
				exec(t, db, `UPDATE users SET name = 'mine' WHERE id = 'u1'`)
				b := echo(t, db, outboxOf(t, db), 12)
				restored(t, db, snap(t, db, c.seq, c.snapshot...))
				if c.edited {
					exec(t, db, `UPDATE users SET name = 'newer' WHERE id = 'u1'`)
				}
				settle(t, db, b)
				same(t, "intents", intents(t, db), c.intents)
				same(t, "users", rows(t, db, `SELECT name FROM users`), c.users)
				same(t, "states", states(t, db), c.states)
				same(t, "checkpoint", checkpoint(t, db), max(c.seq, 12))
			})
		}
	}
}

// TestNewCommitWithAnOldNumber settles a push that a server which was put back took for the first time, under a number that
// the checkpoint has passed: what is known of later bundles is no more.
func TestNewCommitWithAnOldNumber(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		seq     int64 // of the commit; the checkpoint is 24
		isNew   bool
		edited  bool
		gate    bool
		users   []string
		intents []string
	}{
		{name: "a new one", seq: 8, isNew: true, gate: true, users: []string{"u1|mine", "u2|mine"}},
		{name: "at the checkpoint", seq: 24, isNew: true, gate: true, users: []string{"u1|mine", "u2|mine"}},
		{name: "after the checkpoint", seq: 25, isNew: true, users: []string{"u1|mine", "u2|mine"}},
		{name: "edited since", seq: 8, isNew: true, edited: true, gate: true, users: []string{"u1|mine", "u2|newer"},
			intents: []string{`users u2 UPDATE on 8 {"id":"u2","name":"newer"} state 8 base {"id":"u2","name":"mine"}`}},
		{name: "an old one, of which only the answer is new", seq: 8, users: []string{}},
	} {
		ways := []string{"frozen", "fetched"}
		if c.gate {
			ways = append(ways, "snapshot")
		}
		if c.intents == nil {
			c.intents = []string{}
		}
		for _, how := range ways {
			t.Run(c.name+", "+how, func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, usersDDL, "users")
				attachAt(t, db, 10)
				exec(t, db, `INSERT INTO users VALUES ('u1', 'mine'), ('u2', 'mine')`)
				b := echo(t, db, outboxOf(t, db), c.seq)
				restored(t, db, snap(t, db, 24)) // without them: deleted, for all that is known
				if c.edited {
					exec(t, db, `UPDATE users SET name = 'newer' WHERE id = 'u2'`)
				}
				behind, err := db.MarkCommitted(t.Context(), b.BundleMeta, c.isNew)
				must(t, err)
				st := state(t, db)
				same(t, "gate", []any{behind, st.Attachment.RebuildRequired, st.Operation.Reason == local.ReasonCheckpointAhead}, []any{c.gate, c.gate, c.gate})
				switch how {
				case "frozen":
					settlings["frozen"](t, db, b)
				case "fetched":
					replayed(t, db, b, false)
				case "snapshot":
					restored(t, db, snap(t, db, c.seq, b.Rows...))
				}
				same(t, "users", rows(t, db, `SELECT id, name FROM users ORDER BY id`), c.users)
				same(t, "intents", intents(t, db), c.intents)
				verify(t, db)
			})
		}
	}
}

// TestReplayOfAnInsertWithoutEffect: the bundle lacks an INSERT because the server has a row of another device there.
func TestReplayOfAnInsertWithoutEffect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		edited  bool
		proof   bool
		users   []string
		states  []string
		intents []string
	}{
		{name: "their row takes its place", users: []string{"u3|theirs", "u4|mine"}, states: []string{"users u3 11", "users u4 12"}},
		{name: "an edit made since stays, and their row is not forgotten", edited: true, users: []string{"u3|newer", "u4|mine"}, states: []string{"users u4 12"},
			intents: []string{`users u3 INSERT on 0 {"id":"u3","name":"newer"} shadow 11`}},
		{name: "of which there is no answer: it is pushed again", proof: true, users: []string{"u3|mine", "u4|mine"}, states: []string{"users u4 12"},
			intents: []string{`users u3 INSERT on 0 {"id":"u3","name":"mine"} shadow 11`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, usersDDL, "users")
			attachAt(t, db, 10)
			exec(t, db, `INSERT INTO users VALUES ('u3', 'mine'), ('u4', 'mine')`)
			box := outboxOf(t, db)
			pulled(t, db, bundle(11, put("users", "u3", name("theirs"))))
			if c.edited {
				exec(t, db, `UPDATE users SET name = 'newer' WHERE id = 'u3'`)
			}
			out := replayed(t, db, committed(t, box, 12, put("users", "u4", name("mine"))), c.proof)
			same(t, "gate, checkpoint", []any{out.RebuildRequired, out.Checkpoint}, []any{false, int64(12)})
			if c.intents == nil {
				c.intents = []string{}
			}
			same(t, "intents", intents(t, db), c.intents)
			same(t, "users", rows(t, db, `SELECT id, name FROM users ORDER BY id`), c.users)
			same(t, "states", states(t, db), c.states)
		})
	}
	t.Run("their row collides with another: mine stays, behind the gate", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, pairDDL, "pairs")
		attachAt(t, db, 10)
		exec(t, db, `INSERT INTO pairs VALUES ('a', 'mine'), ('b', 'mine too')`)
		box := outboxOf(t, db)
		pulled(t, db, bundle(11, put("pairs", "a", name("taken"))))
		exec(t, db, `INSERT INTO pairs VALUES ('c', 'taken')`)
		out := replayed(t, db, committed(t, box, 12, put("pairs", "b", name("mine too"))), false)
		same(t, "gate", out.RebuildRequired, true)
		same(t, "rows", rows(t, db, `SELECT id, name FROM pairs ORDER BY id`), []string{"a|mine", "b|mine too", "c|taken"})
		same(t, "intents", intents(t, db), []string{`pairs c INSERT on 0 {"id":"c","name":"taken"}`, `pairs a INSERT on 0 {"id":"a","name":"mine"} shadow 11`})
	})
	t.Run("without a row of theirs, of a BLOB key", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, `CREATE TABLE blobs (id BLOB PRIMARY KEY NOT NULL, name TEXT)`, "blobs")
		exec(t, db, `INSERT INTO blobs VALUES (x'00000000000040008000000000000001', 'x'), (x'00000000000040008000000000000002', 'y')`)
		replayed(t, db, committed(t, outboxOf(t, db), 1, put("blobs", "00000000-0000-4000-8000-000000000002", name("y"))), false)
		same(t, "rows", rows(t, db, `SELECT name FROM blobs`), []string{"y"})
		same(t, "intents", intents(t, db), []string{})
	})
}

func TestReplayOfADeletionWithoutEffectAsksForARebuild(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	attachAt(t, db, 10)
	serverRow(t, db, "users", `'u1', 'old'`, 5)
	inTx(t, db, `DELETE FROM users`, `INSERT INTO users VALUES ('u2', 'mine')`)
	out := replayed(t, db, committed(t, outboxOf(t, db), 11, put("users", "u2", name("mine"))), false)
	same(t, "gate", []any{out.RebuildRequired, number(t, db, `SELECT rebuild_required FROM _sync_attachment_state`)}, []any{true, int64(1)})
	restored(t, db, snap(t, db, 11, at(5, put("users", "u1", name("old"))), at(11, put("users", "u2", name("mine")))))
	same(t, "the row is back", rows(t, db, `SELECT id FROM users ORDER BY id`), []string{"u1", "u2"})
	verify(t, db)
}

// TestPullSettlesTheOutboxOnItsWay: the own push comes back between bundles of other devices.
func TestPullSettlesTheOutboxOnItsWay(t *testing.T) {
	t.Parallel()
	for _, proof := range []bool{false, true} {
		db := attachedDB(t, usersDDL, "users")
		attachAt(t, db, 10)
		serverRow(t, db, "users", `'u1', 'old'`, 5)
		exec(t, db, `UPDATE users SET name = 'mine' WHERE id = 'u1'`)
		own := echo(t, db, outboxOf(t, db), 12)
		if !proof {
			markCommitted(t, db, own)
		}
		out := pulled(t, db, bundle(11, put("users", "u2", name("before"))), own, bundle(13, put("users", "u1", name("after"))), bundle(14, removed("users", "u2")))
		same(t, "outcome", out, local.Applied{Bundles: 4, Rows: out.Rows, Checkpoint: 14, Tables: local.TableSet{"users"}, Replayed: true})
		same(t, "users", rows(t, db, `SELECT id, name FROM users`), []string{"u1|after"})
		same(t, "states", states(t, db), []string{"users u1 13", "users u2 14 deleted"})
		same(t, "intents", intents(t, db), []string{})
		same(t, "outbox", rows(t, db, `SELECT state FROM _sync_outbox_bundle`), []string{"none"})
	}
}
