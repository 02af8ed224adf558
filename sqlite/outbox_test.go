package sqlite

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

func TestOutboxRowsInChunks(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	for i := range 7 {
		exec(t, db, `INSERT INTO users VALUES (?, 'mine')`, fmt.Sprintf("u%d", i))
	}
	freeze(t, db, local.FreezeRequest{})
	size := int64(len(`{"id":"u0","name":"mine"}`))
	for _, c := range []struct {
		from, rows, bytes int64
		want              int
	}{{0, 0, 0, 7}, {0, 3, 0, 3}, {5, 3, 0, 2}, {7, 3, 0, 0}, {0, 7, 2 * size, 2}, {0, 7, 1, 1}, {6, 0, 1, 1}} {
		got, err := db.OutboxRows(t.Context(), c.from, c.rows, c.bytes)
		if err != nil || len(got) != c.want {
			t.Errorf("%+v: %d rows, %v", c, len(got), err)
		}
		for i, r := range got {
			same(t, "key", r.Key.Value, fmt.Sprintf("u%d", c.from+int64(i)))
		}
	}
}

func TestOutboxRowsNoticeDamage(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"a gap":         `UPDATE _sync_outbox_rows SET row_ordinal = 7`,
		"a table":       `UPDATE _sync_outbox_rows SET table_name = 'other'`,
		"a key":         `UPDATE _sync_outbox_rows SET wire_key_json = '{}'`,
		"an operation":  `UPDATE _sync_outbox_rows SET op = 'DELETE'`,
		"no header row": `DELETE FROM _sync_outbox_bundle`,
	} {
		db := synced(t, testDB(t, usersDDL, "users"))
		edit(t, db, wire.OpInsert)
		freeze(t, db, local.FreezeRequest{})
		asServer(t, db, harm)
		var dberr *local.DatabaseError
		if got, err := db.OutboxRows(t.Context(), 0, 10, 0); !errors.As(err, &dberr) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestMarkCommitted(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	var dberr *local.DatabaseError
	if _, err := db.MarkCommitted(t.Context(), wire.BundleMeta{Seq: 1, Hash: "h"}, true); !errors.As(err, &dberr) {
		t.Errorf("nothing in flight: %v", err)
	}
	edit(t, db, wire.OpInsert)
	box := freeze(t, db, local.FreezeRequest{}).Outbox
	ok := wire.BundleMeta{Seq: 7, SourceID: box.SourceID, SourceBundleID: box.SourceBundleID, RowCount: 1, Hash: "h"}
	for name, m := range map[string]wire.BundleMeta{
		"another source": {Seq: 7, SourceID: "x", SourceBundleID: 1, Hash: "h"},
		"another number": {Seq: 7, SourceID: box.SourceID, SourceBundleID: 2, Hash: "h"},
		"no seq":         {SourceID: box.SourceID, SourceBundleID: 1, Hash: "h"},
		"no hash":        {Seq: 7, SourceID: box.SourceID, SourceBundleID: 1},
	} {
		var proto *wire.ProtocolError
		if _, err := db.MarkCommitted(t.Context(), m, true); !errors.As(err, &proto) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 {
		if _, err := db.MarkCommitted(t.Context(), ok, true); err != nil {
			t.Fatal(err)
		}
		same(t, "outbox", rows(t, db, `SELECT state, remote_bundle_seq, remote_bundle_hash FROM _sync_outbox_bundle`), []string{"committed_remote|7|h"})
	}
	other := ok
	other.Seq = 8
	var proto *wire.ProtocolError
	if _, err := db.MarkCommitted(t.Context(), other, true); !errors.As(err, &proto) {
		t.Errorf("another bundle: %v", err)
	}
	if _, err := db.TakeConflict(t.Context(), wire.Conflict{}); !errors.As(err, &dberr) {
		t.Errorf("a conflict of what is committed: %v", err)
	}
}

// A frozen row that the server turns out to have, and that was edited since: the edit was made on what the server has. Found by
// simulation: the deletion of such a row was taken for one of a row that the server had never had, and lost.
func TestRequeueKnowsWhatTheServerShows(t *testing.T) {
	t.Parallel()
	const mine, other = `{"id":"u1","name":"mine"}`, `{"id":"u1","name":"another"}`
	for name, c := range map[string]struct {
		then  string
		image shadow
		want  string
	}{
		"deleted since":            {`DELETE FROM users`, live(9, mine), `users u1 DELETE on 9 state 9 base ` + mine},
		"edited since":             {`UPDATE users SET name = 'later'`, live(9, mine), `users u1 UPDATE on 9 {"id":"u1","name":"later"} state 9 base ` + mine},
		"another's row":            {`UPDATE users SET name = 'later'`, live(9, other), `users u1 INSERT on 0 {"id":"u1","name":"later"} shadow 9`},
		"nothing happened to it":   {``, live(9, mine), `users u1 INSERT on 0 ` + mine + ` shadow 9`},
		"gone again on the server": {`UPDATE users SET name = 'later'`, gone(9), `users u1 INSERT on 0 {"id":"u1","name":"later"} shadow 9 deleted`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := synced(t, testDB(t, usersDDL, "users"))
			edit(t, db, wire.OpInsert)
			freeze(t, db, local.FreezeRequest{})
			if c.then != "" {
				exec(t, db, c.then)
			}
			cast(t, db, "users", keyOf("u1"), c.image)
			if err := db.RequeueOutbox(t.Context()); err != nil {
				t.Fatal(err)
			}
			verify(t, db)
			same(t, "intents", intents(t, db), []string{c.want})
		})
	}
}

// Whatever is written while a push is on its way: putting it back loses no intent, replaces no newer content, keeps
// bases, and keeps the order in which rows became dirty.
func TestRequeueNeitherLosesNorReorders(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	rapid.Check(t, func(rt *rapid.T) {
		asServer(t, db, `DELETE FROM users`, `DELETE FROM _sync_row_state`, `DELETE FROM _sync_dirty_rows`, `DELETE FROM _sync_base_rows`)
		id := rapid.IntRange(0, 7)
		for i := range 8 {
			if rapid.Bool().Draw(rt, "known") {
				serverRow(t, db, "users", fmt.Sprintf(`'%d', 'old'`, i), int64(i+1))
			}
		}
		write := func(stage string) {
			for n := range rapid.IntRange(0, 6).Draw(rt, stage) {
				at := fmt.Sprint(id.Draw(rt, "id"))
				if rapid.IntRange(0, 2).Draw(rt, "delete") == 0 {
					exec(t, db, `DELETE FROM users WHERE id = ?`, at)
				} else {
					exec(t, db, `INSERT INTO users VALUES (?, ?) ON CONFLICT DO UPDATE SET name = excluded.name`, at, fmt.Sprint(stage, n))
				}
			}
		}
		write("before")
		freeze(t, db, local.FreezeRequest{})
		frozen := rows(t, db, `SELECT key_json FROM _sync_outbox_rows ORDER BY row_ordinal`)
		was := map[string]string{}
		for _, r := range rows(t, db, `SELECT key_json || ' ' || base_row_version, key_json, op, local_payload FROM _sync_outbox_rows`) {
			was[r] = r
		}
		write("after")
		newer := rows(t, db, `SELECT key_json FROM _sync_dirty_rows WHERE key_json NOT IN (SELECT key_json FROM _sync_outbox_rows) ORDER BY dirty_ordinal`)
		edited := rows(t, db, `SELECT o.key_json || ' ' || o.base_row_version, d.key_json, d.op, d.payload FROM _sync_outbox_rows o JOIN _sync_dirty_rows d USING (key_json)`)
		untouched := rows(t, db, `SELECT key_json || ' ' || base_row_version, key_json, op, local_payload FROM _sync_outbox_rows WHERE key_json NOT IN (SELECT key_json FROM _sync_dirty_rows)`)
		for range 2 { // a second time there is nothing to put back
			if err := db.RequeueOutbox(t.Context()); err != nil {
				rt.Fatal(err)
			}
			verify(t, db)
		}
		order := rows(t, db, `SELECT key_json FROM _sync_dirty_rows ORDER BY dirty_ordinal`)
		if want := append(frozen, newer...); fmt.Sprint(order) != fmt.Sprint(want) {
			rt.Fatalf("order %v, want %v", order, want)
		}
		now := map[string]bool{}
		for _, r := range rows(t, db, `SELECT key_json || ' ' || base_row_version, key_json, op, payload FROM _sync_dirty_rows`) {
			now[r] = true
		}
		for _, r := range append(edited, untouched...) {
			if !now[r] {
				rt.Fatalf("%s is not among %v", r, now)
			}
		}
	})
}
