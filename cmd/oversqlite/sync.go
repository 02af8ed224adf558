package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/transport"
)

type syncCmd struct {
	attached
	AutoRecover bool `help:"Replace the file's identity when the server says that another copy of it is in use; see rebuild."`
}

// attached is a file that is to be attached to its user.
type attached struct {
	File       string        `arg:"" type:"path" help:"Database file. It must exist, and hold the tables."`
	URL        string        `required:"" env:"OVERSQLITE_URL" help:"Base URL of the server."`
	Token      string        `env:"OVERSQLITE_TOKEN" help:"Bearer token. Better given in the environment: other users of the machine can see a flag."`
	User       string        `help:"User to attach to. Not needed when the file is attached already."`
	Schema     string        `help:"Schema on the server. Not needed when the file has been synced before."`
	Table      []string      `placeholder:"NAME:KEY" help:"Table to sync, with its key column; repeat for each. Not needed when the file has been synced before."`
	MayReplace bool          `help:"Attach a file that holds rows of its own, though the server replaces them when the account has any already."`
	GiveUp     time.Duration `default:"1m" help:"How long to keep trying while the server cannot be reached (${default})."`
}

// String keeps the token out of whatever prints the command.
func (s *attached) String() string { return "sync " + s.File }

func (s *syncCmd) Run(ctx context.Context, c *console) error {
	return s.with(ctx, c, s.AutoRecover, func(engine *oversqlite.Engine, done func()) error {
		before, err := engine.PendingSyncStatus(ctx)
		if err != nil {
			return err
		}
		report, err := engine.Sync(ctx)
		if err != nil {
			return err
		}
		done()
		s.report(c, before, report)
		return nil
	})
}

// with opens an engine on the file, attaches it and runs fn, whose done ends the display of progress.
func (s *attached) with(ctx context.Context, c *console, recover bool, fn func(engine *oversqlite.Engine, done func()) error) (err error) {
	known, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	tables, err := s.tables(known)
	if err != nil {
		return err
	}
	engine, err := oversqlite.New(oversqlite.Config{
		Path: s.File, Schema: s.Schema, Tables: tables, ServerURL: s.URL,
		HTTPClient: withToken(s.Token), AutoRecover: recover,
		Retry: oversqlite.RetryConfig{MaxElapsed: s.GiveUp},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	if err := engine.Open(ctx); err != nil {
		return err
	}
	if err := s.attach(ctx, c, engine); err != nil {
		return err
	}
	p := follow(c, engine)
	defer p.stop()
	return fn(engine, p.stop)
}

// known is what the file itself says about how it is synced.
type known struct {
	schema string
	keys   map[string]string // table to key column
	user   string
	rows   int64 // rows that would be lost if the account has rows of its own
}

// prepare looks into the file and completes what was not said on the command line.
func (s *attached) prepare(ctx context.Context) (*known, error) {
	in, err := inspect(ctx, s.File)
	if err != nil {
		return nil, err
	}
	defer in.close()
	k := &known{}
	var binding string
	if err := in.one(ctx, "_sync_attachment_state", `SELECT binding_state, attached_user_id FROM _sync_attachment_state`, &binding, &k.user); err != nil {
		return nil, err
	}
	if k.schema, k.keys, err = in.managed(ctx); err != nil {
		return nil, err
	}
	if s.Schema == "" {
		s.Schema = k.schema
	}
	switch {
	case s.Schema == "":
		return nil, &usageError{problem: s.File + " was never synced, so --schema is needed", hint: "Name the server's schema, and each table with --table NAME:KEY."}
	case binding != "attached" && s.User == "":
		return nil, &usageError{problem: s.File + " is attached to no user, so --user is needed"}
	case s.User == "":
		s.User = k.user
	}
	if binding == "attached" || s.MayReplace {
		return k, nil
	}
	tables, err := s.tables(k)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if !in.tables[t.Name] {
			continue // the engine says what is wrong
		}
		var n int64
		if err := in.tx.QueryRowContext(ctx, `SELECT count(*) FROM `+quoted(t.Name)).Scan(&n); err != nil {
			return nil, err
		}
		k.rows += n
	}
	if k.rows > 0 {
		return nil, &usageError{
			problem: fmt.Sprintf("%s is attached to no user yet and holds %d rows of its own", s.File, k.rows),
			hint:    "A new account is seeded with them; if the account has rows already, they REPLACE these. Pass --may-replace to go on.",
		}
	}
	return k, nil
}

// tables returns the tables to sync: those on the command line, else those the file was synced with.
func (s *attached) tables(k *known) (tables []oversqlite.Table, err error) {
	for _, spec := range s.Table {
		name, key, ok := strings.Cut(spec, ":")
		if !ok || name == "" || key == "" {
			return nil, &usageError{problem: fmt.Sprintf("--table %s: give the table and its key column, as in --table users:id", spec)}
		}
		tables = append(tables, oversqlite.Table{Name: name, Key: key})
	}
	if len(tables) > 0 {
		return tables, nil
	}
	for _, name := range sortedKeys(k.keys) {
		tables = append(tables, oversqlite.Table{Name: name, Key: k.keys[name]})
	}
	if len(tables) == 0 {
		return nil, &usageError{problem: s.File + " was never synced, so its tables have to be named: --table NAME:KEY"}
	}
	return tables, nil
}

// attach attaches the file, and waits while another device holds the right to seed the account.
func (s *attached) attach(ctx context.Context, c *console, engine *oversqlite.Engine) error {
	deadline := time.Now().Add(s.GiveUp)
	for {
		p := follow(c, engine)
		result, err := engine.Attach(ctx, s.User)
		p.stop() // what is said next must not run into it
		if err != nil {
			return err
		}
		switch r := result.(type) {
		case oversqlite.Connected:
			c.note("attached: %s", attachText(r))
			return nil
		case oversqlite.RetryLater:
			if time.Now().Add(r.RetryAfter).After(deadline) {
				return &failure{
					code: exitUnreachable, err: errors.New("oversqlite: another device is seeding this account"),
					hint: fmt.Sprintf("Try again in %s; nothing was changed.", r.RetryAfter.Round(time.Second)),
				}
			}
			c.note("another device is seeding this account; trying again in %s", r.RetryAfter.Round(time.Second))
			if err := sleep(ctx, r.RetryAfter); err != nil {
				return err
			}
		}
	}
}

func attachText(r oversqlite.Connected) string {
	switch r.Outcome {
	case oversqlite.UsedRemoteState:
		text := "the server's rows are here now"
		if r.Restore != nil {
			text = fmt.Sprintf("%d rows from the server, up to bundle %d", r.Restore.RowCount, r.Restore.BundleSeq)
			if r.Restore.DroppedLocalRows > 0 {
				text += fmt.Sprintf("; they replaced %d local changes", r.Restore.DroppedLocalRows)
			}
		}
		return text
	case oversqlite.SeededFromLocal:
		return "the account is new, this file seeds it"
	case oversqlite.StartedEmpty:
		return "the account is new and empty"
	default:
		return "as before"
	}
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// report tells what a sync did.
func (s *syncCmd) report(c *console, before oversqlite.PendingSyncStatus, r oversqlite.SyncReport) {
	pushed := before.PendingRowCount - r.Status.Pending.PendingRowCount
	switch r.Push {
	case oversqlite.Committed:
		c.say("pushed %d changes", max(0, pushed))
	default:
		c.say("nothing to push")
	}
	switch r.Remote {
	case oversqlite.AppliedIncremental:
		c.say("pulled up to bundle %d", r.Status.LastBundleSeqSeen)
	case oversqlite.AppliedSnapshot:
		c.say("rebuilt from a snapshot, up to bundle %d", r.Status.LastBundleSeqSeen)
	default:
		c.say("nothing new on the server (bundle %d)", r.Status.LastBundleSeqSeen)
	}
	if n := r.Status.Pending.PendingRowCount; n > 0 {
		c.say("%d changes are pending: written meanwhile, or held back", n)
	}
}

// withToken returns a client that sends a bearer token, to the server it was made for only: the engine does not
// follow redirects to other hosts.
func withToken(token string) *http.Client {
	client := *transport.DefaultHTTPClient()
	if token != "" {
		client.Transport = bearer{token: token, next: client.Transport}
	}
	return &client
}

// bearer adds a bearer token to every request.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}
