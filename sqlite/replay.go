package sqlite

import (
	"context"
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Replaying settles the outbox with the bundle as which it was committed. What the bundle is worth as evidence depends
// on how we came by it:
//
//   - The server answered 200 to our own commit. Then the bundle is what became of exactly our rows, and its images are
//     authoritative, however they differ from what was sent (a time cut to microseconds, a column a server trigger
//     set). An outbox key that is missing had no net effect: an INSERT's row goes, anything else sets the rebuild gate.
//   - Proof: the server named the bundle for our tuple without this database having seen its commit answered. The tuple
//     can have been used by another copy of this database, and in the classic contract only the rows can tell. A key
//     that appears is taken as committed; where its image differs from the frozen one, the content here counts as
//     edited since, so that nothing local is lost whoever wrote the bundle. A missing INSERT may have had no net effect
//     or may never have been sent: it goes back to dirty and is pushed again, and the answer to that push is of the
//     first kind. When an UPDATE or DELETE is missing, or when no key of the outbox appears, the bundle is foreign: the
//     outbox goes back to dirty with its bases, and source recovery (source_sequence_changed) is recorded.

// Replay settles the outbox with a bundle held in memory, whose hash has been verified. proof says that the bundle is
// evidence of the second kind above.
func (db *DB) Replay(ctx context.Context, c wire.Contract, b wire.Bundle, proof bool) (local.Replayed, error) {
	return db.replay(ctx, "replay", c, b.BundleMeta, proof, len(b.Rows), func(a *applier, _ *wire.BundleMeta) (source, error) {
		items, err := a.items([]*wire.Bundle{&b})
		if err != nil {
			return nil, err
		}
		return memory(items), nil
	})
}

// ReplayStaged settles the outbox with the bundle in the bundle stage, after checking its count and its hash from the
// stage, and empties the stage.
func (db *DB) ReplayStaged(ctx context.Context, c wire.Contract, meta wire.BundleMeta, proof bool) (local.Replayed, error) {
	return db.replay(ctx, "replay staged bundle", c, meta, proof, int(max(meta.RowCount, 0)), func(a *applier, meta *wire.BundleMeta) (source, error) {
		if err := db.verifyStage(c, meta); err != nil {
			return nil, err
		}
		return a.stageSource(meta.Seq), nil
	})
}

func (db *DB) replay(ctx context.Context, op string, c wire.Contract, meta wire.BundleMeta, proof bool, rows int,
	open func(a *applier, meta *wire.BundleMeta) (source, error)) (local.Replayed, error) {
	var out local.Replayed
	err := db.attempts(ctx, op, rows, func(how care) (stop error, err error) {
		meta := meta
		h, err := db.head()
		if err != nil {
			return nil, err
		}
		if err := h.mustOwn(db, "replay", &meta); err != nil {
			return nil, err
		}
		a, err := db.newApplier(c)
		if err != nil {
			return nil, err
		}
		defer a.close()
		src, err := open(a, &meta)
		if err != nil {
			return nil, err
		}
		r, err := db.settleOutbox(a, h.outbox, &meta, src, proof, how == careful)
		if err != nil {
			return nil, err
		}
		out = r.Replayed
		out.Rows, out.Tables, out.Checkpoint = a.rows, a.tables(), h.checkpoint
		if !r.Foreign && !r.contentStays && meta.Seq == h.checkpoint+1 {
			out.Checkpoint = meta.Seq
			if err := db.setCheckpoint(meta.Seq); err != nil {
				return nil, err
			}
		}
		return nil, db.conn.run(`DELETE FROM _sync_bundle_stage`)
	})
	if err != nil {
		return local.Replayed{}, err
	}
	return out, nil
}

// mustOwn refuses a bundle that is not the outbox's own.
func (h *head) mustOwn(db *DB, op string, m *wire.BundleMeta) error {
	switch {
	case h.outbox.State == local.OutboxNone:
		return db.busyOutbox(op, h.outbox)
	case !h.owns(m), h.outbox.State == local.OutboxCommittedRemote && m.Seq != h.outbox.RemoteSeq:
		return &wire.ProtocolError{Operation: op, Reason: "the bundle is not the push in flight"}
	}
	return nil
}

// replay is the state of settling the outbox.
type replay struct {
	outbox local.Outbox
	seq    int64
	proof  bool
	// contentStays: the rows cannot be laid down around other intents. Only what needs no writing is settled, the rest
	// counts as edited since, and a rebuild brings what is missing.
	contentStays bool

	seen     []uint64 // bit i: the outbox row with ordinal i appeared
	appeared int64
}

// compares reports whether the frozen images are needed.
func (r *replay) compares() bool { return r.proof || r.contentStays }

// restart forgets what a pass that was rolled back has seen.
func (r *replay) restart() {
	clear(r.seen)
	r.appeared = 0
}

func (r *replay) see(ordinal int64) {
	if word := ordinal / 64; ordinal >= 0 && word < int64(len(r.seen)) && r.seen[word]&(1<<(ordinal%64)) == 0 {
		r.seen[word] |= 1 << (ordinal % 64)
		r.appeared++
	}
}

func (r *replay) has(ordinal int64) bool { return r.seen[ordinal/64]&(1<<(ordinal%64)) != 0 }

// settlement is the outcome of settling the outbox.
type settlement struct {
	local.Replayed
	contentStays bool
}

// settleOutbox settles the outbox with the rows of its bundle, in a transaction in apply mode. The checkpoint is the
// caller's.
func (db *DB) settleOutbox(a *applier, box local.Outbox, meta *wire.BundleMeta, rows source, proof, careful bool) (out settlement, err error) {
	r := &replay{outbox: box, seq: meta.Seq, proof: proof, seen: make([]uint64, (box.RowCount+63)/64)}
	a.replay = r
	defer func() { a.replay = nil }()
	var missing []frozenRow
	if !careful {
		if err := a.plainly(rows); err != nil {
			return out, err
		}
		if missing, err = db.missingRows(r); err != nil {
			return out, err
		}
		if r.foreign(missing) {
			return out, errCareful // what was written must be taken back
		}
	} else {
		m, err := a.savepoint()
		if err != nil {
			return out, err
		}
		collision, err := a.within(rows, m)
		switch {
		case collision != nil, errors.Is(err, errMisfit):
			if err := a.rollback(m); err != nil {
				return out, err
			}
			r.contentStays = true
			if err := a.pass(rows, wholePhase); err != nil {
				return out, err
			}
		case err != nil:
			return out, err
		}
		if missing, err = db.missingRows(r); err != nil {
			return out, err
		}
		if r.foreign(missing) {
			if err := a.rollback(m); err != nil {
				return out, err
			}
			out.Foreign = true
		}
		if err := a.release(); err != nil {
			return out, err
		}
	}
	if out.Foreign {
		if err := db.requeueOutbox(); err != nil {
			return out, err
		}
		a.replay = nil
		if err := a.refresh(); err != nil {
			return out, err
		}
		return out, db.setSourceRecovery(local.ReasonSourceSequenceChanged, "")
	}
	out.contentStays = r.contentStays
	out.RebuildRequired = r.contentStays
	for _, f := range missing {
		gate, err := a.withoutEffect(f)
		if err != nil {
			return out, err
		}
		out.RebuildRequired = out.RebuildRequired || gate
	}
	if out.RebuildRequired {
		if err := db.conn.run(`UPDATE _sync_attachment_state SET rebuild_required = 1`); err != nil {
			return out, err
		}
	}
	if err := db.finishReplay(box); err != nil {
		return out, err
	}
	return out, a.refresh()
}

// settle settles a row of the outbox's bundle that is in the outbox.
func (a *applier) settle(c *change) error {
	r := a.replay
	r.see(c.ordinal)
	edited := c.dirty
	if !edited && r.compares() {
		same, err := a.sameImage(c)
		if err != nil {
			return err
		}
		edited = !same || r.contentStays && c.shadowed && c.shadow > c.version
	}
	if !edited {
		if c.shadowed && c.shadow > c.version {
			if err := a.takeShadow(c); err != nil {
				return err
			}
			a.lay(c)
			return nil
		}
		if r.contentStays {
			a.stateful = append(a.stateful, c) // the content is the committed one
			return nil
		}
		a.lay(c)
		return nil
	}
	if a.phase == deletePhase {
		return nil
	}
	a.stateful = append(a.stateful, c)
	return a.rebaseFrozen(c)
}

// sameImage reports whether the committed image of a row is what the frozen one asked for.
func (a *applier) sameImage(c *change) (bool, error) {
	if c.op == wire.OpDelete || c.frozenOp == wire.OpDelete {
		return c.op == c.frozenOp, nil
	}
	return a.contract.SameImage(&c.plan.t.Table, c.frozenWire, c.payload)
}

// takeShadow makes c the newer image that was pulled while the push was on its way.
func (a *applier) takeShadow(c *change) error {
	_, err := a.db.conn.one(`SELECT row_version, version_exact, deleted, payload FROM _sync_shadow WHERE schema_name = ? AND table_name = ? AND key_json = ?`,
		func(s *sqlite3.Stmt) error {
			c.version, c.inexact = s.ColumnInt64(0), !s.ColumnBool(1)
			c.op, c.payload = wire.OpUpdate, columnBytes(s, 3)
			if s.ColumnBool(2) {
				c.op, c.payload = wire.OpDelete, nil
			}
			return nil
		}, c.plan.t.Schema, c.plan.t.Name, c.keyJSON)
	return err
}

// rebaseFrozen puts the edit of a row that was pushed onto the version at which it was committed. An outbox row without
// a newer edit becomes one itself.
func (a *applier) rebaseFrozen(c *change) error {
	t := c.plan.t
	deleted := c.op == wire.OpDelete
	if deleted {
		if err := a.db.conn.run(`DELETE FROM _sync_base_rows WHERE schema_name = ? AND table_name = ? AND key_json = ?`, t.Schema, t.Name, c.keyJSON); err != nil {
			return err
		}
	} else {
		row, err := c.plan.decode(&c.key, c.payload)
		if err != nil {
			return err
		}
		if err := a.db.conn.run(`INSERT INTO _sync_base_rows (schema_name, table_name, key_json, payload) VALUES (?, ?, ?, ?)
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET payload = excluded.payload`,
			t.Schema, t.Name, c.keyJSON, rawText(wire.AppendLocal(nil, &t.Table, row))); err != nil {
			return err
		}
	}
	if c.dirty {
		return a.db.conn.run(`UPDATE _sync_dirty_rows SET base_row_version = ?, op = CASE WHEN payload IS NULL THEN 'DELETE' WHEN ? THEN 'INSERT' ELSE 'UPDATE' END
WHERE schema_name = ? AND table_name = ? AND key_json = ?`, c.version, deleted, t.Schema, t.Name, c.keyJSON)
	}
	return a.db.conn.run(`INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload)
SELECT schema_name, table_name, key_json, CASE WHEN local_payload IS NULL THEN 'DELETE' WHEN ? THEN 'INSERT' ELSE 'UPDATE' END, ?, local_payload
FROM _sync_outbox_rows WHERE source_bundle_id = ? AND row_ordinal = ?`, deleted, c.version, a.replay.outbox.SourceBundleID, c.ordinal)
}

// finishReplay drops what belonged to intents that are settled, empties the outbox and moves the source on. Keys of the
// outbox that have an intent still have it as a dirty row by now.
func (db *DB) finishReplay(box local.Outbox) error {
	const edit = `SELECT 1 FROM _sync_dirty_rows d WHERE d.schema_name = x.schema_name AND d.table_name = x.table_name AND d.key_json = x.key_json`
	if err := db.dropFrozen("_sync_base_rows", edit, box.RowCount); err != nil {
		return err
	}
	// An edited key that the bundle lacks stands where it stood: what is known to be newer than that stays known.
	if err := db.dropFrozen("_sync_shadow", edit+` AND d.base_row_version < x.row_version`, box.RowCount); err != nil {
		return err
	}
	if err := db.conn.run(`UPDATE _sync_source_state SET next_source_bundle_id = max(next_source_bundle_id, ?) WHERE source_id = ?`, box.SourceBundleID+1, box.SourceID); err != nil {
		return err
	}
	// A commit uses up the lease that it was sent with.
	if err := db.conn.run(`UPDATE _sync_attachment_state SET pending_initialization_id = '' WHERE pending_initialization_id <> ''`); err != nil {
		return err
	}
	return db.clearOutbox()
}

// dropFrozen removes what a metadata table x has of the keys in the outbox, unless the query answers. It goes through
// the smaller of the two: a bundle costs what it holds, not what is left of a push of many.
func (db *DB) dropFrozen(metadata, unless string, frozen int64) error {
	others, err := db.count(`SELECT COUNT(*) FROM (SELECT 1 FROM `+metadata+` LIMIT ?)`, frozen)
	if err != nil {
		return err
	}
	key := `EXISTS (SELECT 1 FROM _sync_outbox_rows o WHERE o.schema_name = x.schema_name AND o.table_name = x.table_name AND o.key_json = x.key_json)`
	if others == frozen {
		key = `(x.schema_name, x.table_name, x.key_json) IN (SELECT schema_name, table_name, key_json FROM _sync_outbox_rows)`
	}
	return db.conn.run(`DELETE FROM ` + metadata + ` AS x WHERE ` + key + ` AND NOT EXISTS (` + unless + `)`)
}
