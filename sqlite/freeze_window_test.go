package sqlite

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/oversqlite/oversqlite/local"
)

// TestFreezeTakesEveryOrdinal: the order is that of the ordinals wherever they are, bound by bound.
func TestFreezeTakesEveryOrdinal(t *testing.T) {
	t.Parallel()
	ordinals := []int64{math.MinInt64, -5, 0, 1, 2, freezeWindow, freezeWindow + 1, 1 << 40, math.MaxInt64 - 1, math.MaxInt64}
	for _, req := range []local.FreezeRequest{{}, {MaxRows: 3}, {MaxBytes: 60}, {MaxRows: 2 * freezeWindow}, {MaxBytes: 1 << 20}} {
		db := synced(t, testDB(t, usersDDL, "users"))
		var want []string
		for i := range ordinals {
			exec(t, db, `INSERT INTO users VALUES (?, 'x')`, fmt.Sprint(i))
			exec(t, db, `UPDATE _sync_dirty_rows SET dirty_ordinal = ? WHERE key_json = ?`, -1_000_000-i, keyOf(fmt.Sprint(i)))
			want = append(want, fmt.Sprint(i))
		}
		for i, ordinal := range ordinals {
			exec(t, db, `UPDATE _sync_dirty_rows SET dirty_ordinal = ? WHERE key_json = ?`, ordinal, keyOf(fmt.Sprint(i)))
		}
		var got []string
		for more := true; more; {
			f := freeze(t, db, req)
			if more = f.More; f.Outbox.State == local.OutboxNone {
				break
			}
			n := len(got)
			for _, r := range sent(t, db) {
				got = append(got, r.Key.Value)
			}
			if req.MaxRows > 0 && int64(len(got)-n) > req.MaxRows {
				t.Errorf("%+v: %d rows", req, len(got)-n)
			}
			if err := db.write(t.Context(), "test", relaxed, func() error { return errors.Join(db.settleFrozen(1), db.clearOutbox()) }); err != nil {
				t.Fatal(err)
			}
		}
		same(t, fmt.Sprintf("%+v", req), got, want)
		same(t, "dirty", dirty(t, db), []string{})
	}
}

// TestFreezeTellsOperationsByWhatTheServerHas: an insert on a base is looked up, and Verify does not let an update of a
// row pass that the server is not known to have.
func TestFreezeTellsOperationsByWhatTheServerHas(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	for _, id := range []string{"edited", "live", "buried"} {
		serverRow(t, db, "users", `'`+id+`', 'x'`, 7)
	}
	exec(t, db, `INSERT INTO users VALUES ('new', 'x')`)
	exec(t, db, `UPDATE users SET name = 'y'`)
	asServer(t, db, `UPDATE _sync_row_state SET deleted = 1 WHERE key_json = '{"id":"buried"}'`,
		`UPDATE _sync_dirty_rows SET op = 'INSERT' WHERE key_json = '{"id":"live"}'`)
	if err := db.Verify(t.Context()); err == nil {
		t.Error("an update of a row that is a tombstone on the server passes")
	}
	asServer(t, db, `UPDATE _sync_dirty_rows SET op = 'INSERT' WHERE key_json = '{"id":"buried"}'`)
	mustVerify(t, db)
	freeze(t, db, local.FreezeRequest{})
	same(t, "operations", rows(t, db, `SELECT key_json ->> 'id', op, base_row_version FROM _sync_outbox_rows ORDER BY 1`),
		[]string{"buried|INSERT|7", "edited|UPDATE|7", "live|UPDATE|7", "new|INSERT|0"})
}

// TestFreezeFunctionsServeNobodyElse: outside of a Freeze they answer an error, on a connection that was closed and
// opened in between as well as on one that was not.
func TestFreezeFunctionsServeNobodyElse(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	exec(t, db, `INSERT INTO users VALUES ('u', 'x')`)
	freeze(t, db, local.FreezeRequest{})
	for _, sql := range []string{`SELECT _sync_frozen(0)`, `SELECT _sync_freeze(0, 0, 0, 0, 0, 0)`} {
		if err := db.read(t.Context(), "test", func() error { return db.conn.run(sql) }); err == nil {
			t.Errorf("%s is answered", sql)
		}
	}
	if err := db.RequeueOutbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.sleep(); err != nil {
		t.Fatal(err)
	}
	if f := freeze(t, db, local.FreezeRequest{}); f.Outbox.RowCount != 1 {
		t.Errorf("frozen %+v", f)
	}
}
