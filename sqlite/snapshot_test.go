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

// at is a row of a snapshot at a version.
func at(version int64, r wire.Row) wire.Row {
	r.Op, r.RowVersion = wire.OpInsert, version
	return r
}

// snap stages rows as the complete snapshot at seq, in pages of two.
func snap(t testing.TB, db *DB, seq int64, rows ...wire.Row) wire.SnapshotSession {
	t.Helper()
	s := wire.SnapshotSession{ID: fmt.Sprint("snapshot-", seq), BundleSeq: seq, RowCount: int64(len(rows))}
	if err := db.BeginStage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(rows); i += 2 {
		if err := db.StageSnapshotPage(t.Context(), s, int64(i), rows[i:min(i+2, len(rows))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.CompleteStage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func restored(t testing.TB, db *DB, s wire.SnapshotSession) local.Restored {
	t.Helper()
	out, err := db.ApplySnapshot(t.Context(), classic(t), s)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "stage", rows(t, db, `SELECT count(*), (SELECT kind || staged_snapshot_id || snapshot_bundle_seq || snapshot_row_count || snapshot_stage_complete || reason FROM _sync_operation_state) FROM _sync_snapshot_stage`),
		[]string{"0|none000"})
	same(t, "gate", rows(t, db, `SELECT rebuild_required, last_bundle_seq_seen FROM _sync_attachment_state`), []string{fmt.Sprint("0|", s.BundleSeq)})
	return out
}

func TestSnapshotReplacesAnAnonymousDatabase(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	exec(t, db, `INSERT INTO users VALUES ('u1', 'mine'), ('u2', 'mine'), ('u3', 'mine')`)
	asServer(t, db, `UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ada'`,
		`INSERT INTO _sync_engine_state VALUES ('`+engineContract+`', 'classic')`,
		`INSERT INTO _sync_quarantine (schema_name, table_name, key_json, op, payload, code) SELECT schema_name, table_name, key_json, op, payload, 'x' FROM _sync_dirty_rows WHERE key_json LIKE '%u3%'`,
		`DELETE FROM _sync_dirty_rows WHERE key_json LIKE '%u3%'`)
	s := snap(t, db, 7, at(3, put("users", "u1", name("theirs"))), at(7, put("users", "u9", name("theirs"))))
	// A crash here leaves a stage that a later start can apply.
	out := restored(t, db, s)
	same(t, "outcome", out, local.Restored{BundleSeq: 7, Rows: 2, DroppedLocalRows: 3, Tables: local.TableSet{"users"}})
	same(t, "users", rows(t, db, `SELECT id, name FROM users ORDER BY id`), []string{"u1|theirs", "u9|theirs"})
	same(t, "states", states(t, db), []string{"users u1 3", "users u9 7"})
	same(t, "intents", number(t, db, `SELECT (SELECT count(*) FROM _sync_dirty_rows) + (SELECT count(*) FROM _sync_quarantine)`), int64(0))
	same(t, "attachment", rows(t, db, `SELECT binding_state, attached_user_id, schema_name FROM _sync_attachment_state`), []string{"attached|ada|main"})
	verify(t, db)
	exec(t, db, `UPDATE users SET name = 'mine' WHERE id = 'u9'`)
	same(t, "captured again", intents(t, db), []string{`users u9 UPDATE on 7 {"id":"u9","name":"mine"} state 7 base {"id":"u9","name":"theirs"}`})
}

func TestRebuildAroundIntents(t *testing.T) {
	t.Parallel()
	theirs := at(8, put("users", "u1", name("theirs")))
	old := at(5, put("users", "u1", name("old")))
	for _, c := range []struct {
		name   string
		op     wire.Op
		state  []string // SQL in apply mode after the edit
		stage  []wire.Row
		shadow []string
	}{
		{name: "an update, moved on", op: wire.OpUpdate, stage: []wire.Row{theirs}, shadow: []string{`users|u1|8|1|0|{"id":"u1","name":"theirs"}`}},
		{name: "an update, the same version", op: wire.OpUpdate, stage: []wire.Row{old}, shadow: []string{}},
		{name: "an update, deleted there", op: wire.OpUpdate, shadow: []string{`users|u1|10|0|1|∅`}},
		{name: "a deletion, moved on", op: wire.OpDelete, stage: []wire.Row{theirs}, shadow: []string{`users|u1|8|1|0|{"id":"u1","name":"theirs"}`}},
		{name: "a deletion, deleted there", op: wire.OpDelete, shadow: []string{`users|u1|10|0|1|∅`}},
		{name: "an insert, there as well", op: wire.OpInsert, stage: []wire.Row{theirs}, shadow: []string{`users|u1|8|1|0|{"id":"u1","name":"theirs"}`}},
		{name: "an insert, not there", op: wire.OpInsert, shadow: []string{}},
		{name: "an old shadow goes", op: wire.OpInsert, shadow: []string{},
			state: []string{`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, version_exact, deleted) VALUES ('main', 'users', '{"id":"u1"}', 6, 0, 1)`}},
		{name: "one of a row that is there again goes", op: wire.OpInsert, stage: []wire.Row{theirs}, shadow: []string{`users|u1|8|1|0|{"id":"u1","name":"theirs"}`},
			state: []string{`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, deleted) VALUES ('main', 'users', '{"id":"u1"}', 6, 1)`}},
		{name: "one that the server has gone back behind goes", op: wire.OpInsert, shadow: []string{},
			state: []string{`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, deleted) VALUES ('main', 'users', '{"id":"u1"}', 11, 1)`}},
		{name: "the version of a tombstone stays", op: wire.OpInsert, shadow: []string{`users|u1|6|1|1|∅`},
			state: []string{`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, deleted) VALUES ('main', 'users', '{"id":"u1"}', 6, 1)`}},
		{name: "so does that of an edited row", op: wire.OpUpdate, shadow: []string{`users|u1|7|1|1|∅`},
			state: []string{`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, deleted) VALUES ('main', 'users', '{"id":"u1"}', 7, 1)`}},
	} {
		for _, kind := range []string{"dirty", "frozen", "quarantined"} {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				db := attachedDB(t, usersDDL, "users")
				attachAt(t, db, 6)
				serverRow(t, db, "users", `'other', 'old'`, 3)
				serverRow(t, db, "users", `'lost', 'old'`, 3)
				edit(t, db, c.op)
				if len(c.state) > 0 {
					asServer(t, db, c.state...)
				}
				shadow := c.shadow
				switch kind {
				case "frozen":
					if len(c.state) > 0 {
						asServer(t, db, `DELETE FROM _sync_shadow`)
					}
					outboxOf(t, db)
					if len(c.stage) == 0 {
						shadow = []string{`users|u1|10|0|1|∅`} // it may have been committed, and deleted since
					}
				case "quarantined":
					asServer(t, db, `INSERT INTO _sync_quarantine (schema_name, table_name, key_json, op, base_row_version, payload, code)
SELECT schema_name, table_name, key_json, op, base_row_version, payload, 'x' FROM _sync_dirty_rows`, `DELETE FROM _sync_dirty_rows`)
				}
				mine := rows(t, db, `SELECT * FROM users WHERE id = 'u1'`)
				state := rows(t, db, `SELECT row_version, deleted FROM _sync_row_state WHERE key_json LIKE '%u1%'`)
				pending := rows(t, db, `SELECT key_json, op, base_row_version, payload FROM _sync_dirty_rows UNION ALL SELECT key_json, op, base_row_version, local_payload FROM _sync_outbox_rows UNION ALL SELECT key_json, op, base_row_version, payload FROM _sync_quarantine`)
				asServer(t, db, `UPDATE _sync_attachment_state SET rebuild_required = 1`, `UPDATE _sync_operation_state SET reason = 'resume'`)
				out := restored(t, db, snap(t, db, 10, append(c.stage, at(9, put("users", "other", name("new"))), at(2, put("users", "zoe", name("Zoe"))))...))
				same(t, "outcome", out, local.Restored{BundleSeq: 10, Rows: int64(len(c.stage) + 2), Tables: local.TableSet{"users"}})
				same(t, "content", rows(t, db, `SELECT * FROM users WHERE id = 'u1'`), mine)
				same(t, "state", rows(t, db, `SELECT row_version, deleted FROM _sync_row_state WHERE key_json LIKE '%u1%'`), state)
				same(t, "intent", rows(t, db, `SELECT key_json, op, base_row_version, payload FROM _sync_dirty_rows UNION ALL SELECT key_json, op, base_row_version, local_payload FROM _sync_outbox_rows UNION ALL SELECT key_json, op, base_row_version, payload FROM _sync_quarantine`), pending)
				same(t, "shadow", shadows(t, db), shadow)
				same(t, "others", rows(t, db, `SELECT id, name FROM users WHERE id <> 'u1' ORDER BY id`), []string{"other|new", "zoe|Zoe"})
				same(t, "their states", rows(t, db, `SELECT key_json, row_version, deleted FROM _sync_row_state WHERE key_json NOT LIKE '%u1%'`), []string{`{"id":"other"}|9|0`, `{"id":"zoe"}|2|0`})
			})
		}
	}
}

func TestK3_ARowInsertedWhileTheSnapshotIsFetchedStays(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	pulled(t, db, bundle(1, put("users", "u1", name("old"))))
	s := snap(t, db, 4, at(4, put("users", "u1", name("new"))))
	exec(t, db, `INSERT INTO users VALUES ('mine', 'written meanwhile')`)
	out := restored(t, db, s)
	same(t, "nothing is dropped", out.DroppedLocalRows, int64(0))
	same(t, "users", rows(t, db, `SELECT id FROM users ORDER BY id`), []string{"mine", "u1"})
	same(t, "intents", intents(t, db), []string{`users mine INSERT on 0 {"id":"mine","name":"written meanwhile"}`})
}

func TestRebuildSettlesACommittedOutbox(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	attachAt(t, db, 6)
	for _, u := range []string{"u1", "u2", "u3"} {
		serverRow(t, db, "users", `'`+u+`', 'old'`, 5)
	}
	inTx(t, db, `UPDATE users SET name = 'mine' WHERE id <= 'u2'`, `DELETE FROM users WHERE id = 'u3'`, `INSERT INTO users VALUES ('u4', 'mine')`)
	box := outboxOf(t, db)
	inTx(t, db, `UPDATE users SET name = 'newer' WHERE id = 'u2'`, `INSERT INTO users VALUES ('u3', 'again')`)
	markCommitted(t, db, committed(t, box, 8, put("users", "u1", name("mine"))))
	out := restored(t, db, snap(t, db, 10, at(9, put("users", "u1", name("theirs"))), at(9, put("users", "u2", name("theirs")))))
	verify(t, db)
	same(t, "outcome", out, local.Restored{BundleSeq: 10, Rows: 2, Tables: local.TableSet{"users"}, OutboxSettled: true})
	same(t, "users", rows(t, db, `SELECT id, name FROM users ORDER BY id`), []string{"u1|theirs", "u2|newer", "u3|again"})
	same(t, "intents", intents(t, db), []string{
		`users u2 UPDATE on 8 {"id":"u2","name":"newer"} state 8 base {"id":"u2","name":"mine"} shadow 9`,
		`users u3 INSERT on 8 {"id":"u3","name":"again"} state 8 deleted`})
	same(t, "next", number(t, db, `SELECT next_source_bundle_id FROM _sync_source_state`), box.SourceBundleID+1)
}

func TestRebuildKeepsAnOutboxBeyondTheSnapshot(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	exec(t, db, `INSERT INTO users VALUES ('u1', 'mine')`)
	b := echo(t, db, outboxOf(t, db), 12)
	markCommitted(t, db, b)
	out := restored(t, db, snap(t, db, 10))
	same(t, "settled", out.OutboxSettled, false)
	// The server may have lost it: create tells.
	same(t, "outbox", rows(t, db, `SELECT state, remote_bundle_seq FROM _sync_outbox_bundle`), []string{"prepared|0"})
	same(t, "shadow", shadows(t, db), []string{`users|u1|10|0|1|∅`})
	replayed(t, db, b, false)
	same(t, "users", rows(t, db, `SELECT id, name FROM users`), []string{"u1|mine"})
	verify(t, db)
}

func TestSnapshotCollisions(t *testing.T) {
	t.Parallel()
	unchanged := func(t *testing.T, db *DB, s wire.SnapshotSession, want local.Collision) {
		t.Helper()
		before := everything(t, db)
		_, err := db.ApplySnapshot(t.Context(), classic(t), s)
		var collision *local.CollisionError
		if !errors.As(err, &collision) {
			t.Fatalf("got %v", err)
		}
		same(t, "collision", collision.Collision, want)
		same(t, "nothing changed", everything(t, db), before)
	}
	t.Run("a unique value", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, pairDDL, "pairs")
		exec(t, db, `INSERT INTO pairs VALUES ('mine', 'x'), ('free', 'f'), ('also', 'y')`)
		s := snap(t, db, 4, at(1, put("pairs", "a", name("x"))), at(1, put("pairs", "b", name("y"))))
		unchanged(t, db, s, local.Collision{BundleSeq: 4, Cause: "unique", Intents: keys("pairs", `{"id":"also"}`, "pairs", `{"id":"mine"}`)})
	})
	t.Run("a unique value of a BLOB key", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, `CREATE TABLE blobs (id BLOB PRIMARY KEY NOT NULL, name TEXT UNIQUE)`, "blobs")
		exec(t, db, `INSERT INTO blobs VALUES (x'00000000000040008000000000000001', 'x')`)
		s := snap(t, db, 4, at(1, put("blobs", "00000000-0000-4000-8000-000000000002", name("x"))))
		unchanged(t, db, s, local.Collision{BundleSeq: 4, Cause: "unique", Intents: keys("blobs", `{"id":"00000000000040008000000000000001"}`)})
	})
	t.Run("a parent deleted there", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, familyDDL, "parents", "children")
		pulled(t, db, bundle(1, parent("p1", "")))
		exec(t, db, `INSERT INTO children (id, parent) VALUES ('mine', 'p1')`)
		unchanged(t, db, snap(t, db, 4), local.Collision{BundleSeq: 4, Cause: "foreign_key", Intents: keys("children", `{"id":"mine"}`)})
	})
	t.Run("a parent deleted here", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, familyDDL, "parents", "children")
		pulled(t, db, bundle(1, parent("p1", "")))
		exec(t, db, `DELETE FROM parents`)
		unchanged(t, db, snap(t, db, 4, at(3, child("c1", "parent=p1")), at(1, parent("p1", ""))),
			local.Collision{BundleSeq: 4, Cause: "foreign_key", Intents: keys("parents", `{"id":"p1"}`)})
	})
	t.Run("what the server's own rows lack is its fault", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, familyDDL, "parents", "children")
		s := snap(t, db, 4, at(3, child("c1", "parent=p1")))
		before := everything(t, db)
		_, err := db.ApplySnapshot(t.Context(), classic(t), s)
		var fault *wire.ProtocolError
		if !errors.As(err, &fault) {
			t.Fatalf("got %v", err)
		}
		same(t, "nothing changed", everything(t, db), before)
	})
	t.Run("what dangled before is nobody's fault", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, familyDDL, "parents", "children")
		asServer(t, db, `INSERT INTO children (id, parent) VALUES ('c1', 'p1')`)
		restored(t, db, snap(t, db, 4, at(3, child("c1", "parent=p1"))))
	})
}

func TestSnapshotStageChecks(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	s := wire.SnapshotSession{ID: "s", BundleSeq: 5, RowCount: 3}
	good := at(4, put("users", "u1", name("x")))
	stageOne := func(after int64, rows ...wire.Row) error { return db.StageSnapshotPage(t.Context(), s, after, rows) }
	var fault *wire.ProtocolError
	var refused *local.DatabaseError

	if err := stageOne(0, good); !errors.As(err, &refused) {
		t.Errorf("a page before the stage began: %v", err)
	}
	if err := db.BeginStage(t.Context(), wire.SnapshotSession{}); !errors.As(err, &fault) {
		t.Errorf("a session without an id: %v", err)
	}
	if err := db.BeginStage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for what, r := range map[string]wire.Row{
		"a newer row":            at(6, put("users", "u1", name("x"))),
		"a deletion":             {Schema: "main", Table: "users", Key: good.Key, Op: wire.OpDelete, RowVersion: 4},
		"another table":          at(4, put("ghosts", "u1", name("x"))),
		"no version":             at(0, put("users", "u1", name("x"))),
		"another key in payload": {Schema: "main", Table: "users", Key: wire.Key{Column: "id", Value: "u2"}, Op: wire.OpInsert, RowVersion: 4, Payload: good.Payload},
		"a missing column":       at(4, put("users", "u1", "")),
	} {
		if err := stageOne(0, r); !errors.As(err, &fault) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := stageOne(3, good); !errors.As(err, &fault) {
		t.Errorf("a row beyond the count: %v", err)
	}
	same(t, "nothing is staged", number(t, db, `SELECT count(*) FROM _sync_snapshot_stage`), int64(0))
	spaced := good
	spaced.Payload = []byte("{\n  \"id\": \"u1\",\n  \"name\": \"x  y\"\n}")
	if err := stageOne(2, spaced); err != nil {
		t.Fatal("out of order:", err)
	}
	same(t, "staged", rows(t, db, `SELECT payload FROM _sync_snapshot_stage`), []string{`{"id":"u1","name":"x  y"}`})
	if err := stageOne(2, good); err != nil {
		t.Error("the same page again:", err)
	}
	if err := db.CompleteStage(t.Context(), s); !errors.As(err, &fault) {
		t.Errorf("an incomplete stage: %v", err)
	}
	if _, err := db.ApplySnapshot(t.Context(), classic(t), s); !errors.As(err, &refused) {
		t.Errorf("applying an incomplete stage: %v", err)
	}
	if err := stageOne(0, at(1, put("users", "u2", name("x"))), at(1, put("users", "u3", name("x")))); err != nil {
		t.Fatal(err)
	}
	if err := db.CompleteStage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	other := s
	other.ID = "another"
	if _, err := db.ApplySnapshot(t.Context(), classic(t), other); !errors.As(err, &refused) {
		t.Errorf("another session: %v", err)
	}
	restored(t, db, s)
	same(t, "users", number(t, db, `SELECT count(*) FROM users`), int64(3))
}

// A key that comes twice is told apart from a row that is in the way of another, with intents around and without.
func TestSnapshotWithAKeyTwice(t *testing.T) {
	t.Parallel()
	for what, mine := range map[string]string{
		"nothing pending": ``,
		"another intent":  `INSERT INTO pairs VALUES ('mine', 'x')`,
		"an intent of it": `INSERT INTO pairs VALUES ('a', 'x')`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, pairDDL, "pairs")
			if mine != "" {
				exec(t, db, mine)
			}
			s := snap(t, db, 4, at(1, put("pairs", "a", name("y"))), at(2, put("pairs", "b", name("z"))), at(2, put("pairs", "a", name("w"))))
			before := everything(t, db)
			var fault *wire.ProtocolError
			if _, err := db.ApplySnapshot(t.Context(), classic(t), s); !errors.As(err, &fault) || !strings.Contains(fault.Reason, "twice") {
				t.Fatalf("got %v", err)
			}
			same(t, "nothing changed", everything(t, db), before)
			restored(t, db, snap(t, db, 4, at(1, put("pairs", "a", name("y"))), at(2, put("pairs", "b", name("z")))))
			verify(t, db)
			same(t, "an index on keys", number(t, db, `SELECT count(*) FROM sqlite_schema WHERE name = 'idx_sync_snapshot_stage_key'`), int64(0))
		})
	}
}

func TestSnapshotNeedsAPlace(t *testing.T) {
	t.Parallel()
	for what, sql := range map[string]string{
		"an anonymous database": `UPDATE _sync_attachment_state SET binding_state = 'anonymous'`,
		"source recovery":       `UPDATE _sync_operation_state SET kind = 'source_recovery', reason = 'source_sequence_changed'`,
		"a damaged stage":       `DELETE FROM _sync_snapshot_stage`,
		"an unknown table":      `UPDATE _sync_snapshot_stage SET table_name = 'ghosts'`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, usersDDL, "users")
			exec(t, db, `INSERT INTO users VALUES ('mine', 'x')`)
			s := snap(t, db, 4, at(3, put("users", "u1", name("x"))))
			asServer(t, db, sql)
			before := everything(t, db)
			var refused *local.DatabaseError
			if _, err := db.ApplySnapshot(t.Context(), classic(t), s); !errors.As(err, &refused) {
				t.Errorf("got %v", err)
			}
			same(t, "nothing changed", everything(t, db), before)
		})
	}
}

func TestApplySnapshotIsOneTransaction(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	exec(t, db, `INSERT INTO users VALUES ('mine', 'x')`)
	var many []wire.Row
	for i := range 300 {
		many = append(many, at(3, put("users", fmt.Sprint("u", i), name("x"))))
	}
	s := snap(t, db, 4, many...)
	before := everything(t, db)
	for polls := 1; ; polls += 5 {
		_, err := db.ApplySnapshot(&endingContext{Context: t.Context(), left: polls}, classic(t), s)
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d polls: %v", polls, err)
		}
		same(t, fmt.Sprintf("after %d polls nothing changed", polls), everything(t, db), before)
	}
	same(t, "users", number(t, db, `SELECT count(*) FROM users`), int64(301))
}
