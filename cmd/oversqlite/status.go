package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

type statusCmd struct {
	File string `arg:"" type:"path" help:"Database file."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// fileStatus is the sync state of a database file. The JSON names are stable.
type fileStatus struct {
	File       string        `json:"file"`
	Bytes      int64         `json:"bytes"`
	Schema     string        `json:"schema"`
	Binding    string        `json:"binding"` // anonymous or attached
	User       string        `json:"user,omitempty"`
	SourceID   string        `json:"source_id"`
	NextPush   int64         `json:"next_source_bundle_id"`
	Checkpoint int64         `json:"last_bundle_seq_seen"`
	Contract   string        `json:"contract,omitempty"`
	LeaseHeld  bool          `json:"initialization_lease_held"`
	Pending    pendingCounts `json:"pending"`
	Outbox     outboxStatus  `json:"outbox"`
	Shadows    int64         `json:"shadows"` // rows for which the server has something newer than the pending change
	Tables     []tableStatus `json:"tables"`

	RebuildRequired  bool            `json:"rebuild_required"`
	Operation        string          `json:"operation"` // none, remote_replace or source_recovery
	OperationReason  string          `json:"operation_reason,omitempty"`
	ReattachRequired bool            `json:"reattach_required"`
	UploadBlocked    json.RawMessage `json:"upload_blocked,omitempty"`
}

type pendingCounts struct {
	Dirty       int64      `json:"dirty"`
	Outbox      int64      `json:"outbox"`
	Quarantined int64      `json:"quarantined"`
	Oldest      *time.Time `json:"oldest_dirty_at,omitempty"`
}

func (p pendingCounts) total() int64 { return p.Dirty + p.Outbox + p.Quarantined }

type outboxStatus struct {
	State          string `json:"state"` // none, prepared or committed_remote
	SourceBundleID int64  `json:"source_bundle_id,omitempty"`
	BundleSeq      int64  `json:"bundle_seq,omitempty"`
}

type tableStatus struct {
	Name    string `json:"name"`
	Key     string `json:"key"`
	Rows    int64  `json:"rows"`
	Pending int64  `json:"pending"`
}

func (s *statusCmd) Run(ctx context.Context, c *console) error {
	status, err := readStatus(ctx, s.File)
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(c, status)
	}
	status.print(c, time.Now())
	return nil
}

func printJSON(c *console, v any) error {
	e := json.NewEncoder(c.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// readStatus reads the sync state of a file.
func readStatus(ctx context.Context, path string) (*fileStatus, error) {
	in, err := inspect(ctx, path)
	if err != nil {
		return nil, err
	}
	defer in.close()
	if !in.synced() {
		return nil, errNotSynced(path)
	}
	s := &fileStatus{File: path}
	if info, err := os.Stat(path); err == nil {
		s.Bytes = info.Size()
	}
	if err := s.read(ctx, in); err != nil {
		return nil, fmt.Errorf("%s: its sync state cannot be read: %w", path, err)
	}
	return s, nil
}

func (s *fileStatus) read(ctx context.Context, in *inspection) error {
	var oldest, lease, blocked string
	var gaveWay int64
	for _, q := range []struct {
		table, query string
		into         []any
	}{
		{
			"_sync_attachment_state",
			`SELECT current_source_id, binding_state, attached_user_id, schema_name, last_bundle_seq_seen, rebuild_required, pending_initialization_id FROM _sync_attachment_state`,
			[]any{&s.SourceID, &s.Binding, &s.User, &s.Schema, &s.Checkpoint, &s.RebuildRequired, &lease},
		},
		{"_sync_source_state", `SELECT next_source_bundle_id FROM _sync_source_state WHERE source_id = (SELECT current_source_id FROM _sync_attachment_state)`, []any{&s.NextPush}},
		{"_sync_operation_state", `SELECT kind, reason FROM _sync_operation_state`, []any{&s.Operation, &s.OperationReason}},
		{"_sync_outbox_bundle", `SELECT state, source_bundle_id, remote_bundle_seq FROM _sync_outbox_bundle`, []any{&s.Outbox.State, &s.Outbox.SourceBundleID, &s.Outbox.BundleSeq}},
		{"_sync_dirty_rows", `SELECT count(*), coalesce(min(updated_at), '') FROM _sync_dirty_rows`, []any{&s.Pending.Dirty, &oldest}},
		{"_sync_outbox_rows", `SELECT count(*) FROM _sync_outbox_rows`, []any{&s.Pending.Outbox}},
		{"_sync_quarantine", `SELECT count(*) FROM _sync_quarantine`, []any{&s.Pending.Quarantined}},
		{"_sync_displaced", `SELECT count(*) FROM _sync_displaced AS q WHERE ` + notWrittenAgain, []any{&gaveWay}},
		{"_sync_shadow", `SELECT count(*) FROM _sync_shadow`, []any{&s.Shadows}},
		{"_sync_engine_state", `SELECT value FROM _sync_engine_state WHERE name = 'contract'`, []any{&s.Contract}},
		{"_sync_engine_state", `SELECT value = '1' FROM _sync_engine_state WHERE name = 'reattach_required'`, []any{&s.ReattachRequired}},
		{"_sync_engine_state", `SELECT value FROM _sync_engine_state WHERE name = 'upload_blocked'`, []any{&blocked}},
	} {
		if err := in.one(ctx, q.table, q.query, q.into...); err != nil {
			return fmt.Errorf("%s: %w", q.table, err)
		}
	}
	s.LeaseHeld = lease != ""
	s.Pending.Quarantined += gaveWay
	if json.Valid([]byte(blocked)) {
		s.UploadBlocked = json.RawMessage(blocked)
	}
	if at, err := time.Parse(time.RFC3339, oldest); err == nil {
		s.Pending.Oldest = &at
	}
	return s.readTables(ctx, in)
}

func (s *fileStatus) readTables(ctx context.Context, in *inspection) error {
	schema, keys, err := in.managed(ctx)
	if err != nil {
		return err
	}
	if s.Schema == "" {
		s.Schema = schema // an anonymous database knows it by its tables only
	}
	pending := map[string]int64{}
	for _, table := range []string{"_sync_dirty_rows", "_sync_outbox_rows", "_sync_quarantine"} {
		if !in.tables[table] {
			continue
		}
		err := in.each(ctx, `SELECT table_name, count(*) FROM `+table+` GROUP BY table_name`, func(rows *sql.Rows) error {
			var name string
			var n int64
			err := rows.Scan(&name, &n)
			pending[name] += n
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(keys) {
		t := tableStatus{Name: name, Key: keys[name], Pending: pending[name]}
		if err := in.tx.QueryRowContext(ctx, `SELECT count(*) FROM `+quoted(name)).Scan(&t.Rows); err != nil {
			return err
		}
		s.Tables = append(s.Tables, t)
	}
	return nil
}

// quoted quotes an SQL identifier.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// print writes the status for people.
func (s *fileStatus) print(c *console, now time.Time) {
	c.say("%s (%s)", s.File, bytesText(s.Bytes))
	if s.Binding == "attached" {
		c.say("attached to %s, schema %s, applied up to bundle %d", s.User, s.Schema, s.Checkpoint)
	} else {
		c.say("not attached to any user, schema %s", s.Schema)
	}
	c.say("source %s, next push is number %d", s.SourceID, s.NextPush)
	c.say("")
	if s.Pending.total() == 0 && !s.LeaseHeld {
		c.say("nothing pending")
	} else {
		c.say("pending: %s", s.pendingText(now))
	}
	for _, line := range s.attention() {
		c.say("! %s", line)
	}
	c.say("")
	for _, t := range s.Tables {
		line := fmt.Sprintf("%-24s %8d rows", t.Name, t.Rows)
		if t.Pending > 0 {
			line += fmt.Sprintf("  %8d pending", t.Pending)
		}
		c.say("%s", line)
	}
}

// pendingText says what is pending.
func (s *fileStatus) pendingText(now time.Time) string {
	var parts []string
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(s.Pending.Dirty, "changed")
	switch s.Outbox.State {
	case "committed_remote":
		add(s.Pending.Outbox, fmt.Sprintf("committed by the server as bundle %d, not yet confirmed here", s.Outbox.BundleSeq))
	default:
		add(s.Pending.Outbox, "frozen for the push under way")
	}
	add(s.Pending.Quarantined, "in quarantine")
	if s.LeaseHeld {
		parts = append(parts, "a lease to seed the account")
	}
	text := strings.Join(parts, ", ")
	if s.Pending.Oldest != nil {
		text += fmt.Sprintf("; the oldest for %s", max(0, now.Sub(*s.Pending.Oldest)).Round(time.Second))
	}
	return text
}

// attention lists what somebody or something has to resolve.
func (s *fileStatus) attention() (lines []string) {
	switch s.Operation {
	case "remote_replace":
		lines = append(lines, "its rows are being replaced by the server's; the next attach goes on with it")
	case "source_recovery":
		lines = append(lines, "its writer stream is no longer valid on the server ("+s.OperationReason+"): it needs a rebuild; local changes are kept")
	}
	if s.RebuildRequired && s.Operation != "source_recovery" {
		lines = append(lines, "it will be rebuilt from a snapshot at the next sync; local changes are kept")
	}
	if s.ReattachRequired {
		lines = append(lines, "the server lost or reset the account's rows: attach again; local changes are kept")
	}
	if s.UploadBlocked != nil {
		var b struct{ Code, Message, Table string }
		_ = json.Unmarshal(s.UploadBlocked, &b)
		line := "uploads are held back: " + b.Code
		if b.Table != "" {
			line += " in table " + b.Table
		}
		if b.Message != "" {
			line += ": " + b.Message
		}
		lines = append(lines, line)
	}
	if s.Shadows > 0 {
		lines = append(lines, fmt.Sprintf("%d pending changes meet newer rows of the server: the next sync resolves them", s.Shadows))
	}
	return lines
}

// bytesText renders a size for people.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
