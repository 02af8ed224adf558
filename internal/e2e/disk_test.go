package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/internal/disk"
	"github.com/oversqlite/oversqlite/internal/failpoint"
	"github.com/oversqlite/oversqlite/wire"
)

// diskScenarios are those that write in every way that there is.
var diskScenarios = []string{
	"attach and seed",
	"attach by replacing what is here",
	"push in several bundles",
	"push what the server changes, the proof in pages",
	"conflicts, columns are merged",
	"pull several bundles, one of them too large for an answer",
	"rebuild around a push that is not committed",
	"a server that has lost the user",
	"sync, then detach",
}

// onDisk is a case whose database lies on a disk of its own.
type onDisk struct {
	*crashCase
	disk *disk.Disk
	app  *crashApp
	free func()
}

func newOnDisk(ctx context.Context, s *crashScenario, contract wire.ContractName, dir string, config func(*oversqlite.Config)) (*onDisk, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	c, err := newCrashCase(ctx, s, contract, dir)
	if err != nil {
		return nil, err
	}
	o := &onDisk{crashCase: c, disk: disk.New(), app: c.app()}
	configured := *s
	configured.config = config
	o.app.scenario = &configured
	clear := failpoint.PutOn(c.path, o.disk.Name())
	o.free = func() {
		clear()
		o.disk.Remove()
	}
	return o, nil
}

// diskError reports whether err is one by which an application can tell that its disk failed, and that to try again later
// is worth it.
func diskError(err error) bool {
	if errors.Is(err, sqlite3.FULL) || errors.Is(err, sqlite3.IOERR) {
		return true // a statement of the application's own
	}
	var typed *oversqlite.DatabaseError
	var exhausted *oversqlite.RetryExhaustedError
	return errors.As(err, &typed) && (typed.Retryable() || errors.As(err, &exhausted))
}

// failing lets the disk fail as the rule says while the application lives, and then work again: the same engine goes on to
// the end of the scenario. It returns how many operations there were and how many failed.
func (s *crashScenario) failing(ctx context.Context, contract wire.ContractName, dir string, rule func(op int64) error, reference *crashEnd) (ops, failed int64, err error) {
	o, err := newOnDisk(ctx, s, contract, dir, func(cfg *oversqlite.Config) { cfg.Retry.MaxElapsed = 15 * time.Millisecond })
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, o.server.close()) }()
	defer o.free()
	o.disk.Fail(func(op int64) error {
		err := rule(op)
		if err != nil {
			failed++
		}
		return err
	})
	err = s.run(ctx, o.app)
	o.disk.Fail(nil)
	ops = o.disk.Ops()
	if err != nil {
		if !diskError(err) {
			return ops, failed, errors.Join(fmt.Errorf("the application is told: %w", err), o.app.close())
		}
		if _, err := o.check(ctx); err != nil {
			return ops, failed, errors.Join(fmt.Errorf("after the failure: %w", err), o.app.close())
		}
		if err := s.run(ctx, o.app); err != nil {
			return ops, failed, errors.Join(fmt.Errorf("the same engine, on a disk that works: %w", err), o.app.close())
		}
	}
	if err := o.app.close(); err != nil {
		return ops, failed, err
	}
	_, err = o.checkEnd(ctx, 1, reference)
	return ops, failed, err
}

// TestDiskFails lets each write of a scenario, one after the other, meet a full disk or a broken one. The application gets
// an error that says so, nothing is lost, and the same engine goes on when the disk works again.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	most := 1
	if os.Getenv("OVERSQLITE_E2E_CRASHES") == "all" {
		most = 20
	}
	rules := map[string]func(k int64) func(op int64) error{
		"the disk is full from here on": func(k int64) func(int64) error {
			return func(op int64) error { return when(op >= k, disk.Full) }
		},
		"one operation fails": func(k int64) func(int64) error {
			return func(op int64) error { return when(op == k, disk.Broken) }
		},
		"the disk is full for a while": func(k int64) func(int64) error {
			return func(op int64) error { return when(op >= k && op < k+3, disk.Full) }
		},
	}
	eachOnDisk(t, func(ctx context.Context, t *testing.T, s *crashScenario, contract wire.ContractName, r *rand.Rand) {
		reference, _, err := s.reference(ctx, contract, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		total, _, err := s.failing(ctx, contract, t.TempDir(), func(int64) error { return nil }, &reference)
		if err != nil || total < 10 {
			t.Fatalf("on a disk that works: %d operations, %v", total, err)
		}
		hits := int64(0)
		for _, name := range sortedKeys(rules) {
			for _, k := range sample(r, total, most) {
				_, failed, err := s.failing(ctx, contract, t.TempDir(), rules[name](k), &reference)
				if err != nil {
					t.Errorf("%s, operation %d of %d: %v", name, k, total, err)
				}
				hits += failed
			}
		}
		t.Logf("%d operations, %d of them failed in all tries", total, hits)
		if hits == 0 {
			t.Error("nothing failed")
		}
	})
}

func when(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

func sortedKeys[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// sample draws some of the numbers 1 … total, all of them when that are no more.
func sample(r *rand.Rand, total int64, most int) (out []int64) {
	if total <= int64(most) {
		for k := int64(1); k <= total; k++ {
			out = append(out, k)
		}
		return out
	}
	for _, i := range r.Perm(int(total))[:most] {
		out = append(out, int64(i)+1)
	}
	slices.Sort(out)
	return out
}

func eachOnDisk(t *testing.T, try func(context.Context, *testing.T, *crashScenario, wire.ContractName, *rand.Rand)) {
	seed := seed(t)
	for i, name := range diskScenarios {
		s := crashScenarioNamed(name)
		if s == nil {
			t.Fatalf("there is no scenario %q", name)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			r := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			contract := []wire.ContractName{wire.ClassicContract, wire.UniformContract}[r.IntN(2)]
			t.Logf("the server speaks %s", contract)
			try(ctx, t, s, contract, r)
		})
	}
}

var errPower = errors.New("the power is off")

// cut lets the power go at an operation of the disk, and another life begin with what is left. It returns how many
// operations there were.
func (s *crashScenario) cut(ctx context.Context, contract wire.ContractName, dir string, k int64, loss disk.Loss, r *rand.Rand, reference *crashEnd) (ops int64, err error) {
	o, err := newOnDisk(ctx, s, contract, dir, func(cfg *oversqlite.Config) {
		cfg.Retry.MaxElapsed = 15 * time.Millisecond
		cfg.Synchronous = oversqlite.SynchronousFull
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, o.server.close()) }()
	defer o.free()
	journal, err := os.Create(o.journal)
	if err != nil {
		return 0, err
	}
	defer journal.Close()
	o.app.journal = journal
	life, end := context.WithCancel(ctx)
	defer end()
	o.disk.Fail(func(op int64) error {
		if op < k {
			return nil
		}
		o.disk.PowerOff()
		end()
		return disk.Broken
	})
	looks := 0
	o.app.leaving = func(r *http.Request) error {
		if o.disk.Off() {
			return errPower
		}
		looks++
		return o.named(r, filepath.Join(dir, fmt.Sprint("look", looks)))
	}
	err = s.run(life, o.app)
	if closed := o.app.close(); closed != nil {
		return 0, closed
	}
	ops = o.disk.Ops()
	if err != nil && !o.disk.Off() {
		return ops, err
	}
	if o.disk.Off() {
		left := filepath.Join(dir, "left.db")
		if err := o.disk.Image(o.path, left, loss, r); err != nil {
			return ops, err
		}
		o.path = left
		if _, err := o.check(ctx); err != nil {
			return ops, fmt.Errorf("what the power cut left behind: %w", err)
		}
		if err := o.live(ctx, s.run); err != nil {
			return ops, fmt.Errorf("the life after: %w", err)
		}
	}
	_, err = o.checkEnd(ctx, 1, reference)
	return ops, err
}

// named checks that what a request names would survive a power cut at this moment: the source, the frozen push, the lease
// under which it seeds.
func (o *onDisk) named(r *http.Request, to string) error {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/sync/push-sessions") {
		return nil
	}
	if err := o.disk.Image(o.path, to, disk.All, nil); err != nil {
		return err
	}
	var now, left string
	for path, out := range map[string]*string{o.path: &now, to: &left} {
		db, err := sql.Open("sqlite3", "file:"+path)
		if err != nil {
			return err
		}
		err = db.QueryRow(`SELECT json_array(a.current_source_id, a.pending_initialization_id, b.state, b.source_id, b.source_bundle_id, b.canonical_request_hash,
  (SELECT json_group_array(json_array(table_name, key_json, op, base_row_version, wire_payload)) FROM (SELECT * FROM _sync_outbox_rows ORDER BY row_ordinal)))
FROM _sync_attachment_state a, _sync_outbox_bundle b`).Scan(out)
		if err = errors.Join(err, db.Close()); err != nil {
			return fmt.Errorf("what a power cut would leave of a push that is about to be named: %w", err)
		}
	}
	if now != left {
		return fmt.Errorf("a request is about to name what a power cut would take back:\n%s\nand would leave\n%s", now, left)
	}
	return nil
}

// TestPowerCut lets the power go at each write and each sync of a scenario. Transactions of the engine may be taken back by
// that, but none may be torn, none of the application's may be gone, and nothing that the server was told of.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	most := 3
	if os.Getenv("OVERSQLITE_E2E_CRASHES") == "all" {
		most = 50
	}
	eachOnDisk(t, func(ctx context.Context, t *testing.T, s *crashScenario, contract wire.ContractName, r *rand.Rand) {
		reference, _, err := s.reference(ctx, contract, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		total, err := s.cut(ctx, contract, t.TempDir(), 1<<40, disk.All, r, &reference)
		if err != nil || total < 10 {
			t.Fatalf("without a cut: %d operations, %v", total, err)
		}
		for _, k := range sample(r, total, most) {
			loss := disk.Loss(r.IntN(2))
			if _, err := s.cut(ctx, contract, t.TempDir(), k, loss, r, &reference); err != nil {
				t.Errorf("operation %d of %d, loss %d: %v", k, total, loss, err)
			}
		}
		t.Logf("%d operations", total)
	})
}
