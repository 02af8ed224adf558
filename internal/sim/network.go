package sim

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errTimeout is what a request ends with whose answer never comes.
type errTimeout struct{}

func (errTimeout) Error() string { return "no answer for too long" }
func (errTimeout) Timeout() bool { return true }

// send puts a request on its way. Its end, an answer or none, is an event of its life; what the server makes of it happens
// whether that is still there or not.
func (x *exchange) send(m *message) {
	w, d := x.v.w, x.v.d
	l := w.loop
	out, back := l.between(2*time.Millisecond, 60*time.Millisecond), l.between(2*time.Millisecond, 60*time.Millisecond)
	kind := x.fault(m)
	if kind == "late" {
		if l.chance(0.5) {
			out += l.between(time.Second, silence/2)
		} else {
			back += l.between(time.Second, silence/2)
		}
	}
	w.trace.note("%s: → %s %s%s", d.name, x.what, m.url.RawQuery, ifAny(" ", kind))
	fails := func(after time.Duration, err error) {
		x.due = l.after(after, x.v, func() {
			w.trace.note("%s: ← %s: %v", d.name, x.what, err)
			x.finish(nil, err)
		})
	}
	answers := func(after time.Duration, make func() *http.Response) {
		x.due = l.after(after, x.v, func() {
			resp := make() //nolint:bodyclose // the client closes it
			if resp == nil {
				return
			}
			w.trace.note("%s: ← %s: %d", d.name, x.what, resp.StatusCode)
			x.finish(resp, nil)
		})
	}
	arrives := func(after time.Duration, heard func(*reply)) {
		l.after(after, nil, func() {
			if w.server.down {
				return
			}
			a := w.server.serve(m)
			w.trace.note("server: %s of %s: %d %s", x.what, d.name, a.status, code(a))
			heard(a)
		})
	}
	quick := l.chance(0.5) // a broken connection is told, or shows by silence
	wait := silence
	if quick {
		wait = out + back
	}
	broken := error(syscall.ECONNRESET)
	if !quick {
		broken = errTimeout{}
	}
	nobody := func(*reply) {}
	switch {
	case kind == "lost", d.cutOff("out"):
		fails(wait, broken)
	case w.server.down:
		fails(out, syscall.ECONNREFUSED)
	case kind == "answer lost", d.cutOff("in"):
		arrives(out, nobody)
		fails(max(wait, out+time.Millisecond), broken)
	case strings.HasPrefix(kind, "status before"):
		answers(out+back, func() *http.Response { return x.status(kind) })
	case strings.HasPrefix(kind, "status after"):
		arrives(out, nobody)
		answers(out+back, func() *http.Response { return x.status(kind) })
	case kind == "garbage":
		arrives(out, nobody)
		garbage := pick(l.r, "<html><body>Welcome to the hotel</body></html>", "[]", "{}", "null", `{"ok":true}`, "", "\x00\x01\x02", `{"bundles":[{"bundle_seq":`)
		answers(out+back, func() *http.Response { return response(http.StatusOK, http.Header{}, []byte(garbage)) })
	case kind == "forbidden", kind == "disabled":
		answers(out+back, func() *http.Response { return noWatch(kind) })
	default:
		var got *reply
		var opened *stream
		arrives(out, func(a *reply) { got, opened = a, w.server.follow(x, a) })
		if kind == "twice" {
			arrives(out+l.between(0, 2*time.Second), nobody)
		}
		x.due = l.after(out+back, x.v, func() {
			if got == nil { // the server went down meanwhile
				w.trace.note("%s: ← %s: the server is gone", d.name, x.what)
				x.finish(nil, io.ErrUnexpectedEOF)
				return
			}
			resp := x.respond(got, opened, kind) //nolint:bodyclose // the client closes it
			w.trace.note("%s: ← %s: %d%s", d.name, x.what, got.status, ifAny(" ", kind))
			x.finish(resp, nil)
		})
	}
}

// fault decides what goes wrong with a request; "": nothing.
func (x *exchange) fault(*message) string {
	w, r := x.v.w, x.v.w.loop.r
	switch {
	case strings.HasSuffix(x.what, "/sync/watch") && w.fault(Stream, w.plan.rate):
		return pick(r, "forbidden", "disabled")
	case w.fault(Loss, w.plan.rate):
		return pick(r, "lost", "lost", "answer lost", "answer lost", "late", "late", "twice", "cut")
	case w.fault(Status, w.plan.rate):
		return fmt.Sprintf("status %s %d %s", pick(r, "before", "before", "after"),
			pick(r, 429, 500, 502, 503, 504, 429, 500, 502, 503, 504, 401, 403, 404, 409, 410, 413, 408),
			pick(r, "", "", "seconds", "date", "nonsense"))
	case strings.HasSuffix(x.what, "/sync/pull") && w.fault(Garbage, 0.3):
		return "wrong hash"
	case w.fault(Garbage, w.plan.rate):
		return pick(r, "garbage", "wrong hash")
	}
	return ""
}

// status is an answer of somebody who stands before the server.
func (x *exchange) status(kind string) *http.Response {
	parts := strings.Split(kind, " ")
	status, _ := strconv.Atoi(parts[2])
	header := http.Header{}
	r := x.v.w.loop.r
	switch parts[3] {
	case "seconds":
		header.Set("Retry-After", strconv.Itoa(r.IntN(12)))
	case "date":
		header.Set("Retry-After", x.v.d.now().Add(time.Duration(r.IntN(12))*time.Second).UTC().Format(http.TimeFormat))
	case "nonsense":
		header.Set("Retry-After", pick(r, "-1", "soon", "1.5"))
	}
	return response(status, header, []byte(pick(r, "", "<html>", `{"error":"injected_fault","message":"x"}`, `{"message":"x"}`)))
}

// noWatch is an answer of a server that lets nobody watch, or not this one.
func noWatch(kind string) *http.Response {
	status := http.StatusServiceUnavailable
	if kind == "forbidden" {
		status = http.StatusForbidden
	}
	return response(status, http.Header{}, []byte(`{"error":"bundle_change_watch_`+kind+`","message":"x"}`))
}

// respond makes an HTTP answer of what the server said.
func (x *exchange) respond(a *reply, opened *stream, kind string) *http.Response {
	body := a.body.Bytes()
	switch kind {
	case "wrong hash":
		if i := bytes.Index(body, []byte(`"name":"`)); i >= 0 && (strings.HasSuffix(x.what, "/sync/pull") || strings.HasSuffix(x.what, "/rows")) {
			body = bytes.Clone(body)
			body[i+len(`"name":"`)] ^= 1 // another letter: the hash is not that of the content
		}
	case "cut":
		resp := response(a.status, a.header, body)
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:x.v.w.loop.r.IntN(len(body)+1)]), brokenReader{}))
		return resp
	}
	if opened != nil {
		return opened.response(a)
	}
	return response(a.status, a.header, body)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func response(status int, header http.Header, body []byte) *http.Response {
	return &http.Response{
		Status: strconv.Itoa(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// code is what an error answer says, for the trace.
func code(a *reply) string {
	if a.status < 400 {
		return ""
	}
	return string(bytes.TrimSpace(a.body.Bytes()))
}

func ifAny(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}
