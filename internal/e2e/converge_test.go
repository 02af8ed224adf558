package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

// TestConverge lets eight devices of one user write at random through one server, with one request in twenty failing
// in every way there is, and then asks whether all of them and the server hold the same rows.
func TestConverge(t *testing.T) { inBothContracts(t, converge) }

func converge(t *testing.T, contract wire.ContractName) {
	const devices, user = 8, "converge"
	length := envDuration(t, "OVERSQLITE_E2E_CONVERGE", 4*time.Second) / 2
	s := seed(t)
	w := newWorld(t, devserver.Config{InMemory: true, Contract: contract})
	token := w.token(t, user)
	ctx, cancel := context.WithTimeout(context.Background(), length+4*time.Minute)
	defer cancel()

	engines := make([]*oversqlite.Engine, devices)
	faults := make([]*faulty.Transport, devices)
	for i := range engines {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("device%d.db", i))
		if err := createSchema(path); err != nil {
			t.Fatal(err)
		}
		faults[i] = faulty.New(http.DefaultTransport.(*http.Transport).Clone(), uint64(s)+uint64(i))
		cfg := engineConfig(path, w.url, token, faults[i])
		cfg.Resolver = []oversqlite.Resolver{oversqlite.ServerWins, oversqlite.ClientWins, oversqlite.MergeColumns(oversqlite.ServerWins)}[i%3]
		e, err := oversqlite.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		engines[i] = e
		if err := e.Open(ctx); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		attach(ctx, t, e, user)
		// A slow machine may not get as far as to draw one: each device meets at least this one.
		faults[i].Inject(faulty.Any, 1, faulty.Fault{Kind: faulty.Every[i%len(faulty.Every)], Status: http.StatusServiceUnavailable})
		faults[i].Random(0.05)
	}

	var g errgroup.Group
	end := time.Now().Add(length)
	for i, e := range engines {
		g.Go(func() error {
			r := rand.New(rand.NewPCG(uint64(s), uint64(i)))
			for time.Now().Before(end) {
				for range r.IntN(6) {
					if err := e.Write(ctx, func(tx *sql.Tx) error { return randomWrite(tx, r) }); err != nil {
						return fmt.Errorf("device %d: write: %w", i, err)
					}
				}
				if _, err := e.Sync(ctx); err != nil && !expected(err) {
					return fmt.Errorf("device %d: sync: %w", i, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	injected := 0
	for _, f := range faults {
		f.Heal()
		for _, kind := range faulty.Every {
			injected += f.Faults(faulty.Any, kind)
		}
	}
	t.Logf("%d faults injected", injected)
	if injected < devices {
		t.Error("not every device has met a fault: the test shows nothing")
	}

	// Two quiet rounds: the first takes every device's last writes to the server, the second brings them to all.
	for range 2 {
		for i, e := range engines {
			if _, err := e.Sync(ctx); err != nil {
				t.Fatalf("device %d: %v", i, err)
			}
		}
	}
	there, err := serverDump(ctx, w.server, user)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows on the server", len(there))
	for i, e := range engines {
		p, err := e.PendingSyncStatus(ctx)
		if err != nil || p.HasPendingSyncData {
			t.Errorf("device %d: pending %+v, %v", i, p, err)
		}
		here, err := localDump(ctx, e.DB())
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(here, there); d != "" {
			t.Errorf("device %d (-) and server (+) differ:\n%s", i, d)
		}
	}
}

func attach(ctx context.Context, t *testing.T, e *oversqlite.Engine, user string) {
	t.Helper()
	for {
		r, err := e.Attach(ctx, user)
		if err != nil {
			t.Fatal(err)
		}
		later, ok := r.(oversqlite.RetryLater)
		if !ok {
			return
		}
		select {
		case <-time.After(later.RetryAfter):
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}

// expected tells the errors that a device under fire may report and get over by itself.
func expected(err error) bool {
	var protocol *oversqlite.ProtocolError // a wrong body
	var exhausted *oversqlite.RetryExhaustedError
	var conflicts *oversqlite.PushConflictRetryExhaustedError
	var http *oversqlite.HTTPError
	return errors.As(err, &protocol) || errors.As(err, &exhausted) || errors.As(err, &conflicts) || errors.As(err, &http)
}

// randomWrite changes a few rows in one transaction: inserts, updates, deletes with cascades, blobs, cycles, and
// values that other devices change as well. It keeps foreign keys intact; deletes remove what refers to the row first.
func randomWrite(tx *sql.Tx, r *rand.Rand) error {
	pick := func(table string) (any, error) {
		var id any
		err := tx.QueryRow(fmt.Sprintf(`SELECT id FROM %s WHERE id >= (SELECT id FROM %s ORDER BY id LIMIT 1 OFFSET ?) ORDER BY id LIMIT 1`, table, table), r.IntN(12)).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		return id, err
	}
	do := func(q string, args ...any) error {
		_, err := tx.Exec(q, args...)
		return err
	}
	shared := func(kind byte) string { // one of a few keys that every device uses
		return fmt.Sprintf("%c0000000-0000-4000-8000-%012d", kind, r.IntN(8))
	}
	switch r.IntN(10) {
	case 0:
		id := newID(r)
		return do(`INSERT INTO users (id, name, email) VALUES (?, ?, ?)`, id, fmt.Sprint("n", r.IntN(100)), id+"@example.com")
	case 1:
		return do(`INSERT INTO categories (id, name) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name`, shared('a'), fmt.Sprint("c", r.IntN(100)))
	case 2:
		parent, err := pick("categories")
		if err != nil || parent == nil {
			return err
		}
		return do(`INSERT INTO categories (id, name, parent_id) VALUES (?, 'child', ?)`, newID(r), parent)
	case 3:
		id, err := pick("users")
		if err != nil || id == nil {
			return err
		}
		return do(`UPDATE users SET name = ? WHERE id = ?`, fmt.Sprint("u", r.IntN(1000)), id)
	case 4:
		return do(`INSERT INTO typed_rows (id, name, count_value, enabled_flag, rating, data) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET count_value = excluded.count_value, rating = excluded.rating, data = excluded.data`,
			shared('d'), "typed", r.Int64N(1<<53), r.IntN(2), r.NormFloat64(), []byte(fmt.Sprint(r.Uint64())))
	case 5:
		id, err := pick("typed_rows")
		if err != nil || id == nil {
			return err
		}
		return do(`DELETE FROM typed_rows WHERE id = ?`, id)
	case 6:
		file := make([]byte, 16)
		for i := range file {
			file[i] = byte(r.Uint32())
		}
		review := append([]byte(nil), file...)
		review[0]++
		if err := do(`INSERT INTO files (id, name, data) VALUES (?, 'f', ?)`, file, []byte{0, 1, 2, byte(r.Uint32())}); err != nil {
			return err
		}
		return do(`INSERT INTO file_reviews (id, review, file_id) VALUES (?, 'r', ?)`, review, file)
	case 7:
		id, err := pick("files")
		if err != nil || id == nil {
			return err
		}
		return do(`DELETE FROM files WHERE id = ?`, id) // cascades to file_reviews
	case 8:
		team, member := newID(r), newID(r)
		if err := do(`INSERT INTO teams (id, name, captain_member_id) VALUES (?, 't', ?)`, team, member); err != nil {
			return err
		}
		return do(`INSERT INTO team_members (id, name, team_id) VALUES (?, 'm', ?)`, member, team)
	default:
		id, err := pick("users")
		if err != nil || id == nil {
			return err
		}
		return do(`INSERT INTO posts (id, title, content, author_id) VALUES (?, 't', 'c', ?)`, newID(r), id)
	}
}
