package contracts

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
)

// tableConfig is a table to sync as fixtures write it.
type tableConfig struct {
	TableName         string
	SyncKeyColumnName string
	SyncKeyColumns    []string
}

func (c tableConfig) key() string {
	if c.SyncKeyColumnName != "" {
		return c.SyncKeyColumnName
	}
	return strings.Join(c.SyncKeyColumns, ",")
}

const userID = "user-1" // as whom fixtures attach

// client is an engine as the fixtures drive it, and the file that outlives it.
type client struct {
	t      testing.TB
	cfg    oversqlite.Config
	engine *oversqlite.Engine
	// tables and schema are what was configured, for the server's capabilities.
	tables []tableConfig
}

// newClient makes a client with its application's tables, not opened. A request that fails is not repeated.
func newClient(t testing.TB, web http.RoundTripper, appSchema []string, schema string, tables []tableConfig, change ...func(*oversqlite.Config)) *client {
	t.Helper()
	c := &client{t: t, tables: tables, cfg: oversqlite.Config{
		Path: filepath.Join(t.TempDir(), "app.db"), Schema: schema, ServerURL: "http://sync.test" + basePath,
		HTTPClient: &http.Client{Transport: web},
		Retry:      oversqlite.RetryConfig{Initial: time.Millisecond, Max: 2 * time.Millisecond, MaxElapsed: time.Nanosecond},
	}}
	for _, table := range tables {
		c.cfg.Tables = append(c.cfg.Tables, oversqlite.Table{Name: table.TableName, Key: table.key()})
	}
	for _, f := range change {
		f(&c.cfg)
	}
	plain(t, c.cfg.Path, appSchema...)
	t.Cleanup(func() {
		if c.engine != nil {
			_ = c.engine.Close()
		}
	})
	return c
}

// open makes an engine and opens it.
func (c *client) open() error {
	c.t.Helper()
	if c.engine != nil {
		if err := c.engine.Close(); err != nil {
			c.t.Fatal(err)
		}
		c.engine = nil
	}
	e, err := oversqlite.New(c.cfg)
	if err != nil {
		return err
	}
	c.engine = e
	return e.Open(c.t.Context())
}

func (c *client) mustOpen() *client {
	c.t.Helper()
	if err := c.open(); err != nil {
		c.t.Fatalf("open: %v", err)
	}
	return c
}

func (c *client) mustAttach() *client {
	c.t.Helper()
	r, err := c.engine.Attach(c.t.Context(), userID)
	if err != nil {
		c.t.Fatalf("attach: %v", err)
	}
	if _, connected := r.(oversqlite.Connected); !connected {
		c.t.Fatalf("attach: %#v", r)
	}
	return c
}

func (c *client) db() *sql.DB { return c.engine.DB() }

// sql runs statements of a fixture as the application.
func (c *client) sql(statements []string, applyMode bool) {
	c.t.Helper()
	if err := script(context.Background(), c.db(), statements, applyMode); err != nil {
		c.t.Fatal(err)
	}
}

// source is the current source id, as it is on disk.
func (c *client) source() string {
	c.t.Helper()
	s, _ := value(c.t, c.db(), `SELECT current_source_id FROM _sync_attachment_state`).(string)
	return s
}

// resolvers by the names that fixtures use.
var resolvers = map[string]oversqlite.Resolver{
	"":            oversqlite.ServerWins,
	"server_wins": oversqlite.ServerWins,
	"client_wins": oversqlite.ClientWins,
	"keep_local":  oversqlite.ClientWins,
	"keep_merged_user": oversqlite.ResolverFunc(func(context.Context, oversqlite.Conflict) (oversqlite.Resolution, error) {
		return oversqlite.KeepMerged{Payload: json.RawMessage(`{"id":"user-1","name":"Merged"}`)}, nil
	}),
}

// expectError compares an error with what a fixture calls it.
func expectError(t *testing.T, err error, want string) {
	t.Helper()
	if !isError(t, err, want) {
		t.Errorf("got the error %T %v, want %s", err, err, want)
	}
}

func isError(t *testing.T, err error, want string) bool {
	t.Helper()
	mismatch, rebuild := as[*oversqlite.SourceSequenceMismatchError](err), as[*oversqlite.RebuildRequiredError](err)
	var answered *oversqlite.HTTPError
	var rejected *oversqlite.PushRejectedError
	switch want {
	case "", "none":
		return err == nil
	case "any_error":
		return err != nil
	case "http_error":
		return err != nil && !mismatch && !rebuild
	case "source_sequence_mismatch":
		return mismatch
	case "rebuild_required":
		return rebuild
	case "protocol_error":
		// Of the categories PROTOCOL and CONFLICT.
		conflict := errors.As(err, &rejected) && rejected.Code == "push_conflict"
		return !mismatch && !rebuild && (conflict || as[*oversqlite.ProtocolError](err) ||
			as[*oversqlite.InvalidConflictResolutionError](err) || as[*oversqlite.PushConflictRetryExhaustedError](err))
	case "source_recovery_required":
		return as[*oversqlite.SourceRecoveryRequiredError](err)
	case "source_replacement_diverged":
		return as[*oversqlite.SourceReplacementDivergedError](err)
	case "source_replacement_invalid":
		return errors.As(err, &answered) && answered.Code == "source_replacement_invalid"
	case "protocol_version_mismatch":
		return as[*oversqlite.ProtocolVersionMismatchError](err)
	case "invalid_source_recovery_reason":
		// A plain error about the state on disk: private tables hold what the engine never wrote.
		return as[*oversqlite.DatabaseError](err)
	default:
		t.Fatalf("the fixtures name an error that the runner does not know: %q", want)
		return false
	}
}

func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// expectText requires that an error says one of several texts; "" is none of them.
func expectText(t *testing.T, what string, err error, any ...string) {
	t.Helper()
	wanted := false
	for _, text := range any {
		if text == "" {
			continue
		}
		wanted = true
		if err != nil && strings.Contains(err.Error(), text) {
			return
		}
	}
	switch {
	case wanted:
		t.Errorf("%s: got %v, want an error that says one of %q", what, err, any)
	case err != nil:
		t.Errorf("%s: %v", what, err)
	}
}
