package sqlite

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// refusal is why the server refuses in these tests.
var refusal = local.Reason{Code: "push_commit_invalid", Message: "no", Origin: local.OriginServer, Attempts: 3}

// isolate freezes at most max rows and sets them aside. It answers the keys that went, and with what code.
func isolate(t testing.TB, db *DB, max int64) []string {
	t.Helper()
	freeze(t, db, local.FreezeRequest{MaxRows: max})
	aside, err := db.IsolateOutbox(t.Context(), refusal)
	must(t, err)
	verify(t, db)
	return spelled(aside)
}

func spelled(aside []local.SetAside) (out []string) {
	for _, a := range aside {
		out = append(out, a.Table+" "+a.KeyJSON+" "+a.Code)
	}
	return out
}

func quarantined(t testing.TB, db *DB) []local.SetAside {
	t.Helper()
	verify(t, db)
	list, err := db.Quarantined(t.Context())
	must(t, err)
	return list
}

func ids(list []local.SetAside) (out []int64) {
	for _, a := range list {
		out = append(out, a.ID)
	}
	return out
}

func discard(t testing.TB, db *DB, ids ...int64) local.Discarded {
	t.Helper()
	d, err := db.DiscardQuarantined(t.Context(), ids)
	must(t, err)
	verify(t, db)
	return d
}

func TestIsolateTakesTheNewestContent(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	serverRow(t, db, "users", `'old', 'o'`, 4)
	exec(t, db, `UPDATE users SET name = 'first' WHERE id = 'old'`)
	exec(t, db, `INSERT INTO users VALUES ('new', 'n'), ('void', 'v')`)
	freeze(t, db, local.FreezeRequest{})
	exec(t, db, `UPDATE users SET name = 'second' WHERE id = 'old'`)
	exec(t, db, `DELETE FROM users WHERE id = 'void'`)
	exec(t, db, `INSERT INTO users VALUES ('later', 'l')`)
	aside, err := db.IsolateOutbox(t.Context(), refusal)
	must(t, err)
	same(t, "set aside", spelled(aside), []string{`users {"id":"old"} push_commit_invalid`, `users {"id":"new"} push_commit_invalid`})
	list := quarantined(t, db)
	same(t, "listed", ids(list), []int64{1, 2})
	same(t, "first", []any{list[0].Op, list[0].Base, string(list[0].Local), list[0].Reason, list[0].Key, list[0].CreatedAt.IsZero(), list[0].Server == nil},
		[]any{wire.OpUpdate, int64(4), `{"id":"old","name":"second"}`, refusal, wire.Key{Column: "id", Value: "old"}, false, true})
	same(t, "outbox", state(t, db).Outbox.State, local.OutboxNone)
	settle(t, db, 0)
	same(t, "the rest goes on, and void deletions are nobody's business", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(1))
	same(t, "dirty", dirty(t, db), []string{})
	same(t, "pending", state(t, db).Pending.Quarantined, int64(2))
	d, err := db.Detach(t.Context())
	must(t, err)
	same(t, "detach", d.Blocked, true)
}

func TestIsolateNeedsAPreparedOutbox(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	var bad *local.DatabaseError
	if _, err := db.IsolateOutbox(t.Context(), refusal); !errors.As(err, &bad) {
		t.Errorf("nothing frozen: %v", err)
	}
	exec(t, db, `INSERT INTO users VALUES ('a', 'n')`)
	markCommitted(t, db, echo(t, db, outboxOf(t, db), 1))
	if _, err := db.IsolateOutbox(t.Context(), refusal); !errors.As(err, &bad) {
		t.Errorf("committed: %v", err)
	}
}

// A row goes into quarantine with those that cannot do without it, whatever they refer to it by, and they come back by
// themselves when it is written again, retried, or discarded with them.
func TestDependentsFollowTheirParent(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) *DB {
		db := attachedDB(t, treeDDL, "nodes", "leaves")
		exec(t, db, `INSERT INTO nodes VALUES ('p', NULL, 'c')`)
		exec(t, db, `INSERT INTO nodes VALUES ('q', 'p', NULL), ('other', NULL, NULL)`)
		exec(t, db, `INSERT INTO leaves VALUES ('by key', 'q', NULL), ('by code', NULL, 'c'), ('free', 'other', NULL)`)
		same(t, "set aside", isolate(t, db, 1), []string{
			`nodes {"id":"p"} push_commit_invalid`, `leaves {"id":"by code"} depends_on_quarantined`, `nodes {"id":"q"} depends_on_quarantined`,
			`leaves {"id":"by key"} depends_on_quarantined`,
		})
		exec(t, db, `INSERT INTO leaves VALUES ('late', 'q', NULL)`)
		same(t, "what came later", spelled(settle(t, db, 0).SetAside), []string{`leaves {"id":"late"} depends_on_quarantined`})
		same(t, "left", len(dirty(t, db)), 2)
		return db
	}
	t.Run("written", func(t *testing.T) {
		t.Parallel()
		db := setup(t)
		exec(t, db, `UPDATE nodes SET code = 'c', parent = 'other' WHERE id = 'p'`)
		settle(t, db, 0)
		same(t, "quarantine", len(quarantined(t, db)), 0)
		same(t, "frozen", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(7))
	})
	t.Run("retried", func(t *testing.T) {
		t.Parallel()
		db := setup(t)
		must(t, db.RetryQuarantined(t.Context(), []int64{1}, false))
		settle(t, db, 0)
		same(t, "quarantine", len(quarantined(t, db)), 0)
		same(t, "first again", rows(t, db, `SELECT key_json FROM _sync_dirty_rows ORDER BY dirty_ordinal LIMIT 1`), []string{`{"id":"p"}`})
	})
	t.Run("discarded", func(t *testing.T) {
		t.Parallel()
		db := setup(t)
		var refused *local.QuarantineError
		if _, err := db.DiscardQuarantined(t.Context(), []int64{1}); !errors.As(err, &refused) || refused.ID != 1 || refused.Table != "nodes" {
			t.Fatalf("alone: %v", err)
		}
		same(t, "untouched", len(quarantined(t, db)), 5)
		same(t, "together", discard(t, db, ids(quarantined(t, db))...), local.Discarded{Tables: local.TableSet{"leaves", "nodes"}})
		same(t, "nodes", rows(t, db, `SELECT id FROM nodes`), []string{"other"})
		same(t, "leaves", rows(t, db, `SELECT id FROM leaves`), []string{"free"})
		same(t, "the rest goes on", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(2))
	})
}

// A parent and its child whose keys are bytes.
func TestDependentsByBytes(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, `CREATE TABLE a (id BLOB PRIMARY KEY NOT NULL, n INTEGER);
CREATE TABLE b (id TEXT PRIMARY KEY NOT NULL, a BLOB REFERENCES a(id))`, "a", "b")
	exec(t, db, `INSERT INTO a VALUES (x'000102030405060708090a0b0c0d0e0f', 1); INSERT INTO b VALUES ('k', x'000102030405060708090a0b0c0d0e0f')`)
	same(t, "set aside", len(isolate(t, db, 1)), 2)
}

func TestDiscardGoesBackToWhatTheServerHas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit   string
		shadow *shadow
		want   []string // users
		states []string
		gate   bool
		before string // what happens to the metadata first
	}{
		"a new row":                   {`INSERT INTO users VALUES ('n', 'x')`, nil, []string{"a|old"}, []string{"users a 4"}, false, ``},
		"a change":                    {`UPDATE users SET name = 'x'`, nil, []string{"a|old"}, []string{"users a 4"}, false, ``},
		"a deletion":                  {`DELETE FROM users`, nil, []string{"a|old"}, []string{"users a 4"}, false, ``},
		"a change under a newer row":  {`UPDATE users SET name = 'x'`, ptr(live(7, `{"id":"a","name":"newer"}`)), []string{"a|newer"}, []string{"users a 7"}, false, ``},
		"a change of a row now gone":  {`UPDATE users SET name = 'x'`, ptr(gone(7)), []string{}, []string{"users a 7 deleted"}, false, ``},
		"a change nobody knows below": {`UPDATE users SET name = 'x'`, nil, []string{"a|x"}, []string{"users a 4"}, true, `DELETE FROM _sync_base_rows`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, usersDDL, "users")
			serverRow(t, db, "users", `'a', 'old'`, 4)
			exec(t, db, c.edit)
			isolate(t, db, 0)
			if c.shadow != nil {
				cast(t, db, "users", keyOf("a"), *c.shadow)
				list := quarantined(t, db)
				same(t, "shown", *list[0].Server, local.ServerImage{Version: c.shadow.version, Deleted: c.shadow.deleted, Wire: c.shadow.payload})
			}
			if c.before != "" {
				asServer(t, db, c.before)
			}
			same(t, "discarded", discard(t, db, 1), local.Discarded{Tables: local.TableSet{"users"}, RebuildRequired: c.gate})
			same(t, "rows", rows(t, db, `SELECT * FROM users ORDER BY id`), c.want)
			same(t, "states", states(t, db), c.states)
			same(t, "gate", state(t, db).Attachment.RebuildRequired, c.gate)
			same(t, "intents", intents(t, db), []string{})
			same(t, "quarantine", len(quarantined(t, db)), 0)
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestRetryAndDiscardKnowWhatTheySpeakOf(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	exec(t, db, `INSERT INTO users VALUES ('a', 'x')`)
	isolate(t, db, 0)
	var unknown *local.QuarantineError
	if err := db.RetryQuarantined(t.Context(), []int64{1, 9}, false); !errors.As(err, &unknown) || unknown.ID != 9 || unknown.Retryable() || !strings.Contains(unknown.Error(), "retry of quarantined change 9") {
		t.Errorf("retry: %v", err)
	}
	if _, err := db.DiscardQuarantined(t.Context(), []int64{1, 9}); !errors.As(err, &unknown) || unknown.Operation != "discard" {
		t.Errorf("discard: %v", err)
	}
	same(t, "all or nothing", ids(quarantined(t, db)), []int64{1})
	must(t, db.RetryQuarantined(t.Context(), []int64{1, 9}, true))
	same(t, "retried", len(quarantined(t, db)), 0)
	// A number is not given twice, and a place that is taken meanwhile is not disputed.
	exec(t, db, `INSERT INTO users VALUES ('b', 'x')`)
	isolate(t, db, 1)
	asServer(t, db, `UPDATE _sync_quarantine SET dirty_ordinal = (SELECT MAX(dirty_ordinal) FROM _sync_dirty_rows)`)
	same(t, "numbers", ids(quarantined(t, db)), []int64{2})
	must(t, db.RetryQuarantined(t.Context(), []int64{2}, false))
	verify(t, db)
	same(t, "both", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(2))
}

func TestK11_WhatTheWireCannotCarryIsSetAside(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, `CREATE TABLE v (id TEXT PRIMARY KEY NOT NULL, n INTEGER, r REAL, s TEXT); CREATE TABLE w (id TEXT PRIMARY KEY NOT NULL, v TEXT REFERENCES v(id))`, "v", "w")
	exec(t, db, `INSERT INTO v VALUES ('good', 1, 1.5, 's'), ('large', 9007199254740992, NULL, NULL), ('nul', NULL, NULL, 'a' || char(0) || 'b')`)
	exec(t, db, `INSERT INTO v (id, r) VALUES ('inf', ?)`, math.Inf(1))
	exec(t, db, `INSERT INTO w VALUES ('child', 'large'), ('fine', 'good')`)
	aside, err := db.SetAsideUnfit(t.Context(), wire.ClassicContract)
	must(t, err)
	verify(t, db)
	if len(aside) != 4 {
		t.Fatalf("%v", spelled(aside))
	}
	for _, a := range aside[:3] {
		if a.Origin != local.OriginValue || a.Code == "" || a.Code == "unreadable_change" || a.Message == "" {
			t.Errorf("%+v", a)
		}
	}
	same(t, "its child", aside[3].Origin, local.OriginDependency)
	same(t, "the rest goes on", freeze(t, db, local.FreezeRequest{}).Outbox.RowCount, int64(2))
	same(t, "exact", rows(t, db, `SELECT n FROM v WHERE id = 'large'`), []string{"9007199254740992"})
}

// Pulls and snapshots go around what is in quarantine, as around every other change.
func TestPullsAndSnapshotsGoAroundTheQuarantine(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	serverRow(t, db, "users", `'a', 'old'`, 1)
	attachAt(t, db, 1)
	exec(t, db, `UPDATE users SET name = 'mine'`)
	isolate(t, db, 0)
	pulled(t, db, bundle(2, put("users", "a", `"name":"theirs"`)))
	same(t, "row", rows(t, db, `SELECT name FROM users`), []string{"mine"})
	same(t, "shadow", quarantined(t, db)[0].Server.Version, int64(2))
	if _, err := db.ApplySnapshot(t.Context(), classic(t), snap(t, db, 5, at(5, put("users", "a", `"name":"newest"`)))); err != nil {
		t.Fatal(err)
	}
	same(t, "row", rows(t, db, `SELECT name FROM users`), []string{"mine"})
	same(t, "shadow", quarantined(t, db)[0].Server.Version, int64(5))
	must(t, db.RetryQuarantined(t.Context(), []int64{1}, false))
	same(t, "a conflict like any other", len(settle(t, db, 0).Conflicts), 1)
}

// Verify notices what must not be in quarantine.
func TestVerifyLooksIntoTheQuarantine(t *testing.T) {
	t.Parallel()
	for says, damage := range map[string]string{
		"is not what its row holds":    `UPDATE _sync_quarantine SET payload = '{"id":"a","name":"other"}'`,
		"deletion with content":        `UPDATE _sync_quarantine SET op = 'DELETE'`,
		"for no reason":                `UPDATE _sync_quarantine SET code = ''`,
		"not the version its row":      `UPDATE _sync_quarantine SET base_row_version = 3`,
		"among the dirty or frozen":    `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, payload) SELECT schema_name, table_name, key_json, op, payload FROM _sync_quarantine`,
		"a change set aside for no re": `UPDATE _sync_quarantine SET origin = 'somebody'`,
	} {
		db := attachedDB(t, usersDDL, "users")
		exec(t, db, `INSERT INTO users VALUES ('a', 'x')`)
		isolate(t, db, 0)
		asServer(t, db, damage)
		if err := db.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
