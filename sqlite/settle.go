package sqlite

import (
	"context"
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Settle disposes of every dirty row that needs no push and returns the conflicts that are known, at most max of them
// (0: all). For each dirty row, in this order:
//
//   - It is void, a deletion of a row that the server does not have, or content equal to the base row: it is dropped,
//     and its shadow, if any, laid down; or left to the pull to come where that brings it again and is needed for it.
//   - Its shadow has the same content: the server's version is taken, and nothing is left to push.
//   - Its shadow is a deletion and the server is not known to have the row: a new row over an old tombstone, which it
//     is made on from now on.
//   - It has a shadow: a conflict, for Resolve.
//
// Before that, changes of rows that refer to new rows in quarantine go there as well, and come back once that is over.
//
// The outbox must be empty: what is in it is settled by what the server answers. It costs next to nothing for rows
// that have neither a base row nor a shadow.
//
// Errors: *local.DatabaseError; *local.IntentError for a conflict whose local content no resolver can be shown.
func (db *DB) Settle(ctx context.Context, max int) (local.Settled, error) {
	var st settling
	err := db.write(ctx, "settle", relaxed, func() error {
		st = settling{db: db, max: max, tables: map[*table]bool{}}
		return st.run()
	})
	if err != nil {
		return local.Settled{}, aboutIntent(err)
	}
	st.out.Tables = tableSet(st.tables)
	return st.out, nil
}

// settling is the state of one Settle.
type settling struct {
	db     *DB
	im     *images
	max    int
	out    local.Settled
	tables map[*table]bool // business tables written

	voids    []*intent // to be laid down
	accepted []*intent // to be laid down, as their spelling differs
}

func (st *settling) run() error {
	db := st.db
	switch box, err := db.outbox(); {
	case err != nil:
		return err
	case box.State != local.OutboxNone:
		return db.busyOutbox("settle", box)
	}
	st.im = newImages(nil)
	shadows, err := db.conn.one(`SELECT 1 FROM _sync_shadow`, nil)
	if err != nil {
		return err
	}
	if shadows {
		contract, err := db.pinnedContract()
		if err != nil {
			return err
		}
		st.im = newImages(contract)
	}
	if err := st.dependents(); err != nil {
		return err
	}
	if err := st.dropVoid(); err != nil {
		return err
	}
	if !shadows {
		return nil
	}
	for _, t := range db.tables {
		if err := db.shadowedIntents(t, st.shadowed); err != nil {
			return err
		}
		if st.out.More {
			break
		}
	}
	return st.layDown()
}

// dependents puts back what no longer depends on a row in quarantine, and sets aside what does by now.
func (st *settling) dependents() error {
	if err := st.db.forgetDisplaced(); err != nil {
		return err
	}
	some, err := st.db.anyQuarantined()
	if err != nil || !some {
		return err
	}
	if err := st.db.releaseDependents(); err != nil {
		return err
	}
	st.out.SetAside, err = st.db.setAsideDependents(nil)
	return err
}

// dropVoid drops the void intents that have no shadow.
func (st *settling) dropVoid() error {
	db := st.db
	// Only rows that a base row was written for can have come back to it.
	for _, t := range db.tables {
		var keys []string
		if _, err := db.conn.each(`SELECT b.key_json, b.payload, d.payload
FROM _sync_base_rows b
  CROSS JOIN _sync_dirty_rows d ON d.schema_name = b.schema_name AND d.table_name = b.table_name AND d.key_json = b.key_json
WHERE b.schema_name = ? AND b.table_name = ? AND d.payload IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM _sync_shadow s WHERE s.schema_name = b.schema_name AND s.table_name = b.table_name AND s.key_json = b.key_json)`,
			func(s *sqlite3.Stmt) error {
				if st.im.sameLocal(t, s.ColumnRawText(1), s.ColumnRawText(2)) {
					keys = append(keys, s.ColumnText(0))
				}
				return nil
			}, t.Schema, t.Name); err != nil {
			return err
		}
		for _, key := range keys {
			if err := db.dropIntent(t, key); err != nil {
				return err
			}
		}
		st.out.Dropped += len(keys)
	}
	n, err := db.dropVoidDeletes()
	st.out.Dropped += int(n)
	return err
}

// dropVoidDeletes drops the deletions of rows that the server does not have and of which nothing else is known. They
// leave no row state where there was none.
func (db *DB) dropVoidDeletes() (int64, error) {
	return db.conn.changes(`DELETE FROM _sync_dirty_rows AS d
WHERE d.op = 'DELETE'
  AND NOT EXISTS (SELECT 1 FROM _sync_row_state r
    WHERE r.schema_name = d.schema_name AND r.table_name = d.table_name AND r.key_json = d.key_json AND r.deleted = 0)
  AND NOT EXISTS (SELECT 1 FROM _sync_shadow s
    WHERE s.schema_name = d.schema_name AND s.table_name = d.table_name AND s.key_json = d.key_json)`)
}

// shadowed settles an intent that has a shadow, or notes what is to become of it. It returns false when there are
// more conflicts than were asked for.
func (st *settling) shadowed(in *intent) (bool, error) {
	if st.im.void(in) {
		st.voids = append(st.voids, in)
		return true, nil
	}
	same, exact, err := st.im.agrees(in)
	switch {
	case err != nil:
		return false, err
	case same && exact:
		st.out.Accepted++
		return true, st.db.finish(in, in.shadow)
	case same:
		st.accepted = append(st.accepted, in)
		return true, nil
	case in.shadow.deleted && !in.live:
		st.out.Kept++
		return true, st.db.rebase(st.im, in)
	case st.max > 0 && len(st.out.Conflicts) == st.max:
		st.out.More = true
		return false, nil
	}
	c, err := st.im.conflict(in)
	st.out.Conflicts = append(st.out.Conflicts, c)
	return true, err
}

// layDown lays down the shadows of void intents, and of those that differ from them in spelling only.
func (st *settling) layDown() error {
	all := append(st.voids[:len(st.voids):len(st.voids)], st.accepted...)
	if len(all) == 0 {
		return nil
	}
	var stuck []*intent
	if err := st.db.inApplyMode(func() (err error) {
		if stuck, err = st.db.layDown(st.im, all); err != nil {
			return err
		}
		// Those that are void are already what they go back to, and then in no pull's way.
		voids, others := []*intent(nil), []*intent(nil)
		for _, in := range stuck {
			if st.im.void(in) {
				voids = append(voids, in)
			} else {
				others = append(others, in)
			}
		}
		voids, err = st.db.stepBack(st.im, voids)
		stuck = append(others, voids...)
		return err
	}); err != nil {
		return err
	}
	still := map[*intent]bool{}
	for _, in := range stuck {
		still[in] = true
	}
	count := func(intents []*intent) (laid int) {
		for _, in := range intents {
			if !still[in] {
				laid++
				st.tables[in.t] = true
			}
		}
		return laid
	}
	st.out.Dropped += count(st.voids)
	st.out.Accepted += count(st.accepted)
	st.out.Stuck = len(stuck)
	return nil
}

// conflict describes an intent and its shadow to a resolver.
func (im *images) conflict(in *intent) (local.Conflict, error) {
	s := in.shadow
	c := local.Conflict{
		Table: in.t.Name, KeyJSON: in.key, LocalOp: in.op(), Base: in.base, Local: in.payload,
		ServerWire: s.payload, ServerVersion: s.version, ServerExact: s.exact, ServerDeleted: s.deleted,
	}
	var err error
	if c.Key, err = wire.WireKey(&in.t.Table, in.key); err != nil {
		return c, &local.IntentError{Table: in.t.Name, KeyJSON: in.key, Err: err}
	}
	if in.payload != nil {
		if c.LocalWire, err = im.toWire(in.t, in.payload); err != nil {
			return c, &local.IntentError{Table: in.t.Name, KeyJSON: in.key, Err: err}
		}
	}
	if in.baseRow != nil {
		// A base row that cannot be spelled is as good as one that is not known.
		c.BaseWire, _ = im.toWire(in.t, in.baseRow)
	}
	return c, nil
}

// inApplyMode runs fn, inside a transaction, with the capture triggers switched off.
func (db *DB) inApplyMode(fn func() error) error {
	if err := db.conn.run(`UPDATE _sync_apply_state SET apply_mode = 1`); err != nil {
		return err
	}
	return errors.Join(fn(), db.conn.run(`UPDATE _sync_apply_state SET apply_mode = 0`))
}
