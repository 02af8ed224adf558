package sqlite

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// plainly lays down the rows of src and checks the references they touch. errCareful says that something collides;
// the transaction is then of no use any more.
func (a *applier) plainly(src source) error {
	var fault *wire.ProtocolError
	err := a.pass(src, wholePhase)
	if isUnique(err) || errors.As(err, &fault) {
		return errCareful
	}
	if err != nil {
		return err
	}
	found, err := a.dangling()
	if err == nil && len(found) > 0 {
		err = errCareful
	}
	return err
}

// pass runs one phase over all rows of src.
func (a *applier) pass(src source, ph phase) error {
	a.phase = ph
	a.batch, a.arena = a.batch[:0], a.arena[:0]
	if err := src(a.add); err != nil {
		return err
	}
	return a.flush()
}

// mark is what a rollback to a savepoint must take back outside the database.
type mark struct {
	rows    int64
	changed map[*plan]bool
}

func (a *applier) savepoint() (mark, error) {
	m := mark{rows: a.rows, changed: map[*plan]bool{}}
	for _, p := range a.plans {
		m.changed[p] = p.changed
	}
	return m, a.db.conn.run(`SAVEPOINT rows`)
}

func (a *applier) rollback(m mark) error {
	a.rows = m.rows
	for _, p := range a.plans {
		p.changed = m.changed[p]
	}
	if a.replay != nil {
		a.replay.restart()
	}
	return a.db.conn.run(`ROLLBACK TO rows`)
}

func (a *applier) release() error { return a.db.conn.run(`RELEASE rows`) }

// guarded lays down the rows of src, or finds out why that cannot be and leaves the database as it was. The answer is
// a collision when intents are in the way, a *wire.ProtocolError when nothing is that could be moved out of it, inside a *divergence
// when a snapshot may help.
func (a *applier) guarded(src source) (*local.Collision, error) {
	m, err := a.savepoint()
	if err != nil {
		return nil, err
	}
	collision, err := a.within(src, m)
	var fault *wire.ProtocolError
	if err != nil && !errors.As(err, &fault) {
		return nil, err // the whole transaction goes
	}
	if collision != nil || fault != nil {
		if rerr := a.rollback(m); rerr != nil {
			return nil, rerr
		}
	}
	if rerr := a.release(); rerr != nil {
		return nil, rerr
	}
	return collision, err
}

// within is guarded inside the savepoint m.
func (a *applier) within(src source, m mark) (*local.Collision, error) {
	if intents, err := a.either(src, m); err != nil || intents != nil {
		return collisionOf("unique", intents), err
	}
	found, err := a.dangling()
	if err != nil || len(found) == 0 {
		return nil, err
	}
	// Some of these references may have dangled before: that is not this bundle's fault.
	if err := a.rollback(m); err != nil {
		return nil, err
	}
	fresh, err := a.dangleFresh(found)
	if err != nil {
		return nil, err
	}
	if len(fresh) > 0 {
		intents, err := a.blame(fresh)
		if err != nil {
			return nil, err
		}
		if len(intents) == 0 {
			return nil, a.unheld(fresh[0])
		}
		return collisionOf("foreign_key", intents), nil
	}
	intents, err := a.either(src, m)
	return collisionOf("unique", intents), err
}

// unheld is the fault of a reference that no intent explains.
func (a *applier) unheld(d dangle) error {
	return &divergence{a.plan(d.child).misfit(fmt.Sprintf("column %s would refer to a row of %s that is not there", d.ref.column, d.ref.parent), nil)}
}

func collisionOf(cause string, intents []local.IntentKey) *local.Collision {
	if intents == nil {
		return nil
	}
	return &local.Collision{Cause: cause, Intents: intents}
}

// either lays rows down in one pass, or in two when unique values move between them. The intents that hold unique
// values the rows need are returned, with the rows not laid down.
func (a *applier) either(src source, m mark) ([]local.IntentKey, error) {
	err := a.pass(src, wholePhase)
	if !isUnique(err) {
		return nil, err
	}
	if err := a.rollback(m); err != nil {
		return nil, err
	}
	if err := a.pass(src, deletePhase); err != nil {
		return nil, err
	}
	err = a.pass(src, insertPhase)
	if !isUnique(err) {
		return nil, err
	}
	cause := err
	if err := a.rollback(m); err != nil {
		return nil, err
	}
	return a.holders(cause, func() error { return a.pass(src, deletePhase) }, func() error { return a.pass(src, insertPhase) })
}

// holders finds the rows that hold unique values which other rows need: once room has been made, they are inserted with
// REPLACE, which evicts exactly those. What it does must be rolled back afterwards.
func (a *applier) holders(cause error, makeRoom, insert func() error) ([]local.IntentKey, error) {
	if err := makeRoom(); err != nil {
		return nil, err
	}
	for _, p := range a.plans {
		p.replacing(true)
	}
	evicted, err := a.db.deletedBy(insert)
	for _, p := range a.plans {
		p.replacing(false)
	}
	if err != nil {
		return nil, err
	}
	var intents []local.IntentKey
	for _, e := range evicted {
		key, err := a.db.localKey(e.t, &e.key)
		if err != nil {
			return nil, err
		}
		has, err := a.db.hasIntent(e.t, key)
		if err != nil {
			return nil, err
		}
		if !has {
			// Two rows of the bundle itself, or one that the server does not count as in the way.
			return nil, &divergence{a.plan(e.t).misfit("a unique value is taken by a row that the bundle leaves as it is", cause)}
		}
		intents = append(intents, local.IntentKey{Table: e.t.Name, KeyJSON: key})
	}
	if len(intents) == 0 {
		return nil, cause // evicted by nothing we can see
	}
	return distinct(intents), nil
}

// rowName names a business row.
type rowName struct {
	t   *table
	key wire.Value
}

// deletedBy tells which rows fn deletes, those that REPLACE evicts for a unique value's sake included.
func (db *DB) deletedBy(fn func() error) (deleted []rowName, err error) {
	column := map[*table]int{}
	for _, t := range db.tables {
		if _, err := db.conn.one(`SELECT cid FROM pragma_table_xinfo(?) WHERE name = ?`, func(s *sqlite3.Stmt) error {
			column[t] = s.ColumnInt(0)
			return nil
		}, t.local, t.key().name); err != nil {
			return nil, err
		}
	}
	var hookErr error
	db.conn.raw.PreUpdateHook(func(d sqlite3.PreUpdateData) {
		if d.Op != sqlite3.AUTH_DELETE || hookErr != nil {
			return
		}
		for _, t := range db.tables {
			if t.local != d.Table {
				continue
			}
			v, err := d.Old(column[t])
			if err != nil {
				hookErr = err
				return
			}
			key := wire.Value{Type: wire.Text, Bytes: slices.Clone(v.RawText())}
			if t.KeyColumn().Kind != wire.KindText {
				key = wire.Value{Type: wire.Blob, Bytes: slices.Clone(v.RawBlob())}
			}
			deleted = append(deleted, rowName{t, key})
		}
	})
	err = fn()
	db.conn.raw.PreUpdateHook(nil)
	return deleted, errors.Join(err, hookErr)
}

// hasIntent reports whether there is an intent for a key.
func (db *DB) hasIntent(t *table, keyJSON string) (bool, error) {
	for _, name := range []string{"_sync_dirty_rows", "_sync_outbox_rows", "_sync_quarantine"} {
		found, err := db.conn.one(`SELECT 1 FROM `+name+` WHERE schema_name = ? AND table_name = ? AND key_json = ?`, nil, t.Schema, t.Name, keyJSON)
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// distinct sorts intents and drops doubles.
func distinct(intents []local.IntentKey) []local.IntentKey {
	slices.SortFunc(intents, func(x, y local.IntentKey) int {
		return cmp.Or(cmp.Compare(x.Table, y.Table), cmp.Compare(x.KeyJSON, y.KeyJSON))
	})
	return slices.Compact(intents)
}
