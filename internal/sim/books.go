package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/internal/workload"
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/sqlite"
)

// books is a look into a device's file beside its engine: over a connection of its own, which changes nothing.
type books struct {
	v    *life
	file *sqlite.Verifier
}

func openBooks(v *life) *books {
	if v.books != nil {
		return v.books
	}
	cfg := sqlite.Config{Path: v.path, Schema: workload.Schema}
	for i := range tables {
		cfg.Tables = append(cfg.Tables, sqlite.TableConfig{Name: tables[i].Name, Key: "id"})
	}
	file, err := sqlite.OpenVerifier(cfg)
	if err != nil {
		fail("02 2.1", "%s: %v", v.d.name, err)
	}
	return &books{v: v, file: file}
}

func (b *books) close() {
	if b == nil {
		return
	}
	if err := b.file.Close(); err != nil {
		fail("sim", "%v", err)
	}
}

// each hands every row of a query to fn.
func (b *books) each(q string, fn func(*sqlite3.Stmt)) {
	if err := b.file.Each(q, fn); err != nil {
		fail("sim", "%s: %v", b.v.d.name, err)
	}
}

// text is the one value that a query answers.
func (b *books) text(q string) (text string) {
	b.each(q, func(s *sqlite3.Stmt) { text = s.ColumnText(0) })
	return text
}

// rows reads the business rows.
func (b *books) rows() map[place]row {
	out := map[place]row{}
	b.each(workload.RowsSQL, func(s *sqlite3.Stmt) {
		p, r, err := tableNamed(s.ColumnText(0)).Read(s.ColumnRawText(1), false)
		if err != nil {
			fail("sim", "%s: %v", b.v.d.name, err)
		}
		out[p] = r
	})
	return out
}

// intents are what the server does not have yet, the newest of each row: where it is kept, and its content; nil for a
// deletion. The last column is what it was made from. aside has what was displaced from its row.
const intentsSQL = `
SELECT 0, table_name, key_json ->> 'id', local_payload, NULL FROM _sync_outbox_rows UNION ALL
SELECT 1, table_name, key_json ->> 'id', d.payload, b.payload FROM _sync_dirty_rows d LEFT JOIN _sync_base_rows b USING (schema_name, table_name, key_json) UNION ALL
SELECT 2, table_name, key_json ->> 'id', payload, NULL FROM _sync_quarantine UNION ALL
SELECT 3, table_name, key_json ->> 'id', payload, NULL FROM _sync_displaced ORDER BY 1`

type intents struct {
	at     map[place]*row  // the newest of those that stand in their rows; nil: a deletion
	void   map[place]bool  // those of at that ask for nothing: the row was written again as the server had it
	aside  map[place]*row  // what was displaced from its row
	tokens map[string]bool // of all, superseded and displaced ones too
}

func (b *books) intents() intents {
	in := intents{at: map[place]*row{}, void: map[place]bool{}, aside: map[place]*row{}, tokens: map[string]bool{}}
	b.each(intentsSQL, func(s *sqlite3.Stmt) {
		kind := s.ColumnInt(0)
		p := workload.At(s.ColumnText(1), s.ColumnText(2))
		at := in.at
		if kind == 3 {
			at = in.aside
		}
		if s.ColumnType(3) == sqlite3.NULL {
			at[p] = nil
			return
		}
		r := b.read(p, s.ColumnRawText(3))
		in.tokens[r.Token] = true
		if _, frozen := at[p]; !frozen && s.ColumnType(4) != sqlite3.NULL && b.read(p, s.ColumnRawText(4)).Text == r.Text {
			in.void[p] = true
		}
		at[p] = &r
	})
	return in
}

// read reads a row in local form.
func (b *books) read(p place, payload []byte) row {
	_, r, err := tableNamed(p.Table).Read(payload, false)
	if err != nil {
		fail("sim", "%s: %v", b.v.d.name, err)
	}
	return r
}

// rebind takes in whose the file is by now. What is written in an anonymous one may be replaced by an Attach, and is then
// said to be gone.
func (b *books) rebind() {
	d := b.v.d
	anonymous := b.replacing() || b.text(`SELECT binding_state FROM _sync_attachment_state`) == string(local.Anonymous)
	if d.anonymous && !anonymous {
		in := b.intents()
		for p, token := range d.newest {
			if !in.tokens[token] && !d.user.had(token) {
				delete(d.newest, p)
			}
		}
		d.mine = d.own(b.rows())
	}
	d.anonymous = anonymous
}

// replacing reports whether rows are about to be replaced by the server's.
func (b *books) replacing() bool {
	return b.text(`SELECT kind FROM _sync_operation_state`) == string(local.RemoteReplace)
}

// check is what has to hold after every transaction.
func (v *life) check() {
	b, d := v.books, v.d
	if b == nil || !d.opened {
		return
	}
	if err := b.file.Verify(context.Background()); err != nil {
		fail("02 2.1", "%s: %v", d.name, err)
	}
	here, in := b.rows(), b.intents()
	if err := workload.Dangling(here); err != nil {
		fail("S1", "%s: %v", d.name, err)
	}
	for _, p := range places(in.at) {
		r := in.at[p]
		switch got, ok := here[p]; {
		case r == nil && ok:
			fail("S5", "%s: %s is to be deleted, and is here: %s", d.name, p, got.Text)
		case r != nil && got.Text != r.Text:
			fail("S5", "%s: %s: the intent is %s, the row is %s", d.name, p, r.Text, got.Text)
		}
	}
	if d.anonymous {
		b.rebind()
	}
	if d.anonymous || b.replacing() || b.text(`SELECT binding_state FROM _sync_attachment_state`) == string(local.Anonymous) {
		return
	}
	d.settleDoubts(here)
	v.setAside(here, &in)
	v.agree(here, &in)
	if !d.mixed {
		v.checkMine(here, &in)
	}
	v.checkNewest(&in)
	d.held, d.void = map[place]bool{}, in.void
	for p := range in.at {
		if !in.void[p] {
			d.held[p] = true
		}
	}
}

// checkMine compares the rows that nobody else touches with what the application made of them last (S3, S5).
func (v *life) checkMine(here map[place]row, in *intents) {
	d := v.d
	if d.w.plan.wild {
		return // the server may have refused some of them
	}
	if d.user.forgotten {
		for p, r := range d.own(here) {
			if _, intent := in.at[p]; !intent {
				d.mine[p] = r
			}
		}
		for p := range d.mine {
			if _, intent := in.at[p]; !intent && here[p].Text == "" {
				delete(d.mine, p)
			}
		}
	}
	for p := range d.givenUp {
		if p.Of(d.name) {
			d.leave(p, here)
		}
	}
	for p := range d.void { // it is the server's, which may have lost it
		if _, intent := in.at[p]; d.user.eras > 0 && !intent && p.Of(d.name) {
			d.leave(p, here)
		}
	}
	for _, p := range places(d.mine) {
		r := d.mine[p]
		if got := here[p]; got.Text != r.Text {
			fail("S3", "%s: %s was left as %s, and is %s", d.name, p, r.Text, got.Text)
		}
	}
	for _, p := range places(here) {
		if _, ok := d.mine[p]; !ok && p.Of(d.name) {
			fail("S3", "%s: %s was not left here, and is: %s", d.name, p, here[p].Text)
		}
	}
}

// checkNewest looks for each of the application's newest writes: the server had it, or it is still to come (S3).
func (v *life) checkNewest(in *intents) {
	d := v.d
	for _, p := range places(d.newest) {
		token := d.newest[p]
		switch {
		case d.user.had(token):
			delete(d.newest, p)
		case in.tokens[token]:
		case d.givenUp[p] == token:
			delete(d.newest, p)
		default:
			fail("S3", "%s: %s was made %q; the server never had that, it is not pending, and nobody decided against it", d.name, p, token)
		}
	}
}

// differs compares everything that is no intent with what the server was at the checkpoint (S1, S2, S7), in one of its eras.
func (v *life) differs(a *era, here map[place]row, in *intents) *finding {
	d, b := v.d, v.books
	var checkpoint int64
	b.each(`SELECT last_bundle_seq_seen FROM _sync_attachment_state`, func(s *sqlite3.Stmt) { checkpoint = s.ColumnInt64(0) })
	d.checkpoint, d.top = checkpoint, max(d.top, checkpoint)
	at, known := a.at[checkpoint]
	if !known {
		return found("S2", "%s: the checkpoint is %d, the server's last bundle %d", d.name, checkpoint, d.user.last)
	}
	type state struct {
		version int64
		deleted bool
	}
	states := map[place]state{}
	b.each(`SELECT table_name, key_json ->> 'id', row_version, deleted FROM _sync_row_state`, func(s *sqlite3.Stmt) {
		states[workload.At(s.ColumnText(0), s.ColumnText(1))] = state{s.ColumnInt64(2), s.ColumnBool(3)}
	})
	if a == d.era { // its own pushes can be ahead of the checkpoint
		for p, k := range states {
			if k.version > d.top && a.made(p, k.version, k.deleted) && (a == d.user.era || !d.user.era.made(p, k.version, k.deleted)) {
				d.top = k.version
			}
		}
	}
	look := func(p place) *finding {
		if _, intent := in.at[p]; intent {
			return nil
		}
		got, isHere := here[p]
		k := states[p]
		want, there := at[p]
		switch {
		case k.version > checkpoint && k.deleted:
			if a.at[k.version] == nil {
				return found("S6", "%s: %s is noted as deleted at %d, which the server never had", d.name, p, k.version)
			}
			_, there = a.at[k.version][p]
		case k.version > checkpoint:
			var r row
			r, there = a.history[version{p, k.version}]
			want = standing{r, k.version}
		}
		switch {
		case d.accepted[p] > checkpoint && (!isHere && k.version == 0 || isHere && a.history[version{p, k.version}].Text == got.Text):
			// The server's row was accepted, and lacks one that comes later: it comes with that. Till then what the change was made
			// on stands, or nothing.
		case isHere != there:
			return found("S1", "%s: %s is here: %v, on the server at bundle %d: %v (%s at %d)", d.name, p, isHere, checkpoint, there, want.Text, want.version)
		case isHere && got.Text != want.Text:
			return found("S1", "%s: %s at version %d is %s; at bundle %d the server had %s at %d", d.name, p, k.version, got.Text, checkpoint, want.Text, want.version)
		case isHere && (k.version != want.version || k.deleted):
			return found("S6", "%s: %s is noted at version %d (deleted %v), the server had %d", d.name, p, k.version, k.deleted, want.version)
		case !isHere && k.version > 0 && !k.deleted:
			return found("S6", "%s: %s is not here, and noted as live at %d", d.name, p, k.version)
		}
		return nil
	}
	seen := map[place]bool{}
	for _, of := range [][]place{places(at), places(here), places(states)} {
		for _, p := range of {
			if seen[p] {
				continue
			}
			seen[p] = true
			if f := look(p); f != nil {
				return f
			}
		}
	}
	return nil
}

// resolve is the application's resolver. It runs while its worker waits for it.
func (d *device) resolve(_ context.Context, c local.Conflict) (local.Resolution, error) {
	p := workload.At(c.Table, keyOf(c.KeyJSON))
	private := p.Of(d.name)
	if private && d.excused == "" && !d.w.plan.wild {
		d.w.report("S3", "%s: a conflict about %s, which nobody else touches: %s of %s on %d, server %s at %d", d.name, p, c.LocalOp, c.LocalWire, c.Base, c.ServerWire, c.ServerVersion)
	}
	answer := local.Resolution{Kind: local.KeepLocal}
	switch {
	case private: // its own row: what is here is newer, whatever the server says
	case d.decides == "server":
		answer.Kind = local.AcceptServer
	case d.decides == "merge" && c.LocalWire != nil && c.ServerWire != nil:
		merged, err := merge(c.LocalWire, c.ServerWire)
		if err != nil {
			return answer, err
		}
		answer = local.Resolution{Kind: local.KeepMerged, Merged: merged}
	}
	d.w.trace.note("%s: decides about %s (%s on %d, server at %d, deleted %v): %d", d.name, p, c.LocalOp, c.Base, c.ServerVersion, c.ServerDeleted, answer.Kind)
	if d.w.fault(Leave, 0.05) {
		return local.Resolution{}, fmt.Errorf("the resolver has no idea: %w", messages.ErrClosed)
	}
	if answer.Kind == local.AcceptServer {
		d.accepted[p] = c.ServerVersion
	}
	if answer.Kind != local.KeepLocal && c.Local != nil {
		if _, r, err := tableNamed(c.Table).Read(c.Local, false); err == nil && d.newest[p] == r.Token {
			delete(d.newest, p)
		}
	}
	return answer, nil
}

// keyOf reads a key in local form.
func keyOf(keyJSON string) string {
	var key struct{ ID string }
	_ = json.Unmarshal([]byte(keyJSON), &key) // what does not parse is not found
	return key.ID
}

// merge takes the name of the one and everything else of the other.
func merge(mine, theirs []byte) ([]byte, error) {
	var a, b map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(mine, &a), json.Unmarshal(theirs, &b)); err != nil {
		return nil, err
	}
	b["name"] = a["name"]
	return json.Marshal(b)
}
