package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/race"
)

// device opens and attaches an engine on a database with the business tables and rows users in it, all synced.
func device(b testing.TB, w *world, user string, rows int) *oversqlite.Engine {
	b.Helper()
	ctx := context.Background()
	path := filepath.Join(b.TempDir(), "device.db")
	if err := createSchema(path); err != nil {
		b.Fatal(err)
	}
	e, err := oversqlite.New(engineConfig(path, w.url, w.token(b, user), http.DefaultTransport))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := e.Open(ctx); err != nil {
		b.Fatal(err)
	}
	if _, err := e.Attach(ctx, user); err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for done := 0; done < rows; {
		err := e.Write(ctx, func(tx *sql.Tx) error {
			st, err := tx.Prepare(`INSERT INTO users (id, name, email) VALUES (?, 'n', ?)`)
			if err != nil {
				return err
			}
			defer st.Close()
			for n := min(10_000, rows-done); n > 0; n-- {
				id := newID(r)
				if _, err := st.Exec(id, id+"@example.com"); err != nil {
					return err
				}
				done++
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if _, err := e.Sync(ctx); err != nil {
		b.Fatal(err)
	}
	return e
}

func requests(w *world) int64 {
	var n int64
	for _, c := range w.server.Requests() {
		n += c
	}
	return n
}

// BenchmarkSync measures a Sync that has nothing to do and one that has a single row to push, in databases of different
// size, over a loopback connection. The floor is a bare request to the same server.
func BenchmarkSync(b *testing.B) {
	ctx := context.Background()
	for _, rows := range []int{0, 100_000} {
		w := newWorld(b, devserver.Config{InMemory: true})
		e := device(b, w, "bench", rows)
		b.Run(fmt.Sprintf("floor=health/rows=%d", rows), func(b *testing.B) {
			for b.Loop() {
				resp, err := http.Get(w.url + "/syncx/health")
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
		b.Run(fmt.Sprintf("noop/rows=%d", rows), func(b *testing.B) {
			before := requests(w)
			for b.Loop() {
				if _, err := e.Sync(ctx); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(requests(w)-before)/float64(b.N), "requests/op")
		})
		b.Run(fmt.Sprintf("onerow/rows=%d", rows), func(b *testing.B) {
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
			before := requests(w)
			for b.Loop() {
				id := newID(r)
				if _, err := e.DB().Exec(`INSERT INTO users (id, name, email) VALUES (?, 'n', ?)`, id, id+"@example.com"); err != nil {
					b.Fatal(err)
				}
				if _, err := e.Sync(ctx); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(requests(w)-before)/float64(b.N), "requests/op")
		})
	}
}

// TestRequestsPerSync holds the number of requests: one for a Sync with nothing to do, at most five for one row.
func TestRequestsPerSync(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t, devserver.Config{InMemory: true})
	e := device(t, w, "requests", 10)

	before := requests(w)
	if _, err := e.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if n := requests(w) - before; n != 1 {
		t.Errorf("a Sync with nothing to do made %d requests, want 1", n)
	}
	if _, err := e.DB().Exec(`UPDATE users SET name = 'other' WHERE id = (SELECT min(id) FROM users)`); err != nil {
		t.Fatal(err)
	}
	before = requests(w)
	if _, err := e.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if n := requests(w) - before; n > 5 {
		t.Errorf("a Sync with one row made %d requests, want at most 5", n)
	}
}

// resident returns the resident memory of this process in bytes.
func resident(t testing.TB) int64 {
	runtime.GC()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("resident memory is read from /proc/self/status, which this system does not have")
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS in /proc/self/status")
	return 0
}

// TestIdleEngine measures what an open, attached, idle engine costs.
func TestIdleEngine(t *testing.T) {
	race.Skip(t, "measures memory")
	const engines, limit = 100, 500 << 10
	ctx := context.Background()
	w := newWorld(t, devserver.Config{InMemory: true})
	token := w.token(t, "idle")
	var open []*oversqlite.Engine
	defer func() {
		for _, e := range open {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	start := func(n int) {
		for range n {
			path := filepath.Join(t.TempDir(), "device.db")
			if err := createSchema(path); err != nil {
				t.Fatal(err)
			}
			e, err := oversqlite.New(engineConfig(path, w.url, token, http.DefaultTransport))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, e)
			if err := e.Open(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Attach(ctx, "idle"); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Sync(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	start(5) // what is shared by all engines of a process is there now
	routines, before := runtime.NumGoroutine(), resident(t)
	start(engines)
	each := (resident(t) - before) / engines
	perEngine := float64(runtime.NumGoroutine()-routines) / engines
	t.Logf("an idle engine costs %d KB and %.2f goroutines", each>>10, perEngine)
	if each > limit {
		t.Errorf("an idle engine costs %d KB, want at most %d", each>>10, limit>>10)
	}
	if perEngine > 1.2 { // database/sql's connection opener
		t.Errorf("an idle engine keeps %.2f goroutines, want at most the one of its *sql.DB", perEngine)
	}
}

// TestMemoryIsFlat syncs a row many times over and compares what the process holds early and late.
func TestMemoryIsFlat(t *testing.T) {
	race.Skip(t, "measures memory")
	rounds := envInt(t, "OVERSQLITE_E2E_SYNCS", 300)
	ctx := context.Background()
	w := newWorld(t, devserver.Config{Dir: t.TempDir()})
	e := device(t, w, "flat", 100)
	id := "f0000000-0000-4000-8000-00000000000f"
	if _, err := e.DB().Exec(`INSERT INTO users (id, name, email) VALUES (?, '', 'f@example.com')`, id); err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run := func(n int) {
		for i := range n {
			if _, err := e.DB().Exec(`UPDATE users SET name = ? WHERE id = ?`, fmt.Sprint(i, time.Now()), id); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Sync(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(rounds / 4)
	heapBefore, rssBefore, routines := heap(), resident(t), runtime.NumGoroutine()
	run(rounds - rounds/4)
	heapAfter, rssAfter := heap(), resident(t)
	t.Logf("after %d and %d syncs: heap %d and %d KB, resident %d and %d KB", rounds/4, rounds, heapBefore>>10, heapAfter>>10, rssBefore>>10, rssAfter>>10)
	if heapAfter > heapBefore+2<<20 {
		t.Errorf("the heap grew by %d KB", (heapAfter-heapBefore)>>10)
	}
	if rssAfter > rssBefore+16<<20 {
		t.Errorf("resident memory grew by %d KB", (rssAfter-rssBefore)>>10)
	}
	if n := runtime.NumGoroutine(); n > routines+5 {
		t.Errorf("%d goroutines after, %d before", n, routines)
	}
}
