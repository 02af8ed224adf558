package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/internal/failpoint"
	"github.com/oversqlite/oversqlite/internal/workload"
)

const crashEnv = "OVERSQLITE_E2E_CRASH"

// crashAppTables are the application's own, not synced: which of its writes were committed, and what each row was last
// made by them.
const crashAppTables = `
CREATE TABLE app_steps (step TEXT PRIMARY KEY NOT NULL);
CREATE TABLE app_wrote (tbl TEXT NOT NULL, id TEXT NOT NULL, token TEXT NOT NULL, PRIMARY KEY (tbl, id));
`

// crashApp is an application that can be started again at any time: it notes each of its writes in the transaction that
// makes it, and makes none twice.
type crashApp struct {
	scenario         *crashScenario
	path, url, token string
	journal          io.Writer // of what it believes to be committed
	engine           *oversqlite.Engine
	leaving          func(*http.Request) error // is asked about every request
	hook             sync.Once
}

func (a *crashApp) open(ctx context.Context) error {
	if a.engine != nil {
		return a.engine.Open(ctx)
	}
	cfg := oversqlite.Config{
		Path: a.path, Schema: workload.Schema, Tables: engineTables(), ServerURL: a.url, Limits: a.scenario.limits, Resolver: a.scenario.resolver,
		HTTPClient:  &http.Client{Transport: bearer{token: a.token, next: a}},
		Synchronous: oversqlite.SynchronousNormal,
		Retry:       oversqlite.RetryConfig{Initial: time.Millisecond, Max: 5 * time.Millisecond, Multiplier: 2, MaxElapsed: 5 * time.Second},
	}
	if a.scenario.config != nil {
		a.scenario.config(&cfg)
	}
	var err error
	if a.engine, err = oversqlite.New(cfg); err != nil {
		return err
	}
	return a.engine.Open(ctx)
}

func (a *crashApp) close() error {
	if a.engine == nil {
		return nil
	}
	return a.engine.Close()
}

// RoundTrip lets the application write while a push is on its way to be committed, if the scenario wants it to.
func (a *crashApp) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if a.leaving != nil {
		if err := a.leaving(r); err != nil {
			return nil, err
		}
	}
	if a.scenario.during != nil && strings.HasSuffix(r.URL.Path, "/commit") {
		a.hook.Do(func() { err = a.scenario.during(r.Context(), a) })
		if err != nil {
			return nil, err
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// attach attaches, and waits where it is told to.
func (a *crashApp) attach(ctx context.Context) error {
	for {
		r, err := a.engine.Attach(ctx, modelUser)
		if err != nil {
			return fmt.Errorf("attach: %w", err)
		}
		later, wait := r.(oversqlite.RetryLater)
		if !wait {
			return nil
		}
		select {
		case <-time.After(later.RetryAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write makes the edits in one transaction, unless that was committed in an earlier life.
func (a *crashApp) write(ctx context.Context, step string, edits ...edit) error {
	a.say("begin", step)
	err := a.engine.Write(ctx, func(tx *sql.Tx) error {
		r, err := tx.Exec(`INSERT INTO app_steps (step) VALUES (?) ON CONFLICT DO NOTHING`, step)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
		for _, e := range edits {
			if err := e.apply(tx); err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT OR REPLACE INTO app_wrote (tbl, id, token) VALUES (?, ?, ?)`, e.table, e.id, e.token); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", step, err)
	}
	a.say("done", step)
	return nil
}

func (a *crashApp) say(what, step string) {
	if a.journal != nil {
		_, _ = fmt.Fprintln(a.journal, what, step)
	}
}

// sync syncs, and does what the engine says that it takes.
func (a *crashApp) sync(ctx context.Context) error {
	return a.persist(ctx, func() error { _, err := a.engine.Sync(ctx); return err })
}

// persist makes a call, and attaches or rebuilds where it says that this is required, a few times.
func (a *crashApp) persist(ctx context.Context, call func() error) (err error) {
	for range 6 {
		err = call()
		var attach *oversqlite.AttachRequiredError
		var recovery *oversqlite.SourceRecoveryRequiredError
		var diverged *oversqlite.SourceReplacementDivergedError
		switch {
		case errors.As(err, &attach):
			if err := a.attach(ctx); err != nil {
				return err
			}
		case errors.As(err, &recovery):
			if _, err := a.engine.Rebuild(ctx); err != nil && !errors.As(err, &diverged) {
				return err
			}
		default:
			return err
		}
	}
	return err
}

// crashOrder is what a process is told that is to die.
type crashOrder struct {
	Scenario, Path, URL, Token string
	Journal                    string
	Die                        string // a failpoint and which time; "": nowhere
	Record                     string // where the points that were reached are noted at the end
}

// anyPoint in place of a point counts all of them.
const anyPoint = "*"

// crashChild is the process that dies.
func crashChild(order string) error {
	var o crashOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	s := crashScenarioNamed(o.Scenario)
	if s == nil {
		return fmt.Errorf("there is no scenario %q", o.Scenario)
	}
	journal, err := os.OpenFile(o.Journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer journal.Close()
	var mu sync.Mutex
	var reached []string
	kill := func(string) {}
	if o.Die != "" {
		point, n, err := failpoint.Parse(o.Die)
		if err != nil {
			return err
		}
		kill = failpoint.Kill(point, n)
		if point == anyPoint {
			var hits atomic.Int64
			inner := failpoint.Kill(anyPoint, 1)
			kill = func(string) {
				if hits.Add(1) == n {
					inner(anyPoint)
				}
			}
		}
	}
	failpoint.Set(func(point string) {
		mu.Lock()
		reached = append(reached, point)
		mu.Unlock()
		kill(point)
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a := &crashApp{scenario: s, path: o.Path, url: o.URL, token: o.Token, journal: journal}
	if err := errors.Join(s.run(ctx, a), a.close()); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return os.WriteFile(o.Record, []byte(strings.Join(reached, "\n")), 0o600)
}
