package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	now      string

	// intents says that there are intents or shadows to look for.
	intents bool
	// replay is set while rows of the outbox's own bundle come in.
	replay *replay
	phase  phase
	rows   int64 // written or deleted

	batch []change // of one table, each key once
	// arena holds what the batch refers to and does not own.
	arena   []byte
	lookups [3]*sqlite3.Stmt
	states  batched

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
	a := &applier{db: db, contract: contract, plans: map[*table]*plan{}, now: timestamp(time.Now())}
	a.states = batched{c: db.conn, build: stateSQL}
	if err := a.refresh(); err != nil {
		return nil, err
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
	for _, s := range a.lookups {
		if s != nil {
			_ = s.ClearBindings()
		}
	}
}

func (a *applier) plan(t *table) *plan {
	p := a.plans[t]
	if p == nil {
		p = newPlan(a.db.conn, a.contract, t, a.db.tables)
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
	if err := a.look(); err != nil {
		return err
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

// write writes the scheduled rows of a table.
func (a *applier) write(p *plan) error {
	keyOf := func(changes []*change) func(s *sqlite3.Stmt, slot, i int) error {
		return func(s *sqlite3.Stmt, slot, i int) error { return bindRow(s, slot+1, []wire.Value{changes[i].key}) }
	}
	going := a.drops
	if a.phase == deletePhase {
		going = append(going, a.puts...)
	}
	if a.phase != insertPhase && len(going) > 0 {
		if err := a.remember(p, going, a.phase != deletePhase); err != nil {
			return err
		}
		if err := p.delete.exec(len(going), keyOf(going)); err != nil {
			return p.unfit(err)
		}
	}
	if a.phase == deletePhase {
		return nil
	}
	if len(a.puts) > 0 {
		if a.phase == wholePhase {
			if err := a.remember(p, a.puts, false); err != nil {
				return err
			}
		}
		n := len(p.t.columns)
		if err := p.upsert.exec(len(a.puts), func(s *sqlite3.Stmt, slot, i int) error {
			row, err := p.decode(&a.puts[i].key, a.puts[i].payload)
			if err != nil {
				return err
			}
			return bindRow(s, 1+slot*n, row)
		}); err != nil {
			return p.unfit(err)
		}
		if len(p.t.parents) > 0 {
			if err := p.children.exec(len(a.puts), keyOf(a.puts)); err != nil {
				return err
			}
		}
	}
	a.rows += int64(len(a.puts) + len(a.drops))
	p.changed = p.changed || len(a.puts)+len(a.drops) > 0
	return a.writeStates(p.t)
}

// remember keeps the values by which other rows may refer to rows that are about to be deleted or, when they are not
// the key, overwritten.
func (a *applier) remember(p *plan, changes []*change, deleted bool) error {
	for i, column := range p.referred {
		if !deleted && a.phase == wholePhase && column == p.t.key().name {
			continue // an upsert does not change the key
		}
		if err := p.gone[i].exec(len(changes), func(s *sqlite3.Stmt, slot, i int) error {
			return bindRow(s, slot+1, []wire.Value{changes[i].key})
		}); err != nil {
			return err
		}
	}
	return nil
}

func stateSQL(n int) string {
	return `INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted, updated_at) VALUES ` + repeat(n, func(i int) string {
		return `(?1, ?2, ` + parameters(4+3*i, 3) + `, ?3)`
	}) + ` ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET
  row_version = excluded.row_version, deleted = excluded.deleted, updated_at = excluded.updated_at`
}

// writeStates records the versions of the scheduled rows.
func (a *applier) writeStates(t *table) error {
	for _, c := range a.stateful {
		if !c.inexact {
			continue
		}
		if err := a.db.conn.run(`DELETE FROM _sync_row_state WHERE schema_name = ? AND table_name = ? AND key_json = ?`, t.Schema, t.Name, c.keyJSON); err != nil {
			return err
		}
	}
	a.stateful = slices.DeleteFunc(a.stateful, func(c *change) bool { return c.inexact })
	return a.states.exec(len(a.stateful), func(s *sqlite3.Stmt, slot, i int) error {
		c := a.stateful[i]
		if slot == 0 {
			if err := errors.Join(s.BindText(1, t.Schema), s.BindText(2, t.Name), s.BindText(3, a.now)); err != nil {
				return err
			}
		}
		if err := s.BindText(4+3*slot, c.keyJSON); err != nil {
			return err
		}
		if err := s.BindInt64(5+3*slot, c.version); err != nil {
			return err
		}
		return s.BindBool(6+3*slot, c.op == wire.OpDelete)
	})
}

// unfit tells what an error of writing rows of p means: a value that the table cannot hold is the server's fault,
// a unique one may be an intent's.
func (p *plan) unfit(err error) error {
	var proto *wire.ProtocolError
	if errors.As(err, &proto) || isUnique(err) || !errors.Is(err, sqlite3.CONSTRAINT) || errors.Is(err, sqlite3.CONSTRAINT_TRIGGER) {
		return err
	}
	return p.misfit("a row breaks a constraint of the local table", err)
}

// errMisfit marks faults of rows that are sound in themselves.
var errMisfit = errors.New("the local schema cannot hold what the server sent")

// misfit is a fault of a sound row of p's table that has no place here.
func (p *plan) misfit(reason string, cause error) *wire.ProtocolError {
	fault := p.protocol(reason)
	fault.Err = errMisfit
	if cause != nil {
		fault.Err = fmt.Errorf("%w: %w", errMisfit, cause)
	}
	return fault
}

// isUnique reports whether a row could not be written because another one has a value that must be unique.
func isUnique(err error) bool {
	return errors.Is(err, sqlite3.CONSTRAINT_UNIQUE) || errors.Is(err, sqlite3.CONSTRAINT_PRIMARYKEY) || errors.Is(err, sqlite3.CONSTRAINT_ROWID)
}

// The lookups, by what they have to look for.
const (
	lookState = iota
	lookIntents
	lookFrozen
)

// look fills in what is here of the batch's rows.
func (a *applier) look() error {
	which := lookState
	switch {
	case a.replay != nil && a.replay.compares():
		which = lookFrozen
	case a.intents || a.replay != nil:
		which = lookIntents
	}
	s := a.lookups[which]
	if s == nil {
		var err error
		if s, err = a.db.conn.stmt(lookupSQL(which)); err != nil {
			return err
		}
		a.lookups[which] = s
	}
	t := a.batch[0].plan.t
	if err := errors.Join(s.BindText(1, t.Schema), s.BindText(2, t.Name)); err != nil {
		return err
	}
	for i := range batchRows {
		var err error
		if i < len(a.batch) {
			err = s.BindText(3+i, a.batch[i].keyJSON)
		} else {
			err = s.BindNull(3 + i)
		}
		if err != nil {
			return err
		}
	}
	for s.Step() {
		c := &a.batch[s.ColumnInt(0)]
		c.known = s.ColumnInt64(1)
		if which == lookState {
			continue
		}
		c.shadowed = s.ColumnType(2) != sqlite3.NULL
		c.shadow = s.ColumnInt64(2)
		c.dirty = s.ColumnBool(3)
		c.quarantined = s.ColumnBool(4)
		c.frozen = s.ColumnType(5) != sqlite3.NULL
		c.ordinal = s.ColumnInt64(5)
		if which == lookFrozen && c.frozen {
			c.frozenOp = wire.Op(s.ColumnText(6))
			c.frozenWire = a.hold(s.ColumnRawText(7))
		}
	}
	err := s.Err()
	if rerr := s.Reset(); err == nil {
		err = rerr
	}
	return err
}

func lookupSQL(which int) string {
	keys := `WITH k (i, key) AS (VALUES ` + repeat(batchRows, func(i int) string { return `(` + strconv.Itoa(i) + `, ` + parameters(3+i, 1) + `)` }) + `) `
	at := func(alias string) string {
		return alias + `.schema_name = ?1 AND ` + alias + `.table_name = ?2 AND ` + alias + `.key_json = k.key`
	}
	if which == lookState {
		return keys + `SELECT k.i, r.row_version FROM k CROSS JOIN _sync_row_state r ON ` + at("r")
	}
	frozen := ``
	if which == lookFrozen {
		frozen = `, o.op, o.wire_payload`
	}
	return keys + `SELECT k.i, r.row_version, s.row_version, d.key_json IS NOT NULL, q.key_json IS NOT NULL, o.row_ordinal` + frozen + `
FROM k LEFT JOIN _sync_row_state r ON ` + at("r") + `
LEFT JOIN _sync_shadow s ON ` + at("s") + `
LEFT JOIN _sync_dirty_rows d ON ` + at("d") + `
LEFT JOIN _sync_quarantine q ON ` + at("q") + `
LEFT JOIN _sync_outbox_rows o ON ` + at("o") + `
WHERE k.key IS NOT NULL`
}
