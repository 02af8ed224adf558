package sqlite

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// stepsDDL has a table of its own, a parent with children, and one that refers to itself.
const stepsDDL = `
CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, v TEXT);
CREATE TABLE lists (id TEXT PRIMARY KEY NOT NULL, v TEXT);
CREATE TABLE entries (id TEXT PRIMARY KEY NOT NULL, v TEXT, list TEXT REFERENCES lists(id));
CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, v TEXT, parent TEXT REFERENCES nodes(id) DEFERRABLE INITIALLY DEFERRED);`

// TestPushInPiecesIsLinear: what a row of a push costs does not depend on how many others wait with it, whatever was done
// to them. It is counted in steps of SQLite's machine, over everything that a push does with the database.
func TestPushInPiecesIsLinear(t *testing.T) {
	t.Parallel()
	known := func(table string) string {
		return `INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version) SELECT 'main', '` + table + `', json_object('id', id), 1 FROM ` + table
	}
	for name, c := range map[string]struct {
		before []string // what the server has already
		edit   []string // for each i
		pieces bool     // the server tells the rows, and no hash proves them
	}{
		"inserts":   {edit: []string{`INSERT INTO items VALUES ('i' || ?1, 'v')`}},
		"updates":   {before: []string{`INSERT INTO items VALUES ('i' || ?1, 'v')`}, edit: []string{`UPDATE items SET v = 'w' WHERE id = 'i' || ?1`}},
		"deletions": {before: []string{`INSERT INTO items VALUES ('i' || ?1, 'v')`}, edit: []string{`DELETE FROM items WHERE id = 'i' || ?1`}},
		"fetched": {before: []string{`INSERT INTO items VALUES ('i' || ?1, 'v')`}, pieces: true, edit: []string{
			`UPDATE items SET v = 'w' WHERE id = 'i' || ?1`, `INSERT INTO items VALUES ('j' || ?1, 'v')`}},
		"of nothing": {before: []string{`INSERT INTO items VALUES ('i' || ?1, 'v')`}, edit: []string{
			`UPDATE items SET v = 'w' WHERE id = 'i' || ?1`, `UPDATE items SET v = 'v' WHERE id = 'i' || ?1 AND ?1 % 2`,
			`INSERT INTO items VALUES ('j' || ?1, 'v')`, `DELETE FROM items WHERE id = 'j' || ?1`,
		}},
		"with children": {edit: []string{`INSERT INTO lists VALUES ('l' || ?1, 'v')`, `INSERT INTO entries VALUES ('e' || ?1, 'v', 'l' || ?1)`}},
		"behind deletions": {before: []string{`INSERT INTO items VALUES ('i' || ?1, 'v')`}, edit: []string{
			`DELETE FROM items WHERE id = 'i' || ?1`, `INSERT INTO lists VALUES ('l' || ?1, 'v')`}},
		"deleted chains": {before: []string{`INSERT INTO nodes VALUES ('n' || ?1, 'v', CASE WHEN ?1 % 16 < 15 THEN 'n' || (?1 + 1) END)`},
			edit: []string{`DELETE FROM nodes WHERE id = 'n' || ?1`}},
		"tree": {edit: []string{`INSERT INTO nodes VALUES ('n' || ?1, 'v', CASE WHEN ?1 > 0 THEN 'n' || (?1 / 2) END)`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perRow := func(n int) float64 {
				db := attachedDB(t, stepsDDL, "items", "lists", "entries", "nodes")
				for i, statements := range [][]string{c.before, c.edit} {
					if err := db.Write(t.Context(), func(tx *sql.Tx) error {
						var prepared []*sql.Stmt
						for _, s := range statements {
							p, err := tx.PrepareContext(t.Context(), s)
							if err != nil {
								return err
							}
							defer p.Close()
							prepared = append(prepared, p)
						}
						for i := range n {
							for _, p := range prepared {
								if _, err := p.ExecContext(t.Context(), i); err != nil {
									return err
								}
							}
						}
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					if i == 0 {
						asServer(t, db, `DELETE FROM _sync_dirty_rows`, known("items"), known("nodes"))
					}
				}
				return float64(pushSteps(t, db, 250, c.pieces)) / float64(n)
			}
			few, many := perRow(2000), perRow(6000)
			t.Logf("%.0f steps a row of 2000, %.0f of 6000", few, many)
			if many > 1.1*few {
				t.Errorf("%.0f steps a row of 2000, %.0f of 6000", few, many)
			}
		})
	}
}

// pushSteps pushes everything in bundles of some rows and answers how many steps SQLite took for it.
func pushSteps(t *testing.T, db *DB, bundle int64, pieces bool) (steps int) {
	t.Helper()
	release, err := db.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	contract := classic(t)
	for seq := int64(1); ; seq++ {
		if s, err := db.Settle(t.Context(), 100); err != nil || len(s.Conflicts) > 0 {
			t.Fatal(s, err)
		}
		f, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: contract.Name(), MaxRows: bundle})
		if err != nil || f.Outbox.RowCount > 2*bundle {
			t.Fatal(f, err)
		}
		if f.Outbox.State != local.OutboxNone {
			b := echo(t, db, f.Outbox, seq)
			markCommitted(t, db, b)
			proved := false
			if !pieces {
				proved, _, err = db.ReplayFrozen(t.Context(), contract, b.BundleMeta)
			}
			if !proved && err == nil {
				_, err = db.Replay(t.Context(), contract, b, false)
			}
			if err != nil || proved == pieces {
				t.Fatal(proved, err)
			}
		}
		for _, s := range db.conn.stmts {
			steps += s.Status(sqlite3.STMTSTATUS_VM_STEP, true)
		}
		if !f.More {
			break
		}
	}
	verify(t, db)
	if left := dirty(t, db); len(left) > 0 {
		t.Fatal(fmt.Sprint("left dirty: ", left))
	}
	return steps
}
