package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/oversqlite/oversqlite/internal/failpoint"
	"github.com/oversqlite/oversqlite/wire"
)

// What Next answers on a stream that was closed here, and on one that the server ended; the latter is an io.EOF.
var (
	ErrStreamClosed = errors.New("oversqlite: the watch stream is closed")
	ErrStreamEnded  = fmt.Errorf("oversqlite: the server ended the watch stream: %w", io.EOF)
)

// Stream is an open watch stream. It owns no goroutine and no buffer of events: what nobody asks for stays in the
// connection, and a slow consumer holds up nothing but itself.
type Stream struct {
	body   io.ReadCloser
	sse    *sseReader
	dog    *watchdog
	ctx    context.Context //nolint:containedctx // bounds the stream
	life   context.Context //nolint:containedctx // of the request the stream is the body of: ends with the stream
	end    context.CancelCauseFunc
	at     *url.URL
	closed atomic.Bool
	err    error // what ended the stream
}

// Watch opens the stream of changes after a bundle. It lives until Close, until a Next fails or until ctx ends. The client's
// total timeout does not apply to it.
func (c *Client) Watch(ctx context.Context, sourceID string, after int64) (*Stream, error) {
	life, end := context.WithCancelCause(ctx)
	opening := c.newWatchdog(ctx, c.cfg.IdleTimeout, end)
	defer opening.stop()

	r := request{
		op: OpWatch, method: http.MethodGet, path: "/sync/watch", query: string(query(nil).with("after_bundle_seq", after)), sourceID: sourceID,
	}
	seen := c.observe()
	stream, err := c.openStream(ctx, life, opening, r)
	seen.done(&r, err)
	if err != nil {
		end(err)
		return nil, err
	}
	stream.end = end
	stream.dog = c.newWatchdog(ctx, c.cfg.WatchSilence, end)
	stream.sse = newSSEReader(watchedReader{stream.body, stream.dog})
	return stream, nil
}

// openStream sends the request and checks the head of the answer.
func (c *Client) openStream(ctx, life context.Context, opening *watchdog, r request) (*Stream, error) {
	req, err := c.newRequest(life, r, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity") // a compressor may sit on an event until its window is full
	req.Header.Set("Cache-Control", "no-cache")
	failpoint.At(failpoint.BeforeRequest, r.op)
	resp, err := c.streams.Do(req)
	failpoint.At(failpoint.AfterAnswer, r.op)
	if err != nil {
		return nil, failed(ctx, life, r.op, req.URL, err)
	}
	at := asked(req, resp)
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, c.refusal(ctx, life, r, resp, at, opening)
	}
	if webPage(resp) {
		_ = resp.Body.Close()
		return nil, &AddressError{Operation: r.op, URL: redacted(at), Status: resp.StatusCode, Err: errWebPage}
	}
	if !eventStream(resp) {
		_ = resp.Body.Close()
		return nil, &wire.ProtocolError{Operation: r.op, Reason: "it is no event stream"}
	}
	return &Stream{body: resp.Body, ctx: ctx, life: life, at: at}, nil
}

// eventStream reports whether an answer may be a stream of events. A missing content type is let pass: what is no
// stream will show.
func eventStream(resp *http.Response) bool {
	declared := resp.Header.Get("Content-Type")
	if declared == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(declared)
	return err == nil && media == "text/event-stream"
}

// Next waits for what comes next: a change, which is a hint to pull and never data, or a heartbeat, which is the comment by
// which a server shows that it is there; then beat is set and event is nothing. When ctx ends first, the stream ends with
// it.
//
// The error is ErrStreamEnded when the server ended the stream, a *NetworkError when it broke or was silent for too long,
// a *wire.ProtocolError when what arrived is no event, ErrStreamClosed after Close. Every error is final for the
// stream; later calls return it again. Not safe for concurrent use, except with Close.
func (s *Stream) Next() (event wire.WatchEvent, beat bool, err error) {
	if s.err != nil {
		return wire.WatchEvent{}, false, s.err
	}
	if s.closed.Load() {
		return wire.WatchEvent{}, false, ErrStreamClosed // what is still buffered was not asked for in time
	}
	for {
		block, err := s.sse.next()
		switch {
		case err != nil:
			return wire.WatchEvent{}, false, s.fail(s.cause(err))
		case block.comment:
			return wire.WatchEvent{}, true, nil
		case block.name == "bundle":
			if event, err = wire.DecodeWatchEvent(block.data); err != nil {
				return wire.WatchEvent{}, false, s.fail(err)
			}
			return event, false, nil
		}
	}
}

// cause says what a failed read of the stream means.
func (s *Stream) cause(err error) error {
	switch {
	case s.closed.Load():
		return ErrStreamClosed
	case s.ctx.Err() != nil:
		return &canceledError{op: OpWatch, err: s.ctx.Err()}
	case errors.Is(err, errLineTooLong), errors.Is(err, errEventTooLong):
		return &wire.ProtocolError{Operation: OpWatch, Reason: err.Error()}
	case errors.Is(err, io.EOF):
		return ErrStreamEnded
	default:
		return failed(s.ctx, s.life, OpWatch, s.at, err)
	}
}

// fail ends the stream with err.
func (s *Stream) fail(err error) error {
	s.err = err
	_ = s.Close()
	return err
}

// Close ends the stream and a Next that waits on it. It may be called any number of times, from any goroutine.
func (s *Stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.end(ErrStreamClosed)
	s.dog.stop()
	return s.body.Close()
}
