package sqlite

import (
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// referenceScratch is where an attempt remembers what its reference checks must look at. It lives in the connection's
// temporary database and takes part in its transactions.
//
// The checks look at what changed and at nothing else. They read each changed row and each reference of it once, in
// two queries a reference, and need an index on the referring column to be as cheap for deletions; without one, a
// deletion of referred-to rows costs one pass over the referring table.
const referenceScratch = `CREATE TEMP TABLE IF NOT EXISTS _sync_children (table_name TEXT, key);
CREATE TEMP TABLE IF NOT EXISTS _sync_gone (table_name TEXT, column_name TEXT, value)`

// clearScratch forgets what was remembered for reference checks.
func (db *DB) clearScratch() error {
	if !db.hasReferences() {
		return nil
	}
	return errors.Join(db.conn.run(`DELETE FROM temp._sync_children`), db.conn.run(`DELETE FROM temp._sync_gone`))
}

// hasReferences reports whether any managed table refers to another, or to itself.
func (db *DB) hasReferences() bool {
	for _, t := range db.tables {
		if len(t.parents) > 0 {
			return true
		}
	}
	return false
}

// dangle is a reference to a row that is not there.
type dangle struct {
	child *table
	ref   reference
	key   wire.Value // of the child row
	value wire.Value // of the referring column
}

// name tells references apart.
func (d *dangle) name() string {
	return fmt.Sprintf("%s.%s %q %q", d.child.Name, d.ref.column, d.key.Bytes, fmt.Sprint(d.value))
}

// orphan is the condition that row c has a reference to a row that is not there.
func (db *DB) orphan(ref reference) string {
	return fmt.Sprintf(`c.%s IS NOT NULL AND NOT EXISTS (SELECT 1 FROM %s AS p WHERE p.%s = c.%[1]s)`,
		quote(ref.column), quote(db.byName[ref.parent].local), quote(ref.parentColumn))
}

// orphanColumns are the columns of row c that dangle keeps.
func orphanColumns(child *table, ref reference) string {
	return fmt.Sprintf(`c.%s, c.%s`, quote(child.key().name), quote(ref.column))
}

// dangling returns the references that rows written in this attempt leave without their parent, and those to rows
// deleted in it.
func (a *applier) dangling() ([]dangle, error) {
	if !a.db.hasReferences() {
		return nil, nil
	}
	var out []dangle
	for _, child := range a.db.tables {
		for _, ref := range child.parents {
			parent := a.db.byName[ref.parent]
			orphan, columns := a.db.orphan(ref), orphanColumns(child, ref)
			collect := func(s *sqlite3.Stmt) error {
				out = append(out, dangle{child: child, ref: ref, key: columnValue(s, 0), value: columnValue(s, 1)})
				return nil
			}
			if p := a.plans[child]; p != nil && p.changed {
				if _, err := a.db.conn.each(fmt.Sprintf(`SELECT %s FROM temp._sync_children x CROSS JOIN %s AS c ON c.%s = x.key
WHERE x.table_name = ? AND %s`, columns, quote(child.local), quote(child.key().name), orphan), collect, child.Name); err != nil {
					return nil, err
				}
			}
			if p := a.plans[parent]; p != nil && p.changed {
				if _, err := a.db.conn.each(fmt.Sprintf(`SELECT %s FROM %s AS c
WHERE c.%s IN (SELECT value FROM temp._sync_gone WHERE table_name = ? AND column_name = ?) AND %s`,
					columns, quote(child.local), quote(ref.column), orphan), collect, parent.Name, ref.parentColumn); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// dangleFresh returns those of found that do not dangle as the database is now, that is before the attempt.
func (a *applier) dangleFresh(found []dangle) ([]dangle, error) {
	var out []dangle
	for _, d := range found {
		old, err := a.db.conn.withRow(fmt.Sprintf(`SELECT 1 FROM %s AS c WHERE c.%s = ?1 AND c.%s = ?2 AND NOT EXISTS (SELECT 1 FROM %s AS p WHERE p.%s = c.%[3]s)`,
			quote(d.child.local), quote(d.child.key().name), quote(d.ref.column), quote(a.db.byName[d.ref.parent].local), quote(d.ref.parentColumn)),
			[]wire.Value{d.key, d.value}, nil)
		if err != nil {
			return nil, err
		}
		if !old {
			out = append(out, d)
		}
	}
	return out, nil
}

// blame returns the intents behind dangling references: that of the referring row, or that of the row referred to,
// which was deleted or given another value here. The database must be as it was before the attempt.
func (a *applier) blame(found []dangle) ([]local.IntentKey, error) {
	var out []local.IntentKey
	for _, d := range found {
		key, err := a.db.localKey(d.child, &d.key)
		if err != nil {
			return nil, err
		}
		has, err := a.db.hasIntent(d.child, key)
		if err != nil {
			return nil, err
		}
		if has {
			out = append(out, local.IntentKey{Table: d.child.Name, KeyJSON: key})
		}
		parents, err := a.blameParent(d)
		if err != nil {
			return nil, err
		}
		out = append(out, parents...)
		if !has && len(parents) == 0 {
			// No push can repair this one, so none is asked for.
			return nil, nil
		}
	}
	return distinct(out), nil
}

// blameParent returns the intents of rows that d may have referred to.
func (a *applier) blameParent(d dangle) ([]local.IntentKey, error) {
	parent := a.db.byName[d.ref.parent]
	if d.ref.parentColumn == parent.key().name {
		key, err := a.db.localKey(parent, &d.value)
		if err != nil {
			return nil, err
		}
		if has, err := a.db.hasIntent(parent, key); err != nil || !has {
			return nil, err
		}
		return []local.IntentKey{{Table: parent.Name, KeyJSON: key}}, nil
	}
	// The value is not the parent's key. The server's image of the parent, known as its base row or as its shadow,
	// has it; both forms print the values that such columns hold in the same way.
	var out []local.IntentKey
	value := member("payload", columnName(parent, d.ref.parentColumn))
	for _, name := range []string{"_sync_base_rows", "_sync_shadow"} {
		s, err := a.db.conn.stmt(`SELECT key_json FROM ` + name + ` WHERE schema_name = ?2 AND table_name = ?3 AND CAST(` + value + ` AS TEXT) = CAST(?1 AS TEXT)`)
		if err != nil {
			return nil, err
		}
		err = errors.Join(bindRow(s, 1, []wire.Value{d.value}), s.BindText(2, parent.Schema), s.BindText(3, parent.Name))
		for err == nil && s.Step() {
			out = append(out, local.IntentKey{Table: parent.Name, KeyJSON: s.ColumnText(0)})
		}
		if err = errors.Join(err, s.Err(), s.Reset(), s.ClearBindings()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// columnName is the name in payloads of the column declared as name.
func columnName(t *table, name string) string {
	for i, c := range t.columns {
		if c.name == name {
			return t.Columns[i].Name
		}
	}
	return name
}
