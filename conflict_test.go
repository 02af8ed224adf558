package oversqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
)

// TestConflicts plays the table of conflicts: what was done here, what the server holds, what the resolver answers.
// Each case ends with both devices and the server the same.
func TestConflicts(t *testing.T) {
	t.Parallel()
	const key = "11111111-1111-4111-8111-111111111111"
	type effect struct {
		title string // of the row at the end; "" it is gone
	}
	merged := func(c oversqlite.Conflict) oversqlite.Resolution {
		var row map[string]any
		if err := json.Unmarshal(c.Local, &row); err != nil {
			panic(err)
		}
		row["title"] = "merged"
		payload, err := json.Marshal(row)
		if err != nil {
			panic(err)
		}
		return oversqlite.KeepMerged{Payload: payload}
	}
	accept := func(oversqlite.Conflict) oversqlite.Resolution { return oversqlite.AcceptServer{} }
	keep := func(oversqlite.Conflict) oversqlite.Resolution { return oversqlite.KeepLocal{} }
	resolutions := []struct {
		name string
		do   func(oversqlite.Conflict) oversqlite.Resolution
	}{{"accept server", accept}, {"keep local", keep}, {"keep merged", merged}}
	cases := []struct {
		name   string
		known  bool   // the row is known to both before
		local  string // what device a does
		remote string // what device b does
		op     oversqlite.Op
		want   [3]effect // by resolution
	}{
		{"insert, live", false, `INSERT INTO notes (id, title) VALUES (?, 'local')`, `INSERT INTO notes (id, title) VALUES (?, 'remote')`, oversqlite.OpInsert,
			[3]effect{{"remote"}, {"local"}, {"merged"}}},
		{"update, live", true, `UPDATE notes SET title = 'local' WHERE id = ?`, `UPDATE notes SET title = 'remote' WHERE id = ?`, oversqlite.OpUpdate,
			[3]effect{{"remote"}, {"local"}, {"merged"}}},
		{"update, deleted", true, `UPDATE notes SET title = 'local' WHERE id = ?`, `DELETE FROM notes WHERE id = ?`, oversqlite.OpUpdate,
			[3]effect{{""}, {"local"}, {"merged"}}},
		{"delete, live", true, `DELETE FROM notes WHERE id = ?`, `UPDATE notes SET title = 'remote' WHERE id = ?`, oversqlite.OpDelete,
			[3]effect{{"remote"}, {""}, {"!"}}},
		{"delete, deleted", true, `DELETE FROM notes WHERE id = ?`, `DELETE FROM notes WHERE id = ?`, oversqlite.OpDelete,
			[3]effect{{""}, {""}, {""}}},
	}
	for _, c := range cases {
		for i, resolution := range resolutions {
			t.Run(c.name+"/"+resolution.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				var seen []oversqlite.Conflict
				a := w.ready("ann", func(cfg *oversqlite.Config) {
					cfg.Resolver = oversqlite.ResolverFunc(func(_ context.Context, c oversqlite.Conflict) (oversqlite.Resolution, error) {
						seen = append(seen, c)
						return resolution.do(c), nil
					})
				})
				if c.known {
					a.exec(`INSERT INTO notes (id, title, body) VALUES (?, 'base', 'b')`, key)
				}
				other := a.note("bystander")
				a.sync()
				b := w.ready("ann")
				b.exec(c.remote, key)
				b.sync()
				a.exec(c.local, key)
				a.exec(`UPDATE notes SET title = 'bystander too' WHERE id = ?`, other)
				_, err := a.Sync(t.Context())
				want := c.want[i].title
				if want == "!" {
					var invalid *oversqlite.InvalidConflictResolutionError
					if !errors.As(err, &invalid) || invalid.Table != "notes" {
						t.Fatal(err)
					}
					if s := a.Status(); s.UploadBlocked == nil || s.UploadBlocked.Since.IsZero() {
						t.Fatalf("%+v", s)
					}
					if s, err := a.PendingSyncStatus(t.Context()); err != nil || !s.HasPendingSyncData {
						t.Fatalf("the intent is gone: %+v %v", s, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				converged(a, b)
				if got := a.title(key); got != want {
					t.Fatalf("title %q, want %q", got, want)
				}
				if b.title(other) != "bystander too" {
					t.Fatal("a row without a conflict was not pushed")
				}
				if c.name == "delete, deleted" { // settled without asking: both want the same
					return
				}
				if len(seen) != 1 {
					t.Fatalf("asked %d times", len(seen))
				}
				got := seen[0]
				if got.Schema != "main" || got.Table != "notes" || got.Key["id"] != key || got.LocalOp != c.op {
					t.Fatalf("%+v", got)
				}
				if (got.LocalOp == oversqlite.OpDelete) != (got.Local == nil) || got.ServerRowDeleted != (got.Server == nil) {
					t.Fatalf("%+v", got)
				}
				if c.known && (got.Base == nil || got.BaseRowVersion == 0) || got.ServerRowVersion <= got.BaseRowVersion {
					t.Fatalf("%+v", got)
				}
			})
		}
	}
}

// A resolver that fails in any way costs nothing but the push: the engine lives, the intent stays, downloads go on.
func TestResolversThatFail(t *testing.T) {
	t.Parallel()
	const key = "22222222-2222-4222-8222-222222222222"
	cause := errors.New("no idea")
	cases := map[string]struct {
		resolve func(context.Context, oversqlite.Conflict) (oversqlite.Resolution, error)
		check   func(error) bool
	}{
		"panics": {func(context.Context, oversqlite.Conflict) (oversqlite.Resolution, error) { panic("no idea") }, nil},
		"fails": {func(context.Context, oversqlite.Conflict) (oversqlite.Resolution, error) { return nil, cause },
			func(err error) bool { return errors.Is(err, cause) }},
		"answers nothing": {func(context.Context, oversqlite.Conflict) (oversqlite.Resolution, error) { return nil, nil }, nil},
		"takes too long": {func(ctx context.Context, _ oversqlite.Conflict) (oversqlite.Resolution, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, nil},
		"merges to garbage": {func(context.Context, oversqlite.Conflict) (oversqlite.Resolution, error) {
			return oversqlite.KeepMerged{Payload: []byte(`{"id":`)}, nil
		}, nil},
		"merges too few columns": {func(_ context.Context, c oversqlite.Conflict) (oversqlite.Resolution, error) {
			return oversqlite.KeepMerged{Payload: []byte(`{"id":"` + c.Key["id"] + `"}`)}, nil
		}, nil},
		"merges to another key": {func(_ context.Context, c oversqlite.Conflict) (oversqlite.Resolution, error) {
			return oversqlite.KeepMerged{Payload: []byte(`{"id":"x","title":"t","body":null,"stars":0,"weight":null,"slug":null}`)}, nil
		}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.ready("ann", func(cfg *oversqlite.Config) {
				cfg.Resolver = oversqlite.ResolverFunc(c.resolve)
				cfg.ResolveTimeout = 20 * time.Millisecond
			})
			b := w.ready("ann")
			b.exec(`INSERT INTO notes (id, title) VALUES (?, 'remote')`, key)
			b.sync()
			a.exec(`INSERT INTO notes (id, title) VALUES (?, 'local')`, key)
			other := b.note("comes in all the same")
			b.sync()
			r, err := a.Sync(t.Context())
			var invalid *oversqlite.InvalidConflictResolutionError
			if !errors.As(err, &invalid) || invalid.Table != "notes" || invalid.Reason == "" || invalid.Retryable() {
				t.Fatal(err)
			}
			if c.check != nil && !c.check(err) {
				t.Fatalf("the cause is lost: %v", err)
			}
			if a.title(other) == "" || r.Remote != oversqlite.AppliedIncremental || !r.Status.Pending.HasPendingSyncData {
				t.Fatalf("the download did not go on: %+v", r)
			}
			if s := a.Status(); s.UploadBlocked == nil || s.LastError == nil {
				t.Fatalf("%+v", s)
			}
			if a.title(key) != "local" {
				t.Fatal("the local row was touched")
			}
			_ = a.Close()
			// With another resolver all is well.
			a = w.deviceAt("ann", a.path, func(cfg *oversqlite.Config) { cfg.Resolver = oversqlite.ClientWins })
			a.open().attach()
			converged(a, b)
			if b.title(key) != "local" || a.Status().UploadBlocked != nil {
				t.Fatalf("%+v", a.Status())
			}
		})
	}
}

func TestBuiltInResolversEndToEnd(t *testing.T) {
	t.Parallel()
	const key = "33333333-3333-4333-8333-333333333333"
	cases := []struct {
		name          string
		resolver      oversqlite.Resolver
		local, remote string
		want          string
	}{
		{"last writer wins, local later", oversqlite.LastWriterWins("stars"), `title = 'l', stars = 7`, `title = 'r', stars = 6`, "[l base 7 <nil>]"},
		{"last writer wins, server later", oversqlite.LastWriterWins("Stars"), `title = 'l', stars = 6`, `title = 'r', stars = 7`, "[r base 7 <nil>]"},
		{"merge", oversqlite.MergeColumns(oversqlite.ServerWins), `title = 'l'`, `body = 'r', weight = 0.1`, "[l r 0 0.1]"},
		{"merge, one column on both sides, server", oversqlite.MergeColumns(nil), `title = 'l', stars = 1`, `title = 'r', body = 'r'`, "[r r 1 <nil>]"},
		{"merge, one column on both sides, local", oversqlite.MergeColumns(oversqlite.ClientWins), `title = 'l', stars = 1`, `title = 'r', body = 'r'`, "[l r 1 <nil>]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.ready("ann", func(cfg *oversqlite.Config) { cfg.Resolver = c.resolver })
			a.exec(`INSERT INTO notes (id, title, body) VALUES (?, 'base', 'base')`, key)
			a.sync()
			b := w.ready("ann")
			b.exec(`UPDATE notes SET `+c.remote+` WHERE id = ?`, key)
			b.sync()
			a.exec(`UPDATE notes SET `+c.local+` WHERE id = ?`, key)
			converged(a, b)
			var title, body, stars, weight any
			if err := b.DB().QueryRow(`SELECT title, body, stars, weight FROM notes WHERE id = ?`, key).Scan(&title, &body, &stars, &weight); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint([]any{title, body, stars, weight}); got != c.want {
				t.Fatalf("%s, want %s", got, c.want)
			}
		})
	}
}

// Many conflicts in one push are settled by one call.
func TestK10_ManyConflictsInOneCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann", func(c *oversqlite.Config) { c.Resolver = oversqlite.ClientWins })
	var ids []string
	for i := range 40 {
		ids = append(ids, a.note(fmt.Sprint("note ", i)))
	}
	a.sync()
	b := w.ready("ann")
	b.exec(`UPDATE notes SET title = 'remote'`)
	b.sync()
	a.exec(`UPDATE notes SET body = 'local'`)
	r, err := a.PushPending(t.Context())
	if err != nil || r.Outcome != oversqlite.Committed || r.Status.Pending.HasPendingSyncData {
		t.Fatalf("%+v %v", r, err)
	}
	converged(a, b)
	for _, id := range ids {
		if b.title(id) == "remote" {
			t.Fatal("a local change was given up")
		}
	}
}
