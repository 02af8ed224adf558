package sqlite

import (
	"strings"

	"github.com/oversqlite/oversqlite/wire"
)

// table is a managed table as it stands in the local schema, and the SQL made from it.
type table struct {
	wire.Table
	local   string   // the table's name as declared, unquoted
	columns []column // in table order, generated columns left out; parallel to wire.Table.Columns
	parents []reference
	// depth orders tables parents first; tables of one foreign-key cycle share a depth.
	depth int
	// lenient: a constraint of the table says for itself what becomes of a row that breaks it, be it the removal of
	// another row.
	lenient bool
	keyed   bool // without a rowid
}

// column is a synced column of a managed table.
type column struct {
	name     string // as declared, unquoted
	declared string // declared type
	notNull  bool
}

// reference is a single-column foreign key from one managed table to another.
type reference struct {
	column       string // child column, as declared
	parent       string // parent table, lower case
	parentColumn string // parent column, as declared
	onDelete     string // upper case, e.g. "CASCADE"
}

// key returns the key column of t.
func (t *table) key() column { return t.columns[t.Key] }

// quote returns an SQL identifier for any name.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// member returns the SQL expression of a member of a JSON object. A path could not spell every name.
func member(object, name string) string {
	return `(SELECT value FROM json_each(` + object + `) WHERE key = ` + literal(name) + `)`
}

// literal returns an SQL string literal for any text without NUL.
func literal(text string) string { return `'` + strings.ReplaceAll(text, `'`, `''`) + `'` }
