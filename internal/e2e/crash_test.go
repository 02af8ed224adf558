package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/internal/failpoint"
	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/internal/workload"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// crashCase is one life of an application that is cut short, and what comes after it.
type crashCase struct {
	scenario *crashScenario
	server   *crashServer
	path     string
	journal  string
	token    string
}

func newCrashCase(ctx context.Context, s *crashScenario, contract wire.ContractName, dir string) (c *crashCase, err error) {
	c = &crashCase{scenario: s, path: filepath.Join(dir, "app.db"), journal: filepath.Join(dir, "journal")}
	if c.server, err = newCrashServer(contract); err != nil {
		return nil, err
	}
	if c.token, err = c.server.server.IssueToken(modelUser); err != nil {
		return c, err
	}
	if err := createCrashFile(c.path); err != nil || s.before == nil {
		return c, err
	}
	if err := s.before(ctx, c); err != nil {
		return c, fmt.Errorf("what comes before: %w", err)
	}
	return c, nil
}

// createCrashFile makes the file of an application that has never run.
func createCrashFile(path string) error {
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		return err
	}
	_, err = db.Exec(`BEGIN;` + workload.ClientSchema + crashAppTables + `COMMIT`)
	return errors.Join(err, db.Close())
}

func (c *crashCase) app() *crashApp {
	return &crashApp{scenario: c.scenario, path: c.path, url: c.server.web.URL, token: c.token}
}

// live lets the application live once in this process: from open to close.
func (c *crashCase) live(ctx context.Context, run func(context.Context, *crashApp) error) error {
	a := c.app()
	return errors.Join(run(ctx, a), a.close())
}

// child lets the application live in a process of its own. It reports whether the process was killed, and what it reached.
func (c *crashCase) child(ctx context.Context, die string) (killed bool, reached []string, err error) {
	order := crashOrder{Scenario: c.scenario.name, Path: c.path, URL: c.server.web.URL, Token: c.token, Journal: c.journal, Die: die, Record: c.journal + ".points"}
	spelled, err := json.Marshal(order)
	if err != nil {
		return false, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+string(spelled))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	c.server.busy.Wait()
	switch {
	case ctx.Err() != nil:
		return false, nil, fmt.Errorf("the process did not end: %w\n%s", ctx.Err(), out.Bytes())
	case err == nil:
		points, err := os.ReadFile(order.Record)
		return false, strings.Split(string(points), "\n"), err
	case cmd.ProcessState.ExitCode() < 0:
		return true, nil, nil
	default:
		return false, nil, fmt.Errorf("the process failed: %w\n%s", err, out.Bytes())
	}
}

// crash is where an application is killed, life after life, and the dialect of its server.
type crash struct {
	contract wire.ContractName
	kills    []string
}

// reference lets a scenario run its course in a process of its own, and returns what it came to and all that it reached.
func (s *crashScenario) reference(ctx context.Context, contract wire.ContractName, dir string) (end crashEnd, reached []string, err error) {
	c, err := newCrashCase(ctx, s, contract, dir)
	if c != nil {
		defer func() { err = errors.Join(err, c.server.close()) }()
	}
	if err != nil {
		return end, nil, err
	}
	if _, reached, err = c.child(ctx, ""); err != nil {
		return end, nil, err
	}
	end, err = c.checkEnd(ctx, 0, nil)
	return end, reached, err
}

// try kills an application, looks at what it left, lets another finish, and looks again. A crash that was not reached is an
// error unless it is a later one: nobody knows how long a second life is.
func (s *crashScenario) try(ctx context.Context, contract wire.ContractName, dir string, kills []string, reference *crashEnd) (err error) {
	c, err := newCrashCase(ctx, s, contract, dir)
	if c != nil {
		defer func() { err = errors.Join(err, c.server.close()) }()
	}
	if err != nil {
		return err
	}
	for i, die := range kills {
		killed, _, err := c.child(ctx, die)
		switch {
		case err != nil:
			return err
		case !killed && i == 0 && !unhurried(die):
			return fmt.Errorf("it did not die at %s", die)
		case !killed:
			continue
		}
		if _, err := c.check(ctx); err != nil {
			return fmt.Errorf("what crash %d left behind: %w", i+1, err)
		}
	}
	if err := c.live(ctx, s.run); err != nil {
		return fmt.Errorf("the life after: %w", err)
	}
	_, err = c.checkEnd(ctx, len(kills), reference)
	return err
}

// unhurried reports whether a crash is at a request that nobody waits for: a life can be over before its answer arrives.
func unhurried(die string) bool {
	return strings.Contains(die, transport.OpDeletePush) || strings.Contains(die, transport.OpDeleteSnapshot)
}

// TestCrashMatrix lets an application die at every durable step of everything that an engine does, and proves that nothing
// is lost, nothing done twice, and that the next life ends where one without a crash would have. OVERSQLITE_E2E_CRASHES is how
// many crashes a scenario is tried with, or "all".
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	race.Skip(t, "what a killed process has written is no matter of races, and its life takes twenty times as long")
	s := seed(t)
	all := os.Getenv("OVERSQLITE_E2E_CRASHES") == "all"
	most := 0
	if !all {
		most = envInt(t, "OVERSQLITE_E2E_CRASHES", 2)
	}
	var mu sync.Mutex
	points := map[string]bool{}
	crashes, ran := 0, 0
	started := time.Now()
	t.Run("scenarios", func(t *testing.T) {
		for i := range crashScenarios {
			scenario := &crashScenarios[i]
			t.Run(scenario.name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
				defer cancel()
				r := rand.New(rand.NewPCG(uint64(s), uint64(i)))
				var tried []crash
				references := map[wire.ContractName]*crashEnd{}
				turn := r.IntN(2)
				contracts := []wire.ContractName{wire.ClassicContract, wire.UniformContract}
				if !all {
					contracts = contracts[turn : turn+1]
				}
				for _, contract := range contracts {
					reference, reached, err := scenario.reference(ctx, contract, t.TempDir())
					if err != nil {
						t.Fatalf("%s, without a crash: %v", contract, err)
					}
					t.Logf("%s: %d points, %v", contract, len(reached), reference)
					mu.Lock()
					for _, point := range reached {
						points[point] = true
					}
					mu.Unlock()
					references[contract] = &reference
					turn++
					for j, c := range crashesOf(contract, reached, r) {
						if !all || j%2 == turn%2 { // each dialect has every other point, next time perhaps the others
							tried = append(tried, c)
						}
					}
				}
				if !all {
					r.Shuffle(len(tried), func(i, j int) { tried[i], tried[j] = tried[j], tried[i] })
					tried = tried[:min(most, len(tried))]
				}
				for n, c := range tried {
					if err := scenario.try(ctx, c.contract, t.TempDir(), c.kills, references[c.contract]); err != nil {
						t.Errorf("crash %d, %s, %q: %v", n, c.contract, c.kills, err)
					}
				}
				mu.Lock()
				crashes, ran = crashes+len(tried), ran+1
				mu.Unlock()
			})
		}
	})
	t.Logf("%d crashes in %d scenarios, %v", crashes, ran, time.Since(started).Round(time.Millisecond))
	if t.Failed() || ran < len(crashScenarios) {
		return // and nothing can be said of the steps that were not reached
	}
	everyStepIsReached(t, points)
}

// crashesOf lists a crash at each of the points that a life reached; every third of them is followed by a second one
// somewhere in the life after.
func crashesOf(contract wire.ContractName, reached []string, r *rand.Rand) []crash {
	hits := map[string]int64{}
	var out []crash
	for _, point := range reached {
		hits[point]++
		kills := []string{failpoint.Spell(point, hits[point])}
		if r.IntN(3) == 0 {
			kills = append(kills, failpoint.Spell(anyPoint, 1+r.Int64N(int64(len(reached)))))
		}
		out = append(out, crash{contract, kills})
	}
	return out
}
