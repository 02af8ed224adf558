package oversqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/oversqlite/oversqlite/actors"
)

// AutoConfig says what an engine does by itself between Start and Stop. The zero value of every field is its default.
type AutoConfig struct {
	// UserID is the user to attach, and to attach again whenever the attachment ends by itself: the one as whom
	// Config.HTTPClient authenticates. What Attach says of rows written before holds here as well: if the user has rows on
	// the server, they replace those, and the event LocalRowsDropped says how many changes that cost; writes to synced
	// tables are refused meanwhile. A RetryLater of the server's is waited for. After a Detach nobody is attached until
	// Attach or Start is called. "", the default: Attach is the application's to call, and nothing is synced before.
	UserID string

	// Debounce is how long after a local commit the push begins, so that commits which come together are pushed
	// together. Defaults to 20 ms; negative: at once.
	Debounce time.Duration

	// MaxDelay is how long commits that keep coming can put a push off, counted from the first. Defaults to 500 ms, or
	// to Debounce if that is longer.
	MaxDelay time.Duration

	// PollInterval is how long after a pull the next one begins while there is no watch stream to tell of changes; up to a
	// tenth more or less. One that has just opened takes the place of polls once a pull has been answered since. Without a
	// stream it is also how late a commit of another process may be noticed. Defaults to 60 seconds.
	PollInterval time.Duration

	// Watch says whether the server is asked to tell of changes. Defaults to WatchAuto.
	Watch WatchMode
}

// WatchMode says whether background sync keeps a stream open on which the server tells of changes.
type WatchMode string

// The watch modes.
const (
	// WatchAuto keeps one open where the server offers it, and polls while there is none.
	WatchAuto WatchMode = "auto"
	// WatchOff polls. It saves the server a connection.
	WatchOff WatchMode = "off"
)

// withDefaults fills in what was left out. It is the one place that does.
func (a AutoConfig) withDefaults() AutoConfig {
	fill(&a.Watch, WatchAuto)
	fill(&a.Debounce, 20*time.Millisecond)
	fill(&a.MaxDelay, max(500*time.Millisecond, a.Debounce))
	fill(&a.PollInterval, time.Minute)
	a.Debounce = max(0, a.Debounce)
	return a
}

// validate refuses what cannot work. It is the one place that does.
func (a *AutoConfig) validate() error {
	bad := func(field, format string, args ...any) error {
		return &ConfigError{Field: "AutoConfig." + field, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case a.MaxDelay < a.Debounce:
		return bad("MaxDelay", "%v is shorter than Debounce, %v", a.MaxDelay, a.Debounce)
	case a.PollInterval < 0:
		return bad("PollInterval", "it is negative")
	case a.Watch != WatchAuto && a.Watch != WatchOff:
		return bad("Watch", "%q is neither %q nor %q", a.Watch, WatchAuto, WatchOff)
	}
	return nil
}

// Start begins background sync: local commits are pushed, changes on the server are pulled, by themselves, until Stop or
// Close. It returns at once; Status and Subscribe tell how it goes. Started again it goes on with the other configuration,
// and tries at once whatever was held up.
//
// A local commit over any connection of DB, or in Write, is pushed after AutoConfig.Debounce. A commit of another process, or over a
// connection of the application's own making, is noticed later: with a heartbeat of the watch stream, every 25 seconds as
// a rule, or with the next poll. What the server has committed is pulled when its watch stream tells of it, or with the
// next poll while there is no stream.
//
// What fails for a passing reason is repeated for ever, with delays as Config.Retry says and never sooner than the server
// asks; its MaxElapsed does not count here. An error that repetition does not mend ends a run, and with it:
//   - *AuthError: everything, until Resume, Attach or Start.
//   - a refused push (UploadBlocked): pushes, until the next local commit, or Config.Retry.Max.
//   - what only the application can mend (*SourceRecoveryRequiredError without Config.AutoRecover, which Rebuild mends, and
//     *AttachBindingConflictError): what is concerned, until it has, or Kick, Resume, Attach or Start is called.
//   - a watch stream that the server forbids: the stream, until Resume, Attach or Start. Until then it polls.
//   - any other error is tried again after a delay.
//
// Status says all the time which of these it is, until when, and what would end the wait sooner (WokenBy).
//
// Calls of the application's own take place as without background sync, and wait for no delay of it: a background run that waits
// makes way, and is made again later. PauseUploads and PauseDownloads hold background sync up as well. UninstallSync and
// Detach leave it on, with nothing to do until Open or Attach; so does an EngineFailedError, after which Restart goes on.
//
// Errors: *ConfigError, *OpenRequiredError, *AttachBindingConflictError when another user than UserID is attached,
// *EngineFailedError, ErrClosed.
func (e *Engine) Start(ctx context.Context, auto AutoConfig) error {
	auto = auto.withDefaults()
	if err := auto.validate(); err != nil {
		return err
	}
	return e.engine.Start(ctx, actors.AutoConfig{
		UserID: auto.UserID, Debounce: auto.Debounce, MaxDelay: auto.MaxDelay, PollInterval: auto.PollInterval,
		Watch: auto.Watch == WatchAuto,
	})
}

// Stop ends background sync: a background run under way is cancelled, the watch stream closed. It returns when nothing is left of
// them, neither goroutine nor timer nor connection in use. The application's own calls go on, also those that share a run
// which began in the background. What was pending stays pending. Stop before Start does nothing.
//
// Errors: ErrClosed, or the context's, in which case it stops all the same, a moment later.
func (e *Engine) Stop(ctx context.Context) error {
	_, err := e.engine.Ask(ctx, actors.VerbStop, "")
	return err
}

// Kick ends any delay before something failed is repeated, ends a request of which nothing has moved for five seconds or more and
// makes it again, and has background sync pull now: the network is back. It is for a moment of which the application knows more
// than the engine; nothing depends on it. Many in a row do not keep a slow server from answering: the engine is the more patient
// with a request the more often it was ended. It does not block, and is no remedy for refused credentials: see Resume.
func (e *Engine) Kick() { e.engine.Kick() }

// Resume goes on after an AuthError, once the HTTP client has new credentials: it forgets the error and ends any delay. It asks
// anew for a watch stream that the server has forbidden, too.
//
// Errors: *OpenRequiredError, *EngineFailedError, ErrClosed.
func (e *Engine) Resume() error {
	_, err := e.engine.Ask(context.Background(), actors.VerbResume, "")
	return err
}
