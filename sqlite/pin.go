package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// PinContract records that the server of this attachment speaks another dialect from now on: its server was upgraded, or
// brought back. What is stored in the server's spelling is spelled anew, and stages, which can be fetched again, are
// dropped.
//
// The outbox is not spelled anew: what the server may have committed already has the hash of the old spelling. While it
// holds rows the error is a *wire.ContractChangedError, and nothing has changed.
func (db *DB) PinContract(ctx context.Context, contract wire.ContractName) error {
	return db.write(ctx, "pin contract", relaxed, func() error { return db.pin(contract) })
}

// pin is PinContract inside a transaction. The first pin of an attachment has nothing to spell anew.
func (db *DB) pin(contract wire.ContractName) error {
	next, err := wire.ContractByName(contract)
	if err != nil {
		return err
	}
	pinned, err := db.engineState(engineContract)
	if err != nil || pinned == string(contract) {
		return err
	}
	if pinned != "" {
		if err := db.respell(next); err != nil {
			return err
		}
	}
	return db.setEngineState(engineContract, string(contract))
}

func (db *DB) respell(next wire.Contract) error {
	before, err := db.pinnedContract()
	if err != nil {
		return err
	}
	box, err := db.outbox()
	if err != nil {
		return err
	}
	if box.State != local.OutboxNone {
		return &wire.ContractChangedError{Operation: "capabilities", Pinned: before.Name(), Found: next.Name()}
	}
	if err := db.clearStage(); err != nil {
		return err
	}
	if err := db.conn.run(`DELETE FROM _sync_bundle_stage`); err != nil {
		return err
	}
	return db.respellShadows(newImages(before), newImages(next))
}

func (db *DB) respellShadows(from, to *images) error {
	type shadow struct {
		table   *table
		key     string
		payload []byte
	}
	var shadows []shadow // few: rows that two devices changed at the same time
	if _, err := db.conn.each(`SELECT table_name, key_json, payload FROM _sync_shadow WHERE payload IS NOT NULL`, func(s *sqlite3.Stmt) error {
		t := db.byName[s.ColumnText(0)]
		if t == nil {
			return db.damaged("_sync_shadow", "holds a row of a table that is not configured", nil)
		}
		row, err := from.of(t).wire.Decode(s.ColumnRawText(2))
		if err != nil {
			return err
		}
		payload, err := to.contract.AppendPayload(nil, &t.Table, row)
		if err != nil {
			return err
		}
		shadows = append(shadows, shadow{table: t, key: s.ColumnText(1), payload: payload})
		return nil
	}); err != nil {
		return err
	}
	for _, s := range shadows {
		if err := db.conn.run(`UPDATE _sync_shadow SET payload = ? WHERE schema_name = ? AND table_name = ? AND key_json = ?`,
			rawText(s.payload), db.cfg.Schema, s.table.Name, s.key); err != nil {
			return err
		}
	}
	return nil
}
