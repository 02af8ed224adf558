package transport

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// errIdle is the cause with which a request ends that made no progress for too long.
var errIdle = errors.New("no progress for too long")

// errOverBound is what readBounded answers for a body that is longer than its bound.
var errOverBound = errors.New("longer than its bound")

// watchdog ends a request by cancelling its context when nothing moves for a while. Nil does nothing.
type watchdog struct {
	after   time.Duration
	timer   Timer
	stopped atomic.Bool

	activity *Activity // nil: nobody asks
	now      func() time.Time
}

// newWatchdog starts a watchdog that calls cancel(errIdle), not for a negative duration, and notes what moves in the Activity
// of ctx.
func (c *Client) newWatchdog(ctx context.Context, after time.Duration, cancel context.CancelCauseFunc) *watchdog {
	w := &watchdog{after: after, activity: activityOf(ctx), now: c.cfg.Now}
	if after >= 0 {
		w.timer = c.cfg.AfterFunc(after, func() { cancel(errIdle) })
	}
	return w
}

// moved tells that something was sent or received.
func (w *watchdog) moved() {
	if w == nil {
		return
	}
	w.activity.moved(w.now())
	if w.timer != nil && !w.stopped.Load() {
		w.timer.Reset(w.after)
	}
}

// stop ends the watch. net/http may still read a request body after the answer has come, so moved can come later.
func (w *watchdog) stop() {
	if w != nil {
		w.stopped.Store(true)
		if w.timer != nil {
			w.timer.Stop()
		}
	}
}

// watchedReader tells the watchdog about every read.
type watchedReader struct {
	r   io.Reader
	dog *watchdog
}

func (r watchedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.dog.moved()
	}
	return n, err
}

// setBody gives req a body that can be sent again on a redirect or on a fresh connection.
func setBody(req *http.Request, body []byte, dog *watchdog) {
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(watchedReader{bytes.NewReader(body), dog}), nil
	}
	req.Body, _ = open()
	req.GetBody = open
	req.ContentLength = int64(len(body))
}

// Segments grow from the first to the second size: a short body costs little, a long one few segments.
const (
	firstSegment = 4 << 10
	lastSegment  = 1 << 20
)

// readBounded reads a body of at most limit bytes to its end. announced is its announced length, a hint that may be
// wrong or absent (≤ 0). A body of the announced length is read in place; another one is read in segments and joined
// once, which never holds more than twice its length.
func readBounded(r io.Reader, announced, limit int64) ([]byte, error) {
	if announced > limit {
		return nil, errOverBound
	}
	size := int64(firstSegment)
	if announced > 0 {
		size = announced
	}
	var (
		full  [][]byte
		total int64
		cur   = make([]byte, 0, min(size, limit+1))
	)
	for {
		if len(cur) == cap(cur) {
			// The body may end exactly here; a probe tells before more memory is asked for.
			var probe [1]byte
			n, err := io.ReadFull(r, probe[:])
			if n == 0 {
				if errors.Is(err, io.EOF) {
					break
				}
				return nil, err
			}
			full = append(full, cur)
			total += int64(len(cur))
			if total+1 > limit {
				return nil, errOverBound
			}
			next := max(firstSegment, min(2*int64(cap(cur)), lastSegment))
			cur = append(make([]byte, 0, next), probe[0])
			continue
		}
		n, err := r.Read(cur[len(cur):cap(cur)])
		cur = cur[:len(cur)+n]
		if total+int64(len(cur)) > limit {
			return nil, errOverBound
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if len(full) == 0 {
		return cur, nil
	}
	return bytes.Join(append(full, cur), nil), nil
}

// decoded returns the body of resp with its content encoding undone, or an error for an encoding that was not asked
// for. net/http undoes gzip by itself, except where the injected client's transport does not.
func decoded(resp *http.Response, body io.Reader) (io.Reader, error) {
	switch enc := resp.Header.Get("Content-Encoding"); enc {
	case "", "identity":
		return body, nil
	case "gzip":
		return gzip.NewReader(body)
	default:
		return nil, errEncoding
	}
}

var errEncoding = errors.New("unsupported content encoding")

// cutShort reports whether a JSON body that nothing but the end of the connection delimits lacks its end.
// Everywhere else HTTP itself tells.
func cutShort(resp *http.Response, body []byte) bool {
	if resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0 || resp.ProtoMajor != 1 || resp.Uncompressed {
		return false
	}
	body = bytes.TrimSpace(body)
	return len(body) > 0 && body[0] == '{' && body[len(body)-1] != '}'
}
