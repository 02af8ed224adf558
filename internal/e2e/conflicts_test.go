package e2e

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/internal/race"
)

// TestK10_ManyConflictsInOnePush: of a thousand pending rows half are in conflict with what another device has pushed. One
// call of PushPending settles them all, with at most three uploads of the set, however the resolver decides.
func TestK10_ManyConflictsInOnePush(t *testing.T) {
	race.Skip(t, "one call with a thousand rows")
	const n, conflicts, chunk, mostUploads = 1000, 500, 100, 3
	for name, resolver := range map[string]oversqlite.Resolver{"client wins": oversqlite.ClientWins, "server wins": oversqlite.ServerWins} {
		t.Run(name, func(t *testing.T) {
			w := pickyWorld(t, "")
			via := &tollgate{}
			a := pickyDevice(t, w, "many", &tollgate{}, "")
			b := pickyDevice(t, w, "many", via, "", func(c *oversqlite.Config) {
				c.Resolver, c.Limits.PushChunkRows = resolver, chunk
			})
			manyParents(t, a, n)
			mustSync(t, a)
			mustSync(t, b)
			appWrite(t, a, fmt.Sprintf(`UPDATE parents SET note = 'theirs' WHERE id < 'p%06d'`, conflicts))
			mustSync(t, a)
			appWrite(t, b, `UPDATE parents SET note = 'mine'`)
			requests, chunks := via.requests.Load(), via.chunks.Load()
			began := time.Now()
			r, err := b.PushPending(t.Context())
			took := time.Since(began)
			if err != nil || r.Outcome != oversqlite.Committed || r.Status.Pending.PendingRowCount != 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			requests, chunks = via.requests.Load()-requests, via.chunks.Load()-chunks
			t.Logf("%d conflicts among %d rows: %d requests, %d chunks of %d rows, %v", conflicts, n, requests, chunks, chunk, took.Round(time.Millisecond))
			if chunks > mostUploads*n/chunk {
				t.Errorf("%d chunks of %d rows: more than %d uploads of the set", chunks, chunk, mostUploads)
			}
			// Per upload a create, the chunks, a commit and the rows of what was committed; the pull in between; capabilities.
			if most := chunks + mostUploads*3 + 6; requests > most {
				t.Errorf("%d requests, %d of them chunks: at most %d", requests, chunks, most)
			}
			want := map[string]int{"mine": n}
			if name == "server wins" {
				want = map[string]int{"mine": n - conflicts, "theirs": conflicts}
			}
			mustSync(t, a)
			for i, e := range []*oversqlite.Engine{a, b} {
				if got := notes(t, e.DB()); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("device %d: %v, want %v", i, got, want)
				}
			}
		})
	}
}

// notes counts the rows by their note.
func notes(t *testing.T, db *sql.DB) map[string]int {
	t.Helper()
	rows, err := db.Query(`SELECT note, count(*) FROM parents GROUP BY note`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]int{}
	for rows.Next() {
		var note string
		var n int
		if err := rows.Scan(&note, &n); err != nil {
			t.Fatal(err)
		}
		out[note] = n
	}
	return out
}
