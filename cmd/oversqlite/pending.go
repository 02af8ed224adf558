package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"text/tabwriter"
)

type pendingCmd struct {
	File  string `arg:"" type:"path" help:"Database file."`
	JSON  bool   `name:"json" help:"Print JSON."`
	Limit int    `default:"50" help:"List at most so many changes; 0: all (${default})."`
}

// pendingChange is a local change that the server does not have. Contents are not shown: they may be private.
type pendingChange struct {
	Where   string `json:"where"` // outbox, dirty or quarantine
	Op      string `json:"op"`
	Table   string `json:"table"`
	Key     string `json:"key"`
	Base    int64  `json:"base_row_version"`
	Changed string `json:"changed_at,omitempty"`
	Code    string `json:"code,omitempty"` // why a row is in quarantine
	Message string `json:"message,omitempty"`
}

type pendingList struct {
	Total   int64           `json:"total"`
	Changes []pendingChange `json:"changes"`
}

func (p *pendingCmd) Run(ctx context.Context, c *console) error {
	if p.Limit < 0 {
		return &usageError{problem: "--limit must not be negative"}
	}
	list, err := readPending(ctx, p.File, p.Limit)
	if err != nil {
		return err
	}
	if p.JSON {
		return printJSON(c, list)
	}
	list.print(c)
	return nil
}

// Changes of the outbox come first, they go to the server first; of a row that was changed again since its push was
// frozen both changes are listed, and counted.
const (
	outboxChanges = `SELECT 'outbox', op, table_name, key_json, base_row_version, '', '', '' FROM _sync_outbox_rows ORDER BY row_ordinal`
	dirtyChanges  = `SELECT 'dirty', op, table_name, key_json, base_row_version, updated_at, '', '' FROM _sync_dirty_rows ORDER BY dirty_ordinal`
	inQuarantine  = `SELECT 'quarantine', op, table_name, key_json, base_row_version, updated_at, code, message FROM _sync_quarantine AS q WHERE true ORDER BY id`
	displaced     = `SELECT 'quarantine', op, table_name, key_json, base_row_version, updated_at, code, message FROM _sync_displaced AS q WHERE ` + notWrittenAgain + ` ORDER BY id`
)

// readPending reads the pending changes of a file, at most limit of them, and counts them all.
func readPending(ctx context.Context, path string, limit int) (*pendingList, error) {
	in, err := inspect(ctx, path)
	if err != nil {
		return nil, err
	}
	defer in.close()
	if !in.synced() {
		return nil, errNotSynced(path)
	}
	list := &pendingList{Changes: []pendingChange{}}
	for _, source := range []struct{ table, query string }{
		{"_sync_outbox_rows", outboxChanges}, {"_sync_dirty_rows", dirtyChanges}, {"_sync_quarantine", inQuarantine}, {"_sync_displaced", displaced},
	} {
		if !in.tables[source.table] {
			continue
		}
		var n int64
		if err := in.tx.QueryRowContext(ctx, `SELECT count(*) FROM (`+source.query+`)`).Scan(&n); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list.Total += n
		query := source.query
		if limit > 0 {
			room := limit - len(list.Changes)
			if room == 0 {
				continue
			}
			query += fmt.Sprintf(" LIMIT %d", room)
		}
		if err := in.each(ctx, query, list.add); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return list, nil
}

func (l *pendingList) add(rows *sql.Rows) error {
	var p pendingChange
	err := rows.Scan(&p.Where, &p.Op, &p.Table, &p.Key, &p.Base, &p.Changed, &p.Code, &p.Message)
	l.Changes = append(l.Changes, p)
	return err
}

// print writes the list for people.
func (l *pendingList) print(c *console) {
	if l.Total == 0 {
		c.say("nothing pending")
		return
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OP\tTABLE\tKEY\tBASE\tCHANGED\tSTATE")
	for _, p := range l.Changes {
		state := map[string]string{"outbox": "being pushed", "dirty": "changed", "quarantine": "set aside"}[p.Where]
		if p.Code != "" {
			state += ": " + strings.TrimSpace(p.Code+" "+p.Message)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", p.Op, p.Table, p.Key, p.Base, p.Changed, state)
	}
	_ = w.Flush()
	if more := l.Total - int64(len(l.Changes)); more > 0 {
		c.say("… and %d more; --limit 0 lists all", more)
	}
}
