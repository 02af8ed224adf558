package workload

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
)

// Writer makes up what an application does in one transaction, and notes the token of each row that it leaves behind.
type Writer struct {
	Tx  *sql.Tx
	R   *rand.Rand
	Who string // writes: tokens and keys are his
	N   int    // is the number of his last token or key
	// Wild writers change what excludes others' changes, and write what the server refuses.
	Wild bool
	// Vacates lets a tame writer delete shared slots too. Nobody refers to them, so that this excludes nothing.
	Vacates bool
	// Wrote has the newest token of each row written, "" for one that was deleted; nil: nobody wants to know.
	Wrote map[Place]string
}

// ByDevice is a transaction of an application on a device.
func (w *Writer) ByDevice() error {
	for range 1 + w.R.IntN(3) {
		err := error(nil)
		if w.R.IntN(2) == 0 {
			err = w.Shared()
		} else {
			err = w.Private()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ByServer is a transaction of another program on the server.
func (w *Writer) ByServer() error {
	for range 1 + w.R.IntN(3) {
		err := error(nil)
		if w.R.IntN(3) == 0 {
			err = w.swap()
		} else {
			err = w.Shared()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func oneOf[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (w *Writer) next() int { w.N++; return w.N }

// Token is a value that nothing else was ever set to. It looks like what escapes badly.
func (w *Writer) Token() string {
	return fmt.Sprintf("%s-%d%s", w.Who, w.next(), oneOf(w.R, "", "", "<&>", `"\`, "é\u2028", "'", "\t\n", "\U0001F600"))
}

// Do executes a statement in the transaction.
func (w *Writer) Do(q string, args ...any) error {
	_, err := w.Tx.Exec(q, args...)
	return err
}

// IDs are the keys that a query answers.
func (w *Writer) IDs(q string, args ...any) (ids []string, err error) {
	rows, err := w.Tx.Query(q, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// Note notes what token a row has now; "": it is gone.
func (w *Writer) Note(table, key, token string) {
	if w.Wrote != nil {
		w.Wrote[Place{table, key}] = token
	}
}

// some returns a key of a table that begins with prefix; "" when there is none.
func (w *Writer) some(table, prefix string) (string, error) {
	var n int
	if err := w.Tx.QueryRow(`SELECT count(*) FROM `+table+` WHERE substr(id, 1, length(?1)) = ?1`, prefix).Scan(&n); err != nil || n == 0 {
		return "", err
	}
	var key string
	err := w.Tx.QueryRow(`SELECT id FROM `+table+` WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 1 OFFSET ?2`, prefix, w.R.IntN(n)).Scan(&key)
	return key, err
}

// ensure inserts a row unless it is there.
func (w *Writer) ensure(table, key string) error {
	token := w.Token()
	extra, value := "", ""
	if table == "slots" {
		extra, value = ", code", ", 'c-' || ?2"
	}
	r, err := w.Tx.Exec(`INSERT INTO `+table+` (id, name`+extra+`) VALUES (?1, ?2`+value+`) ON CONFLICT DO NOTHING`, key, token)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	w.Note(table, key, token)
	return nil
}

func (w *Writer) qty() any {
	switch n := w.R.IntN(12); {
	case n < 3:
		return nil
	case n < 5:
		return int64(1)<<53 - 1 - w.R.Int64N(3)
	case n < 6 && w.Wild:
		return Poison
	default:
		return w.R.IntN(10) - 5
	}
}

func (w *Writer) score() any {
	if w.R.IntN(4) == 0 {
		return nil
	}
	return w.R.NormFloat64() * 1e9
}

func (w *Writer) data() any {
	switch w.R.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{}
	default:
		return []byte{byte(w.R.Uint32()), 0, byte(w.R.Uint32())}
	}
}

func (w *Writer) flag() any { return oneOf[any](w.R, nil, 0, 1) }

// docKey is the key of a document, as SQL has it and as it is compared.
func docKey(kind byte, n int) (raw []byte, key string) {
	raw = make([]byte, 16)
	raw[0], raw[6], raw[8], raw[15] = kind, 0x40, 0x80, byte(n)
	return raw, fmt.Sprintf("%x", raw)
}

// Shared changes a row that everybody changes.
func (w *Writer) Shared() error {
	owner, root := fmt.Sprintf("s-o%d", w.R.IntN(3)), fmt.Sprintf("s-r%d", w.R.IntN(2))
	item, leaf, slot := fmt.Sprintf("s-i%d", w.R.IntN(5)), fmt.Sprintf("s-n%d", w.R.IntN(4)), fmt.Sprintf("s-s%d", w.R.IntN(4))
	doc, docText := docKey('s', w.R.IntN(3))
	token := w.Token()
	switch w.R.IntN(15) {
	case 0:
		if err := w.ensure("owners", owner); err != nil {
			return err
		}
		w.Note("owners", owner, token)
		return w.Do(`UPDATE owners SET name = ?, score = ? WHERE id = ?`, token, w.score(), owner)
	case 1, 2, 3:
		if err := w.ensure("owners", owner); err != nil {
			return err
		}
		w.Note("items", item, token)
		verb := `INSERT INTO items VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET owner_id = ?2, name = ?3, qty = ?4, data = ?5`
		if w.R.IntN(3) == 0 {
			verb = `INSERT OR REPLACE INTO items VALUES (?1, ?2, ?3, ?4, ?5)`
		}
		return w.Do(verb, item, owner, token, w.qty(), w.data())
	case 4:
		w.Note("items", item, "")
		return w.Do(`DELETE FROM items WHERE id = ?`, item)
	case 5, 6:
		if err := w.ensure("nodes", root); err != nil {
			return err
		}
		w.Note("nodes", leaf, token)
		return w.Do(`INSERT INTO nodes VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET parent_id = ?2, name = ?3`, leaf, root, token)
	case 7:
		w.Note("nodes", leaf, "")
		return w.Do(`DELETE FROM nodes WHERE id = ?`, leaf)
	case 8, 9:
		w.Note("slots", slot, token)
		code := w.Token()
		if w.Wild && w.R.IntN(2) == 0 {
			code = fmt.Sprintf("code-%d", w.R.IntN(3)) // somebody else may have it
		}
		return w.Do(`INSERT INTO slots VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET code = ?2, name = ?3`, slot, code, token)
	case 10:
		var n int
		if err := w.Tx.QueryRow(`SELECT count(*) FROM slots WHERE id = ?`, slot).Scan(&n); err != nil || n == 0 {
			return err
		}
		w.Note("slots", slot, token)
		return w.Do(`UPDATE slots SET name = ? WHERE id = ?`, token, slot)
	case 11, 12:
		w.Note("docs", docText, token)
		return w.Do(`INSERT INTO docs VALUES (?1, NULL, ?2, ?3) ON CONFLICT (id) DO UPDATE SET name = ?2, flag = ?3`, doc, token, w.flag())
	case 13:
		w.Note("docs", docText, "")
		return w.Do(`DELETE FROM docs WHERE id = ?`, doc)
	default:
		switch {
		case w.Wild:
			return w.uproot(owner, slot)
		case w.Vacates:
			return w.vacate(slot)
		}
		return nil
	}
}

// uproot deletes what others refer to.
func (w *Writer) uproot(owner, slot string) error {
	if w.R.IntN(2) == 0 {
		return w.vacate(slot)
	}
	return w.UprootOwner(owner)
}

func (w *Writer) vacate(slot string) error {
	w.Note("slots", slot, "")
	return w.Do(`DELETE FROM slots WHERE id = ?`, slot)
}

// UprootOwner deletes an owner, and its items with it.
func (w *Writer) UprootOwner(owner string) error {
	ids, err := w.IDs(`SELECT id FROM items WHERE owner_id = ? ORDER BY id`, owner)
	if err != nil {
		return err
	}
	for _, id := range ids {
		w.Note("items", id, "")
	}
	w.Note("owners", owner, "")
	return w.Do(`DELETE FROM owners WHERE id = ?`, owner)
}

// swap changes rows that only the server's programs touch, in ways that a device has to take apart: unique values that
// change places, trees that go away, circles.
func (w *Writer) swap() error {
	for i := range 3 {
		if err := w.Do(`INSERT INTO slots VALUES (?1, ?1, 'w') ON CONFLICT DO NOTHING`, fmt.Sprintf("v-%d", i)); err != nil {
			return err
		}
	}
	switch w.R.IntN(4) {
	case 0:
		if err := w.Do(`UPDATE slots SET code = 'x' || code WHERE substr(id, 1, 2) = 'v-'`); err != nil {
			return err
		}
		return w.Do(`UPDATE slots SET code = 'v-' || ((substr(id, 3) + ?) % 3) WHERE substr(id, 1, 2) = 'v-'`, w.R.IntN(3))
	case 1:
		a, b := fmt.Sprintf("v-n%d", w.next()), fmt.Sprintf("v-n%d", w.next())
		if err := w.Do(`INSERT INTO nodes VALUES (?1, ?2, 'circle'), (?2, ?1, 'circle')`, a, b); err != nil {
			return err
		}
		return w.Do(`INSERT INTO nodes VALUES (?1 || 'c', ?1, 'below')`, a)
	case 2:
		key, err := w.some("nodes", "v-")
		if err != nil {
			return err
		}
		return w.Do(`DELETE FROM nodes WHERE id = ?`, key)
	default:
		owner := fmt.Sprintf("v-o%d", w.R.IntN(2))
		if w.R.IntN(2) == 0 {
			return w.Do(`DELETE FROM owners WHERE id = ?`, owner)
		}
		if err := w.Do(`INSERT INTO owners VALUES (?1, 'v', 1.5) ON CONFLICT DO NOTHING`, owner); err != nil {
			return err
		}
		return w.Do(`INSERT INTO items VALUES (?, ?, 'v', 1, NULL)`, fmt.Sprintf("v-i%d", w.next()), owner)
	}
}

// Private changes rows that nobody but this writer touches.
func (w *Writer) Private() error {
	mine := w.Who + "-"
	token := w.Token()
	fresh := func() string { return fmt.Sprintf("%s%d%s", mine, w.next(), oneOf(w.R, "", "", `"'\<`, "é", " ")) }
	switch w.R.IntN(12) {
	case 0, 1:
		return w.Do(`INSERT INTO owners VALUES (?, ?, ?)`, fresh(), token, w.score())
	case 2, 3:
		owner, err := w.some("owners", mine)
		if err != nil || owner == "" {
			return err
		}
		return w.Do(`INSERT INTO items VALUES (?, ?, ?, ?, ?)`, fresh(), owner, token, w.qty(), w.data())
	case 4:
		owner, err := w.some("owners", mine)
		if err != nil {
			return err
		}
		return w.Do(`DELETE FROM owners WHERE id = ?`, owner) // and its items with it
	case 5: // another key for a row and all that refers to it
		owner, err := w.some("owners", mine)
		if err != nil || owner == "" {
			return err
		}
		key := fresh()
		if err := w.Do(`UPDATE owners SET id = ?, name = ? WHERE id = ?`, key, token, owner); err != nil {
			return err
		}
		return w.Do(`UPDATE items SET owner_id = ? WHERE owner_id = ?`, key, owner)
	case 6:
		item, err := w.some("items", mine)
		if err != nil {
			return err
		}
		return w.Do(`UPDATE items SET name = ?, qty = ?, data = ? WHERE id = ?`, token, w.qty(), w.data(), item)
	case 7: // there and back again
		item, err := w.some("items", mine)
		if err != nil || item == "" {
			return err
		}
		return errors.Join(
			w.Do(`CREATE TEMP TABLE kept AS SELECT * FROM items WHERE id = ?`, item),
			w.Do(`DELETE FROM items WHERE id = ?`, item),
			w.Do(`INSERT INTO items SELECT * FROM kept`),
			w.Do(`DROP TABLE kept`))
	case 8:
		parent, err := w.some("nodes", mine)
		if err != nil {
			return err
		}
		return w.Do(`INSERT INTO nodes VALUES (?, nullif(?, ''), ?)`, fresh(), parent, token)
	case 9:
		node, err := w.some("nodes", mine)
		if err != nil {
			return err
		}
		if w.R.IntN(2) == 0 {
			return w.Do(`DELETE FROM nodes WHERE id = ?`, node)
		}
		return w.Do(`UPDATE nodes SET id = id, name = ? WHERE id = ?`, token, node)
	case 10:
		a, b := fresh(), fresh()
		return w.Do(`INSERT INTO nodes VALUES (?1, ?2, ?3), (?2, ?1, ?3)`, a, b, token)
	default:
		slot, err := w.some("slots", mine)
		if err != nil {
			return err
		}
		if slot == "" || w.R.IntN(2) == 0 {
			return w.Do(`INSERT INTO slots VALUES (?, ?, ?)`, fresh(), w.Token(), token)
		}
		return w.Do(`INSERT OR REPLACE INTO slots SELECT id, code, ? FROM slots WHERE id = ?`, token, slot)
	}
}
