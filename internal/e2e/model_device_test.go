package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/internal/faulty"
	"github.com/oversqlite/oversqlite/internal/workload"
)

// modelDevice is one device of the model's user, and what its application knows to have written.
type modelDevice struct {
	t      *testing.T
	name   string
	server *modelServer
	path   string
	token  string
	faults *faulty.Transport
	engine *oversqlite.Engine
	look   *sql.DB // a connection of its own, for the checks
	log    func(format string, args ...any)
	oracle bool

	resolver oversqlite.Resolver

	mu     sync.Mutex
	r      *rand.Rand // of what happens during requests and of the application's writes
	rate   float64    // of requests that fail
	busy   float64    // of requests during which somebody writes
	guests int        // how often that may still happen in this step: a push in pieces ends no sooner than the writing
	writes int
	// newest is the newest token that this device gave a shared row, until the server has it or somebody decided against it.
	newest map[place]string
	// mine are the rows that nobody else touches, as this device left them; kept is what they were when it was detached.
	mine, kept map[place]row
	anonymous  bool // what is written now belongs to nobody
	attached   bool // in this process
	auto       bool // its source is replaced without being asked
	excused    bool // it may meet its own rows as if they were another's
	retired    bool // it has come to an end that nobody gets it out of
	during     func()
	doing      int        // requests and questions to the resolver that are under way
	idle       *sync.Cond // of mu: doing is 0
}

func newModelDevice(t *testing.T, s *modelServer, i int, seed uint64, log func(string, ...any)) *modelDevice {
	d := modelDeviceAt(t, s, filepath.Join(t.TempDir(), "model.db"), i, seed, log)
	d.anonymous = true
	var err error
	if d.look, err = sql.Open("sqlite3", "file:"+d.path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.look.Exec(workload.ClientSchema); err != nil {
		t.Fatal(err)
	}
	return d
}

// modelDeviceAt is the i-th device without its database.
func modelDeviceAt(t *testing.T, s *modelServer, path string, i int, seed uint64, log func(string, ...any)) *modelDevice {
	token, err := s.server.IssueToken(modelUser)
	if err != nil {
		t.Fatal(err)
	}
	d := &modelDevice{
		t: t, name: fmt.Sprintf("d%d", i), server: s, token: token, path: path, log: log,
		r: rand.New(rand.NewPCG(seed, uint64(10+i))), newest: map[place]string{},
	}
	d.idle = sync.NewCond(&d.mu)
	d.faults = faulty.New(s, seed)
	d.resolver = []oversqlite.Resolver{oversqlite.ServerWins, oversqlite.ClientWins, oversqlite.MergeColumns(nil)}[d.r.IntN(3)]
	d.auto = d.r.IntN(2) == 0
	return d
}

// RoundTrip lets something happen to a request, or during it.
func (d *modelDevice) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	d.doing++
	defer d.done()
	var f faulty.Fault
	if d.r.Float64() < d.rate {
		kinds := []faulty.Kind{faulty.Refuse, faulty.Lose, faulty.Cut, faulty.Status, faulty.Overrule, faulty.Duplicate, faulty.WrongBody}
		f.Kind = kinds[d.r.IntN(len(kinds))]
		if strings.HasSuffix(r.URL.Path, "/commit") && d.r.IntN(2) == 0 {
			f.Kind = faulty.Lose
		}
		f.Body = []string{"", "<html>", `{"stable_bundle_seq":1,"bun`, `[]`}[d.r.IntN(4)]
		f.Status, f.Bytes = []int{429, 500, 502, 503}[d.r.IntN(4)], d.r.IntN(300)
	}
	during := d.during
	d.during = nil
	switch {
	case during != nil || d.guests <= 0:
	case d.r.Float64() < d.busy && d.r.IntN(3) == 0:
		during = d.server.write
	case d.r.Float64() < d.busy:
		during = func() { d.write() }
	}
	if during != nil {
		d.guests--
		if d.r.IntN(2) == 0 {
			f.BeforeSend = func(*http.Request) { during() }
		} else {
			f.BeforeAnswer = func(*http.Request) { during() }
		}
	}
	if f.Kind != faulty.None {
		d.log("  %s: %s %s: %s %d", d.name, r.Method, r.URL.Path, f.Kind, f.Status)
	}
	d.faults.Inject(faulty.Any, 1, f)
	d.mu.Unlock()
	return d.faults.RoundTrip(r)
}

// Resolve decides as the device is set up to, and keeps account of it. Nobody else touches a private row: a conflict about
// one is a fault.
func (d *modelDevice) Resolve(ctx context.Context, c oversqlite.Conflict) (oversqlite.Resolution, error) {
	key := workload.At(c.Table, c.Key["id"])
	if !key.Shared() {
		d.mu.Lock()
		excused := d.excused
		d.mu.Unlock()
		if d.oracle && !excused {
			d.t.Errorf("%s: a conflict about %s, which nobody else touches: %s of %s on %d, server %s at %d",
				d.name, key, c.LocalOp, c.Local, c.BaseRowVersion, c.Server, c.ServerRowVersion)
		}
		return oversqlite.KeepLocal{}, nil
	}
	d.mu.Lock()
	d.doing++
	defer d.done()
	meanwhile := d.busy > 0 && d.guests > 0 && d.r.IntN(3) == 0
	d.guests--
	d.mu.Unlock()
	if meanwhile {
		d.write() // perhaps the very row that is being decided about
	}
	answer, err := d.resolver.Resolve(ctx, c)
	d.log("  %s: %s: %s on %d, server at %d (deleted %v): %T", d.name, key, c.LocalOp, c.BaseRowVersion, c.ServerRowVersion, c.ServerRowDeleted, answer)
	if _, kept := answer.(oversqlite.KeepLocal); !kept {
		d.mu.Lock()
		// Written again meanwhile, the answer is not applied, and the newer token stays.
		if _, local, err := readRow(c.Table, c.Local, true); err == nil && local.Token == d.newest[key] {
			delete(d.newest, key)
		}
		d.mu.Unlock()
	}
	return answer, err
}

// done notes the end of a request or of a question to the resolver.
func (d *modelDevice) done() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doing--; d.doing == 0 {
		d.idle.Broadcast()
	}
}

// calmed waits for what a call that was given up has left under way, and lets nothing more happen during requests: what
// comes next looks at the device's books.
func (d *modelDevice) calmed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guests, d.during = 0, nil
	for d.doing > 0 {
		d.idle.Wait()
	}
}

func (d *modelDevice) config() oversqlite.Config {
	cfg := oversqlite.Config{
		Path: d.path, AutoRecover: d.auto, Schema: workload.Schema, Tables: engineTables(), ServerURL: "http://model.invalid", Resolver: d,
		HTTPClient:  &http.Client{Transport: bearer{token: d.token, next: d}},
		Synchronous: oversqlite.SynchronousNormal,
		Retry:       oversqlite.RetryConfig{Initial: time.Millisecond, Max: 3 * time.Millisecond, Multiplier: 2, MaxElapsed: 5 * time.Second},
		Limits:      oversqlite.Limits{ConflictsAtOnce: 2},
	}
	if d.name == "d1" { // one device does everything in small pieces
		cfg.Limits = oversqlite.Limits{PushRows: 3, PushChunkRows: 2, CommittedRows: 2, PullBundles: 1, SnapshotRows: 2, ConflictsAtOnce: 1, PullBodyBytes: 900}
	}
	return cfg
}

func (d *modelDevice) open(ctx context.Context) {
	e, err := oversqlite.New(d.config())
	if err == nil {
		err = e.Open(ctx)
	}
	if err != nil {
		d.t.Fatalf("%s: open: %v", d.name, err)
	}
	d.engine, d.attached = e, false
}

// write lets the application write, in one transaction.
func (d *modelDevice) write() {
	d.mu.Lock()
	defer d.mu.Unlock()
	wrote := map[place]string{}
	var mine map[place]row
	err := d.engine.Write(context.Background(), func(tx *sql.Tx) error {
		clear(wrote)
		d.writes++
		w := workload.Writer{Tx: tx, R: d.r, Who: d.name, N: d.writes * 1000, Wrote: wrote, Vacates: true}
		if err := w.ByDevice(); err != nil {
			return err
		}
		rows, err := workload.Rows(tx)
		mine = d.own(rows)
		return err
	})
	if errors.Is(err, oversqlite.ErrClosed) || err != nil && strings.Contains(err.Error(), "SYNC_TRANSITION_PENDING") {
		return
	}
	if err != nil {
		d.t.Errorf("%s: a write of the application: %v", d.name, err)
		return
	}
	d.mine = mine
	for p, token := range wrote {
		delete(d.newest, p)
		if token != "" {
			d.newest[p] = token
		}
	}
}

// own picks the rows that nobody but this device touches.
func (d *modelDevice) own(rows map[place]row) map[place]row {
	out := map[place]row{}
	for p, r := range rows {
		if p.Of(d.name) {
			out[p] = r
		}
	}
	return out
}

// sameRows tells the first difference between two sets of rows.
func sameRows(got, want map[place]row) error {
	for p, r := range want {
		if got[p].Text != r.Text {
			return fmt.Errorf("%s is %s, and should be %s", p, got[p], r)
		}
	}
	for p, r := range got {
		if _, wanted := want[p]; !wanted {
			return fmt.Errorf("%s is there and should not be: %s", p, r)
		}
	}
	return nil
}

// settleAccounts takes what the server has had out of what is still to come.
func (d *modelDevice) settleAccounts() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	for p, token := range d.newest {
		if d.server.tokens[token] {
			delete(d.newest, p)
		}
	}
}

// check looks at everything that must hold between two calls: the engine's own invariant; the newest content of an intent
// is what stands in its row; a row without one is what the server had at the version that is noted for it.
func (d *modelDevice) check(ctx context.Context) error {
	if err := verifyModel(ctx, d.path); err != nil {
		return err
	}
	tx, err := d.look.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	here, err := workload.Rows(tx)
	if err != nil {
		return err
	}
	if err := workload.Dangling(here); err != nil {
		return err
	}
	intents := map[place]*string{}
	for _, q := range []string{
		`SELECT table_name, key_json ->> 'id', local_payload FROM _sync_outbox_rows`,
		`SELECT table_name, key_json ->> 'id', payload FROM _sync_dirty_rows`,
	} {
		if err := each(tx, q, func(scan func(...any) error) error {
			var p place
			var payload *string
			err := scan(&p.Table, &p.Key, &payload)
			intents[p] = payload
			return err
		}); err != nil {
			return err
		}
	}
	for p, payload := range intents {
		want, err := localRow(p.Table, payload)
		if err != nil {
			return err
		}
		if got := here[p]; got.Text != want.Text {
			return fmt.Errorf("%s: the intent is %s, the row is %s", p, want, got)
		}
	}
	if !d.oracle {
		return nil
	}
	if !d.anonymous {
		if err := sameRows(d.own(here), d.mine); err != nil {
			return fmt.Errorf("a row that nobody else touches: %w", err)
		}
	}
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return each(tx, `SELECT table_name, key_json ->> 'id', row_version, deleted FROM _sync_row_state`, func(scan func(...any) error) error {
		var v version
		var deleted bool
		if err := scan(&v.Table, &v.Key, &v.number, &deleted); err != nil {
			return err
		}
		if _, intended := intents[v.place]; intended {
			return nil
		}
		got, isHere := here[v.place]
		if deleted {
			if isHere {
				return fmt.Errorf("%s is deleted at %d, and here: %s", v.place, v.number, got)
			}
			return nil
		}
		if want, known := d.server.history[v]; !known || want != got.Text {
			return fmt.Errorf("%s at %d is %s, the server had %s", v.place, v.number, got, want)
		}
		return nil
	})
}

func each(tx *sql.Tx, q string, fn func(scan func(...any) error) error) error {
	rows, err := tx.Query(q)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
