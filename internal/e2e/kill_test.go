package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/wire"
)

const (
	childEnv  = "OVERSQLITE_E2E_CHILD"
	childUser = "kill"
	counter   = "c0000000-0000-4000-8000-00000000000c"
)

// TestMain turns the test binary into a process that TestKill or TestCrashMatrix kills.
func TestMain(m *testing.M) {
	if order := os.Getenv(crashEnv); order != "" {
		if err := crashChild(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if args := os.Getenv(childEnv); args != "" {
		if err := syncInALoop(strings.Split(args, "\x1f")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	race.FewProperties(10)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// syncInALoop writes and syncs until it is killed. What it has committed it says on standard output: "row ID" and "add N".
func syncInALoop(args []string) error {
	path, url, token, seed := args[0], args[1], args[2], args[3]
	ctx := context.Background()
	if err := createSchema(path); err != nil {
		return err
	}
	cfg := engineConfig(path, url, token, http.DefaultTransport)
	cfg.Synchronous = oversqlite.SynchronousFull
	e, err := oversqlite.New(cfg)
	if err != nil {
		return err
	}
	if err := e.Open(ctx); err != nil {
		return err
	}
	for {
		r, err := e.Attach(ctx, childUser)
		if err != nil {
			return err
		}
		if later, ok := r.(oversqlite.RetryLater); ok {
			time.Sleep(later.RetryAfter)
			continue
		}
		break
	}
	var h uint64
	for _, c := range seed {
		h = h*31 + uint64(c)
	}
	r := rand.New(rand.NewPCG(h, 1))
	for {
		for range 1 + r.IntN(4) {
			id := newID(r)
			err := e.Write(ctx, func(tx *sql.Tx) error {
				if _, err := tx.Exec(`INSERT INTO users (id, name, email) VALUES (?, ?, ?)`, id, "row", id+"@example.com"); err != nil {
					return err
				}
				_, err := tx.Exec(`INSERT INTO posts (id, title, content, author_id) VALUES (?, 't', 'c', ?)`, newID(r), id)
				return err
			})
			if err != nil {
				return err
			}
			fmt.Println("row", id)
		}
		err := e.Write(ctx, func(tx *sql.Tx) error {
			res, err := tx.Exec(`UPDATE typed_rows SET count_value = count_value + 1 WHERE id = ?`, counter)
			if err != nil {
				return err
			}
			if n, _ := res.RowsAffected(); n == 1 {
				return nil
			}
			_, err = tx.Exec(`INSERT INTO typed_rows (id, name, count_value, enabled_flag) VALUES (?, 'counter', 1, 1)`, counter)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Println("add", 1)
		if _, err := e.Sync(ctx); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
}

// TestKill kills a process that writes and syncs in a loop at random moments. No write that it said was committed may
// be lost, none applied twice, the file must be sound, and the database must converge with the server.
func TestKill(t *testing.T) { inBothContracts(t, kills) }

func kills(t *testing.T, contract wire.ContractName) {
	rounds := max(envInt(t, "OVERSQLITE_E2E_KILLS", 25)/2, 1)
	s := seed(t)
	r := rand.New(rand.NewPCG(uint64(s), 2))
	w := newWorld(t, devserver.Config{InMemory: true, Contract: contract})
	path := filepath.Join(t.TempDir(), "device.db")
	token := w.token(t, childUser)

	committed := map[string]bool{}
	adds, started := 0, time.Now()
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{path, w.url, token, fmt.Sprint(s, "-", round)}, "\x1f"))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The clock of the kill starts with the first commit, so that slow start-up is not all that is killed; every
		// fifth round it starts at once.
		lines := bufio.NewScanner(out)
		kill := func() { _ = cmd.Process.Kill() }
		delay := time.Duration(r.Int64N(int64(150 * time.Millisecond)))
		var timer *time.Timer
		if round%5 == 4 {
			timer = time.AfterFunc(delay, kill)
		}
		guard := time.AfterFunc(30*time.Second, kill)
		for lines.Scan() {
			if timer == nil {
				timer = time.AfterFunc(delay, kill)
			}
			var kind, value string
			if n, _ := fmt.Sscan(lines.Text(), &kind, &value); n != 2 {
				continue // a line that the kill cut off was not complete, but its write may be
			}
			if kind == "row" && len(value) == 36 {
				committed[value] = true
			} else if kind == "add" {
				adds++
			}
		}
		if !guard.Stop() {
			t.Fatal("the process neither wrote nor ended for 30 s")
		}
		if timer != nil {
			timer.Stop()
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() >= 0 {
			t.Fatalf("round %d: the process ended by itself: %v", round, err)
		}
	}
	t.Logf("%d kills in %v, %d rows and %d increments said to be committed", rounds, time.Since(started).Round(time.Second), len(committed), adds)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	e, err := oversqlite.New(engineConfig(path, w.url, token, http.DefaultTransport))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Open(ctx); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Attach(ctx, childUser); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	var check string
	if err := e.DB().QueryRow(`PRAGMA integrity_check`).Scan(&check); err != nil || check != "ok" {
		t.Fatalf("integrity_check: %s, %v", check, err)
	}
	pending, err := e.PendingSyncStatus(ctx)
	if err != nil || pending.HasPendingSyncData {
		t.Fatalf("pending after the last sync: %+v, %v", pending, err)
	}
	for id := range committed {
		var n int
		if err := e.DB().QueryRow(`SELECT count(*) FROM users WHERE id = ?`, id).Scan(&n); err != nil || n != 1 {
			t.Fatalf("committed row %s: %d times here (%v)", id, n, err)
		}
	}
	var count int
	if err := e.DB().QueryRow(`SELECT count_value FROM typed_rows WHERE id = ?`, counter).Scan(&count); err != nil {
		t.Fatal(err)
	}
	// An increment may be committed in the instant between the commit and its line: at most one a kill.
	if count < adds || count > adds+rounds {
		t.Fatalf("the counter stands at %d after %d increments that were said and %d kills", count, adds, rounds)
	}
	here, err := localDump(ctx, e.DB())
	if err != nil {
		t.Fatal(err)
	}
	there, err := serverDump(ctx, w.server, childUser)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(here, there); d != "" {
		t.Fatalf("device (-) and server (+) differ:\n%s", d)
	}
}
