package sqlite

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// classic is the contract of these tests.
func classic(t testing.TB) wire.Contract {
	t.Helper()
	c, err := wire.ContractByName(wire.ClassicContract)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// attachedDB opens a new database that is attached to a user, at checkpoint 0. The tables have the key id.
func attachedDB(t testing.TB, ddl string, names ...string) *DB {
	t.Helper()
	db := testDB(t, ddl, names...)
	attachAt(t, db, 0)
	return db
}

func attachAt(t testing.TB, db *DB, checkpoint int64) {
	t.Helper()
	asServer(t, db,
		fmt.Sprintf(`UPDATE _sync_attachment_state SET binding_state = 'attached', attached_user_id = 'ada', schema_name = '%s', last_bundle_seq_seen = %d`, db.cfg.Schema, checkpoint),
		`INSERT OR REPLACE INTO _sync_engine_state VALUES ('`+engineContract+`', '`+string(wire.ClassicContract)+`')`)
}

// put is a row of the main schema as a server sends it; payload is JSON without the key, which is named id.
func put(table, key, payload string) wire.Row {
	text, _ := json.Marshal(key)
	body := `{"id":` + string(text)
	if payload != "" {
		body += "," + payload
	}
	return wire.Row{Schema: "main", Table: table, Key: wire.Key{Column: "id", Value: key}, Op: wire.OpUpdate, Payload: []byte(body + "}")}
}

// removed is a deletion as a server sends it.
func removed(table, key string) wire.Row {
	return wire.Row{Schema: "main", Table: table, Key: wire.Key{Column: "id", Value: key}, Op: wire.OpDelete}
}

// bundle is a bundle of another device.
func bundle(seq int64, rows ...wire.Row) wire.Bundle {
	rows = slices.Clone(rows) // tables of cases are shared by parallel tests
	for i := range rows {
		rows[i].RowVersion = seq
	}
	return wire.Bundle{BundleMeta: wire.BundleMeta{Seq: seq, SourceID: "elsewhere", SourceBundleID: seq, RowCount: int64(len(rows))}, Rows: rows}
}

// sealed fills in the hash of a bundle.
func sealed(t testing.TB, b wire.Bundle) wire.Bundle {
	t.Helper()
	h := classic(t).NewBundleHash()
	for i := range b.Rows {
		if err := h.Add(&b.Rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	b.Hash = h.Sum()
	return b
}

// pulled applies bundles that must apply.
func pulled(t testing.TB, db *DB, bundles ...wire.Bundle) local.Applied {
	t.Helper()
	out, err := db.ApplyBundles(t.Context(), classic(t), bundles)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// outboxOf freezes everything that is dirty and answers the outbox.
func outboxOf(t testing.TB, db *DB) local.Outbox {
	t.Helper()
	f := freeze(t, db, local.FreezeRequest{})
	if f.Outbox.State != local.OutboxPrepared {
		t.Fatalf("nothing was frozen: %+v", f)
	}
	return f.Outbox
}

// committed makes rows the bundle as which the outbox was committed at seq.
func committed(t testing.TB, box local.Outbox, seq int64, rows ...wire.Row) wire.Bundle {
	t.Helper()
	b := bundle(seq, rows...)
	b.SourceID, b.SourceBundleID = box.SourceID, box.SourceBundleID
	return sealed(t, b)
}

// echo is the bundle as which a server that changes nothing commits the outbox at seq.
func echo(t testing.TB, db *DB, box local.Outbox, seq int64) wire.Bundle {
	t.Helper()
	pushed, err := db.OutboxRows(t.Context(), 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rows []wire.Row
	for _, r := range pushed {
		rows = append(rows, wire.Row{Schema: r.Schema, Table: r.Table, Key: r.Key, Op: r.Op, Payload: r.Payload})
	}
	return committed(t, box, seq, rows...)
}

// markCommitted records that the outbox was committed as b.
func markCommitted(t testing.TB, db *DB, b wire.Bundle) {
	t.Helper()
	if _, err := db.MarkCommitted(t.Context(), b.BundleMeta, false); err != nil {
		t.Fatal(err)
	}
}

// shadows answers the shadows: table, key, version, exact, deleted, payload.
func shadows(t testing.TB, db *DB) []string {
	t.Helper()
	return rows(t, db, `SELECT table_name, key_json ->> 'id', row_version, version_exact, deleted, payload FROM _sync_shadow ORDER BY 1, 2`)
}

func checkpoint(t testing.TB, db *DB) int64 {
	t.Helper()
	return number(t, db, `SELECT last_bundle_seq_seen FROM _sync_attachment_state`)
}

// everything is what is in the file that a transaction could have changed.
func everything(t testing.TB, db *DB) string {
	t.Helper()
	var names []string
	for _, tb := range db.tables {
		names = append(names, tb.local)
	}
	names = append(names, rows(t, db, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '\_sync\_%' ESCAPE '\'`)...)
	var out []string
	for _, n := range names {
		out = append(out, n+":\n"+strings.Join(rows(t, db, `SELECT * FROM `+quote(n)+` ORDER BY 1, 2`), "\n"))
	}
	return strings.Join(out, "\n")
}
