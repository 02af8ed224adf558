package contracts

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/actors"
)

const automaticDownloads = "watch/behavior/automatic-downloads.json"

// automaticCase is a case of watch/behavior: a device that syncs by itself, a server that plays its watch streams, and
// what is to come of it.
type automaticCase struct {
	ServerScript  automaticScript
	ExpectedState struct {
		Users                        []object
		WatchAttemptsAtLeast         int
		WatchAttemptsExactly         *int
		WatchAfterBundleSeqsContains []int64
		FallbackPullsAtLeast         int
		FallbackPullsExactly         *int
		WatchCloseCount              *int
		ObserveForMillis             int
		StopActiveWatchBeforeAssert  bool
	}
}

// automaticScript is what the server of a case does.
type automaticScript struct {
	Kind                                     string
	BundleChangeWatchSupported               *bool // missing: true
	Response                                 scripted
	Lines                                    []string
	RemoteBundles, StartBundles, WakeBundles []remoteBundle
}

// remoteBundle is what another device has pushed.
type remoteBundle struct{ Rows []bundleRow }

// streamer is a mock that streams. Its answers to watches have bodies that live, so it goes beyond what server does.
type streamer struct {
	*mock
	supported bool
	holds     bool    // the next watch is held open
	script    *answer // the next watch is answered with it
	held      []*heldStream
	after     []int64  // of the watches
	served    int      // scripted answers
	closed    int      // of them, closed by the engine
	story     []string // watches, pulls and ends of scripted answers, as they came
}

func newStreamer(t *testing.T, d *dialect, s *automaticScript) *streamer {
	f := &streamer{mock: newMock(t, d, usersAndPosts), supported: s.BundleChangeWatchSupported == nil || *s.BundleChangeWatchSupported}
	switch s.Kind {
	case "non_ok_watch_response":
		f.script = s.Response.answer()
	case "watch_lines":
		f.script = &answer{status: http.StatusOK, body: strings.Join(s.Lines, "\n"), contentType: "text/event-stream"}
	case "hold_watch_open":
		f.holds = true
	case "unsupported_capability":
		f.supported = false
	default:
		t.Fatalf("no kind of script %q", s.Kind)
	}
	f.features = object{"bundle_change_watch": f.supported}
	f.on("GET /sync/watch", f.watch)
	served := f.pulled
	f.pulled = func(r request) *answer {
		f.story = append(f.story, "pull")
		return served(r)
	}
	return f
}

// watch chooses the answer to a watch.
func (f *streamer) watch(r request) *answer {
	if !f.supported {
		return refused(http.StatusServiceUnavailable, "bundle_change_watch_disabled")
	}
	after := number(r, "after_bundle_seq", -1)
	f.after = append(f.after, after)
	f.story = append(f.story, "watch")
	stream := &answer{status: http.StatusOK, contentType: "text/event-stream"}
	switch {
	case f.holds:
		f.holds = false
		body, w := io.Pipe()
		h := &heldStream{PipeWriter: w, ended: make(chan struct{})}
		// As net/http does: the body of an answer breaks when the request's context ends.
		context.AfterFunc(r.Context(), func() { _ = body.CloseWithError(r.Context().Err()); close(h.ended) })
		f.held = append(f.held, h)
		stream.stream = body
	case f.script != nil:
		a := *f.script
		f.script = nil
		f.served++
		a.stream = &countedBody{Reader: strings.NewReader(a.text()), closes: func() {
			f.serving.Lock()
			defer f.serving.Unlock()
			f.closed++
			f.story = append(f.story, "closed")
		}}
		return &a
	default:
		text := ""
		for _, b := range f.bundles {
			if b.seq > after {
				text += event(b)
			}
		}
		if text == "" {
			text = ": heartbeat\n\n"
		}
		stream.body = text
	}
	return stream
}

// heldStream is a watch that the server holds open.
type heldStream struct {
	*io.PipeWriter
	ended chan struct{} // closed when the request is
}

// countedBody is the body of an answer that tells when it is closed.
type countedBody struct {
	io.Reader
	closes func()
}

func (b *countedBody) Close() error {
	if b.closes != nil {
		b.closes()
		b.closes = nil
	}
	return nil
}

func event(b *committedBundle) string {
	return fmt.Sprintf("event: bundle\ndata: {\"bundle_seq\":%d,\"source_id\":%q,\"source_bundle_id\":%d}\n\n", b.seq, b.source, b.id)
}

// add commits a bundle of another device.
func (f *streamer) add(b remoteBundle) *committedBundle {
	f.serving.Lock()
	defer f.serving.Unlock()
	rows := slices.Clone(b.Rows)
	for i := range rows {
		if rows[i].RowVersion == 0 {
			rows[i].RowVersion = int64(i) + 1
		}
		f.lay(rows[i])
	}
	f.initialized = true
	return f.append("remote-source", f.next, rows)
}

// wake commits a bundle and tells of it on every stream that is held.
func (f *streamer) wake(b remoteBundle) {
	text := event(f.add(b))
	f.serving.Lock()
	held := slices.Clone(f.held)
	f.serving.Unlock()
	for _, h := range held {
		if _, err := io.WriteString(h, text); err != nil {
			f.t.Error(err)
		}
	}
}

func (f *streamer) watches() []int64 {
	f.serving.Lock()
	defer f.serving.Unlock()
	return slices.Clone(f.after)
}

// run plays a case in virtual time.
func (c *automaticCase) run(t *testing.T, d *dialect) {
	f := newStreamer(t, d, &c.ServerScript)
	for _, b := range c.ServerScript.RemoteBundles {
		f.add(b)
	}
	reconnect := 10 * time.Millisecond
	if c.ExpectedState.WatchAttemptsExactly != nil {
		reconnect = time.Second
	}
	system := actors.NewSystem(zap.NewNop())
	device := func() *client {
		return newClient(t, f, statements(appSchemas["users-posts"]), "main", usersAndPosts, func(cfg *oversqlite.Config) {
			cfg.System = system
			cfg.Retry = oversqlite.RetryConfig{Initial: reconnect, Max: reconnect, Jitter: -1}
		}).mustOpen().mustAttach()
	}
	leader, follower := device(), device()
	for _, b := range c.ServerScript.StartBundles {
		f.add(b)
	}
	begun := time.Now()
	if err := follower.engine.Start(t.Context(), oversqlite.AutoConfig{UserID: userID, PollInterval: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	for _, b := range c.ServerScript.WakeBundles {
		await(t, "the first watch", func() bool { return len(f.watches()) > 0 })
		f.wake(b)
	}
	await(t, "what the case expects", func() bool { return c.unmet(t, f, follower) == "" })
	time.Sleep(time.Duration(c.ExpectedState.ObserveForMillis) * time.Millisecond)
	if c.ExpectedState.WatchAttemptsExactly != nil {
		// Whatever is expected exactly is so until the next attempt is due: 1 s after the first, and never where the stream lives.
		time.Sleep(time.Until(begun.Add(reconnect - time.Millisecond)))
		for _, h := range f.held {
			if what := c.unmet(t, f, follower); what != "" {
				t.Error(what)
			}
			// Heartbeats call for no pull. Nor does time, of which there is enough for three polls, but for the first, as long as no
			// pull has been answered that was asked for with the stream open.
			pulled := f.count("GET /sync/pull")
			for range 3 {
				if _, err := io.WriteString(h, ": heartbeat\n\n"); err != nil {
					t.Error(err)
				}
				time.Sleep(11 * time.Second)
			}
			polls := 0
			if pulled == 0 {
				polls = 1
			}
			same(t, "polls while the stream is open", f.count("GET /sync/pull")-pulled, polls)
			if n := c.ExpectedState.FallbackPullsExactly; n != nil {
				*n += polls
			}
		}
	}
	if c.ExpectedState.StopActiveWatchBeforeAssert {
		c.stop(t, f, follower)
	}
	if what := c.unmet(t, f, follower); what != "" {
		t.Errorf("%s; it went %v", what, f.story[:min(len(f.story), 20)])
	}
	if want := c.ExpectedState.WatchCloseCount; want != nil {
		f.serving.Lock()
		same(t, "scripted answers", f.served, *want)
		same(t, "scripted answers closed", f.closed, *want)
		if closed, pull := slices.Index(f.story, "closed"), slices.Index(f.story, "pull"); pull >= 0 && closed > pull {
			t.Errorf("pulled before the scripted watch was closed: %v", f.story[:pull+1])
		}
		f.serving.Unlock()
	}
	for _, e := range []*oversqlite.Engine{follower.engine, leader.engine} {
		_ = e.Close()
	}
	shutDown(system)
}

// stop stops background sync, which takes no time and ends the stream; nothing comes after it.
func (c *automaticCase) stop(t *testing.T, f *streamer, follower *client) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := follower.engine.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	for _, h := range f.held {
		select {
		case <-h.ended:
		default:
			t.Error("stopped, and the stream is still there")
		}
	}
	before := len(f.seen())
	time.Sleep(time.Hour)
	same(t, "requests after Stop", len(f.seen())-before, 0)
}

// unmet says what is not yet, or no more, as the case expects; "": everything is.
func (c *automaticCase) unmet(t *testing.T, f *streamer, follower *client) string {
	t.Helper()
	want := &c.ExpectedState
	after, pulls := f.watches(), f.count("GET /sync/pull")
	users := rowsOf(t, follower.db(), `SELECT id, name FROM users`)
	for _, u := range want.Users {
		if !slices.ContainsFunc(users, func(o object) bool { return o["id"] == u["id"] && o["name"] == u["name"] }) {
			return fmt.Sprintf("the user %v is missing", u)
		}
	}
	for _, seq := range want.WatchAfterBundleSeqsContains {
		if !slices.Contains(after, seq) {
			return fmt.Sprintf("no watch after bundle %d: %v", seq, after)
		}
	}
	switch {
	case len(after) < want.WatchAttemptsAtLeast, want.WatchAttemptsExactly != nil && len(after) != *want.WatchAttemptsExactly:
		return fmt.Sprintf("%d watches", len(after))
	case pulls < want.FallbackPullsAtLeast, want.FallbackPullsExactly != nil && pulls != *want.FallbackPullsExactly:
		return fmt.Sprintf("%d pulls", pulls)
	}
	return ""
}

// await waits for what a case expects as long as its guide says.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for late := time.Now().Add(5 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Errorf("not within 5 s: %s", what)
			return
		}
	}
}

// shutDown ends an actor system within a bubble.
func shutDown(system *actor.ActorSystem) {
	system.Shutdown()
	time.Sleep(2 * time.Second) // what is told to nobody makes the system count for a second
}

func TestWatchRuntime(t *testing.T) {
	t.Parallel()
	type runtimeCase struct {
		Response                     scripted
		ExpectedCloseCount           int
		ExpectedFallbackPullsAtLeast int
	}
	eachIn(t, both, watchBasic, "runtimeCases", func(t *testing.T, d *dialect, c *runtimeCase) {
		// The scene of the first case of the behaviour family.
		var played automaticCase
		first := casesOf(t, automaticDownloads, "cases")[0]
		decode(t, adapt(t, d, automaticDownloads, first), &played)
		same(t, "scene", played.ServerScript.Kind, "non_ok_watch_response")
		played.ServerScript.Response = c.Response
		played.ExpectedState.WatchCloseCount = &c.ExpectedCloseCount
		played.ExpectedState.FallbackPullsAtLeast = c.ExpectedFallbackPullsAtLeast
		synctest.Test(t, func(t *testing.T) { played.run(t, d) })
	})
}

func TestWatchBehavior(t *testing.T) {
	t.Parallel()
	each(t, automaticDownloads, func(t *testing.T, d *dialect, c *automaticCase) {
		synctest.Test(t, func(t *testing.T) { c.run(t, d) })
	})
}
