package sqlite

import (
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// frozenRow is an outbox row that its bundle lacks.
type frozenRow struct {
	t       *table
	keyJSON string
	op      wire.Op
	ordinal int64
}

// missingRows returns the outbox rows that did not appear.
func (db *DB) missingRows(r *replay) (out []frozenRow, err error) {
	if r.appeared == r.outbox.RowCount {
		return nil, nil
	}
	_, err = db.conn.each(`SELECT row_ordinal, table_name, key_json, op FROM _sync_outbox_rows WHERE source_bundle_id = ? ORDER BY row_ordinal`, func(s *sqlite3.Stmt) error {
		ordinal := s.ColumnInt64(0)
		t := db.byName[s.ColumnText(1)]
		if t == nil || ordinal < 0 || ordinal >= r.outbox.RowCount {
			return db.damaged("_sync_outbox_rows", "holds a row that the outbox does not count", nil)
		}
		if !r.has(ordinal) {
			out = append(out, frozenRow{t: t, keyJSON: s.ColumnText(2), op: wire.Op(s.ColumnText(3)), ordinal: ordinal})
		}
		return nil
	}, r.outbox.SourceBundleID)
	return out, err
}

// foreign decides, for a bundle that is to prove something, whether it can be the outbox's at all.
func (r *replay) foreign(missing []frozenRow) bool {
	if !r.proof {
		return false
	}
	for _, f := range missing {
		if f.op != wire.OpInsert {
			return true
		}
	}
	return r.appeared == 0
}

// withoutEffect settles an outbox row that its bundle lacks. gate asks for the rebuild gate.
func (a *applier) withoutEffect(f frozenRow) (gate bool, err error) {
	t, r := f.t, a.replay
	edited, err := a.db.conn.one(`SELECT 1 FROM _sync_dirty_rows WHERE schema_name = ? AND table_name = ? AND key_json = ?`, nil, t.Schema, t.Name, f.keyJSON)
	if err != nil {
		return false, err
	}
	switch {
	case f.op != wire.OpInsert:
		return true, nil
	case edited:
		return false, nil
	case r.proof || r.contentStays:
		return false, a.db.conn.run(`INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload)
SELECT schema_name, table_name, key_json, op, base_row_version, local_payload
FROM _sync_outbox_rows WHERE source_bundle_id = ? AND row_ordinal = ?`, r.outbox.SourceBundleID, f.ordinal)
	}
	key, err := wire.WireKey(&t.Table, f.keyJSON)
	if err != nil {
		return false, err
	}
	c := change{plan: a.plan(t), op: wire.OpDelete, version: r.seq, inexact: true, wireKey: key.Value, keyJSON: f.keyJSON}
	if c.key, err = wire.KeyValue(&t.Table, key); err != nil {
		return false, err
	}
	newer := false
	if newer, err = a.db.conn.one(`SELECT 1 FROM _sync_shadow WHERE schema_name = ? AND table_name = ? AND key_json = ?`, nil, t.Schema, t.Name, f.keyJSON); err != nil {
		return false, err
	}
	if newer {
		if err := a.takeShadow(&c); err != nil {
			return false, err
		}
	}
	// The reference checks of the bundle are over; what this leaves behind, a rebuild sorts out.
	a.phase = wholePhase
	a.puts, a.drops, a.stateful = a.puts[:0], a.drops[:0], a.stateful[:0]
	a.lay(&c)
	if err := a.db.conn.run(`SAVEPOINT effect`); err != nil {
		return false, err
	}
	if err := a.db.clearScratch(); err != nil {
		return false, err
	}
	err = a.write(c.plan)
	if err == nil {
		var found []dangle
		if found, err = a.dangling(); err == nil && len(found) > 0 {
			err = errCareful
		}
	}
	if isUnique(err) || errors.Is(err, errCareful) {
		// The row stays, as an intent: nothing of it is lost, and the gate says that something is wrong.
		if err := errors.Join(a.db.conn.run(`ROLLBACK TO effect`), a.db.conn.run(`RELEASE effect`)); err != nil {
			return false, err
		}
		r.contentStays = true
		_, err := a.withoutEffect(f)
		return true, err
	}
	if err != nil {
		return false, err
	}
	return false, a.db.conn.run(`RELEASE effect`)
}
