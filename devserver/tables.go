package devserver

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// Table names a synced table: its schema on the wire, its name there and in SQLite, and its sync-key column, which
// must be its single-column primary key. All in lower case.
type Table struct{ Schema, Name, Key string }

// kind is how the values of a column are checked, stored and spelled.
type kind uint8

const (
	kindText     kind = iota
	kindUUID          // stored and spelled as canonical text
	kindUUIDBlob      // stored as 16 bytes, spelled as canonical text
	kindInteger
	kindReal
	kindBytes // spelled as base64
	kindTime  // stored and spelled as PostgreSQL's timestamptz in JSON, UTC
	kindBool
)

type column struct {
	name string
	kind kind
}

// table is a registered table with everything derived from its shape.
type table struct {
	Table
	full    string // "schema.table"
	columns []column
	key     int            // index into columns
	index   map[string]int // column name → index
	sorted  []int          // column indexes by name: the order of committed payloads
	jsonb   []int          // column indexes by length, then name: the order of PostgreSQL's jsonb
	labels  [][]byte       // `"name":` of each column
	prefix  []byte         // `{"schema":…,"table":…,"key":{"id":` of a row

	selectOne string // liveness and row of one key: ?1 key, ?2 full name
	selectAll string // version and row of all live rows by key: ?1 full name
	insertAll string
	updateAll string // the key is the last parameter
	deleteOne string
}

// loadTables reads the shape of the configured tables from a database that has the schema.
func loadTables(c *sqlite3.Conn, specs []Table) ([]*table, error) {
	var tables []*table
	seen := map[string]bool{}
	for _, spec := range specs {
		if spec.Schema == "" || spec.Name == "" || spec.Key == "" {
			return nil, fmt.Errorf("devserver: table %+v is incomplete", spec)
		}
		if seen[spec.Name] {
			return nil, fmt.Errorf("devserver: table %s is configured twice", spec.Name)
		}
		seen[spec.Name] = true
		t, err := loadTable(c, spec)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	slices.SortFunc(tables, func(a, b *table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return tables, nil
}

func loadTable(c *sqlite3.Conn, spec Table) (*table, error) {
	t := &table{Table: spec, full: spec.Schema + "." + spec.Name, index: map[string]int{}, key: -1}
	references, err := query(c, `SELECT lower("from") FROM pragma_foreign_key_list(?1)`, spec.Name)
	if err != nil {
		return nil, err
	}
	info, err := query(c, `SELECT lower(name) || char(10) || lower(type) || char(10) || pk FROM pragma_table_xinfo(?1) WHERE hidden = 0`, spec.Name)
	if err != nil {
		return nil, err
	}
	keys := 0
	for i, line := range info {
		part := strings.SplitN(line, "\n", 3)
		name, declared, primary := part[0], part[1], part[2] != "0"
		isKey := name == spec.Key
		if primary {
			keys++
			if isKey {
				t.key = i
			}
		}
		t.index[name] = i
		t.columns = append(t.columns, column{name, kindOf(declared, isKey || slices.Contains(references, name))})
	}
	if t.key < 0 || keys != 1 {
		return nil, fmt.Errorf("devserver: %s must have the single primary-key column %s", spec.Name, spec.Key)
	}
	if k := t.columns[t.key].kind; k != kindText && k != kindUUID && k != kindUUIDBlob {
		return nil, fmt.Errorf("devserver: the key %s of %s must be text or a UUID", spec.Key, spec.Name)
	}
	t.derive()
	return t, nil
}

// kindOf derives a column's kind from its declared type.
func kindOf(declared string, reference bool) kind {
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(declared, p) })
	}
	switch {
	case has("uuid"):
		return kindUUID
	case has("blob", "bytea"):
		if reference {
			return kindUUIDBlob
		}
		return kindBytes
	case has("time", "date"):
		return kindTime
	case has("bool"):
		return kindBool
	case has("real", "float", "double"):
		return kindReal
	case has("int"):
		return kindInteger
	default:
		return kindText
	}
}

// derive fills what follows from the columns.
func (t *table) derive() {
	n := len(t.columns)
	for i, c := range t.columns {
		t.sorted = append(t.sorted, i)
		t.labels = append(t.labels, append(appendString(nil, c.name), ':'))
	}
	slices.SortFunc(t.sorted, func(a, b int) int { return cmp.Compare(t.columns[a].name, t.columns[b].name) })
	t.jsonb = slices.Clone(t.sorted)
	slices.SortStableFunc(t.jsonb, func(a, b int) int { return cmp.Compare(len(t.columns[a].name), len(t.columns[b].name)) })

	var p bytes.Buffer
	p.WriteString(`{"schema":`)
	p.Write(appendString(nil, t.Schema))
	p.WriteString(`,"table":`)
	p.Write(appendString(nil, t.Name))
	p.WriteString(`,"key":{`)
	p.Write(t.labels[t.key])
	t.prefix = p.Bytes()

	name, key := quote(t.Name), quote(t.Key)
	all := make([]int, n)
	columns := make([]string, n)
	for i, c := range t.columns {
		all[i] = i
		columns[i] = "t." + quote(c.name)
	}
	list := strings.Join(columns, ", ")
	t.selectOne = `SELECT (SELECT NOT deleted FROM _server_row WHERE tab = ?2 AND key = ?3), ` + list +
		` FROM (SELECT 1) LEFT JOIN ` + name + ` t ON t.` + key + ` = ?1`
	t.selectAll = `SELECT m.key, m.version, ` + list + ` FROM _server_row m JOIN ` + name + ` t ON t.` + key + ` = ` + t.keyExpression() +
		` WHERE m.tab = ?1 AND NOT m.deleted ORDER BY m.key`
	t.insertAll = t.insertSQL(all)
	t.updateAll = t.updateSQL(all)
	t.deleteOne = `DELETE FROM ` + name + ` WHERE ` + key + ` = ?1`
}

// keyExpression turns the wire form of a key in _server_row into its stored form.
func (t *table) keyExpression() string {
	if t.columns[t.key].kind == kindUUIDBlob {
		return `unhex(m.key, '-')`
	}
	return `m.key`
}

func (t *table) insertSQL(columns []int) string {
	names, marks := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], marks[i] = quote(t.columns[c].name), "?"
	}
	return `INSERT INTO ` + quote(t.Name) + ` (` + strings.Join(names, ", ") + `) VALUES (` + strings.Join(marks, ", ") + `)`
}

// updateSQL sets the columns, the key among them: a no-op assignment, and the row counts as changed in any case.
func (t *table) updateSQL(columns []int) string {
	sets := make([]string, len(columns))
	for i, c := range columns {
		sets[i] = quote(t.columns[c].name) + " = ?"
	}
	return `UPDATE ` + quote(t.Name) + ` SET ` + strings.Join(sets, ", ") + ` WHERE ` + quote(t.Key) + ` = ?`
}

// spec is the table as the capabilities name it.
func (t *table) spec() wire.TableSpec {
	return wire.TableSpec{Schema: t.Schema, Table: t.Name, SyncKeyColumns: []string{t.Key}}
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// query returns the first column of a query's rows as text.
func query(c *sqlite3.Conn, sql string, args ...string) (out []string, err error) {
	s, _, err := c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for i, a := range args {
		if err := s.BindText(i+1, a); err != nil {
			return nil, err
		}
	}
	for s.Step() {
		out = append(out, s.ColumnText(0))
	}
	return out, s.Err()
}
