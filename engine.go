package oversqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"

	"github.com/oversqlite/oversqlite/actors"
)

// Engine keeps one local SQLite database in step with one user's rows on a server. New makes one.
//
// All methods are safe for concurrent use. Calls that sync, attach or detach run one at a time, in the order in which
// they came; concurrent calls of the same method share a run. A call joins a run only if that has not yet begun to look
// at local changes or at the server's, so whoever is told "committed" or "already at target" was served by a run that
// began after his call; all who come later share the next one. Looking (SyncStatus, PendingSyncStatus, SourceInfo,
// Status) never waits for the network.
//
// A call ends when its context does, with the context's error; a run that nobody waits for any more is cancelled.
// Whatever it had done stays done, whatever it had not will be done by the next. Close ends every call with ErrClosed.
type Engine struct {
	engine *actors.Engine
	schema string
	// unopened is what DB returns before Open. It is made when somebody asks for it: each costs a goroutine.
	unopened func() *sql.DB
}

// New checks a configuration and returns an engine for it. It touches neither the database nor the network: Open comes
// first. The error is a *ConfigError.
func New(cfg Config) (*Engine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	options, err := cfg.options()
	if err != nil {
		return nil, err
	}
	return &Engine{engine: actors.NewEngine(options), schema: cfg.Schema, unopened: sync.OnceValue(func() *sql.DB { return sql.OpenDB(closedConnector{}) })}, nil
}

// Open opens the database, creating it when it does not exist, and takes ownership of it. It checks the configured tables
// against the schema, installs what captures the application's changes, and never uses the network. Opening an open
// engine does nothing.
//
// Errors: *ConfigError for a table that cannot be synced (nothing has been changed then), *DatabaseOwnedError while
// another engine has the file open, *DatabaseError for a file that cannot be used, ErrClosed.
func (e *Engine) Open(ctx context.Context) error {
	_, err := e.engine.Ask(ctx, actors.VerbOpen, "")
	return err
}

// Attach binds the database to a user: the one as whom Config.HTTPClient authenticates. It comes on every start, after
// Open. A database that was attached to the user before is resumed without asking the server. Else the server decides:
// if it has rows of this user, they replace what is here, in one transaction (Connected.Restore says how many changes of
// an anonymous database were dropped for that); if it has never seen the user, what is here becomes his.
//
// RetryLater is no error: another device is seeding the server at this moment.
//
// While rows are being replaced, triggers refuse the application's writes to synced tables: SQLITE_CONSTRAINT_TRIGGER, with the
// text SYNC_TRANSITION_PENDING. An interrupted replacement is finished by the next Attach of the same user; writes are
// refused until then.
//
// *SourceRecoveryRequiredError, *SourceReplacementDivergedError and *SourceSequenceMismatchError come when the server has lost what
// it knew of this database: it is attached then, and Rebuild is all it lacks. *AttachRequiredError comes when the server has lost
// the user after it was asked: nothing was replaced, and the next Attach begins anew.
//
// Errors: *AttachBindingConflictError, *AttachLocalStateConflictError, *LifecycleUnsupportedError,
// *ProtocolVersionMismatchError, *TableContractMismatchError, *AuthError, *RetryExhaustedError, *ProtocolError,
// *HTTPError, *OpenRequiredError, ErrClosed.
func (e *Engine) Attach(ctx context.Context, userID string) (AttachResult, error) {
	if userID == "" {
		return nil, &ConfigError{Field: "userID", Reason: "it is empty: name the user to attach"}
	}
	r, err := e.engine.Ask(ctx, actors.VerbAttach, userID)
	if err != nil {
		return nil, err
	}
	return attachResult(r), nil
}

// Detach ends the binding to a user: the synced rows are removed from this database, which is anonymous again, with a
// new identity. The server is not asked and loses nothing. While there is local work that the server does not have
// nothing happens and the outcome is BlockedUnsyncedData. Detach also cancels an unfinished replacement by Attach, of
// whatever user. It needs Open only: a user can be signed out of a database that was attached in an earlier process.
//
// Errors: *AttachRequiredError when there is nothing to detach, *DatabaseError, *OpenRequiredError, ErrClosed.
func (e *Engine) Detach(ctx context.Context) (DetachResult, error) {
	r, err := e.engine.Ask(ctx, actors.VerbDetach, "")
	if err != nil {
		return DetachResult{}, err
	}
	return detachResult(r), nil
}

// SyncThenDetach syncs and detaches. If the application has written meanwhile it does so again, up to three times, as long
// as that leaves less pending than the time before. A detach that stays blocked is a result, not an error: see
// SyncThenDetachResult.IsSuccess. With an error the result says how far it came.
//
// Errors: those of Sync and Detach.
func (e *Engine) SyncThenDetach(ctx context.Context) (SyncThenDetachResult, error) {
	r, err := e.engine.Ask(ctx, actors.VerbSyncThenDetach, "")
	if err != nil && r.Rounds == 0 {
		r.Pending = r.State.Pending
	}
	return syncThenDetachResult(r), err
}

// UninstallSync removes everything that the engine keeps in the database and leaves the application's rows. What had not
// been pushed is forgotten. The engine can be opened again, which starts anew.
//
// Errors: *DatabaseError, *OpenRequiredError, ErrClosed.
func (e *Engine) UninstallSync(ctx context.Context) error {
	_, err := e.engine.Ask(ctx, actors.VerbUninstallSync, "")
	return err
}

// Close stops whatever runs, answers its callers with ErrClosed, waits for the transaction under way, and releases the
// database and everything else. It may be called more than once; each call waits until nothing is left. Subscriptions
// end. It always returns nil.
//
// It must not be called from within the function given to Write, nor from a Resolver.
func (e *Engine) Close() error {
	e.engine.Close()
	_ = e.unopened().Close()
	return nil
}

// Sync pushes local changes and then pulls the server's: PushPending and PullToStable in one run. When the server refuses
// a row for good, or the resolver fails, the pull takes place all the same and the report comes together with the error.
//
// Errors: those of PushPending and PullToStable.
func (e *Engine) Sync(ctx context.Context) (SyncReport, error) {
	r, err := e.engine.Ask(ctx, actors.VerbSync, "")
	return syncReport(r), err
}

// PushPending pushes the local changes that were committed before the call, as one bundle or, when they are too many, as
// several. Conflicts are put to Config.Resolver. Changes made meanwhile wait for the next push. A push that an earlier call
// could not finish is finished first, and then is all that the call does; Sync goes on with the rest.
//
// Whatever the error, no local change is lost. Errors: *PushRejectedError, *PushConflictRetryExhaustedError,
// *InvalidConflictResolutionError, *SourceRecoveryRequiredError, *RebuildRequiredError while downloads are paused,
// *AuthError, *RetryExhaustedError, *ProtocolError, *HTTPError, *DatabaseError, *OpenRequiredError,
// *AttachRequiredError, ErrClosed.
func (e *Engine) PushPending(ctx context.Context) (PushReport, error) {
	r, err := e.engine.Ask(ctx, actors.VerbPushPending, "")
	return pushReport(r), err
}

// PullToStable fetches and applies everything that the server had committed when the call reached it. Rows with local
// changes are left alone: the change keeps its content and meets the server's at the next push.
//
// Errors: *DirtyStateRejectedError under PullStrict, *SourceRecoveryRequiredError, *PushRejectedError when the server's
// rows and local changes exclude each other and the changes cannot be pushed, *AuthError, *RetryExhaustedError,
// *ProtocolError, *HTTPError, *DatabaseError, *OpenRequiredError, *AttachRequiredError, ErrClosed.
func (e *Engine) PullToStable(ctx context.Context) (RemoteSyncReport, error) {
	r, err := e.engine.Ask(ctx, actors.VerbPullToStable, "")
	return remoteSyncReport(r), err
}

// Rebuild replaces the synced rows by a snapshot of the server's, in one transaction at the end. Local changes are kept,
// those too that are made meanwhile. An interrupted rebuild is taken up by the next Sync, PullToStable or Rebuild.
//
// While a source recovery is pending (SourceInfo, *SourceRecoveryRequiredError) Rebuild also replaces the identity under
// which the database writes, and nothing else does, unless Config.AutoRecover says so. Interrupted anywhere, it is to be
// called again and goes on with the same new identity.
//
// Errors: *SourceReplacementDivergedError, after which the next call succeeds; *SourceRecoveryRequiredError when the fresh
// identity is refused at once, *AuthError, *RetryExhaustedError, *ProtocolError, *HTTPError, *DatabaseError,
// *OpenRequiredError, *AttachRequiredError, ErrClosed.
func (e *Engine) Rebuild(ctx context.Context) (RemoteSyncReport, error) {
	r, err := e.engine.Ask(ctx, actors.VerbRebuild, "")
	return remoteSyncReport(r), err
}

// SourceInfo returns the identity under which this database writes. It needs Open and does not wait for a sync.
//
// Errors: *OpenRequiredError, *DatabaseError, ErrClosed.
func (e *Engine) SourceInfo(ctx context.Context) (SourceInfo, error) {
	r, err := e.engine.Ask(ctx, actors.VerbSourceInfo, "")
	if err != nil {
		return SourceInfo{}, err
	}
	return sourceInfo(&r.State), nil
}

// SyncStatus returns how this database stands to the server. It does not wait for a sync, and costs the same however many
// rows there are.
//
// Errors: *OpenRequiredError, *AttachRequiredError, *DatabaseError, ErrClosed.
func (e *Engine) SyncStatus(ctx context.Context) (SyncStatus, error) {
	r, err := e.engine.Ask(ctx, actors.VerbSyncStatus, "")
	if err != nil {
		return SyncStatus{}, err
	}
	return syncStatus(&r.State), nil
}

// PendingSyncStatus counts the local work that the server does not have. It needs Open only and does not wait for a sync.
//
// Errors: *OpenRequiredError, *DatabaseError, ErrClosed.
func (e *Engine) PendingSyncStatus(ctx context.Context) (PendingSyncStatus, error) {
	r, err := e.engine.Ask(ctx, actors.VerbPendingSyncStatus, "")
	if err != nil {
		return PendingSyncStatus{}, err
	}
	return pendingStatus(&r.State), nil
}

// Restart brings an engine back that failed with an EngineFailedError: the database is opened again, and a user who was
// attached still is. Background sync goes on if it was on. It does nothing to an engine that has not failed.
//
// Errors: those of Open.
func (e *Engine) Restart(ctx context.Context) error {
	_, err := e.engine.Ask(ctx, actors.VerbRestart, "")
	return err
}

// PauseUploads makes calls that push report SkippedPaused until ResumeUploads, and holds the pushes of background sync up. A
// push that runs goes on.
func (e *Engine) PauseUploads() { e.engine.PauseUploads(true) }

// ResumeUploads ends PauseUploads. Background sync pushes what is pending.
func (e *Engine) ResumeUploads() { e.engine.PauseUploads(false) }

// PauseDownloads makes calls that pull report SkippedPaused until ResumeDownloads, and holds the pulls of background sync up.
// A pull that runs goes on.
func (e *Engine) PauseDownloads() { e.engine.PauseDownloads(true) }

// ResumeDownloads ends PauseDownloads. Background sync pulls what was missed.
func (e *Engine) ResumeDownloads() { e.engine.PauseDownloads(false) }

// DB returns the application's connections to the database. Reads and writes over any of them are ordinary SQL; writes to
// synced tables are captured as they happen, and foreign keys are enforced. The handle is the engine's: do not close it,
// and expect a new one after UninstallSync or Restart. Before Open, and after Close, every use of it fails with
// OpenRequiredError or an error of database/sql.
//
// A transaction that is kept open holds the engine's own transactions up; see Write.
func (e *Engine) DB() *sql.DB {
	if db := e.engine.App(); db != nil {
		return db
	}
	return e.unopened()
}

// Write runs fn in one transaction, which it commits when fn returns nil and rolls back otherwise. It takes turns with the
// engine's own transactions, so neither ever finds the database busy because of the other. fn must use tx and nothing
// else for the database, must not commit or roll back by itself, and must not call the engine. A panic in fn rolls back
// and goes on.
//
// A *DatabaseError of the disk's (full, broken) may leave open whether the transaction was committed: SQLite takes it back, but its
// log may be whole, and whoever opens the file next finds it then. Read before writing again what must not be written twice.
//
// Errors: that of fn, as it is; *DatabaseError, *OpenRequiredError, ErrClosed, or the context's.
func (e *Engine) Write(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return e.engine.Write(ctx, fn)
}

// closedConnector makes a pool that is not open yet.
type closedConnector struct{}

func (closedConnector) Connect(context.Context) (driver.Conn, error) {
	return nil, &OpenRequiredError{Operation: "DB"}
}

func (c closedConnector) Driver() driver.Driver { return closedDriver(c) }

type closedDriver struct{}

func (closedDriver) Open(string) (driver.Conn, error) {
	return closedConnector{}.Connect(context.Background())
}
