package sim

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/ncruces/go-sqlite3"
)

// writer makes up what an application does in one transaction, and notes the token of each row that it leaves behind.
//
// Rows whose keys begin with "s-" are everybody's, those that begin with the writer's name are his alone. Two kinds of
// changes exclude each other on the server, whatever the order: a child of a row that somebody else deletes, and a unique
// value that somebody else has taken. Only wild writers make them, and values that the server refuses.
type writer struct {
	tx   *sql.Tx
	r    *rand.Rand
	who  string
	n    int // numbers of this writer's tokens and keys
	wild bool
	// wrote has the newest token of each row written, "" for one that was deleted; nil: nobody wants to know.
	wrote map[place]string
}

func (w *writer) next() int { w.n++; return w.n }

// token is a value that nothing else was ever set to. It looks like what escapes badly.
func (w *writer) token() string {
	return fmt.Sprintf("%s-%d%s", w.who, w.next(), pick(w.r, "", "", "<&>", `"\`, "é\u2028", "'", "\t\n", "\U0001F600"))
}

func (w *writer) do(q string, args ...any) error {
	_, err := w.tx.Exec(q, args...)
	return err
}

// ids are the keys that a query answers.
func (w *writer) ids(q string, args ...any) (ids []string, err error) {
	rows, err := w.tx.Query(q, args...)
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

func (w *writer) note(table, key, token string) {
	if w.wrote != nil {
		w.wrote[place{table, key}] = token
	}
}

// some returns a key of a table that begins with prefix; "" when there is none.
func (w *writer) some(table, prefix string) (string, error) {
	var n int
	if err := w.tx.QueryRow(`SELECT count(*) FROM `+table+` WHERE substr(id, 1, length(?1)) = ?1`, prefix).Scan(&n); err != nil || n == 0 {
		return "", err
	}
	var key string
	err := w.tx.QueryRow(`SELECT id FROM `+table+` WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 1 OFFSET ?2`, prefix, w.r.IntN(n)).Scan(&key)
	return key, err
}

// ensure inserts a row unless it is there.
func (w *writer) ensure(table, key string) error {
	token := w.token()
	extra, value := "", ""
	if table == "slots" {
		extra, value = ", code", ", 'c-' || ?2"
	}
	r, err := w.tx.Exec(`INSERT INTO `+table+` (id, name`+extra+`) VALUES (?1, ?2`+value+`) ON CONFLICT DO NOTHING`, key, token)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	w.note(table, key, token)
	return nil
}

func (w *writer) qty() any {
	switch n := w.r.IntN(12); {
	case n < 3:
		return nil
	case n < 5:
		return int64(1)<<53 - 1 - w.r.Int64N(3)
	case n < 6 && w.wild:
		return poison
	default:
		return w.r.IntN(10) - 5
	}
}

func (w *writer) score() any {
	if w.r.IntN(4) == 0 {
		return nil
	}
	return w.r.NormFloat64() * 1e9
}

func (w *writer) data() any {
	switch w.r.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{}
	default:
		return []byte{byte(w.r.Uint32()), 0, byte(w.r.Uint32())}
	}
}

func (w *writer) flag() any { return pick[any](w.r, nil, 0, 1) }

// docKey is the key of a document, as SQL has it and as it is compared.
func docKey(kind byte, n int) (raw []byte, key string) {
	raw = make([]byte, 16)
	raw[0], raw[6], raw[8], raw[15] = kind, 0x40, 0x80, byte(n)
	return raw, fmt.Sprintf("%x", raw)
}

// shared changes a row that everybody changes.
func (w *writer) shared() error {
	owner, root := fmt.Sprintf("s-o%d", w.r.IntN(3)), fmt.Sprintf("s-r%d", w.r.IntN(2))
	item, leaf, slot := fmt.Sprintf("s-i%d", w.r.IntN(5)), fmt.Sprintf("s-n%d", w.r.IntN(4)), fmt.Sprintf("s-s%d", w.r.IntN(4))
	doc, docText := docKey('s', w.r.IntN(3))
	token := w.token()
	switch w.r.IntN(15) {
	case 0:
		if err := w.ensure("owners", owner); err != nil {
			return err
		}
		w.note("owners", owner, token)
		return w.do(`UPDATE owners SET name = ?, score = ? WHERE id = ?`, token, w.score(), owner)
	case 1, 2, 3:
		if err := w.ensure("owners", owner); err != nil {
			return err
		}
		w.note("items", item, token)
		verb := `INSERT INTO items VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET owner_id = ?2, name = ?3, qty = ?4, data = ?5`
		if w.r.IntN(3) == 0 {
			verb = `INSERT OR REPLACE INTO items VALUES (?1, ?2, ?3, ?4, ?5)`
		}
		return w.do(verb, item, owner, token, w.qty(), w.data())
	case 4:
		w.note("items", item, "")
		return w.do(`DELETE FROM items WHERE id = ?`, item)
	case 5, 6:
		if err := w.ensure("nodes", root); err != nil {
			return err
		}
		w.note("nodes", leaf, token)
		return w.do(`INSERT INTO nodes VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET parent_id = ?2, name = ?3`, leaf, root, token)
	case 7:
		w.note("nodes", leaf, "")
		return w.do(`DELETE FROM nodes WHERE id = ?`, leaf)
	case 8, 9:
		w.note("slots", slot, token)
		code := w.token()
		if w.wild && w.r.IntN(2) == 0 {
			code = fmt.Sprintf("code-%d", w.r.IntN(3)) // somebody else may have it
		}
		return w.do(`INSERT INTO slots VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET code = ?2, name = ?3`, slot, code, token)
	case 10:
		var n int
		if err := w.tx.QueryRow(`SELECT count(*) FROM slots WHERE id = ?`, slot).Scan(&n); err != nil || n == 0 {
			return err
		}
		w.note("slots", slot, token)
		return w.do(`UPDATE slots SET name = ? WHERE id = ?`, token, slot)
	case 11, 12:
		w.note("docs", docText, token)
		return w.do(`INSERT INTO docs VALUES (?1, NULL, ?2, ?3) ON CONFLICT (id) DO UPDATE SET name = ?2, flag = ?3`, doc, token, w.flag())
	case 13:
		w.note("docs", docText, "")
		return w.do(`DELETE FROM docs WHERE id = ?`, doc)
	default:
		if !w.wild {
			return nil
		}
		return w.uproot(owner, slot)
	}
}

// uproot deletes what others refer to.
func (w *writer) uproot(owner, slot string) error {
	if w.r.IntN(2) == 0 {
		w.note("slots", slot, "")
		return w.do(`DELETE FROM slots WHERE id = ?`, slot)
	}
	return w.uprootOwner(owner)
}

func (w *writer) uprootOwner(owner string) error {
	ids, err := w.ids(`SELECT id FROM items WHERE owner_id = ? ORDER BY id`, owner)
	if err != nil {
		return err
	}
	for _, id := range ids {
		w.note("items", id, "")
	}
	w.note("owners", owner, "")
	return w.do(`DELETE FROM owners WHERE id = ?`, owner)
}

// swap changes rows that only the server's programs touch, in ways that a device has to take apart: unique values that
// change places, trees that go away, circles.
func (w *writer) swap() error {
	for i := range 3 {
		if err := w.do(`INSERT INTO slots VALUES (?1, ?1, 'w') ON CONFLICT DO NOTHING`, fmt.Sprintf("v-%d", i)); err != nil {
			return err
		}
	}
	switch w.r.IntN(4) {
	case 0:
		if err := w.do(`UPDATE slots SET code = 'x' || code WHERE substr(id, 1, 2) = 'v-'`); err != nil {
			return err
		}
		return w.do(`UPDATE slots SET code = 'v-' || ((substr(id, 3) + ?) % 3) WHERE substr(id, 1, 2) = 'v-'`, w.r.IntN(3))
	case 1:
		a, b := fmt.Sprintf("v-n%d", w.next()), fmt.Sprintf("v-n%d", w.next())
		if err := w.do(`INSERT INTO nodes VALUES (?1, ?2, 'circle'), (?2, ?1, 'circle')`, a, b); err != nil {
			return err
		}
		return w.do(`INSERT INTO nodes VALUES (?1 || 'c', ?1, 'below')`, a)
	case 2:
		key, err := w.some("nodes", "v-")
		if err != nil {
			return err
		}
		return w.do(`DELETE FROM nodes WHERE id = ?`, key)
	default:
		owner := fmt.Sprintf("v-o%d", w.r.IntN(2))
		if w.r.IntN(2) == 0 {
			return w.do(`DELETE FROM owners WHERE id = ?`, owner)
		}
		if err := w.do(`INSERT INTO owners VALUES (?1, 'v', 1.5) ON CONFLICT DO NOTHING`, owner); err != nil {
			return err
		}
		return w.do(`INSERT INTO items VALUES (?, ?, 'v', 1, NULL)`, fmt.Sprintf("v-i%d", w.next()), owner)
	}
}

// private changes rows that nobody but this writer touches.
func (w *writer) private() error {
	mine := w.who + "-"
	token := w.token()
	fresh := func() string { return fmt.Sprintf("%s%d%s", mine, w.next(), pick(w.r, "", "", `"'\<`, "é", " ")) }
	switch w.r.IntN(12) {
	case 0, 1:
		return w.do(`INSERT INTO owners VALUES (?, ?, ?)`, fresh(), token, w.score())
	case 2, 3:
		owner, err := w.some("owners", mine)
		if err != nil || owner == "" {
			return err
		}
		return w.do(`INSERT INTO items VALUES (?, ?, ?, ?, ?)`, fresh(), owner, token, w.qty(), w.data())
	case 4:
		owner, err := w.some("owners", mine)
		if err != nil {
			return err
		}
		return w.do(`DELETE FROM owners WHERE id = ?`, owner) // and its items with it
	case 5: // another key for a row and all that refers to it
		owner, err := w.some("owners", mine)
		if err != nil || owner == "" {
			return err
		}
		key := fresh()
		if err := w.do(`UPDATE owners SET id = ?, name = ? WHERE id = ?`, key, token, owner); err != nil {
			return err
		}
		return w.do(`UPDATE items SET owner_id = ? WHERE owner_id = ?`, key, owner)
	case 6:
		item, err := w.some("items", mine)
		if err != nil {
			return err
		}
		return w.do(`UPDATE items SET name = ?, qty = ?, data = ? WHERE id = ?`, token, w.qty(), w.data(), item)
	case 7: // there and back again
		item, err := w.some("items", mine)
		if err != nil || item == "" {
			return err
		}
		return errors.Join(
			w.do(`CREATE TEMP TABLE kept AS SELECT * FROM items WHERE id = ?`, item),
			w.do(`DELETE FROM items WHERE id = ?`, item),
			w.do(`INSERT INTO items SELECT * FROM kept`),
			w.do(`DROP TABLE kept`))
	case 8:
		parent, err := w.some("nodes", mine)
		if err != nil {
			return err
		}
		return w.do(`INSERT INTO nodes VALUES (?, nullif(?, ''), ?)`, fresh(), parent, token)
	case 9:
		node, err := w.some("nodes", mine)
		if err != nil {
			return err
		}
		if w.r.IntN(2) == 0 {
			return w.do(`DELETE FROM nodes WHERE id = ?`, node)
		}
		return w.do(`UPDATE nodes SET id = id, name = ? WHERE id = ?`, token, node)
	case 10:
		a, b := fresh(), fresh()
		return w.do(`INSERT INTO nodes VALUES (?1, ?2, ?3), (?2, ?1, ?3)`, a, b, token)
	default:
		slot, err := w.some("slots", mine)
		if err != nil {
			return err
		}
		if slot == "" || w.r.IntN(2) == 0 {
			return w.do(`INSERT INTO slots VALUES (?, ?, ?)`, fresh(), w.token(), token)
		}
		return w.do(`INSERT OR REPLACE INTO slots SELECT id, code, ? FROM slots WHERE id = ?`, token, slot)
	}
}

// constraint reports whether SQLite refused a statement for what is in the tables: the application meets that as well.
func constraint(err error) bool { return errors.Is(err, sqlite3.CONSTRAINT) }
