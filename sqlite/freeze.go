package sqlite

import (
	"context"
	"errors"
	"strings"

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

// bulkRows is from how many rows on the outbox's index on keys is built after the rows.
const bulkRows = 20_000

// outboxKeyIndex is the definition of that index.
var outboxKeyIndex = func() string {
	for _, ddl := range metadata {
		if strings.Contains(ddl, `idx_sync_outbox_rows_key `) {
			return ddl
		}
	}
	panic("sqlite: the outbox has no index on its keys")
}()

// Freeze moves dirty rows into the outbox as the next push of the current source, in one durable transaction: their
// order, operations, bases, wire form and request hash are fixed from then on. Row states stay as they are.
//
// Inserts and updates come first, parents before children, then deletes, children before parents; inside a table the
// order in which rows became dirty. A bound cuts that order where every row still finds its parent on the server: in
// front of a cut stands no row that needs one behind it. A bundle is longer than the bounds when rows that cannot be
// parted are.
//
// Deletions of rows that the server does not have are dropped. Intents whose shadow could not be laid down (Stuck,
// Without) stay dirty; any other intent with a shadow makes the answer Unsettled, and nothing is frozen.
//
// Memory does not grow with the number of rows.
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
	if settled, err := f.leaveStuck(); err != nil || !settled {
		out.Unsettled = !settled
		return out, err
	}
	if _, err := db.dropVoidDeletes(); err != nil {
		return out, err
	}
	if f.dirty, err = db.count(`SELECT COUNT(*) FROM _sync_dirty_rows`); err != nil || f.dirty == int64(len(f.left)) {
		return out, err
	}
	if err := f.header(); err != nil {
		return out, err
	}
	if err := f.rows(); err != nil {
		return out, err
	}
	if f.box.RowCount == 0 {
		return out, db.clearOutbox()
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
	dirty int64                    // how many rows are dirty
	box   local.Outbox             // the outbox to be
	bytes int64                    // of wire payloads so far
	cut   bool                     // a bound was met

	insert  *sqlite3.Stmt
	payload []byte // scratch: wire form
	local   []byte // scratch: local form
	keyJSON []byte // scratch: wire key
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

// rows moves the dirty rows, group by group, into the outbox until a bound is met.
func (f *freezing) rows() (err error) {
	f.insert, err = f.db.conn.stmt(`INSERT INTO _sync_outbox_rows
  (source_bundle_id, row_ordinal, schema_name, table_name, key_json, wire_key_json, op, base_row_version, local_payload, wire_payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.insert.Reset(), f.insert.ClearBindings()) }()
	// A large index with keys in random order is built far faster from all of them than row by row.
	bulk := f.dirty >= bulkRows && (f.req.MaxRows <= 0 || f.req.MaxRows >= bulkRows) && f.req.MaxBytes <= 0
	if bulk {
		if err := f.db.conn.run(`DROP INDEX idx_sync_outbox_rows_key`); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = f.db.conn.run(outboxKeyIndex)
			}
		}()
	}
	groups := f.db.freezeGroups()
	for _, g := range groups {
		if err := f.group(g, false); err != nil || f.cut {
			return err
		}
	}
	for i := range groups {
		if err := f.group(groups[len(groups)-1-i], true); err != nil || f.cut {
			return err
		}
	}
	return nil
}

// group moves the upserts or the deletions of a group of tables.
func (f *freezing) group(g freezeGroup, deletions bool) error {
	fence, err := f.fence(g, deletions)
	if err != nil {
		return err
	}
	args := []any{f.db.cfg.Schema}
	limited := f.req.MaxRows > 0 && !g.cyclic // where rows cannot be parted, more than the bound may be wanted
	if limited {
		// One row more than fits tells whether there is more. A group that could not be parted may have gone beyond the bound.
		args = append(args, max(f.req.MaxRows-f.box.RowCount, 0)+int64(len(f.left))+1)
	}
	_, err = f.db.conn.each(g.query(deletions, limited), func(s *sqlite3.Stmt) error {
		t := g.tables[s.ColumnInt(0)]
		key := s.ColumnText(1)
		if len(f.left) > 0 && f.left[local.IntentKey{Table: t.Name, KeyJSON: key}] {
			return nil
		}
		row := wire.PushRow{Schema: t.Schema, Table: t.Name, Op: wire.OpDelete, BaseRowVersion: s.ColumnInt64(2)}
		if !deletions {
			row.Op = wire.OpInsert
			if s.ColumnType(4) != sqlite3.NULL && !s.ColumnBool(4) {
				row.Op = wire.OpUpdate
			}
			f.local = append(f.local[:0], s.ColumnRawText(3)...)
		}
		if err := f.spell(t, key, &row); err != nil {
			return err
		}
		ordinal := s.ColumnInt64(5)
		if f.full(int64(len(row.Payload))) && fence.open(ordinal) {
			f.cut = true
			return errEnough
		}
		fence.pass(ordinal)
		return f.add(t, key, &row)
	}, args...)
	return enough(err)
}

// full reports whether a further row goes beyond a bound.
func (f *freezing) full(payload int64) bool {
	return f.box.RowCount > 0 && (f.req.MaxRows > 0 && f.box.RowCount >= f.req.MaxRows || f.req.MaxBytes > 0 && f.bytes+payload > f.req.MaxBytes)
}

// spell gives the row its key and payload in wire form.
func (f *freezing) spell(t *table, key string, row *wire.PushRow) (err error) {
	fail := func(err error) error { return &local.IntentError{Table: t.Name, KeyJSON: key, Err: err} }
	if row.Key, err = wire.WireKey(&t.Table, key); err != nil {
		return fail(err)
	}
	if row.Op == wire.OpDelete {
		return nil
	}
	values, err := f.im.of(t).local.Decode(f.local)
	if err != nil {
		// A change made before the table had all its columns: the row itself has them.
		if f.local, err = f.reread(t, row.Key); err != nil {
			return fail(err)
		}
		if values, err = f.im.of(t).local.Decode(f.local); err != nil {
			return fail(err)
		}
	}
	if f.payload, err = f.im.contract.AppendPayload(f.payload[:0], &t.Table, values); err != nil {
		return fail(err)
	}
	row.Payload = f.payload
	return nil
}

func (f *freezing) reread(t *table, k wire.Key) ([]byte, error) {
	key, err := wire.KeyValue(&t.Table, k)
	if err != nil {
		return nil, err
	}
	payload, err := f.db.liveRow(t, key)
	if err == nil && payload == nil {
		err = f.db.damaged("_sync_dirty_rows", "holds a change of a row that is not there", nil)
	}
	return payload, err
}

// add writes the row into the outbox.
func (f *freezing) add(t *table, key string, row *wire.PushRow) error {
	if err := f.hash.Add(row); err != nil {
		return err
	}
	f.keyJSON = wire.AppendWireKeyJSON(f.keyJSON[:0], row.Key)
	s := f.insert
	err := errors.Join(
		s.BindInt64(1, f.box.SourceBundleID), s.BindInt64(2, f.box.RowCount), s.BindText(3, t.Schema), s.BindText(4, t.Name), s.BindText(5, key),
		s.BindRawText(6, f.keyJSON), s.BindText(7, string(row.Op)), s.BindInt64(8, row.BaseRowVersion))
	if row.Op == wire.OpDelete {
		err = errors.Join(err, s.BindNull(9), s.BindNull(10))
	} else {
		err = errors.Join(err, s.BindRawText(9, f.local), s.BindRawText(10, row.Payload))
	}
	if err = errors.Join(err, s.Exec()); err != nil {
		return err
	}
	f.box.RowCount++
	f.bytes += int64(len(row.Payload))
	return nil
}

// store writes the outbox header and takes what was frozen out of the dirty rows.
func (f *freezing) store() error {
	b := &f.box
	if err := f.db.conn.run(`UPDATE _sync_outbox_bundle SET state = ?, source_id = ?, source_bundle_id = ?, initialization_id = ?,
  canonical_request_hash = ?, row_count = ?, remote_bundle_hash = '', remote_bundle_seq = 0`,
		string(b.State), b.SourceID, b.SourceBundleID, b.InitializationID, b.RequestHash, b.RowCount); err != nil {
		return err
	}
	if err := f.db.conn.run(`INSERT INTO _sync_engine_state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		engineFrozenContract, string(f.req.Contract)); err != nil {
		return err
	}
	if b.RowCount == f.dirty {
		return f.db.conn.run(`DELETE FROM _sync_dirty_rows`) // all of it: SQLite drops the pages
	}
	return f.db.conn.run(`DELETE FROM _sync_dirty_rows WHERE (schema_name, table_name, key_json) IN (SELECT schema_name, table_name, key_json FROM _sync_outbox_rows)`)
}

// count answers a query with one integer.
func (db *DB) count(sql string, args ...any) (n int64, err error) {
	_, err = db.conn.one(sql, func(s *sqlite3.Stmt) error {
		n = s.ColumnInt64(0)
		return nil
	}, args...)
	return n, err
}
