package e2e

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/race"
)

// What a write on one device takes to be seen on another one, with background sync on both and a machine that has time.
const (
	latencyHalf = 50 * time.Millisecond  // of half of all writes
	latencyMost = 250 * time.Millisecond // of 99 in 100
	// On a machine that is busy with other things everything takes longer, that of which a write's way consists as well: see
	// floor. The limits are then so many times that.
	latencyFloors = 4
)

// TestLatency writes on one device five times a second and waits on another one, as an application does that shows what
// it finds: whenever the engine says that tables have changed, a reader looks. OVERSQLITE_E2E_LATENCY is how many writes.
func TestLatency(t *testing.T) {
	const user = "latency"
	writes := envInt(t, "OVERSQLITE_E2E_LATENCY", 10)
	w := newWorld(t, devserver.Config{InMemory: true})
	a, b := device(t, w, user, 0), device(t, w, user, 0)
	seen := b.Subscribe(oversqlite.WithKinds(oversqlite.KindTablesChanged), oversqlite.WithBuffer(writes+100))
	defer seen.Close()
	for _, e := range []*oversqlite.Engine{a, b} {
		start(t, e, user)
		reaches(t, e, func(s *oversqlite.Status) bool { return s.Reason == "watching for changes" })
	}

	r := rand.New(rand.NewPCG(1, uint64(seed(t))))
	written := map[string]time.Time{}
	var took, floor []time.Duration
	disk, err := os.Create(filepath.Join(t.TempDir(), "floor"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	look := func() {
		for id, at := range written {
			var name string
			if b.DB().QueryRow(`SELECT name FROM users WHERE id = ?`, id).Scan(&name) == nil {
				took = append(took, time.Since(at))
				delete(written, id)
			}
		}
	}
	next, late := time.NewTicker(200*time.Millisecond), time.NewTimer(time.Duration(writes)*200*time.Millisecond+time.Minute)
	defer next.Stop()
	defer late.Stop()
	for n := 0; n < writes || len(written) > 0; {
		select {
		case <-seen.C():
			look()
		case <-next.C:
			if n++; n > writes {
				next.Stop()
				continue
			}
			floor = append(floor, w.floor(t, disk))
			id := newID(r)
			written[id] = time.Now()
			if _, err := a.DB().Exec(`INSERT INTO users (id, name, email) VALUES (?, ?, ?)`, id, fmt.Sprint("write ", n), id+"@example.com"); err != nil {
				t.Fatal(err)
			}
		case <-late.C:
			t.Fatalf("%d writes of %d were not seen; %+v; %+v", len(written), writes, a.Status(), b.Status())
		}
	}
	if n := seen.Dropped(); n > 0 {
		t.Errorf("%d events were dropped", n)
	}
	half, most := quantile(took, 0.5), quantile(took, 0.99)
	floorHalf, floorMost := quantile(floor, 0.5), quantile(floor, 0.99)
	t.Logf("%d writes seen on the other device after p50 %v, p99 %v, at most %v; floor p50 %v, p99 %v",
		len(took), half, most, slices.Max(took), floorHalf, floorMost)
	if os.Getenv("OVERSQLITE_E2E_LATENCY") == "" || race.Enabled {
		return // seen they were: a few writes beside other tests say nothing of time
	}
	if limit := max(latencyHalf, latencyFloors*floorHalf); half > limit {
		t.Errorf("half of the writes took longer than %v, the limit is %v", half, limit)
	}
	if limit := max(latencyMost, latencyFloors*floorMost); most > limit {
		t.Errorf("one in a hundred writes took longer than %v, the limit is %v", most, limit)
	}
}

// quantile is the least value that so large a share of all values does not exceed.
func quantile(values []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(int(math.Ceil(share*float64(len(sorted)))), 1)-1]
}

// floor is how long it takes to do what a write's way to another device consists of, with nothing in it: six requests,
// three waits for the disk.
func (w *world) floor(t *testing.T, disk *os.File) time.Duration {
	t.Helper()
	begun := time.Now()
	for range 6 {
		resp, err := http.Get(w.url + "/nothing")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	for range 3 {
		if _, err := disk.WriteAt(make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
		if err := disk.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(begun)
}

// start begins background sync.
func start(t *testing.T, e *oversqlite.Engine, user string) {
	t.Helper()
	if err := e.Start(context.Background(), oversqlite.AutoConfig{UserID: user}); err != nil {
		t.Fatal(err)
	}
}

// reaches waits until an engine's status is as wanted.
func reaches(t *testing.T, e *oversqlite.Engine, holds func(*oversqlite.Status) bool) {
	t.Helper()
	changes := e.Subscribe(oversqlite.WithKinds(oversqlite.KindStateChanged))
	defer changes.Close()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for s := e.Status(); !holds(&s); s = e.Status() {
		select {
		case <-changes.C():
		case <-late.C:
			t.Fatalf("not within a minute: %+v", s)
		}
	}
}
