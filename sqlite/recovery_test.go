package sqlite

import (
	"errors"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

func TestRebuildGateAndSourceRecovery(t *testing.T) {
	t.Parallel()
	db := attached(t)
	must(t, db.SetRebuildGate(t.Context(), local.ReasonCheckpointAhead))
	st := state(t, db)
	same(t, "gate", []any{st.Attachment.RebuildRequired, st.Operation.Kind, st.Operation.Reason}, []any{true, local.NoOperation, local.ReasonCheckpointAhead})

	must(t, db.SetSourceRecovery(t.Context(), local.ReasonSourceSequenceChanged, ""))
	st = state(t, db)
	reserved := st.Operation.ReplacementSourceID
	same(t, "recovery", []any{st.Operation.Kind, st.Operation.Reason, reserved != "" && reserved != st.Attachment.CurrentSourceID}, []any{local.SourceRecovery, local.ReasonSourceSequenceChanged, true})
	same(t, "reserved", number(t, db, `SELECT next_source_bundle_id FROM _sync_source_state WHERE source_id = ?`, reserved), int64(1))

	must(t, db.Close())
	db = mustOpen(t, db.cfg)
	must(t, db.SetSourceRecovery(t.Context(), local.ReasonSourceRetired, "")) // the reserved id stays, also after a restart
	must(t, db.SetSourceRecovery(t.Context(), local.ReasonSourceRetired, reserved))
	must(t, db.SetRebuildGate(t.Context(), local.ReasonResume)) // and its reason stays
	st = state(t, db)
	same(t, "recovery", st.Operation, local.Operation{Kind: local.SourceRecovery, Reason: local.ReasonSourceRetired, ReplacementSourceID: reserved})

	must(t, db.SetSourceRecovery(t.Context(), local.ReasonSourceRetired, "another"))
	same(t, "somebody else's is not taken over", state(t, db).Operation,
		local.Operation{Kind: local.SourceRecovery, Reason: local.ReasonSourceRetired, ReplacementSourceID: reserved, ReplacedBy: "another"})
	mustVerify(t, db)

	id, err := db.ReserveAnother(t.Context())
	must(t, err)
	again := state(t, db).Operation
	same(t, "reserved anew", again.ReplacementSourceID, id)
	if again.ReplacementSourceID == reserved || again.ReplacementSourceID == "" || again.Reason != local.ReasonSourceRetired {
		t.Errorf("reserved anew: %+v", again)
	}
	same(t, "sources", number(t, db, `SELECT count(*) FROM _sync_source_state`), int64(2))
	for _, reason := range []string{"", "bored", local.ReasonCheckpointAhead, local.ReasonResume} {
		if err := db.SetSourceRecovery(t.Context(), reason, ""); !errors.Is(err, errNotHere) {
			t.Errorf("%q: %v", reason, err)
		}
	}
	same(t, "operation", state(t, db).Operation, again)
}

func TestWhatIsNotPendingIsNotContinued(t *testing.T) {
	t.Parallel()
	db := attached(t)
	before := everything(t, db)
	if _, err := db.ReserveAnother(t.Context()); !errors.Is(err, errNotHere) {
		t.Errorf("reserve: %v", err)
	}
	if _, err := db.RotateSource(t.Context(), wire.ClassicContract); !errors.Is(err, errNotHere) {
		t.Errorf("rotate: %v", err)
	}
	same(t, "nothing changed", everything(t, db), before)
}

// recovering is a database with a push in flight, newer edits, and a source at its end.
func recovering(t *testing.T, reason, replacedBy string) (db *DB, box local.Outbox, next string) {
	t.Helper()
	db = attachedDB(t, usersDDL+`; CREATE TABLE blobs (id BLOB PRIMARY KEY NOT NULL, data BLOB)`, "users", "blobs")
	attachAt(t, db, 6)
	asServer(t, db, `UPDATE _sync_source_state SET next_source_bundle_id = 4`)
	for _, u := range []string{"u1", "u2", "u3"} {
		serverRow(t, db, "users", `'`+u+`', 'old'`, 5)
	}
	inTx(t, db, `UPDATE users SET name = 'mine' WHERE id <= 'u2'`, `INSERT INTO users VALUES ('new', 'mine')`,
		`INSERT INTO blobs VALUES (x'00112233445566778899aabbccddeeff', x'deadbeef')`)
	box = outboxOf(t, db)
	exec(t, db, `UPDATE users SET name = 'newer' WHERE id IN ('u2', 'u3')`)
	must(t, db.SetSourceRecovery(t.Context(), reason, replacedBy))
	return db, box, state(t, db).Operation.ReplacementSourceID
}

// TestK4_RotationCarriesThePushOver applies a snapshot while the source is at its end.
func TestK4_RotationCarriesThePushOver(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{local.ReasonHistoryPruned, local.ReasonSourceSequenceOutOfOrder, local.ReasonSourceSequenceChanged, local.ReasonSourceRetired} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			db, box, next := recovering(t, reason, "somebody's")
			frozen, err := db.OutboxRows(t.Context(), 0, 0, 0)
			must(t, err)
			out := restored(t, db, snap(t, db, 10, at(9, put("users", "u1", name("theirs"))), at(5, put("users", "u2", name("old"))),
				at(8, put("users", "u3", name("theirs"))), at(7, put("users", "other", name("theirs")))))
			same(t, "rotated", *out.Rotated, local.Rotation{From: box.SourceID, To: next, Reason: reason})
			st := state(t, db)
			same(t, "operation", st.Operation, local.Operation{Kind: local.NoOperation})
			same(t, "source", []any{st.Attachment.CurrentSourceID, st.NextSourceBundleID, st.Attachment.RebuildRequired, st.Attachment.Checkpoint}, []any{next, int64(1), false, int64(10)})
			same(t, "sources", rows(t, db, `SELECT source_id = ?1, next_source_bundle_id, replaced_by_source_id = ?2 FROM _sync_source_state ORDER BY 1 DESC`, box.SourceID, next),
				[]string{"1|4|1", "0|1|0"})

			want := box
			want.SourceID, want.SourceBundleID = next, 1
			same(t, "outbox", st.Outbox, want)
			carried, err := db.OutboxRows(t.Context(), 0, 0, 0)
			must(t, err)
			same(t, "what is pushed", carried, frozen)
			same(t, "local and wire form", rows(t, db, `SELECT local_payload, wire_payload FROM _sync_outbox_rows WHERE table_name = 'blobs'`),
				[]string{`{"id":"00112233445566778899aabbccddeeff","data":"deadbeef"}|{"id":"00112233-4455-6677-8899-aabbccddeeff","data":"3q2+7w=="}`})

			same(t, "users", rows(t, db, `SELECT id, name FROM users ORDER BY id`), []string{"new|mine", "other|theirs", "u1|mine", "u2|newer", "u3|newer"})
			same(t, "blobs", rows(t, db, `SELECT id, data FROM blobs`), []string{"x'00112233445566778899aabbccddeeff'|x'deadbeef'"})
			same(t, "intents", intents(t, db), []string{
				`users u2 UPDATE on 5 {"id":"u2","name":"newer"} state 5 base {"id":"u2","name":"old"}`,
				`users u3 UPDATE on 5 {"id":"u3","name":"newer"} state 5 base {"id":"u3","name":"old"} shadow 8`})

			// It is a push like any other.
			replayed(t, db, echo(t, db, st.Outbox, 11), false)
			same(t, "next", state(t, db).NextSourceBundleID, int64(2))
			verify(t, db)
		})
	}
}

// TestRotationThatFailsChangesNothing: the reserved source must be a fresh one, whoever wrote what into the file.
func TestRotationThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"used":      `UPDATE _sync_source_state SET next_source_bundle_id = 2 WHERE source_id <> (SELECT current_source_id FROM _sync_attachment_state)`,
		"replaced":  `UPDATE _sync_source_state SET replaced_by_source_id = 'x' WHERE source_id <> (SELECT current_source_id FROM _sync_attachment_state)`,
		"not named": `UPDATE _sync_operation_state SET replacement_source_id = ''`,
		"itself":    `UPDATE _sync_operation_state SET replacement_source_id = (SELECT current_source_id FROM _sync_attachment_state)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, _, _ := recovering(t, local.ReasonSourceRetired, "")
			s := snap(t, db, 10)
			asServer(t, db, sql)
			before := everything(t, db)
			var bad *local.DatabaseError
			if _, err := db.ApplySnapshot(t.Context(), classic(t), s); !errors.As(err, &bad) {
				t.Errorf("apply: %v", err)
			}
			if _, err := db.RotateSource(t.Context(), wire.ClassicContract); !errors.As(err, &bad) {
				t.Errorf("rotate: %v", err)
			}
			same(t, "nothing changed", everything(t, db), before)
		})
	}
}

// TestRotationInAnotherDialect: what is frozen in one cannot be pushed in another.
func TestRotationInAnotherDialect(t *testing.T) {
	t.Parallel()
	db, _, next := recovering(t, local.ReasonSourceRetired, "")
	r, err := db.RotateSource(t.Context(), "another")
	must(t, err)
	same(t, "to", r.To, next)
	st := state(t, db)
	same(t, "outbox", st.Outbox, local.Outbox{State: local.OutboxNone})
	same(t, "gate", []any{st.Attachment.RebuildRequired, st.Operation}, []any{true, local.Operation{Kind: local.NoOperation, Reason: local.ReasonResume}})
	same(t, "intents", intents(t, db), []string{
		`users u1 UPDATE on 5 {"id":"u1","name":"mine"} state 5 base {"id":"u1","name":"old"}`,
		`users u2 UPDATE on 5 {"id":"u2","name":"newer"} state 5 base {"id":"u2","name":"old"}`,
		`users new INSERT on 0 {"id":"new","name":"mine"}`,
		`blobs 00112233445566778899aabbccddeeff INSERT on 0 {"id":"00112233445566778899aabbccddeeff","data":"deadbeef"}`,
		`users u3 UPDATE on 5 {"id":"u3","name":"newer"} state 5 base {"id":"u3","name":"old"}`})
}

// TestRotationOfACommittedPush settles it when the snapshot covers it, and asks again when it does not.
func TestRotationOfACommittedPush(t *testing.T) {
	t.Parallel()
	t.Run("covered", func(t *testing.T) {
		t.Parallel()
		db, box, next := recovering(t, local.ReasonSourceRetired, "")
		markCommitted(t, db, echo(t, db, box, 8))
		out := restored(t, db, snap(t, db, 10, at(9, put("users", "u1", name("theirs"))), at(8, put("users", "u2", name("mine")))))
		same(t, "settled", []any{out.OutboxSettled, out.Rotated.To}, []any{true, next})
		same(t, "outbox", state(t, db).Outbox.State, local.OutboxNone)
		same(t, "old source", number(t, db, `SELECT next_source_bundle_id FROM _sync_source_state WHERE source_id = ?`, box.SourceID), int64(5))
	})
	t.Run("lost", func(t *testing.T) {
		t.Parallel()
		db, box, next := recovering(t, local.ReasonSourceRetired, "")
		markCommitted(t, db, echo(t, db, box, 8))
		out := restored(t, db, snap(t, db, 10, at(5, put("users", "u1", name("old"))), at(6, put("users", "u2", name("old")))))
		same(t, "settled", out.OutboxSettled, false)
		st := state(t, db)
		same(t, "outbox", []any{st.Outbox.State, st.Outbox.SourceID, st.Outbox.SourceBundleID, st.Outbox.RemoteSeq}, []any{local.OutboxPrepared, next, int64(1), int64(0)})
		verify(t, db)
	})
	t.Run("without a snapshot", func(t *testing.T) {
		t.Parallel()
		db, box, next := recovering(t, local.ReasonSourceRetired, "")
		b := echo(t, db, box, 8)
		markCommitted(t, db, b)
		_, err := db.RotateSource(t.Context(), wire.ClassicContract)
		must(t, err)
		st := state(t, db)
		same(t, "outbox", []any{st.Outbox.State, st.Outbox.SourceID, st.Outbox.SourceBundleID}, []any{local.OutboxCommittedRemote, box.SourceID, box.SourceBundleID})
		replayed(t, db, b, false)
		same(t, "sources", rows(t, db, `SELECT source_id = ?, next_source_bundle_id FROM _sync_source_state ORDER BY 1 DESC`, next), []string{"1|1", "0|5"})
		verify(t, db)
	})
}

// TestServerThatWentBack rebuilds from a server that was restored from a backup: it does not have the versions that the
// intents are made on.
func TestServerThatWentBack(t *testing.T) {
	t.Parallel()
	build := func(t *testing.T) *DB {
		t.Helper()
		db := attachedDB(t, usersDDL, "users")
		attachAt(t, db, 20)
		for _, u := range []string{"kept", "older", "gone", "deleted", "void"} {
			serverRow(t, db, "users", `'`+u+`', 'lost'`, 15)
		}
		serverRow(t, db, "users", `'known', 'old'`, 4)
		inTx(t, db, `UPDATE users SET name = 'mine' WHERE id IN ('kept', 'older', 'gone', 'known')`, `DELETE FROM users WHERE id IN ('deleted', 'void')`,
			`INSERT INTO users VALUES ('new', 'mine')`)
		return db
	}
	for _, c := range []struct {
		name string
		seq  int64
	}{{"to before the base", 10}, {"and has gone on since", 18}} {
		for _, kind := range []string{"dirty", "frozen", "quarantined"} {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				db := build(t)
				switch kind {
				case "frozen":
					outboxOf(t, db)
				case "quarantined":
					asServer(t, db, `INSERT INTO _sync_quarantine (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal, code)
SELECT schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal, 'x' FROM _sync_dirty_rows`, `DELETE FROM _sync_dirty_rows`)
				}
				// What it does not have any more, a snapshot beyond the base cannot tell from what was deleted.
				stage := []wire.Row{at(7, put("users", "older", name("back"))), at(7, put("users", "deleted", name("back"))), at(4, put("users", "known", name("old")))}
				if c.seq > 15 {
					stage = append(stage, at(3, put("users", "gone", name("back"))), at(3, put("users", "void", name("back"))), at(16, put("users", "kept", name("theirs"))))
				}
				restored(t, db, snap(t, db, c.seq, stage...))
				verify(t, db)
				if kind == "quarantined" {
					asServer(t, db, `INSERT INTO _sync_dirty_rows (schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal)
SELECT schema_name, table_name, key_json, op, base_row_version, payload, dirty_ordinal FROM _sync_quarantine`, `DELETE FROM _sync_quarantine`)
				}
				got := map[string]bool{}
				for _, in := range intents(t, db) {
					got[in] = true
				}
				want := []string{
					`users known UPDATE on 4 {"id":"known","name":"mine"} state 4 base {"id":"known","name":"old"}`,
					`users new INSERT on 0 {"id":"new","name":"mine"}`,
					`users older INSERT on 0 {"id":"older","name":"mine"} base {"id":"older","name":"lost"} shadow 7`,
					`users deleted DELETE on 0 base {"id":"deleted","name":"lost"} shadow 7`,
				}
				if c.seq > 15 {
					want = append(want,
						`users gone INSERT on 0 {"id":"gone","name":"mine"} base {"id":"gone","name":"lost"} shadow 3`,
						`users void DELETE on 0 base {"id":"void","name":"lost"} shadow 3`,
						`users kept UPDATE on 15 {"id":"kept","name":"mine"} state 15 base {"id":"kept","name":"lost"} shadow 16`)
				} else {
					want = append(want, `users gone INSERT on 0 {"id":"gone","name":"mine"}`, `users void DELETE on 0`, `users kept INSERT on 0 {"id":"kept","name":"mine"}`)
				}
				for _, w := range want {
					if !got[w] {
						t.Errorf("there is no %s in %v", w, intents(t, db))
					}
				}
				same(t, "intents", len(got), len(want))
				if kind != "frozen" {
					return
				}
				same(t, "outbox", state(t, db).Outbox.State, local.OutboxNone) // no server can have committed that
			})
		}
	}
}

// TestAConflictOnAnOlderVersionMeansARestoredServer: pulls may never tell, when it has gone on since.
func TestAConflictOnAnOlderVersionMeansARestoredServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		conflict wire.Conflict
		gate     bool
		intents  []string
	}{
		{"an older row", wire.Conflict{ServerRowVersion: 3, ServerRow: []byte(`{"id":"u1","name":"back"}`)}, true,
			[]string{`users u1 INSERT on 0 {"id":"u1","name":"mine"} base {"id":"u1","name":"old"} shadow 3`}},
		{"an older tombstone", wire.Conflict{ServerRowVersion: 3, ServerRowDeleted: true}, true,
			[]string{`users u1 INSERT on 0 {"id":"u1","name":"mine"} base {"id":"u1","name":"old"} shadow 3 deleted`}},
		{"the frozen row, at an older version", wire.Conflict{ServerRowVersion: 3, ServerRow: []byte(`{"id":"u1","name":"mine"}`)}, true, []string{}},
		{"a newer row", wire.Conflict{ServerRowVersion: 8, ServerRow: []byte(`{"id":"u1","name":"theirs"}`)}, false,
			[]string{`users u1 UPDATE on 5 {"id":"u1","name":"mine"} state 5 base {"id":"u1","name":"old"} shadow 8`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, usersDDL, "users")
			attachAt(t, db, 6)
			edit(t, db, wire.OpUpdate)
			outboxOf(t, db)
			c.conflict.Schema, c.conflict.Table, c.conflict.Key, c.conflict.Op = "main", "users", wire.Key{Column: "id", Value: "u1"}, wire.OpUpdate
			c.conflict.BaseRowVersion = 5
			_, err := db.TakeConflict(t.Context(), c.conflict)
			must(t, err)
			same(t, "intents", intents(t, db), c.intents)
			st := state(t, db)
			same(t, "gate", []any{st.Attachment.RebuildRequired, st.Operation.Reason == local.ReasonCheckpointAhead}, []any{c.gate, c.gate})
		})
	}
}

// A source that has been used before cannot be the one that begins: that is found before a snapshot is fetched for it.
func TestSnapshotForAUsedSourceIsNotBegun(t *testing.T) {
	t.Parallel()
	for _, used := range []string{`next_source_bundle_id = 2`, `replaced_by_source_id = 'somebody'`} {
		db := attached(t)
		must(t, db.SetSourceRecovery(t.Context(), local.ReasonHistoryPruned, ""))
		asServer(t, db, `UPDATE _sync_source_state SET `+used+` WHERE source_id = (SELECT replacement_source_id FROM _sync_operation_state)`)
		before := everything(t, db)
		if err := db.BeginStage(t.Context(), wire.SnapshotSession{ID: "s", BundleSeq: 1, RowCount: 1}); !errors.Is(err, errNotHere) {
			t.Errorf("%s: %v", used, err)
		}
		same(t, "nothing changed", everything(t, db), before)
	}
}

// TestRotationLetsGoOfTheOldNumbers: what the server held under the old source's number says nothing of the new one's.
func TestRotationLetsGoOfTheOldNumbers(t *testing.T) {
	t.Parallel()
	for code, kept := range map[string]bool{local.BlockedBySequence: false, "push_chunk_invalid": true} {
		db, _, _ := recovering(t, local.ReasonSourceSequenceChanged, "")
		must(t, db.SetUploadBlocked(t.Context(), &local.Blocked{Code: code}))
		restored(t, db, snap(t, db, 10))
		same(t, code, state(t, db).UploadBlocked != nil, kept)
	}
}
