package sqlite

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

const (
	// metadataPrefix begins the name of every private table.
	metadataPrefix = `_sync_`
	// scopeColumn is the column by which servers tell users apart. It never travels.
	scopeColumn = `_sync_scope_id`
)

// conflictClause finds constraints with a conflict clause in the text of a table, and rather too many than too few.
var conflictClause = regexp.MustCompile(`(?i)\bON\s+CONFLICT\b`)

// checkConfig checks what can be checked without a database.
func checkConfig(cfg *Config) error {
	switch {
	case cfg.Path == "":
		return &local.ConfigError{Field: "Path", Reason: "must name the database file"}
	case strings.Contains(cfg.Path, ":memory:"), strings.HasPrefix(cfg.Path, "file:"), strings.ContainsRune(cfg.Path, 0):
		return &local.ConfigError{Field: "Path", Reason: "must be the path of a file on disk: the engine and the application open it separately"}
	case strings.TrimSpace(cfg.Schema) == "":
		return &local.ConfigError{Field: "Schema", Reason: "must name the remote schema"}
	case strings.ContainsRune(cfg.Schema, 0):
		return &local.ConfigError{Field: "Schema", Reason: "must not contain NUL"}
	case !utf8.ValidString(cfg.Schema):
		return &local.ConfigError{Field: "Schema", Reason: "must be valid UTF-8, which everything that travels is"}
	case cfg.Synchronous != "" && cfg.Synchronous != "FULL" && cfg.Synchronous != "NORMAL":
		return &local.ConfigError{Field: "Synchronous", Reason: `must be "FULL" or "NORMAL"`}
	case cfg.BusyTimeout < 0:
		return &local.ConfigError{Field: "BusyTimeout", Reason: "must not be negative"}
	case len(cfg.Tables) == 0:
		return &local.ConfigError{Field: "Tables", Reason: "must name at least one table"}
	}
	seen := map[string]bool{}
	for _, t := range cfg.Tables {
		name := strings.ToLower(t.Name)
		switch {
		case strings.TrimSpace(t.Name) == "":
			return &local.ConfigError{Field: "Tables", Reason: "a table name is blank"}
		case strings.Contains(t.Name, "."):
			return &local.ConfigError{Field: "Tables", Table: t.Name, Reason: "the name must not include a schema qualifier: the remote schema is configured once, for all tables"}
		case !utf8.ValidString(t.Name):
			return &local.ConfigError{Field: "Tables", Table: t.Name, Reason: "the name is not valid UTF-8, which everything that travels must be: rename the table"}
		case strings.HasPrefix(name, metadataPrefix):
			return &local.ConfigError{Field: "Tables", Table: t.Name, Reason: "names that begin with " + metadataPrefix + " are kept for the engine's own tables"}
		case strings.TrimSpace(t.Key) == "":
			return &local.ConfigError{Field: "Tables", Table: t.Name, Reason: "the sync key is missing: name the primary-key column (syncKeyColumnName or syncKeyColumns explicitly)"}
		case seen[name]:
			return &local.ConfigError{Field: "Tables", Table: t.Name, Reason: "is configured more than once (duplicate table; upper and lower case do not matter)"}
		}
		seen[name] = true
	}
	return nil
}

// readTables reads the managed tables from the schema, refuses every shape that cannot be synced, and returns them
// parents first.
func (c *conn) readTables(cfg *Config) ([]*table, error) {
	var tables []*table
	byName := map[string]*table{}
	for _, tc := range cfg.Tables {
		t, err := c.readTable(cfg.Schema, tc)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
		byName[t.Name] = t
	}
	if err := c.checkTwins(byName); err != nil {
		return nil, err
	}
	for _, t := range tables {
		if err := c.readReferences(t, byName); err != nil {
			return nil, err
		}
	}
	order(tables, byName)
	return tables, nil
}

// checkTwins refuses a managed table beside which another one has the same name in lower case. To SQLite, which folds ASCII
// only, É and é are two.
func (c *conn) checkTwins(byName map[string]*table) error {
	var bad error
	_, err := c.each(`SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')`, func(s *sqlite3.Stmt) error {
		name := s.ColumnText(0)
		if t := byName[strings.ToLower(name)]; t != nil && t.local != name {
			bad = &local.ConfigError{Table: t.local, Reason: fmt.Sprintf("%s has the same name in lower case, and names travel in lower case: rename one of them", name)}
		}
		return nil
	})
	return errors.Join(err, bad)
}

// readTable reads one table without its references.
func (c *conn) readTable(schema string, tc TableConfig) (*table, error) {
	bad := func(column, format string, args ...any) error {
		return &local.ConfigError{Table: tc.Name, Column: column, Reason: fmt.Sprintf(format, args...)}
	}
	var declared, kind, ddl string
	found, err := c.one(`SELECT name, type, COALESCE(sql, '') FROM sqlite_schema WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')`,
		func(s *sqlite3.Stmt) error {
			declared, kind, ddl = s.ColumnText(0), s.ColumnText(1), s.ColumnText(2)
			return nil
		}, tc.Name)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, bad("", "does not exist in the database: create it before opening the engine, or take it out of Tables")
	case kind == "view":
		return nil, bad("", "is a view: only tables can be synced")
	case strings.HasPrefix(strings.ToUpper(strings.TrimSpace(ddl)), "CREATE VIRTUAL"):
		return nil, bad("", "is a virtual table: only ordinary tables can be synced")
	}
	t := &table{local: declared, lenient: conflictClause.MatchString(ddl), Table: wire.Table{Schema: schema, Name: strings.ToLower(declared), Key: -1}}

	var primary []column
	seen := map[string]bool{}
	if t.keyed, err = c.one(`SELECT 1 FROM pragma_table_list(?) WHERE schema = 'main' AND wr`, nil, declared); err != nil {
		return nil, err
	}
	collided, unspeakable, generatedKey, scoped := "", "", false, false
	_, err = c.each(`SELECT name, type, "notnull", pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid`, func(s *sqlite3.Stmt) error {
		col := column{name: s.ColumnText(0), declared: s.ColumnText(1), notNull: s.ColumnBool(2)}
		if s.ColumnInt(3) > 0 {
			primary = append(primary, col)
		}
		lower := strings.ToLower(col.name)
		if s.ColumnInt(4) != 0 { // generated
			generatedKey = generatedKey || lower == strings.ToLower(tc.Key)
			return nil
		}
		if seen[lower] {
			collided = col.name
		}
		seen[lower] = true
		scoped = scoped || strings.EqualFold(col.name, scopeColumn)
		if !utf8.ValidString(col.name) {
			unspeakable = col.name
		}
		if lower == strings.ToLower(tc.Key) {
			t.Key = len(t.columns)
		}
		t.columns = append(t.columns, col)
		t.Columns = append(t.Columns, wire.Column{Name: lower})
		return nil
	}, declared)
	switch {
	case err != nil:
		return nil, err
	case scoped:
		return nil, bad(scopeColumn, "a local table must not have the reserved server column %s: the server adds it; remove it here", scopeColumn)
	case collided != "":
		return nil, bad(collided, "another column has the same name in lower case, and names travel in lower case: rename one of them")
	case unspeakable != "":
		return nil, bad(unspeakable, "the name is not valid UTF-8, which everything that travels must be: rename the column")
	case generatedKey:
		return nil, bad(tc.Key, "is generated: the sync key must be an ordinary column")
	case t.Key < 0 && strings.Contains(tc.Key, ","):
		return nil, bad("", "must declare exactly one sync key column")
	case t.Key < 0:
		return nil, bad(tc.Key, "the table does not contain configured primary key column %s", tc.Key)
	case len(primary) != 1:
		return nil, bad("", "must declare exactly one primary key column, it has %d: give it a single TEXT PRIMARY KEY or BLOB PRIMARY KEY", len(primary))
	}
	key := t.key()
	coll, err := c.collation(declared, key.name)
	limit := c.raw.Limit(sqlite3.LIMIT_FUNCTION_ARG, -1)
	switch {
	case err != nil:
		return nil, err
	case primary[0].name != key.name:
		return nil, bad(tc.Key, "is not the primary key, %s is: the sync key must be the primary key", primary[0].name)
	case !keyType(key.declared):
		return nil, bad(key.name, "is declared %q: the sync key must be a TEXT PRIMARY KEY or BLOB PRIMARY KEY", key.declared)
	case !key.notNull:
		return nil, bad(key.name, "the sync key must be declared NOT NULL (SQLite allows NULL in a primary key otherwise): repair or recreate the local application database before sync initialization")
	case !strings.EqualFold(coll, "BINARY"):
		return nil, bad(key.name, "has the collation %s: the sync key must compare as BINARY, as the server does", coll)
	case 2*len(t.columns) > limit:
		return nil, bad("", "has %d columns, at most %d can be synced", len(t.columns), limit/2)
	}
	return t, nil
}

// keyType reports whether a column of the declared type keeps text, or bytes, as they are. An affinity of INTEGER or
// NUMERIC would turn the key "007" into 7.
func keyType(declared string) bool {
	d := strings.ToUpper(declared)
	if strings.Contains(d, "INT") {
		return false
	}
	return strings.Contains(d, "TEXT") || strings.Contains(d, "CHAR") || strings.Contains(d, "CLOB") || strings.Contains(d, "BLOB")
}

func (c *conn) collation(table, column string) (string, error) {
	_, coll, _, _, _, err := c.raw.TableColumnMetadata("main", table, column)
	return coll, err
}

// readReferences reads the foreign keys of t and, since they bear on it, the kinds of its columns.
func (c *conn) readReferences(t *table, byName map[string]*table) error {
	child := map[string]bool{t.Columns[t.Key].Name: true}
	var bad error
	_, err := c.each(`SELECT id, seq, "table", "from", "to", on_delete FROM pragma_foreign_key_list(?) ORDER BY id, seq`, func(s *sqlite3.Stmt) error {
		seq, parent, from, to, onDelete := s.ColumnInt(1), s.ColumnText(2), s.ColumnText(3), s.ColumnText(4), s.ColumnText(5)
		implied := s.ColumnType(4) == sqlite3.NULL // not "", which is a name
		p := byName[strings.ToLower(parent)]
		switch {
		case bad != nil:
		case seq > 0:
			bad = &local.ConfigError{Table: t.local, Column: from, Reason: fmt.Sprintf("unsupported composite foreign keys: %s -> %s; refer to a single column", t.local, parent)}
		case p == nil:
			if implied {
				to = "(primary key)"
			}
			bad = &local.ConfigError{Table: t.local, Column: from, Reason: fmt.Sprintf("managed tables are not FK-closed: %s.%s -> %s.%s; add %s to Tables or drop the reference", t.local, from, parent, to, parent)}
		default:
			if implied {
				to = p.key().name
			}
			target := strings.ToLower(to)
			i := slices.IndexFunc(p.columns, func(c column) bool { return strings.ToLower(c.name) == target })
			if i < 0 {
				bad = &local.ConfigError{Table: t.local, Column: from, Reason: fmt.Sprintf("refers to %s.%s, which is no column that is synced", parent, to)}
				return nil
			}
			child[strings.ToLower(from)] = true
			t.parents = append(t.parents, reference{column: from, parent: p.Name, parentColumn: p.columns[i].name, onDelete: strings.ToUpper(onDelete)})
		}
		return nil
	}, t.local)
	if err != nil {
		return err
	}
	for i, col := range t.columns {
		t.Columns[i].Kind = wire.KindOf(col.declared, child[t.Columns[i].Name])
	}
	return bad
}

// order sorts tables parents first and sets their depths: the length of the longest chain of references above a
// table, counted over groups of tables that refer to each other in a cycle. Ties keep the configured order.
func order(tables []*table, byName map[string]*table) {
	// Tarjan's algorithm finishes a group only after every group it refers to, so depths can be set as it goes.
	var (
		index   = map[*table]int{}
		low     = map[*table]int{}
		onStack = map[*table]bool{}
		stack   []*table
		visit   func(*table)
	)
	visit = func(t *table) {
		index[t] = len(index) + 1
		low[t] = index[t]
		stack = append(stack, t)
		onStack[t] = true
		for _, r := range t.parents {
			p := byName[r.parent]
			if index[p] == 0 {
				visit(p)
				low[t] = min(low[t], low[p])
			} else if onStack[p] {
				low[t] = min(low[t], index[p])
			}
		}
		if low[t] != index[t] {
			return
		}
		at := slices.Index(stack, t)
		group := stack[at:]
		stack = stack[:at:at]
		depth := 0
		for _, m := range group {
			for _, r := range m.parents {
				if p := byName[r.parent]; !slices.Contains(group, p) {
					depth = max(depth, p.depth+1)
				}
			}
		}
		for _, m := range group {
			m.depth = depth
			onStack[m] = false
		}
	}
	for _, t := range tables {
		if index[t] == 0 {
			visit(t)
		}
	}
	slices.SortStableFunc(tables, func(a, b *table) int { return a.depth - b.depth })
}

// signature describes the columns of t as far as their content depends on it. Two signatures of a table that differ
// mean that rows written under the first may lack values which the server has.
func (t *table) signature() string {
	var b strings.Builder
	for i, c := range t.columns {
		fmt.Fprintf(&b, "%s %s %d\n", t.Columns[i].Name, strings.ToLower(c.declared), t.Columns[i].Kind)
	}
	return b.String()
}
