package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

// streamServer answers a watch with a stream whose other end it hands out. Nothing is compressed or buffered.
func streamServer(t *testing.T, adjust ...func(*Config)) (*Client, *io.PipeWriter) {
	t.Helper()
	r, w := io.Pipe()
	client := inMemory(t, func(req *http.Request) (*http.Response, error) {
		// As net/http does: the body of an answer breaks when the request's context ends.
		context.AfterFunc(req.Context(), func() { _ = r.CloseWithError(req.Context().Err()) })
		return &http.Response{
			StatusCode: 200, ProtoMajor: 1, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: r, ContentLength: -1,
		}, nil
	}, adjust...)
	return client, w
}

// openedStream opens a stream to such a server.
func openedStream(t *testing.T, adjust ...func(*Config)) (*Stream, *io.PipeWriter) {
	t.Helper()
	client, w := streamServer(t, adjust...)
	stream, err := client.Watch(t.Context(), "source", 12)
	if err != nil {
		t.Fatal(err)
	}
	return stream, w
}

// nextEvent waits for the next change and passes over heartbeats.
func nextEvent(s *Stream) (wire.WatchEvent, error) {
	for {
		if event, beat, err := s.Next(); err != nil || !beat {
			return event, err
		}
	}
}

const thirteen = "event: bundle\ndata: {\"bundle_seq\":13,\"source_id\":\"device-a\",\"source_bundle_id\":7}\n\n"

func TestStreamDeliversEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream, w := openedStream(t)
		go func() {
			_, _ = io.WriteString(w, ": heartbeat\n\nevent: other\ndata: {\n\n"+thirteen)
			_ = w.Close()
		}()
		event, err := nextEvent(stream)
		if err != nil || event.BundleSeq != 13 || event.SourceID != "device-a" || event.SourceBundleID != 7 {
			t.Errorf("%+v, %v", event, err)
		}
		for range 2 {
			if _, err := nextEvent(stream); !errors.Is(err, ErrStreamEnded) || !errors.Is(err, io.EOF) || Classify(err).Class != Transient {
				t.Errorf("after the end: %v", err)
			}
		}
	})
}

// A heartbeat is told, so that whoever waits has a clock without a timer; unknown events are not.
func TestStreamDeliversHeartbeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream, w := openedStream(t)
		go func() {
			_, _ = io.WriteString(w, ": heartbeat\n\nevent: other\n: not one\ndata: {\n\n: another\n")
			time.Sleep(25 * time.Second)
			_, _ = io.WriteString(w, "\n"+thirteen)
		}()
		start := time.Now()
		for i := range 2 {
			if event, beat, err := stream.Next(); !beat || err != nil || event != (wire.WatchEvent{}) || time.Since(start) != 0 {
				t.Errorf("heartbeat %d: %+v, %v, %v after %v", i, event, beat, err, time.Since(start))
			}
		}
		if event, beat, err := stream.Next(); beat || err != nil || event.BundleSeq != 13 {
			t.Errorf("%+v, %v, %v", event, beat, err)
		}
		_ = stream.Close()
	})
}

// Events that nobody asks for, a consumer that is gone and a Close in the middle leave nothing behind.
func TestK16_AnUnreadStreamHoldsNothing(t *testing.T) {
	t.Parallel()
	var open atomic.Int32
	flooded := make(chan struct{}, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, thirteen); err != nil {
				return
			}
			select {
			case flooded <- struct{}{}:
			default:
			}
		}
	})
	for range 50 {
		stream, err := client.Watch(t.Context(), "source", 0)
		if err != nil {
			t.Fatal(err)
		}
		<-flooded
		if _, err := nextEvent(stream); err != nil {
			t.Fatal(err)
		}
		_ = stream.Close()
		_ = stream.Close()
		if _, err := nextEvent(stream); !errors.Is(err, ErrStreamClosed) || Classify(err).Class != Canceled {
			t.Errorf("after Close: %v", err)
		}
	}
	// TestMain finds any goroutine that is left.
}

// A stream outlives the client's total timeout by far, as long as its heart beats.
func TestK17_TheTotalTimeoutDoesNotCutTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream, w := openedStream(t, func(c *Config) { c.HTTPClient.Timeout = 2 * time.Minute })
		go func() {
			for range 1000 {
				time.Sleep(25 * time.Second)
				_, _ = io.WriteString(w, ": heartbeat\n\n")
			}
			_, _ = io.WriteString(w, thirteen)
		}()
		start := time.Now()
		if _, err := nextEvent(stream); err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		_ = stream.Close()
	})
}

func TestSilentStreamIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream, w := openedStream(t)
		go func() {
			time.Sleep(50 * time.Second)
			_, _ = io.WriteString(w, ": heartbeat\n\n")
		}()
		start := time.Now()
		_, err := nextEvent(stream)
		var network *NetworkError
		if !errors.As(err, &network) || !network.Timeout || Classify(err).Class != Transient {
			t.Errorf("%v", err)
		}
		if waited := time.Since(start); waited != 50*time.Second+DefaultWatchSilence {
			t.Errorf("given up after %v", waited)
		}
	})
}

func TestAStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, w := streamServer(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		stream, err := client.Watch(ctx, "source", 12)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(w, thirteen) }()
		if event, err := nextEvent(stream); err != nil || event.BundleSeq != 13 {
			t.Errorf("%+v, %v", event, err)
		}
		for range 2 {
			if _, err := nextEvent(stream); Classify(err).Class != Canceled || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		}
	})
}

func TestCloseEndsNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream, _ := openedStream(t)
		done := make(chan error)
		go func() {
			_, err := nextEvent(stream)
			done <- err
		}()
		synctest.Wait()
		_ = stream.Close()
		if err := <-done; !errors.Is(err, ErrStreamClosed) {
			t.Errorf("%v", err)
		}
	})
}

func TestOpeningEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		never := inMemory(t, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		if _, err := never.Watch(t.Context(), "source", 0); Classify(err).Class != Transient {
			t.Errorf("a server that does not answer: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 {
			if _, err := never.Watch(ctx, "source", 0); Classify(err).Class != Canceled {
				t.Errorf("a caller that does not wait: %v", err)
			}
		}
	})
}

func TestBrokenStreams(t *testing.T) {
	t.Parallel()
	protocol, transient := Protocol, Transient
	for name, c := range map[string]struct {
		content string
		class   Class
	}{
		"no JSON":            {"event: bundle\ndata: {\n\n", protocol},
		"no data":            {"event: bundle\n\n", protocol},
		"empty data":         {"event: bundle\ndata:\n\n", protocol},
		"no seq":             {"event: bundle\ndata: {}\n\n", protocol},
		"seq zero":           {"event: bundle\ndata: {\"bundle_seq\":0}\n\n", protocol},
		"overlong line":      {"data: " + strings.Repeat("x", maxLineBytes), protocol},
		"overlong event":     {strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", 1100), protocol},
		"overlong comments":  {strings.Repeat(": "+strings.Repeat("x", 1000)+"\n", 1100), protocol},
		"unterminated event": {thirteen[:len(thirteen)-1], transient},
		"empty":              {"", transient},
	} {
		client := inMemory(t, func(*http.Request) (*http.Response, error) { return answer(200, c.content), nil })
		stream, err := client.Watch(t.Context(), "source", 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := nextEvent(stream); Classify(err).Class != c.class {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWatchAnswersThatAreNoStream(t *testing.T) {
	t.Parallel()
	page := inMemory(t, func(*http.Request) (*http.Response, error) {
		resp := answer(200, "<html>")
		resp.Header.Set("Content-Type", "text/html")
		return resp, nil
	})
	if _, err := page.Watch(t.Context(), "source", 0); Classify(err).Class != WrongAddress {
		t.Errorf("%v", err)
	}
	data := inMemory(t, func(*http.Request) (*http.Response, error) {
		resp := answer(200, "{}")
		resp.Header.Set("Content-Type", "application/json")
		return resp, nil
	})
	if _, err := data.Watch(t.Context(), "source", 0); Classify(err).Class != Protocol {
		t.Errorf("%v", err)
	}
	forbidden := inMemory(t, func(*http.Request) (*http.Response, error) {
		return answer(403, `{"error":"bundle_change_watch_forbidden"}`), nil
	})
	if _, err := forbidden.Watch(t.Context(), "source", 0); Classify(err).Code != "bundle_change_watch_forbidden" {
		t.Errorf("%v", err)
	}
}
