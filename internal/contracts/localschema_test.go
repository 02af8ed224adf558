package contracts

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/sqlite"
)

// localConfig is the configuration of a local-schema fixture.
type localConfig struct {
	Schema     string
	SyncTables []tableConfig
}

// validationCase is a case of local-schema/config-validation.json.
type validationCase struct {
	SchemaSQL                  []string
	Config                     localConfig
	InitializeBeforeValidation bool
	BeforeValidationSQL        []string
	AfterOpenSQL               []string
	ExpectedError              *struct {
		Kind            string
		MessageContains []string
	}
	ExpectedQueries []struct {
		Name  string
		SQL   string
		Value any
	}
}

func TestConfigValidation(t *testing.T) {
	t.Parallel()
	eachIn(t, local, "local-schema/config-validation.json", "cases", func(t *testing.T, d *dialect, c *validationCase) {
		dev := newClient(t, newServer(t, d), c.SchemaSQL, c.Config.Schema, c.Config.SyncTables)
		if c.InitializeBeforeValidation {
			dev.mustOpen()
			if err := dev.engine.Close(); err != nil {
				t.Fatal(err)
			}
		}
		plain(t, dev.cfg.Path, c.BeforeValidationSQL...)
		err := dev.open()
		if e := c.ExpectedError; e != nil {
			var bad *oversqlite.ConfigError
			if e.Kind != "configuration" || !errors.As(err, &bad) {
				t.Fatalf("got %T %v, want a %s error", err, err, e.Kind)
			}
			for _, fragment := range e.MessageContains {
				if !strings.Contains(err.Error(), fragment) {
					t.Errorf("%q does not say %q", err, fragment)
				}
			}
		} else if err != nil {
			t.Fatal(err)
		}
		if err == nil {
			autocommit(t, dev.db(), c.AfterOpenSQL)
		}
		db := openPlain(t, dev.cfg.Path)
		defer db.Close()
		for _, q := range c.ExpectedQueries {
			got := value(t, db, q.SQL)
			if n, isNumber := q.Value.(json.Number); isNumber {
				sameJSON(t, q.Name, got, n)
			} else {
				same(t, q.Name, textOf(got), textOf(q.Value))
			}
		}
	})
}

// autocommit runs statements one by one over one connection of the application's; some begin and commit by themselves.
func autocommit(t *testing.T, db *sql.DB, statements []string) {
	t.Helper()
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, s := range statements {
		if _, err := conn.ExecContext(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// transition is a case of write-transitions.json.
type transition struct {
	Name      string
	SetupSQL  []string
	ActionSQL []string
}

func TestWriteTransitions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(folder(), "local-schema", "*", "write-transitions.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no write-transitions: %v", err)
	}
	for _, file := range files {
		dir := "local-schema/" + filepath.Base(filepath.Dir(file))
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			testTransitions(t, dir)
		})
	}
}

func testTransitions(t *testing.T, dir string) {
	var head struct{ ApplicationTables []string }
	read(t, dir+"/write-transitions.json", &head)
	var config localConfig
	read(t, dir+"/config.json", &config)
	var expected struct{ Cases []json.RawMessage }
	read(t, dir+"/write-transitions.expected.json", &expected)
	want := map[string]json.RawMessage{}
	for _, c := range expected.Cases {
		var head struct{ Name string }
		decode(t, c, &head)
		want[head.Name] = c
	}
	schema := statements(string(readText(t, dir+"/schema.sql")))
	eachIn(t, local, dir+"/write-transitions.json", "cases", func(t *testing.T, d *dialect, c *transition) {
		dev := newClient(t, newServer(t, d), schema, config.Schema, config.SyncTables).mustOpen()
		autocommit(t, dev.db(), c.SetupSQL)
		autocommit(t, dev.db(), c.ActionSQL)
		if want[c.Name] == nil {
			t.Fatal("nothing is expected of it")
		}
		counts := object{}
		for _, table := range head.ApplicationTables {
			counts[table] = value(t, dev.db(), `SELECT COUNT(*) FROM "`+table+`"`)
		}
		sameJSON(t, "", object{
			"name": c.Name, "applicationRowCounts": counts,
			"dirtyRows": rowsOf(t, dev.db(), `SELECT schema_name AS schemaName, table_name AS tableName, key_json AS keyJson, op,
base_row_version AS baseRowVersion, payload, dirty_ordinal AS dirtyOrdinal FROM _sync_dirty_rows ORDER BY dirty_ordinal, table_name, key_json`),
		}, want[c.Name])
	})
}

// richTable is a table of rich-schema/business-rich-v0.json.
type richTable struct {
	Name              string
	SyncKeyColumnName string
	PrimaryKey        []string
	Columns           []struct {
		Name        string
		LogicalType string
		Nullable    bool
	}
	ForeignKeys []struct{ From, ToTable, ToColumn, OnDelete string }
}

// The structure of the rich schema, as the engine reads it. Its numeric scenarios are for servers with a database.
func TestRichSchema(t *testing.T) {
	t.Parallel()
	const family = "rich-schema/business-rich-v0.json"
	if _, err := os.Stat(filepath.Join(folder(), filepath.FromSlash(family))); err != nil {
		t.Skipf("this set of fixtures has no %s", family)
	}
	var file struct {
		Schema string
		Tables []richTable
	}
	read(t, family, &file)
	tallies.run(family + " local")
	path := filepath.Join(t.TempDir(), "app.db")
	plain(t, path, statements(string(readText(t, "local-schema/business-rich-v0/schema.sql")))...)
	cfg := sqlite.Config{Path: path, Schema: file.Schema}
	for _, table := range file.Tables {
		cfg.Tables = append(cfg.Tables, sqlite.TableConfig{Name: table.Name, Key: table.SyncKeyColumnName})
	}
	db, err := sqlite.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, table := range file.Tables {
		want := []object{}
		for _, c := range table.Columns {
			want = append(want, object{"name": c.Name, "logicalType": c.LogicalType, "nullable": c.Nullable})
		}
		got := rowsOf(t, db.App(), `SELECT name, lower(type) AS logicalType, "notnull" = 0 AS nullable FROM pragma_table_info('`+table.Name+`') ORDER BY cid`)
		for _, c := range got {
			c["nullable"] = c["nullable"] == int64(1)
		}
		sameJSON(t, table.Name+" columns", got, want)
		keys := []object{}
		for _, k := range table.ForeignKeys {
			keys = append(keys, object{"from": k.From, "toTable": k.ToTable, "toColumn": k.ToColumn, "onDelete": strings.ToUpper(k.OnDelete)})
		}
		got = rowsOf(t, db.App(), `SELECT "from", "table" AS toTable, "to" AS toColumn, upper(on_delete) AS onDelete FROM pragma_foreign_key_list('`+table.Name+`') ORDER BY 1, 2, 3`)
		sameJSON(t, table.Name+" foreign keys", got, keys)
	}
}
