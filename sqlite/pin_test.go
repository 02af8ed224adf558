package sqlite

import (
	"errors"
	"math"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

const numbersDDL = `CREATE TABLE numbers (id TEXT PRIMARY KEY NOT NULL, r REAL, n INTEGER, b BLOB)`

// TestAServerThatChangesItsDialect: what is stored in the server's spelling follows, stages are dropped, and nothing
// else changes.
func TestAServerThatChangesItsDialect(t *testing.T) {
	t.Parallel()
	db := testDB(t, numbersDDL, "numbers")
	must(t, db.AttachEmpty(t.Context(), "me", wire.ClassicContract))
	serverRow(t, db, "numbers", `'1', 1.5, 5, x'00ff'`, 3)
	serverRow(t, db, "numbers", `'2', 1.5, 5, NULL`, 3)
	exec(t, db, `UPDATE numbers SET n = 6`)
	cast(t, db, "numbers", keyOf("1"), live(4, `{"id":"1","n":7,"r":2,"b":"AP8="}`))
	cast(t, db, "numbers", keyOf("2"), gone(4))
	must(t, db.BeginStage(t.Context(), wire.SnapshotSession{ID: "s", BundleSeq: 4, RowCount: 1}))
	asServer(t, db, `INSERT INTO _sync_snapshot_stage (snapshot_id, row_ordinal, schema_name, table_name, key_json, row_version, payload) VALUES ('s', 1, 'main', 'numbers', '{"id":"1"}', 4, '{}')`)

	must(t, db.PinContract(t.Context(), wire.ClassicContract)) // as it is
	same(t, "untouched", number(t, db, `SELECT count(*) FROM _sync_snapshot_stage`), int64(1))
	before := dirty(t, db)
	must(t, db.PinContract(t.Context(), wire.UniformContract))
	same(t, "shadows", rows(t, db, `SELECT key_json, row_version, deleted, payload FROM _sync_shadow ORDER BY key_json`),
		[]string{`{"id":"1"}|4|0|{"b":"AP8=","id":"1","n":"7","r":"2"}`, `{"id":"2"}|4|1|∅`})
	same(t, "stage", number(t, db, `SELECT count(*) FROM _sync_snapshot_stage`), int64(0))
	same(t, "staged session", rows(t, db, `SELECT staged_snapshot_id FROM _sync_operation_state`), []string{""})
	same(t, "dirty rows", dirty(t, db), before)
	same(t, "pinned", state(t, db).Contract, wire.UniformContract)
	must(t, db.Verify(t.Context()))

	must(t, db.PinContract(t.Context(), wire.ClassicContract)) // and back
	same(t, "shadows", rows(t, db, `SELECT payload FROM _sync_shadow WHERE payload IS NOT NULL`), []string{`{"id":"1","r":2,"n":7,"b":"AP8="}`})

	var unsupported *wire.UnsupportedContractError
	if err := db.PinContract(t.Context(), "morse"); !errors.As(err, &unsupported) {
		t.Errorf("an unknown dialect: %v", err)
	}
}

// TestAShadowThatTheOtherDialectCannotCarryKeepsIt: nothing is altered on the way, and nothing half done.
func TestAShadowThatTheOtherDialectCannotCarryKeepsIt(t *testing.T) {
	t.Parallel()
	db := testDB(t, numbersDDL, "numbers")
	must(t, db.AttachEmpty(t.Context(), "me", wire.UniformContract))
	serverRow(t, db, "numbers", `'1', 1.5, 5, NULL`, 3)
	exec(t, db, `UPDATE numbers SET n = 6`)
	cast(t, db, "numbers", keyOf("1"), live(4, `{"b":null,"id":"1","n":"9223372036854775807","r":null}`))
	var unfit *wire.ValueError
	if err := db.PinContract(t.Context(), wire.ClassicContract); !errors.As(err, &unfit) || unfit.Column != "n" {
		t.Errorf("%v", err)
	}
	same(t, "pinned", state(t, db).Contract, wire.UniformContract)
	asServer(t, db, `UPDATE _sync_shadow SET payload = '{}'`)
	var broken *wire.ProtocolError
	if err := db.PinContract(t.Context(), wire.ClassicContract); !errors.As(err, &broken) {
		t.Errorf("%v", err)
	}
}

// TestUniformFreeze: the outbox holds canonical wire form and the hash that the server will name; while it does, the
// dialect stays.
func TestUniformFreeze(t *testing.T) {
	t.Parallel()
	db := testDB(t, numbersDDL, "numbers")
	must(t, db.AttachEmpty(t.Context(), "me", wire.UniformContract))
	exec(t, db, `INSERT INTO numbers VALUES ('a', 1.0, ?, x''), ('b', ?, ?, NULL)`, int64(math.MaxInt64), math.MaxFloat64, int64(math.MinInt64))
	f, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: wire.UniformContract})
	must(t, err)
	same(t, "outbox", rows(t, db, `SELECT wire_key_json, wire_payload FROM _sync_outbox_rows ORDER BY row_ordinal`), []string{
		`{"id":"a"}|{"b":"","id":"a","n":"9223372036854775807","r":"1"}`,
		`{"id":"b"}|{"b":null,"id":"b","n":"-9223372036854775808","r":"1.7976931348623157e+308"}`,
	})
	same(t, "literal", rows(t, db, `SELECT canonical_json_contract FROM _sync_outbox_bundle`), []string{string(wire.UniformContract)})
	k, err := wire.ContractByName(wire.UniformContract)
	must(t, err)
	h := k.NewRequestHash()
	pushed, err := db.OutboxRows(t.Context(), 0, 0, 0)
	must(t, err)
	for i := range pushed {
		must(t, h.Add(&pushed[i]))
	}
	same(t, "request hash", f.Outbox.RequestHash, h.Sum())
	same(t, "frozen contract", state(t, db).FrozenContract, wire.UniformContract)
	var changed *wire.ContractChangedError
	if err := db.PinContract(t.Context(), wire.ClassicContract); !errors.As(err, &changed) || changed.Pinned != wire.UniformContract || changed.Found != wire.ClassicContract {
		t.Errorf("%v", err)
	}
	must(t, db.Verify(t.Context()))
}
