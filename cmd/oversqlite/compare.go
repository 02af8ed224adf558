package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/oversqlite/oversqlite/wire"
)

// compare ends the story: the same rows everywhere, or an error that tells where not.
func (s *stage) compare(ctx context.Context, _ *cast) error {
	s.title("All quiet: the rows of both devices and of the server are compared")
	contract, err := wire.ContractByName(s.contract)
	if err != nil {
		return err
	}
	differences := 0
	for _, t := range businessTables() {
		described, err := describe(ctx, s.laptop.engine.DB(), t.Name, t.Key)
		if err != nil {
			return err
		}
		laptop, err := localRows(ctx, s.laptop.engine.DB(), described)
		if err != nil {
			return err
		}
		phone, err := localRows(ctx, s.phone.engine.DB(), described)
		if err != nil {
			return err
		}
		payloads, err := s.server.Rows(ctx, user, "business."+t.Name)
		if err != nil {
			return err
		}
		decoder := contract.NewRowDecoder(described)
		server := make([]string, len(payloads))
		for i, p := range payloads {
			values, err := decoder.Decode(p)
			if err != nil {
				return err
			}
			server[i] = rendered(values)
		}
		slices.Sort(server)
		verdict := "the same"
		if !slices.Equal(laptop, phone) || !slices.Equal(laptop, server) {
			verdict = "DIFFERENT"
			differences++
		}
		s.tell("%-14s laptop %4d   phone %4d   server %4d   %s", t.Name, len(laptop), len(phone), len(server), verdict)
	}
	if differences > 0 {
		return &failure{code: exitFailed, err: fmt.Errorf("oversqlite: %s differ", count(int64(differences), "table"))}
	}
	s.tell("Every row is the same in all three places.")
	return nil
}

// describe reads how a local table's columns travel.
func describe(ctx context.Context, db *sql.DB, name, key string) (*wire.Table, error) {
	t := &wire.Table{Schema: "business", Name: name}
	rows, err := db.QueryContext(ctx, `SELECT c.name, c.type, c.name = ?2 OR EXISTS (SELECT 1 FROM pragma_foreign_key_list(?1) f WHERE f."from" = c.name)
FROM pragma_table_info(?1) c ORDER BY c.cid`, name, key)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var column, declared string
		var reference bool
		if err := rows.Scan(&column, &declared, &reference); err != nil {
			return nil, err
		}
		if column == key {
			t.Key = len(t.Columns)
		}
		t.Columns = append(t.Columns, wire.Column{Name: column, Kind: wire.KindOf(declared, reference)})
	}
	return t, rows.Err()
}

// localRows renders every row of a local table, sorted.
func localRows(ctx context.Context, db *sql.DB, t *wire.Table) (all []string, err error) {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = "quote(" + quoted(c.Name) + ")" // SQLite's own exact spelling of any value
	}
	rows, err := db.QueryContext(ctx, `SELECT `+strings.Join(names, `||','||`)+` FROM `+quoted(t.Name))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	slices.Sort(all)
	return all, rows.Err()
}

// rendered spells values as SQLite's quote() does.
func rendered(values []wire.Value) string {
	parts := make([]string, len(values))
	for i, v := range values {
		switch v.Type {
		case wire.Null:
			parts[i] = "NULL"
		case wire.Integer:
			parts[i] = strconv.FormatInt(v.Int, 10)
		case wire.Real:
			parts[i] = strconv.FormatFloat(v.Float, 'g', -1, 64)
		case wire.Text:
			parts[i] = "'" + strings.ReplaceAll(string(v.Bytes), "'", "''") + "'"
		case wire.Blob:
			parts[i] = fmt.Sprintf("X'%X'", v.Bytes)
		}
	}
	return strings.Join(parts, ",")
}
