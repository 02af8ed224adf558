package e2e

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/faulty"
	"github.com/oversqlite/oversqlite/wire"
)

// TestTogether lets two devices write at random with background sync on, one request in twenty failing in every way there
// is, and waits. Nobody calls anything: in the end both have the server's rows, while requests still fail.
func TestTogether(t *testing.T) { inBothContracts(t, together) }

func together(t *testing.T, contract wire.ContractName) {
	const user = "together"
	length := envDuration(t, "OVERSQLITE_E2E_CONVERGE", 4*time.Second) / 2
	s := seed(t)
	w := newWorld(t, devserver.Config{InMemory: true, Contract: contract})
	ctx, cancel := context.WithTimeout(context.Background(), length+time.Minute)
	defer cancel()

	engines := make([]*oversqlite.Engine, 2)
	faults := make([]*faulty.Transport, len(engines))
	news := make(chan struct{}, 1)
	for i := range engines {
		path := filepath.Join(t.TempDir(), "device.db")
		if err := createSchema(path); err != nil {
			t.Fatal(err)
		}
		base := http.DefaultTransport.(*http.Transport).Clone()
		t.Cleanup(base.CloseIdleConnections)
		faults[i] = faulty.New(base, uint64(s)+uint64(i))
		faults[i].Random(0.05)
		faults[i].Inject(faulty.Watch, 3, faulty.Fault{Kind: faulty.Cut, Bytes: 400}) // a few events
		cfg := engineConfig(path, w.url, w.token(t, user), faults[i])
		cfg.Resolver = []oversqlite.Resolver{oversqlite.ServerWins, oversqlite.ClientWins}[i]
		e, err := oversqlite.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		engines[i] = e
		t.Cleanup(func() { _ = e.Close() })
		if err := e.Open(ctx); err != nil {
			t.Fatal(err)
		}
		events := e.Subscribe()
		go func() { // ends with the engine
			for range events.C() {
				select {
				case news <- struct{}{}:
				default:
				}
			}
		}()
		start(t, e, user)
		reaches(t, e, func(s *oversqlite.Status) bool { return s.AttachedUser != "" })
	}

	var g errgroup.Group
	end := time.Now().Add(length)
	for i, e := range engines {
		g.Go(func() error {
			r := rand.New(rand.NewPCG(uint64(s), uint64(i)))
			for time.Now().Before(end) {
				if err := e.Write(ctx, func(tx *sql.Tx) error { return randomWrite(tx, r) }); err != nil {
					return err
				}
				<-time.After(time.Duration(r.IntN(60)) * time.Millisecond) // sometimes longer than the debounce
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	written := time.Now()
	for differ := "?"; differ != ""; {
		select {
		case <-news:
		case <-ctx.Done():
			t.Fatalf("not converged after %v:\n%s\n%+v\n%+v", time.Since(written), differ, engines[0].Status(), engines[1].Status())
		}
		differ = w.differences(ctx, t, user, engines)
	}
	injected := 0
	for _, f := range faults {
		for _, kind := range faulty.Every {
			injected += f.Faults(faulty.Any, kind)
		}
	}
	t.Logf("converged %v after the last write, with %d of %d requests having failed",
		time.Since(written).Round(time.Millisecond), injected, faults[0].Requests(faulty.Any)+faults[1].Requests(faulty.Any))
	if injected == 0 {
		t.Error("no fault was injected: the test shows nothing")
	}
}

// differences says what keeps engines from having the server's rows, and no others; "": nothing does.
func (w *world) differences(ctx context.Context, t *testing.T, user string, engines []*oversqlite.Engine) string {
	t.Helper()
	for _, e := range engines {
		switch p, err := e.PendingSyncStatus(ctx); {
		case err != nil:
			t.Fatal(err)
		case p.HasPendingSyncData:
			return "rows are pending"
		}
	}
	there, err := serverDump(ctx, w.server, user)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range engines {
		here, err := localDump(ctx, e.DB())
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(here, there); d != "" {
			return d
		}
	}
	return ""
}
