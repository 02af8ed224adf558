package actors

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/sqlite"
	"github.com/oversqlite/oversqlite/wire"
)

// Options are what an engine is made of. Everything is filled in: defaults are the root package's business.
type Options struct {
	Database sqlite.Config
	// Client is a *transport.Client outside tests.
	Client endpoints
	// ServerURL is named in errors.
	ServerURL string
	// Contract forces a dialect; "": whatever the server speaks.
	Contract wire.ContractName
	// AutoRecover replaces a source that is at its end in the call that finds it so, instead of waiting for a Rebuild.
	AutoRecover bool
	// StrictPulls refuses to pull while local changes are pending.
	StrictPulls bool
	// Isolate sets changes aside that the server refuses for good, instead of holding uploads.
	Isolate bool
	Retry   RetryConfig
	Limits  Limits
	// Resolve answers conflicts; each call has ResolveTimeout.
	Resolve        ResolveFunc
	ResolveTimeout time.Duration
	NewSourceID    func() string
	Log            *zap.Logger
	Metrics        *Metrics // nil: nothing is measured
	System         *actor.ActorSystem
	World          World

	open func(context.Context) (database, error) // of tests; nil: sqlite.Open
}

// tables is what the server's table specs are compared with. A server spells its own in lower case.
func (o *Options) tables() []wire.TableSpec {
	specs := make([]wire.TableSpec, len(o.Database.Tables))
	for i, t := range o.Database.Tables {
		specs[i] = wire.TableSpec{Schema: o.Database.Schema, Table: strings.ToLower(t.Name), SyncKeyColumns: []string{strings.ToLower(t.Key)}}
	}
	return specs
}

// Engine is the callers' side of a session. All methods are safe for concurrent use.
type Engine struct {
	options Options

	session *actor.PID
	callers atomic.Uint64 // numbers the calls
	done    chan struct{} // closed when the session is gone
	end     sync.Once

	status  atomic.Pointer[Status]
	db      atomic.Pointer[sqlite.DB]
	failure atomic.Pointer[messages.EngineFailedError] // of a session that went away by itself
	hub     hub
	visitor *visitor // at the gate of the server

	// The pause flags as the application set them last; the session learns of them by message.
	uploadsPaused, downloadsPaused atomic.Bool

	// The commit signal. commits counts what the application has committed; listening is set while the session wants to be
	// told of the next one, and cleared by telling it.
	commits   atomic.Uint64
	listening atomic.Bool
}

// NewEngine makes an engine. It does no I/O. Until Close it holds on to about two kilobytes in its actor system.
func NewEngine(o Options) *Engine {
	o.Log = engineLogger(o.Log)
	o.Database.Report = func(operation string, err error) {
		fail(o.Log, o.Log.Warn, "the database had trouble that nobody waits for", err, zap.String(keyOperation, operation))
	}
	e := &Engine{options: o, done: make(chan struct{})}
	e.options.Database.Committed = e.committed
	e.status.Store(&Status{Phase: messages.PhaseClosed, Reason: reasonNotOpen})
	e.visitor = visit(o.System, &o.World, o.ServerURL)
	reply := make(chan *actor.PID, 1)
	o.System.Root.Send(acquire(o.System, &o.World), spawnSession{engine: e, reply: reply})
	e.session = <-reply
	return e
}

// Ask asks the session for a verb and waits for the answer, for the caller's context, or for the end of the session,
// whichever comes first. A caller that leaves is forgotten; a run that nobody waits for any more is cancelled.
func (e *Engine) Ask(ctx context.Context, verb Verb, user string) (Result, error) {
	return e.ask(ctx, evCalled{Verb: verb, User: user})
}

// AskAbout is Ask for the verbs that concern changes in quarantine.
func (e *Engine) AskAbout(ctx context.Context, verb Verb, ids []int64) (Result, error) {
	return e.ask(ctx, evCalled{Verb: verb, IDs: slices.Clone(ids)})
}

func (e *Engine) ask(ctx context.Context, call evCalled) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	c := e.begin(call)
	select {
	case a := <-c.answers:
		return a.result, a.err
	case <-ctx.Done():
		c.Leave()
		return Result{}, ctx.Err()
	case <-e.done:
	}
	result, err, _ := c.Answer()
	return result, err
}

// gone is what a caller gets from a session that is no more.
func (e *Engine) gone() error {
	if f := e.failure.Load(); f != nil {
		return f
	}
	return messages.ErrClosed
}

// Close stops the engine and waits until nothing of it is left: no request, no transaction, no open file. It may be
// called more than once and from several goroutines: each waits.
func (e *Engine) Close() {
	e.begin(evCalled{Verb: VerbClose})
	<-e.done
}

func (e *Engine) tell(message any) { e.options.System.Root.Send(e.session, message) }

// PauseUploads sets or clears the flag that holds uploads back. It concerns what begins after the call.
func (e *Engine) PauseUploads(pause bool) {
	e.uploadsPaused.Store(pause)
	e.tell(evPaused{Uploads: true, Paused: pause})
}

// PauseDownloads sets or clears the flag that holds downloads back. It concerns what begins after the call.
func (e *Engine) PauseDownloads(pause bool) {
	e.downloadsPaused.Store(pause)
	e.tell(evPaused{Paused: pause})
}

// Kick ends every backoff delay now.
func (e *Engine) Kick() { e.tell(evKicked{}) }

// Start begins background sync, or goes on with another configuration.
func (e *Engine) Start(ctx context.Context, auto AutoConfig) error {
	_, err := e.ask(ctx, evCalled{Verb: VerbStart, Auto: auto})
	return err
}

// committed tells the session that the application has committed something, once whenever it has asked to be told. It is
// called within the application's writes and costs them two atomic operations.
func (e *Engine) committed() {
	e.commits.Add(1)
	if e.listening.CompareAndSwap(true, false) {
		e.tell(evWritten{})
	}
}

// Status returns what the engine is doing. It never blocks.
func (e *Engine) Status() Status {
	s := *e.status.Load()
	s.UploadsPaused, s.DownloadsPaused = e.uploadsPaused.Load(), e.downloadsPaused.Load()
	return s
}

// Subscribe returns a subscription with room for size events of some kinds, all when none are named.
func (e *Engine) Subscribe(size int, kinds ...Kind) *Subscription { return e.hub.add(size, kinds) }

// App returns the application's connections, nil while the database is not open.
func (e *Engine) App() *sql.DB {
	if db := e.db.Load(); db != nil {
		return db.App()
	}
	return nil
}

// Write runs fn in a transaction that is serialised with the engine's own. It does not go through the session.
func (e *Engine) Write(ctx context.Context, fn func(*sql.Tx) error) error {
	db := e.db.Load()
	if db == nil {
		select {
		case <-e.done:
			return e.gone()
		default:
			return &messages.OpenRequiredError{Operation: "Write"}
		}
	}
	return db.Write(ctx, fn)
}

// ended is called when the session's actor has stopped: its children are gone and the database is closed.
func (e *Engine) ended() {
	e.end.Do(func() {
		e.hub.close()
		e.db.Store(nil)
		depart(e.options.System, e.options.ServerURL, e.visitor)
		close(e.done)
		release(e.options.System)
	})
}

// ask is a call on its way to the session.
type ask struct {
	call    evCalled
	answers chan<- answer // capacity 1: answering never blocks
}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: engines are closed while callers come.
func (ask) IgnoreDeadLetterLogging() {}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging.
func (evLeft) IgnoreDeadLetterLogging() {}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging.
func (evPaused) IgnoreDeadLetterLogging() {}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging.
func (evKicked) IgnoreDeadLetterLogging() {}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: applications write while engines are closed.
func (evWritten) IgnoreDeadLetterLogging() {}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: a timer may fire while the session ends.
func (evAlarm) IgnoreDeadLetterLogging() {}

// answer is what a caller gets.
type answer struct {
	result Result
	err    error
}
