package sqlite

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// graphDDL has a chain, a self-reference and a cycle of two tables.
const graphDDL = `
CREATE TABLE roots (id TEXT PRIMARY KEY NOT NULL, v TEXT);
CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, root TEXT REFERENCES roots(id) DEFERRABLE INITIALLY DEFERRED,
  parent TEXT REFERENCES nodes(id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE xs (id TEXT PRIMARY KEY NOT NULL, y TEXT REFERENCES ys(id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE ys (id TEXT PRIMARY KEY NOT NULL, x TEXT REFERENCES xs(id) DEFERRABLE INITIALLY DEFERRED,
  node TEXT REFERENCES nodes(id) DEFERRABLE INITIALLY DEFERRED);`

// graphRefs are its references: table and column, table referred to.
var graphRefs = []struct{ table, column, parent string }{
	{"nodes", "root", "roots"}, {"nodes", "parent", "nodes"}, {"xs", "y", "ys"}, {"ys", "x", "xs"}, {"ys", "node", "nodes"},
}

// randomEdits makes local changes that leave no dangling reference.
func randomEdits(t *rapid.T, tb testing.TB, db *DB, n int) {
	id := rapid.IntRange(0, 9)
	tables := []string{"roots", "nodes", "xs", "ys"}
	for range n {
		table := rapid.SampledFrom(tables).Draw(t, "table")
		at := fmt.Sprint(id.Draw(t, "id"))
		var statements []string
		put := func(table, at string) {
			statements = append(statements, fmt.Sprintf(`INSERT INTO %s (id) VALUES ('%s') ON CONFLICT DO NOTHING`, table, at))
		}
		if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
			for _, r := range graphRefs {
				if r.parent == table {
					statements = append(statements, fmt.Sprintf(`UPDATE %s SET %s = NULL WHERE %[2]s = '%s' AND %d`, r.table, r.column, at, rapid.IntRange(0, 1).Draw(t, "away")),
						fmt.Sprintf(`DELETE FROM nodes WHERE '%s' = 'nodes' AND parent = '%s' AND id <> '%[2]s' AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.parent = nodes.id) AND NOT EXISTS (SELECT 1 FROM ys WHERE node = nodes.id)`, table, at),
						fmt.Sprintf(`UPDATE %s SET %s = NULL WHERE %[2]s = '%s'`, r.table, r.column, at))
				}
			}
			statements = append(statements, fmt.Sprintf(`DELETE FROM %s WHERE id = '%s'`, table, at))
		} else {
			put(table, at)
			for _, r := range graphRefs {
				if r.table == table && rapid.Bool().Draw(t, "refer") {
					to := fmt.Sprint(id.Draw(t, "to"))
					put(r.parent, to)
					statements = append(statements, fmt.Sprintf(`UPDATE %s SET %s = '%s' WHERE id = '%s'`, table, r.column, to, at))
				}
			}
		}
		inTx(tb, db, statements...)
	}
}

// clearGraph deletes everything, in any order, with or without telling what it referred to.
func clearGraph(t *rapid.T, tb testing.TB, db *DB, server *graphServer) {
	var statements []string
	for _, table := range []string{"nodes", "xs", "ys", "roots"} {
		for at := range 10 {
			statements = append(statements, fmt.Sprintf(`DELETE FROM %s WHERE id = '%d'`, table, at))
		}
	}
	inTx(tb, db, rapid.Permutation(statements).Draw(t, "order")...)
	if rapid.Bool().Draw(t, "blind") {
		one, other := rapid.IntRange(0, 9).Draw(t, "one"), rapid.IntRange(0, 9).Draw(t, "other")
		inTx(tb, db, fmt.Sprintf(`DELETE FROM _sync_base_rows WHERE key_json IN ('{"id":"%d"}', '{"id":"%d"}')
  AND (table_name, key_json) IN (SELECT table_name, key_json FROM _sync_dirty_rows WHERE op = 'DELETE')`, one, other))
		for _, table := range []string{"nodes", "xs", "ys", "roots"} {
			server.blind[fmt.Sprint(table, " ", one)], server.blind[fmt.Sprint(table, " ", other)] = true, true
		}
	}
}

// graphServer is a model of a server: rows by table and key, and deferred foreign keys checked at the end of a bundle.
type graphServer struct {
	rows map[string]map[string]any
	// blind are rows of which the device may have forgotten what they were: one that is written again as it was is an update
	// for all that it knows.
	blind map[string]bool
}

func (s *graphServer) apply(t *rapid.T, rows []wire.PushRow) {
	for _, r := range rows {
		at := r.Table + " " + r.Key.Value
		_, here := s.rows[at]
		blind := s.blind[at]
		delete(s.blind, at)
		if here != (r.Op != wire.OpInsert) {
			t.Fatalf("%s of %s, which the server has: %t", r.Op, at, here)
		}
		if r.Op == wire.OpDelete {
			delete(s.rows, at)
			continue
		}
		row := map[string]any{}
		if err := json.Unmarshal(r.Payload, &row); err != nil {
			t.Fatal(err)
		}
		if here && !blind && maps.Equal(s.rows[at], row) {
			t.Fatalf("%s of %s, which is so already", r.Op, at)
		}
		s.rows[at] = row
	}
	for at, row := range s.rows {
		for _, r := range graphRefs {
			if to, ok := row[r.column].(string); ok && strings.HasPrefix(at, r.table+" ") && s.rows[r.parent+" "+to] == nil {
				t.Fatalf("%s.%s refers to %s %s, which is not there", at, r.column, r.parent, to)
			}
		}
	}
}

// Whatever the bounds, and whatever refers to what, each bundle alone leaves the server without a dangling reference,
// and all of them together leave it with the local content.
func TestFreezeCutsWhereNoForeignKeyBreaks(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, graphDDL, "roots", "nodes", "xs", "ys"))
	cuts := 0
	rapid.Check(t, func(rt *rapid.T) {
		asServer(t, db, `DELETE FROM roots`, `DELETE FROM nodes`, `DELETE FROM xs`, `DELETE FROM ys`, `DELETE FROM _sync_row_state`,
			`DELETE FROM _sync_dirty_rows`, `DELETE FROM _sync_base_rows`, `DELETE FROM _sync_outbox_rows`,
			`UPDATE _sync_outbox_bundle SET state = 'none', row_count = 0`, `DELETE FROM _sync_engine_state WHERE name = 'frozen_contract'`)
		server := &graphServer{rows: map[string]map[string]any{}, blind: map[string]bool{}}
		for range rapid.IntRange(1, 3).Draw(rt, "pushes") {
			randomEdits(rt, t, db, rapid.IntRange(1, 12).Draw(rt, "edits"))
			if rapid.IntRange(0, 2).Draw(rt, "clear") == 0 {
				clearGraph(rt, t, db, server)
			}
			if rapid.Bool().Draw(rt, "settle") {
				settle(t, db, 0)
			}
			if rapid.IntRange(0, 3).Draw(rt, "requeue") == 0 {
				freeze(t, db, local.FreezeRequest{})
				randomEdits(rt, t, db, 2)
				if err := db.RequeueOutbox(t.Context()); err != nil {
					rt.Fatal(err)
				}
				verify(t, db)
			}
			req := local.FreezeRequest{MaxRows: int64(rapid.IntRange(0, 5).Draw(rt, "rows")), MaxBytes: int64(rapid.SampledFrom([]int{0, 0, 1, 90}).Draw(rt, "bytes"))}
			for more := true; more; {
				f := freeze(t, db, req)
				if more = f.More; more {
					cuts++
				}
				if f.Outbox.State == local.OutboxNone {
					break
				}
				server.apply(rt, sent(t, db))
				commit(t, db)
				if more && rapid.IntRange(0, 3).Draw(rt, "meanwhile") == 0 {
					clearGraph(rt, t, db, server)
				}
			}
			if left := dirty(t, db); len(left) > 0 {
				rt.Fatalf("left dirty: %v", left)
			}
		}
		here := 0
		for _, table := range []string{"roots", "nodes", "xs", "ys"} {
			here += int(number(t, db, `SELECT COUNT(*) FROM `+table))
		}
		if here != len(server.rows) {
			rt.Fatalf("%d rows here, %d there", here, len(server.rows))
		}
	})
	if cuts == 0 {
		t.Error("nothing was ever cut: the property was not tested")
	}
}
