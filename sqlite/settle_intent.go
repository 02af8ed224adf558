package sqlite

import (
	"bytes"
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// intent is a dirty row together with what is known of the server's side of it.
type intent struct {
	t       *table
	key     string // key_json
	base    int64
	payload []byte // newest local content in local form; nil: deleted
	live    bool   // row_state says that the server has the row, as far as the local content was made on it
	baseRow []byte // base row in local form; nil: none
	shadow  *shadow
}

// shadow is the newest server image of a row that has an intent.
type shadow struct {
	version int64
	exact   bool // false: a deletion inferred from a snapshot, whose true version is unknown
	deleted bool
	payload []byte // wire form; nil: deleted
}

// op is what the intent asks of the server, told from its content and the row state alone: the stored op is that of
// the time of the edit.
func (i *intent) op() wire.Op {
	switch {
	case i.payload == nil:
		return wire.OpDelete
	case i.live:
		return wire.OpUpdate
	default:
		return wire.OpInsert
	}
}

// state is the version and deletion mark that the row state takes when the row becomes the image; known is false when
// there is to be none: the row never existed, or nobody knows at which version it was deleted.
func (s *shadow) state() (version int64, known bool) {
	return s.version, !s.deleted || s.exact && s.version > 0
}

const intentColumns = `d.key_json, d.base_row_version, d.payload,
  (SELECT deleted FROM _sync_row_state r WHERE r.schema_name = d.schema_name AND r.table_name = d.table_name AND r.key_json = d.key_json),
  b.payload, s.row_version, s.version_exact, s.deleted, s.payload`

const intentBase = `
  LEFT JOIN _sync_base_rows b ON b.schema_name = d.schema_name AND b.table_name = d.table_name AND b.key_json = d.key_json`

// scanIntent reads intentColumns.
func scanIntent(t *table, s *sqlite3.Stmt) *intent {
	in := &intent{t: t, key: s.ColumnText(0), base: s.ColumnInt64(1), payload: columnBytes(s, 2), baseRow: columnBytes(s, 4)}
	in.live = s.ColumnType(3) != sqlite3.NULL && !s.ColumnBool(3)
	if s.ColumnType(5) != sqlite3.NULL {
		in.shadow = &shadow{version: s.ColumnInt64(5), exact: s.ColumnBool(6), deleted: s.ColumnBool(7), payload: columnBytes(s, 8)}
	}
	return in
}

// intentPage is how many intents are held at a time while they are looked through.
const intentPage = 256

// shadowedIntents hands every dirty row of t that has a shadow to fn, in key order, until fn returns false. It costs
// nothing for rows without a shadow. fn may change the rows it is given.
func (db *DB) shadowedIntents(t *table, fn func(*intent) (bool, error)) error {
	const query = `SELECT ` + intentColumns + `
FROM _sync_shadow s
  CROSS JOIN _sync_dirty_rows d ON d.schema_name = s.schema_name AND d.table_name = s.table_name AND d.key_json = s.key_json` + intentBase + `
WHERE s.schema_name = ? AND s.table_name = ? AND s.key_json > ?
ORDER BY s.key_json LIMIT ?`
	after := ""
	for {
		var page []*intent
		if _, err := db.conn.each(query, func(s *sqlite3.Stmt) error {
			page = append(page, scanIntent(t, s))
			return nil
		}, t.Schema, t.Name, after, intentPage); err != nil {
			return err
		}
		for _, in := range page {
			if in.shadow.deleted == (in.shadow.payload != nil) {
				return db.damaged("_sync_shadow", "holds an image that is both a row and a deletion, or neither", nil)
			}
			if more, err := fn(in); err != nil || !more {
				return err
			}
		}
		if len(page) < intentPage {
			return nil
		}
		after = page[len(page)-1].key
	}
}

// loadIntent returns the intent of a key; nil when the row is not dirty.
func (db *DB) loadIntent(t *table, key string) (*intent, error) {
	const query = `SELECT ` + intentColumns + `
FROM _sync_dirty_rows d
  LEFT JOIN _sync_shadow s ON s.schema_name = d.schema_name AND s.table_name = d.table_name AND s.key_json = d.key_json` + intentBase + `
WHERE d.schema_name = ? AND d.table_name = ? AND d.key_json = ?`
	var in *intent
	_, err := db.conn.one(query, func(s *sqlite3.Stmt) error {
		in = scanIntent(t, s)
		return nil
	}, t.Schema, t.Name, key)
	return in, err
}

// void reports whether the intent asks for nothing: it deletes a row that the server did not have when the row was
// first touched here, or its content is that of the base row again. A row that the server did have, at a version that it has
// lost since, was known here: if it has one now, it is a conflict whether that goes.
func (im *images) void(in *intent) bool {
	if in.payload == nil {
		return !in.live && (in.baseRow == nil || in.shadow == nil || in.shadow.deleted)
	}
	if in.baseRow == nil {
		return false
	}
	return im.sameLocal(in.t, in.payload, in.baseRow)
}

// agrees reports whether the shadow holds what the intent asks for, once the spelling differences that a server may
// introduce are set aside. exact reports that not even those are there.
func (im *images) agrees(in *intent) (same, exact bool, err error) {
	s := in.shadow
	if in.payload == nil || s.deleted {
		same = in.payload == nil && s.deleted
		return same, same, nil
	}
	image, err := im.fromWire(in.t, s.payload)
	if err != nil {
		return false, false, err
	}
	if im.sameLocal(in.t, in.payload, image) {
		return true, true, nil
	}
	asked, err := im.toWire(in.t, in.payload)
	if err != nil {
		return false, false, nil //nolint:nilerr // what cannot be spelled cannot be what a server holds
	}
	same, err = im.contract.SameImage(&in.t.Table, asked, s.payload)
	return same, false, err
}

// finish makes the image the end of the intent: the row state is the image's, and intent, base row and shadow are
// gone. The business row must be the image already.
func (db *DB) finish(in *intent, image *shadow) error {
	if version, known := image.state(); known {
		if err := db.setRowState(in.t, in.key, version, image.deleted); err != nil {
			return err
		}
	} else if err := db.dropRowState(in.t, in.key); err != nil {
		return err
	}
	return db.dropIntent(in.t, in.key)
}

// rebase keeps the intent and makes it one that was made on the server's image: that is its base from now on, and the
// shadow is gone. An intent that asks for what the image is, a deletion of no row, is settled.
func (db *DB) rebase(im *images, in *intent) error {
	s := in.shadow
	op, base := wire.OpInsert, int64(0)
	switch version, known := s.state(); {
	case s.deleted && in.payload == nil:
		return db.finish(in, s)
	case s.deleted && known:
		base = version
		if err := db.setRowState(in.t, in.key, version, true); err != nil {
			return err
		}
	case s.deleted:
		if err := db.dropRowState(in.t, in.key); err != nil {
			return err
		}
	default:
		op, base = wire.OpUpdate, version
		if in.payload == nil {
			op = wire.OpDelete
		}
		if err := db.setRowState(in.t, in.key, version, false); err != nil {
			return err
		}
	}
	if err := db.setBaseRow(im, in.t, in.key, s); err != nil {
		return err
	}
	if err := db.conn.run(`UPDATE _sync_dirty_rows SET op = ?, base_row_version = ?
WHERE schema_name = ? AND table_name = ? AND key_json = ?`, string(op), base, in.t.Schema, in.t.Name, in.key); err != nil {
		return err
	}
	return db.dropAt("_sync_shadow", in.t, in.key)
}

// setBaseRow makes the image the base row of a key: in local form, or none when the server has no row.
func (db *DB) setBaseRow(im *images, t *table, key string, s *shadow) error {
	if s.deleted {
		return db.dropAt("_sync_base_rows", t, key)
	}
	image, err := im.fromWire(t, s.payload)
	if err != nil {
		return err
	}
	return db.conn.run(`INSERT INTO _sync_base_rows (schema_name, table_name, key_json, payload) VALUES (?, ?, ?, ?)
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET payload = excluded.payload`, t.Schema, t.Name, key, rawText(image))
}

// setShadow makes the image the shadow of a key, whatever there was.
func (db *DB) setShadow(t *table, key string, s *shadow) error {
	return db.conn.run(`INSERT INTO _sync_shadow (schema_name, table_name, key_json, row_version, version_exact, deleted, payload)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET
  row_version = excluded.row_version, version_exact = excluded.version_exact, deleted = excluded.deleted, payload = excluded.payload`,
		t.Schema, t.Name, key, s.version, s.exact, s.deleted, rawText(s.payload))
}

func (db *DB) setRowState(t *table, key string, version int64, deleted bool) error {
	return db.conn.run(`INSERT INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET
  row_version = excluded.row_version, deleted = excluded.deleted, updated_at = excluded.updated_at`, t.Schema, t.Name, key, version, deleted)
}

// loseBase makes a dirty row one that was made on no version of the server's.
func (db *DB) loseBase(t *table, key string) error {
	if err := db.dropRowState(t, key); err != nil {
		return err
	}
	return db.conn.run(`UPDATE _sync_dirty_rows SET base_row_version = 0, op = CASE WHEN payload IS NULL THEN 'DELETE' ELSE 'INSERT' END
WHERE schema_name = ? AND table_name = ? AND key_json = ?`, t.Schema, t.Name, key)
}

func (db *DB) dropRowState(t *table, key string) error { return db.dropAt("_sync_row_state", t, key) }

// dropIntent removes everything that a dirty row consists of.
func (db *DB) dropIntent(t *table, key string) error {
	for _, name := range []string{"_sync_dirty_rows", "_sync_base_rows", "_sync_shadow"} {
		if err := db.dropAt(name, t, key); err != nil {
			return err
		}
	}
	return nil
}

// dropAt removes the entry of a key from a metadata table.
func (db *DB) dropAt(metadata string, t *table, key string) error {
	return db.conn.run(`DELETE FROM `+metadata+` WHERE schema_name = ? AND table_name = ? AND key_json = ?`, t.Schema, t.Name, key)
}

// unchanged reports whether the intent is still what the conflict tells of it.
func (i *intent) unchanged(c *local.Conflict) bool {
	s := i.shadow
	return s != nil && i.op() == c.LocalOp && i.base == c.Base && bytes.Equal(i.payload, c.Local) &&
		s.version == c.ServerVersion && s.exact == c.ServerExact && s.deleted == c.ServerDeleted && bytes.Equal(s.payload, c.ServerWire)
}

// aboutIntent takes an error about one intent, or about an answer to a conflict, out of the *local.DatabaseError that the
// transaction put around it: nothing is wrong with the database.
func aboutIntent(err error) error {
	var in *local.IntentError
	var answer *local.InvalidResolutionError
	switch {
	case errors.As(err, &in):
		return in
	case errors.As(err, &answer):
		return answer
	}
	return err
}
