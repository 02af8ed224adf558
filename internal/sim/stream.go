package sim

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/oversqlite/oversqlite/transport"
)

// heartbeat is how often the server shows on a stream that it is there.
const heartbeat = 25 * time.Second

// stream is a watch stream, from the server's hands to the client's. Either end may be gone without the other knowing.
type stream struct {
	x *exchange // that opened it
	a *account

	// The server's end.
	ended  bool      // it sends nothing any more
	silent bool      // nothing arrives any more, and nobody is told
	last   time.Time // when what was sent last arrives: the next thing does not overtake it

	// The client's end. It is the body of the answer, read on a lane.
	taken  bool
	closed bool
	got    []byte // has arrived, and is not read yet
	err    error  // with which it breaks off after that
	lane   *lane  // of the reader who waits; nil: nobody does
}

// follow takes over a stream that the server's handler has opened. The handler leaves after what it says at first, for a
// reply is no http.Flusher; what it would go on with is made here, so that it comes in virtual time. nil: it opened none.
func (s *server) follow(x *exchange, a *reply) *stream {
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		return nil
	}
	st := &stream{x: x, a: x.v.d.user, got: a.body.Bytes()}
	s.streams = append(s.streams, st)
	st.beat()
	return st
}

// beat sends heartbeats for as long as there is somebody to send them.
func (st *stream) beat() {
	w := st.x.v.w
	w.loop.after(heartbeat, nil, func() {
		if !st.ended && !w.over {
			st.send(": heartbeat\n\n")
			st.beat()
		}
	})
}

// tell tells all who watch an account of its last bundle.
func (s *server) tell(a *account) {
	s.streams = slices.DeleteFunc(s.streams, func(st *stream) bool { return st.ended })
	for _, st := range slices.Clone(s.streams) {
		if st.a == a {
			st.send(fmt.Sprintf("event: bundle\ndata: {\"bundle_seq\":%d}\n\n", a.last))
		}
	}
}

// hangUp ends all streams of an account: in order, abruptly, or so that nobody hears of it.
func (s *server) hangUp(a *account) {
	for _, st := range s.streams {
		if st.a != a || st.ended {
			continue
		}
		switch pick(s.w.loop.r, "in order", "abruptly", "unheard") {
		case "in order":
			st.arrive("", io.EOF)
		case "abruptly":
			st.arrive("", syscall.ECONNRESET)
		}
		st.ended = true
	}
}

// send sends something from the server's end.
func (st *stream) send(text string) {
	w, l := st.x.v.w, st.x.v.w.loop
	if st.closed || st.x.done && !st.taken { // the client is gone, or never came
		st.ended = true
	}
	if st.ended || st.silent {
		return
	}
	var err error
	late := time.Duration(0)
	switch {
	case st.x.v.d.cutOff("in"):
		if l.chance(0.5) {
			st.silent = true
			return
		}
		late = l.between(time.Second, silence) // it is sent again until it gets through
	case w.fault(Stream, 2*w.plan.rate):
		switch pick(l.r, "silent", "cut", "end", "late", "twice") {
		case "silent":
			w.trace.note("%s: the stream falls silent", st.x.v.d.name)
			st.silent = true
			return
		case "cut":
			text, err = text[:l.r.IntN(len(text)+1)], syscall.ECONNRESET
		case "end":
			err = io.EOF
		case "late":
			late = l.between(time.Second, 90*time.Second)
		case "twice":
			text += text
		}
	case w.fault(Garbage, w.plan.rate):
		text = pick(l.r, "event: bundle\ndata: {\n\n", "event: bundle\ndata: {\"bundle_seq\":0}\n\n", "event: bundle\n\n", "event: other\ndata: 1\n\n",
			"data: x\nid: 7\nretry: 1\n\n", strings.Repeat(": nothing\n", 100), "\xff\xfe", "<html>\n\n") + text
	}
	st.ended = err != nil
	at := l.now.Add(l.between(2*time.Millisecond, 60*time.Millisecond) + late)
	if at.Before(st.last) {
		at = st.last
	}
	st.last = at
	l.after(at.Sub(l.now), nil, func() { st.arrive(text, err) })
}

// arrive is what the client's end sees of something.
func (st *stream) arrive(text string, err error) {
	if st.closed || st.err != nil {
		return
	}
	v := st.x.v
	v.w.trace.note("%s: the stream: %q %v", v.d.name, text, err)
	st.got, st.err = append(st.got, text...), err
	st.wake()
}

// wake lets a reader go on.
func (st *stream) wake() {
	if n := st.lane; n != nil {
		st.lane = nil
		st.x.v.w.loop.enter(n)
	}
}

// Read implements io.Reader: its worker waits on its lane.
func (st *stream) Read(p []byte) (int, error) {
	v := st.x.v
	for {
		switch {
		case st.x.ctx.Err() != nil:
			return 0, st.x.ctx.Err()
		case v.dying:
			return 0, errors.New("the network is gone")
		case len(st.got) > 0:
			n := copy(p, st.got)
			st.got = st.got[n:]
			return n, nil
		case st.err != nil:
			return 0, st.err
		}
		st.lane = v.w.loop.lane
		if v.w.loop.wait().ended {
			return 0, errors.New("the run is over")
		}
	}
}

// Close implements io.Closer.
func (st *stream) Close() error {
	st.closed = true
	v := st.x.v
	v.streams = slices.DeleteFunc(v.streams, func(o *stream) bool { return o == st })
	return nil
}

// response is the answer that a stream is the body of.
func (st *stream) response(a *reply) *http.Response {
	resp := response(a.status, a.header, nil)
	resp.Body, resp.ContentLength = st, -1
	st.taken = true
	st.x.v.streams = append(st.x.v.streams, st)
	return resp
}

// unwatch lets readers of streams go on that were given up. It reports whether there was any.
func (v *life) unwatch() (some bool) {
	for _, st := range slices.Clone(v.streams) {
		if st.lane != nil && (v.dying || st.x.ctx.Err() != nil) {
			v.w.trace.note("%s: leaves the stream", v.d.name)
			st.wake()
			some = true
		}
	}
	return some
}

// watched reports whether a device has a stream on which nothing is wrong, and nothing is late any more.
func (d *device) watched() bool {
	soon := d.w.loop.now.Add(promptly / 10)
	return d.life != nil && slices.ContainsFunc(d.life.streams, func(st *stream) bool {
		return !st.ended && !st.silent && st.err == nil && st.last.Before(soon)
	})
}

// timer is a timer of a client's. Nobody waits for it who would not wait for something else as well, so it is nobody's event.
type timer struct {
	v  *life
	fn func()
	e  *event
}

// clientTimer is the clock of the client's patience.
func (v *life) clientTimer(d time.Duration, fn func()) transport.Timer {
	t := &timer{v: v, fn: fn}
	t.arm(d)
	return t
}

func (t *timer) arm(d time.Duration) { t.e = t.v.w.loop.after(d, nil, t.fn) }

// Stop implements transport.Timer.
func (t *timer) Stop() bool {
	was := t.e.index >= 0
	t.v.w.loop.drop(t.e)
	return was
}

// Reset implements transport.Timer.
func (t *timer) Reset(d time.Duration) bool {
	was := t.Stop()
	t.arm(d)
	return was
}
