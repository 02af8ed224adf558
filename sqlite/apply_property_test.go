package sqlite

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// model is a server with one table of the shape of users, and all that it ever was.
type model struct {
	seq     int64
	now     map[string]modelRow
	history map[string]map[int64]modelRow // key → version → row
	bundles []wire.Bundle
	pushes  map[int64]int64 // source bundle id of our source → bundle seq
}

type modelRow struct {
	version int64
	name    string
	deleted bool
}

func newModel() *model {
	return &model{now: map[string]modelRow{}, history: map[string]map[int64]modelRow{}, pushes: map[int64]int64{}}
}

// commit makes rows the next bundle.
func (m *model) commit(t testing.TB, source string, id int64, rows map[string]modelRow) wire.Bundle {
	m.seq++
	var out []wire.Row
	for key, r := range rows {
		r.version = m.seq
		m.now[key] = r
		if m.history[key] == nil {
			m.history[key] = map[int64]modelRow{}
		}
		m.history[key][m.seq] = r
		if r.deleted {
			out = append(out, removed("users", key))
		} else {
			out = append(out, put("users", key, name(r.name)))
		}
	}
	b := bundle(m.seq, out...)
	b.SourceID, b.SourceBundleID = source, id
	b = sealed(t, b)
	m.bundles = append(m.bundles, b)
	return b
}

// push commits an outbox under the rules of the protocol; false is a conflict.
func (m *model) push(t testing.TB, box local.Outbox, rows []wire.PushRow) (wire.Bundle, *wire.Conflict) {
	if seq, ok := m.pushes[box.SourceBundleID]; ok {
		return m.bundles[seq-1], nil
	}
	changed := map[string]modelRow{}
	for _, r := range rows {
		now, known := m.now[r.Key.Value]
		ok := known && !now.deleted && r.BaseRowVersion == now.version
		if r.Op == wire.OpInsert {
			ok = !known && r.BaseRowVersion == 0 || known && now.deleted && r.BaseRowVersion == now.version
		}
		if !ok {
			c := &wire.Conflict{Schema: r.Schema, Table: r.Table, Key: r.Key, Op: r.Op, BaseRowVersion: r.BaseRowVersion, ServerRowVersion: now.version, ServerRowDeleted: now.deleted}
			if known && !now.deleted {
				c.ServerRow = put("users", r.Key.Value, name(now.name)).Payload
			}
			return wire.Bundle{}, c
		}
		row := modelRow{deleted: r.Op == wire.OpDelete}
		if !row.deleted {
			row.name = nameIn(t, r.Payload)
		}
		changed[r.Key.Value] = row
	}
	b := m.commit(t, box.SourceID, box.SourceBundleID, changed)
	m.pushes[box.SourceBundleID] = b.Seq
	return b, nil
}

func nameIn(t testing.TB, payload []byte) string {
	t.Helper()
	row, err := classic(t).NewRowDecoder(&wire.Table{Schema: "main", Name: "users", Columns: []wire.Column{{Name: "id"}, {Name: "name"}}}).Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	return string(row[1].Bytes)
}

// snapshot is the server's rows now.
func (m *model) snapshot() (out []wire.Row) {
	for key, r := range m.now {
		if !r.deleted {
			out = append(out, at(r.version, put("users", key, name(r.name))))
		}
	}
	return out
}

// device is an engine's database under test.
type device struct {
	*rapid.T
	tb  testing.TB
	cfg Config
	db  *DB
	m   *model
}

// check is what must hold after every transaction: the engine's own invariant, and that every row without an intent is
// the server's at its version.
func (d *device) check(*rapid.T) {
	if err := d.db.Verify(context.Background()); err != nil {
		d.Fatal(err)
	}
	for _, line := range d.lines(`SELECT r.key_json ->> 'id', r.row_version, r.deleted, u.name FROM _sync_row_state r LEFT JOIN users u ON u.id = r.key_json ->> 'id'
WHERE NOT EXISTS (SELECT 1 FROM _sync_dirty_rows d WHERE d.key_json = r.key_json) AND NOT EXISTS (SELECT 1 FROM _sync_outbox_rows d WHERE d.key_json = r.key_json)`) {
		var key string
		var version int64
		var deleted bool
		var content *string
		if err := line(&key, &version, &deleted, &content); err != nil {
			d.Fatal(err)
		}
		want, known := d.m.history[key][version]
		switch {
		case !known:
			d.Fatalf("%s is said to be at version %d, which it never had", key, version)
		case want.deleted != deleted, deleted != (content == nil), content != nil && *content != want.name:
			d.Fatalf("%s at version %d is %v %v, the server had %+v", key, version, content, deleted, want)
		}
	}
}

// lines answers a query as functions that scan its rows.
func (d *device) lines(query string) (out []func(...any) error) {
	r, err := d.db.App().QueryContext(context.Background(), query)
	if err != nil {
		d.Fatal(err)
	}
	defer r.Close()
	for r.Next() {
		values := make([]any, 4)
		scan := make([]any, 4)
		for i := range values {
			scan[i] = &values[i]
		}
		if err := r.Scan(scan...); err != nil {
			d.Fatal(err)
		}
		out = append(out, func(to ...any) error {
			*to[0].(*string), *to[1].(*int64), *to[2].(*bool) = values[0].(string), values[1].(int64), values[2].(int64) != 0
			if s, ok := values[3].(string); ok {
				*to[3].(**string) = &s
			}
			return nil
		})
	}
	if err := r.Err(); err != nil {
		d.Fatal(err)
	}
	return out
}

// crashing runs a transaction that may be cut short at any point, and then again until it happens.
func (d *device) crashing(what string, fn func(ctx context.Context) error) {
	left := rapid.IntRange(0, 60).Draw(d.T, "polls before the crash")
	err := fn(&endingContext{Context: context.Background(), left: left})
	if err == nil {
		return
	}
	if !errors.Is(err, context.Canceled) {
		d.Fatalf("%s: %v", what, err)
	}
	if rapid.Bool().Draw(d.T, "reopen") {
		d.reopen()
	}
	if err := fn(context.Background()); err != nil {
		d.Fatalf("%s: %v", what, err)
	}
}

func (d *device) reopen() {
	if err := d.db.Close(); err != nil {
		d.Fatal(err)
	}
	db, err := Open(context.Background(), d.cfg)
	if err != nil {
		d.Fatal(err)
	}
	d.db = db
}

func (d *device) state() local.State {
	s, err := d.db.State(context.Background())
	if err != nil {
		d.Fatal(err)
	}
	return s
}

// edit writes rows as the application does.
func (d *device) edit(t *rapid.T) {
	key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "key")
	text := rapid.StringMatching(`[xyz]{1,3}`).Draw(t, "name")
	sql := rapid.SampledFrom([]string{
		`INSERT INTO users VALUES (?1, ?2) ON CONFLICT DO UPDATE SET name = excluded.name`,
		`INSERT OR REPLACE INTO users VALUES (?1, ?2)`,
		`UPDATE users SET name = ?2 WHERE id = ?1`,
		`DELETE FROM users WHERE id = ?1 AND ?2 = ?2`,
	}).Draw(t, "sql")
	if _, err := d.db.App().Exec(sql, key, text); err != nil {
		t.Fatal(err)
	}
}

// elsewhere commits a bundle of another device.
func (d *device) elsewhere(t *rapid.T) {
	rows := map[string]modelRow{}
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 1, 3, rapid.ID[string]).Draw(t, "keys") {
		now, known := d.m.now[key]
		if known && !now.deleted && rapid.Bool().Draw(t, "delete") {
			rows[key] = modelRow{deleted: true}
		} else {
			rows[key] = modelRow{name: rapid.StringMatching(`[XYZ]{1,3}`).Draw(t, "name")}
		}
	}
	d.m.commit(d.tb, "elsewhere", d.m.seq+1, rows)
}

// pull applies what the server has, as far as is drawn.
func (d *device) pull(t *rapid.T) {
	from := d.state().Attachment.Checkpoint
	to := from
	if from < d.m.seq {
		to = rapid.Int64Range(from, d.m.seq).Draw(t, "to")
	}
	d.pullTo(from, to, rapid.Bool().Draw(t, "staged"))
}

func (d *device) pullTo(from, to int64, staged bool) {
	if staged {
		for _, b := range d.m.bundles[from:to] {
			d.crashing("stage", func(ctx context.Context) error { return d.db.StageBundlePage(ctx, b.BundleMeta, -1, b.Rows) })
			d.crashing("apply staged", func(ctx context.Context) error {
				_, err := d.db.ApplyStaged(ctx, classic(d.tb), b.BundleMeta)
				return err
			})
		}
	} else {
		d.crashing("apply", func(ctx context.Context) error {
			out, err := d.db.ApplyBundles(ctx, classic(d.tb), d.m.bundles[from:to])
			if err == nil && (out.Foreign || out.RebuildRequired || out.Collision != nil || out.Checkpoint != to) {
				return fmt.Errorf("unexpected outcome %+v", out)
			}
			return err
		})
	}
}

// push settles, freezes and commits; how the commit becomes known here is drawn.
func (d *device) push(t *rapid.T) {
	ctx := context.Background()
	s := d.state()
	if s.Outbox.State == local.OutboxNone {
		settled, err := d.db.Settle(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		var answers []local.Resolution
		for _, c := range settled.Conflicts {
			answers = append(answers, local.Resolution{Conflict: c, Kind: rapid.SampledFrom([]local.ResolutionKind{local.AcceptServer, local.KeepLocal}).Draw(t, "answer")})
		}
		if len(answers) > 0 {
			if _, err := d.db.Resolve(ctx, answers); err != nil {
				t.Fatal(err)
			}
		}
		d.crashing("freeze", func(ctx context.Context) error {
			if d.state().Outbox.State != local.OutboxNone {
				return nil
			}
			_, err := d.db.Freeze(ctx, local.FreezeRequest{Contract: wire.ClassicContract})
			return err
		})
		if s = d.state(); s.Outbox.State == local.OutboxNone {
			return
		}
	}
	rows, err := d.db.OutboxRows(ctx, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := d.m.pushes[s.Outbox.SourceBundleID] != 0
	b, conflict := d.m.push(d.tb, s.Outbox, rows)
	if conflict != nil {
		d.crashing("conflict", func(ctx context.Context) error {
			if d.state().Outbox.State == local.OutboxNone {
				return nil
			}
			_, err := d.db.TakeConflict(ctx, *conflict)
			return err
		})
		return
	}
	mark := func(ctx context.Context) error {
		_, err := d.db.MarkCommitted(ctx, b.BundleMeta, false)
		return err
	}
	switch rapid.SampledFrom([]string{"lost", "replay", "frozen", "staged"}).Draw(t, "answer") {
	case "lost": // the answer to the commit; a later pull or push finds out
	case "replay":
		proof := known && s.Outbox.State == local.OutboxPrepared
		if !proof {
			d.crashing("mark", mark)
		}
		d.crashing("replay", func(ctx context.Context) error {
			_, err := d.db.Replay(ctx, classic(d.tb), b, proof)
			return err
		})
	case "frozen":
		d.crashing("mark", mark)
		d.crashing("replay frozen", func(ctx context.Context) error {
			_, _, err := d.db.ReplayFrozen(ctx, classic(d.tb), b.BundleMeta)
			return err
		})
	case "staged":
		d.crashing("stage", func(ctx context.Context) error { return d.db.StageBundlePage(ctx, b.BundleMeta, -1, b.Rows) })
		d.crashing("replay staged", func(ctx context.Context) error {
			_, err := d.db.ReplayStaged(ctx, classic(d.tb), b.BundleMeta, known && s.Outbox.State == local.OutboxPrepared)
			return err
		})
	}
}

// rebuild stages a snapshot, with local edits in the meantime, and applies it.
func (d *device) rebuild(t *rapid.T) {
	stage := d.m.snapshot()
	s := wire.SnapshotSession{ID: fmt.Sprint("s", d.m.seq), BundleSeq: d.m.seq, RowCount: int64(len(stage))}
	d.crashing("begin", func(ctx context.Context) error { return d.db.BeginStage(ctx, s) })
	d.crashing("page", func(ctx context.Context) error { return d.db.StageSnapshotPage(ctx, s, 0, stage) })
	if rapid.Bool().Draw(t, "edit meanwhile") {
		d.edit(t)
	}
	d.crashing("complete", func(ctx context.Context) error { return d.db.CompleteStage(ctx, s) })
	d.crashing("apply snapshot", func(ctx context.Context) error {
		_, err := d.db.ApplySnapshot(ctx, classic(d.tb), s)
		return err
	})
}

// TestHistoriesKeepTheInvariantAndConverge runs random histories of bundles, local edits, pushes, rebuilds and crashes
// against a model of the server. Every step keeps the invariant; at the end both sides are equal.
//
// Every history opens several databases, so unless -rapid.checks asks for a number, there are only a few.
func TestHistoriesKeepTheInvariantAndConverge(t *testing.T) {
	few := 20
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "rapid.checks" {
			few = -1
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		if few == 0 {
			return
		}
		defer func() {
			if rt.Failed() {
				few = -1 // what a failure is reduced to must be run, however often
			} else if few > 0 {
				few--
			}
		}()
		cfg := testConfig(t, usersDDL, tables("users")...)
		db, err := Open(context.Background(), cfg)
		if err != nil {
			rt.Fatal(err)
		}
		d := &device{T: rt, tb: t, cfg: cfg, db: db, m: newModel()}
		defer func() { _ = d.db.Close() }()
		attachAt(t, db, 0)
		rt.Repeat(map[string]func(*rapid.T){
			"":          d.check,
			"edit":      d.edit,
			"elsewhere": d.elsewhere,
			"pull":      d.pull,
			"push":      d.push,
			"rebuild":   d.rebuild,
			"reopen":    func(*rapid.T) { d.reopen() },
		})
		for round := 0; ; round++ {
			s := d.state()
			if !s.Pending.Any() && s.Attachment.Checkpoint == d.m.seq {
				break
			}
			if round > 100 {
				rt.Fatalf("no end: %+v", s)
			}
			d.pullTo(s.Attachment.Checkpoint, d.m.seq, false)
			d.check(rt)
			d.push(rt)
			d.check(rt)
		}
		want := map[string]string{}
		for key, r := range d.m.now {
			if !r.deleted {
				want[key] = r.name
			}
		}
		got := map[string]string{}
		for _, line := range d.lines(`SELECT id, 1, 0, name FROM users`) {
			var key string
			var version int64
			var deleted bool
			var content *string
			_ = line(&key, &version, &deleted, &content)
			got[key] = *content
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			rt.Fatalf("here %v, there %v", got, want)
		}
	})
}
