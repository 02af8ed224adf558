package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// makeWay lays down the shadows of intents which layDown had to leave, where nothing but changes in quarantine is in their
// way: those delay nobody, and are displaced. Changes that are still to be pushed are pushed first; what is neither has to be
// pulled. It returns the intents that are left, in apply mode, and what was displaced.
func (db *DB) makeWay(im *images, stuck []*intent) (left []*intent, d *displacing, err error) {
	d = &displacing{db: db, im: im}
	if len(stuck) == 0 {
		return nil, d, nil
	}
	if some, err := db.anyQuarantined(); err != nil || !some {
		return stuck, d, err
	}
	free, aside, err := db.heldByQuarantine(im, stuck)
	if err != nil || len(aside) == 0 {
		return stuck, d, err
	}
	if err := db.conn.run(`SAVEPOINT way`); err != nil {
		return nil, nil, err
	}
	d.how = &local.Displacement{Intents: distinct(aside), Reason: local.Reason{
		Code: local.CodeDependency, Message: "it depends on a change that was refused", Origin: local.OriginDependency,
	}}
	still, err := d.run(free)
	switch {
	case err != nil:
		return nil, nil, err // the whole transaction goes back
	case len(still) == len(free): // in vain
		return stuck, &displacing{}, errors.Join(db.conn.run(`ROLLBACK TO way`), db.conn.run(`RELEASE way`))
	}
	left = slices.DeleteFunc(slices.Clone(stuck), func(in *intent) bool { return slices.Contains(free, in) && !slices.Contains(still, in) })
	return left, d, db.conn.run(`RELEASE way`)
}

// heldByQuarantine picks the intents whose shadows could be laid down if changes in quarantine were not there, and names
// those changes. Intents that lean on others which are not picked are not, either.
func (db *DB) heldByQuarantine(im *images, stuck []*intent) (free []*intent, aside []local.IntentKey, err error) {
	free = stuck
	for len(free) > 0 {
		var held map[*intent][]local.IntentKey
		if err := db.tried(func() (err error) { held, err = db.inTheWay(im, free); return err }); err != nil {
			return nil, nil, err
		}
		aside = nil
		var rest []*intent
		for _, in := range free {
			only := true
			for _, k := range held[in] {
				only, err = db.conn.one(`SELECT 1 FROM _sync_quarantine WHERE schema_name = ? AND table_name = ? AND key_json = ?`, nil, db.cfg.Schema, k.Table, k.KeyJSON)
				if err != nil {
					return nil, nil, err
				}
				if !only {
					break
				}
			}
			if only {
				rest, aside = append(rest, in), append(aside, held[in]...)
			}
		}
		if len(rest) == len(free) {
			break
		}
		free = rest
	}
	return free, aside, nil
}

// tried runs fn and takes back what it did.
func (db *DB) tried(fn func() error) error {
	if err := db.conn.run(`SAVEPOINT tried`); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err // the whole transaction goes back
	}
	return errors.Join(db.conn.run(`ROLLBACK TO tried`), db.conn.run(`RELEASE tried`))
}

// inTheWay names, for each of the intents, the other rows that have to change or to come before the shadows of all of them
// can be laid down. What it does has to be taken back.
func (db *DB) inTheWay(im *images, intents []*intent) (map[*intent][]local.IntentKey, error) {
	held := map[*intent][]local.IntentKey{}
	ours := map[local.IntentKey]bool{}
	var gone []lost
	for _, in := range intents {
		ours[local.IntentKey{Table: in.t.Name, KeyJSON: in.key}] = true
		var err error
		if gone, err = db.losses(gone, in); err != nil {
			return nil, err
		}
	}
	holds := func(in *intent, k local.IntentKey) {
		if !ours[k] {
			held[in] = append(held[in], k)
		}
	}
	for _, in := range intents {
		if err := db.deleteRow(in.t, in.key); err != nil {
			return nil, err
		}
	}
	for _, in := range intents {
		if in.shadow.deleted {
			continue
		}
		row, err := im.of(in.t).wire.Decode(in.shadow.payload)
		if err != nil {
			return nil, err
		}
		evicted, err := db.deletedBy(func() error {
			_, err := db.conn.withRow(in.t.replaceSQL(), row, nil)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, e := range evicted {
			key, err := db.localKey(e.t, &e.key)
			if err != nil {
				return nil, err
			}
			holds(in, local.IntentKey{Table: e.t.Name, KeyJSON: key})
		}
	}
	for _, in := range intents {
		m, err := db.missingParent(im, in)
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		k := local.IntentKey{Table: m.ref.parent}
		if parent := db.byName[m.ref.parent]; m.ref.parentColumn == parent.key().name {
			if k.KeyJSON, err = db.localKey(parent, &m.value); err != nil {
				return nil, err
			}
		} // else it is a row that nobody knows: no change is found for it
		holds(in, k)
	}
	for _, l := range gone {
		if err := db.conn.withRows(fmt.Sprintf(`SELECT %s FROM %s AS c WHERE c.%s = ?1 AND NOT EXISTS (SELECT 1 FROM %s WHERE %s = ?1)`,
			l.ref.child.keyJSON("c"), quote(l.ref.child.local), quote(l.ref.column), quote(l.ref.parent.local), quote(l.ref.target)),
			[]wire.Value{l.value}, func(s *sqlite3.Stmt) error {
				holds(l.by, local.IntentKey{Table: l.ref.child.Name, KeyJSON: s.ColumnText(0)})
				return nil
			}); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// replaceSQL inserts a whole row in place of whatever has its key or a unique value of it.
func (t *table) replaceSQL() string {
	var names []string
	for i := range t.columns {
		names = append(names, quote(t.columns[i].name))
	}
	return fmt.Sprintf(`INSERT OR REPLACE INTO %s (%s) VALUES (?%s)`, quote(t.local), strings.Join(names, `, `), strings.Repeat(`, ?`, len(names)-1))
}
