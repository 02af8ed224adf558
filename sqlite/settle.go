package sqlite

import (
	"context"
	"errors"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Settle disposes of the dirty rows that need no push because of what the server has done since, and returns the
// conflicts that are known, at most max of them (0: all). For each dirty row that has a shadow, in this order:
//
//   - It is void, a deletion of a row that the server does not have, or content equal to the base row: it is dropped,
//     and its shadow laid down; or left to the pull to come where that brings it again and is needed for it.
//   - Its shadow has the same content: the server's version is taken, and nothing is left to push.
//   - Its shadow is a deletion and the server is not known to have the row: a new row over an old tombstone, which it
//     is made on from now on.
//   - It is a conflict, for Resolve.
//
// Before that, changes of rows that refer to new rows in quarantine go there as well, and come back once that is over.
//
// What is void and has no shadow Freeze drops when it comes to it. So a push in many bundles, each of which settles first,
// looks at every row once.
//
// The outbox must be empty: what is in it is settled by what the server answers. It costs nothing for rows without a
// shadow.
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
	shadows, err := db.conn.one(`SELECT 1 FROM _sync_shadow`, nil)
	if err != nil {
		return err
	}
	if err := st.dependents(); err != nil || !shadows {
		return err
	}
	contract, err := db.pinnedContract()
	if err != nil {
		return err
	}
	st.im = newImages(contract)
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
		var way *displacing
		if stuck, way, err = st.db.makeWay(st.im, stuck); err != nil {
			return err
		}
		st.out.SetAside = append(st.out.SetAside, way.out...)
		for _, a := range way.out {
			st.tables[st.db.byName[a.Table]] = true
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
