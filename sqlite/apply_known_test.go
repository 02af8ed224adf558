package sqlite

import (
	"errors"
	"fmt"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// TestApplyWhereThisDatabaseIsAhead: a push was replayed while the bundles before it were still to come. They bring
// older images of what is here, which must not be laid down, however many rows they bring.
func TestApplyWhereThisDatabaseIsAhead(t *testing.T) {
	t.Parallel()
	for _, staged := range []bool{false, true} {
		for _, n := range []int{1, 2 * manyRows} {
			t.Run(fmt.Sprint(staged, n), func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, usersDDL, "users")
				exec(t, db, `INSERT INTO users VALUES ('u1', 'mine'), ('u2', 'mine')`)
				own := echo(t, db, outboxOf(t, db), 2)
				markCommitted(t, db, own)
				same(t, "checkpoint", replayed(t, db, own, false).Checkpoint, int64(0))
				first := []wire.Row{put("users", "u1", name("older")), removed("users", "u2")}
				for i := range n {
					first = append(first, put("users", fmt.Sprint("v", i), name("new")))
				}
				bundles := []wire.Bundle{sealed(t, bundle(1, first...)), own}
				if staged {
					for _, b := range bundles {
						stage(t, db, b)
						if _, err := db.ApplyStaged(t.Context(), classic(t), b.BundleMeta); err != nil {
							t.Fatal(err)
						}
					}
				} else {
					same(t, "rows", pulled(t, db, bundles...).Rows, int64(n))
				}
				same(t, "users", rows(t, db, `SELECT id, name FROM users WHERE id LIKE 'u%' ORDER BY id`), []string{"u1|mine", "u2|mine"})
				same(t, "states", number(t, db, `SELECT count(*) FROM _sync_row_state WHERE row_version = 2 AND NOT deleted`), int64(2))
				same(t, "the others", number(t, db, `SELECT count(*) FROM users JOIN _sync_row_state ON key_json = json_object('id', id) WHERE row_version = 1`), int64(n))
				same(t, "checkpoint", checkpoint(t, db), int64(2))
				verify(t, db)
			})
		}
	}
}

// TestApplyLeavesTheConnectionAsItWas: what is set for many rows does not last.
func TestApplyLeavesTheConnectionAsItWas(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	release, err := db.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	settings := func() (out []string) {
		for _, pragma := range []string{"cache_size", "wal_autocheckpoint", "synchronous", "foreign_keys"} {
			s, _, err := db.conn.raw.Prepare(`PRAGMA ` + pragma)
			if err != nil {
				t.Fatal(err)
			}
			if s.Step() {
				out = append(out, pragma+" "+s.ColumnText(0))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	before := settings()
	many := make([]wire.Row, 0, manyRows)
	for i := range manyRows {
		many = append(many, put("users", fmt.Sprint("u", i), name("x")))
	}
	pulled(t, db, bundle(1, many...))
	same(t, "settings", settings(), before)
	if _, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(2, append(many, put("users", "bad", ""))...)}); err == nil {
		t.Fatal("a bad row was taken")
	}
	same(t, "settings after an error", settings(), before)
}

func TestApplyKeepsAShadowThatIsAhead(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	serverRow(t, db, "users", `'u1', 'old'`, 1)
	attachAt(t, db, 5)
	exec(t, db, `UPDATE users SET name = 'mine'`)
	// As the answer to a refused push leaves it.
	asServer(t, db, `INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, payload) VALUES ('main', 'users', '{"id":"u1"}', 7, '{"id":"u1","name":"seven"}')`)
	for _, c := range []struct {
		seq  int64
		sent string
		want string
	}{{6, "six", "7|seven"}, {7, "another", "7|seven"}, {8, "eight", "8|eight"}} {
		pulled(t, db, bundle(c.seq, put("users", "u1", name(c.sent))))
		same(t, fmt.Sprint("after ", c.seq), rows(t, db, `SELECT row_version, payload ->> 'name' FROM _sync_shadow`), []string{c.want})
	}
}

// TestApplyOfATombstoneOfARowNeverHadHere: it is remembered, so that a row of that key made here later is made on it.
func TestApplyOfATombstoneOfARowNeverHadHere(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	out := pulled(t, db, bundle(1, removed("users", "u1")))
	same(t, "states", states(t, db), []string{"users u1 1 deleted"})
	same(t, "checkpoint", out.Checkpoint, int64(1))
	exec(t, db, `INSERT INTO users VALUES ('u1', 'mine')`)
	same(t, "intents", intents(t, db), []string{`users u1 INSERT on 1 {"id":"u1","name":"mine"} state 1 deleted`})
	pulled(t, db, bundle(2, put("users", "u1", name("theirs"))))
	same(t, "intents", intents(t, db), []string{`users u1 INSERT on 1 {"id":"u1","name":"mine"} state 1 deleted shadow 2`})
	same(t, "content", rows(t, db, `SELECT name FROM users`), []string{"mine"})
}

// TestColumnsOfTheServer: a column that only the server has is passed over, one that it lacks makes its answer unusable.
func TestColumnsOfTheServer(t *testing.T) {
	t.Parallel()
	more := put("users", "u1", name("x")+`,"added_later":{"a":[1]}`)
	less := put("users", "u1", `"nick":"x"`)
	var fault *wire.ProtocolError
	for _, intent := range []bool{false, true} {
		t.Run(fmt.Sprint("intent ", intent), func(t *testing.T) {
			t.Parallel()
			set := func() *DB {
				db := attachedDB(t, usersDDL, "users")
				if intent {
					exec(t, db, `INSERT INTO users VALUES ('u1', 'mine')`)
				}
				return db
			}
			check := func(db *DB) {
				t.Helper()
				verify(t, db)
				want := []string{"x"}
				if intent {
					want = []string{"mine"}
					same(t, "shadow", len(shadows(t, db)), 1)
				}
				same(t, "users", rows(t, db, `SELECT name FROM users`), want)
			}
			db := set()
			pulled(t, db, bundle(1, more))
			check(db)
			db = set()
			restored(t, db, snap(t, db, 1, at(1, more)))
			check(db)

			var ours *wire.ProtocolError
			db = set()
			before := everything(t, db)
			if _, err := db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{bundle(1, put("users", "u2", name("x")), less)}); !errors.As(err, &ours) {
				t.Errorf("a missing column: %v", err)
			}
			same(t, "nothing of the bundle is applied", everything(t, db), before)
			s := wire.SnapshotSession{ID: "s", BundleSeq: 1, RowCount: 1}
			if err := db.BeginStage(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if err := db.StageSnapshotPage(t.Context(), s, 0, []wire.Row{at(1, less)}); !errors.As(err, &ours) {
				t.Errorf("a missing column in a snapshot: %v", err)
			}
		})
	}
	t.Run("own push", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, usersDDL, "users")
		exec(t, db, `INSERT INTO users VALUES ('u1', 'x')`)
		box := outboxOf(t, db)
		before := everything(t, db)
		if _, err := db.Replay(t.Context(), classic(t), committed(t, box, 1, less), false); !errors.As(err, &fault) {
			t.Errorf("a missing column: %v", err)
		}
		same(t, "nothing changed", everything(t, db), before)
		replayed(t, db, committed(t, box, 1, more), true)
		same(t, "no intent", intents(t, db), []string{})
	})
}

func TestQuarantinedRowsStandInTheWayAsOthersDo(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"pull", "rebuild"} {
		db := attachedDB(t, pairDDL, "pairs")
		exec(t, db, `INSERT INTO pairs VALUES ('mine', 'x')`)
		asServer(t, db, `INSERT INTO _sync_quarantine (schema_name, table_name, key_json, op, base_row_version, payload, code)
SELECT schema_name, table_name, key_json, op, base_row_version, payload, 'x' FROM _sync_dirty_rows`, `DELETE FROM _sync_dirty_rows`)
		row := put("pairs", "a", name("x"))
		var got *local.Collision
		if way == "pull" {
			got = pulled(t, db, bundle(1, row)).Collision
		} else {
			var collision *local.CollisionError
			if _, err := db.ApplySnapshot(t.Context(), classic(t), snap(t, db, 1, at(1, row))); errors.As(err, &collision) {
				got = &collision.Collision
			}
		}
		same(t, way, got, &local.Collision{BundleSeq: 1, Cause: "unique", Intents: keys("pairs", `{"id":"mine"}`)})
	}
}
