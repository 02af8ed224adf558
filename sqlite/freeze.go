package sqlite

import (
	"context"
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// errEnough ends a query early.
var errEnough = errors.New("enough rows")

// enough clears errEnough.
func enough(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// Freeze moves dirty rows into the outbox as the next push of the current source, in one durable transaction: their
// order, operations, bases, wire form and request hash are fixed from then on. Row states stay as they are.
//
// Inserts and updates come first, parents before children, then deletes, children before parents; inside a table the
// order in which rows became dirty. A bound cuts that order where every row still finds its parent on the server: in
// front of a cut stands no row that needs one behind it. A bundle is longer than the bounds when rows that cannot be
// parted are.
//
// Rows that are void are dropped as they are come to: deletions of rows that the server does not have, and content equal
// to the base row. They leave no row state where there was none. Intents whose shadow could not be laid down (Stuck,
// Without) stay dirty; any other intent with a shadow makes the answer Unsettled, and nothing is frozen.
//
// Memory does not grow with the number of rows, but for 8 bytes for each that is void.
//
// Errors: *local.IntentError around a *wire.ValueError for a row that the contract cannot carry; *local.DatabaseError,
// also when the outbox is not empty. Nothing has changed then.
func (db *DB) Freeze(ctx context.Context, req local.FreezeRequest) (local.Frozen, error) {
	var out local.Frozen
	err := db.write(ctx, "freeze", durable, func() (err error) {
		out, err = db.freeze(req)
		return err
	})
	if err != nil {
		return local.Frozen{}, aboutIntent(err)
	}
	return out, nil
}

func (db *DB) freeze(req local.FreezeRequest) (out local.Frozen, err error) {
	box, err := db.outbox()
	if err != nil {
		return out, err
	}
	if box.State != local.OutboxNone {
		return out, db.busyOutbox("freeze", box)
	}
	out.Outbox.State = local.OutboxNone
	contract, err := wire.ContractByName(req.Contract)
	if err != nil {
		return out, err
	}
	f := &freezing{db: db, req: req, im: newImages(contract), hash: contract.NewRequestHash(), left: map[local.IntentKey]bool{}}
	if err := db.forgetDisplaced(); err != nil {
		return out, err
	}
	if err := f.chooseOnly(); err != nil {
		return out, err
	}
	if settled, err := f.leaveStuck(); err != nil || !settled {
		out.Unsettled = !settled
		return out, err
	}
	if err := f.header(); err != nil {
		return out, err
	}
	if err := f.rows(); err != nil {
		return out, err
	}
	if err := f.keepOrder(); err != nil || f.box.RowCount == 0 {
		return out, err
	}
	f.box.RequestHash = f.hash.Sum()
	if err := f.store(); err != nil {
		return out, err
	}
	return local.Frozen{Outbox: f.box, More: f.cut}, nil
}

// freezing is the state of one Freeze.
type freezing struct {
	db    *DB
	req   local.FreezeRequest
	im    *images
	hash  wire.RequestHash
	left  map[local.IntentKey]bool // intents that stay dirty
	only  map[local.IntentKey]bool // all that do not; nil: all that are not in left
	box   local.Outbox             // the outbox to be
	bytes int64                    // of wire payloads so far
	cut   bool                     // a bound was met
	voids []int64                  // ordinals of dirty rows to be dropped

	ordered   bool        // the index of the order is there
	looked    float64     // ordinals looked through in vain or not, about
	g         freezeGroup // in work
	deletions bool        // its deletions are
	fenced    *fence
	last      taken
	fault     error // what a function of the connection came upon
}

// leaveStuck collects the intents with a shadow, which stay dirty. It returns false when one of them has a conflict
// that is not settled.
func (f *freezing) leaveStuck() (settled bool, err error) {
	without := map[local.IntentKey]bool{}
	for _, k := range f.req.Without {
		without[k] = true
	}
	settled = true
	for _, t := range f.db.tables {
		if err := f.db.shadowedIntents(t, func(in *intent) (bool, error) {
			k := local.IntentKey{Table: t.Name, KeyJSON: in.key}
			if f.only != nil && !f.only[k] {
				return true, nil
			}
			if !without[k] && !f.im.void(in) {
				// One that only differs from its shadow in spelling is stuck as well when it could not be laid down.
				same, _, err := f.im.agrees(in)
				if err != nil || !same {
					settled = false
					return false, err
				}
			}
			f.left[k] = true
			return true, nil
		}); err != nil || !settled {
			return false, err
		}
	}
	return true, nil
}

// header fixes under which number of which source the rows are pushed.
func (f *freezing) header() error {
	found, err := f.db.conn.one(`SELECT a.current_source_id, s.next_source_bundle_id, a.pending_initialization_id
FROM _sync_attachment_state a JOIN _sync_source_state s ON s.source_id = a.current_source_id`, func(s *sqlite3.Stmt) error {
		f.box = local.Outbox{State: local.OutboxPrepared, SourceID: s.ColumnText(0), SourceBundleID: s.ColumnInt64(1), InitializationID: s.ColumnText(2)}
		return nil
	})
	if err == nil && !found {
		err = f.db.damaged("_sync_source_state", "lacks the current source", nil)
	}
	return err
}

// store writes the outbox header and takes what was frozen out of the dirty rows.
func (f *freezing) store() error {
	b := &f.box
	if err := f.db.conn.run(`UPDATE _sync_outbox_bundle SET state = ?, source_id = ?, source_bundle_id = ?, initialization_id = ?,
  canonical_request_hash = ?, row_count = ?, remote_bundle_hash = '', remote_bundle_seq = 0`,
		string(b.State), b.SourceID, b.SourceBundleID, b.InitializationID, b.RequestHash, b.RowCount); err != nil {
		return err
	}
	// Rows go in the order in which they were written: none of them is older than the first that is dirty.
	if err := f.db.conn.run(`INSERT INTO _sync_engine_state (name, value)
VALUES (?, ?), (?, COALESCE((SELECT updated_at FROM _sync_dirty_rows ORDER BY dirty_ordinal LIMIT 1), `+now+`))
ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		engineFrozenContract, string(f.req.Contract), engineFrozenSince); err != nil {
		return err
	}
	return f.leave()
}

// leave takes what was frozen out of the dirty rows.
func (f *freezing) leave() error {
	c := f.db.conn
	if !f.cut {
		dirty, err := f.db.count(`SELECT COUNT(*) FROM _sync_dirty_rows`)
		if err != nil {
			return err
		}
		if dirty == f.box.RowCount {
			return c.run(`DELETE FROM _sync_dirty_rows`) // all of it: SQLite drops the pages
		}
	}
	// In the order of the keys, which are random: each page of their index is touched once.
	gone, err := c.stmt(`DELETE FROM _sync_dirty_rows WHERE schema_name = ? AND table_name = ? AND key_json = ?`)
	if err != nil {
		return err
	}
	_, err = c.each(`SELECT table_name, key_json FROM _sync_outbox_rows ORDER BY key_json`, func(s *sqlite3.Stmt) error {
		return errors.Join(gone.BindText(1, f.db.cfg.Schema), gone.BindRawText(2, s.ColumnRawText(0)), gone.BindRawText(3, s.ColumnRawText(1)), gone.Exec())
	})
	return errors.Join(err, gone.ClearBindings())
}

// count answers a query with one integer.
func (db *DB) count(sql string, args ...any) (n int64, err error) {
	_, err = db.conn.one(sql, func(s *sqlite3.Stmt) error {
		n = s.ColumnInt64(0)
		return nil
	}, args...)
	return n, err
}
