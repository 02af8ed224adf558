package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// TakeConflict takes in that the server refused the push because of one of its rows: the server's image of that row
// becomes its shadow, whatever shadow there was, and the outbox goes back to dirty. The source's next bundle id stays.
//
// An image older than the row's base means that the server was restored from a backup: the rebuild gate is set, and the
// intent is made on nothing from here on.
//
// An image that is what was pushed means that the row had been committed after all: it is settled as a replay at the
// server's version, and an edit made since goes on, on that version.
//
// Errors: *wire.ProtocolError when the row is not one of the outbox or its image cannot be; *local.DatabaseError.
func (db *DB) TakeConflict(ctx context.Context, c wire.Conflict) (local.ConflictTaken, error) {
	var out local.ConflictTaken
	err := db.write(ctx, "take conflict", relaxed, func() (err error) {
		out, err = db.takeConflict(&c)
		return err
	})
	if err != nil {
		return local.ConflictTaken{}, err
	}
	return out, nil
}

func (db *DB) takeConflict(c *wire.Conflict) (out local.ConflictTaken, err error) {
	box, err := db.outbox()
	if err != nil {
		return out, err
	}
	if box.State != local.OutboxPrepared {
		return out, db.busyOutbox("take conflict", box)
	}
	contract, err := db.storedContract(engineFrozenContract)
	if err != nil {
		return out, err
	}
	im := newImages(contract)
	t := db.byName[c.Table]
	if t == nil || c.Schema != t.Schema {
		return out, badConflict(c, "it names a table that is not synced")
	}
	image, err := im.conflictImage(t, c)
	if err != nil {
		return out, err
	}
	value, err := wire.KeyValue(&t.Table, c.Key)
	if err != nil {
		return out, err
	}
	key, err := db.localKey(t, &value)
	if err != nil {
		return out, err
	}
	frozen, err := db.frozenRow(t, key)
	switch {
	case err != nil:
		return out, err
	case frozen == nil:
		return out, badConflict(c, "it names a row that was not pushed")
	}
	out.Op, out.Base = frozen.op, frozen.base
	committed := frozen.op == wire.OpDelete && image.deleted
	if frozen.op != wire.OpDelete && !image.deleted {
		if committed, err = contract.SameImage(&t.Table, frozen.wire, image.payload); err != nil {
			return out, err
		}
	}
	edited, err := db.loadIntent(t, key)
	if err != nil {
		return out, err
	}
	if err := db.requeueOutbox(); err != nil {
		return out, err
	}
	if image.version > 0 && image.version < frozen.base {
		// Versions only grow: the server has lost the history in which the base was.
		if err := db.loseBase(t, key); err != nil {
			return out, err
		}
		if err := db.setRebuildGate(local.ReasonCheckpointAhead); err != nil {
			return out, err
		}
	}
	if err := db.setShadow(t, key, image); err != nil || !committed {
		return out, err
	}
	in, err := db.loadIntent(t, key)
	if err != nil {
		return out, err
	}
	out.Settled = true
	if edited != nil {
		return out, db.rebase(im, in)
	}
	if _, exact, err := im.agrees(in); err != nil || exact {
		if err == nil {
			err = db.finish(in, image)
		}
		return out, err
	}
	err = db.inApplyMode(func() error {
		stuck, err := db.layDown(im, []*intent{in})
		if len(stuck) > 0 {
			out.Settled = false // its shadow tells the next Settle the same
		} else {
			out.Tables = local.TableSet{t.Name}
		}
		return err
	})
	return out, err
}

// conflictImage turns the image that a push_conflict carries into a shadow, after checking that it can be one.
func (im *images) conflictImage(t *table, c *wire.Conflict) (*shadow, error) {
	s := &shadow{version: c.ServerRowVersion, exact: true, deleted: c.ServerRow == nil}
	switch {
	case c.ServerRowVersion < 0:
		return nil, badConflict(c, "it gives the row a negative version")
	case s.deleted && c.ServerRowDeleted != (c.ServerRowVersion > 0):
		return nil, badConflict(c, "it shows neither a tombstone nor a row that never existed")
	case s.deleted:
		return s, nil
	case c.ServerRowDeleted || c.ServerRowVersion == 0:
		return nil, badConflict(c, "it shows a row that is said not to be there")
	}
	s.payload = append([]byte{}, c.ServerRow...)
	row, err := im.of(t).wire.Decode(s.payload)
	if err != nil {
		return nil, err
	}
	key, err := wire.KeyValue(&t.Table, c.Key)
	if err != nil {
		return nil, err
	}
	if !wire.SameValues([]wire.Value{key}, row[t.Key:t.Key+1]) {
		return nil, badConflict(c, "it shows another row than the one it names")
	}
	return s, nil
}

func badConflict(c *wire.Conflict, reason string) error {
	return &wire.ProtocolError{Operation: "commit push session", Table: c.Schema + "." + c.Table, Reason: "push_conflict: " + reason}
}

// frozen is a row of the outbox.
type frozen struct {
	op   wire.Op
	base int64
	wire []byte
}

// frozenRow returns the outbox row of a key; nil when there is none.
func (db *DB) frozenRow(t *table, key string) (f *frozen, err error) {
	_, err = db.conn.one(`SELECT op, base_row_version, wire_payload FROM _sync_outbox_rows
WHERE schema_name = ? AND table_name = ? AND key_json = ?`, func(s *sqlite3.Stmt) error {
		f = &frozen{op: wire.Op(s.ColumnText(0)), base: s.ColumnInt64(1), wire: columnBytes(s, 2)}
		return nil
	}, t.Schema, t.Name, key)
	return f, err
}
