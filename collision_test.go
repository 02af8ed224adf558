package oversqlite_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite"
)

// What is pending here and what the server has now exclude each other: a row that was changed on both sides holds a
// unique value that another row has got there meanwhile, or refers to a parent that is gone there. Neither a snapshot nor
// a bundle can be laid down around that. The changes in its way are pushed first, which has the conflict decided; then
// there is nothing in its way.
func TestWhatCollidesWithPendingChangesComesInAfterThem(t *testing.T) {
	t.Parallel()
	const before = `
INSERT INTO notes (id, title, slug) VALUES ('1', 'one', 'x'), ('2', 'two', 'y');
INSERT INTO tags (id, note_id, name) VALUES ('t', '1', 'tag');`
	const then = `;;` // in a push of its own
	cases := []struct{ name, local, remote string }{
		{"unique", `UPDATE notes SET title = 'local' WHERE id = '1'`,
			`UPDATE notes SET slug = 'z' WHERE id = '1'; UPDATE notes SET slug = 'x' WHERE id = '2'`},
		{"unique, a new row", `UPDATE notes SET title = 'local' WHERE id = '1'`,
			`UPDATE notes SET slug = 'z' WHERE id = '1'; INSERT INTO notes (id, title, slug) VALUES ('3', 'three', 'x')`},
		{"parent", `UPDATE tags SET name = 'local' WHERE id = 't'`,
			`UPDATE tags SET note_id = '2' WHERE id = 't'; DELETE FROM notes WHERE id = '1'`},
		{"a new parent", `UPDATE tags SET name = 'local' WHERE id = 't'`,
			`INSERT INTO notes (id, title) VALUES ('3', 'three'); UPDATE tags SET note_id = '3' WHERE id = 't'; DELETE FROM notes WHERE id = '1'`},
		{"swapped", `UPDATE notes SET title = 'local' WHERE id = '1'`,
			`UPDATE notes SET slug = 'z' WHERE id = '1'; UPDATE notes SET slug = 'x' WHERE id = '2'` + then + `UPDATE notes SET slug = 'y' WHERE id = '1'`},
		{"deleted where a new parent came", `DELETE FROM tags WHERE id = 't'`,
			`INSERT INTO notes (id, title) VALUES ('3', 'three'); UPDATE tags SET note_id = '3' WHERE id = 't'; DELETE FROM notes WHERE id = '1'`},
	}
	verbs := []struct {
		name string
		call func(context.Context, *oversqlite.Engine) error
	}{
		{"Rebuild", func(ctx context.Context, e *oversqlite.Engine) error { _, err := e.Rebuild(ctx); return err }},
		{"Sync", func(ctx context.Context, e *oversqlite.Engine) error { _, err := e.Sync(ctx); return err }},
		{"PullToStable", func(ctx context.Context, e *oversqlite.Engine) error { _, err := e.PullToStable(ctx); return err }},
		{"PushPending", func(ctx context.Context, e *oversqlite.Engine) error { _, err := e.PushPending(ctx); return err }},
	}
	for _, c := range cases {
		for _, gate := range []bool{false, true} {
			for _, verb := range verbs {
				t.Run(fmt.Sprintf("%s/gate %t/%s", c.name, gate, verb.name), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t)
					a, b := w.ready("ann"), w.ready("ann")
					a.exec(before)
					converged(a, b)
					for _, remote := range strings.Split(c.remote, then) {
						b.exec(remote)
						b.sync()
					}
					a.exec(c.local)
					if gate { // of a rebuild that did not come to an end
						ctx, cancel := context.WithCancel(t.Context())
						a.wire.set(nil, func(r *http.Request) {
							if strings.Contains(r.URL.Path, "/sync/snapshot-sessions") {
								cancel()
								<-r.Context().Done() // else the answer may come before the engine knows that nobody waits
							}
						})
						if _, err := a.Rebuild(ctx); !errors.Is(err, context.Canceled) {
							t.Fatal(err)
						}
						a.wire.set(nil, nil)
						if info, err := a.SourceInfo(t.Context()); err != nil || !info.RebuildRequired {
							t.Fatal(info, err)
						}
					}
					if err := verb.call(t.Context(), a.Engine); err != nil {
						t.Fatal(err)
					}
					if info, err := a.SourceInfo(t.Context()); err != nil || info.RebuildRequired {
						t.Fatal(info, err)
					}
					converged(a, b)
				})
			}
		}
	}
}
