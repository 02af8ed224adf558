package sim

import (
	"bufio"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/oversqlite/oversqlite/internal/race"
)

// oneAtATime is why most of this is not for the race detector.
const oneAtATime = "in a history one thing happens at a time, and others of its kind are watched"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRuns simulates a few histories. OVERSQLITE_SIM_SEEDS says how many, OVERSQLITE_SIM_SEED from which seed on.
func TestRuns(t *testing.T) {
	t.Parallel()
	number := func(name string, otherwise uint64) uint64 {
		s := os.Getenv(name)
		if s == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	few := uint64(8)
	if race.Enabled {
		few = 2
	}
	n, seed := number("OVERSQLITE_SIM_SEEDS", few), number("OVERSQLITE_SIM_SEED", 1)
	faults := 0
	err := Many(context.Background(), Config{Seed: seed}, int(n), func(r Result) { //nolint:gosec // a count
		faults += r.Faults
		if r.Failed() {
			t.Errorf("%s: %s\n%s\nagain: oversqlite sim --trace --seed %d", r.Rule, r.Finding, r.Plan, r.Config.Seed)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d histories from seed %d with %d faults", n, seed, faults)
}

// TestCorpus plays the histories in which something was found once.
func TestCorpus(t *testing.T) {
	race.Skip(t, oneAtATime)
	t.Parallel()
	f, err := os.Open("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		seed, what, _ := strings.Cut(lines.Text(), " ")
		if seed == "" || seed == "#" {
			continue
		}
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Run(Config{Seed: n})
		if err != nil {
			t.Fatal(err)
		}
		if r.Failed() {
			t.Errorf("seed %d (%s): %s: %s", n, what, r.Rule, r.Finding)
		}
	}
}

// The same seed is the same run, event by event.
func TestSameSeedSameRun(t *testing.T) {
	race.Skip(t, oneAtATime)
	t.Parallel()
	for _, seed := range []uint64{2, 11} {
		var first Result
		for i := range 2 {
			r, err := Run(Config{Seed: seed})
			switch {
			case err != nil:
				t.Fatal(err)
			case r.Faults == 0 || r.Lines < 50:
				t.Errorf("seed %d: hardly anything happened: %+v", seed, r)
			case i == 0:
				first = r
			case r.Hash != first.Hash || r.Lines != first.Lines:
				t.Errorf("seed %d: %d events with hash %x, then %d with %x", seed, first.Lines, first.Hash, r.Lines, r.Hash)
			}
		}
	}
}

// A finding is told, played again and shrunk: here one that is made by looking at a device that has been tampered with.
func TestFindings(t *testing.T) {
	race.Skip(t, oneAtATime)
	t.Parallel()
	for seed := uint64(1); seed < 40; seed++ {
		cfg := Config{Seed: seed, Without: Disk | Busy, tamper: `UPDATE slots SET name = 'tampered' WHERE substr(id, 1, 2) = 'v-'`}
		r, err := Run(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Failed() {
			continue
		}
		small, err := Shrink(context.Background(), r, 5*time.Second)
		if err != nil || small.Rule != r.Rule || small.Lines > r.Lines {
			t.Errorf("shrunk from %+v to %+v, %v", r, small, err)
		}
		again, err := Run(small.Config)
		if err != nil || again.Finding != small.Finding || again.Hash != small.Hash {
			t.Errorf("played again: %+v, then %+v, %v", small, again, err)
		}
		t.Logf("seed %d: %s: %s, %d events, shrunk to %d", seed, r.Rule, r.Finding, r.Lines, small.Lines)
		return
	}
	t.Error("nobody notices that rows are changed behind the engine's back")
}
