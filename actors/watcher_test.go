package actors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// streamAsked is a request for a stream, as a server sees it, with what the server does to the stream.
type streamAsked struct {
	at            time.Duration
	source, after string
	w             *io.PipeWriter
	ended         <-chan struct{} // closed when the client is gone
}

func (a *streamAsked) write(format string, args ...any) { _, _ = fmt.Fprintf(a.w, format, args...) }

func (a *streamAsked) event(seq int) {
	a.write("event: bundle\ndata: {\"bundle_seq\":%d}\n\n", seq)
}

func (a *streamAsked) beat() { a.write(": heartbeat\n\n") }

// gone reports whether the client has ended the stream.
func (a *streamAsked) gone() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// streams is a server of watch streams behind the real transport, without a network.
type streams struct {
	asked chan *streamAsked
	// answer, when it returns one, answers a request instead of a stream. n counts from 1.
	answer func(n int, r *http.Request) (*http.Response, error)
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// watchRig is a rig of a watcher with such a server. To be called inside a bubble.
func watchRig(t *testing.T) (*rig, *streams) {
	t.Helper()
	r := newRig(t, watcherProps)
	s := &streams{asked: make(chan *streamAsked, 1000)}
	r.server.watch = s.client(t, func() time.Duration { return r.elapsed() }).Watch
	return r, s
}

func (s *streams) client(t *testing.T, clock func() time.Duration) *transport.Client {
	t.Helper()
	n := 0
	client, err := transport.New(transport.Config{BaseURL: "http://sync.test", HTTPClient: &http.Client{Transport: tripper(func(req *http.Request) (*http.Response, error) {
		n++
		if s.answer != nil {
			if resp, err := s.answer(n, req); resp != nil || err != nil {
				s.asked <- &streamAsked{at: clock()}
				return resp, err
			}
		}
		body, w := io.Pipe()
		ended := make(chan struct{})
		once := sync.OnceFunc(func() { close(ended) })
		// As net/http does: the body of an answer breaks when the request's context ends.
		context.AfterFunc(req.Context(), func() { _ = body.CloseWithError(req.Context().Err()); once() })
		s.asked <- &streamAsked{
			at: clock(), source: req.Header.Get("Oversync-Source-ID"), after: req.URL.Query().Get("after_bundle_seq"), w: w, ended: ended,
		}
		return &http.Response{
			StatusCode: 200, ProtoMajor: 1, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, ContentLength: -1,
		}, nil
	})}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// noStream is an answer that is no stream.
func noStream(status int, code string, header ...string) *http.Response {
	body, w := io.Pipe()
	go func() { _, _ = fmt.Fprintf(w, `{"error":%q}`, code); _ = w.Close() }()
	resp := &http.Response{StatusCode: status, ProtoMajor: 1, Header: http.Header{}, Body: body, ContentLength: -1}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// silent fails when the session is told anything for a day.
func silent(r *rig) {
	r.t.Helper()
	select {
	case m := <-r.parent.heard:
		r.t.Errorf("the session is told %+v", m)
	case <-time.After(24 * time.Hour):
	}
}

func TestAWatchTellsWhatTheStreamBrings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		r.send(messages.Watch{Epoch: 7})
		if m := hear[messages.WatchOpened](r); m.Epoch != 7 {
			t.Errorf("opened: %+v", m)
		}
		a := <-s.asked
		if a.source != "src" || a.after != "5" {
			t.Errorf("asked: %+v", a)
		}
		a.beat()
		if m := hear[messages.WatchAlive](r); m.Epoch != 7 {
			t.Errorf("alive: %+v", m)
		}
		for _, seq := range []int{6, 9} {
			a.event(seq)
			if m := hear[messages.WatchHint](r); m.Epoch != 7 || m.Seq != int64(seq) {
				t.Errorf("hint: %+v", m)
			}
		}
		if r.elapsed() != 0 {
			t.Errorf("after %v", r.elapsed())
		}
		r.send(messages.Unwatch{})
		<-a.ended
		if r.elapsed() != 0 {
			t.Errorf("the stream ended after %v", r.elapsed())
		}
		silent(r)
	})
}

// What comes together is told together: neither a flood of events nor one of heartbeats fills a mailbox.
func TestAFloodIsPutTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		r.send(messages.Watch{Epoch: 1})
		a := <-s.asked
		for range 1000 {
			a.beat()
		}
		hear[messages.WatchAlive](r)
		synctest.Wait()
		if n := len(r.parent.heard); n != 0 {
			t.Errorf("%d more messages for the heartbeats of one moment", n)
		}
		for range 5 {
			time.Sleep(25 * time.Second)
			a.beat()
			hear[messages.WatchAlive](r)
		}
		for seq := 1; seq <= 1000; seq++ {
			a.event(seq)
		}
		for hear[messages.WatchHint](r).Seq != 1000 {
		}
		a.event(1000)
		synctest.Wait()
		if n := len(r.parent.heard); n != 0 {
			t.Errorf("%d more messages for the same bundle", n)
		}
	})
}

func TestNewsThatNobodyHasTakenYetIsOneMessage(t *testing.T) {
	t.Parallel()
	b := &newsBox{}
	for i, tell := range []bool{b.put(streamed{}), b.put(streamed{seq: 3}), b.put(streamed{beat: true}), b.put(streamed{seq: 9, proved: true}), b.put(streamed{})} {
		if tell != (i == 1) {
			t.Errorf("put %d: %v", i, tell)
		}
	}
	if n := b.take(); n != (streamed{seq: 9, beat: true, proved: true}) {
		t.Errorf("taken: %+v", n)
	}
	if n := b.take(); n != (streamed{}) || !b.put(streamed{beat: true}) {
		t.Errorf("taken from an empty box: %+v", n)
	}
}

// A stream that ended is opened again from where the database is by then.
func TestALostStreamIsOpenedAgainFromTheCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		r.send(messages.Watch{Epoch: 1})
		a := <-s.asked
		hear[messages.WatchOpened](r)
		r.db.state.Attachment.Checkpoint, r.db.state.Attachment.CurrentSourceID = 9, "other"
		_ = a.w.Close()
		m := hear[messages.WatchLost](r)
		if m.Epoch != 1 || m.Attempt != 1 || !m.Until.Equal(r.start.Add(time.Second)) || !errors.Is(m.Err, transport.ErrStreamEnded) {
			t.Errorf("lost: %+v", m)
		}
		hear[messages.WatchOpened](r)
		if a := <-s.asked; a.at != time.Second || a.after != "9" || a.source != "other" {
			t.Errorf("asked: %+v", a)
		}
	})
}

// A server that takes every watch, greets and closes it is asked ever less often; one that lets it live is asked again soon.
func TestAServerThatClosesAtOnceIsNotHammered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		r.send(messages.Watch{Epoch: 1})
		want := time.Duration(0)
		for i := range 12 {
			a := <-s.asked
			if a.at != want {
				t.Fatalf("request %d after %v, want %v", i, a.at, want)
			}
			a.beat()
			a.event(6)
			_ = a.w.Close()
			if m := hear[messages.WatchLost](r); m.Attempt != i+1 {
				t.Fatalf("lost: %+v", m)
			}
			want += min(time.Second<<i, time.Minute)
		}
		for range 2 {
			a := <-s.asked
			time.Sleep(provedAfter) // and dies without another sign of life
			_ = a.w.CloseWithError(errors.New("cut"))
			if m := hear[messages.WatchLost](r); m.Attempt != 1 || time.Until(m.Until) != time.Second {
				t.Errorf("lost after %v: %+v", provedAfter, m)
			}
		}
		a := <-s.asked
		time.Sleep(provedAfter - 1)
		a.beat()
		_ = a.w.Close()
		if m := hear[messages.WatchLost](r); m.Attempt != 2 {
			t.Errorf("lost before %v: %+v", provedAfter, m)
		}
	})
}

func TestTheServersWishIsAFloorForTheNextWatch(t *testing.T) {
	for name, resp := range map[string]func() *http.Response{
		"429":      func() *http.Response { return noStream(429, "slow_down", "Retry-After", "3600") },
		"503":      func() *http.Response { return noStream(503, "service_unavailable", "Retry-After", "3600") },
		"disabled": func() *http.Response { return noStream(503, "bundle_change_watch_disabled", "Retry-After", "3600") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, s := watchRig(t)
				s.answer = func(n int, _ *http.Request) (*http.Response, error) {
					if n == 1 {
						return resp(), nil
					}
					return nil, nil
				}
				r.send(messages.Watch{Epoch: 1})
				if m := hear[messages.WatchLost](r); m.Attempt != 1 || m.Err == nil || m.Until.Sub(r.start) < time.Hour {
					t.Errorf("lost: %+v", m)
				}
				hear[messages.WatchOpened](r)
				if <-s.asked; r.elapsed() < time.Hour || r.elapsed() > time.Hour+7*time.Minute {
					t.Errorf("opened after %v", r.elapsed())
				}
			})
		})
	}
}

func TestASilentStreamIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		r.send(messages.Watch{Epoch: 1})
		a := <-s.asked
		time.Sleep(25 * time.Second)
		a.beat()
		var network *transport.NetworkError
		if m := hear[messages.WatchLost](r); !errors.As(m.Err, &network) || !network.Timeout || r.elapsed() != 25*time.Second+transport.DefaultWatchSilence {
			t.Errorf("lost after %v: %+v", r.elapsed(), m)
		}
		if !a.gone() {
			t.Error("the connection is still there")
		}
	})
}

func TestWatchesThatAreRefusedForGood(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		check  func(*testing.T, error)
	}{
		"forbidden":    {403, "bundle_change_watch_forbidden", func(t *testing.T, err error) { mustBe[*wire.HTTPError](t, err) }},
		"credentials":  {401, "authentication_failed", func(t *testing.T, err error) { mustBe[*messages.AuthError](t, err) }},
		"another 403":  {403, "", func(t *testing.T, err error) { mustBe[*messages.AuthError](t, err) }},
		"scope lost":   {409, "scope_uninitialized", func(t *testing.T, err error) { mustBe[*messages.AttachRequiredError](t, err) }},
		"scope seeded": {409, "scope_initializing", func(t *testing.T, err error) { mustBe[*messages.AttachRequiredError](t, err) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, s := watchRig(t)
				s.answer = func(int, *http.Request) (*http.Response, error) { return noStream(c.status, c.code), nil }
				r.send(messages.Watch{Epoch: 1})
				m := hear[messages.WatchRefused](r)
				if c.check(t, m.Err); m.Epoch != 1 {
					t.Errorf("refused: %+v", m)
				}
				r.send(messages.Kick{})
				r.send(messages.Unwatch{})
				silent(r)
				if len(s.asked) != 1 {
					t.Errorf("%d requests", len(s.asked))
				}
				s.answer = nil
				r.send(messages.Watch{Epoch: 2})
				if m := hear[messages.WatchOpened](r); m.Epoch != 2 {
					t.Errorf("opened: %+v", m)
				}
			})
		})
	}
}

// What stands before a server that is being replaced answers that there is no such endpoint: the stream is asked for again, with
// delays that grow, and opened when the server is back.
func TestAServerThatIsBeingReplacedIsWatchedAgain(t *testing.T) {
	for _, status := range []int{404, 405, 501} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const answers = 9
				r, s := watchRig(t)
				s.answer = func(n int, _ *http.Request) (*http.Response, error) {
					if n <= answers {
						return noStream(status, ""), nil
					}
					return nil, nil
				}
				r.send(messages.Watch{Epoch: 1})
				delay := testRetry.Initial
				for n := range answers {
					m := hear[messages.WatchLost](r)
					if mustBe[*transport.AddressError](t, m.Err).Status != status || m.Attempt != n+1 || time.Until(m.Until) != delay {
						t.Fatalf("lost for %v, want %v: %+v", time.Until(m.Until), delay, m)
					}
					delay = min(2*delay, testRetry.Max)
				}
				if m := hear[messages.WatchOpened](r); m.Epoch != 1 {
					t.Errorf("opened: %+v", m)
				}
			})
		})
	}
}

// Another watch takes the place of the one before; whatever that still brings is nobody's.
func TestAnotherWatchTakesThePlaceOfTheOneBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		r.send(messages.Watch{Epoch: 1})
		hear[messages.WatchOpened](r)
		first := <-s.asked
		r.db.state.Attachment.Checkpoint = 8
		r.send(messages.Watch{Epoch: 2})
		if m := hear[messages.WatchOpened](r); m.Epoch != 2 {
			t.Errorf("opened: %+v", m)
		}
		second := <-s.asked
		if !first.gone() || second.gone() || second.after != "8" {
			t.Errorf("the first is gone: %v, the second: %+v", first.gone(), second)
		}
		first.event(99)
		second.event(9)
		if m := hear[messages.WatchHint](r); m.Epoch != 2 || m.Seq != 9 {
			t.Errorf("hint: %+v", m)
		}
	})
}

func TestKickOpensALostStreamNow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		s.answer = func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return noStream(503, "", "Retry-After", "3600"), nil
			}
			return nil, nil
		}
		r.send(messages.Kick{}) // nothing to end
		r.send(messages.Watch{Epoch: 1})
		hear[messages.WatchLost](r)
		r.send(messages.Kick{})
		hear[messages.WatchOpened](r)
		r.send(messages.Kick{}) // likewise
		if r.elapsed() != 0 || len(s.asked) != 2 {
			t.Errorf("opened after %v and %d requests", r.elapsed(), len(s.asked))
		}
	})
}

// Whatever a watcher is doing, it stops at once and leaves nothing: the bubble ends only when every goroutine has, and no
// timer may wake anybody later.
func TestAWatcherStopsAtOnce(t *testing.T) {
	stops := map[string]func(*rig){
		"stop":    func(r *rig) { r.stop() },
		"unwatch": func(r *rig) { r.send(messages.Unwatch{}) },
	}
	for name, prepare := range map[string]func(*rig, *streams) <-chan struct{}{
		"streaming": func(r *rig, s *streams) <-chan struct{} {
			r.send(messages.Watch{Epoch: 1})
			hear[messages.WatchOpened](r)
			return (<-s.asked).ended
		},
		"opening": func(r *rig, s *streams) <-chan struct{} {
			under := make(chan struct{})
			ended := make(chan struct{})
			s.answer = func(_ int, req *http.Request) (*http.Response, error) {
				close(under)
				<-req.Context().Done()
				close(ended)
				return nil, req.Context().Err()
			}
			r.send(messages.Watch{Epoch: 1})
			<-under
			return ended
		},
		"waiting": func(r *rig, s *streams) <-chan struct{} {
			s.answer = func(int, *http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
			r.send(messages.Watch{Epoch: 1})
			hear[messages.WatchLost](r)
			ended := make(chan struct{})
			close(ended)
			return ended
		},
		"loading": func(r *rig, _ *streams) <-chan struct{} {
			under := make(chan struct{})
			ended := make(chan struct{})
			r.db.load = func(ctx context.Context) (local.State, error) {
				close(under)
				<-ctx.Done()
				close(ended)
				return local.State{}, ctx.Err()
			}
			r.send(messages.Watch{Epoch: 1})
			<-under
			return ended
		},
	} {
		for how, stop := range stops {
			t.Run(name+"/"+how, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					r, s := watchRig(t)
					ended := prepare(r, s)
					r.start = time.Now()
					stop(r)
					<-ended
					if r.elapsed() > time.Second {
						t.Errorf("ended after %v", r.elapsed())
					}
					synctest.Wait()
					requests := len(s.asked)
					silent(r)
					if len(s.asked) != requests {
						t.Error("a watch that was ended asks again")
					}
				})
			})
		}
	}
}

func TestAStreamWorkerThatPanicsIsBroughtBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		real := r.server.watch
		n := 0
		r.server.watch = func(ctx context.Context, source string, after int64) (*transport.Stream, error) {
			if n++; n < maxPanics {
				panic("boom")
			}
			return real(ctx, source, after)
		}
		r.send(messages.Watch{Epoch: 1})
		for i := 1; i < maxPanics; i++ {
			if m := hear[messages.WatchLost](r); m.Attempt != i || mustBe[*panicked](t, m.Err).cause != "boom" {
				t.Errorf("lost: %+v", m)
			}
		}
		hear[messages.WatchOpened](r)
		if a := <-s.asked; a.at != 15*time.Second {
			t.Errorf("opened after %v", a.at)
		}
	})
}

func TestAStreamWorkerThatPanicsForEverIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		real := r.server.watch
		var panics atomic.Bool
		panics.Store(true)
		n := 0
		r.server.watch = func(ctx context.Context, source string, after int64) (*transport.Stream, error) {
			if n++; panics.Load() {
				panic("boom")
			}
			return real(ctx, source, after)
		}
		r.send(messages.Watch{Epoch: 1})
		if f := hear[messages.ChildFailed](r); f.Cause != "boom" || len(f.Stack) == 0 {
			t.Errorf("failed: %+v", f)
		}
		if m := hear[messages.WatchRefused](r); mustBe[*messages.EngineFailedError](t, m.Err).Cause != "boom" || n != maxPanics {
			t.Errorf("refused: %+v after %d panics", m, n)
		}
		silent(r)
		panics.Store(false)
		r.send(messages.Watch{Epoch: 2})
		hear[messages.WatchOpened](r)
		if len(s.asked) != 1 {
			t.Errorf("%d requests", len(s.asked))
		}
	})
}

// deadly is the body of a stream that lives for a while and ends with a panic.
type deadly struct{ read bool }

func (d *deadly) Read(p []byte) (int, error) {
	if d.read {
		panic("boom")
	}
	d.read = true
	time.Sleep(provedAfter)
	return copy(p, ":\n"), nil
}

func (*deadly) Close() error { return nil }

// Panics that lie a stream's life apart are not panics in a row.
func TestPanicsOfStreamsThatLivedAreForgiven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		s.answer = func(n int, _ *http.Request) (*http.Response, error) {
			if n > 2*maxPanics {
				return noStream(403, "bundle_change_watch_forbidden"), nil
			}
			return &http.Response{StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, Body: &deadly{}, ContentLength: -1}, nil
		}
		r.send(messages.Watch{Epoch: 1})
		for range 2 * maxPanics {
			if m := hear[messages.WatchLost](r); m.Attempt != 1 || mustBe[*panicked](t, m.Err).cause != "boom" {
				t.Fatalf("lost: %+v", m)
			}
		}
		mustBe[*wire.HTTPError](t, hear[messages.WatchRefused](r).Err)
	})
}

// A watcher whose machine panics knows nothing when it is back; it can be asked again.
func TestAWatcherThatPanicsStartsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, s := watchRig(t)
		r.send(messages.Watch{Epoch: 1})
		first := <-s.asked
		hear[messages.WatchOpened](r)
		r.send(streamNews{ref: 1}) // no box: a panic of the shell
		if p := (<-r.parent.failed).(*panicked); len(p.stack) == 0 {
			t.Errorf("the supervisor hears of %v", p)
		}
		<-first.ended
		r.send(messages.Watch{Epoch: 2})
		if m := hear[messages.WatchOpened](r); m.Epoch != 2 {
			t.Errorf("opened: %+v", m)
		}
	})
}

// An open stream on which nothing happens is one goroutine of ours.
func TestAnOpenStreamIsOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := watchRig(t)
		synctest.Wait()
		before := bubbleGoroutines(t)
		r.send(messages.Watch{Epoch: 1})
		a := <-s.asked
		for range 3 {
			a.beat()
			hear[messages.WatchAlive](r)
			time.Sleep(25 * time.Second)
		}
		synctest.Wait()
		if n := bubbleGoroutines(t) - before; n != 1 {
			t.Errorf("%d goroutines", n)
		}
		r.send(messages.Unwatch{})
		<-a.ended
		synctest.Wait()
		if n := bubbleGoroutines(t) - before; n != 0 {
			t.Errorf("%d goroutines are left", n)
		}
	})
}

// bubbleGoroutines counts the goroutines of the caller's bubble. Of the others some may just be about to end.
func bubbleGoroutines(t *testing.T) int {
	t.Helper()
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if len(stacks) == cap(stacks) {
		t.Fatal("there is no room for all stacks")
	}
	bubble := regexp.MustCompile(`synctest bubble \d+\]`).Find(stacks) // the caller is the first of all
	if bubble == nil {
		t.Fatal("the caller is in no bubble")
	}
	return bytes.Count(stacks, bubble)
}
