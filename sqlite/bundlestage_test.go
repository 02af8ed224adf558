package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

func TestStagedBundle(t *testing.T) {
	t.Parallel()
	many := func() (rows []wire.Row) {
		for i := range 45 {
			rows = append(rows, put("users", fmt.Sprint("k", 44-i), name("x")))
		}
		return append(rows, removed("users", "k7"), put("users", "k8", name("last")))
	}
	db := attachedDB(t, usersDDL, "users")
	exec(t, db, `INSERT INTO users VALUES ('k9', 'mine')`)
	b := sealed(t, bundle(1, many()...))
	stage(t, db, b)
	stage(t, db, b) // from the start again
	if err := db.StageBundlePage(t.Context(), b.BundleMeta, 3, b.Rows[4:6]); err != nil {
		t.Fatal("a page again:", err)
	}
	if err := db.StageBundlePage(t.Context(), b.BundleMeta, 44, b.Rows[45:]); err != nil {
		t.Fatal("half of the last page again:", err)
	}
	out, err := db.ApplyStaged(t.Context(), classic(t), b.BundleMeta)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, db)
	same(t, "outcome", out, local.Applied{Bundles: 1, Rows: 44, Checkpoint: 1, Tables: local.TableSet{"users"}})
	same(t, "the last image of a row counts", rows(t, db, `SELECT name FROM users WHERE id IN ('k7', 'k8', 'k9')`), []string{"last", "mine"})
	same(t, "shadow", len(shadows(t, db)), 1)
	same(t, "stage", number(t, db, `SELECT count(*) FROM _sync_bundle_stage`), int64(0))

	same(t, "again", func() local.Applied {
		stage(t, db, b)
		out, err := db.ApplyStaged(t.Context(), classic(t), b.BundleMeta)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}(), local.Applied{Checkpoint: 1})
}

func TestStagedBundleIsVerifiedBeforeAnythingIsApplied(t *testing.T) {
	t.Parallel()
	for what, harm := range map[string]func(db *DB, m *wire.BundleMeta) string{
		"another hash":    func(_ *DB, m *wire.BundleMeta) string { m.Hash = "00"; return "" },
		"another count":   func(_ *DB, m *wire.BundleMeta) string { m.RowCount++; return "" },
		"a hole":          func(*DB, *wire.BundleMeta) string { return `DELETE FROM _sync_bundle_stage WHERE row_ordinal = 2` },
		"a hole in front": func(*DB, *wire.BundleMeta) string { return `DELETE FROM _sync_bundle_stage WHERE row_ordinal = 0` },
		"a page cut short": func(*DB, *wire.BundleMeta) string {
			return `UPDATE _sync_bundle_stage SET page = substr(page, 1, length(page) - 1) WHERE row_ordinal = 2`
		},
		"a page too long": func(*DB, *wire.BundleMeta) string {
			return `UPDATE _sync_bundle_stage SET page = CAST(page || x'00' AS BLOB)`
		},
		"a row too few": func(*DB, *wire.BundleMeta) string { return `UPDATE _sync_bundle_stage SET row_count = 1` },
		"a row too many": func(_ *DB, m *wire.BundleMeta) string {
			m.RowCount++
			return `UPDATE _sync_bundle_stage SET row_count = 2 WHERE row_ordinal = 2`
		},
		"an unknown op": func(*DB, *wire.BundleMeta) string {
			return `UPDATE _sync_bundle_stage SET page = CAST(replace(CAST(page AS TEXT), 'UPDATE', 'UPSERT') AS BLOB)`
		},
		"a length beyond the page": func(*DB, *wire.BundleMeta) string {
			return `UPDATE _sync_bundle_stage SET page = x'ffffffffffffffffff01'`
		},
		"an empty stage": func(*DB, *wire.BundleMeta) string { return `DELETE FROM _sync_bundle_stage` },
		"a changed row": func(*DB, *wire.BundleMeta) string {
			return `UPDATE _sync_bundle_stage SET page = CAST(replace(CAST(page AS TEXT), 'u1', 'u9') AS BLOB) WHERE row_ordinal = 0`
		},
		"an unknown table": func(*DB, *wire.BundleMeta) string {
			return `UPDATE _sync_bundle_stage SET page = CAST(replace(CAST(page AS TEXT), 'users', 'ghost') AS BLOB)`
		},
		"an unknown table, no hash": func(_ *DB, m *wire.BundleMeta) string {
			m.Hash = ""
			return `UPDATE _sync_bundle_stage SET page = CAST(replace(CAST(page AS TEXT), 'users', 'ghost') AS BLOB)`
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, usersDDL, "users")
			b := sealed(t, bundle(1, put("users", "u1", name("x")), put("users", "u2", name("x")), put("users", "u3", name("x"))))
			stage(t, db, b)
			meta := b.BundleMeta
			if sql := harm(db, &meta); sql != "" {
				asServer(t, db, sql)
			}
			before := everything(t, db)
			var fault *wire.ProtocolError
			if _, err := db.ApplyStaged(t.Context(), classic(t), meta); !errors.As(err, &fault) {
				t.Fatalf("got %v", err)
			}
			same(t, "nothing changed", everything(t, db), before)
		})
	}
	t.Run("a gap", func(t *testing.T) {
		t.Parallel()
		db := attachedDB(t, usersDDL, "users")
		b := sealed(t, bundle(2, put("users", "u1", name("x"))))
		stage(t, db, b)
		var fault *local.DatabaseError
		if _, err := db.ApplyStaged(t.Context(), classic(t), b.BundleMeta); !errors.As(err, &fault) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestStageBundlePageRefuses(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, usersDDL, "users")
	b := bundle(1, put("users", "u1", name("x")), put("users", "u2", name("x")))
	var refused *local.DatabaseError
	if err := db.StageBundlePage(t.Context(), b.BundleMeta, 0, b.Rows[1:]); !errors.As(err, &refused) {
		t.Errorf("a hole: %v", err)
	}
	var fault *wire.ProtocolError
	if err := db.StageBundlePage(t.Context(), b.BundleMeta, -1, []wire.Row{put("ghosts", "u1", name("x"))}); !errors.As(err, &fault) {
		t.Errorf("an unknown table: %v", err)
	}
	if err := db.StageBundlePage(t.Context(), b.BundleMeta, -1, []wire.Row{put("users", "u1", name("x"))}); !errors.As(err, &fault) {
		t.Errorf("another version: %v", err)
	}
}

func TestStagedBundleCollides(t *testing.T) {
	t.Parallel()
	db := attachedDB(t, pairDDL, "pairs")
	exec(t, db, `INSERT INTO pairs VALUES ('mine', 'x')`)
	b := sealed(t, bundle(1, put("pairs", "a", name("x"))))
	stage(t, db, b)
	out, err := db.ApplyStaged(t.Context(), classic(t), b.BundleMeta)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "outcome", out, local.Applied{Collision: &local.Collision{BundleSeq: 1, Cause: "unique", Intents: keys("pairs", `{"id":"mine"}`)}})
}

// A bundle that is sorted in several parts is laid down as one that is sorted as a whole: the last image of a row counts
// in whichever part the others are, also where one part ends with a key and the next one begins with it.
func TestStagedBundleInParts(t *testing.T) {
	t.Parallel()
	big := func(letter string) string { return name(strings.Repeat(letter, sortBytes/2)) }
	b := sealed(t, bundle(1,
		put("users", "m", name("old")), put("users", "a", name("old")), put("users", "z", name("old")), put("users", "x", big("a")), put("users", "y", big("b")),
		put("users", "m", name("newer")), put("users", "z", name("newer")), put("users", "v", big("c")), put("users", "w", big("d")),
		put("users", "a", name("last")), put("users", "m", name("last")), removed("users", "z")))
	for what, prepare := range map[string]func(db *DB){
		"nothing here": func(*DB) {},
		"intents":      func(db *DB) { exec(t, db, `INSERT INTO users VALUES ('m', 'mine'), ('z', 'mine')`) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			whole, parts := attachedDB(t, usersDDL, "users"), attachedDB(t, usersDDL, "users")
			var outs [2]local.Applied
			for i, db := range []*DB{whole, parts} {
				prepare(db)
				var err error
				if i == 0 {
					outs[i], err = db.ApplyBundles(t.Context(), classic(t), []wire.Bundle{b})
				} else {
					stage(t, db, b)
					outs[i], err = db.ApplyStaged(t.Context(), classic(t), b.BundleMeta)
				}
				if err != nil {
					t.Fatal(err)
				}
				verify(t, db)
			}
			same(t, "outcome", outs[1], outs[0])
			for _, sql := range []string{`SELECT id, name FROM users ORDER BY id`, `SELECT key_json, row_version, deleted FROM _sync_row_state ORDER BY key_json`,
				`SELECT key_json, row_version, deleted, payload FROM _sync_shadow ORDER BY key_json`} {
				same(t, sql, rows(t, parts, sql), rows(t, whole, sql))
			}
		})
	}
}
