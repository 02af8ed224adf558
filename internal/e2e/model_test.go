package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/internal/workload"
)

// TestModel puts two or three devices of one user through random histories and asks after every step whether everything
// still holds: the engine's own invariant, what each row says of itself against what the server ever had, and that no
// change has gone without somebody having decided so. In the end all devices and the server are the same, versions too.
//
// OVERSQLITE_E2E_MODEL says for how long (default 8s); OVERSQLITE_E2E_SEED starts with the history of that seed.
func TestModel(t *testing.T) {
	length := envDuration(t, "OVERSQLITE_E2E_MODEL", 8*time.Second)
	first := uint64(seed(t))
	end := time.Now().Add(length)
	n := 0
	for s := first; !t.Failed() && (n == 0 || time.Now().Before(end)); s++ {
		n++
		t.Run(fmt.Sprint(s), func(t *testing.T) { modelRun(t, s) })
	}
	t.Logf("%d histories", n)
}

// model is one history.
type model struct {
	t       *testing.T
	ctx     context.Context
	r       *rand.Rand
	server  *modelServer
	devices []*modelDevice
	log     func(format string, args ...any) // of what happens, told when the history fails
	oracle  bool                             // false: the server loses its memory in this history
	seed    uint64
	backup  []byte // of the server
}

func modelRun(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // the race detector makes a history ten times as long
	defer cancel()
	m := &model{t: t, ctx: ctx, seed: seed, r: rand.New(rand.NewPCG(seed, 0))}
	m.server = newModelServer(t, seed)
	m.oracle = m.r.IntN(4) != 0
	var mu sync.Mutex
	var trail []string
	m.log = func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		trail = append(trail, fmt.Sprintf(format, args...))
	}
	m.server.log = m.log
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() {
			t.Logf("OVERSQLITE_E2E_SEED=%d, %d steps:\n%s", seed, len(trail), strings.Join(trail, "\n"))
		}
	})
	for i := range 2 + m.r.IntN(2) {
		d := newModelDevice(t, m.server, i, seed, m.log)
		d.oracle = m.oracle
		d.open(ctx)
		m.devices = append(m.devices, d)
	}
	defer func() {
		for _, d := range m.devices {
			_ = d.engine.Close()
			_ = d.look.Close()
		}
		_ = m.server.server.Close()
	}()
	for range 60 + m.r.IntN(60) {
		d := m.devices[m.r.IntN(len(m.devices))]
		if d.retired {
			continue
		}
		m.step(d)
		d.calmed()
		d.settleAccounts()
		if err := d.check(ctx); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
		if t.Failed() {
			return
		}
	}
	m.converge()
}

// step does one thing on a device, or on the server.
func (m *model) step(d *modelDevice) {
	if !d.attached && m.r.IntN(8) > 0 {
		m.judge(d, "attach", m.attach(d), false)
	}
	m.weather(d)
	switch n := m.r.IntN(43); {
	case n < 12:
		m.note(d, "write", nil)
		d.write()
	case n < 20:
		m.do(d, "sync", func(ctx context.Context) error { _, err := d.engine.Sync(ctx); return err })
	case n < 23:
		m.do(d, "push", func(ctx context.Context) error { _, err := d.engine.PushPending(ctx); return err })
	case n < 26:
		m.do(d, "pull", func(ctx context.Context) error { _, err := d.engine.PullToStable(ctx); return err })
	case n < 27:
		m.do(d, "rebuild", func(ctx context.Context) error { _, err := d.engine.Rebuild(ctx); return err })
	case n < 29:
		m.note(d, "close and open", d.engine.Close())
		d.open(m.ctx)
	case n < 30:
		m.do(d, "sync, then detach", func(ctx context.Context) error {
			r, err := d.engine.SyncThenDetach(ctx)
			if r.IsSuccess() {
				d.detached()
			}
			return err
		})
	case n < 31:
		m.do(d, "detach", func(ctx context.Context) error {
			r, err := d.engine.Detach(ctx)
			if err == nil && r.Outcome == oversqlite.Detached {
				d.detached()
			}
			return err
		})
	case n < 33:
		m.judge(d, "attach", m.attach(d), false)
	case n < 36:
		m.note(d, "the server writes", nil)
		m.server.write()
	case n < 37:
		m.note(d, "the server forgets its history", m.prune())
	case n < 38 && !m.oracle && m.r.IntN(3) == 0:
		m.note(d, "the server forgets the user", m.server.forget())
	case n < 39:
		ctx, cancel := context.WithCancel(m.ctx)
		d.mu.Lock()
		d.during = cancel
		d.mu.Unlock()
		_, err := d.engine.Sync(ctx)
		cancel()
		d.stop()
		m.judge(d, "a sync that is called off", err, true)
	case n < 40:
		m.note(d, "its source is retired", m.retire(d))
	case n < 41:
		m.note(d, "it is copied", m.copyDevice(d))
	case n < 42:
		if !m.oracle {
			m.note(d, "the server is backed up, or restored", m.goBack())
		}
	default:
		closed := make(chan error, 1)
		e := d.engine
		d.mu.Lock()
		d.during = func() { go func() { closed <- e.Close() }() }
		d.mu.Unlock()
		_, err := e.Sync(m.ctx)
		if d.stop() {
			<-closed
		} else {
			_ = e.Close()
		}
		m.note(d, fmt.Sprintf("close and open during a sync, which says %v", err), nil)
		d.open(m.ctx)
	}
}

// weather decides how a device's requests fare from now on.
func (m *model) weather(d *modelDevice) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guests = 6
	d.rate = []float64{0, 0, 0.05, 0.3}[m.r.IntN(4)]
	d.busy = []float64{0, 0, 0.1, 0.3}[m.r.IntN(4)]
}

func (m *model) note(d *modelDevice, what string, err error) {
	m.log("%s: %s: %v", d.name, what, err)
	if err != nil {
		m.t.Errorf("%s: %s: %v", d.name, what, err)
	}
}

func (m *model) do(d *modelDevice, what string, fn func(context.Context) error) {
	m.log("%s: %s …", d.name, what)
	m.judge(d, what, fn(m.ctx), false)
}

// judge decides whether an error is one that the history explains, and does what an application would do about it.
func (m *model) judge(d *modelDevice, what string, err error, ended bool) {
	m.log("%s: %s: %v", d.name, what, err)
	var attach *oversqlite.AttachRequiredError
	var rejected *oversqlite.PushRejectedError
	var versions *oversqlite.PushConflictRetryExhaustedError
	switch {
	case err == nil:
	case ended && (errors.Is(err, context.Canceled) || errors.Is(err, oversqlite.ErrClosed)):
	case recoverable(err):
		m.recover(d, err)
	case errors.As(err, &versions) && !m.oracle:
		// Versions of a server that has begun anew compare with nothing; the next call knows better.
	case errors.As(err, &rejected) && !m.oracle:
		// Somebody else has seeded the scope without the parent of a row that is pending here.
		d.retired = true
	case errors.As(err, &attach):
		switch err := m.attach(d); {
		case errors.As(err, &attach):
			m.note(d, "attach as required", err)
		default:
			m.judge(d, "attach as required", err, false)
		}
	case d.rate > 0 && expected(err):
	default:
		m.t.Errorf("%s: %s: %v", d.name, what, err)
	}
}

// recoverable reports whether a Rebuild is all that is lacking.
func recoverable(err error) bool {
	return errors.As(err, new(*oversqlite.SourceRecoveryRequiredError)) || errors.As(err, new(*oversqlite.SourceSequenceMismatchError))
}

// stop forgets what was to happen during the next request, and reports whether it has happened.
func (d *modelDevice) stop() (happened bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	happened = d.during == nil
	d.during = nil
	return happened
}

// calm ends bad weather.
func (d *modelDevice) calm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rate, d.busy = 0, 0
}

func (m *model) attach(d *modelDevice) error {
	d.calm()
	var pending int64
	if err := d.look.QueryRow(`SELECT count(*) FROM _sync_dirty_rows`).Scan(&pending); err != nil {
		return err
	}
	r, err := d.engine.Attach(m.ctx, modelUser)
	if recoverable(err) { // it lacks a Rebuild, and nothing else
		d.anonymous, d.attached = false, true
	}
	if err != nil {
		return err
	}
	c, ok := r.(oversqlite.Connected)
	if !ok {
		m.log("%s: %#v", d.name, r)
		return nil
	}
	m.log("%s: attached: %s %+v", d.name, c.Outcome, c.Restore)
	if d.anonymous && c.Outcome == oversqlite.UsedRemoteState {
		d.mu.Lock()
		clear(d.newest) // what was replaced is gone, and said to be
		d.mine = d.kept
		d.mu.Unlock()
		if c.Restore == nil || c.Restore.DroppedLocalRows != pending {
			return fmt.Errorf("%d changes were replaced, the result says %+v", pending, c.Restore)
		}
	}
	d.anonymous, d.attached = false, true
	return nil
}

// detached notes that the database belongs to nobody now.
func (d *modelDevice) detached() {
	d.anonymous, d.attached, d.kept = true, false, d.mine
}

// converge lets everything come to rest and compares.
func (m *model) converge() {
	for round := range 4 {
		for _, d := range m.devices {
			if d.retired {
				continue
			}
			d.calm()
			for tries := 0; (d.anonymous || tries == 0) && !d.retired; tries++ {
				m.judge(d, "attach at the end", m.attach(d), false)
				if tries > 5 {
					m.t.Errorf("%s: it does not get attached", d.name)
				}
				if m.t.Failed() {
					return
				}
				if d.anonymous { // another device has the lease
					for _, o := range m.devices {
						if !o.anonymous && !o.retired {
							_, err := o.engine.Sync(m.ctx)
							m.judge(o, "sync of the seeding device", err, false)
						}
					}
				}
			}
			if d.retired {
				continue
			}
			if !m.oracle && round == 1 {
				// A server that begins anew and comes further than a device has pulled cannot be told from one that has
				// gone on. For that there is Rebuild.
				m.do(d, "rebuild at the end", func(ctx context.Context) error { _, err := d.engine.Rebuild(ctx); return err })
			}
			_, err := d.engine.Sync(m.ctx)
			if round > 0 && m.oracle && err != nil {
				m.t.Errorf("%s: sync at the end: %v", d.name, err)
			}
			m.judge(d, "sync at the end", err, false)
			m.giveUp(d)
			d.calmed()
			d.settleAccounts()
			if err := d.check(m.ctx); err != nil {
				m.t.Errorf("%s: %v", d.name, err)
			}
			if m.t.Failed() {
				return
			}
		}
	}
	m.compare()
}

// giveUp discards what the server refuses for good. There is such a thing only where somebody else has seeded the scope anew
// without what a pending row rests on.
func (m *model) giveUp(d *modelDevice) {
	rows, err := d.engine.Quarantined(m.ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	if len(rows) == 0 {
		return
	}
	if m.oracle {
		m.t.Errorf("%s: in quarantine: %+v", d.name, rows)
	}
	m.note(d, fmt.Sprintf("%d changes are given up", len(rows)), d.engine.DiscardQuarantined(m.ctx, ids(rows)...))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range rows {
		delete(d.newest, workload.At(r.Table, r.Key["id"]))
	}
}

// compare asks whether all devices and the server are the same.
func (m *model) compare() {
	there, err := liveRows(m.server.server)
	if err != nil {
		m.t.Fatal(err)
	}
	onServer := map[place]row{}
	for v, r := range there {
		onServer[v.place] = r
	}
	for _, d := range m.devices {
		if d.retired {
			continue
		}
		p, err := d.engine.PendingSyncStatus(m.ctx)
		if err != nil || p.HasPendingSyncData {
			m.t.Errorf("%s: pending %+v, %v", d.name, p, err)
		}
		tx, err := d.look.Begin()
		if err != nil {
			m.t.Fatal(err)
		}
		here, err := workload.Rows(tx)
		if err != nil {
			m.t.Fatal(err)
		}
		versions := map[place]int64{}
		if err := each(tx, `SELECT table_name, key_json ->> 'id', row_version FROM _sync_row_state WHERE deleted = 0`, func(scan func(...any) error) error {
			var v version
			err := scan(&v.Table, &v.Key, &v.number)
			versions[v.place] = v.number
			return err
		}); err != nil {
			m.t.Fatal(err)
		}
		_ = tx.Rollback()
		for v, r := range there {
			if here[v.place].Text != r.Text || versions[v.place] != v.number {
				m.t.Errorf("%s: %s is %s at %d, on the server %s at %d", d.name, v.place, here[v.place], versions[v.place], r, v.number)
			}
		}
		if len(here) != len(there) || len(versions) != len(there) {
			m.t.Errorf("%s: %d rows, %d of them known, %d on the server", d.name, len(here), len(versions), len(there))
		}
		if m.oracle {
			if err := sameRows(d.own(onServer), d.mine); err != nil {
				m.t.Errorf("%s: on the server, a row that nobody else touches: %v", d.name, err)
			}
			for p, token := range d.newest {
				m.t.Errorf("%s: %s was set to %q; the server never had it, and nobody decided against it", d.name, p, token)
			}
		}
	}
}
