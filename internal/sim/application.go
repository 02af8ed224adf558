package sim

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/internal/workload"
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// This file holds what applications do to their data, and how that is accounted for.

// write lets the application write, in one transaction.
func (d *device) write(v *life) {
	d.transact(v, "writes", (*writer).ByDevice)
}

// repair changes what the server refuses, if there is any: a commit that changes nothing would wake whom nothing else wakes.
func (d *device) repair(v *life) {
	if v.books == nil || v.books.text(`SELECT count(*) FROM items WHERE qty = `+itoa(workload.Poison)) == "0" {
		return
	}
	d.transact(v, "repairs", func(w *writer) error {
		ids, err := w.IDs(`SELECT id FROM items WHERE qty = ? ORDER BY id`, workload.Poison)
		if err != nil {
			return err
		}
		for _, id := range ids {
			token := w.Token()
			if strings.HasPrefix(id, "s-") {
				w.Note("items", id, token)
			}
			if err := w.Do(`UPDATE items SET qty = 1, name = ? WHERE id = ?`, token, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// transact runs a transaction of the application's and keeps account of it.
func (d *device) transact(v *life, what string, fn func(*writer) error) {
	if !d.opened || d.closing || v.books == nil || d.busy != nil {
		return
	}
	wrote := map[place]string{}
	var mine map[place]row
	d.writes++
	err := v.engine.Write(context.Background(), func(tx *sql.Tx) error {
		err := fn(&writer{Tx: tx, R: d.r, Who: d.name, N: d.writes * 1000, Wrote: wrote, Wild: d.w.plan.wild})
		if err == nil && v.failing {
			rows, unread := workload.Rows(tx)
			if unread != nil {
				return unread
			}
			mine = d.own(rows)
		}
		return err
	})
	d.w.trace.note("%s: %s: %v", d.name, what, err)
	if err != nil {
		var refused *local.DatabaseError
		switch {
		case constraint(err), errors.Is(err, messages.ErrClosed),
			v.failing, d.busy != nil && errors.Is(err, sqlite3.BUSY), errors.As(err, &refused) && refused.Transient && (v.failing || d.busy != nil):
		default:
			fail("write", "%s: a write of the application: %v", d.name, err)
		}
		if mine != nil {
			d.doubts = append(d.doubts, doubt{wrote, mine})
		}
		return
	}
	d.doubts = nil
	d.wrote(wrote, v.books.rows())
}

// wrote takes that a transaction has left tokens behind, and its rows.
func (d *device) wrote(tokens map[place]string, here map[place]row) {
	for p, token := range tokens {
		delete(d.newest, p)
		delete(d.givenUp, p)
		if token != "" {
			d.newest[p] = token
		}
	}
	mine := d.own(here)
	for p := range d.aside {
		if mine[p].Text != d.mine[p].Text { // written again, which ends the displaced change
			delete(d.aside, p)
		}
	}
	d.mine = mine
}

// doubt is a transaction whose commit failed on a broken disk: its log may be whole by then, and whoever opens the file next takes
// it for committed. Nobody can know before.
type doubt struct {
	wrote map[place]string
	mine  map[place]row
}

// settleDoubts finds out what became of transactions in doubt. All of them were made on the same rows, so one at most was
// committed.
func (d *device) settleDoubts(here map[place]row) {
	for _, t := range d.doubts {
		if t.seen(here, d) {
			d.doubts = nil
			d.wrote(t.wrote, here)
			return
		}
	}
}

// seen reports whether a transaction has left its marks, and they are others than those that were there before.
func (t *doubt) seen(here map[place]row, d *device) bool {
	news := !maps.Equal(texts(t.mine), texts(d.mine))
	for p, token := range t.wrote {
		if here[p].Token != token {
			return false
		}
		news = news || d.newest[p] != token
	}
	return news && maps.Equal(texts(t.mine), texts(d.own(here)))
}

func texts(rows map[place]row) map[place]string {
	out := make(map[place]string, len(rows))
	for p, r := range rows {
		out[p] = r.Text
	}
	return out
}

// own picks the rows that nobody but this device touches.
func (d *device) own(rows map[place]row) map[place]row {
	out := map[place]row{}
	for p, r := range rows {
		if p.Of(d.name) {
			out[p] = r
		}
	}
	return out
}

// detached forgets what was here: it is said to be gone.
func (d *device) detached() {
	d.anonymous = true
	clear(d.newest)
	clear(d.mine)
	clear(d.aside)
}

// quarantine lets the application look at what was set aside, and decide.
func (d *device) quarantine(v *life) {
	if v.books == nil || d.life.books.text(`SELECT (SELECT count(*) FROM _sync_quarantine) + (SELECT count(*) FROM _sync_displaced)`) == "0" {
		return
	}
	v.ask(actors.VerbQuarantined, func(result actors.Result, err error) {
		d.judge(v, actors.VerbQuarantined, err)
		if err != nil || len(result.Quarantine) == 0 || v.dying {
			return
		}
		s := pick(d.r, result.Quarantine...)
		if d.r.IntN(2) == 0 {
			v.ask(actors.VerbRetryQuarantined, func(_ actors.Result, err error) { d.judge(v, actors.VerbRetryQuarantined, err) }, s.ID)
			return
		}
		d.discard(v, s)
	})
}

// discard gives up what was set aside.
func (d *device) discard(v *life, aside ...local.SetAside) {
	var ids []int64
	for _, s := range aside {
		ids = append(ids, s.ID)
		p := place{Table: s.Table}
		token := ""
		if s.Local != nil {
			at, r, err := tableNamed(s.Table).Read(s.Local, false)
			if err != nil {
				fail("sim", "%s: %v", d.name, err)
			}
			p, token = at, r.Token
		} else {
			p.Key = keyOf(s.KeyJSON)
		}
		d.givenUp[p] = token
	}
	v.ask(actors.VerbDiscardQuarantined, func(_ actors.Result, err error) { d.judge(v, actors.VerbDiscardQuarantined, err) }, ids...)
}
