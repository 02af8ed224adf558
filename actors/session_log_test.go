package actors

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// A server that is away for ten hours costs an engine a few dozen lines, whether one call waits for it or the application
// calls every ten seconds. The newest line is never much older than an hour and says when the next attempt is made; the
// first call that succeeds says since when requests had failed.
func TestTenHoursOfOutageInTheLog(t *testing.T) {
	for name, c := range map[string]struct {
		gives time.Duration // Retry.MaxElapsed
		lines int
	}{"one call": {0, 20}, "many calls": {5 * time.Second, 40}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const outage = 10 * time.Hour
				system := newSystem()
				settleSystem(t, system)
				core, seen := observer.New(zap.InfoLevel)
				server := newServer()
				began := time.Now()
				requests := 0
				server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
					if time.Since(began) < outage {
						requests++
						return wire.PullPage{}, errNoNetwork
					}
					return nothingNew(ctx, r)
				}
				db := newSessionDB()
				e := NewEngine(Options{
					Client: server, System: system, Log: zap.New(core), ResolveTimeout: time.Second,
					Retry: RetryConfig{Initial: time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.3, MaxElapsed: c.gives},
					open:  func(context.Context) (database, error) { return db, nil },
				})
				t.Cleanup(e.Close)
				mustAsk(t, e, VerbOpen)
				mustAsk(t, e, VerbAttach)
				for {
					_, err := e.Ask(t.Context(), VerbPullToStable, "")
					if err == nil {
						break
					}
					time.Sleep(10 * time.Second)
				}
				synctest.Wait()
				if requests < 600 {
					t.Errorf("only %d requests were made: that is no outage", requests)
				}
				lines := seen.AllUntimed()
				if len(lines) > c.lines {
					t.Errorf("%d lines", len(lines))
				}
				last := began
				for _, line := range seen.FilterMessage("a request failed and will be repeated").All() {
					fields := line.ContextMap()
					retry, _ := fields[keyRetryAt].(time.Time)
					if !retry.After(line.Time) || retry.Sub(line.Time) > 2*time.Minute || fields[keyStatus] != int64(503) || fields[keyOperation] != "pull" {
						t.Errorf("a line does not say what comes next: %v", fields)
					}
					if line.Time.Sub(last) > lastQuiet+10*time.Minute {
						t.Errorf("nothing is said for %v", line.Time.Sub(last))
					}
					last = line.Time
				}
				if quiet := began.Add(outage).Sub(last); quiet > lastQuiet+10*time.Minute {
					t.Errorf("nothing is said for the last %v", quiet)
				}
				again := seen.FilterMessage("requests succeed again").All()
				if len(again) != 1 || again[0].ContextMap()[keySince].(time.Time).Sub(began) > time.Minute {
					t.Errorf("the end of the outage is told as %v", again)
				}
			})
		})
	}
}

// What changes in a status, and how a run ends, is said once and at the level that it deserves.
func TestWhatASessionSays(t *testing.T) {
	t.Parallel()
	core, seen := observer.New(zap.DebugLevel)
	s := &session{log: zap.New(core), machine: newSessionMachine(sessionConfig{})}
	held := &Status{UploadBlocked: &local.Blocked{Code: "push_invalid"}, SourceRecovery: "history_pruned", RebuildRequired: true}
	s.notedStatus(&Status{}, held)
	s.notedStatus(held, held)
	s.notedStatus(held, &Status{})
	for range 3 {
		s.noted(RowQuarantined{Table: "notes", Code: "push_invalid", Origin: "server"})
	}
	s.notedAside()
	s.notedAside()
	s.noted(SourceRotated{From: "a", To: "b", Reason: "history_pruned"})
	s.noted(TablesChanged{Tables: []string{"notes"}, Cause: messages.CausePull})
	for _, err := range []error{nil, context.Canceled, messages.ErrClosed, &messages.AuthError{}, &wire.ProtocolError{}, &local.DatabaseError{}} {
		s.ran(fxRan{Verb: VerbSync, Err: err})
	}
	s.ran(fxRan{Verb: VerbAttach, Result: Result{Attach: AttachRetryLater}})
	s.ran(fxRan{Verb: VerbDetach, Result: Result{Detached: true}})
	var said []string
	for _, line := range seen.All() {
		said = append(said, line.Level.String()+" "+line.Message)
	}
	want := strings.Join([]string{
		"warn uploads are held back", "warn the source is at its end and has to be replaced", "info the local state has to be rebuilt", "info uploads go on",
		"warn rows were set aside: they wait for the application", "info the source was replaced", "debug tables changed",
		"debug a call ended", "debug a call ended with an error", "debug a call ended with an error", "warn a call ended with an error",
		"error a call ended with an error", "debug a call ended with an error", "error a call ended with an error", "debug a call ended with an error",
		"debug a call ended", "info the user is detached",
	}, "\n")
	if got := strings.Join(said, "\n"); got != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	if rows := seen.FilterField(zap.Int(keyRows, 3)).Len(); rows != 1 {
		t.Errorf("%d lines of three rows", rows)
	}
}

// The same with background sync, whose stream, pulls and pushes all fail.
func TestTenHoursOfOutageInTheBackgroundInTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const outage = 10 * time.Hour
		system := newSystem()
		settleSystem(t, system)
		core, seen := observer.New(zap.InfoLevel)
		server := newServer()
		began := time.Now()
		requests := map[string]int{}
		away := func(operation string) error {
			if time.Since(began) < outage {
				requests[operation]++
				return &wire.HTTPError{Operation: operation, Status: 503}
			}
			return nil
		}
		server.capabilities = func(context.Context) (wire.Capabilities, error) {
			c := parseCapabilities([]string{"no-specs"})
			c.Features["bundle_change_watch"] = true
			return c, nil
		}
		server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
			if err := away("pull"); err != nil {
				return wire.PullPage{}, err
			}
			return nothingNew(ctx, r)
		}
		server.watch = func(context.Context, string, int64) (*transport.Stream, error) {
			if err := away("watch"); err != nil {
				return nil, err
			}
			return nil, &wire.HTTPError{Operation: "watch", Status: 403, Code: "bundle_change_watch_forbidden"}
		}
		db := newSessionDB()
		e := NewEngine(Options{
			Client: server, System: system, Log: zap.New(core), ResolveTimeout: time.Second,
			Retry: RetryConfig{Initial: time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.3, MaxElapsed: 5 * time.Second},
			open:  func(context.Context) (database, error) { return db, nil },
		})
		t.Cleanup(e.Close)
		mustAsk(t, e, VerbOpen)
		if err := e.Start(t.Context(), AutoConfig{UserID: "ann", Debounce: time.Second, MaxDelay: time.Second, PollInterval: time.Minute, Watch: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(outage + 10*time.Minute)
		synctest.Wait()
		if requests["pull"] < 500 { // and a few for the stream: one asks whether the server is back
			t.Errorf("%v requests were made: that is no outage", requests)
		}
		if n := seen.Len(); n > 60 {
			t.Errorf("%d lines", n)
		}
		if again := seen.FilterMessage("requests succeed again").Len(); again != 1 {
			t.Errorf("the end of the outage is told %d times", again)
		}
	})
}
