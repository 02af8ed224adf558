package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// fixtureDir returns the folder of the protocol family's fixtures, which are not part of this repository.
func fixtureDir(t *testing.T) string {
	t.Helper()
	shared := os.Getenv("OVERSQLITE_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	dir := filepath.Join(shared, "contracts", "local-schema")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no fixtures of the protocol family here (set OVERSQLITE_SHARED): %v", err)
	}
	return dir
}

func readFixture(t *testing.T, v any, path ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}

type fixtureConfig struct {
	Schema     string `json:"schema"`
	SyncTables []struct {
		TableName         string   `json:"tableName"`
		SyncKeyColumnName string   `json:"syncKeyColumnName"`
		SyncKeyColumns    []string `json:"syncKeyColumns"`
	} `json:"syncTables"`
}

func (f fixtureConfig) config(path string) Config {
	cfg := Config{Path: path, Schema: f.Schema, Synchronous: "NORMAL"}
	for _, t := range f.SyncTables {
		key := t.SyncKeyColumnName
		if key == "" {
			key = strings.Join(t.SyncKeyColumns, ",")
		}
		cfg.Tables = append(cfg.Tables, TableConfig{Name: t.TableName, Key: key})
	}
	return cfg
}

func TestFixturesConfigValidation(t *testing.T) {
	t.Parallel()
	dir := fixtureDir(t)
	var file struct {
		FormatVersion int
		Cases         []struct {
			Name                       string
			SchemaSQL                  []string `json:"schemaSql"`
			Config                     fixtureConfig
			InitializeBeforeValidation bool
			BeforeValidationSQL        []string `json:"beforeValidationSql"`
			AfterOpenSQL               []string `json:"afterOpenSql"`
			ExpectedError              *struct {
				Kind            string
				MessageContains []string
			}
			ExpectedQueries []struct {
				Name  string
				SQL   string `json:"sql"`
				Value any
			}
		}
	}
	readFixture(t, &file, dir, "config-validation.json")
	if file.FormatVersion != 1 || len(file.Cases) == 0 {
		t.Fatalf("format %d with %d cases", file.FormatVersion, len(file.Cases))
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			cfg := c.Config.config(filepath.Join(t.TempDir(), "app.db"))
			plain(t, cfg.Path, strings.Join(c.SchemaSQL, ";\n"))
			if c.InitializeBeforeValidation {
				db, err := Open(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			plain(t, cfg.Path, strings.Join(c.BeforeValidationSQL, ";\n"))
			db, err := Open(t.Context(), cfg)
			switch {
			case c.ExpectedError == nil && err != nil:
				t.Fatal(err)
			case c.ExpectedError != nil:
				var bad *local.ConfigError
				if !errors.As(err, &bad) {
					t.Fatalf("got %v, want a ConfigError", err)
				}
				for _, want := range c.ExpectedError.MessageContains {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q lacks %q", err, want)
					}
				}
			default:
				plain(t, cfg.Path, strings.Join(c.AfterOpenSQL, ";\n"))
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for _, q := range c.ExpectedQueries {
				got := ask(t, cfg.Path, q.SQL)
				same(t, q.Name, got, fmt.Sprint(q.Value))
			}
		})
	}
}

// ask answers the first column of the first row, as text.
func ask(t *testing.T, path, sql string) string {
	t.Helper()
	c, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, _, err := c.Prepare(sql)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.Step() {
		t.Fatalf("%s: no row: %v", sql, s.Err())
	}
	return s.ColumnText(0)
}

var sqlComment = regexp.MustCompile(`(?m)^\s*--.*$`)

func TestFixturesWriteTransitions(t *testing.T) {
	t.Parallel()
	dir := fixtureDir(t)
	expected, err := filepath.Glob(filepath.Join(dir, "*", "write-transitions.expected.json"))
	if err != nil || len(expected) == 0 {
		t.Fatalf("no write transitions in %s: %v", dir, err)
	}
	type result struct {
		Name      string
		DirtyRows []struct {
			SchemaName, TableName, KeyJSON, Op string
			BaseRowVersion, DirtyOrdinal       int64
			Payload                            *string
		}
		ApplicationRowCounts map[string]int64
	}
	for _, path := range expected {
		family := filepath.Dir(path)
		var want struct{ Cases []result }
		var run struct {
			Cases []struct {
				Name      string
				SetupSQL  []string `json:"setupSql"`
				ActionSQL []string `json:"actionSql"`
			}
		}
		var cfg fixtureConfig
		readFixture(t, &want, path)
		readFixture(t, &run, family, "write-transitions.json")
		readFixture(t, &cfg, family, "config.json")
		schema, err := os.ReadFile(filepath.Join(family, "schema.sql"))
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Cases) != len(run.Cases) {
			t.Fatalf("%s: %d cases, %d expectations", family, len(run.Cases), len(want.Cases))
		}
		for i, c := range run.Cases {
			t.Run(filepath.Base(family)+"/"+c.Name, func(t *testing.T) {
				t.Parallel()
				config := cfg.config(filepath.Join(t.TempDir(), "app.db"))
				plain(t, config.Path, sqlComment.ReplaceAllString(string(schema), ""))
				db := mustOpen(t, config)
				app, err := db.App().Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, sql := range append(c.SetupSQL, c.ActionSQL...) {
					if _, err := app.ExecContext(t.Context(), sql); err != nil {
						t.Fatalf("%s: %v", sql, err)
					}
				}
				if err := app.Close(); err != nil {
					t.Fatal(err)
				}
				var lines []string
				for _, r := range want.Cases[i].DirtyRows {
					payload := "∅"
					if r.Payload != nil {
						payload = *r.Payload
					}
					line, _ := json.Marshal([]any{r.SchemaName, r.TableName, r.KeyJSON, r.Op, r.BaseRowVersion, payload, r.DirtyOrdinal})
					lines = append(lines, string(line))
				}
				var got []string
				rs, err := db.App().QueryContext(t.Context(), `SELECT schema_name, table_name, key_json, op, base_row_version, COALESCE(payload, '∅'), dirty_ordinal
FROM _sync_dirty_rows ORDER BY dirty_ordinal, table_name, key_json`)
				if err != nil {
					t.Fatal(err)
				}
				defer rs.Close()
				for rs.Next() {
					var schema, table, key, op, payload string
					var base, ordinal int64
					if err := rs.Scan(&schema, &table, &key, &op, &base, &payload, &ordinal); err != nil {
						t.Fatal(err)
					}
					line, _ := json.Marshal([]any{schema, table, key, op, base, payload, ordinal})
					got = append(got, string(line))
				}
				same(t, "dirty rows", got, lines)
				for table, n := range want.Cases[i].ApplicationRowCounts {
					same(t, table, number(t, db, `SELECT COUNT(*) FROM `+quote(table)), n)
				}
			})
		}
	}
}
