package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Resolve carries out what resolvers decided, each decision only as far as the intent and the server image are still
// those of its Conflict. All of it is one transaction.
//
//   - AcceptServer writes the server's row, or deletes the row; nothing is left to push. Changes in quarantine that are in
//     its way are displaced. A row whose parent is deleted here cannot be written: the intent goes on, on the server's
//     version. One that cannot be written yet for another reason is reported by NeedsPull: when the next pull or snapshot
//     brings the same image again, the intent is dropped, so that it is not in the way of that one, else it is left as it is.
//   - KeepLocal keeps the intent and makes it one on the server's version.
//   - KeepMerged writes the merged row and keeps it as such an intent.
//
// Errors: *local.InvalidResolutionError, *local.DatabaseError; nothing was applied.
func (db *DB) Resolve(ctx context.Context, resolutions []local.Resolution) (local.ResolutionsApplied, error) {
	var r resolving
	err := db.applying(ctx, "resolve", func() error {
		r = resolving{db: db, tables: map[*table]bool{}}
		return r.run(resolutions)
	})
	if err != nil {
		return local.ResolutionsApplied{}, aboutIntent(err)
	}
	r.out.Tables = tableSet(r.tables)
	return r.out, nil
}

// resolving is the state of one Resolve.
type resolving struct {
	db     *DB
	im     *images
	out    local.ResolutionsApplied
	tables map[*table]bool // business tables written
}

func (r *resolving) run(resolutions []local.Resolution) error {
	db := r.db
	switch box, err := db.outbox(); {
	case err != nil:
		return err
	case box.State != local.OutboxNone:
		return db.busyOutbox("resolve", box)
	}
	if len(resolutions) == 0 {
		return nil
	}
	contract, err := db.pinnedContract()
	if err != nil {
		return err
	}
	r.im = newImages(contract)

	// What is accepted goes first and at once: rows of it may lean on each other, and the rest may lean on them.
	var accepted []*intent
	type choice struct {
		in *intent
		*local.Resolution
	}
	var kept []choice
	seen := map[local.IntentKey]bool{}
	for i := range resolutions {
		res := &resolutions[i]
		in, err := r.current(&res.Conflict)
		key := local.IntentKey{Table: res.Conflict.Table, KeyJSON: res.Conflict.KeyJSON}
		switch {
		case err != nil:
			return err
		case in == nil || seen[key]:
			r.out.Stale++
			r.out.StaleKeys = append(r.out.StaleKeys, key)
			continue
		}
		seen[key] = true
		switch res.Kind {
		case local.AcceptServer:
			accepted = append(accepted, in)
		case local.KeepLocal, local.KeepMerged:
			kept = append(kept, choice{in, res})
		default:
			return invalid(in, fmt.Sprintf("there is no resolution %d", res.Kind), nil)
		}
	}
	if err := r.accept(accepted); err != nil {
		return err
	}
	for _, c := range kept {
		if c.Kind == local.KeepMerged {
			if err := r.merge(c.in, c.Merged); err != nil {
				return err
			}
		}
		if err := db.rebase(r.im, c.in); err != nil {
			return err
		}
		r.out.Applied++
	}
	return nil
}

// current returns the intent of a conflict if it and its shadow are still what the conflict says.
func (r *resolving) current(c *local.Conflict) (*intent, error) {
	t := r.db.byName[c.Table]
	if t == nil {
		return nil, nil
	}
	in, err := r.db.loadIntent(t, c.KeyJSON)
	if err != nil || in == nil || !in.unchanged(c) {
		return nil, err
	}
	return in, nil
}

// accept lays down the shadows of the intents.
func (r *resolving) accept(intents []*intent) error {
	stuck, err := r.db.layDown(r.im, intents)
	if err != nil {
		return err
	}
	r.laid(intents, stuck)
	var early []*intent
	for _, in := range stuck {
		deleted, err := r.db.parentDeleted(r.im, in)
		switch {
		case err != nil:
			return err
		case deleted:
			if err := r.db.rebase(r.im, in); err != nil {
				return err
			}
			r.out.Applied++
		default:
			early = append(early, in)
		}
	}
	left, way, err := r.db.makeWay(r.im, early)
	if err != nil {
		return err
	}
	r.laid(early, left)
	r.out.SetAside = way.out
	for _, a := range way.out {
		r.tables[r.db.byName[a.Table]] = true
	}
	early = left
	r.out.NeedsPull = way.unknown || len(early) > 0
	if len(early) == 0 {
		return nil
	}
	if left, err = r.db.stepBack(r.im, early); err != nil {
		return err
	}
	r.laid(early, left)
	for _, in := range left {
		r.out.Deferred = append(r.out.Deferred, local.IntentKey{Table: in.t.Name, KeyJSON: in.key})
	}
	return nil
}

// laid counts the intents that are settled: all but those that are left.
func (r *resolving) laid(intents, left []*intent) {
	still := map[*intent]bool{}
	for _, in := range left {
		still[in] = true
	}
	for _, in := range intents {
		if !still[in] {
			r.out.Applied++
			r.tables[in.t] = true
		}
	}
}

// parentDeleted reports whether the row that the intent's shadow needs as its parent is one that was deleted here and
// is to be deleted on the server.
func (db *DB) parentDeleted(im *images, in *intent) (bool, error) {
	m, err := db.missingParent(im, in)
	if err != nil || m == nil {
		return false, err
	}
	parent := db.byName[m.ref.parent]
	return db.conn.withRow(fmt.Sprintf(`SELECT 1 FROM _sync_dirty_rows d
  LEFT JOIN _sync_base_rows b ON b.schema_name = d.schema_name AND b.table_name = d.table_name AND b.key_json = d.key_json
WHERE d.op = 'DELETE' AND d.schema_name = %s AND d.table_name = %s AND %s`, literal(parent.Schema), literal(parent.Name), parent.refersTo(m.ref.parentColumn)),
		[]wire.Value{m.value}, nil)
}

// refersTo is the condition that the deleted row d, or its base row b, held the value ?1 in a column. The key alone is
// found without a scan.
func (t *table) refersTo(name string) string {
	i := t.column(name)
	value := `?1`
	if k := t.Columns[i].Kind; k == wire.KindBlob || k == wire.KindUUIDBlob {
		value = `lower(hex(?1))`
	}
	if i == t.Key {
		return fmt.Sprintf(`d.key_json = json_object(%s, %s)`, literal(t.Columns[i].Name), value)
	}
	return fmt.Sprintf(`%s = CAST(%s AS TEXT)`, member("b.payload", t.Columns[i].Name), value)
}

// merge writes the merged row and makes what the table then holds the intent's content.
func (r *resolving) merge(in *intent, merged []byte) error {
	db, t := r.db, in.t
	if in.payload == nil {
		return invalid(in, "the row was deleted here: there is nothing to merge with", nil)
	}
	if err := t.exactColumns(merged); err != nil {
		return invalid(in, err.Error(), nil)
	}
	row, err := r.im.of(t).wire.Decode(merged)
	if err != nil {
		return invalid(in, "the merged row cannot be read", err)
	}
	key, err := t.rowKey(in.key)
	if err != nil {
		return err
	}
	if !wire.SameValues([]wire.Value{key}, row[t.Key:t.Key+1]) {
		return invalid(in, "the merged row has another key", nil)
	}
	lacking, err := db.danglingParent(t, row)
	if err != nil {
		return err
	}
	if lacking != nil && !(lacking.ref.parent == t.Name && wire.SameValues([]wire.Value{lacking.value}, []wire.Value{row[t.column(lacking.ref.parentColumn)]})) {
		return invalid(in, fmt.Sprintf("the merged row refers, by column %s, to a row of %s that is not here", lacking.ref.column, lacking.ref.parent), nil)
	}
	gone, err := db.losses(nil, &intent{t: t, key: in.key, shadow: &shadow{}})
	if err != nil {
		return err
	}
	if _, err := db.conn.withRow(t.putSQL(), row, nil); errors.Is(err, sqlite3.CONSTRAINT) {
		return invalid(in, "the merged row breaks a constraint of the table", err)
	} else if err != nil {
		return err
	}
	for _, l := range gone {
		dangling, err := db.stillWanted(l.ref, l.value)
		switch {
		case err != nil:
			return err
		case dangling:
			return invalid(in, "the merged row takes away a value that other rows refer to, in column "+l.ref.target, nil)
		}
	}
	r.tables[t] = true
	if in.payload, err = db.liveRow(t, key); err != nil {
		return err
	}
	return db.conn.run(`UPDATE _sync_dirty_rows SET payload = ?, updated_at = `+now+`
WHERE schema_name = ? AND table_name = ? AND key_json = ?`, rawText(in.payload), t.Schema, t.Name, in.key)
}

// liveRow reads the business row of a key in local form; nil when there is none.
func (db *DB) liveRow(t *table, key wire.Value) (payload []byte, err error) {
	_, err = db.conn.withRow(`SELECT `+t.payload("r")+` FROM `+quote(t.local)+` AS r WHERE r.`+quote(t.key().name)+` = ?`, []wire.Value{key},
		func(s *sqlite3.Stmt) error {
			payload = columnBytes(s, 0)
			return nil
		})
	return payload, err
}

// exactColumns checks that a JSON object has every column of the table once and nothing else.
func (t *table) exactColumns(object []byte) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return errors.New("the merged row is no JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return errors.New("the merged row is no JSON object")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return errors.New("the merged row is no JSON object")
		}
		column := name.(string) // the decoder answers nothing else where a member begins
		switch {
		case !slices.ContainsFunc(t.Columns, func(c wire.Column) bool { return c.Name == column }):
			return errors.New("the merged row has a member that is no column")
		case seen[column]:
			return errors.New("the merged row has the column " + column + " twice")
		}
		seen[column] = true
	}
	for _, c := range t.Columns {
		if !seen[c.Name] {
			return errors.New("the merged row lacks the column " + c.Name)
		}
	}
	return nil
}

func invalid(in *intent, reason string, err error) error {
	return &local.InvalidResolutionError{Table: in.t.Name, KeyJSON: in.key, Reason: reason, Err: err}
}

// tableSet names the tables, sorted.
func tableSet(tables map[*table]bool) local.TableSet {
	var names local.TableSet
	for t := range tables {
		names = append(names, t.Name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}
