package sim

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/messages"
)

// device is a device of a user: its file, its application, and what that knows to have written. Its processes come and go.
type device struct {
	w    *world
	name string
	user *account
	r    *rand.Rand // of the application

	life  *life // nil: no process runs
	path  string
	files int
	skew  time.Duration // of its clock

	decides  string // what its resolver is like
	recovers bool
	auto     bool // syncs in the background
	watches  bool // would rather be told than ask
	poll     time.Duration
	isolates bool
	limits   actors.Limits

	cut    string // "in", "out", "both": a partition
	writes int
	opened bool // in this process
	// newest is the newest token that this device gave a row, until the server has it or somebody decided against it.
	newest map[place]string
	// mine are the rows that nobody else touches, as this device left them.
	mine map[place]row
	// givenUp are the rows whose change the application has discarded, with its token.
	givenUp map[place]string
	// accepted has the version of the server's at which a conflict about a row was decided in its favour.
	accepted map[place]int64
	// doubts are the transactions since the last one that was committed of which only the file knows what became of them.
	doubts     []doubt
	anonymous  bool   // what is written now belongs to nobody
	excused    string // why it may meet its own rows as if they were another's
	era        *era   // of the server's that its file is of
	checkpoint int64
	top        int64          // the highest checkpoint that it has had in that
	former     *era           // that it was of before; nil: none to fall back to
	formerTop  int64          // its top in that
	mixed      bool           // its file has something of another one as well
	overtaken  bool           // and it cannot know
	untold     bool           // whether it has gone over to its era, of which it might as well not have
	held       map[place]bool // what was pending when it was last looked at
	void       map[place]bool // what was written again as the server had it, then
	aside      map[place]row  // of mine, as they were displaced after the server was put back; empty: a deletion
	busy       *sql.Tx
	paused     bool
	closing    bool
}

// newDevice makes a device that has no file yet.
func newDevice(w *world, i int, user *account) *device {
	d := &device{
		w: w, name: fmt.Sprintf("d%d", i), user: user, era: user.era, r: rand.New(rand.NewPCG(w.seed, uint64(10+i))), //nolint:gosec // chance is to be the same each time
		newest: map[place]string{}, mine: map[place]row{}, givenUp: map[place]string{}, accepted: map[place]int64{}, aside: map[place]row{}, anonymous: true,
	}
	d.decides = pick(d.r, "server", "client", "merge")
	d.recovers, d.isolates, d.auto = d.r.IntN(2) == 0, d.r.IntN(2) == 0, d.r.IntN(2) == 0
	d.limits = actors.Limits{Conflicts: 2}
	if d.r.IntN(3) == 0 { // everything in small pieces
		d.limits = actors.Limits{BundleRows: 3, PushChunkRows: 2, CommittedRows: 2, PullBundles: 1, SnapshotRows: 2, Conflicts: 1}
	}
	d.watches, d.poll = d.r.IntN(4) > 0, pollInterval
	if d.watches && w.plan.streams && d.r.IntN(3) > 0 {
		d.poll = seldom
	}
	d.path = w.path(d.nextFile())
	return d
}

func (d *device) nextFile() string {
	d.files++
	return fmt.Sprintf("%s-%d.db", d.name, d.files)
}

// now is the device's clock.
func (d *device) now() time.Time { return d.w.loop.now.Add(d.skew) }

// start begins a process and lets its application act.
func (d *device) start() {
	if d.life != nil {
		return
	}
	v := d.begin()
	d.opened, d.closing, d.paused = false, false, false
	d.open(v)
	d.again(v)
}

// open opens the database, again if that fails.
func (d *device) open(v *life) {
	v.ask(actors.VerbOpen, func(_ actors.Result, err error) {
		if err == nil {
			d.opened = true
			v.books = openBooks(v)
			v.books.rebind() // after an Attach that nobody lived to hear the end of
			if d.auto {
				d.background(v)
			}
			return
		}
		d.judge(v, actors.VerbOpen, err)
		d.w.loop.after(time.Second, nil, func() {
			if d.life == v && !d.closing {
				d.open(v)
			}
		})
	})
}

// again lets the application do its next thing after a while, as long as the process lives.
func (d *device) again(v *life) {
	d.w.loop.after(d.w.loop.between(5*time.Millisecond, 900*time.Millisecond), nil, func() {
		if d.life != v || d.w.calm || d.closing {
			return
		}
		if max := d.w.cfg.MaxActs; max == 0 || d.w.acts < max {
			d.w.acts++
			d.act(v)
		}
		if d.life == v {
			d.again(v)
		}
	})
}

// ended comes back later with a new process.
func (d *device) ended(*life) {
	d.forgetTransaction()
	if d.w.calm {
		return
	}
	d.w.loop.after(d.w.loop.between(10*time.Millisecond, 2*time.Second), nil, d.start)
}

// act does one of the things that applications do.
func (d *device) act(v *life) {
	w := d.w
	switch {
	case w.fault(Kill, 0.02):
		v.die(false)
		return
	case w.fault(Power, 0.02):
		v.die(true)
		return
	case w.fault(Clock, 0.03):
		d.skew += pick(d.r, time.Minute, -time.Minute, 48*time.Hour, -48*time.Hour, time.Second, -time.Second)
		w.trace.note("%s: its clock is off by %v", d.name, d.skew)
	case w.fault(Partition, 0.03):
		d.partition(pick(d.r, "in", "out", "both"))
	case w.fault(Disk, 0.03):
		d.breakDisk(v)
	case w.fault(Busy, 0.04) && d.opened:
		d.hold(v)
	case w.fault(Pause, 0.03):
		d.pause(v)
	}
	if !d.opened {
		return
	}
	if !d.attached() && d.r.IntN(3) > 0 && len(v.calls) == 0 {
		d.attach(v)
		return
	}
	switch n := d.r.IntN(40); {
	case n < 18:
		d.write(v)
	case n < 25:
		d.call(v, actors.VerbSync)
	case n < 28:
		d.call(v, actors.VerbPushPending)
	case n < 31:
		d.call(v, actors.VerbPullToStable)
	case n < 32:
		d.call(v, actors.VerbRebuild)
	case n < 33 && w.fault(Detach, 0.5):
		d.call(v, pick(d.r, actors.VerbDetach, actors.VerbSyncThenDetach))
	case n < 34:
		d.close(v)
	case n < 36:
		d.quarantine(v)
	case n < 37:
		v.engine.Kick()
	case n < 38:
		v.ask(pick(d.r, actors.VerbSyncStatus, actors.VerbPendingSyncStatus, actors.VerbSourceInfo, actors.VerbResume), func(_ actors.Result, err error) {
			d.judge(v, actors.VerbSyncStatus, err)
		})
	case n < 39:
		d.repair(v)
	case d.auto:
		d.call(v, actors.VerbStop)
		d.w.loop.after(d.w.loop.between(0, 3*time.Second), nil, func() {
			if d.life == v && !v.dying && !d.closing {
				d.background(v)
			}
		})
	}
}

// call asks for a verb that may take long, and does what its error asks for.
func (d *device) call(v *life, verb actors.Verb) {
	if len(v.calls) > 4 {
		return
	}
	c := v.ask(verb, func(result actors.Result, err error) {
		if err == nil && result.Detached {
			d.detached()
		}
		d.judge(v, verb, err)
	})
	if d.w.fault(Leave, 0.3) {
		d.w.loop.after(d.w.loop.between(0, 2*time.Second), nil, func() {
			if !v.dying && !c.left {
				d.w.trace.note("%s: does not wait for %s any more", d.name, verb)
				c.left = true
				c.Leave()
				v.calls = slices.DeleteFunc(v.calls, func(o *call) bool { return o == c })
			}
		})
	}
}

// attach asks to be attached.
func (d *device) attach(v *life) {
	v.ask(actors.VerbAttach, func(_ actors.Result, err error) { d.judge(v, actors.VerbAttach, err) })
}

// attached reports whether the engine says so.
func (d *device) attached() bool { return d.life != nil && d.life.engine.Status().AttachedUser != "" }

// background lets the engine sync by itself from now on.
func (d *device) background(v *life) {
	auto := actors.AutoConfig{UserID: d.user.name, Debounce: 20 * time.Millisecond, MaxDelay: 500 * time.Millisecond, PollInterval: d.poll, Watch: d.watches}
	v.wait(actors.VerbStart, v.engine.BeginStart(auto), func(_ actors.Result, err error) { d.judge(v, actors.VerbStart, err) })
}

// close ends the process in good order.
func (d *device) close(v *life) {
	if d.closing {
		return
	}
	d.closing = true
	d.forgetTransaction()
	began := d.w.loop.now
	v.ask(actors.VerbClose, func(_ actors.Result, err error) {
		if err != nil && !errors.Is(err, messages.ErrClosed) {
			fail("L6", "%s: Close: %v", d.name, err)
		}
		if took := d.w.loop.now.Sub(began); took > time.Second {
			fail("L6", "%s: Close took %v", d.name, took)
		}
	})
}

// judge decides whether an error is one that the run explains, and does what an application would do about it.
func (d *device) judge(v *life, verb actors.Verb, err error) {
	var (
		failed   *messages.EngineFailedError
		recovery *messages.SourceRecoveryRequiredError
		mismatch *messages.SourceSequenceMismatchError
	)
	switch {
	case err == nil:
	case errors.As(err, &failed):
		fail("panic", "%s: %s: %v\n%s", d.name, verb, err, failed.Stack)
	case errors.Is(err, context.Canceled):
		fail("L3", "%s: %s was cancelled, and nobody asked for that", d.name, verb)
	case errors.As(err, &recovery), errors.As(err, &mismatch):
		if d.r.IntN(2) == 0 && !v.dying {
			d.call(v, actors.VerbRebuild)
		}
	}
}
