package workload

import "strings"

// Schema is the name that the tables are registered under.
const Schema = "shop"

// ClientSchema makes the tables of the application: a parent with children that go with it, a table that refers to itself,
// one with a unique column beside its key, and one with keys of 16 bytes. Together they have a column of every kind.
const ClientSchema = `
CREATE TABLE owners (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, score REAL);
CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, owner_id TEXT NOT NULL REFERENCES owners(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  name TEXT NOT NULL, qty INTEGER, data BLOB);
CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, parent_id TEXT REFERENCES nodes(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, name TEXT NOT NULL);
CREATE TABLE slots (id TEXT PRIMARY KEY NOT NULL, code TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE docs (id BLOB PRIMARY KEY NOT NULL, slot TEXT REFERENCES slots(id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED, name TEXT NOT NULL, flag INTEGER);
`

// Poison is a quantity that the server refuses and the devices do not.
const Poison = 666

// ServerSchema is the same with the one rule more.
var ServerSchema = strings.NewReplacer("qty INTEGER,", "qty INTEGER CHECK (qty IS NOT 666),", "flag INTEGER", "flag BOOLEAN").Replace(ClientSchema)

// Table is a table of the schema. Its key is the column id, and each row has its token in the column name.
type Table struct {
	Name    string
	columns []column
	parent  map[string]string // column → table
}

// column is a column as the rows of both sides are compared: by kind.
type column struct {
	name string
	kind byte // t text, n number, b bytes, k key of bytes, f flag
}

// Tables are all of them, parents before their children.
var Tables = []Table{
	{"owners", []column{{"id", 't'}, {"name", 't'}, {"score", 'n'}}, nil},
	{"items", []column{{"id", 't'}, {"owner_id", 't'}, {"name", 't'}, {"qty", 'n'}, {"data", 'b'}}, map[string]string{"owner_id": "owners"}},
	{"nodes", []column{{"id", 't'}, {"parent_id", 't'}, {"name", 't'}}, map[string]string{"parent_id": "nodes"}},
	{"slots", []column{{"id", 't'}, {"code", 't'}, {"name", 't'}}, nil},
	{"docs", []column{{"id", 'k'}, {"slot", 't'}, {"name", 't'}, {"flag", 'f'}}, map[string]string{"slot": "slots"}},
}

// Named returns the table of a name; nil when there is none.
func Named(name string) *Table {
	for i := range Tables {
		if Tables[i].Name == name {
			return &Tables[i]
		}
	}
	return nil
}
