package oversqlite

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/sqlite"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// Config says what an engine syncs, where to, and how. Path, Schema, Tables and ServerURL are required; the zero value
// of every other field is its default.
type Config struct {
	// Path is the database file. It is created when absent; its directory must exist. One engine a file, in this process
	// and on this machine. The application's own tables live in the same file. Databases in memory are not supported.
	Path string

	// Schema is the name of the schema on the server to which all of Tables belong, for example "business". A database
	// that has synced under one name cannot be attached under another.
	Schema string

	// Tables are the tables to sync. Those they reference by foreign key must be among them.
	Tables []Table

	// ServerURL is the base URL of the server, http or https. A path in it is kept: with "https://example.com/v1" the
	// client asks for /v1/sync/capabilities.
	ServerURL string

	// HTTPClient makes all requests and owns authentication, proxies and TLS: it has to add the user's credentials to
	// each request, and may refresh them. Its Timeout, if any, bounds each request.
	// Nil: a client shared by the process, with no total timeout and without credentials.
	HTTPClient *http.Client

	// Contract is the dialect of the protocol to speak. Defaults to ContractAuto: the one that the server's capabilities
	// reveal. A server that speaks another one than is asked for here is a ContractChangedError, and nothing is done.
	Contract Contract

	// Resolver decides conflicts: a local change meets a newer one of the server's. Defaults to ServerWins. It is called
	// from goroutines of the engine, one at a time, never within a transaction.
	Resolver Resolver

	// ResolveTimeout bounds one call of Resolver. A resolver that takes longer fails the push with an
	// InvalidConflictResolutionError. Defaults to 30 seconds.
	ResolveTimeout time.Duration

	// AutoRecover has a call that finds the database's identity to be at its end on the server (SourceRecoveryReason)
	// replace it and go on: Sync, PushPending, PullToStable and SyncThenDetach do it once a call. Otherwise they answer
	// *SourceRecoveryRequiredError until Rebuild is called. Local changes are kept either way. Defaults to false: that
	// a file was copied or restored is something an application may want to know before it pushes.
	AutoRecover bool
	// PullPolicy says what a pull does while local changes are pending. Defaults to PullAroundDirty.
	PullPolicy PullPolicy

	// PoisonPolicy says what becomes of changes that the server refuses for good, or that cannot be sent at all. Defaults
	// to PoisonHold.
	PoisonPolicy PoisonPolicy

	// Synchronous says when a write of the application's counts as committed. Defaults to SynchronousFull. It does not
	// concern what the engine itself must have on disk before it tells the server.
	Synchronous Synchronous

	// BusyTimeout is how long a transaction of the engine waits for one that the application holds open over DB.
	// Write does not count: it takes turns with the engine. Defaults to 10 seconds.
	BusyTimeout time.Duration

	// Retry says how requests that fail for a passing reason are repeated.
	Retry RetryConfig

	// Limits bounds what one request carries, what one answer may hold and what is frozen into one push.
	Limits Limits

	// Logger gets what is worth an operator's attention: see the package documentation for what is in it and what is not.
	// Give it the fields by which you tell your engines apart; the engine adds only a number. Nil: silent.
	Logger *zap.Logger

	// Metrics is told what the engine does, for counting. One may serve many engines. Nil: nothing is measured, at no cost.
	Metrics *Metrics

	// System runs the engine's actors. Nil: one shared by all engines of the process. It must outlive the engine.
	System *actor.ActorSystem
}

// Table is a table to sync.
type Table struct {
	Name string // of the table, here and on the server; not qualified by a schema
	Key  string // its one primary-key column: NOT NULL, TEXT, or BLOB holding the 16 bytes of a UUID
}

// Contract names a dialect of the protocol.
type Contract string

// The dialects of the protocol.
const (
	ContractAuto    Contract = "auto"    // the one that the server's capabilities reveal
	ContractClassic Contract = "classic" // numbers travel as JSON numbers
	ContractUniform Contract = "uniform" // every number travels as a string
)

// PullPolicy says what a pull does while local changes are pending.
type PullPolicy string

// The pull policies.
const (
	// PullAroundDirty applies what the server sends around pending local changes, which are never overwritten.
	PullAroundDirty PullPolicy = "around_dirty"
	// PullStrict refuses with DirtyStateRejectedError.
	PullStrict PullPolicy = "strict"
)

// PoisonPolicy says what becomes of rows that the server refuses for good.
type PoisonPolicy string

// The poison policies.
const (
	// PoisonHold keeps everything pending and reports it: PushPending and Sync end with PushRejectedError,
	// Status.UploadBlocked says why, and downloads go on. The next push tries again: change or remove the row before.
	PoisonHold PoisonPolicy = "hold"
	// PoisonIsolate finds the offending changes, sets just those aside, and pushes the rest: see Engine.Quarantined. It
	// finds k of them among n with O(k log n) pushes. A server that refuses whatever it is sent is taken for what it is:
	// then nothing is set aside, and uploads are held as by PoisonHold.
	PoisonIsolate PoisonPolicy = "isolate"
)

// Synchronous says when a write of the application's counts as committed.
type Synchronous string

// The settings of PRAGMA synchronous for the application's connections.
const (
	// SynchronousFull: when it is on disk. It survives a power cut.
	SynchronousFull Synchronous = "full"
	// SynchronousNormal: when it is handed to the operating system. A power cut may take the newest writes back; it never
	// tears one.
	SynchronousNormal Synchronous = "normal"
)

// RetryConfig says how requests that fail for a passing reason (no connection, a timeout, 429, 5xx) are repeated: after
// delays that grow exponentially, scattered at random, and are never shorter than the server's Retry-After, up to a day. A server
// that says it serves nobody is asked again, by one engine of the process, after an hour at the latest.
type RetryConfig struct {
	Initial    time.Duration // the first delay; defaults to 500 ms
	Max        time.Duration // the longest delay; a server may ask for more. Defaults to 1 minute
	Multiplier float64       // growth from one delay to the next, at least 1; defaults to 2
	Jitter     float64       // how far a delay may be off its nominal value, 0 to 1; defaults to 0.3, negative: 0
	// MaxElapsed is how long a call goes on failing, counted from the first failure since it last made progress, before
	// it gives up with a RetryExhaustedError. Defaults to 2 minutes; negative: it goes on until its context ends.
	MaxElapsed time.Duration
}

// Limits bounds what one request carries, what one answer may hold and what is frozen into one push. What a server
// advertises as its own maximum is never exceeded. Numbers of rows and bundles are counts, the rest is bytes. Zero
// fields take their defaults.
type Limits struct {
	PushRows       int64 // rows frozen into one push; default: as many as the server takes
	PushBytes      int64 // bytes of their payloads; default: as many as the server takes
	PushChunkRows  int64 // rows in one upload request; default: the server's default, else 1000
	PushChunkBytes int64 // bytes of their payloads; default 4 MiB
	CommittedRows  int64 // rows of a committed push fetched with one request; default: the server's default, else 1000
	PullBundles    int64 // bundles in one answer to a pull; default 1000. Fewer are asked for when they are too large
	SnapshotRows   int64 // rows of a snapshot fetched with one request; default: the server's default (classic), else 1000
	SnapshotBytes  int64 // bytes of these rows (uniform); default 4 MiB, or the largest row that the server sends

	ConflictsAtOnce int // conflicts put to the resolver between two transactions; default 64

	PullBodyBytes     int64 // an answer to a pull; default 16 MiB
	RowsBodyBytes     int64 // a page of a committed push; default 16 MiB
	SnapshotBodyBytes int64 // a page of a snapshot (classic); default 16 MiB
	OtherBodyBytes    int64 // any other answer; default 1 MiB

	// RequestIdle ends a request on which nothing is sent and nothing arrives for so long. A slow transfer is not cut.
	// Defaults to 2 minutes; negative: never.
	RequestIdle time.Duration
}

// withDefaults fills in what was left out. It is the one place that does.
func (c Config) withDefaults() Config {
	fill(&c.Contract, ContractAuto)
	fill(&c.PullPolicy, PullAroundDirty)
	fill(&c.PoisonPolicy, PoisonHold)
	fill(&c.Synchronous, SynchronousFull)
	fill(&c.ResolveTimeout, 30*time.Second)
	fill(&c.BusyTimeout, 10*time.Second)
	fill(&c.Retry.Initial, 500*time.Millisecond)
	fill(&c.Retry.Max, time.Minute)
	fill(&c.Retry.Multiplier, 2)
	fill(&c.Retry.Jitter, 0.3)
	fill(&c.Retry.MaxElapsed, 2*time.Minute)
	if c.Resolver == nil {
		c.Resolver = ServerWins
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// fill gives *p the value d when it has its zero value.
func fill[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}

// validate refuses what cannot work whatever the database and the server look like. It is the one place that does;
// what depends on the database's schema is checked by Open.
func (c *Config) validate() error {
	bad := func(field, format string, args ...any) error {
		return &ConfigError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case c.Path == "":
		return bad("Path", "it is empty: name the database file")
	case c.Path == ":memory:" || strings.HasPrefix(c.Path, "file:"):
		return bad("Path", "%q is no file name: databases in memory and URIs are not supported", c.Path)
	case strings.ContainsRune(c.Path, 0):
		return bad("Path", "it contains a NUL")
	case c.Schema == "":
		return bad("Schema", "it is empty: name the server's schema")
	case strings.ToLower(c.Schema) != c.Schema:
		return bad("Schema", "%q is not in lower case: schema names of the protocol are", c.Schema)
	case len(c.Tables) == 0:
		return bad("Tables", "it is empty: name at least one table to sync")
	case c.ServerURL == "":
		return bad("ServerURL", "it is empty: name the server's base URL")
	}
	if err := c.validateTables(); err != nil {
		return err
	}
	if err := c.validateChoices(bad); err != nil {
		return err
	}
	return c.validateNumbers(bad)
}

func (c *Config) validateTables() error {
	seen := map[string]bool{}
	for _, t := range c.Tables {
		bad := func(reason string) error { return &ConfigError{Field: "Tables", Table: t.Name, Reason: reason} }
		name := strings.ToLower(t.Name)
		switch {
		case t.Name == "":
			return bad("a table has no name")
		case strings.Contains(t.Name, "."):
			return bad("the name must not include a schema qualifier: Config.Schema says which schema the tables belong to")
		case strings.HasPrefix(name, "_sync_"):
			return bad("names that begin with _sync_ are the engine's own")
		case t.Key == "":
			return bad("the sync key is missing: name the primary-key column in Key (syncKeyColumnName or syncKeyColumns explicitly)")
		case seen[name]:
			return bad("the table is listed twice")
		}
		seen[name] = true
	}
	return nil
}

func (c *Config) validateChoices(bad func(field, format string, args ...any) error) error {
	switch c.Contract {
	case ContractAuto, ContractClassic, ContractUniform:
	default:
		return bad("Contract", "%q is none of %q, %q, %q", c.Contract, ContractAuto, ContractClassic, ContractUniform)
	}
	switch c.PullPolicy {
	case PullAroundDirty, PullStrict:
	default:
		return bad("PullPolicy", "%q is neither %q nor %q", c.PullPolicy, PullAroundDirty, PullStrict)
	}
	switch c.PoisonPolicy {
	case PoisonHold, PoisonIsolate:
	default:
		return bad("PoisonPolicy", "%q is neither %q nor %q", c.PoisonPolicy, PoisonHold, PoisonIsolate)
	}
	switch c.Synchronous {
	case SynchronousFull, SynchronousNormal:
	default:
		return bad("Synchronous", "%q is neither %q nor %q", c.Synchronous, SynchronousFull, SynchronousNormal)
	}
	return nil
}

func (c *Config) validateNumbers(bad func(field, format string, args ...any) error) error {
	r, l := &c.Retry, &c.Limits
	switch {
	case c.ResolveTimeout < 0:
		return bad("ResolveTimeout", "it is negative")
	case c.BusyTimeout < 0:
		return bad("BusyTimeout", "it is negative")
	case r.Initial < 0:
		return bad("Retry.Initial", "it is negative")
	case r.Max < r.Initial:
		return bad("Retry.Max", "%v is shorter than Retry.Initial, %v", r.Max, r.Initial)
	case !(r.Multiplier >= 1) || math.IsInf(r.Multiplier, 0):
		return bad("Retry.Multiplier", "%v is not a finite number of at least 1", r.Multiplier)
	case !(r.Jitter <= 1):
		return bad("Retry.Jitter", "%v is beyond 1", r.Jitter)
	case l.ConflictsAtOnce < 0:
		return bad("Limits.ConflictsAtOnce", "it is negative")
	}
	for _, n := range []struct {
		field string
		value int64
	}{
		{"PushRows", l.PushRows}, {"PushBytes", l.PushBytes}, {"PushChunkRows", l.PushChunkRows}, {"PushChunkBytes", l.PushChunkBytes},
		{"CommittedRows", l.CommittedRows}, {"PullBundles", l.PullBundles}, {"SnapshotRows", l.SnapshotRows}, {"SnapshotBytes", l.SnapshotBytes},
		{"PullBodyBytes", l.PullBodyBytes}, {"RowsBodyBytes", l.RowsBodyBytes}, {"SnapshotBodyBytes", l.SnapshotBodyBytes},
		{"OtherBodyBytes", l.OtherBodyBytes},
	} {
		if n.value < 0 {
			return bad("Limits."+n.field, "it is negative")
		}
	}
	return nil
}

// options turns a complete and valid configuration into what the actors need.
func (c *Config) options() (actors.Options, error) {
	client, err := transport.New(transport.Config{
		BaseURL:     c.ServerURL,
		HTTPClient:  c.HTTPClient,
		IdleTimeout: c.Limits.RequestIdle,
		Observe:     c.Metrics.ObserveRequests(),
		Bounds: transport.Bounds{
			Pull: c.Limits.PullBodyBytes, CommittedRows: c.Limits.RowsBodyBytes,
			SnapshotPage: c.Limits.SnapshotBodyBytes, Other: c.Limits.OtherBodyBytes,
		},
	})
	if err != nil {
		return actors.Options{}, &ConfigError{Field: "ServerURL", Reason: "it cannot be used", Err: err}
	}
	o := actors.Options{
		Database: sqlite.Config{
			Path: c.Path, Schema: c.Schema, Synchronous: strings.ToUpper(string(c.Synchronous)),
			BusyTimeout: c.BusyTimeout,
		},
		Client:      client,
		ServerURL:   c.ServerURL,
		StrictPulls: c.PullPolicy == PullStrict,
		AutoRecover: c.AutoRecover,
		Isolate:     c.PoisonPolicy == PoisonIsolate,
		Retry: actors.RetryConfig{
			Initial: c.Retry.Initial, Max: c.Retry.Max, Multiplier: c.Retry.Multiplier,
			Jitter: max(0, c.Retry.Jitter), MaxElapsed: max(0, c.Retry.MaxElapsed),
		},
		Limits: actors.Limits{
			BundleRows: c.Limits.PushRows, BundleBytes: c.Limits.PushBytes,
			PushChunkRows: c.Limits.PushChunkRows, PushChunkBytes: c.Limits.PushChunkBytes,
			CommittedRows: c.Limits.CommittedRows, PullBundles: c.Limits.PullBundles,
			SnapshotRows: c.Limits.SnapshotRows, SnapshotBytes: c.Limits.SnapshotBytes, Conflicts: c.Limits.ConflictsAtOnce,
		},
		Resolve:        adapt(c.Resolver, c.Schema),
		ResolveTimeout: c.ResolveTimeout,
		NewSourceID:    uuid.NewString,
		Log:            c.Logger,
		Metrics:        c.Metrics,
		System:         c.System,
	}
	switch c.Contract {
	case ContractClassic:
		o.Contract = wire.ClassicContract
	case ContractUniform:
		o.Contract = wire.UniformContract
	}
	for _, t := range c.Tables {
		o.Database.Tables = append(o.Database.Tables, sqlite.TableConfig{Name: t.Name, Key: t.Key})
	}
	if o.System == nil {
		o.System = actors.SharedSystem()
	}
	return o, nil
}

// adapt lets the engine ask a public resolver.
func adapt(r Resolver, schema string) actors.ResolveFunc {
	return func(ctx context.Context, c local.Conflict) (local.Resolution, error) {
		answer, err := r.Resolve(ctx, publicConflict(schema, c))
		if err != nil {
			return local.Resolution{}, err
		}
		return internalResolution(c, answer)
	}
}
