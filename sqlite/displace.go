package sqlite

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// A change and rows of the server can exclude each other for good: the server deleted the parent of a new row, or gave
// its unique value to another one, and refuses the change for that very reason. Such a change cannot stay in its row,
// so it is displaced: its content goes into _sync_displaced, the row becomes what the server has, and is an intent no
// more. It is listed with what is in quarantine. To retry it is to write the row again.

// displacing makes room for what is applied in the same transaction.
type displacing struct {
	db  *DB
	im  *images
	how *local.Displacement
	out []local.SetAside
	// unknown is set when what the server had in place of a change is not known: a snapshot has to tell.
	unknown bool
}

// displace makes room for what is applied in the same transaction.
func (db *DB) displace(c wire.Contract, how []local.Displacement) (*displacing, error) {
	d := &displacing{db: db, im: newImages(c)}
	for i := range how {
		d.how = &how[i]
		if err := d.ready(); err != nil {
			return nil, err
		}
		if _, err := d.run(nil); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// ready refuses to displace anything while a push is in flight: what is frozen may have been committed.
func (d *displacing) ready() error {
	box, err := d.db.outbox()
	if err == nil && box.State != local.OutboxNone {
		err = d.db.busyOutbox("displace", box)
	}
	return err
}

// run displaces the intents, and with each what cannot stay here without it. A row that cannot become what the server had
// stays as it is, and an intent. The shadows of other intents are laid down together with all that, as far as they can
// be; those that are left are returned.
func (d *displacing) run(others []*intent) (left []*intent, err error) {
	intents, err := d.gather(others)
	if err != nil {
		return nil, err
	}
	var back []*intent
	for _, in := range intents {
		image := in.shadow
		if image == nil {
			image = d.im.before(in)
		}
		if image == nil {
			d.unknown = true
			if err := errors.Join(d.keep(in), d.db.dropIntent(in.t, in.key)); err != nil {
				return nil, err
			}
			continue
		}
		in.shadow = image
		back = append(back, in)
	}
	if d.unknown {
		if err := d.db.setRebuildGate(local.ReasonResume); err != nil {
			return nil, err
		}
	}
	stuck, err := d.db.layDown(d.im, slices.Concat(back, others))
	if err != nil {
		return nil, err
	}
	for _, in := range back {
		if slices.Contains(stuck, in) {
			continue
		}
		if err := d.keep(in); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(slices.Clone(others), func(in *intent) bool { return !slices.Contains(stuck, in) }), nil
}

// drop displaces the intents where every row without one is about to be replaced.
func (d *displacing) drop() error {
	intents, err := d.gather(nil)
	if err != nil {
		return err
	}
	for _, in := range intents {
		if err := errors.Join(d.keep(in), d.db.dropIntent(in.t, in.key)); err != nil {
			return err
		}
	}
	return nil
}

// gather loads the intents, and those that have to go with them; the others are seen to.
func (d *displacing) gather(others []*intent) (intents []*intent, err error) {
	keys := append([]local.IntentKey{}, d.how.Intents...)
	seen := map[local.IntentKey]bool{}
	for _, in := range others {
		seen[local.IntentKey{Table: in.t.Name, KeyJSON: in.key}] = true
	}
	for len(keys) > 0 {
		k := keys[0]
		keys = keys[1:]
		t := d.db.byName[k.Table]
		if t == nil || seen[k] {
			continue
		}
		seen[k] = true
		in, err := d.db.loadIntent(t, k.KeyJSON)
		if err == nil && in == nil {
			in, err = d.db.loadQuarantined(t, k.KeyJSON)
		}
		if err != nil {
			return nil, err
		}
		if in == nil {
			continue // settled meanwhile
		}
		intents = append(intents, in)
		more, err := d.companions(in)
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
	}
	return intents, nil
}

// companions returns the intents of rows that refer to the intent's row, which the server does not have, and those that
// deleted what the server's row refers to.
func (d *displacing) companions(in *intent) (keys []local.IntentKey, err error) {
	key, err := in.t.rowKey(in.key)
	if err != nil {
		return nil, nil //nolint:nilerr // nothing refers to a key that cannot be
	}
	image := in.shadow
	if image == nil {
		image = d.im.before(in)
	}
	if image == nil || image.deleted {
		for _, ref := range d.db.inbounds(in.t) {
			if err := d.db.conn.withRows(fmt.Sprintf(`SELECT %s FROM %s AS p CROSS JOIN %s AS c ON c.%s = p.%s WHERE p.%s = ?1`,
				ref.child.keyJSON("c"), quote(in.t.local), quote(ref.child.local), quote(ref.column), quote(ref.target), quote(in.t.key().name)),
				[]wire.Value{key}, func(s *sqlite3.Stmt) error {
					keys = append(keys, local.IntentKey{Table: ref.child.Name, KeyJSON: s.ColumnText(0)})
					return nil
				}); err != nil {
				return nil, err
			}
		}
		return keys, nil
	}
	row, err := d.im.of(in.t).wire.Decode(image.payload)
	if err != nil {
		return nil, err
	}
	for _, ref := range in.t.parents {
		parent, value := d.db.byName[ref.parent], row[in.t.column(ref.column)]
		if value.Type == wire.Null || ref.parentColumn != parent.key().name {
			continue
		}
		here, err := d.db.conn.withRow(`SELECT 1 FROM `+quote(parent.local)+` WHERE `+quote(ref.parentColumn)+` = ?`, []wire.Value{value}, nil)
		if err != nil || here {
			if err != nil {
				return nil, err
			}
			continue
		}
		gone, err := d.db.localKey(parent, &value)
		if err != nil {
			return nil, err
		}
		keys = append(keys, local.IntentKey{Table: parent.Name, KeyJSON: gone})
	}
	return keys, nil
}

// keep stores an intent among the displaced ones and takes it out of quarantine, whose reason it then keeps.
func (d *displacing) keep(in *intent) error {
	db := d.db
	why := d.how.Reason
	id := int64(0)
	_, err := db.conn.one(`SELECT id, code, message, origin, attempts FROM _sync_quarantine WHERE schema_name = ? AND table_name = ? AND key_json = ?`, func(s *sqlite3.Stmt) error {
		id = s.ColumnInt64(0)
		why = local.Reason{Code: s.ColumnText(1), Message: s.ColumnText(2), Origin: local.Origin(s.ColumnText(3)), Attempts: s.ColumnInt64(4)}
		return nil
	}, in.t.Schema, in.t.Name, in.key)
	if err == nil && id == 0 {
		id, err = db.nextQuarantineID()
	}
	if err != nil {
		return err
	}
	if err := db.dropAt("_sync_quarantine", in.t, in.key); err != nil {
		return err
	}
	// One change a row: a former one was written over.
	if err := db.dropAt("_sync_displaced", in.t, in.key); err != nil {
		return err
	}
	if err := db.conn.run(`INSERT INTO _sync_displaced (id, schema_name, table_name, key_json, op, base_row_version, payload, code, message, origin, attempts)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, id, in.t.Schema, in.t.Name, in.key, string(in.op()), in.base, rawText(in.payload), why.Code, why.Message, string(why.Origin), why.Attempts); err != nil {
		return err
	}
	d.out = append(d.out, local.SetAside{ID: id, Table: in.t.Name, KeyJSON: in.key, Op: in.op(), Base: in.base, Reason: why, Displaced: true})
	return nil
}

// loadQuarantined returns the intent of a key that is in quarantine; nil when none is.
func (db *DB) loadQuarantined(t *table, key string) (in *intent, err error) {
	id, err := db.count(`SELECT COALESCE(MAX(id), 0) FROM _sync_quarantine WHERE schema_name = ? AND table_name = ? AND key_json = ?`, t.Schema, t.Name, key)
	if err != nil || id == 0 {
		return nil, err
	}
	return db.inQuarantine("displace", id)
}

// forgetDisplaced forgets displaced changes whose rows the application has written again: what it wrote takes their place.
func (db *DB) forgetDisplaced() error {
	return db.conn.run(`DELETE FROM _sync_displaced AS q WHERE ` + writtenAgain)
}

// writtenAgain is the condition that there is a newer change of the displaced row q.
const writtenAgain = `EXISTS (SELECT 1 FROM _sync_dirty_rows d WHERE d.schema_name = q.schema_name AND d.table_name = q.table_name AND d.key_json = q.key_json)`

// rewrite writes a displaced change into its row as the application would: the triggers capture it.
func (db *DB) rewrite(id int64) (found bool, err error) {
	var (
		t       *table
		key     string
		payload []byte
	)
	found, err = db.conn.one(`SELECT table_name, key_json, payload FROM _sync_displaced WHERE id = ?`, func(s *sqlite3.Stmt) error {
		t, key, payload = db.byName[s.ColumnText(0)], s.ColumnText(1), columnBytes(s, 2)
		return nil
	}, id)
	switch {
	case err != nil || !found:
		return found, err
	case t == nil:
		return true, db.damaged("_sync_displaced", "holds a row of a table that is not configured", nil)
	}
	cannot := func(reason string, cause error) error {
		return &local.QuarantineError{Operation: "retry", ID: id, Table: t.Name, Reason: reason, Err: cause}
	}
	if payload == nil {
		gone, err := db.losses(nil, &intent{t: t, key: key, shadow: &shadow{deleted: true}})
		if err != nil {
			return true, err
		}
		if err := db.deleteRow(t, key); err != nil {
			return true, err
		}
		for _, l := range gone {
			wanted, err := db.stillWanted(l.ref, l.value)
			if err != nil {
				return true, err
			}
			if wanted {
				return true, cannot("rows of "+l.ref.child.Name+" refer to the row that it deletes", nil)
			}
		}
	} else {
		row, err := newImages(nil).of(t).local.Decode(payload)
		if err != nil {
			return true, cannot("its content cannot be read", err)
		}
		if _, err := db.conn.withRow(t.putSQL(), row, nil); errors.Is(err, sqlite3.CONSTRAINT) {
			return true, cannot("its content breaks a constraint of the table: write the row anew", err)
		} else if err != nil {
			return true, err
		}
		lacking, err := db.danglingParent(t, row)
		if err != nil {
			return true, err
		}
		if lacking != nil {
			return true, cannot(fmt.Sprintf("it refers, by column %s, to a row of %s that is not there", lacking.ref.column, lacking.ref.parent), nil)
		}
	}
	return true, db.conn.run(`DELETE FROM _sync_displaced WHERE id = ?`, id)
}
