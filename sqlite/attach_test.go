package sqlite

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// attached opens a database with one row that the server has, one edited since and one new row.
func attached(t testing.TB) *DB {
	t.Helper()
	db := testDB(t, usersDDL, "users")
	must(t, db.AttachEmpty(t.Context(), "me", wire.ClassicContract))
	serverRow(t, db, "users", `'clean', 'c'`, 3)
	serverRow(t, db, "users", `'edited', 'e'`, 4)
	asServer(t, db, `UPDATE _sync_attachment_state SET last_bundle_seq_seen = 9`, `UPDATE _sync_source_state SET next_source_bundle_id = 5`)
	exec(t, db, `UPDATE users SET name = 'E' WHERE id = 'edited'`)
	exec(t, db, `INSERT INTO users VALUES ('new', 'n')`)
	mustVerify(t, db)
	return db
}

// freezeByHand moves the dirty rows into the outbox by hand.
func freezeByHand(t testing.TB, db *DB) {
	t.Helper()
	asServer(t, db, `INSERT INTO _sync_outbox_rows (source_bundle_id, row_ordinal, schema_name, table_name, key_json, wire_key_json, op, base_row_version, local_payload, wire_payload)
SELECT 5, row_number() OVER (ORDER BY dirty_ordinal) - 1, schema_name, table_name, key_json, key_json, op, base_row_version, payload, payload FROM _sync_dirty_rows`,
		`DELETE FROM _sync_dirty_rows`,
		`UPDATE _sync_outbox_bundle SET state = 'prepared', source_id = (SELECT current_source_id FROM _sync_attachment_state), source_bundle_id = 5,
 canonical_request_hash = 'h', row_count = (SELECT COUNT(*) FROM _sync_outbox_rows)`,
		`INSERT INTO _sync_engine_state VALUES ('frozen_contract', 'classic')`)
}

// binding answers what an attach transition decides.
func binding(st local.State) map[string]any {
	return map[string]any{
		"binding": st.Attachment.Binding, "user": st.Attachment.UserID, "schema": st.Attachment.Schema, "lease": st.Attachment.InitializationID,
		"checkpoint": st.Attachment.Checkpoint, "rebuild": st.Attachment.RebuildRequired, "kind": st.Operation.Kind, "target": st.Operation.TargetUserID,
		"reason": st.Operation.Reason, "outbox": st.Outbox.State, "contract": st.Contract, "reattach": st.ReattachRequired, "keep": st.KeepIntents,
	}
}

func wantBinding(t testing.TB, st local.State, want map[string]any) {
	t.Helper()
	full := map[string]any{
		"binding": local.Anonymous, "user": "", "schema": "", "lease": "", "checkpoint": int64(0), "rebuild": false, "kind": local.NoOperation, "target": "",
		"reason": "", "outbox": local.OutboxNone, "contract": wire.ContractName(""), "reattach": false, "keep": false,
	}
	for k, v := range want {
		full[k] = v
	}
	same(t, "state", binding(st), full)
}

func TestAttachTransitions(t *testing.T) {
	t.Parallel()
	bound := func(more map[string]any) map[string]any {
		m := map[string]any{"binding": local.Attached, "user": "me", "schema": "main", "contract": wire.ClassicContract}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	t.Run("seeding", func(t *testing.T) {
		t.Parallel()
		db := testDB(t, usersDDL, "users")
		exec(t, db, `INSERT INTO users VALUES ('u', 'U')`)
		must(t, db.AttachSeeding(t.Context(), "me", "lease", wire.ClassicContract))
		st := state(t, db)
		wantBinding(t, st, bound(map[string]any{"lease": "lease"}))
		same(t, "pending", st.Pending.Rows(), int64(1))
		must(t, db.DropLease(t.Context()))
		wantBinding(t, state(t, db), bound(nil))
		mustVerify(t, db)
	})
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		db := testDB(t, usersDDL, "users")
		must(t, db.AttachEmpty(t.Context(), "me", wire.UniformContract))
		wantBinding(t, state(t, db), bound(map[string]any{"contract": wire.UniformContract}))
	})
	t.Run("remote replace", func(t *testing.T) {
		t.Parallel()
		db := testDB(t, usersDDL, "users")
		exec(t, db, `INSERT INTO users VALUES ('u', 'U')`)
		source := state(t, db).Attachment.CurrentSourceID
		must(t, db.BeginRemoteReplace(t.Context(), "me", wire.ClassicContract))
		pending := map[string]any{"kind": local.RemoteReplace, "target": "me", "contract": wire.ClassicContract}
		wantBinding(t, state(t, db), pending)
		if _, err := db.App().ExecContext(t.Context(), `DELETE FROM users`); err == nil || !strings.Contains(err.Error(), guardMessage) {
			t.Errorf("a write: %v", err)
		}
		for name, again := range map[string]error{
			"replace": db.BeginRemoteReplace(t.Context(), "me", wire.ClassicContract), "empty": db.AttachEmpty(t.Context(), "me", wire.ClassicContract),
			"recovery": db.SetSourceRecovery(t.Context(), local.ReasonHistoryPruned, ""),
		} {
			if !errors.Is(again, errNotHere) {
				t.Errorf("%s: %v", name, again)
			}
		}
		must(t, db.Close())
		db = mustOpen(t, db.cfg)
		wantBinding(t, state(t, db), pending)
		same(t, "rows", dirty(t, db), []string{`users|{"id":"u"}|INSERT|0|{"id":"u","name":"U"}`})
		asServer(t, db, `INSERT INTO _sync_snapshot_stage VALUES ('s', 1, 'main', 'users', 'k', 1, '{}')`)
		must(t, db.CancelReplace(t.Context())) // the server has lost what was to come
		wantBinding(t, state(t, db), map[string]any{})
		same(t, "rows", dirty(t, db), []string{`users|{"id":"u"}|INSERT|0|{"id":"u","name":"U"}`})
		must(t, db.CancelReplace(t.Context()))
		must(t, db.BeginRemoteReplace(t.Context(), "me", wire.ClassicContract))
		out, err := db.Detach(t.Context())
		must(t, err)
		same(t, "detached", []any{out.Blocked, out.Tables}, []any{false, local.TableSet(nil)})
		st := state(t, db)
		wantBinding(t, st, nil)
		same(t, "source", st.Attachment.CurrentSourceID, source)
		same(t, "rows", rows(t, db, `SELECT (SELECT COUNT(*) FROM users), (SELECT COUNT(*) FROM _sync_dirty_rows), (SELECT COUNT(*) FROM _sync_snapshot_stage)`), []string{"1|1|0"})
		exec(t, db, `DELETE FROM users`)
	})
	t.Run("lost lease", func(t *testing.T) {
		t.Parallel()
		db := testDB(t, usersDDL, "users")
		exec(t, db, `INSERT INTO users VALUES ('u', 'U')`)
		must(t, db.AttachSeeding(t.Context(), "me", "lease", wire.ClassicContract))
		freezeByHand(t, db)
		exec(t, db, `UPDATE users SET name = 'V'`)
		must(t, db.LoseLease(t.Context()))
		wantBinding(t, state(t, db), map[string]any{"keep": true, "user": "me"})
		must(t, db.LoseLease(t.Context()))
		must(t, db.Close())
		db = mustOpen(t, db.cfg)
		wantBinding(t, state(t, db), map[string]any{"keep": true, "user": "me"})
		same(t, "rows", dirty(t, db), []string{`users|{"id":"u"}|INSERT|0|{"id":"u","name":"V"}`})
		mustVerify(t, db)
		out, err := db.Detach(t.Context()) // these rows are somebody's
		must(t, err)
		same(t, "blocked", out.Blocked, true)
		must(t, db.AttachKeepingIntents(t.Context(), "me", wire.ClassicContract))
		wantBinding(t, state(t, db), bound(map[string]any{"rebuild": true, "reason": local.ReasonResume}))
		same(t, "rows", len(dirty(t, db)), 1)
	})
	t.Run("lost scope, seeded anew", func(t *testing.T) {
		t.Parallel()
		db := attached(t)
		exec(t, db, `DELETE FROM users WHERE id = 'clean'`)
		freezeByHand(t, db)
		serverRow(t, db, "users", `'other', 'o'`, 6)
		asServer(t, db, `INSERT INTO _sync_shadow VALUES ('main', 'users', '{"id":"edited"}', 8, 1, 0, '{}')`,
			`UPDATE users SET name = 'Q' WHERE id = 'other'`,
			`INSERT INTO _sync_quarantine (schema_name, table_name, key_json, op, base_row_version, payload, code) VALUES ('main', 'users', '{"id":"other"}', 'UPDATE', 6, '{"id":"other","name":"Q"}', 'x')`)
		old := state(t, db).Attachment.CurrentSourceID
		must(t, db.SetUploadBlocked(t.Context(), &local.Blocked{Code: "no"}))
		must(t, db.RequireReattach(t.Context()))
		wantBinding(t, state(t, db), bound(map[string]any{"reattach": true, "checkpoint": int64(9)}))
		mustVerify(t, db)
		must(t, db.ResetScope(t.Context(), "fresh"))
		st := state(t, db)
		wantBinding(t, st, bound(map[string]any{"reattach": true}))
		same(t, "source", []any{st.Attachment.CurrentSourceID, st.NextSourceBundleID}, []any{"fresh", int64(1)})
		same(t, "old source", rows(t, db, `SELECT replaced_by_source_id FROM _sync_source_state WHERE source_id = ?`, old), []string{"fresh"})
		same(t, "rows", rows(t, db, `SELECT key_json, op, base_row_version FROM _sync_dirty_rows ORDER BY 1`), []string{`{"id":"edited"}|INSERT|0`, `{"id":"new"}|INSERT|0`})
		same(t, "quarantine", rows(t, db, `SELECT op, base_row_version FROM _sync_quarantine`), []string{"INSERT|0"})
		mustVerify(t, db)
		must(t, db.AttachSeeding(t.Context(), "me", "lease", wire.ClassicContract))
		st = state(t, db)
		wantBinding(t, st, bound(map[string]any{"lease": "lease"}))
		if st.UploadBlocked != nil {
			t.Error("still blocked")
		}
	})
	t.Run("lost scope, row untouched", func(t *testing.T) {
		t.Parallel()
		db := attached(t)
		must(t, db.RequireReattach(t.Context()))
		must(t, db.ResetScope(t.Context(), ""))
		must(t, db.ResetScope(t.Context(), "")) // a crash in between
		same(t, "rows", rows(t, db, `SELECT key_json, op, base_row_version FROM _sync_dirty_rows ORDER BY 1`),
			[]string{`{"id":"clean"}|INSERT|0`, `{"id":"edited"}|INSERT|0`, `{"id":"new"}|INSERT|0`})
		mustVerify(t, db)
	})
	t.Run("lost scope, somebody else seeded it", func(t *testing.T) {
		t.Parallel()
		db := attached(t)
		must(t, db.RequireReattach(t.Context()))
		if err := db.AttachKeepingIntents(t.Context(), "you", wire.ClassicContract); !errors.Is(err, errNotHere) {
			t.Errorf("another user: %v", err)
		}
		must(t, db.AttachKeepingIntents(t.Context(), "me", wire.ClassicContract))
		wantBinding(t, state(t, db), bound(map[string]any{"checkpoint": int64(9), "rebuild": true, "reason": local.ReasonResume}))
		same(t, "dirty", len(dirty(t, db)), 2)
		mustVerify(t, db)
	})
}

func TestAttachRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	for name, err := range map[string]error{
		"no user": db.AttachEmpty(t.Context(), " ", wire.ClassicContract), "no lease": db.AttachSeeding(t.Context(), "me", "", wire.ClassicContract),
		"reset": db.ResetScope(t.Context(), "x"), "recovery": db.SetSourceRecovery(t.Context(), local.ReasonSourceRetired, ""),
	} {
		var bad *local.DatabaseError
		if !errors.Is(err, errNotHere) || !errors.As(err, &bad) || bad.Operation == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, db.AttachEmpty(t.Context(), "me", wire.ClassicContract))
	for name, err := range map[string]error{
		"again": db.AttachEmpty(t.Context(), "me", wire.ClassicContract), "replace": db.BeginRemoteReplace(t.Context(), "me", wire.ClassicContract),
	} {
		if !errors.Is(err, errNotHere) {
			t.Errorf("%s: %v", name, err)
		}
	}
	current := state(t, db).Attachment.CurrentSourceID
	if err := db.ResetScope(t.Context(), current); !errors.Is(err, errNotHere) {
		t.Errorf("reset to itself: %v", err)
	}
}

func TestUploadBlockedIsKept(t *testing.T) {
	t.Parallel()
	db := attached(t)
	want := local.Blocked{Code: "bad_row", Status: 400, Message: "no", Table: "users", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	must(t, db.SetUploadBlocked(t.Context(), &want))
	same(t, "blocked", *state(t, db).UploadBlocked, want)
	must(t, db.SetUploadBlocked(t.Context(), nil))
	if b := state(t, db).UploadBlocked; b != nil {
		t.Errorf("got %v", b)
	}
	asServer(t, db, `INSERT INTO _sync_engine_state VALUES ('upload_blocked', '{')`)
	var bad *local.DatabaseError
	if _, err := db.State(t.Context()); !errors.As(err, &bad) || bad.Table != "_sync_engine_state" {
		t.Errorf("got %v", err)
	}
}

func TestDetach(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL+`; CREATE TABLE "Notes" (id TEXT PRIMARY KEY NOT NULL); CREATE TABLE free (x); INSERT INTO free VALUES (1)`, tables("users", "notes")...)
	db := mustOpen(t, cfg)
	must(t, db.AttachSeeding(t.Context(), "me", "lease", wire.ClassicContract))
	blocked := func(what string, rows int64) {
		t.Helper()
		before := dump(t, db, "users", "Notes", "_sync_attachment_state", "_sync_dirty_rows")
		out, err := db.Detach(t.Context())
		must(t, err)
		same(t, what, []any{out.Blocked, out.Pending.Rows(), out.Tables}, []any{true, rows, local.TableSet(nil)})
		same(t, what, dump(t, db, "users", "Notes", "_sync_attachment_state", "_sync_dirty_rows"), before)
	}
	blocked("unused lease", 1)
	must(t, db.DropLease(t.Context()))
	exec(t, db, `INSERT INTO users VALUES ('u', 'U')`)
	blocked("dirty", 1)
	freezeByHand(t, db)
	blocked("outbox", 1)
	asServer(t, db, `DELETE FROM _sync_outbox_rows`, `UPDATE _sync_outbox_bundle SET state = 'none', row_count = 0`,
		`INSERT INTO _sync_quarantine (schema_name, table_name, key_json, op, payload, code) VALUES ('main', 'users', '{"id":"u"}', 'INSERT', '{}', 'x')`)
	blocked("quarantine", 1)
	asServer(t, db, `DELETE FROM _sync_quarantine`, `DELETE FROM users`)

	serverRow(t, db, "users", `'s', 'S'`, 1)
	serverRow(t, db, "notes", `'n'`, 2)
	must(t, db.SetRebuildGate(t.Context(), local.ReasonHistoryPruned))
	must(t, db.Close())
	cfg.Tables = tables("users") // notes is managed no more
	db = mustOpen(t, cfg)
	before := state(t, db)
	out, err := db.Detach(t.Context())
	must(t, err)
	same(t, "tables", []any{out.Blocked, out.Tables}, []any{false, local.TableSet{"notes", "users"}})
	st := state(t, db)
	wantBinding(t, st, nil)
	if st.Attachment.CurrentSourceID == before.Attachment.CurrentSourceID || st.HasLiveRows || st.Pending.Any() || st.NextSourceBundleID != 1 {
		t.Errorf("left: %+v", st)
	}
	same(t, "old source", rows(t, db, `SELECT replaced_by_source_id FROM _sync_source_state WHERE source_id = ?`, before.Attachment.CurrentSourceID), []string{st.Attachment.CurrentSourceID})
	for _, table := range []string{"users", "Notes", "_sync_row_state", "_sync_dirty_rows", "_sync_outbox_rows", "_sync_shadow", "_sync_base_rows", "_sync_quarantine", "_sync_snapshot_stage", "_sync_bundle_stage"} {
		same(t, table, number(t, db, `SELECT COUNT(*) FROM `+quote(table)), int64(0))
	}
	same(t, "the application's own", rows(t, db, `SELECT x FROM free`), []string{"1"})
	mustVerify(t, db)
	exec(t, db, `INSERT INTO users VALUES ('next', 'N')`)
	same(t, "captured", len(dirty(t, db)), 1)
	out, err = db.Detach(t.Context()) // anonymous: nothing to detach, nothing is lost
	must(t, err)
	same(t, "anonymous", []any{out.Blocked, out.Tables, number(t, db, `SELECT COUNT(*) FROM users`)}, []any{false, local.TableSet(nil), int64(1)})
}

// Whatever fails inside a detach, nothing of it stays.
func TestDetachIsOneTransaction(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	must(t, db.AttachEmpty(t.Context(), "me", wire.ClassicContract))
	serverRow(t, db, "users", `'s', 'S'`, 1)
	exec(t, db, `CREATE TRIGGER fail BEFORE UPDATE ON _sync_attachment_state BEGIN SELECT RAISE(ABORT, 'no'); END`)
	before := state(t, db)
	if _, err := db.Detach(t.Context()); err == nil {
		t.Fatal("detached")
	}
	same(t, "state", state(t, db), before)
	same(t, "rows", number(t, db, `SELECT COUNT(*) FROM users`), int64(1))
	mustVerify(t, db)
}

func TestUninstall(t *testing.T) {
	t.Parallel()
	db := attached(t)
	exec(t, db, `CREATE TRIGGER trg_mine_ai AFTER INSERT ON users BEGIN SELECT 1; END`)
	before := rows(t, db, `SELECT * FROM users`)
	must(t, db.Uninstall(t.Context()))
	same(t, "rows", rows(t, db, `SELECT * FROM users`), before)
	same(t, "left", rows(t, db, `SELECT name FROM sqlite_schema WHERE name LIKE '%\_sync\_%' ESCAPE '\' OR type = 'trigger'`), []string{"trg_mine_ai"})
	exec(t, db, `DELETE FROM users`)
	if _, err := db.State(t.Context()); !errors.Is(err, local.ErrClosed) {
		t.Errorf("got %v", err)
	}
	must(t, db.Close())
	reopen(t, db.cfg)
}

func TestK9_StateDoesNotScanRows(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	st := state(t, db)
	same(t, "empty", []any{st.HasLiveRows, st.Pending}, []any{false, local.Pending{}})
	exec(t, db, `INSERT INTO users VALUES ('u', 'U')`)
	exec(t, db, `UPDATE _sync_dirty_rows SET updated_at = '2026-01-02T03:04:05.678Z'`)
	st = state(t, db)
	same(t, "pending", st.Pending, local.Pending{Dirty: 1, OldestAt: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)})
	asServer(t, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted) SELECT 'main', 'users', i, 1, i % 10 = 0 FROM n`)
	same(t, "live", state(t, db).HasLiveRows, true)
	for sql, plan := range map[string]string{
		`SELECT COUNT(*) FROM _sync_dirty_rows`:                                  "SCAN _sync_dirty_rows USING COVERING INDEX sqlite_autoindex__sync_dirty_rows_1", // not their content
		`SELECT updated_at FROM _sync_dirty_rows ORDER BY dirty_ordinal LIMIT 1`: "SCAN _sync_dirty_rows",                                                          // without sorting
	} {
		if got := rows(t, db, `EXPLAIN QUERY PLAN `+sql); len(got) != 1 || !strings.HasSuffix(got[0], "|"+plan) {
			t.Errorf("%s: %s", sql, got)
		}
	}
}

func TestVerifyFindsEveryViolation(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, says string }{
		"base of a dirty row":      {`UPDATE _sync_dirty_rows SET base_row_version = 3 WHERE op = 'UPDATE'`, "users: an intent's base"},
		"base of a new row":        {`UPDATE _sync_dirty_rows SET base_row_version = 1 WHERE op = 'INSERT'`, "users: an intent's base"},
		"shadow without intent":    {`INSERT INTO _sync_shadow VALUES ('main', 'users', '{"id":"clean"}', 5, 1, 0, '{}')`, "users: a shadow without an intent"},
		"old shadow":               {`INSERT INTO _sync_shadow VALUES ('main', 'users', '{"id":"edited"}', 2, 1, 0, '{}')`, "users: a shadow that is not newer"},
		"shadow without content":   {`INSERT INTO _sync_shadow VALUES ('main', 'users', '{"id":"edited"}', 5, 1, 0, NULL)`, "users: a shadow with content and deleted"},
		"base row without intent":  {`INSERT INTO _sync_base_rows VALUES ('main', 'users', '{"id":"clean"}', '{}')`, "users: a base row without an intent"},
		"quarantined and dirty":    {`INSERT INTO _sync_quarantine (schema_name, table_name, key_json, op, code) VALUES ('main', 'users', '{"id":"new"}', 'DELETE', 'x')`, "users: a key in quarantine and"},
		"update without content":   {`UPDATE _sync_dirty_rows SET payload = NULL WHERE op = 'UPDATE'`, "users: an operation without content"},
		"content that is no JSON":  {`UPDATE _sync_dirty_rows SET payload = '{' WHERE op = 'UPDATE'`, "users: content that is not JSON"},
		"negative version":         {`UPDATE _sync_row_state SET row_version = -1 WHERE key_json LIKE '%clean%'`, "users: a number"},
		"lost intent":              {`DELETE FROM _sync_dirty_rows WHERE op = 'INSERT'`, "users: a row that is neither known"},
		"lost row state":           {`DELETE FROM _sync_row_state WHERE key_json LIKE '%clean%'`, "users: a row that is neither known"},
		"lost row":                 {`DELETE FROM users WHERE id = 'clean'`, "users: a row that is known to be live is not here"},
		"apply mode":               {`UPDATE _sync_apply_state SET apply_mode = 2`, "_sync_apply_state: apply mode is on"},
		"outbox twice":             {`INSERT INTO _sync_outbox_rows (source_bundle_id, row_ordinal, schema_name, table_name, key_json, wire_key_json, op, base_row_version) SELECT 1, value, 'main', 'users', '{"id":"edited"}', '{}', 'DELETE', 4 FROM json_each('[0,1]'); UPDATE _sync_outbox_bundle SET row_count = 2`, "users: a key twice in the outbox"},
		"garbage in a small table": {`UPDATE _sync_source_state SET next_source_bundle_id = 0`, "_sync_source_state: next_source_bundle_id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := attached(t)
			// Not through asServer, which would switch apply mode off.
			must(t, db.write(t.Context(), "test", relaxed, func() error {
				if err := db.conn.raw.Exec(`UPDATE _sync_apply_state SET apply_mode = 1`); err != nil {
					return err
				}
				return db.conn.raw.Exec(c.sql + `; UPDATE _sync_apply_state SET apply_mode = 0 WHERE apply_mode = 1`)
			}))
			err := db.Verify(t.Context())
			var bad *local.DatabaseError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "clean") {
				t.Errorf("%v shows content", err)
			}
		})
	}
}
