package sqlite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// plan is how the rows of one table are written. It lives as long as a transaction; its statements are kept by the
// connection.
type plan struct {
	c       *conn
	t       *table
	bare    bool // no trigger fires
	watched bool // triggers of the application's fire
	order   int  // position among the managed tables
	decoder wire.RowDecoder

	upsert batched
	insert batched // of rows that are not there
	update batched // of rows that may not be there, one by one
	delete batched // by key

	// referred are the columns of t that managed tables refer to.
	referred []string
	gone     []batched // parallel to referred: remembers the values of rows that are about to go
	children batched   // remembers keys of rows that refer to others

	changed bool // a row of the table was written or deleted
}

func newPlan(c *conn, contract wire.Contract, t *table, all []*table, bare, watched bool) *plan {
	p := &plan{c: c, t: t, bare: bare, watched: watched, order: slices.Index(all, t), decoder: contract.NewRowDecoder(&t.Table)}
	p.usual()
	p.delete = batched{c: c, build: func(n int) string {
		return fmt.Sprintf(`DELETE FROM %s WHERE %s IN (%s)`, quote(t.local), quote(t.key().name), parameters(1, n))
	}}
	for _, child := range all {
		for _, r := range child.parents {
			if r.parent == t.Name && !slices.Contains(p.referred, r.parentColumn) {
				p.referred = append(p.referred, r.parentColumn)
			}
		}
	}
	for _, column := range p.referred {
		p.gone = append(p.gone, batched{c: c, build: func(n int) string {
			return fmt.Sprintf(`INSERT INTO temp._sync_gone (table_name, column_name, value) SELECT %s, %s, %s FROM %s WHERE %s IN (%s)`,
				literal(t.Name), literal(column), quote(column), quote(t.local), quote(t.key().name), parameters(1, n))
		}})
	}
	p.children = batched{c: c, build: func(n int) string {
		return `INSERT INTO temp._sync_children (table_name, key) VALUES ` + repeat(n, func(i int) string {
			return fmt.Sprintf(`(%s, ?%d)`, literal(t.Name), i+1)
		})
	}}
	return p
}

// batches returns every statement of p, for clearing.
func (p *plan) batches() []*batched {
	out := []*batched{&p.upsert, &p.insert, &p.update, &p.delete, &p.children}
	for i := range p.gone {
		out = append(out, &p.gone[i])
	}
	return out
}

// orFail is the conflict clause of statements that lay rows down. It overrides those of the table's own constraints: they
// could replace or drop rows without a word.
//
// OR FAIL spares SQLite the copy of every page it keeps so as to be able to undo half a statement. Nobody needs that:
// whoever lays rows down takes everything back on an error, the transaction or what came since a savepoint.
//
// It would override those of the statements in the application's triggers, too: INSERT OR REPLACE INTO a search index
// would fail at the second row. So where such triggers fire there is none, unless the table needs it more.
func (p *plan) orFail() string {
	if p.watched && !p.t.lenient {
		return ""
	}
	return " OR FAIL"
}

// insertSQL inserts n rows.
func (p *plan) insertSQL(verb string, n int) string {
	names := make([]string, len(p.t.columns))
	for i, c := range p.t.columns {
		names[i] = quote(c.name)
	}
	// The alias is for a table named excluded, whose rows an upsert would else mean by that name.
	return fmt.Sprintf(`%s INTO %s AS t (%s) VALUES %s`, verb, quote(p.t.local), strings.Join(names, `, `), repeat(n, func(i int) string {
		return `(` + parameters(1+i*len(names), len(names)) + `)`
	}))
}

// usual makes the statements those of ordinary times.
func (p *plan) usual() {
	p.upsert = batched{c: p.c, build: p.upsertSQL}
	if p.bare {
		p.upsert.first = p.plainSQL
	}
	p.insert = batched{c: p.c, build: p.plainSQL}
	p.update = batched{c: p.c, build: p.updateSQL}
}

// replacing makes p insert rows in place of whatever stands in their way, or no longer.
func (p *plan) replacing(on bool) {
	p.upsert.clear()
	p.insert.clear()
	if p.usual(); on {
		p.upsert = batched{c: p.c, build: p.replaceSQL}
		p.insert = batched{c: p.c, build: p.replaceSQL}
	}
}

func (p *plan) plainSQL(n int) string   { return p.insertSQL("INSERT"+p.orFail(), n) }
func (p *plan) replaceSQL(n int) string { return p.insertSQL("INSERT OR REPLACE", n) }

func (p *plan) upsertSQL(n int) string {
	sets := p.sets(func(c string, _ int) string { return c + ` = excluded.` + c })
	sql := p.plainSQL(n) + ` ON CONFLICT (` + quote(p.t.key().name) + `) DO `
	if len(sets) == 0 {
		return sql + `NOTHING`
	}
	return sql + `UPDATE SET ` + strings.Join(sets, `, `)
}

// sets lists the assignments to all columns but the key.
func (p *plan) sets(assign func(quoted string, i int) string) []string {
	var sets []string
	for i, c := range p.t.columns {
		if i != p.t.Key {
			sets = append(sets, assign(quote(c.name), i))
		}
	}
	return sets
}

// updateSQL updates a row, with the parameters of inserting it.
func (p *plan) updateSQL(int) string {
	sets := p.sets(func(c string, i int) string { return c + ` = ?` + strconv.Itoa(1+i) })
	return fmt.Sprintf(`UPDATE%s %s SET %s WHERE %s = ?%d`, p.orFail(), quote(p.t.local), strings.Join(sets, `, `), quote(p.t.key().name), 1+p.t.Key)
}

// put inserts rows, or updates those that are there already.
//
// An upsert has an OR ABORT in it that triggers of an update cannot escape, so that tables with triggers of the
// application's get two statements a row.
func (p *plan) put(n int, bind func(s *sqlite3.Stmt, slot, i int) error) error {
	if !p.watched || len(p.t.columns) == 1 {
		return p.upsert.exec(n, bind)
	}
	for i := range n {
		one := func(s *sqlite3.Stmt, slot, _ int) error { return bind(s, slot, i) }
		if err := p.update.exec(1, one); err != nil {
			return err
		}
		if p.c.raw.Changes() > 0 {
			continue
		}
		if err := p.insert.exec(1, one); err != nil {
			return err
		}
	}
	return nil
}

// decode returns the values of a payload of row key, which must agree.
func (p *plan) decode(key *wire.Value, payload []byte) ([]wire.Value, error) {
	row, err := p.decoder.Decode(payload)
	if err != nil {
		return nil, err
	}
	if got := &row[p.t.Key]; got.Type != key.Type || string(got.Bytes) != string(key.Bytes) {
		return nil, p.protocol("the payload's key is not the row's")
	}
	return row, nil
}

// protocol is a fault of a row of p's table that makes the server's answer unusable.
func (p *plan) protocol(reason string) *wire.ProtocolError {
	return &wire.ProtocolError{Table: p.t.Schema + "." + p.t.Name, Reason: reason}
}

// parameters are the numbered parameters first, first+1, … of a statement.
func parameters(first, n int) string {
	return repeat(n, func(i int) string { return `?` + strconv.Itoa(first+i) })
}

// repeat joins n elements with commas.
func repeat(n int, element func(i int) string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(`, `)
		}
		b.WriteString(element(i))
	}
	return b.String()
}
