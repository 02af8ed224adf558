package sqlite

import (
	"errors"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

var blocked = local.Reason{Code: "push_session_commit_failed", Message: "no", Origin: local.OriginServer}

// Changes that the server's rows exclude make room for them in the transaction that applies those, wherever the rows come
// from; what cannot stay without them goes as well.
func TestDisplacedChangesMakeRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setup  []string // of the server, values of nodes at version 1
		edit   []string
		bundle []wire.Row
		want   []string // displaced
		nodes  []string
		leaves []string
	}{
		"a new child of a parent that is gone": {
			[]string{`'p', NULL, NULL`}, []string{`INSERT INTO leaves VALUES ('l', 'p', NULL)`}, []wire.Row{removed("nodes", "p")},
			[]string{`leaves {"id":"l"}`}, []string{}, []string{},
		},
		"a new parent, and its new children": {
			[]string{`'g', NULL, NULL`}, []string{`INSERT INTO nodes VALUES ('p', 'g', 'c')`, `INSERT INTO leaves VALUES ('l', 'p', 'c'), ('m', 'p', NULL)`}, []wire.Row{removed("nodes", "g")},
			[]string{`nodes {"id":"p"}`, `leaves {"id":"l"}`, `leaves {"id":"m"}`}, []string{}, []string{},
		},
		"a unique value": {
			nil, []string{`INSERT INTO nodes VALUES ('mine', NULL, 'c')`}, []wire.Row{put("nodes", "theirs", `"parent":null,"code":"c"`)},
			[]string{`nodes {"id":"mine"}`}, []string{"theirs|∅|c"}, []string{},
		},
		"a changed row's unique value": {
			[]string{`'x', NULL, 'old'`}, []string{`UPDATE nodes SET code = 'c'`}, []wire.Row{put("nodes", "theirs", `"parent":null,"code":"c"`)},
			[]string{`nodes {"id":"x"}`}, []string{"theirs|∅|c", "x|∅|old"}, []string{},
		},
		"deletions of what the server's row needs": {
			[]string{`'g', NULL, NULL`, `'p', 'g', NULL`}, []string{`DELETE FROM nodes WHERE id = 'p'`, `DELETE FROM nodes WHERE id = 'g'`},
			[]wire.Row{put("leaves", "l", `"node":"p","code":null`)},
			[]string{`nodes {"id":"g"}`, `nodes {"id":"p"}`}, []string{"g|∅|∅", "p|g|∅"}, []string{"l|p|∅"},
		},
	} {
		for _, way := range []string{"pull", "stage", "rebuild", "quarantined"} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, treeDDL, "nodes", "leaves")
				attachAt(t, db, 1)
				for _, values := range c.setup {
					serverRow(t, db, "nodes", values, 1)
				}
				for _, sql := range c.edit {
					exec(t, db, sql)
				}
				if way == "quarantined" {
					isolate(t, db, 0)
				}
				b := bundle(2, c.bundle...)
				collision := pulled(t, db, b).Collision
				if collision == nil {
					t.Fatal("does not collide")
				}
				how := local.Displacement{Intents: collision.Intents, Reason: blocked}
				var aside []local.SetAside
				switch way {
				case "rebuild":
					var all []wire.Row
					for _, r := range c.bundle {
						if r.Op != wire.OpDelete {
							all = append(all, at(2, r))
						}
					}
					for _, n := range c.nodes {
						if n == "x|∅|old" {
							all = append(all, at(1, put("nodes", "x", `"parent":null,"code":"old"`)))
						}
						if n == "g|∅|∅" {
							all = append(all, at(1, put("nodes", "g", `"parent":null,"code":null`)), at(1, put("nodes", "p", `"parent":"g","code":null`)))
						}
					}
					r, err := db.ApplySnapshot(t.Context(), classic(t), snap(t, db, 2, all...), how)
					must(t, err)
					aside = r.Displaced
				case "stage":
					must(t, db.StageBundlePage(t.Context(), b.BundleMeta, -1, b.Rows))
					a, err := db.ApplyStaged(t.Context(), classic(t), b.BundleMeta, how)
					must(t, err)
					same(t, "checkpoint", a.Checkpoint, int64(2))
					aside = a.Displaced
				default:
					a, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{b}, how)
					must(t, err)
					if a.Collision != nil || a.Checkpoint != 2 {
						t.Fatalf("%+v", a)
					}
					aside = a.Displaced
				}
				verify(t, db)
				got := map[string]bool{}
				for _, a := range aside {
					got[a.Table+" "+a.KeyJSON] = a.Displaced
				}
				for _, w := range c.want {
					if !got[w] {
						t.Errorf("%s is not among those displaced, %v", w, got)
					}
				}
				same(t, "nodes", rows(t, db, `SELECT * FROM nodes ORDER BY id`), c.nodes)
				same(t, "leaves", rows(t, db, `SELECT * FROM leaves ORDER BY id`), c.leaves)
				same(t, "intents", append(intents(t, db), shadows(t, db)...), []string{})
				same(t, "pending", state(t, db).Pending.Quarantined, int64(len(aside)))
				list := quarantined(t, db)
				same(t, "listed", len(list), len(aside))
				code := blocked.Code
				if way == "quarantined" {
					code = refusal.Code
				}
				same(t, "why", []any{list[0].Code, list[0].Origin, list[0].Displaced}, []any{code, local.OriginServer, true})
				// They are nobody's intents: the next bundle passes them by.
				same(t, "discarded", discard(t, db, ids(list)...), local.Discarded{})
				same(t, "nothing is left", len(quarantined(t, db)), 0)
			})
		}
	}
}

// Room that is made in vain is given back: nothing has changed.
func TestDisplacingInVainChangesNothing(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, pairDDL, "pairs")
	exec(t, db, `INSERT INTO pairs VALUES ('a', 'x'), ('b', 'y')`)
	b := bundle(1, put("pairs", "s", name("x")), put("pairs", "t", name("y")))
	before := everything(t, db)
	a, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{b}, local.Displacement{Intents: keys("pairs", `{"id":"a"}`), Reason: blocked})
	must(t, err)
	if a.Collision == nil || len(a.Displaced) > 0 || a.Checkpoint != 0 {
		t.Errorf("%+v", a)
	}
	same(t, "everything", everything(t, db), before)
	// And while a push is in flight nothing is displaced at all.
	freeze(t, db, local.FreezeRequest{})
	var bad *local.DatabaseError
	if _, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{b}, local.Displacement{Intents: keys("pairs", `{"id":"a"}`), Reason: blocked}); !errors.As(err, &bad) {
		t.Errorf("in flight: %v", err)
	}
}

// A snapshot that does not show the push that was committed puts that in doubt before anything makes room for its rows.
func TestNothingMakesRoomForASnapshotThatDoubtsThePush(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, pairDDL, "pairs")
	attachAt(t, db, 1)
	exec(t, db, `INSERT INTO pairs VALUES ('a', 'x')`)
	box := freeze(t, db, local.FreezeRequest{}).Outbox
	b := echo(t, db, box, 3)
	markCommitted(t, db, b)
	exec(t, db, `INSERT INTO pairs VALUES ('b', 'y')`)
	lost := snap(t, db, 2, at(2, put("pairs", "s", name("y"))))
	room := local.Displacement{Intents: keys("pairs", `{"id":"b"}`), Reason: blocked}
	var collision *local.CollisionError
	if _, err := db.ApplySnapshot(t.Context(), classic(t), lost, room); !errors.As(err, &collision) || collision.Collision.Cause != "doubt" || len(collision.Collision.Intents) != 1 || collision.Collision.BundleSeq != 2 {
		t.Fatalf("%v", err)
	}
	verify(t, db)
	same(t, "the outbox", state(t, db).Outbox.State, local.OutboxPrepared)
	same(t, "rows", rows(t, db, `SELECT * FROM pairs ORDER BY id`), []string{"a|x", "b|y"})
	same(t, "checkpoint", state(t, db).Attachment.Checkpoint, int64(1))
	same(t, "displaced", len(quarantined(t, db)), 0)
	// When the server says that it has it after all, a snapshot that shows it settles it, and what is in its way makes room.
	markCommitted(t, db, b)
	r, err := db.ApplySnapshot(t.Context(), classic(t), snap(t, db, 4, at(3, put("pairs", "a", name("x"))), at(2, put("pairs", "s", name("y")))), room)
	must(t, err)
	verify(t, db)
	same(t, "settled", []any{r.OutboxSettled, len(r.Displaced)}, []any{true, 1})
	same(t, "rows", rows(t, db, `SELECT * FROM pairs ORDER BY id`), []string{"a|x", "s|y"})
}

// The gate comes in the same transaction, so that a process that dies knows both or neither.
func TestADoubtedCommitSetsTheGateWithIt(t *testing.T) {
	t.Parallel()
	for _, gate := range []string{"", local.ReasonResume} {
		db := attachedDB(t, pairDDL, "pairs")
		exec(t, db, `INSERT INTO pairs VALUES ('a', 'x')`)
		markCommitted(t, db, echo(t, db, freeze(t, db, local.FreezeRequest{}).Outbox, 3))
		must(t, db.DoubtCommit(t.Context(), gate))
		st := state(t, db)
		same(t, "the state", []any{st.Outbox.State, st.Attachment.RebuildRequired, st.Operation.Reason}, []any{local.OutboxPrepared, gate != "", gate})
		verify(t, db)
	}
}

// displacedLeaf makes a database with a displaced new leaf of the node p.
func displacedLeaf(t *testing.T) *DB {
	t.Helper()
	db := attachedDB(t, treeDDL, "nodes", "leaves")
	attachAt(t, db, 1)
	serverRow(t, db, "nodes", `'p', NULL, NULL`, 1)
	exec(t, db, `INSERT INTO leaves VALUES ('l', 'p', NULL)`)
	_, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(2, removed("nodes", "p"))}, local.Displacement{Intents: keys("leaves", `{"id":"l"}`), Reason: blocked})
	must(t, err)
	same(t, "displaced", len(quarantined(t, db)), 1)
	return db
}

func TestRetryOfADisplacedChangeWritesItsRow(t *testing.T) {
	t.Parallel()
	db := displacedLeaf(t)
	var refused *local.QuarantineError
	if err := db.RetryQuarantined(t.Context(), []int64{1}, false); !errors.As(err, &refused) {
		t.Errorf("without its parent: %v", err)
	}
	same(t, "still there", len(quarantined(t, db)), 1)
	exec(t, db, `INSERT INTO nodes VALUES ('p', NULL, NULL)`)
	must(t, db.RetryQuarantined(t.Context(), []int64{1}, false))
	same(t, "leaves", rows(t, db, `SELECT * FROM leaves`), []string{"l|p|∅"})
	same(t, "quarantine", len(quarantined(t, db)), 0)
	same(t, "both go", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(2))
}

func TestADisplacedChangeEndsWhenItsRowIsWritten(t *testing.T) {
	t.Parallel()
	db := displacedLeaf(t)
	exec(t, db, `INSERT INTO leaves VALUES ('l', NULL, NULL)`)
	same(t, "listed", len(quarantined(t, db)), 0)
	same(t, "pending", []int64{state(t, db).Pending.Dirty, state(t, db).Pending.Quarantined}, []int64{1, 0})
	freeze(t, db, local.FreezeRequest{})
	same(t, "forgotten", number(t, db, `SELECT COUNT(*) FROM _sync_displaced`), int64(0))
}

func TestRetryOfADisplacedDeletion(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, treeDDL, "nodes", "leaves")
	attachAt(t, db, 1)
	serverRow(t, db, "nodes", `'p', NULL, NULL`, 1)
	exec(t, db, `DELETE FROM nodes`)
	_, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(2, put("leaves", "l", `"node":"p","code":null`))}, local.Displacement{Intents: keys("nodes", `{"id":"p"}`), Reason: blocked})
	must(t, err)
	var refused *local.QuarantineError
	if err := db.RetryQuarantined(t.Context(), []int64{1}, false); !errors.As(err, &refused) {
		t.Errorf("under its child: %v", err)
	}
	exec(t, db, `DELETE FROM leaves`)
	must(t, db.RetryQuarantined(t.Context(), []int64{1}, false))
	same(t, "nodes", rows(t, db, `SELECT * FROM nodes`), []string{})
	same(t, "both go", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(2))
}

// What the server had in place of a displaced change is not known: a snapshot follows.
func TestDisplacingWhatNobodyKnows(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, pairDDL, "pairs")
	serverRow(t, db, "pairs", `'a', 'old'`, 1)
	attachAt(t, db, 1)
	exec(t, db, `UPDATE pairs SET name = 'x'`)
	asServer(t, db, `DELETE FROM _sync_base_rows`)
	a, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(2, put("pairs", "s", name("x")))}, local.Displacement{Intents: keys("pairs", `{"id":"a"}`), Reason: blocked})
	must(t, err)
	if !a.RebuildRequired || len(a.Displaced) != 1 || a.Checkpoint != 1 || !state(t, db).Attachment.RebuildRequired {
		t.Errorf("%+v", a)
	}
	verify(t, db)
}
