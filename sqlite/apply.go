package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// errCareful says that rows cannot be laid down the fast way: something collides. The transaction is rolled back and
// tried again bundle by bundle, which is slower and finds out what.
var errCareful = errors.New("sqlite: rows collide")

// ApplyBundles applies pulled bundles, each whole, together with the checkpoint, in one transaction. The first one
// must follow the checkpoint and each the one before it without a gap; bundles at or below the checkpoint are passed
// over, they have been applied.
//
// A row with an intent is not touched, its newest image becomes the intent's shadow. A bundle with the tuple of the
// outbox is the outbox's own push coming back: it settles the outbox. When a bundle collides with intents, nothing of
// it is applied, Applied.Collision says why, and the bundles before it are applied. When it collides with rows that
// have none, or breaks a constraint of a table, the server sent what the local schema cannot hold: that is a
// *wire.ProtocolError, again with the bundles before it applied and counted in Applied.
//
// Triggers of the application's on managed tables fire for what is applied here. What they change in managed tables
// is not captured.
func (db *DB) ApplyBundles(ctx context.Context, c wire.Contract, bundles []wire.Bundle) (local.Applied, error) {
	rows := 0
	for i := range bundles {
		rows += len(bundles[i].Rows)
	}
	var out local.Applied
	err := db.attempts(ctx, "apply bundles", rows, func(careful bool) (stop error, err error) {
		p, err := db.newPull(c, careful)
		if err != nil {
			return nil, err
		}
		defer p.close()
		stop, err = p.bundles(bundles)
		out = p.out
		return stop, err
	})
	return out, err
}

// ApplyStaged applies the bundle whose pages are in the bundle stage, as ApplyBundles does, after checking its count
// and its hash from the stage, and empties the stage.
func (db *DB) ApplyStaged(ctx context.Context, c wire.Contract, meta wire.BundleMeta) (local.Applied, error) {
	var out local.Applied
	err := db.attempts(ctx, "apply staged bundle", int(max(meta.RowCount, 0)), func(careful bool) (stop error, err error) {
		p, err := db.newPull(c, careful)
		if err != nil {
			return nil, err
		}
		defer p.close()
		meta := meta
		if err := db.verifyStage(c, &meta); err != nil {
			return nil, err
		}
		stop, err = p.staged(meta)
		out = p.out
		if err != nil {
			return nil, err
		}
		return stop, db.conn.run(`DELETE FROM _sync_bundle_stage`)
	})
	return out, err
}

// attempts runs fn in a transaction in apply mode; if something collides, once more in another one, carefully. rows is
// about how many rows it writes. The error stop is returned although the transaction is committed.
func (db *DB) attempts(ctx context.Context, op string, rows int, fn func(careful bool) (stop error, err error)) error {
	release, err := db.hold(ctx)
	if err != nil {
		return db.failCtx(ctx, op, err)
	}
	defer release()
	quiet, err := db.prepareBulk(rows)
	if err != nil {
		return db.failCtx(ctx, op, err)
	}
	defer quiet()
	var stop error
	for _, careful := range []bool{false, true} {
		err = db.applying(ctx, op, func() (err error) {
			stop, err = fn(careful)
			return err
		})
		if !errors.Is(err, errCareful) {
			break
		}
	}
	if err != nil {
		return err
	}
	return stop
}

// quietRows is from how many rows on it pays to switch triggers off, for which every statement is compiled anew.
const quietRows = 500

// prepareBulk prepares the connection for rows of the server. The returned function undoes what must not last.
//
// The triggers of ours do nothing in apply mode but take a third of the time of a write, so for much work triggers
// are switched off, unless the application has some of its own on these tables: those have a right to fire.
func (db *DB) prepareBulk(rows int) (undo func(), err error) {
	undo = func() {}
	scratch := snapshotScratch
	if db.hasReferences() {
		scratch += `;` + referenceScratch
	}
	if err := db.conn.raw.Exec(scratch); err != nil {
		return undo, err
	}
	if rows < quietRows {
		return undo, nil
	}
	theirs, err := db.appHasTriggers()
	if err != nil || theirs {
		return undo, err
	}
	if _, err := db.conn.raw.Config(sqlite3.DBCONFIG_ENABLE_TRIGGER, false); err != nil {
		return undo, err
	}
	return func() { _, _ = db.conn.raw.Config(sqlite3.DBCONFIG_ENABLE_TRIGGER, true) }, nil
}

// appHasTriggers reports whether there are triggers on managed tables that are not ours.
func (db *DB) appHasTriggers() (bool, error) {
	ours, err := db.conn.ourTriggers()
	if err != nil {
		return false, err
	}
	theirs := false
	_, err = db.conn.each(`SELECT name, lower(tbl_name) FROM sqlite_schema WHERE type = 'trigger'`, func(s *sqlite3.Stmt) error {
		if _, ok := ours[s.ColumnText(0)]; !ok && db.byName[s.ColumnText(1)] != nil {
			theirs = true
		}
		return nil
	})
	return theirs, err
}

// pull is one attempt at applying bundles.
type pull struct {
	db      *DB
	a       *applier
	head    head
	careful bool
	out     local.Applied
}

func (db *DB) newPull(c wire.Contract, careful bool) (*pull, error) {
	h, err := db.head()
	if err != nil {
		return nil, err
	}
	if !h.attached {
		return nil, &local.DatabaseError{Operation: "apply", Path: db.cfg.Path, Reason: "the database is not attached: rows of a user have no place in it"}
	}
	a, err := db.newApplier(c)
	if err != nil {
		return nil, err
	}
	return &pull{db: db, a: a, head: h, careful: careful, out: local.Applied{Checkpoint: h.checkpoint}}, nil
}

func (p *pull) close() { p.a.close() }

// head is what the download half decides by.
type head struct {
	attached   bool
	checkpoint int64
	outbox     local.Outbox
}

func (db *DB) head() (h head, err error) {
	if _, err = db.conn.one(`SELECT binding_state = 'attached', last_bundle_seq_seen FROM _sync_attachment_state`, func(s *sqlite3.Stmt) error {
		h.attached, h.checkpoint = s.ColumnBool(0), s.ColumnInt64(1)
		return nil
	}); err != nil {
		return h, err
	}
	h.outbox, err = db.outbox()
	return h, err
}

// owns reports whether a bundle is the outbox's own push.
func (h *head) owns(m *wire.BundleMeta) bool {
	return h.outbox.State != local.OutboxNone && m.SourceID == h.outbox.SourceID && m.SourceBundleID == h.outbox.SourceBundleID
}

func (db *DB) setCheckpoint(seq int64) error {
	return db.conn.run(`UPDATE _sync_attachment_state SET last_bundle_seq_seen = ?`, seq)
}

// bundles applies bundles held in memory. stop ends the pull after what was applied.
func (p *pull) bundles(bundles []wire.Bundle) (stop, err error) {
	seq := p.head.checkpoint
	var todo []*wire.Bundle
	for i := range bundles {
		b := &bundles[i]
		if b.Seq <= p.head.checkpoint {
			continue
		}
		if b.Seq != seq+1 {
			return nil, p.db.gap(seq, b.Seq)
		}
		seq++
		todo = append(todo, b)
	}
	items, err := p.a.items(todo)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(todo) && p.out.Collision == nil && !p.out.RebuildRequired; {
		own := p.head.owns(&todo[i].BundleMeta)
		n := 1
		if !own && !p.careful {
			// Nobody can see the database between two of them: only the last image of each row is written.
			for i+n < len(todo) && !p.head.owns(&todo[i+n].BundleMeta) {
				n++
			}
		}
		if stop, err := p.one(todo[i:i+n], memory(items[i:i+n]), own); stop != nil || err != nil {
			return stop, errors.Join(err, p.finish())
		}
		i += n
	}
	return nil, p.finish()
}

// staged applies the bundle in the bundle stage.
func (p *pull) staged(meta wire.BundleMeta) (stop, err error) {
	if meta.Seq <= p.head.checkpoint {
		return nil, nil
	}
	if meta.Seq != p.head.checkpoint+1 {
		return nil, p.db.gap(p.head.checkpoint, meta.Seq)
	}
	b := &wire.Bundle{BundleMeta: meta}
	if stop, err := p.one([]*wire.Bundle{b}, p.a.stageSource(meta.Seq), p.head.owns(&meta)); stop != nil || err != nil {
		return stop, errors.Join(err, p.finish())
	}
	return nil, p.finish()
}

func (db *DB) gap(checkpoint, seq int64) error {
	return &local.DatabaseError{Operation: "apply bundles", Path: db.cfg.Path,
		Reason: fmt.Sprintf("bundle %d does not follow the checkpoint %d: what lies between is missing, take a snapshot", seq, checkpoint)}
}

// one applies bundles that count as one, or the outbox's own.
func (p *pull) one(bundles []*wire.Bundle, rows source, own bool) (stop, err error) {
	last := &bundles[len(bundles)-1].BundleMeta
	before := p.a.rows
	if own {
		r, err := p.db.settleOutbox(p.a, p.head.outbox, last, rows, p.head.outbox.State == local.OutboxPrepared, p.careful)
		if err != nil {
			return nil, err
		}
		if p.head, err = p.db.head(); err != nil {
			return nil, err
		}
		p.out.Foreign = r.Foreign
		p.out.Replayed = !r.Foreign
		p.out.RebuildRequired = r.RebuildRequired
		own = !r.Foreign // else an ordinary bundle of somebody else's
		if r.contentStays {
			return nil, nil // the checkpoint must not pass a bundle that was not applied
		}
	}
	if !own {
		var collision *local.Collision
		if p.careful {
			collision, err = p.a.guarded(rows)
		} else {
			err = p.a.plainly(rows)
		}
		var fault *wire.ProtocolError
		switch {
		case errors.As(err, &fault) && p.careful:
			return err, nil
		case err != nil:
			return nil, err
		case collision != nil:
			collision.BundleSeq = last.Seq
			p.out.Collision = collision
			return nil, nil
		}
	}
	p.out.Rows += p.a.rows - before
	p.out.Bundles += len(bundles)
	p.out.Checkpoint = last.Seq
	return nil, nil
}

// finish moves the checkpoint.
func (p *pull) finish() error {
	p.out.Tables = p.a.tables()
	return p.db.setCheckpoint(p.out.Checkpoint)
}

// source hands the rows of one or several bundles to add, sorted by table and key, the older versions of a row first.
// It can be run more than once.
type source func(add func(p *plan, key string, op wire.Op, version int64, payload []byte, keep bool) error) error

// item is a row in memory and its place.
type item struct {
	plan *plan
	row  *wire.Row
}

// items checks the rows of bundles, and finds their tables.
func (a *applier) items(bundles []*wire.Bundle) ([][]item, error) {
	out := make([][]item, len(bundles))
	for i, b := range bundles {
		out[i] = make([]item, len(b.Rows))
		for j := range b.Rows {
			row := &b.Rows[j]
			if err := a.db.checkRow(row); err != nil {
				return nil, err
			}
			p := a.plan(a.db.byName[row.Table])
			if row.RowVersion != b.Seq {
				return nil, p.protocol("a row whose version is not its bundle's")
			}
			out[i][j] = item{p, row}
		}
	}
	return out, nil
}

// checkRow refuses a row that cannot be ours.
func (db *DB) checkRow(row *wire.Row) error {
	t := db.byName[row.Table]
	bad := func(reason string) error {
		return &wire.ProtocolError{Table: row.Schema + "." + row.Table, Reason: reason}
	}
	switch {
	case t == nil || row.Schema != t.Schema:
		return bad("a row of a table that is not synced here")
	case !row.Op.Valid():
		return bad("a row with an unknown op")
	case (row.Payload == nil) != (row.Op == wire.OpDelete):
		return bad("a row has a payload exactly when it was not deleted")
	case row.Key.Column != t.KeyColumn().Name:
		return bad("a row key that does not name the sync key column")
	case row.RowVersion <= 0:
		return bad("a row without a version")
	}
	return nil
}

// memory is a source of the rows of bundles in memory.
func memory(bundles [][]item) source {
	n := 0
	for _, b := range bundles {
		n += len(b)
	}
	sorted := make([]item, 0, n)
	for _, b := range bundles {
		sorted = append(sorted, b...)
	}
	slices.SortStableFunc(sorted, func(x, y item) int {
		return cmp.Or(cmp.Compare(x.plan.order, y.plan.order), cmp.Compare(x.row.Key.Value, y.row.Key.Value))
	})
	return func(add func(*plan, string, wire.Op, int64, []byte, bool) error) error {
		for _, it := range sorted {
			if err := add(it.plan, it.row.Key.Value, it.row.Op, it.row.RowVersion, it.row.Payload, true); err != nil {
				return err
			}
		}
		return nil
	}
}
