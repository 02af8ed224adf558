package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// layDown writes the shadows of the intents into the business tables and settles them, in apply mode. Those that
// cannot be laid down are returned untouched: they lean on a parent that is not here, take a unique value that another
// row holds, or take away the parent of a row that stays.
//
// Rows that lean on each other are laid down together or not at all, so the set is tried as a whole and, as long as
// rows are in the way, again without those; the rounds are bounded by the longest chain of such rows.
func (db *DB) layDown(im *images, intents []*intent) (stuck []*intent, err error) {
	for len(intents) > 0 {
		if err := db.conn.run(`SAVEPOINT lay`); err != nil {
			return nil, err
		}
		bad, err := db.tryLayDown(im, intents)
		if err != nil {
			return nil, err // the whole transaction goes back
		}
		if len(bad) == 0 {
			return stuck, db.conn.run(`RELEASE lay`)
		}
		if err := errors.Join(db.conn.run(`ROLLBACK TO lay`), db.conn.run(`RELEASE lay`)); err != nil {
			return nil, err
		}
		var rest []*intent
		for _, in := range intents {
			if bad[in] {
				stuck = append(stuck, in)
			} else {
				rest = append(rest, in)
			}
		}
		intents = rest
	}
	return stuck, nil
}

// lost is a value that a row no longer offers to the rows that refer to it.
type lost struct {
	by    *intent
	ref   inbound
	value wire.Value
}

// tryLayDown does layDown's work once and returns the intents that are in the way of a consistent whole.
func (db *DB) tryLayDown(im *images, intents []*intent) (bad map[*intent]bool, err error) {
	bad = map[*intent]bool{}
	var gone []lost
	for _, in := range intents {
		if gone, err = db.losses(gone, in); err != nil {
			return nil, err
		}
		if in.shadow.deleted {
			if err := db.deleteRow(in.t, in.key); err != nil {
				return nil, err
			}
		}
	}
	// Rows that take a unique value of each other are in each other's way in any order: those are taken out together
	// and put in anew.
	var contested []*intent
	for _, in := range intents {
		if in.shadow.deleted {
			continue
		}
		switch err := db.putImage(im, in); {
		case isUnique(err):
			contested = append(contested, in)
		case err != nil:
			return nil, err
		}
	}
	for _, in := range contested {
		if err := db.deleteRow(in.t, in.key); err != nil {
			return nil, err
		}
	}
	for _, in := range contested {
		switch err := db.putImage(im, in); {
		case isUnique(err):
			bad[in] = true
		case err != nil:
			return nil, err
		}
	}
	if len(bad) > 0 {
		return bad, nil
	}
	for _, in := range intents {
		missing, err := db.missingParent(im, in)
		if err != nil {
			return nil, err
		}
		if missing != nil {
			bad[in] = true
		}
	}
	for _, l := range gone {
		dangling, err := db.stillWanted(l.ref, l.value)
		if err != nil {
			return nil, err
		}
		if dangling {
			bad[l.by] = true
		}
	}
	if len(bad) > 0 {
		return bad, nil
	}
	for _, in := range intents {
		if err := db.finish(in, in.shadow); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (db *DB) putImage(im *images, in *intent) error {
	row, err := im.of(in.t).wire.Decode(in.shadow.payload)
	if err != nil {
		return err
	}
	_, err = db.conn.withRow(in.t.putSQL(), row, nil)
	return err
}

// putSQL inserts a whole row or replaces its content, column by column, so that no other row is touched.
func (t *table) putSQL() string {
	var names, marks, sets []string
	for i := range t.columns {
		name := quote(t.columns[i].name)
		names, marks = append(names, name), append(marks, `?`)
		sets = append(sets, name+` = excluded.`+name)
	}
	// The alias is for a table named excluded, whose rows would else be meant by that name.
	// OR ABORT overrides a conflict clause of the table's own, which could replace other rows without a word.
	return fmt.Sprintf(`INSERT OR ABORT INTO %s AS t (%s) VALUES (%s) ON CONFLICT (%s) DO UPDATE SET %s`, quote(t.local),
		strings.Join(names, `, `), strings.Join(marks, `, `), quote(t.key().name), strings.Join(sets, `, `))
}

// rowKey is the value of the key column that a local key stands for.
func (t *table) rowKey(keyJSON string) (wire.Value, error) {
	k, err := wire.WireKey(&t.Table, keyJSON)
	if err != nil {
		return wire.Value{}, err
	}
	return wire.KeyValue(&t.Table, k)
}

func (db *DB) deleteRow(t *table, keyJSON string) error {
	key, err := t.rowKey(keyJSON)
	if err != nil {
		return err
	}
	_, err = db.conn.withRow(`DELETE FROM `+quote(t.local)+` WHERE `+quote(t.key().name)+` = ?`, []wire.Value{key}, nil)
	return err
}

// missingParent returns a reference of the intent's shadow to a row that is not here; nil when there is none.
func (db *DB) missingParent(im *images, in *intent) (*missing, error) {
	if in.shadow.deleted || len(in.t.parents) == 0 {
		return nil, nil
	}
	row, err := im.of(in.t).wire.Decode(in.shadow.payload)
	if err != nil {
		return nil, err
	}
	return db.danglingParent(in.t, row)
}

// missing is a value that refers to a parent row that is not here.
type missing struct {
	ref   reference
	value wire.Value
}

// danglingParent returns the first reference of a row of t to a parent that is not here; nil when there is none.
func (db *DB) danglingParent(t *table, row []wire.Value) (*missing, error) {
	for _, ref := range t.parents {
		value := row[t.column(ref.column)]
		if value.Type == wire.Null {
			continue
		}
		here, err := db.conn.withRow(`SELECT 1 FROM `+quote(db.byName[ref.parent].local)+` WHERE `+quote(ref.parentColumn)+` = ?`, []wire.Value{value}, nil)
		if err != nil {
			return nil, err
		}
		if !here {
			return &missing{ref, value}, nil
		}
	}
	return nil, nil
}

// column is the index of a column by its name as declared.
func (t *table) column(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
}

// inbound is a reference seen from the parent.
type inbound struct {
	child  *table
	column string // child column
	parent *table
	target string // parent column
}

// inbounds are the references to t.
func (db *DB) inbounds(t *table) (in []inbound) {
	for _, child := range db.tables {
		for _, ref := range child.parents {
			if ref.parent == t.Name {
				in = append(in, inbound{child, ref.column, t, ref.parentColumn})
			}
		}
	}
	return in
}

// losses appends what rows that refer to the intent's row may miss once its shadow is laid down: with a deletion every
// value they can refer to, else those beside the key, which may change.
func (db *DB) losses(gone []lost, in *intent) ([]lost, error) {
	for _, ref := range db.inbounds(in.t) {
		if !in.shadow.deleted && ref.target == in.t.key().name {
			continue
		}
		key, err := in.t.rowKey(in.key)
		if err != nil {
			return nil, err
		}
		query := `SELECT ` + quote(ref.target) + ` FROM ` + quote(in.t.local) + ` WHERE ` + quote(in.t.key().name) + ` = ?`
		if _, err := db.conn.withRow(query, []wire.Value{key}, func(s *sqlite3.Stmt) error {
			if v := columnValue(s, 0); v.Type != wire.Null {
				gone = append(gone, lost{in, ref, v})
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// stillWanted reports whether a child refers to a value that no parent row offers any more. A child column that has no
// index is scanned: SQLite's own foreign keys cost the same.
func (db *DB) stillWanted(ref inbound, value wire.Value) (bool, error) {
	return db.conn.withRow(fmt.Sprintf(`SELECT 1 WHERE EXISTS (SELECT 1 FROM %s WHERE %s = ?1) AND NOT EXISTS (SELECT 1 FROM %s WHERE %s = ?1)`,
		quote(ref.child.local), quote(ref.column), quote(ref.parent.local), quote(ref.target)), []wire.Value{value}, nil)
}
