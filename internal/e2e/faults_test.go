package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/race"
)

// quickest is the least time that f takes in a few tries: the machine may be busy, but not all the time.
func quickest(tries int, f func()) time.Duration {
	best := time.Hour
	for range tries {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best
}

// TestK9_NothingToDoCostsTheSameInALargeDatabase compares status calls and a Sync with nothing to do in an empty
// database and in one with many rows.
func TestK9_NothingToDoCostsTheSameInALargeDatabase(t *testing.T) {
	race.Skip(t, "measures time")
	ctx := context.Background()
	w := newWorld(t, devserver.Config{InMemory: true})
	empty, large := device(t, w, "empty", 0), device(t, w, "large", 40_000)
	for _, c := range []struct {
		name string
		call func(*oversqlite.Engine) error
	}{
		{"Sync", func(e *oversqlite.Engine) error { _, err := e.Sync(ctx); return err }},
		{"SyncStatus", func(e *oversqlite.Engine) error { _, err := e.SyncStatus(ctx); return err }},
		{"PendingSyncStatus", func(e *oversqlite.Engine) error { _, err := e.PendingSyncStatus(ctx); return err }},
	} {
		t.Run(c.name, func(t *testing.T) {
			measure := func(e *oversqlite.Engine) time.Duration {
				return quickest(60, func() {
					if err := c.call(e); err != nil {
						t.Error(err)
					}
				})
			}
			small, big := measure(empty), measure(large)
			t.Logf("%v empty, %v with 40,000 rows", small, big)
			// A scan of 40,000 rows takes several milliseconds.
			if big > 3*small+2*time.Millisecond {
				t.Errorf("takes %v with 40,000 rows, %v in an empty database", big, small)
			}
		})
	}
}

// TestK22_AllocationsPerRow bounds what a pulled and a pushed row allocate, with everything between the socket and
// SQLite, the test's server included.
func TestK22_AllocationsPerRow(t *testing.T) {
	race.Skip(t, "measures memory")
	const rows = 5_000
	ctx := context.Background()
	w := newWorld(t, devserver.Config{InMemory: true})
	e := device(t, w, "allocations", 10)
	mallocs := func(f func()) float64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / rows
	}
	insert := func(tx *sql.Tx, stamp any) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			INSERT INTO users (id, name, email, created_at, updated_at)
			SELECT lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))),
			       'name', 'mail', ?, ? FROM n`, rows), stamp, stamp)
		return err
	}
	const stamp = "2026-03-24T18:42:11+00:00"
	if err := w.server.ExecWrite(ctx, "allocations", "office", func(tx *sql.Tx) error { return insert(tx, stamp) }); err != nil {
		t.Fatal(err)
	}
	pulled := mallocs(func() {
		if _, err := e.PullToStable(ctx); err != nil {
			t.Fatal(err)
		}
	})
	if err := e.Write(ctx, func(tx *sql.Tx) error { return insert(tx, stamp) }); err != nil {
		t.Fatal(err)
	}
	pushed := mallocs(func() {
		if _, err := e.PushPending(ctx); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%.1f allocations a pulled row, %.1f a pushed row, server included", pulled, pushed)
	if pulled > 20 {
		t.Errorf("%.1f allocations a pulled row, want at most 20", pulled)
	}
	if pushed > 100 {
		t.Errorf("%.1f allocations a pushed row with the server's, want at most 100", pushed)
	}
}

// TestK23_IdleEnginesDoNothing watches engines that have nothing to do: no request leaves, no goroutine appears.
func TestK23_IdleEnginesDoNothing(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, devserver.Config{InMemory: true})
	engines := make([]*oversqlite.Engine, 20)
	for i := range engines {
		engines[i] = device(t, w, fmt.Sprint("idle", i), 1)
		if _, err := engines[i].Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	before, routines := requests(w), runtime.NumGoroutine()
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	// A connection that closes because nobody uses it is work, too, but only once: the fewest of the last samples count.
	fewest := 1 << 30
	for i := range 15 {
		<-ticks.C
		if i >= 10 {
			fewest = min(fewest, runtime.NumGoroutine())
		}
	}
	if n := requests(w) - before; n != 0 {
		t.Errorf("20 idle engines made %d requests in 1.5 s", n)
	}
	if fewest > routines {
		t.Errorf("20 idle engines have %d goroutines, %d before", fewest, routines)
	}
}
