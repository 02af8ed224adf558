package sqlite

import (
	"errors"
	"strconv"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

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
