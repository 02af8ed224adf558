package sqlite

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

// Bundles of so many rows that no trigger fires, a part of which are here already, at places that have nothing to do with
// those of the batches: each row gets exactly its new content and version.
func TestBatchesOfNewAndKnownRows(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	rnd := rand.New(rand.NewSource(seed))
	const n = 3 * manyRows
	for _, known := range []int{0, 1, n / 50, n / 2, n} {
		order, values := rnd.Perm(n), rnd.Perm(n)
		t.Run(fmt.Sprint(known, " known"), func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, `CREATE TABLE tagged (tag TEXT UNIQUE, id TEXT PRIMARY KEY NOT NULL, name TEXT)`, "tagged")
			tagged := func(i int, name string) wire.Row {
				return put("tagged", fmt.Sprintf("k%05d", i), fmt.Sprintf(`"tag":"t%d","name":%q`, values[i], name))
			}
			var first, second []wire.Row
			for _, i := range order[:known] {
				first = append(first, tagged(i, "old"))
			}
			for i := range n {
				second = append(second, tagged(i, fmt.Sprint("new ", i)))
			}
			if known > 0 {
				pulled(t, db, bundle(1, first...))
			} else {
				attachAt(t, db, 1)
			}
			out := pulled(t, db, bundle(2, second...))
			verify(t, db)
			same(t, fmt.Sprint("seed ", seed, ": rows"), out.Rows, int64(n))
			same(t, fmt.Sprint("seed ", seed, ": contents"), number(t, db, `SELECT count(*) FROM tagged WHERE name = 'new ' || CAST(substr(id, 2) AS INTEGER)`), int64(n))
			same(t, fmt.Sprint("seed ", seed, ": versions"), number(t, db, `SELECT count(*) FROM _sync_row_state WHERE row_version = 2 AND deleted = 0`), int64(n))
		})
	}
}
