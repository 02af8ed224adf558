package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/sqlite"
)

// TestQuarantineHistories puts two devices through random histories in which the server refuses some rows by a constraint
// of its own, takes away what others rest on, and the application retries, discards and repairs. After every step the
// engine's invariant holds; in the end, with everything repaired or given up, all are the same and nothing is pending.
//
// OVERSQLITE_E2E_QUARANTINE says for how long (default 4s); OVERSQLITE_E2E_SEED starts with the history of that seed.
func TestQuarantineHistories(t *testing.T) {
	length := envDuration(t, "OVERSQLITE_E2E_QUARANTINE", 4*time.Second)
	first := uint64(seed(t))
	end := time.Now().Add(length)
	n := 0
	for s := first; !t.Failed() && (n == 0 || time.Now().Before(end)); s++ {
		n++
		t.Run(fmt.Sprint(s), func(t *testing.T) { quarantineHistory(t, s) })
	}
	t.Logf("%d histories", n)
}

// refusedDevice is a device of such a history.
type refusedDevice struct {
	*oversqlite.Engine
	name string
	cfg  sqlite.Config
}

func quarantineHistory(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	onDelete := []string{"", "ON DELETE CASCADE"}[r.IntN(2)]
	w := pickyWorld(t, onDelete)
	var trail []string
	log := func(format string, args ...any) { trail = append(trail, fmt.Sprintf(format, args...)) }
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("OVERSQLITE_E2E_SEED=%d, %q:\n%s", seed, onDelete, strings.Join(trail, "\n"))
		}
	})
	var devices []*refusedDevice
	for i := range 2 {
		d := &refusedDevice{name: fmt.Sprint("d", i)}
		policy := []oversqlite.PoisonPolicy{oversqlite.PoisonHold, oversqlite.PoisonIsolate}[r.IntN(2)]
		d.Engine = pickyDevice(t, w, "history", http.DefaultTransport, onDelete, func(c *oversqlite.Config) {
			c.PoisonPolicy, c.Resolver = policy, []oversqlite.Resolver{oversqlite.ServerWins, oversqlite.ClientWins}[r.IntN(2)]
			c.Limits.PushRows = int64(r.IntN(2) * 3)
			d.cfg = sqlite.Config{Path: c.Path, Schema: c.Schema, Tables: []sqlite.TableConfig{{Name: "parents", Key: "id"}, {Name: "children", Key: "id"}}}
		})
		log("%s: %s", d.name, policy)
		devices = append(devices, d)
	}
	for range 50 {
		d := devices[r.IntN(2)]
		d.step(t, r, log)
		if err := sqlite.VerifyFile(t.Context(), d.cfg); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
	}
	// Everything is repaired, or given up, and goes round until it is everywhere.
	for round := range 6 {
		for _, d := range devices {
			for _, q := range []string{`UPDATE parents SET note = 'ok', code = NULL WHERE note LIKE '%poison%'`, `UPDATE children SET note = 'ok' WHERE note LIKE '%poison%'`} {
				appWrite(t, d.Engine, q)
			}
			if b := d.Status().UploadBlocked; b != nil && round > 1 {
				// Held for what no edit of a note repairs: a child whose parent is gone. It is the application's to give up.
				log("%s: gives up its children: %s", d.name, b.Message)
				appWrite(t, d.Engine, `DELETE FROM children`)
			}
			if err := d.call(t.Context(), "sync"); err != nil && round > 3 {
				t.Errorf("%s: %v", d.name, err)
			}
			if rows := inQuarantine(t, d.Engine); len(rows) > 0 {
				log("%s: %d left in quarantine: %+v", d.name, len(rows), rows[0])
				if err := d.DiscardQuarantined(t.Context(), ids(rows)...); err != nil {
					log("%s: discard: %v", d.name, err)
				}
			}
			if err := sqlite.VerifyFile(t.Context(), d.cfg); err != nil {
				t.Fatalf("%s: %v", d.name, err)
			}
		}
	}
	for _, d := range devices {
		if s := d.Status(); s.Pending.Rows != 0 || s.UploadBlocked != nil {
			t.Errorf("%s: %+v %+v", d.name, s, s.UploadBlocked)
		}
		for _, table := range []string{"parents", "children"} {
			var here int
			if err := d.DB().QueryRow(`SELECT count(*) FROM ` + table).Scan(&here); err != nil || here != len(serverRows(t, w, "history", table)) {
				t.Errorf("%s: %d %s, %d on the server, %v", d.name, here, table, len(serverRows(t, w, "history", table)), err)
			}
		}
	}
}

func ids(rows []oversqlite.QuarantinedRow) (out []int64) {
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

// call makes a call that may end because the server refuses something.
func (d *refusedDevice) call(ctx context.Context, verb string) (err error) {
	switch verb {
	case "sync":
		_, err = d.Sync(ctx)
	case "push":
		_, err = d.PushPending(ctx)
	case "pull":
		_, err = d.PullToStable(ctx)
	default:
		_, err = d.Rebuild(ctx)
	}
	return err
}

// step does one thing.
func (d *refusedDevice) step(t *testing.T, r *rand.Rand, log func(string, ...any)) {
	t.Helper()
	switch n := r.IntN(12); {
	case n < 6:
		d.write(t, r, log)
	case n < 10:
		verb := []string{"sync", "sync", "push", "pull", "rebuild"}[r.IntN(5)]
		err := d.call(t.Context(), verb)
		log("%s: %s: %v", d.name, verb, err)
		var (
			rejected  *oversqlite.PushRejectedError
			exhausted *oversqlite.PushConflictRetryExhaustedError
		)
		if err != nil && !errors.As(err, &rejected) && !errors.As(err, &exhausted) {
			t.Errorf("%s: %s: %v", d.name, verb, err)
		}
	default:
		rows := inQuarantine(t, d.Engine)
		if len(rows) == 0 {
			return
		}
		some := ids(rows[:1+r.IntN(len(rows))])
		var err error
		if r.IntN(2) == 0 {
			err = d.RetryQuarantined(t.Context(), some...)
			log("%s: retry %v: %v", d.name, some, err)
		} else {
			err = d.DiscardQuarantined(t.Context(), some...)
			log("%s: discard %v: %v", d.name, some, err)
		}
		var cannot *oversqlite.QuarantineError
		if err != nil && !errors.As(err, &cannot) {
			t.Errorf("%s: %v", d.name, err)
		}
	}
}

// write lets the application write; what its own constraints refuse it leaves.
func (d *refusedDevice) write(t *testing.T, r *rand.Rand, log func(string, ...any)) {
	t.Helper()
	note := []string{"fine", "fine", "poison"}[r.IntN(3)] + fmt.Sprint(" ", r.IntN(1000))
	code := sql.NullString{String: fmt.Sprint("code ", r.IntN(4)), Valid: r.IntN(3) == 0}
	parent := fmt.Sprint("p", r.IntN(6))
	statements := []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO parents VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET note = excluded.note`, []any{parent, code, note}},
		{`INSERT INTO children VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET parent_id = excluded.parent_id, note = excluded.note`, []any{fmt.Sprint("c", r.IntN(6)), parent, note}},
		{`UPDATE parents SET code = ?, note = ? WHERE id = ?`, []any{code, note, parent}},
		{`DELETE FROM parents WHERE id = ?`, []any{parent}},
		{`DELETE FROM children WHERE id = ?`, []any{fmt.Sprint("c", r.IntN(6))}},
	}
	s := statements[r.IntN(len(statements))]
	err := d.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(s.sql, s.args...); return err })
	log("%s: %s %v: %v", d.name, s.sql, s.args, err)
	if err != nil && !strings.Contains(err.Error(), "constraint") {
		t.Errorf("%s: %v", d.name, err)
	}
}
