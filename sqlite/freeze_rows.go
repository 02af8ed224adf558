package sqlite

import (
	"errors"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// frozenText is a row on its way into the outbox. Its buffers are used again.
type frozenText struct {
	t            *table
	op           wire.Op
	base         int64
	key, wireKey string
	local        []byte // payload in local form
	payload      []byte // in wire form
}

const (
	// From bulkRows rows on, the outbox's index on keys is built after the rows: keys are random, and to sort them once saves
	// a third of the work of a large push. Other connections compile their statements anew, which is why small ones
	// do without.
	bulkRows = 20_000
	// bulkBytes is how many bytes of payload a push must be allowed to have for that.
	bulkBytes = 4 << 20
)

// outboxKeyIndex is the definition of that index.
var outboxKeyIndex = func() string {
	for _, ddl := range metadata {
		if strings.Contains(ddl, `idx_sync_outbox_rows_key `) {
			return ddl
		}
	}
	panic("sqlite: the outbox has no index on its keys")
}()

// bulk reports whether the push is going to be large.
func (f *freezing) bulk() (bool, error) {
	if f.req.MaxRows > 0 && f.req.MaxRows < bulkRows || f.req.MaxBytes > 0 && f.req.MaxBytes < bulkBytes {
		return false, nil
	}
	n, err := f.db.count(`SELECT COUNT(*) FROM (SELECT 1 FROM _sync_dirty_rows LIMIT ?)`, bulkRows)
	return n == bulkRows, err
}

// rows moves the dirty rows, group by group, into the outbox until a bound is met.
func (f *freezing) rows() error {
	bulk, err := f.bulk()
	if err != nil {
		return err
	}
	if !bulk {
		return f.groups()
	}
	if err := f.db.conn.run(`DROP INDEX idx_sync_outbox_rows_key`); err != nil {
		return err
	}
	if err := f.groups(); err != nil {
		return err
	}
	return f.db.conn.run(outboxKeyIndex)
}

func (f *freezing) groups() error {
	// OR FAIL: a row that is refused ends the transaction anyway, and SQLite need not be able to undo half a statement.
	f.insert = batched{c: f.db.conn, build: func(n int) string {
		return `INSERT OR FAIL INTO _sync_outbox_rows (source_bundle_id, schema_name, row_ordinal, table_name, key_json, wire_key_json, op, base_row_version, local_payload, wire_payload) VALUES ` +
			repeat(n, func(i int) string { return `(?1, ?2, ?3 + ` + strconv.Itoa(i) + `, ` + parameters(4+7*i, 7) + `)` })
	}}
	defer f.insert.clear()
	groups := f.db.freezeGroups()
	for _, g := range groups {
		if err := f.group(g, false); err != nil {
			return err
		}
	}
	for i := range groups {
		if err := f.group(groups[len(groups)-1-i], true); err != nil {
			return err
		}
	}
	return f.flush()
}

// group moves the upserts or the deletions of a group of tables.
func (f *freezing) group(g freezeGroup, deletions bool) error {
	if f.cut {
		return nil
	}
	fence, err := f.fence(g, deletions)
	if err != nil {
		return err
	}
	_, err = f.db.conn.each(g.query(deletions), func(s *sqlite3.Stmt) error {
		r := &f.batch[f.filled]
		r.t = g.tables[s.ColumnInt(0)]
		r.key = s.ColumnText(1)
		if len(f.left) > 0 && f.left[local.IntentKey{Table: r.t.Name, KeyJSON: r.key}] {
			return nil
		}
		r.base = s.ColumnInt64(2)
		r.op = wire.OpDelete
		if !deletions {
			r.op = wire.OpInsert
			if s.ColumnBool(4) {
				r.op = wire.OpUpdate
			}
			r.local = append(r.local[:0], s.ColumnRawText(3)...)
		}
		values, err := f.spell(r)
		if err != nil {
			return &local.IntentError{Table: r.t.Name, KeyJSON: r.key, Err: err}
		}
		ordinal := s.ColumnInt64(5)
		if f.full(int64(len(f.row.Payload))) && fence.open(ordinal) {
			f.cut = true
			return errEnough
		}
		if err := f.pass(fence, r.t, ordinal, values); err != nil {
			return err
		}
		return f.add()
	}, f.db.cfg.Schema)
	return enough(err)
}

// full reports whether a further row goes beyond a bound.
func (f *freezing) full(payload int64) bool {
	return f.box.RowCount > 0 && (f.req.MaxRows > 0 && f.box.RowCount >= f.req.MaxRows || f.req.MaxBytes > 0 && f.bytes+payload > f.req.MaxBytes)
}

// spell makes f.row the row in wire form. values are those of an upsert.
func (f *freezing) spell(r *frozenText) (values []wire.Value, err error) {
	t, row := &r.t.Table, &f.row
	*row = wire.PushRow{Schema: t.Schema, Table: t.Name, Op: r.op, BaseRowVersion: r.base}
	if row.Key, err = wire.WireKey(t, r.key); err != nil {
		return nil, err
	}
	f.wireKey = wire.AppendWireKeyJSON(f.wireKey[:0], row.Key)
	if r.wireKey = r.key; string(f.wireKey) != r.key {
		r.wireKey = string(f.wireKey)
	}
	if r.op == wire.OpDelete {
		return nil, nil
	}
	if values, err = f.im.of(r.t).local.Decode(r.local); err != nil {
		// A change made before the table had all its columns: the row itself has them.
		if r.local, err = f.reread(r.t, row.Key); err != nil {
			return nil, err
		}
		if values, err = f.im.of(r.t).local.Decode(r.local); err != nil {
			return nil, err
		}
	}
	if r.payload, err = f.im.contract.AppendPayload(r.payload[:0], t, values); err != nil {
		return nil, err
	}
	row.Payload = r.payload
	return values, nil
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

// add takes the row, the next one of the batch, into the push.
func (f *freezing) add() error {
	if err := f.hash.Add(&f.row); err != nil {
		return err
	}
	f.box.RowCount++
	f.bytes += int64(len(f.row.Payload))
	if f.filled++; f.filled < len(f.batch) {
		return nil
	}
	return f.flush()
}

// flush writes the batch into the outbox.
func (f *freezing) flush() error {
	first := f.box.RowCount - int64(f.filled)
	err := f.insert.exec(f.filled, func(s *sqlite3.Stmt, slot, i int) (err error) {
		if slot == 0 {
			err = errors.Join(s.BindInt64(1, f.box.SourceBundleID), s.BindText(2, f.db.cfg.Schema), s.BindInt64(3, first+int64(i)))
		}
		r, at := &f.batch[i], 4+7*slot
		err = errors.Join(err, s.BindText(at, r.t.Name), s.BindText(at+1, r.key), s.BindText(at+2, r.wireKey), s.BindText(at+3, string(r.op)), s.BindInt64(at+4, r.base))
		if r.op == wire.OpDelete {
			return errors.Join(err, s.BindNull(at+5), s.BindNull(at+6))
		}
		return errors.Join(err, s.BindRawText(at+5, r.local), s.BindRawText(at+6, r.payload))
	})
	f.filled = 0
	return err
}
