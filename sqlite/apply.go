package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// ApplyBundles applies pulled bundles, each whole, together with the checkpoint, in one transaction. The first one
// must follow the checkpoint and each the one before it without a gap; bundles at or below the checkpoint are passed
// over, they have been applied.
//
// A row with an intent is not touched, its newest image becomes the intent's shadow. A bundle with the tuple of the
// outbox is the outbox's own push coming back: it settles the outbox. When a bundle collides with intents, nothing of
// it is applied, Applied.Collision says why, and the bundles before it are applied. When it collides with rows that
// have none, Applied.Diverged says so in the same way: the rows here are not those that the server's history leads to.
// When it breaks a constraint of a table, the server sent what the local schema cannot hold: that is a *wire.ProtocolError, again with the bundles before it applied and counted in Applied. Beside any other error nothing
// was applied, and Applied is zero.
//
// Triggers of the application's on managed tables fire for what is applied here. What they change in managed tables
// is not captured.
//
// Intents to be displaced make room first, in the same transaction. If the first bundle collides all the same, nothing
// has changed.
func (db *DB) ApplyBundles(ctx context.Context, c wire.Contract, bundles []wire.Bundle, displace ...local.Displacement) (local.Applied, error) {
	rows := 0
	for i := range bundles {
		rows += len(bundles[i].Rows)
	}
	return db.pulling(ctx, "apply bundles", c, rows, displace, func(p *pull) (stop, err error) { return p.bundles(bundles) })
}

// ApplyStaged applies the bundle whose pages are in the bundle stage, as ApplyBundles does, after checking its count
// and its hash from the stage, and empties the stage. After a collision too: the bundle is then fetched again once the
// intents are out of its way, which is rarer, even for a large bundle, than a stage that outlives what it was for.
func (db *DB) ApplyStaged(ctx context.Context, c wire.Contract, meta wire.BundleMeta, displace ...local.Displacement) (local.Applied, error) {
	return db.pulling(ctx, "apply staged bundle", c, int(max(meta.RowCount, 0)), displace, func(p *pull) (stop, err error) {
		meta := meta
		if err := db.verifyStage(c, &meta); err != nil {
			return nil, err
		}
		if stop, err = p.staged(meta); err != nil {
			return nil, err
		}
		return stop, db.conn.run(`DELETE FROM _sync_bundle_stage`)
	})
}

// pulling runs fn as often as it takes. What it did is told, beside the error stop, when it was committed; nothing
// beside an error that took it back.
func (db *DB) pulling(ctx context.Context, op string, c wire.Contract, rows int, displace []local.Displacement, fn func(*pull) (stop, err error)) (local.Applied, error) {
	var (
		out  local.Applied
		stop error
	)
	err := db.attempts(ctx, op, rows, func(how care) (error, error) {
		room, err := db.displace(c, displace)
		if err != nil {
			return nil, err
		}
		p, err := db.newPull(c, how)
		if err != nil {
			return nil, err
		}
		defer p.close()
		if room.unknown { // a rebuild follows, which brings what the bundles would
			p.out.RebuildRequired, p.out.Displaced = true, room.out
			out = p.out
			return nil, nil
		}
		stop, err = fn(p)
		p.out.Displaced = room.out
		out = p.out
		if err == nil && p.out.Collision != nil && p.out.Bundles == 0 && len(room.out) > 0 {
			out.Displaced = nil
			return nil, errCollision // room was made in vain
		}
		return stop, err
	})
	if errors.Is(err, errCollision) {
		return out, nil
	}
	if err != nil && !errors.Is(err, stop) {
		return local.Applied{}, err
	}
	return out, err
}

// pull is one attempt at applying bundles.
type pull struct {
	db      *DB
	a       *applier
	head    head
	careful bool
	out     local.Applied
}

func (db *DB) newPull(c wire.Contract, how care) (*pull, error) {
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
	a.trusting = how == trusting
	return &pull{db: db, a: a, head: h, careful: how == careful, out: local.Applied{Checkpoint: h.checkpoint}}, nil
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
	for i := 0; i < len(todo) && p.out.Collision == nil && p.out.Diverged == nil && !p.out.RebuildRequired; {
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
		var elsewhere *divergence
		switch {
		case errors.As(err, &elsewhere) && p.careful:
			p.out.Diverged = elsewhere.fault
			return nil, nil
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
