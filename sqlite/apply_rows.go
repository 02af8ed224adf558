package sqlite

import (
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// applier lays rows of the server down in the local tables, or beside them where an intent is in the way. It lives as
// long as a transaction in apply mode.
//
// Rows must come sorted by table and key: that puts the versions of one row next to each other, of which only the last
// one counts, and makes the writes into tables and row states nearly sequential, which is three times as fast as
// random ones.
type applier struct {
	db       *DB
	contract wire.Contract
	plans    map[*table]*plan
	watched  map[*table]bool // where triggers of the application's fire
	now      string

	// intents says that there are intents or shadows to look for.
	intents bool
	// trusting: where there are none, nothing is looked up. See care.
	trusting bool
	// replay is set while rows of the outbox's own bundle come in.
	replay *replay
	phase  phase
	rows   int64 // written or deleted

	batch []change // of one table, each key once
	// arena holds what the batch refers to and does not own.
	arena   []byte
	lookups [3]*sqlite3.Stmt
	states  batched
	fresh   batched // states, of rows that must be newer than what is here

	puts, drops []*change // scratch of flush: rows to write, rows to delete
	stateful    []*change // scratch of flush: rows whose state to write
}

// phase says which half of the work a pass over rows does. Rows that swap unique values are first deleted, all of
// them, and then inserted.
type phase uint8

const (
	wholePhase phase = iota
	deletePhase
	insertPhase
)

// change is one row of the server on its way in, and what is here of it.
type change struct {
	plan    *plan
	op      wire.Op
	version int64
	wireKey string
	key     wire.Value
	keyJSON string
	payload []byte // wire form
	inexact bool   // the version is not the tombstone's own: it leaves no row state

	known       int64 // row_version of the row state, 0 without one
	shadow      int64 // row_version of the shadow, 0 without one
	shadowed    bool
	dirty       bool
	quarantined bool
	frozen      bool // in the outbox
	ordinal     int64
	frozenOp    wire.Op
	frozenWire  []byte
}

// intent reports whether the row has one.
func (c *change) intent() bool { return c.dirty || c.frozen || c.quarantined }

func (db *DB) newApplier(contract wire.Contract) (*applier, error) {
	a := &applier{db: db, contract: contract, plans: map[*table]*plan{}, now: timestamp(db.cfg.Now())}
	a.states = batched{c: db.conn, build: stateSQL, first: newStateSQL}
	a.fresh = batched{c: db.conn, build: freshSQL, first: newStateSQL, every: true}
	if err := a.refresh(); err != nil {
		return nil, err
	}
	if !db.conn.triggersOff {
		var err error
		if a.watched, err = db.watchedTables(); err != nil {
			return nil, err
		}
	}
	return a, db.clearScratch()
}

// refresh finds out whether there is anything that rows of the server must not overwrite.
func (a *applier) refresh() error {
	_, err := a.db.conn.one(`SELECT EXISTS (SELECT 1 FROM _sync_dirty_rows) OR EXISTS (SELECT 1 FROM _sync_outbox_rows)
OR EXISTS (SELECT 1 FROM _sync_quarantine) OR EXISTS (SELECT 1 FROM _sync_shadow)`, func(s *sqlite3.Stmt) error {
		a.intents = s.ColumnBool(0)
		return nil
	})
	return err
}

// timestamp is SQLite's spelling of a time in the metadata tables.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// close drops what statements hold in memory.
func (a *applier) close() {
	for _, p := range a.plans {
		for _, b := range p.batches() {
			b.clear()
		}
	}
	a.states.clear()
	a.fresh.clear()
	for _, s := range a.lookups {
		if s != nil {
			_ = s.ClearBindings()
		}
	}
}

func (a *applier) plan(t *table) *plan {
	p := a.plans[t]
	if p == nil {
		p = newPlan(a.db.conn, a.contract, t, a.db.tables, a.db.conn.triggersOff, a.watched[t])
		a.plans[t] = p
	}
	return p
}

// tables returns the tables that were changed.
func (a *applier) tables() local.TableSet {
	var out local.TableSet
	for t, p := range a.plans {
		if p.changed {
			out = append(out, t.Name)
		}
	}
	slices.Sort(out)
	return out
}

// add takes in one row. A payload that does not stay as it is until the applier is done must not be kept.
func (a *applier) add(p *plan, key string, op wire.Op, version int64, payload []byte, keep bool) error {
	if n := len(a.batch); n > 0 {
		switch last := &a.batch[n-1]; {
		case last.plan == p && last.wireKey == key:
			a.batch = a.batch[:n-1] // an older version of the same row
		case last.plan != p || n == batchRows:
			if err := a.flush(); err != nil {
				return err
			}
		}
	}
	c := change{plan: p, op: op, version: version, wireKey: key, payload: payload}
	if !keep && payload != nil {
		c.payload = a.hold(payload)
	}
	if p.t.KeyColumn().Kind == wire.KindText {
		c.key = wire.Value{Type: wire.Text, Bytes: a.hold([]byte(key))}
	} else {
		var err error
		if c.key, err = wire.KeyValue(&p.t.Table, wire.Key{Column: p.t.KeyColumn().Name, Value: key}); err != nil {
			return err
		}
	}
	var err error
	if c.keyJSON, err = a.db.localKey(p.t, &c.key); err != nil {
		return err
	}
	a.batch = append(a.batch, c)
	return nil
}

// hold copies bytes that the batch needs.
func (a *applier) hold(b []byte) []byte {
	start := len(a.arena)
	a.arena = append(a.arena, b...)
	return a.arena[start:len(a.arena):len(a.arena)]
}

// localKey spells the key of a row as the capture triggers do.
func (db *DB) localKey(t *table, key *wire.Value) (string, error) {
	if text, ok := wire.LocalKeyJSON(&t.Table, key.Bytes); ok {
		return text, nil
	}
	value := `?1`
	if key.Type == wire.Blob {
		value = `lower(hex(?1))`
	}
	var out string
	_, err := db.conn.withRow(`SELECT json_object(`+literal(t.KeyColumn().Name)+`, `+value+`)`, []wire.Value{*key}, func(s *sqlite3.Stmt) error {
		out = s.ColumnText(0)
		return nil
	})
	return out, err
}

// flush lays down the batch.
func (a *applier) flush() error {
	if len(a.batch) == 0 {
		return nil
	}
	if !a.blind() {
		if err := a.look(); err != nil {
			return err
		}
	}
	a.puts, a.drops, a.stateful = a.puts[:0], a.drops[:0], a.stateful[:0]
	for i := range a.batch {
		c := &a.batch[i]
		var err error
		switch {
		case a.replay != nil && c.frozen:
			err = a.settle(c)
		case c.version <= max(c.known, c.shadow):
			// Known already.
		case c.intent():
			err = a.cast(c)
		case a.replay != nil && a.replay.contentStays:
			// The rebuild that follows brings it.
		default:
			a.lay(c)
		}
		if err != nil {
			return err
		}
	}
	err := a.write(a.batch[0].plan)
	a.batch, a.arena = a.batch[:0], a.arena[:0]
	return err
}

// blind reports whether rows are laid down without looking what is here of them.
func (a *applier) blind() bool {
	return a.trusting && !a.intents && a.replay == nil && a.phase == wholePhase
}

// lay schedules the content and the state of a row to be written.
func (a *applier) lay(c *change) {
	if c.op == wire.OpDelete {
		a.drops = append(a.drops, c)
	} else {
		a.puts = append(a.puts, c)
	}
	a.stateful = append(a.stateful, c)
}

// cast makes a row that has an intent its shadow.
func (a *applier) cast(c *change) error {
	if a.phase == deletePhase {
		return nil
	}
	if c.op != wire.OpDelete {
		// What is kept for later must be as sound as what is laid down now.
		if _, err := c.plan.decode(&c.key, c.payload); err != nil {
			return err
		}
	}
	return a.db.conn.run(`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, version_exact, deleted, payload) VALUES (?, ?, ?, ?, 1, ?, ?)
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET
  row_version = excluded.row_version, version_exact = 1, deleted = excluded.deleted, payload = excluded.payload`,
		c.plan.t.Schema, c.plan.t.Name, c.keyJSON, c.version, c.op == wire.OpDelete, rawText(c.payload))
}
