package sqlite

import (
	"fmt"
	"testing"

	"github.com/oversqlite/oversqlite/local"
)

// What is void takes no room in a bundle, is never pushed, and hides nothing that is behind it; what is behind the end of a
// bundle is left to the next.
func TestFreezeDropsWhatIsVoidOnTheWay(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	for i := range 8 {
		id := fmt.Sprint(i)
		serverRow(t, db, "users", `'`+id+`', 'old'`, 5)
		exec(t, db, `UPDATE users SET name = 'new' WHERE id = ?`, id)
		if i != 2 && i != 4 && i != 6 {
			exec(t, db, `UPDATE users SET name = 'old' WHERE id = ?`, id)
		}
		exec(t, db, `INSERT INTO users VALUES (?, 'n')`, "short"+id)
		exec(t, db, `DELETE FROM users WHERE id = ?`, "short"+id)
	}
	f := freeze(t, db, local.FreezeRequest{MaxRows: 2})
	same(t, "first", outline(sent(t, db)), []string{"users 2 UPDATE 5", "users 4 UPDATE 5"})
	same(t, "more", f.More, true)
	same(t, "left", rows(t, db, `SELECT key_json ->> 'id' FROM _sync_dirty_rows WHERE op <> 'DELETE' ORDER BY 1`), []string{"6", "7"})
	same(t, "bases", rows(t, db, `SELECT key_json ->> 'id' FROM _sync_base_rows ORDER BY 1`), []string{"2", "4", "6", "7"})
	commit(t, db)
	f = freeze(t, db, local.FreezeRequest{MaxRows: 2})
	same(t, "second", outline(sent(t, db)), []string{"users 6 UPDATE 5"})
	same(t, "more", f.More, false)
	same(t, "dirty", dirty(t, db), []string{})
	same(t, "bases", rows(t, db, `SELECT key_json ->> 'id' FROM _sync_base_rows`), []string{"6"})
	same(t, "states", states(t, db)[:3], []string{"users 0 5", "users 1 5", "users 2 1"})
}

// Void deletions in a group of tables that refer to each other bind no other deletions together.
func TestFreezeIsNotHeldTogetherByWhatIsVoid(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, graphDDL, "roots", "nodes", "xs", "ys"))
	for _, id := range []string{"a", "b"} {
		serverRow(t, db, "nodes", `'`+id+`', NULL, NULL`, 1)
		exec(t, db, `DELETE FROM nodes WHERE id = ?`, id)
	}
	exec(t, db, `INSERT INTO nodes VALUES ('short', NULL, NULL)`)
	exec(t, db, `DELETE FROM nodes WHERE id = 'short'`)
	for _, id := range []string{"a", "b"} {
		f := freeze(t, db, local.FreezeRequest{MaxRows: 1})
		same(t, "bundle", outline(sent(t, db)), []string{"nodes " + id + " DELETE 1"})
		same(t, "more", f.More, id == "a")
		commit(t, db)
	}
	same(t, "dirty", dirty(t, db), []string{})
}
