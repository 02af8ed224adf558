package contracts

import (
	"testing"

	"github.com/oversqlite/oversqlite"
)

// invalidationCase is a case of invalidation/behavior: one call, and whether it says that tables have changed.
type invalidationCase struct {
	Action           string
	WatchTables      []string
	ExpectedEmission bool
}

var usersAndPosts = []tableConfig{{TableName: "users", SyncKeyColumnName: "id"}, {TableName: "posts", SyncKeyColumnName: "id"}}

// pair is two devices of one user.
type pair struct {
	t    *testing.T
	mock *mock
	a, b *client
}

func TestInvalidation(t *testing.T) {
	t.Parallel()
	each(t, "invalidation/behavior/basic.json", func(t *testing.T, d *dialect, c *invalidationCase) {
		p := &pair{t: t, mock: newMock(t, d, usersAndPosts)}
		call := p.prepare(c.Action)
		changes := p.b.engine.Subscribe(oversqlite.WithKinds(oversqlite.KindTablesChanged))
		defer changes.Close()
		call()
		told := map[string]bool{}
		// Everything that a call tells is told before it ends.
		for len(changes.C()) > 0 {
			changed := (<-changes.C()).(oversqlite.TablesChanged)
			if changed.Cause == oversqlite.CauseLocal {
				continue // what was written before the call, and is told by it
			}
			for _, table := range changed.Tables {
				told[table] = true
			}
		}
		for _, table := range c.WatchTables {
			same(t, "told of "+table, told[table], c.ExpectedEmission)
		}
	})
}

func (p *pair) device() *client {
	return newClient(p.t, p.mock, statements(appSchemas["users-posts"]), "main", usersAndPosts).mustOpen()
}

// both makes two attached devices.
func (p *pair) both() {
	p.a, p.b = p.device().mustAttach(), p.device().mustAttach()
	for _, c := range []*client{p.a, p.b} {
		p.must(c.engine.Rebuild(p.t.Context()))
	}
}

func (p *pair) must(_ any, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// insert writes a user on a device and pushes it.
func (p *pair) insert(c *client, id, name string) {
	p.t.Helper()
	c.sql([]string{`INSERT INTO users (id, name) VALUES ('` + id + `', '` + name + `')`}, false)
	p.must(c.engine.PushPending(p.t.Context()))
}

// prepare makes the devices of an action and returns the call that is watched.
func (p *pair) prepare(action string) func() {
	t, ctx := p.t, p.t.Context()
	detach := func(want oversqlite.DetachOutcome) func() {
		return func() {
			r, err := p.b.engine.Detach(ctx)
			if err != nil || r.Outcome != want {
				t.Fatalf("detach: %+v, %v", r, err)
			}
		}
	}
	switch action {
	case "incrementalPull":
		p.both()
		p.insert(p.a, "u1", "Ada")
		return func() { p.must(p.b.engine.PullToStable(ctx)) }
	case "snapshotHydrate":
		p.both()
		p.insert(p.a, "u1", "Ada")
		return func() { p.must(p.b.engine.Rebuild(ctx)) }
	case "committedReplay":
		p.b = p.device().mustAttach()
		p.must(p.b.engine.Rebuild(ctx))
		p.b.sql([]string{`INSERT INTO users (id, name) VALUES ('u1', 'Ada')`}, false)
		return func() { p.must(p.b.engine.PushPending(ctx)) }
	case "conflictRewrite":
		p.both()
		p.insert(p.a, "u1", "Original")
		p.must(p.b.engine.PullToStable(ctx))
		p.b.sql([]string{`UPDATE users SET name = 'Local' WHERE id = 'u1'`}, false)
		p.mock.force("users", "u1", 99, `{"id":"u1","name":"Server Wins"}`)
		return func() {
			p.must(p.b.engine.PushPending(ctx))
			same(t, "name", textOf(value(t, p.b.db(), `SELECT name FROM users WHERE id = 'u1'`)), "Server Wins")
		}
	case "syncUnion":
		p.both()
		p.b.sql([]string{
			`INSERT INTO users (id, name) VALUES ('local-user', 'Local')`,
			`INSERT INTO posts (id, user_id, title) VALUES ('p1', 'local-user', 'Post')`,
		}, false)
		p.insert(p.a, "remote-user", "Remote")
		return func() { p.must(p.b.engine.Sync(ctx)) }
	case "successfulDetach":
		p.both()
		p.insert(p.a, "u1", "Ada")
		p.must(p.b.engine.PullToStable(ctx))
		return detach(oversqlite.Detached)
	case "blockedDetach":
		p.b = p.device().mustAttach()
		p.b.sql([]string{`INSERT INTO users (id, name) VALUES ('u1', 'Ada')`}, false)
		return detach(oversqlite.BlockedUnsyncedData)
	case "noopDetach":
		p.b = p.device()
		p.b.sql([]string{`UPDATE _sync_operation_state SET kind = 'remote_replace', target_user_id = 'user-1', staged_snapshot_id = '',
snapshot_bundle_seq = 0, snapshot_row_count = 0, snapshot_byte_count = 0, snapshot_stage_complete = 0 WHERE singleton_key = 1`}, false)
		return detach(oversqlite.Detached)
	default:
		t.Fatalf("no action %q", action)
		return nil
	}
}
