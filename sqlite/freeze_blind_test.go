package sqlite

import (
	"math"
	"testing"

	"github.com/oversqlite/oversqlite/local"
)

// TestBlindDeletionsAreSeenWhoeverMadeThem: what a freeze has seen is not relied on once anybody else has written.
func TestBlindDeletionsAreSeenWhoeverMadeThem(t *testing.T) {
	t.Parallel()
	const blind = `DELETE FROM _sync_base_rows WHERE key_json = '{"id":"c"}'`
	for who, write := range map[string]func(*testing.T, *DB){
		"the application": func(t *testing.T, db *DB) { exec(t, db, blind) },
		"ours":            func(t *testing.T, db *DB) { asServer(t, db, blind) },
	} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			db := synced(t, testDB(t, graphDDL, "roots", "nodes", "xs", "ys"))
			for _, id := range []string{"a", "b", "c"} {
				serverRow(t, db, "nodes", `'`+id+`', NULL, NULL`, 1)
				exec(t, db, `DELETE FROM nodes WHERE id = ?`, id)
			}
			freeze(t, db, local.FreezeRequest{MaxRows: 1})
			nodes := db.byName["nodes"]
			if _, ok := db.conn.sees[nodes]; !ok {
				t.Fatal("what was seen is not kept")
			}
			write(t, db)
			if err := db.read(t.Context(), "test", func() error {
				at, err := db.lastBlind(nodes)
				if err == nil && at == math.MinInt64 {
					t.Error("a deletion without its base row is not seen")
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			mustVerify(t, db)
		})
	}
}
