package sqlite

import (
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Freezing is one INSERT … SELECT a window of ordinals, so that what stays as it is never leaves SQLite: two functions
// of the connection add what SQLite cannot know. _sync_freeze is asked, row by row in push order, whether the row
// goes; _sync_frozen then answers what of it is written in another way than it is.

// What _sync_frozen is asked for.
const (
	frozenOrdinal = iota
	frozenKey     // wire key; NULL: as the local one
	frozenLocal   // local payload; NULL: the captured one
	frozenWire    // wire payload
)

// errNotFreezing is what the functions answer to anybody else.
var errNotFreezing = errors.New("sqlite: not while freezing")

// freezeFunctions gives the connection both functions.
func (c *conn) freezeFunctions() error {
	if c.canFreeze {
		return nil
	}
	c.canFreeze = true
	return errors.Join(
		c.raw.CreateFunction(`_sync_freeze`, 7, sqlite3.DIRECTONLY, func(ctx sqlite3.Context, row ...sqlite3.Value) {
			if c.freezing == nil {
				ctx.ResultError(errNotFreezing)
				return
			}
			goes, err := c.freezing.take(row)
			if err != nil {
				c.freezing.fault = err
				ctx.ResultError(err)
				return
			}
			ctx.ResultBool(goes)
		}),
		c.raw.CreateFunction(`_sync_frozen`, 1, sqlite3.DIRECTONLY, func(ctx sqlite3.Context, what ...sqlite3.Value) {
			if c.freezing == nil {
				ctx.ResultError(errNotFreezing)
				return
			}
			c.freezing.tell(ctx, what[0].Int())
		}))
}

// taken is the row that was taken last. Its buffers are used again.
type taken struct {
	row     wire.PushRow
	ordinal int64  // in the push
	wireKey []byte // nil: as the local one
	local   []byte // nil: the captured one
	payload []byte
}

// take decides whether a dirty row goes, and makes it the next one of the push if so. Its columns are those that
// freezeGroup.move names.
func (f *freezing) take(column []sqlite3.Value) (goes bool, err error) {
	if f.cut {
		return false, nil
	}
	t := f.g.tables[column[0].Int()]
	key := column[1].RawText()
	if (len(f.left) > 0 || f.only != nil) && f.skips(local.IntentKey{Table: t.Name, KeyJSON: string(key)}) {
		return false, nil
	}
	ordinal := column[5].Int64()
	if f.void(t, column) {
		f.voids = append(f.voids, ordinal)
		return false, nil
	}
	r := &f.last
	r.row = wire.PushRow{Schema: t.Schema, Table: t.Name, Op: wire.OpDelete, BaseRowVersion: column[2].Int64()}
	if !f.deletions {
		r.row.Op = wire.OpInsert
		if column[3].Int64() != 0 {
			r.row.Op = wire.OpUpdate
		}
	}
	values, err := f.spell(t, key, column[4].RawText())
	if err != nil {
		return false, &local.IntentError{Table: t.Name, KeyJSON: string(key), Err: err}
	}
	size := int64(len(r.row.Payload))
	if f.full(size) && f.fenced.open(ordinal) {
		f.cut = true
		return false, nil
	}
	if err := f.pass(t, key, ordinal, values); err != nil {
		return false, err
	}
	if err := f.hash.Add(&r.row); err != nil {
		return false, err
	}
	r.ordinal = f.box.RowCount
	f.box.RowCount++
	f.bytes += size
	return true, nil
}

// full reports whether a further row goes beyond a bound.
func (f *freezing) full(payload int64) bool {
	return f.box.RowCount > 0 && (f.req.MaxRows > 0 && f.box.RowCount >= f.req.MaxRows || f.req.MaxBytes > 0 && f.bytes+payload > f.req.MaxBytes)
}

// spell completes the row with its key and payload in wire form. values are those of an upsert.
func (f *freezing) spell(t *table, keyJSON, payload []byte) (values []wire.Value, err error) {
	r, im := &f.last, f.im.of(t)
	key, same, err := im.key.Read(keyJSON)
	if err != nil {
		return nil, err
	}
	r.row.Key = key
	if r.wireKey = r.wireKey[:0]; !same {
		r.wireKey = wire.AppendWireKeyJSON(r.wireKey, key)
	}
	r.local = nil
	if f.deletions {
		return nil, nil
	}
	if values, err = im.local.Decode(payload); err != nil {
		// A change made before the table had all its columns: the row itself has them.
		if r.local, err = f.reread(t, key); err != nil {
			return nil, err
		}
		if values, err = im.local.Decode(r.local); err != nil {
			return nil, err
		}
	}
	if r.payload, err = f.im.contract.AppendPayload(r.payload[:0], &t.Table, values); err != nil {
		return nil, err
	}
	r.row.Payload = r.payload
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

// tell answers what the row that was taken last holds.
func (f *freezing) tell(ctx sqlite3.Context, what int) {
	r := &f.last
	switch what {
	case frozenOrdinal:
		ctx.ResultInt64(r.ordinal)
	case frozenKey:
		if len(r.wireKey) > 0 {
			ctx.ResultRawText(r.wireKey)
		}
	case frozenLocal:
		ctx.ResultRawText(r.local)
	case frozenWire:
		ctx.ResultRawText(r.row.Payload)
	}
}
