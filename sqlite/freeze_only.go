package sqlite

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// chooseOnly finds out which rows are to be frozen when not all that are dirty are: those asked for, with the new rows
// that they refer to and, for deletions, the deletions of what refers to them.
func (f *freezing) chooseOnly() error {
	keys := f.req.Only
	if f.req.Probe > 0 {
		var err error
		if keys, err = f.probe(); err != nil {
			return err
		}
	}
	if keys == nil {
		return nil
	}
	f.only = map[local.IntentKey]bool{}
	for len(keys) > 0 {
		k := keys[len(keys)-1]
		keys = keys[:len(keys)-1]
		t := f.db.byName[k.Table]
		if t == nil || f.only[k] {
			continue
		}
		in, err := f.db.loadIntent(t, k.KeyJSON)
		if err != nil {
			return err
		}
		if in == nil {
			continue
		}
		f.only[k] = true
		more, err := f.needs(in)
		if err != nil {
			return err
		}
		keys = append(keys, more...)
	}
	return nil
}

// probe chooses the dirty row for a probe: the one that stands at its place among all, or the next that asks for
// anything.
func (f *freezing) probe() ([]local.IntentKey, error) {
	keys := []local.IntentKey{}
	const place = `(SELECT MIN(dirty_ordinal) + (MAX(dirty_ordinal) - MIN(dirty_ordinal)) * ? / ? FROM _sync_dirty_rows)`
	for _, from := range []string{`>= ` + place + ` ORDER BY dirty_ordinal`, `< ` + place + ` ORDER BY dirty_ordinal DESC`} {
		if _, err := f.db.conn.each(`SELECT table_name, key_json FROM _sync_dirty_rows WHERE dirty_ordinal `+from, func(s *sqlite3.Stmt) error {
			k := local.IntentKey{Table: s.ColumnText(0), KeyJSON: s.ColumnText(1)}
			t := f.db.byName[k.Table]
			if t == nil {
				return nil
			}
			in, err := f.db.loadIntent(t, k.KeyJSON)
			if err != nil || f.im.void(in) {
				return err
			}
			keys = append(keys, k)
			return errEnough
		}, f.req.Probe, int64(local.Probes)); enough(err) != nil {
			return nil, err
		}
		if len(keys) > 0 {
			break
		}
	}
	return keys, nil
}

// needs returns the dirty rows without which the server could not take an intent.
func (f *freezing) needs(in *intent) (keys []local.IntentKey, err error) {
	key, err := in.t.rowKey(in.key)
	if err != nil {
		return nil, nil //nolint:nilerr // nothing refers to a key that cannot be
	}
	collect := func(t *table) func(*sqlite3.Stmt) error {
		return func(s *sqlite3.Stmt) error {
			keys = append(keys, local.IntentKey{Table: t.Name, KeyJSON: s.ColumnText(0)})
			return nil
		}
	}
	if in.payload != nil {
		for _, ref := range in.t.parents {
			parent := f.db.byName[ref.parent]
			_, err := f.db.conn.withRow(fmt.Sprintf(`SELECT d.key_json FROM %s AS c CROSS JOIN %s AS p ON p.%s = c.%s
  CROSS JOIN _sync_dirty_rows d ON d.schema_name = %s AND d.table_name = %s AND d.key_json = %s
WHERE c.%s = ?1 AND d.op <> 'DELETE'`, quote(in.t.local), quote(parent.local), quote(ref.parentColumn), quote(ref.column),
				literal(parent.Schema), literal(parent.Name), parent.keyJSON("p"), quote(in.t.key().name)), []wire.Value{key}, collect(parent))
			if err != nil {
				return nil, err
			}
		}
		return keys, nil
	}
	// What the server's rows refer to is in their base rows.
	for _, ref := range f.db.inbounds(in.t) {
		if in.baseRow == nil {
			continue
		}
		_, err := f.db.conn.each(fmt.Sprintf(`SELECT d.key_json FROM _sync_dirty_rows d
  CROSS JOIN _sync_base_rows b ON b.schema_name = d.schema_name AND b.table_name = d.table_name AND b.key_json = d.key_json
WHERE d.op = 'DELETE' AND +d.schema_name = ? AND +d.table_name = ?
  AND %s = %s`, member("b.payload", columnName(ref.child, ref.column)), member("?", columnName(in.t, ref.target))),
			collect(ref.child), ref.child.Schema, ref.child.Name, rawText(in.baseRow))
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// skips reports whether a row stays dirty.
func (f *freezing) skips(k local.IntentKey) bool { return f.left[k] || f.only != nil && !f.only[k] }
