package transport

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/oversqlite/oversqlite/internal/failpoint"
	"github.com/oversqlite/oversqlite/wire"
)

// Names of the operations, as errors carry them.
const (
	OpCapabilities   = "capabilities"
	OpConnect        = "connect"
	OpCreatePush     = "create push session"
	OpPushChunk      = "upload push chunk"
	OpCommitPush     = "commit push session"
	OpDeletePush     = "delete push session"
	OpCommittedRows  = "fetch committed rows"
	OpPull           = "pull"
	OpCreateSnapshot = "create snapshot session"
	OpSnapshotPage   = "fetch snapshot page"
	OpDeleteSnapshot = "delete snapshot session"
	OpWatch          = "watch"
)

// Client makes requests to one server. It is safe for concurrent use and has nothing to close.
//
// Every error is typed: *NetworkError, *AddressError, *BodyTooLargeError, *wire.HTTPError, *wire.ProtocolError,
// *wire.LifecycleUnsupportedError, *wire.ProtocolVersionMismatchError, or, when the caller's context ended, an error
// that wraps that context's. Classify says what it means.
type Client struct {
	cfg     Config
	base    string // without a trailing slash
	http    *http.Client
	streams *http.Client // the same without a total timeout
}

// New validates cfg and returns a client. It does no I/O. The error is a *BaseURLError.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	base, err := parseBase(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, base: base.String(), http: withRedirectPolicy(cfg.HTTPClient)}
	streams := *c.http
	streams.Timeout = 0
	c.streams = &streams
	return c, nil
}

// request is one request to be made.
type request struct {
	op       string
	method   string
	path     string // below the base URL, escaped
	query    string // encoded
	sourceID string
	body     []byte // nil: none
	limit    int64  // of a success body
	conflict int64  // limit of the body of a 409, which may hold a row; 0: as other errors
	// refused decodes an answer other than success; nil: as where no contract is known
	refused func(op string, status int, body []byte) *wire.HTTPError
}

// newRequest builds the HTTP request. dog may be nil.
func (c *Client) newRequest(ctx context.Context, r request, dog *watchdog) (*http.Request, error) {
	target := c.base + r.path
	if r.query != "" {
		target += "?" + r.query
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, nil)
	if err != nil {
		return nil, &BaseURLError{Reason: "no request can be made from it"}
	}
	if r.body != nil {
		setBody(req, r.body, dog)
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Oversync-Source-ID", r.sourceID)
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	return req, nil
}

// do makes a request and returns the body of its success. Every request but that of a stream passes here.
func (c *Client) do(ctx context.Context, r request) ([]byte, error) {
	failpoint.At(failpoint.BeforeRequest, r.op)
	seen := c.observe()
	body, err := c.exchange(ctx, r, &seen)
	seen.done(&r, err)
	failpoint.At(failpoint.AfterAnswer, r.op)
	return body, err
}

func (c *Client) exchange(ctx context.Context, r request, seen *observation) ([]byte, error) {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := c.newWatchdog(ctx, c.cfg.IdleTimeout, cancel)
	defer dog.stop()

	req, err := c.newRequest(inner, r, dog)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, failed(ctx, inner, r.op, req.URL, err)
	}
	resp.Body = seen.count(resp.Body)
	defer resp.Body.Close()
	dog.moved()

	if resp.StatusCode != http.StatusOK && (r.method != http.MethodDelete || resp.StatusCode/100 != 2) {
		return nil, c.refusal(ctx, inner, r, resp, asked(req, resp), dog)
	}
	if webPage(resp) {
		return nil, &AddressError{Operation: r.op, URL: redacted(asked(req, resp)), Status: resp.StatusCode, Err: errWebPage}
	}
	body, err := readAnswer(resp, dog, r.limit)
	switch {
	case errors.Is(err, errOverBound):
		return nil, &BodyTooLargeError{Operation: r.op, Limit: r.limit}
	case errors.Is(err, errEncoding):
		return nil, &wire.ProtocolError{Operation: r.op, Reason: "its content encoding was not asked for"}
	case err != nil:
		return nil, failed(ctx, inner, r.op, req.URL, err)
	case cutShort(resp, body):
		return nil, failed(ctx, inner, r.op, req.URL, io.ErrUnexpectedEOF)
	}
	return body, nil
}

// webPage reports whether an answer is meant for people: the sign-in page of a network, or a site that is not the server.
func webPage(resp *http.Response) bool {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return media == "text/html"
}

var errWebPage = errors.New("a web page answers")

// readAnswer reads the body of an answer, at most limit bytes of it.
func readAnswer(resp *http.Response, dog *watchdog, limit int64) ([]byte, error) {
	body, err := decoded(resp, watchedReader{resp.Body, dog})
	if err != nil {
		return nil, err
	}
	announced := resp.ContentLength
	if resp.Header.Get("Content-Encoding") == "gzip" {
		announced = -1
	}
	return readBounded(body, announced, limit)
}

// refusal turns an answer other than success into its error.
func (c *Client) refusal(ctx, inner context.Context, r request, resp *http.Response, at *url.URL, dog *watchdog) error {
	limit := int64(maxErrorBytes)
	if resp.StatusCode == http.StatusConflict {
		limit = max(limit, r.conflict)
	}
	body, err := readAnswer(resp, dog, limit)
	switch {
	case errors.Is(err, errOverBound), errors.Is(err, errEncoding):
		body = nil // the status speaks for itself
	case err != nil:
		// Half an error body could hide the code on which everything depends.
		return failed(ctx, inner, r.op, at, err)
	}
	decode := r.refused
	if decode == nil {
		decode = wire.DecodeError
	}
	answer := decode(r.op, resp.StatusCode, body)
	answer.RetryAfter = retryAfter(resp.Header, c.cfg.Now())
	if capacityCodes[answer.Code] && answer.RetryAfter == 0 {
		answer.RetryAfter = capacityDelay
	}
	if r.op == OpCapabilities {
		switch resp.StatusCode {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return &wire.LifecycleUnsupportedError{Status: resp.StatusCode, URL: redacted(at)}
		}
	}
	if wrongAddress(answer) {
		return &AddressError{Operation: r.op, URL: redacted(at), Status: resp.StatusCode, Err: answer}
	}
	return answer
}

// asked returns the address that answered, which after a redirect is not the one that was asked first.
func asked(req *http.Request, resp *http.Response) *url.URL {
	if resp.Request != nil && resp.Request.URL != nil {
		return resp.Request.URL
	}
	return req.URL
}

// failed types an error that came instead of a whole answer. ctx is the caller's, inner the request's.
func failed(ctx, inner context.Context, op string, u *url.URL, err error) error {
	if ctx.Err() != nil {
		return &canceledError{op: op, err: ctx.Err()}
	}
	at := redacted(u)
	// A url.Error quotes the address with its query; what it wraps does not.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		if last, parseErr := url.Parse(wrapped.URL); parseErr == nil && last.Host != "" {
			at = redacted(last) // after a redirect, another one
		}
		err = wrapped.Err
	}
	if permanent(err) {
		return &AddressError{Operation: op, URL: at, Err: err}
	}
	if errors.Is(context.Cause(inner), errIdle) {
		return &NetworkError{Operation: op, URL: at, Timeout: true, Err: errIdle}
	}
	var timeout interface{ Timeout() bool }
	return &NetworkError{Operation: op, URL: at, Timeout: errors.As(err, &timeout) && timeout.Timeout(), Err: err}
}

// canceledError is a request whose caller stopped waiting.
type canceledError struct {
	op  string
	err error
}

func (e *canceledError) Error() string { return "oversqlite: " + e.op + ": " + e.err.Error() }
func (e *canceledError) Unwrap() error { return e.err }

// appendSegment appends s to a path, every byte but unreserved ones percent-encoded. The dot is encoded as well:
// a segment of dots would otherwise be a step up.
func appendSegment(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}

// sessionPath builds the path of a session below collection.
func sessionPath(collection, id, rest string) string {
	var b strings.Builder
	b.WriteString(collection)
	b.WriteByte('/')
	appendSegment(&b, id)
	b.WriteString(rest)
	return b.String()
}

// shown renders the address of a path for an error.
func (c *Client) shown(path string) string {
	u, err := url.Parse(c.base + path)
	if err != nil {
		return path
	}
	return redacted(u)
}
