package sqlite

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// A change in quarantine stays in its row and is an intent like any other, so that nothing overwrites it; only pushes
// pass it by. The capture triggers make it a dirty row again when the application writes the row.

// IsolateOutbox sets aside everything in the outbox, which the caller knows not to have been committed: the outbox goes
// back to dirty, an edit made since the freeze being the newest content, and from there into quarantine, together with
// the changes of rows that refer to rows the server will therefore not have. Deletions that have become void stay
// dirty, for Settle to drop. The answer lists what was set aside, without content, those in the outbox first.
func (db *DB) IsolateOutbox(ctx context.Context, why local.Reason) (out []local.SetAside, err error) {
	err = db.write(ctx, "isolate", relaxed, func() error {
		out = nil
		box, err := db.outbox()
		if err != nil {
			return err
		}
		if box.State != local.OutboxPrepared {
			return db.busyOutbox("isolate", box)
		}
		var keys []local.IntentKey
		if _, err := db.conn.each(`SELECT table_name, key_json FROM _sync_outbox_rows ORDER BY row_ordinal`, func(s *sqlite3.Stmt) error {
			keys = append(keys, local.IntentKey{Table: s.ColumnText(0), KeyJSON: s.ColumnText(1)})
			return nil
		}); err != nil {
			return err
		}
		if err := db.requeueOutbox(); err != nil {
			return err
		}
		for _, k := range keys {
			if out, err = db.setAside(out, k, why); err != nil {
				return err
			}
		}
		out, err = db.setAsideDependents(out)
		return err
	})
	return out, err
}

// SetAsideUnfit sets aside every dirty row that the contract cannot carry, or that cannot be read, and the changes of
// rows that refer to such new rows. The answer lists them, without content.
func (db *DB) SetAsideUnfit(ctx context.Context, name wire.ContractName) (out []local.SetAside, err error) {
	err = db.write(ctx, "set aside", relaxed, func() error {
		out = nil
		contract, err := wire.ContractByName(name)
		if err != nil {
			return err
		}
		type finding struct {
			key local.IntentKey
			why local.Reason
		}
		var unfit []finding
		f := &freezing{db: db, im: newImages(contract)}
		if _, err := db.conn.each(`SELECT table_name, key_json, payload FROM _sync_dirty_rows`, func(s *sqlite3.Stmt) error {
			t := db.byName[string(s.ColumnRawText(0))]
			if t == nil {
				return db.damaged("_sync_dirty_rows", "holds a row of a table that is not configured", nil)
			}
			f.deletions = s.ColumnType(2) == sqlite3.NULL
			_, err := f.spell(t, s.ColumnRawText(1), s.ColumnRawText(2))
			var broken *local.DatabaseError
			if err == nil || errors.As(err, &broken) {
				return err
			}
			unfit = append(unfit, finding{local.IntentKey{Table: t.Name, KeyJSON: s.ColumnText(1)}, unfitReason(err)})
			return nil
		}); err != nil {
			return err
		}
		for _, u := range unfit {
			if out, err = db.setAside(out, u.key, u.why); err != nil {
				return err
			}
		}
		out, err = db.setAsideDependents(out)
		return err
	})
	return out, err
}

// unfitReason says why a change cannot be spelled. The text of a ValueError names columns, not content.
func unfitReason(err error) local.Reason {
	why := local.Reason{Code: "unreadable_change", Message: err.Error(), Origin: local.OriginValue}
	var value *wire.ValueError
	if errors.As(err, &value) {
		why.Code = value.Reason
	}
	return why
}

// setAside moves a dirty row into quarantine and appends it to out. A deletion of a row that the server does not have
// is left to Settle.
func (db *DB) setAside(out []local.SetAside, k local.IntentKey, why local.Reason) ([]local.SetAside, error) {
	t := db.byName[k.Table]
	if t == nil {
		return out, db.damaged("_sync_dirty_rows", "holds a row of a table that is not configured", nil)
	}
	in, err := db.loadIntent(t, k.KeyJSON)
	if err != nil || in == nil || in.payload == nil && !in.live {
		return out, err
	}
	id, err := db.nextQuarantineID()
	if err != nil {
		return out, err
	}
	if err := db.conn.run(`INSERT INTO _sync_quarantine (id, schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal, code, message, origin, attempts)
SELECT ?1, schema_name, table_name, key_json, ?2, base_row_version, payload, dirty_ordinal, ?3, ?4, ?5, ?6
FROM _sync_dirty_rows WHERE schema_name = ?7 AND table_name = ?8 AND key_json = ?9`,
		id, string(in.op()), why.Code, why.Message, string(why.Origin), why.Attempts, t.Schema, t.Name, in.key); err != nil {
		return out, err
	}
	if err := db.dropAt("_sync_dirty_rows", t, in.key); err != nil {
		return out, err
	}
	return append(out, local.SetAside{ID: id, Table: t.Name, KeyJSON: in.key, Op: in.op(), Base: in.base, Reason: why}), nil
}

// nextQuarantineID numbers changes in quarantine. A number is never used again: the application may still hold it.
func (db *DB) nextQuarantineID() (int64, error) {
	value, err := db.engineState(engineQuarantineID)
	if err != nil {
		return 0, err
	}
	last := int64(0)
	if value != "" {
		if last, err = strconv.ParseInt(value, 10, 64); err != nil {
			return 0, db.damaged("_sync_engine_state", "holds a number under "+engineQuarantineID+" that is none", err)
		}
	}
	return last + 1, db.setEngineState(engineQuarantineID, strconv.FormatInt(last+1, 10))
}

// anyQuarantined reports whether anything is in quarantine.
func (db *DB) anyQuarantined() (bool, error) {
	return db.conn.one(`SELECT 1 FROM _sync_quarantine LIMIT 1`, nil)
}

// setAsideDependents sets aside the changes of rows that refer to rows which the server does not have because they are in
// quarantine: each of them would be refused for want of its parent.
func (db *DB) setAsideDependents(out []local.SetAside) ([]local.SetAside, error) {
	why := local.Reason{Code: local.CodeDependency, Message: "it refers to a row that the server does not have, as that one is in quarantine", Origin: local.OriginDependency}
	for {
		keys, err := db.dependents("_sync_dirty_rows", `d.op <> 'DELETE'`)
		if err != nil || len(keys) == 0 {
			return out, err
		}
		for _, k := range keys {
			if out, err = db.setAside(out, k, why); err != nil {
				return out, err
			}
		}
	}
}

// releaseDependents puts those back that no longer refer to a row in quarantine.
func (db *DB) releaseDependents() error {
	for {
		still := map[local.IntentKey]bool{}
		keys, err := db.dependents("_sync_quarantine", `d.origin = 'dependency'`)
		if err != nil {
			return err
		}
		for _, k := range keys {
			still[k] = true
		}
		var free []int64
		if _, err := db.conn.each(`SELECT id, table_name, key_json FROM _sync_quarantine WHERE origin = 'dependency'`, func(s *sqlite3.Stmt) error {
			if !still[local.IntentKey{Table: s.ColumnText(1), KeyJSON: s.ColumnText(2)}] {
				free = append(free, s.ColumnInt64(0))
			}
			return nil
		}); err != nil || len(free) == 0 {
			return err
		}
		for _, id := range free {
			if err := db.unquarantine(id); err != nil {
				return err
			}
		}
	}
}

// dependents returns the keys in a metadata table d whose rows refer to a new row in quarantine.
func (db *DB) dependents(metadata, condition string) (keys []local.IntentKey, err error) {
	for _, child := range db.tables {
		for _, ref := range child.parents {
			parent := db.byName[ref.parent]
			target := parent.Columns[parent.column(ref.parentColumn)]
			value := member("q.payload", target.Name)
			if target.Kind == wire.KindBlob || target.Kind == wire.KindUUIDBlob {
				value = `unhex(` + value + `)`
			}
			// A row that refers to itself is no dependent of itself.
			if _, err := db.conn.each(`SELECT DISTINCT d.key_json FROM _sync_quarantine q
  CROSS JOIN `+quote(child.local)+` AS c ON c.`+quote(ref.column)+` = `+value+`
  CROSS JOIN `+metadata+` d ON d.schema_name = q.schema_name AND d.table_name = `+literal(child.Name)+` AND d.key_json = `+child.keyJSON("c")+`
WHERE q.schema_name = ? AND q.table_name = ? AND q.op = 'INSERT' AND `+condition+` AND (d.table_name <> q.table_name OR d.key_json <> q.key_json)
ORDER BY d.key_json`, func(s *sqlite3.Stmt) error {
				keys = append(keys, local.IntentKey{Table: child.Name, KeyJSON: s.ColumnText(0)})
				return nil
			}, parent.Schema, parent.Name); err != nil {
				return nil, err
			}
		}
	}
	return distinct(keys), nil
}

// unquarantine makes a change in quarantine a dirty row again, in its old place if that is free.
func (db *DB) unquarantine(id int64) error {
	clear(db.conn.sees)
	if err := db.conn.run(`INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
SELECT schema_name, table_name, key_json, op, base_row_version, payload, `+formerOrdinal+` FROM _sync_quarantine q WHERE id = ?`, id); err != nil {
		return err
	}
	return db.conn.run(`DELETE FROM _sync_quarantine WHERE id = ?`, id)
}

// Quarantined lists what is in quarantine, oldest first.
func (db *DB) Quarantined(ctx context.Context) (out []local.SetAside, err error) {
	err = db.read(ctx, "list the quarantine", func() error {
		out = nil
		const columns = `q.id AS id, q.table_name, q.key_json, q.op, q.base_row_version, q.payload, q.code, q.message, q.origin, q.attempts, q.created_at, q.updated_at`
		_, err := db.conn.each(`SELECT `+columns+`, s.row_version, s.deleted, s.payload, 0
FROM _sync_quarantine q LEFT JOIN _sync_shadow s ON s.schema_name = q.schema_name AND s.table_name = q.table_name AND s.key_json = q.key_json
UNION ALL SELECT `+columns+`, NULL, NULL, NULL, 1 FROM _sync_displaced q WHERE NOT `+writtenAgain+`
ORDER BY id`, func(s *sqlite3.Stmt) error {
			a := local.SetAside{
				ID: s.ColumnInt64(0), Table: s.ColumnText(1), KeyJSON: s.ColumnText(2), Op: wire.Op(s.ColumnText(3)), Base: s.ColumnInt64(4), Local: columnBytes(s, 5),
				Reason:    local.Reason{Code: s.ColumnText(6), Message: s.ColumnText(7), Origin: local.Origin(s.ColumnText(8)), Attempts: s.ColumnInt64(9)},
				Displaced: s.ColumnBool(15),
			}
			// A time that cannot be read is no reason to show nothing.
			a.CreatedAt, _ = time.Parse(time.RFC3339Nano, s.ColumnText(10))
			a.UpdatedAt, _ = time.Parse(time.RFC3339Nano, s.ColumnText(11))
			if t := db.byName[a.Table]; t != nil {
				// A key that cannot be spelled may be the very reason why the row is here.
				a.Key, _ = wire.WireKey(&t.Table, a.KeyJSON)
			}
			if s.ColumnType(12) != sqlite3.NULL {
				a.Server = &local.ServerImage{Version: s.ColumnInt64(12), Deleted: s.ColumnBool(13), Wire: columnBytes(s, 14)}
			}
			out = append(out, a)
			return nil
		})
		return err
	})
	return out, err
}

// RetryQuarantined makes changes in quarantine dirty rows again, for the next push; displaced ones are written into their
// rows. Lenient passes over changes that are in quarantine no more.
//
// Errors: *local.QuarantineError for an id that is not in quarantine, or a displaced change that its row cannot take;
// *local.DatabaseError.
func (db *DB) RetryQuarantined(ctx context.Context, ids []int64, lenient bool) error {
	err := db.write(ctx, "retry", relaxed, func() error {
		for _, id := range ids {
			if displaced, err := db.rewrite(id); displaced || err != nil {
				if err != nil {
					return err
				}
				continue
			}
			_, err := db.inQuarantine("retry", id)
			var unknown *local.QuarantineError
			switch {
			case lenient && errors.As(err, &unknown):
				continue
			case err != nil:
				return err
			}
			if err := db.unquarantine(id); err != nil {
				return err
			}
		}
		return nil
	})
	return aboutQuarantine(err)
}

// DiscardQuarantined gives changes in quarantine up: the newest image of the server's takes the place of each, or the one
// on which it was made, or, of a row that the server does not have, nothing. All of them or none.
//
// Errors: *local.QuarantineError for an id that is not in quarantine, or for a change whose row other local rows lean on;
// *local.DatabaseError.
func (db *DB) DiscardQuarantined(ctx context.Context, ids []int64) (out local.Discarded, err error) {
	err = db.applying(ctx, "discard", func() error {
		out, err = db.discard(ids)
		return err
	})
	if err != nil {
		return local.Discarded{}, aboutQuarantine(err)
	}
	return out, nil
}

func (db *DB) discard(ids []int64) (out local.Discarded, err error) {
	if len(ids) == 0 {
		return out, nil
	}
	contract, err := db.pinnedContract()
	if err != nil {
		return out, err
	}
	im := newImages(contract)
	tables := map[*table]bool{}
	of := map[*intent]int64{}
	var back []*intent
	for _, id := range ids {
		displaced, err := db.conn.changes(`DELETE FROM _sync_displaced WHERE id = ?`, id)
		if err != nil {
			return out, err
		}
		if displaced > 0 {
			continue // its row is what the server has
		}
		in, err := db.inQuarantine("discard", id)
		if err != nil {
			return out, err
		}
		tables[in.t] = true
		if err := db.dropAt("_sync_quarantine", in.t, in.key); err != nil {
			return out, err
		}
		if in.shadow == nil {
			in.shadow = im.before(in)
		}
		if in.shadow != nil {
			of[in] = id
			back = append(back, in)
			continue
		}
		// What the server has is not known: a snapshot will tell.
		out.RebuildRequired = true
		if err := db.dropIntent(in.t, in.key); err != nil {
			return out, err
		}
	}
	stuck, err := db.layDown(im, back)
	if err != nil {
		return out, err
	}
	if len(stuck) > 0 {
		return out, &local.QuarantineError{Operation: "discard", ID: of[stuck[0]], Table: stuck[0].t.Name,
			Reason: "the row cannot become what the server has: local changes of other rows refer to it, hold one of its unique values, or deleted what it refers to; push, undo or discard those with it"}
	}
	if out.RebuildRequired {
		if err := db.setRebuildGate(local.ReasonResume); err != nil {
			return out, err
		}
	}
	out.Tables = tableSet(tables)
	return out, nil
}

// inQuarantine returns a change in quarantine with what is known of the server's side.
func (db *DB) inQuarantine(operation string, id int64) (in *intent, err error) {
	var name string
	found, err := db.conn.one(`SELECT `+intentColumns+`, d.table_name
FROM _sync_quarantine d
  LEFT JOIN _sync_shadow s ON s.schema_name = d.schema_name AND s.table_name = d.table_name AND s.key_json = d.key_json`+intentBase+`
WHERE d.id = ?`, func(s *sqlite3.Stmt) error {
		name = s.ColumnText(9)
		in = scanIntent(db.byName[name], s)
		return nil
	}, id)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, &local.QuarantineError{Operation: operation, ID: id, Reason: "there is no such change in quarantine: it was retried, discarded, or its row was written since"}
	case in.t == nil:
		return nil, db.damaged("_sync_quarantine", "holds a row of a table that is not configured", nil)
	}
	return in, nil
}

// aboutQuarantine takes an error about a change in quarantine out of the *local.DatabaseError that the transaction put
// around it: nothing is wrong with the database.
func aboutQuarantine(err error) error {
	var q *local.QuarantineError
	if errors.As(err, &q) {
		return q
	}
	return err
}
