package sqlite

import (
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// A row was changed here and given up for the server's, which cannot be laid down before a pull, and the pull cannot be
// applied around the change: the row goes back to what it was, and the pull finds nothing in its way.
func TestResolveStepsBackForThePullToCome(t *testing.T) {
	t.Parallel()
	moved := live(7, `{"id":"l","node":"new","code":null}`)
	bring := bundle(7, put("nodes", "new", `"parent":null,"code":null`), put("leaves", "l", `"node":"new","code":null`), removed("nodes", "old"))
	for _, c := range []struct {
		name   string
		setup  []string // as server rows at version 2
		edit   string
		table  string
		shadow shadow
		bundle wire.Bundle
		blocks bool     // the change, the bundle
		back   []string // leaves and nodes before the pull
		states []string
		end    []string // leaves and nodes after it
	}{
		{
			"an update", []string{`'l', 'old', NULL`}, `UPDATE leaves SET node = NULL`, "leaves", moved, bring, false,
			[]string{"l|old|∅", "old|∅|∅"}, []string{"leaves l 2", "nodes old 2"}, []string{"l|new|∅", "new|∅|∅"},
		},
		{
			"a deletion", []string{`'l', 'old', NULL`}, `DELETE FROM leaves`, "leaves", moved, bring, false,
			[]string{"l|old|∅", "old|∅|∅"}, []string{"leaves l 2", "nodes old 2"}, []string{"l|new|∅", "new|∅|∅"},
		},
		{
			"an insert", nil, `INSERT INTO leaves VALUES ('l', 'old', NULL)`, "leaves", moved, bring, true,
			[]string{"old|∅|∅"}, []string{"nodes old 2"}, []string{"l|new|∅", "new|∅|∅"},
		},
		{
			"a value that another row gets", nil, `UPDATE nodes SET parent = NULL, code = 'mine' WHERE id = 'old'`, "nodes", live(7, `{"id":"old","parent":"new","code":null}`),
			bundle(7, put("nodes", "new", `"parent":null,"code":"mine"`), put("nodes", "old", `"parent":"new","code":null`)), true,
			[]string{"old|∅|∅"}, []string{"nodes old 2"}, []string{"new|∅|mine", "old|new|∅"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, treeDDL, "nodes", "leaves")
			attachAt(t, db, 6)
			serverRow(t, db, "nodes", `'old', NULL, NULL`, 2)
			for _, values := range c.setup {
				serverRow(t, db, "leaves", values, 2)
			}
			exec(t, db, c.edit)
			key := keyOf("l")
			if c.table == "nodes" {
				key = keyOf("old")
			}
			cast(t, db, c.table, key, c.shadow)
			everything := func() []string {
				return append(rows(t, db, `SELECT * FROM leaves ORDER BY id`), rows(t, db, `SELECT * FROM nodes ORDER BY id`)...)
			}
			if c.blocks {
				same(t, "in the way", pulled(t, db, c.bundle).Collision != nil, true)
			}
			res := local.Resolution{Conflict: settle(t, db, 10).Conflicts[0], Kind: local.AcceptServer}
			same(t, "outcome", resolve(t, db, res), local.ResolutionsApplied{Applied: 1, NeedsPull: true, Tables: local.TableSet{c.table}})
			same(t, "rows", everything(), c.back)
			same(t, "states", states(t, db), c.states)
			same(t, "nothing left", append(intents(t, db), append(shadows(t, db), rows(t, db, `SELECT * FROM _sync_base_rows`)...)...), []string{})
			same(t, "nothing to push", freeze(t, db, local.FreezeRequest{}).Outbox.State, local.OutboxNone)
			same(t, "pulled", pulled(t, db, c.bundle).Checkpoint, int64(7))
			same(t, "rows after the pull", everything(), c.end)
			verify(t, db)
		})
	}
}

// Where the row as it was is not known, or cannot be laid down, or no pull brings the server's row again, all stays.
func TestResolveStaysWhereThereIsNoWayBack(t *testing.T) {
	t.Parallel()
	moved := live(7, `{"id":"l","node":"new","code":null}`)
	update := []string{`UPDATE leaves SET node = NULL WHERE id = 'l'`}
	for _, c := range []struct {
		name       string
		checkpoint int64
		edits      []string
		table      string
		shadow     shadow
	}{
		{"pulled already", 7, update, "leaves", moved},
		{"no base row", 6, append(update, `DELETE FROM _sync_base_rows`), "leaves", moved},
		{"a base row without a column", 6, append(update, `UPDATE _sync_base_rows SET payload = json_remove(payload, '$.code')`), "leaves", moved},
		{"its old parent is gone", 6, append(update, `DELETE FROM nodes WHERE id = 'old'`), "leaves", moved},
		{"its old value is taken", 6, []string{`UPDATE nodes SET code = NULL WHERE id = 'old'`, `INSERT INTO nodes VALUES ('p', NULL, 'x')`}, "nodes", live(7, `{"id":"old","parent":"new","code":null}`)},
		{"a new row with children", 6, []string{`DELETE FROM leaves`, `DELETE FROM nodes`, `INSERT INTO nodes VALUES ('n', NULL, NULL), ('p', 'n', NULL)`}, "nodes", live(7, `{"id":"n","parent":"new","code":null}`)},
		{"a deletion", 6, []string{`UPDATE nodes SET code = 'y' WHERE id = 'old'`}, "nodes", gone(7)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, treeDDL, "nodes", "leaves")
			attachAt(t, db, c.checkpoint)
			serverRow(t, db, "nodes", `'old', NULL, 'x'`, 2)
			serverRow(t, db, "leaves", `'l', 'old', NULL`, 2)
			for _, sql := range c.edits {
				exec(t, db, sql)
			}
			key := keyOf("l")
			if c.table == "nodes" {
				key = rows(t, db, `SELECT key_json FROM _sync_dirty_rows WHERE table_name = 'nodes' ORDER BY key_json ->> 'id' = 'p', dirty_ordinal DESC`)[0]
			}
			cast(t, db, c.table, key, c.shadow)
			before := everything(t, db)
			res := local.Resolution{Conflict: conflictOf(t, db, c.table, key), Kind: local.AcceptServer}
			same(t, "outcome", resolve(t, db, res), local.ResolutionsApplied{NeedsPull: true, Deferred: keys(c.table, key)})
			same(t, "the database", everything(t, db), before)
		})
	}
}

// An edit that was taken back has nothing to ask anybody about, and must not be in the way of a pull either.
func TestSettleStepsBackForThePullToCome(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, treeDDL, "nodes", "leaves")
	attachAt(t, db, 6)
	serverRow(t, db, "nodes", `'old', NULL, NULL`, 2)
	serverRow(t, db, "leaves", `'l', 'old', NULL`, 2)
	exec(t, db, `UPDATE leaves SET node = NULL`)
	exec(t, db, `UPDATE leaves SET node = 'old'`)
	cast(t, db, "leaves", keyOf("l"), live(7, `{"id":"l","node":"new","code":null}`))
	b := bundle(7, put("nodes", "new", `"parent":null,"code":null`), put("leaves", "l", `"node":"new","code":null`), removed("nodes", "old"))
	same(t, "in the way", pulled(t, db, b).Collision != nil, true)
	same(t, "settled", settle(t, db, 10), local.Settled{Dropped: 1, Tables: local.TableSet{"leaves"}})
	same(t, "states", append(intents(t, db), states(t, db)...), []string{"leaves l 2", "nodes old 2"})
	same(t, "pulled", pulled(t, db, b).Checkpoint, int64(7))
	same(t, "leaves", rows(t, db, `SELECT * FROM leaves`), []string{"l|new|∅"})
	verify(t, db)
}
