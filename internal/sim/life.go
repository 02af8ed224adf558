package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/internal/disk"
	"github.com/oversqlite/oversqlite/internal/failpoint"
	"github.com/oversqlite/oversqlite/internal/workload"
	"github.com/oversqlite/oversqlite/sqlite"
	"github.com/oversqlite/oversqlite/transport"
)

// life is a process with an engine: from its start to its end, which may be sudden. It is the dispatcher of its engine's
// actors and the network of its workers.
type life struct {
	w      *world
	d      *device
	engine *actors.Engine
	disk   *disk.Disk
	path   string
	unput  func()
	books  *books

	awaits   int         // events to come that are this life's
	mail     []*event    // actors that are to run
	flying   []*exchange // requests that are under way
	streams  []*stream   // that are open
	calls    []*call
	answered []error // what calls were answered: it is theirs, and not background sync's
	dying    bool    // the end has come: nothing is waited for any more
	ready    []func()
	checked  int64 // operations of the disk up to the last check
	failing  bool  // of the disk
	sleeping []*event
}

// call is a call of the application's that is under way.
type call struct {
	*actors.Call
	verb  actors.Verb
	began time.Time
	left  bool
	then  func(actors.Result, error)
}

// begin starts a process on the device's file.
func (d *device) begin() *life {
	w := d.w
	v := &life{w: w, d: d, path: d.path, disk: disk.New()}
	v.unput = failpoint.PutOn(v.path, v.disk.Name())
	client, err := transport.New(transport.Config{
		BaseURL: "http://sim.test", HTTPClient: &http.Client{Transport: v}, IdleTimeout: -1, Now: d.now, AfterFunc: v.clientTimer,
	})
	if err != nil {
		fail("sim", "%v", err)
	}
	o := actors.Options{
		Database: sqlite.Config{
			Path: v.path, Schema: workload.Schema, BusyTimeout: time.Nanosecond, RestAfter: -1, NewID: w.newID, Now: d.now,
		},
		Client: client, ServerURL: "http://sim.test", AutoRecover: d.recovers, Isolate: d.isolates,
		Retry:  actors.RetryConfig{Initial: 200 * time.Millisecond, Max: 8 * time.Second, Multiplier: 2, Jitter: 0.3, MaxElapsed: 40 * time.Second},
		Limits: d.limits, Resolve: d.resolve, ResolveTimeout: time.Hour, NewSourceID: w.newID, Log: v.log(), System: w.system,
		// What the engine waits for goes by a clock that does not jump, as the difference of two times does in Go.
		World: actors.World{Now: func() time.Time { return w.loop.now }, AfterFunc: v.afterFunc, Chance: w.loop.r.Float64, Dispatcher: v},
	}
	for i := range tables {
		o.Database.Tables = append(o.Database.Tables, sqlite.TableConfig{Name: tables[i].Name, Key: "id"})
	}
	v.engine = actors.NewEngine(o)
	w.lives = append(w.lives, v)
	d.life = v
	w.trace.note("%s: begins", d.name)
	return v
}

// log makes a finding of what the engine itself calls an error.
func (v *life) log() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(complaints{v}), zapcore.ErrorLevel))
}

type complaints struct{ v *life }

func (c complaints) Write(p []byte) (int, error) {
	// That a call ended with an error is judged by what the call is answered.
	if !c.v.dying && !c.v.failing && !bytes.Contains(p, []byte(`"msg":"a call ended with an error"`)) {
		c.v.w.report("log", "%s: %s", c.v.d.name, p)
	}
	return len(p), nil
}

// Schedule implements actor.Dispatcher: an actor runs a little later.
func (v *life) Schedule(fn func()) {
	if v.dying {
		v.ready = append(v.ready, fn)
		return
	}
	l := v.w.loop
	delay := l.between(0, 300*time.Microsecond)
	if l.chance(0.02) {
		delay = l.between(0, 50*time.Millisecond)
	}
	var e *event
	e = l.after(delay, v, func() {
		v.mail = slices.DeleteFunc(v.mail, func(o *event) bool { return o == e })
		l.run(fn)
	})
	v.mail = append(v.mail, e)
}

// Throughput implements actor.Dispatcher.
func (v *life) Throughput() int { return 1 << 30 }

// afterFunc is the engine's timer.
func (v *life) afterFunc(d time.Duration, fn func()) (stop func()) {
	if v.dying {
		return func() {}
	}
	e := v.w.loop.after(d, v, fn)
	v.sleeping = append(v.sleeping, e)
	return func() {
		v.w.loop.drop(e)
		v.sleeping = slices.DeleteFunc(v.sleeping, func(o *event) bool { return o == e })
	}
}

// ask lets the application ask the engine for something.
func (v *life) ask(verb actors.Verb, then func(actors.Result, error), ids ...int64) *call {
	return v.wait(verb, v.engine.Begin(verb, v.d.user.name, ids...), then)
}

func (v *life) wait(verb actors.Verb, begun *actors.Call, then func(actors.Result, error)) *call {
	v.w.trace.note("%s: asks for %s", v.d.name, verb)
	c := &call{Call: begun, verb: verb, began: v.w.loop.now, then: then}
	v.calls = append(v.calls, c)
	return c
}

// look takes the answers that have come, and checks what the last event may have changed.
func (v *life) look() {
	if v.dying {
		return
	}
	if v.w.cfg.tamper != "" && v.books != nil && v.d.attached() {
		v.tamper()
	}
	if ops := v.disk.Ops(); ops != v.checked {
		v.checked = ops
		v.check()
	}
	for i := 0; i < len(v.calls); i++ {
		c := v.calls[i]
		result, err, done := c.Answer()
		if !done {
			continue
		}
		v.calls = slices.Delete(v.calls, i, i+1)
		i--
		v.w.trace.note("%s: %s: %v", v.d.name, c.verb, err)
		if err != nil {
			v.answered = append(v.answered, err)
		}
		c.then(result, err)
		if v.dying {
			return
		}
	}
	if len(v.calls) > 0 && v.awaits == 0 {
		fail("L2", "%s: %s has been waiting since %v, and nothing is to come that would end that: %+v",
			v.d.name, v.calls[0].verb, v.calls[0].began.Sub(epoch), v.engine.Status())
	}
	if v.engine.Closed() {
		v.end()
	}
}

// tamper changes the file without anybody noticing.
func (v *life) tamper() {
	c, err := sqlite3.OpenFlags(v.path, sqlite3.OPEN_READWRITE)
	if err == nil {
		err = errors.Join(c.Exec(`UPDATE _sync_apply_state SET apply_mode = 1; `+v.w.cfg.tamper+`; UPDATE _sync_apply_state SET apply_mode = 0`), c.Close())
	}
	if err != nil {
		fail("sim", "%v", err)
	}
	v.checked = 0
}

// die ends a process at once: what it was about to do it never does. What it has sent is still on its way.
func (v *life) die(power bool) {
	d := v.d
	v.w.trace.note("%s: dies, power cut %v", d.name, power)
	next := v.w.path(d.nextFile())
	v.disk.Fail(nil)
	if err := v.image(next, power); err != nil {
		fail("sim", "%v", err)
	}
	d.path = next
	if power {
		d.fallBack()
	}
	v.dying = true
	for _, e := range v.mail {
		v.w.loop.drop(e)
		v.ready = append(v.ready, e.fn)
	}
	for _, e := range v.sleeping {
		v.w.loop.drop(e)
	}
	v.disk.PowerOff()
	d.forgetTransaction()
	v.engine.Begin(actors.VerbClose, "")
	for v.release() || len(v.ready) > 0 {
		if len(v.ready) == 0 {
			continue
		}
		fn := v.ready[0]
		v.ready = v.ready[1:]
		v.w.loop.run(fn)
	}
	if !v.engine.Closed() {
		fail("L6", "%s: Close does not end: %+v", d.name, v.engine.Status())
	}
	v.end()
}

// image writes the file as the end leaves it.
func (v *life) image(to string, power bool) error {
	if power {
		return v.disk.Image(v.path, to, pick(v.w.loop.r, disk.All, disk.Some, disk.Some), v.w.loop.r)
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(v.path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(to+suffix, b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end is the end of a process, of which nothing is left.
func (v *life) end() {
	v.w.trace.note("%s: has ended", v.d.name)
	v.books.close()
	v.books = nil
	v.unput()
	v.disk.Remove()
	v.w.lives = slices.DeleteFunc(v.w.lives, func(o *life) bool { return o == v })
	v.dying = true
	if v.d.life == v {
		v.d.life = nil
		v.d.ended(v)
	}
}

// exchange is a request that is under way.
type exchange struct {
	v    *life
	ctx  context.Context //nolint:containedctx // of the request
	what string
	due  *event // its end
	lane *lane
	resp *http.Response
	err  error
	done bool
}

// RoundTrip implements http.RoundTripper: the worker that makes the request waits on its lane.
func (v *life) RoundTrip(r *http.Request) (*http.Response, error) {
	if v.dying {
		return nil, errors.New("the network is gone")
	}
	body, err := readAll(r)
	if err != nil {
		return nil, err
	}
	header := r.Header.Clone()
	header.Set("Authorization", "Bearer "+v.d.user.token)
	x := &exchange{v: v, ctx: r.Context(), what: r.Method + " " + r.URL.Path}
	x.send(&message{method: r.Method, url: r.URL, header: header, body: body, user: v.d.user})
	v.flying = append(v.flying, x)
	for !x.done {
		x.lane = v.w.loop.lane
		if v.w.loop.wait().ended {
			return nil, errors.New("the run is over")
		}
	}
	v.flying = slices.DeleteFunc(v.flying, func(o *exchange) bool { return o == x })
	if x.resp != nil {
		x.resp.Request = r
	}
	return x.resp, x.err
}

func readAll(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(r.Body)
	return body, errors.Join(err, r.Body.Close())
}

// finish ends an exchange and lets the one who waits for it go on.
func (x *exchange) finish(resp *http.Response, err error) {
	if x.done {
		return
	}
	x.resp, x.err, x.done = resp, err, true
	x.v.w.loop.drop(x.due)
	x.v.w.loop.enter(x.lane)
}

// release lets those go on whose request was given up. It reports whether there was any.
func (v *life) release() (some bool) {
	for _, x := range slices.Clone(v.flying) {
		switch {
		case x.done:
		case x.ctx.Err() != nil:
			v.w.trace.note("%s: gives up %s", v.d.name, x.what)
			x.finish(nil, x.ctx.Err())
			some = true
		case v.dying:
			x.finish(nil, errors.New("the network is gone"))
			some = true
		}
	}
	return v.unwatch() || some
}
