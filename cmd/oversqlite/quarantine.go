package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/oversqlite/oversqlite"
)

// quarantineCmd looks after the changes of a database file that were set aside.
type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" help:"List the changes that were set aside, and why; also while an engine has the file open."`
	Retry   quarantineRetryCmd   `cmd:"" help:"Make changes ordinary ones again: the next sync pushes them."`
	Discard quarantineDiscardCmd `cmd:"" help:"Give changes up: their rows become what the server has."`
}

type quarantineListCmd struct {
	File string `arg:"" type:"path" help:"Database file."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// setAside is a change in quarantine. Contents are not shown: they may be private.
type setAside struct {
	ID        int64  `json:"id"`
	Op        string `json:"op"`
	Table     string `json:"table"`
	Key       string `json:"key"`
	Base      int64  `json:"base_row_version"`
	Code      string `json:"code"`
	Message   string `json:"message,omitempty"`
	Origin    string `json:"origin"`
	Attempts  int64  `json:"attempts"`
	Displaced bool   `json:"displaced"` // the row holds what the server has
	Since     string `json:"quarantined_at"`
}

func (q *quarantineListCmd) Run(ctx context.Context, c *console) error {
	list, err := readQuarantine(ctx, q.File)
	if err != nil {
		return err
	}
	if q.JSON {
		return printJSON(c, list)
	}
	if len(list) == 0 {
		c.say("nothing in quarantine")
		return nil
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tOP\tTABLE\tKEY\tSINCE\tWHY")
	for _, s := range list {
		why := s.Code
		if s.Message != "" {
			why += ": " + s.Message
		}
		if s.Displaced {
			why += " (its row holds what the server has)"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Op, s.Table, s.Key, s.Since, why)
	}
	_ = w.Flush()
	c.note("Repair a row by writing it; or: oversqlite quarantine retry FILE ID…; oversqlite quarantine discard FILE ID…")
	return nil
}

// quarantined are the queries that list what is in quarantine, by the table that they need.
var quarantined = []struct{ table, query string }{
	{"_sync_quarantine", `SELECT id, op, table_name, key_json, base_row_version, code, message, origin, attempts, 0, created_at FROM _sync_quarantine ORDER BY id`},
	{"_sync_displaced", `SELECT id, op, table_name, key_json, base_row_version, code, message, origin, attempts, 1, created_at FROM _sync_displaced AS q
WHERE ` + notWrittenAgain + ` ORDER BY id`},
}

// notWrittenAgain is the condition that a displaced change has not been overtaken by a newer one of its row.
const notWrittenAgain = `NOT EXISTS (SELECT 1 FROM _sync_dirty_rows d WHERE d.schema_name = q.schema_name AND d.table_name = q.table_name AND d.key_json = q.key_json)`

func readQuarantine(ctx context.Context, path string) ([]setAside, error) {
	in, err := inspect(ctx, path)
	if err != nil {
		return nil, err
	}
	defer in.close()
	if !in.synced() {
		return nil, errNotSynced(path)
	}
	list := []setAside{}
	for _, q := range quarantined {
		if !in.tables[q.table] {
			continue
		}
		if err := in.each(ctx, q.query, func(rows *sql.Rows) error {
			var s setAside
			err := rows.Scan(&s.ID, &s.Op, &s.Table, &s.Key, &s.Base, &s.Code, &s.Message, &s.Origin, &s.Attempts, &s.Displaced, &s.Since)
			list = append(list, s)
			return err
		}); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return list, nil
}

// which says which changes a verb concerns.
type which struct {
	File string  `arg:"" type:"path" help:"Database file. No engine may have it open."`
	ID   []int64 `arg:"" optional:"" help:"Changes, as quarantine list numbers them."`
	All  bool    `help:"All of them."`
}

type (
	quarantineRetryCmd   struct{ which }
	quarantineDiscardCmd struct{ which }
)

func (q *quarantineRetryCmd) Run(ctx context.Context, c *console) error {
	return q.each(ctx, func(e *oversqlite.Engine, ids []int64) error {
		if err := e.RetryQuarantined(ctx, ids...); err != nil {
			return err
		}
		c.say("%d changes wait for the next sync", len(ids))
		return nil
	})
}

func (q *quarantineDiscardCmd) Run(ctx context.Context, c *console) error {
	return q.each(ctx, func(e *oversqlite.Engine, ids []int64) error {
		if err := e.DiscardQuarantined(ctx, ids...); err != nil {
			return err
		}
		c.say("%d changes given up", len(ids))
		return nil
	})
}

// nowhere stands for the server of an engine that is opened, but never attached or synced.
const nowhere = "http://server.invalid"

// each opens the file as an engine and has do deal with the changes that were named.
func (q *which) each(ctx context.Context, do func(*oversqlite.Engine, []int64) error) (err error) {
	if q.All == (len(q.ID) > 0) {
		return &usageError{problem: "name the changes, or say --all", hint: "oversqlite quarantine list FILE shows their ids."}
	}
	list, err := readQuarantine(ctx, q.File)
	if err != nil {
		return err
	}
	ids := q.ID
	if q.All {
		for _, s := range list {
			ids = append(ids, s.ID)
		}
	}
	in, err := inspect(ctx, q.File)
	if err != nil {
		return err
	}
	schema, keys, err := in.managed(ctx)
	in.close()
	if err != nil {
		return err
	}
	cfg := oversqlite.Config{Path: q.File, Schema: schema, ServerURL: nowhere}
	for _, name := range sortedKeys(keys) {
		cfg.Tables = append(cfg.Tables, oversqlite.Table{Name: name, Key: keys[name]})
	}
	engine, err := oversqlite.New(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	if err := engine.Open(ctx); err != nil {
		return err
	}
	return do(engine, ids)
}
