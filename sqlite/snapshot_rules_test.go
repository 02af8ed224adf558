package sqlite

import (
	"errors"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// replacing begins a remote replace of an anonymous database with rows of its own.
func replacing(t *testing.T, ddl, table string) *DB {
	t.Helper()
	db := testDB(t, ddl, table)
	exec(t, db, `INSERT INTO `+table+` VALUES ('mine', 'x')`)
	asServer(t, db, `UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'ada'`,
		`INSERT OR REPLACE INTO _sync_engine_state VALUES ('`+engineContract+`', '`+string(wire.ClassicContract)+`')`)
	return db
}

func TestReplaceDropsNothingForASnapshotThatCannotBe(t *testing.T) {
	t.Parallel()
	db := replacing(t, pairDDL, "pairs")
	s := snap(t, db, 4, at(1, put("pairs", "a", name("y"))), at(2, put("pairs", "b", name("y"))))
	before := everything(t, db)
	_, err := db.ApplySnapshot(t.Context(), classic(t), s)
	var fault *wire.ProtocolError
	if !errors.As(err, &fault) || fault.Table != "main.pairs" {
		t.Fatalf("got %v", err)
	}
	same(t, "nothing changed", everything(t, db), before)
}

func TestReplaceForgetsWhatTheAttachmentBeforeLeft(t *testing.T) {
	t.Parallel()
	db := replacing(t, usersDDL, "users")
	box := outboxOf(t, db)
	asServer(t, db, `UPDATE _sync_operation_state SET kind = 'none'`)
	exec(t, db, `UPDATE users SET name = 'newer'`) // one key with two entries is one row
	asServer(t, db, `UPDATE _sync_operation_state SET kind = 'remote_replace'`)
	asServer(t, db,
		`INSERT INTO _sync_engine_state VALUES ('`+engineReattachRequired+`', '1'), ('`+engineKeepIntents+`', 'ada'), ('`+engineUploadBlocked+`', '{}')`,
		`UPDATE _sync_attachment_state SET pending_initialization_id = 'lease'`,
		`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, payload) VALUES ('main', 'users', '{"id":"mine"}', 3, '{}')`)
	out := restored(t, db, snap(t, db, 4, at(3, put("users", "mine", name("theirs")))))
	same(t, "dropped", out.DroppedLocalRows, int64(1))
	same(t, "users", rows(t, db, `SELECT id, name FROM users`), []string{"mine|theirs"})
	same(t, "left", rows(t, db, `SELECT (SELECT count(*) FROM _sync_shadow), (SELECT count(*) FROM _sync_base_rows), (SELECT count(*) FROM _sync_outbox_rows),
  (SELECT state FROM _sync_outbox_bundle), (SELECT pending_initialization_id FROM _sync_attachment_state),
  (SELECT count(*) FROM _sync_engine_state WHERE name IN ('`+engineReattachRequired+`', '`+engineKeepIntents+`', '`+engineUploadBlocked+`'))`), []string{"0|0|0|none||0"})
	same(t, "the source goes on", number(t, db, `SELECT next_source_bundle_id FROM _sync_source_state`), box.SourceBundleID)
	verify(t, db)
}

// TestRebuildAtTheVeryVersion: where versions are equal there is no news.
func TestRebuildAtTheVeryVersion(t *testing.T) {
	t.Parallel()
	t.Run("a snapshot that ends with the own commit covers it", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, usersDDL, "users")
		exec(t, db, `INSERT INTO users VALUES ('u1', 'mine'), ('u2', 'mine')`)
		markCommitted(t, db, echo(t, db, outboxOf(t, db), 8))
		exec(t, db, `UPDATE users SET name = 'newer' WHERE id = 'u2'`)
		out := restored(t, db, snap(t, db, 8, at(8, put("users", "u1", name("mine"))), at(8, put("users", "u2", name("mine")))))
		same(t, "settled", out.OutboxSettled, true)
		same(t, "intents", intents(t, db), []string{`users u2 UPDATE on 8 {"id":"u2","name":"newer"} state 8 base {"id":"u2","name":"mine"}`})
	})
	t.Run("a deletion that was committed and covered", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, usersDDL, "users")
		attachAt(t, db, 6)
		serverRow(t, db, "users", `'u1', 'old'`, 5)
		serverRow(t, db, "users", `'u2', 'old'`, 5)
		exec(t, db, `DELETE FROM users`)
		markCommitted(t, db, echo(t, db, outboxOf(t, db), 8))
		exec(t, db, `INSERT INTO users VALUES ('u2', 'again')`)
		restored(t, db, snap(t, db, 9))
		same(t, "users", rows(t, db, `SELECT id FROM users`), []string{"u2"})
		same(t, "states", states(t, db), []string{"users u2 8 deleted"})
		same(t, "a tombstone known to be one has no shadow", intents(t, db), []string{`users u2 INSERT on 8 {"id":"u2","name":"again"} state 8 deleted`})
	})
}

// TestRebuildOfRowsThatReferToEachOther: a snapshot brings its rows in any order.
func TestRebuildOfRowsThatReferToEachOther(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, familyDDL, "parents", "children")
	pulled(t, db, bundle(1, child("c1", "parent=p1 up=c1"), parent("p1", "best=c1"), child("c9", "parent=p1 up=c1")))
	exec(t, db, `UPDATE children SET name = 'mine' WHERE id = 'c9'`)
	restored(t, db, snap(t, db, 5,
		at(5, child("c2", "parent=p1 up=c3")), at(5, child("c3", "up=c2")), at(4, parent("p1", "best=c2")), at(1, child("c1", "parent=p1 up=c1")), at(1, child("c9", "parent=p1 up=c1"))))
	same(t, "children", rows(t, db, `SELECT id, name FROM children ORDER BY id`), []string{"c1|∅", "c2|∅", "c3|∅", "c9|mine"})
	verify(t, db)
	s := snap(t, db, 6, at(4, parent("p1", "")))
	before := everything(t, db)
	var collision *local.CollisionError
	if _, err := db.ApplySnapshot(t.Context(), classic(t), s); !errors.As(err, &collision) {
		t.Fatalf("got %v", err)
	}
	same(t, "a row that mine refers to is gone there", collision.Collision, local.Collision{BundleSeq: 6, Cause: "foreign_key", Intents: keys("children", `{"id":"c9"}`)})
	same(t, "nothing changed", everything(t, db), before)
}
