package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/actors"
)

// Config says what to simulate.
type Config struct {
	// Seed decides everything.
	Seed uint64
	// Devices of the first user; 0: as the seed has it, one to three.
	Devices int
	// Duration is the virtual time in which things happen and go wrong; 0: as the seed has it.
	Duration time.Duration
	// Without takes kinds of faults away.
	Without Fault
	// MaxFaults is how many faults there are at most; 0: as many as come. For shrinking.
	MaxFaults int
	// MaxActs is how often applications do something at most; 0: as often as comes.
	MaxActs int
	// Trace, unless nil, gets a line for everything that happens.
	Trace io.Writer

	tamper string // what is done to each device's file behind its engine's back, of tests
}

// Result is what a run came to.
type Result struct {
	Config Config
	Hash   uint64 // of everything that happened
	Lines  int    // that it is the hash of
	Faults int    // that were injected
	Acts   int    // of applications
	Plan   string
	Time   time.Duration // virtual
	// Rule and Finding say what went wrong; "": nothing.
	Rule, Finding string
}

// Failed reports whether something went wrong.
func (r *Result) Failed() bool { return r.Rule != "" }

// world is a run.
type world struct {
	cfg    Config
	seed   uint64
	plan   plan
	loop   *loop
	trace  *trace
	server *server
	system *actor.ActorSystem
	dir    string

	devices []*device
	lives   []*life // that have begun and not ended
	ids     int
	faults  int
	acts    int
	calm    bool // nothing goes wrong any more
	over    bool // everything has come together
	// gathering numbers the times in which everything is brought together, and those in between.
	gathering int
	found     *finding
}

// systems are actor systems that are not in use: one costs 6 ms.
var systems = sync.Pool{New: func() any { return actors.NewSystem(zap.NewNop()) }}

// Run simulates one history.
func Run(cfg Config) (result Result, err error) {
	if cfg.Seed == 0 {
		return result, errors.New("sim: a seed is needed")
	}
	t := newTrace(cfg.Trace)
	w := &world{cfg: cfg, seed: cfg.Seed, plan: newPlan(cfg.Seed, &cfg), loop: newLoop(cfg.Seed, t), trace: t}
	t.now = &w.loop.now
	w.dir, err = os.MkdirTemp(scratch(), "oversqlite-sim-")
	if err != nil {
		return result, err
	}
	t.dir = []byte(w.dir + string(filepath.Separator))
	w.system = systems.Get().(*actor.ActorSystem) //nolint:forcetypeassert // that is what is in it
	result = Result{Config: cfg, Plan: fmt.Sprintf("%s, %d users, %d devices, wild %v, %s at %g", w.plan.contract, w.plan.users, w.plan.devices, w.plan.wild, w.plan.faults, w.plan.rate)}
	f := w.play()
	if cerr := w.close(); cerr != nil && f == nil {
		f = cerr
	}
	systems.Put(w.system)
	result.Hash, result.Lines, result.Faults, result.Acts, result.Time = t.hash.Sum64(), t.lines, w.faults, w.acts, w.loop.now.Sub(epoch)
	if f != nil {
		result.Rule, result.Finding = f.rule, strings.ReplaceAll(f.text, string(t.dir), "")
		t.note("%s: %s", f.rule, f.text)
	}
	return result, os.RemoveAll(w.dir)
}

// scratch is where database files are: in memory, where there is such a place.
func scratch() string {
	if s, err := os.Stat("/dev/shm"); err == nil && s.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// play lets everything happen, and tells what went wrong.
func (w *world) play() (f *finding) {
	defer func() {
		if r := recover(); r != nil {
			f = caught(r)
		}
	}()
	var err error
	if w.server, err = newServer(w); err != nil {
		return &finding{"sim", err.Error()}
	}
	w.trace.note("seed %d: %s", w.seed, w.plan.faults)
	for i := range w.plan.devices + w.plan.users - 1 {
		user := w.server.accounts[max(0, 1+i-w.plan.devices)]
		d := newDevice(w, i, user)
		if err := os.WriteFile(d.path, emptyFile(), 0o600); err != nil {
			fail("sim", "%v", err)
		}
		w.devices = append(w.devices, d)
	}
	for _, d := range w.devices {
		w.loop.after(w.loop.between(0, 3*time.Second), nil, d.start)
	}
	w.schedule()
	w.until(epoch.Add(w.plan.length))
	w.settle()
	return nil
}

// until lets everything happen that is due before a time.
func (w *world) until(end time.Time) {
	for w.loop.step(end) {
		w.look()
	}
	w.loop.now = end
}

// look checks, after each event, what has to hold whatever happens.
func (w *world) look() {
	if w.trace.lines > tooMuch {
		fail("L1", "there is no end to it: %d events, and it is %v", w.trace.lines, w.loop.now.Sub(epoch))
	}
	for again := true; again; { // those who are let go on may cancel others
		again = false
		for _, v := range w.lives {
			again = v.release() || again
		}
	}
	if w.found != nil {
		panic(w.found)
	}
	for _, v := range slices.Clone(w.lives) { // some may end
		v.look()
	}
}

// report remembers what went wrong where a panic would be taken for the engine's.
func (w *world) report(rule, format string, args ...any) {
	if w.found == nil {
		w.found = &finding{rule, fmt.Sprintf(format, args...)}
	}
}

// fault decides whether a fault of a kind happens now.
func (w *world) fault(kind Fault, p float64) bool {
	if w.calm || !w.plan.has(kind) || !w.loop.chance(p) || w.cfg.MaxFaults > 0 && w.faults >= w.cfg.MaxFaults {
		return false
	}
	w.faults++
	return true
}

// schedule lets things happen to the server and to the world now and then.
func (w *world) schedule() {
	now := func(low, high time.Duration, fn func()) {
		var again func()
		again = func() {
			if w.calm {
				return
			}
			fn()
			w.loop.after(w.loop.between(low, high), nil, again)
		}
		w.loop.after(w.loop.between(0, high), nil, again)
	}
	now(2*time.Second, 6*time.Second, func() { w.server.write(pick(w.loop.r, w.server.accounts...)) })
	now(2*time.Second, 8*time.Second, func() {
		if w.fault(Restart, 0.4) {
			w.server.restart()
			w.server.down = true
			w.loop.after(w.loop.between(0, 15*time.Second), nil, func() { w.server.down = false })
		}
	})
	now(2*time.Second, 8*time.Second, func() {
		if w.fault(Prune, 0.5) {
			w.server.prune(pick(w.loop.r, w.server.accounts...))
		}
	})
	now(3*time.Second, 12*time.Second, func() {
		if w.fault(Retire, 0.4) {
			pick(w.loop.r, w.devices...).retire()
		}
	})
	now(3*time.Second, 8*time.Second, func() {
		if w.fault(Restore, 0.3) {
			w.server.goBack(pick(w.loop.r, w.server.accounts...))
		}
	})
	now(3*time.Second, 12*time.Second, func() {
		if w.fault(Forget, 0.2) {
			w.server.forget(pick(w.loop.r, w.server.accounts...))
		}
	})
	now(time.Second, 4*time.Second, func() {
		if d := pick(w.loop.r, w.devices...); d.rests() && w.fault(Copy, 0.3) {
			d.copied()
		}
	})
}

// newID makes ids: of sources, sessions, leases.
func (w *world) newID() string {
	w.ids++
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", w.seed&0xffffffff, w.ids)
}

// close ends what is left of a run, whatever became of it.
func (w *world) close() (f *finding) {
	defer func() {
		if r := recover(); r != nil {
			f = caught(r)
		}
	}()
	for len(w.lives) > 0 {
		w.lives[0].die(false)
	}
	w.loop.close()
	if w.server != nil {
		if err := w.server.dev.Close(); err != nil {
			return &finding{"sim", err.Error()}
		}
	}
	return nil
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }
