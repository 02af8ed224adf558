package e2e

import (
	"net/http"
	"testing"

	"github.com/oversqlite/oversqlite"
)

// One device takes away what another device's pending change rests on, and the server refuses that change for it: neither
// could go first. The change makes room, whatever the policy, and both directions are free.
func TestTheBlockedPair(t *testing.T) {
	for name, c := range map[string]struct {
		onDelete string
		theirs   string // the other device's change, before
		ours     string
		table    string // of the change that makes room
		parents  int    // rows in the end
		children int
	}{
		"a parent is deleted, without a cascade": {"", `DELETE FROM parents WHERE id = 'p'`, `INSERT INTO children VALUES ('c', 'p', 'mine')`, "children", 1, 0},
		"a parent is deleted, with a cascade":    {"ON DELETE CASCADE", `DELETE FROM parents WHERE id = 'p'`, `INSERT INTO children VALUES ('c', 'p', 'mine')`, "children", 1, 0},
		"a unique value is taken":                {"", `UPDATE parents SET code = 'taken' WHERE id = 'p'`, `INSERT INTO parents VALUES ('q', 'taken', 'mine')`, "parents", 2, 0},
	} {
		for _, policy := range []oversqlite.PoisonPolicy{oversqlite.PoisonHold, oversqlite.PoisonIsolate} {
			for _, verb := range []string{"sync", "pull", "rebuild"} {
				t.Run(name+", "+string(policy)+", "+verb, func(t *testing.T) {
					t.Parallel()
					w := pickyWorld(t, c.onDelete)
					a := pickyDevice(t, w, "pair", http.DefaultTransport, c.onDelete)
					b := pickyDevice(t, w, "pair", http.DefaultTransport, c.onDelete, func(cfg *oversqlite.Config) { cfg.PoisonPolicy = policy })
					appWrite(t, a, `INSERT INTO parents VALUES ('p', NULL, 'old')`)
					mustSync(t, a)
					mustSync(t, b)
					appWrite(t, a, c.theirs)
					mustSync(t, a)
					appWrite(t, b, c.ours)
					appWrite(t, b, `INSERT INTO parents VALUES ('good', NULL, 'good')`)
					var err error
					switch verb {
					case "sync":
						_, err = b.Sync(t.Context())
					case "pull":
						_, err = b.PullToStable(t.Context())
					case "rebuild":
						_, err = b.Rebuild(t.Context())
					}
					if err != nil {
						t.Fatal(err)
					}
					q := inQuarantine(t, b)
					if len(q) != 1 || q[0].Table != c.table || !q[0].Displaced || q[0].Code != "push_session_commit_failed" || q[0].Op != oversqlite.OpInsert || len(q[0].Local) == 0 {
						t.Fatalf("%+v", q)
					}
					// Both directions are free.
					appWrite(t, b, `INSERT INTO parents VALUES ('later', NULL, 'later')`)
					mustSync(t, b)
					appWrite(t, a, `INSERT INTO parents VALUES ('theirs', NULL, 'theirs')`)
					mustSync(t, a)
					mustSync(t, b)
					if s := b.Status(); s.UploadBlocked != nil || s.Pending.Rows != 1 || s.Pending.Quarantined != 1 || s.LastError != nil {
						t.Errorf("%+v", s)
					}
					for i, e := range []*oversqlite.Engine{a, b} {
						var parents, children int
						if err := e.DB().QueryRow(`SELECT (SELECT count(*) FROM parents), (SELECT count(*) FROM children)`).Scan(&parents, &children); err != nil {
							t.Fatal(err)
						}
						if parents != c.parents+2 || children != c.children {
							t.Errorf("device %d: %d parents, %d children", i, parents, children)
						}
					}
					if p, n := len(serverRows(t, w, "pair", "parents")), len(serverRows(t, w, "pair", "children")); p != c.parents+2 || n != c.children {
						t.Errorf("server: %d parents, %d children", p, n)
					}
					// What was set aside can be taken up again, by writing its row.
					if c.table == "children" {
						appWrite(t, b, `INSERT INTO children VALUES ('c', 'good', 'mine after all')`)
					} else {
						appWrite(t, b, `INSERT INTO parents VALUES ('q', 'free', 'mine after all')`)
					}
					mustSync(t, b)
					if left := inQuarantine(t, b); len(left) != 0 {
						t.Errorf("%+v", left)
					}
					if s := b.Status(); s.Pending.Rows != 0 {
						t.Errorf("%+v", s)
					}
				})
			}
		}
	}
}
