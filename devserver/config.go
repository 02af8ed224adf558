package devserver

import (
	"errors"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/wire"
)

// Config configures a Server. The zero value with Dir or InMemory set is a complete configuration.
type Config struct {
	// Dir is the folder that holds one SQLite file per user. It is created when absent. Either Dir or InMemory.
	Dir string
	// InMemory keeps every user's database in memory; Close drops them all.
	InMemory bool

	// Schema is the SQL that creates the business tables in every user's database, run once per database. Empty,
	// together with Tables: the eight tables of the "business" schema (see BusinessTables).
	Schema string
	// Tables are the synced tables of Schema. Their columns are read from the database.
	Tables []Table

	// Contract is the dialect to speak: wire.ClassicContract, the default, or wire.UniformContract. A user's database keeps
	// the one in which it was begun.
	Contract wire.ContractName
	// AppName is what the capabilities advertise. Defaults to "devserver".
	AppName string
	// Limits are the advertised limits. Zero fields get the reference server's values; the three fields that end
	// in Seconds are ignored, the durations below decide.
	Limits wire.Limits

	// PushSessionTTL is how long a push session lives after its last chunk. Defaults to 15 minutes.
	PushSessionTTL time.Duration
	// SnapshotSessionTTL is how long a snapshot can be read; reading does not extend it. Defaults to 15 minutes.
	SnapshotSessionTTL time.Duration
	// LeaseTTL is how long an initialization lease lasts after its last use. Defaults to 15 minutes.
	LeaseTTL time.Duration
	// HeartbeatInterval is the time between two comment lines of an idle watch. Defaults to 25 seconds.
	HeartbeatInterval time.Duration
	// DisableWatch takes bundle_change_watch away.
	DisableWatch bool
	// MaxBodyBytes bounds a request body. Defaults to 64 MiB.
	MaxBodyBytes int64

	// Secret signs the tokens (HS256). Defaults to a random one, which Dir keeps: in memory, tokens die with the process.
	Secret []byte
	// TokenTTL is the life of issued tokens. Defaults to 24 hours.
	TokenTTL time.Duration

	// MaxOpenUsers is how many users' databases are kept open, least recently used first out. Defaults to 256.
	MaxOpenUsers int
	// IdleTimeout closes a database that nobody used for so long, when another one is asked for. Defaults to 5 minutes.
	IdleTimeout time.Duration

	// Faults are injected from the start, as by Server.Inject.
	Faults []Fault
	// Seed seeds the chances of faults that have a probability. 0 means 1.
	Seed uint64
	// OnRequest is called at the start of every request, before faults and authentication. It must not block.
	OnRequest func(RequestInfo)

	// Now is the clock of tokens, leases and sessions. Defaults to time.Now.
	Now func() time.Time
	// NewID makes the ids of leases and sessions. Defaults to random UUIDs.
	NewID func() string
	// Logger gets one debug line a request, with its user and what went wrong, and errors the server did not expect, without.
	// Defaults to none.
	Logger *zap.Logger
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// normalize fills the defaults and refuses what cannot work.
func (c *Config) normalize() error {
	if (c.Dir == "") == !c.InMemory {
		return errors.New("devserver: exactly one of Config.Dir and Config.InMemory is needed")
	}
	if c.Schema == "" && len(c.Tables) == 0 {
		c.Schema, c.Tables = businessServerSchema, BusinessTables()
	}
	if c.Schema == "" || len(c.Tables) == 0 {
		return errors.New("devserver: Config.Schema and Config.Tables belong together")
	}
	orDefault(&c.Contract, wire.ClassicContract)
	orDefault(&c.AppName, "devserver")
	const quarter = 15 * time.Minute
	orDefault(&c.PushSessionTTL, quarter)
	orDefault(&c.SnapshotSessionTTL, quarter)
	orDefault(&c.LeaseTTL, quarter)
	orDefault(&c.HeartbeatInterval, 25*time.Second)
	orDefault(&c.MaxBodyBytes, 64<<20)
	orDefault(&c.TokenTTL, 24*time.Hour)
	orDefault(&c.MaxOpenUsers, 256)
	orDefault(&c.IdleTimeout, 5*time.Minute)
	orDefault(&c.Seed, 1)
	for _, d := range []time.Duration{c.PushSessionTTL, c.SnapshotSessionTTL, c.LeaseTTL, c.HeartbeatInterval, c.TokenTTL, c.IdleTimeout} {
		if d < 0 {
			return errors.New("devserver: a negative duration in Config")
		}
	}
	if c.MaxOpenUsers < 1 || c.MaxBodyBytes < 1 {
		return errors.New("devserver: a negative bound in Config")
	}
	if len(c.Secret) == 0 && c.InMemory {
		c.Secret = newSecret()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	c.normalizeLimits()
	return nil
}

// normalizeLimits fills the limits with the reference server's values.
func (c *Config) normalizeLimits() {
	l := &c.Limits
	orDefault(&l.MaxBundlesPerPull, 5000)
	for _, chunk := range []struct{ def, max *int64 }{
		{&l.DefaultRowsPerPushChunk, &l.MaxRowsPerPushChunk},
		{&l.DefaultRowsPerCommittedBundleChunk, &l.MaxRowsPerCommittedBundleChunk},
		{&l.DefaultRowsPerSnapshotChunk, &l.MaxRowsPerSnapshotChunk},
	} {
		orDefault(chunk.max, 5000)
		orDefault(chunk.def, min(1000, *chunk.max))
	}
	if c.Contract == wire.UniformContract {
		orDefault(&l.MaxBytesPerSnapshotChunk, 16<<20)
		orDefault(&l.DefaultBytesPerSnapshotChunk, min(4<<20, l.MaxBytesPerSnapshotChunk))
		orDefault(&l.MaxBytesPerSnapshotRow, min(4<<20, l.MaxBytesPerSnapshotChunk))
		orDefault(&l.MaxConcurrentSnapshotBuilds, 2)
		orDefault(&l.MaxConcurrentSnapshotChunkRequests, 8)
	}
	l.PushSessionTTLSeconds = seconds(c.PushSessionTTL)
	l.SnapshotSessionTTLSeconds = seconds(c.SnapshotSessionTTL)
	l.InitializationLeaseTTLSeconds = seconds(c.LeaseTTL)
}

// seconds rounds up, so that what is advertised is never zero.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
