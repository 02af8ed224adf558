package transport

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Bounds on the length of answers, in bytes after decompression.
const (
	DefaultPageBytes  = 16 << 20 // pull, committed rows, snapshot pages
	DefaultOtherBytes = 1 << 20  // everything else that is not an error
	maxCapabilities   = 4 << 20  // a server may list thousands of tables
	maxErrorBytes     = 64 << 10
)

// DefaultIdleTimeout is how long a request may make no progress. A commit of a large push shows none until the
// server has written all of it, so it is generous.
const DefaultIdleTimeout = 2 * time.Minute

// DefaultWatchSilence is how long a watch stream may be silent. Servers send a heartbeat every 25 s: this is twice that, and
// what a slow network may add.
const DefaultWatchSilence = time.Minute

// Config says where the server is and how to reach it.
type Config struct {
	// BaseURL is the server's address. A path prefix is kept; the endpoint paths are appended to it. Scheme http or
	// https, no query, no fragment.
	BaseURL string

	// HTTPClient owns authentication, proxies and TLS. It is never changed. Its Timeout applies to ordinary requests,
	// not to watch streams. Unless it brings a CheckRedirect of its own, redirects to another host are not followed: a
	// client that adds its credentials in a RoundTripper would hand them to that host.
	// Nil: DefaultHTTPClient().
	HTTPClient *http.Client

	// Bounds on the length of answers. Zero fields take their defaults.
	Bounds Bounds

	// IdleTimeout ends a request that makes no progress for that long: nothing sent, nothing received. A slow
	// transfer is not cut. Defaults to DefaultIdleTimeout; negative: never.
	IdleTimeout time.Duration

	// WatchSilence ends a watch stream on which nothing arrives for that long, heartbeats included. Defaults to
	// DefaultWatchSilence; negative: never.
	WatchSilence time.Duration

	// Now is the clock by which a Retry-After that is a date is understood. Defaults to time.Now.
	Now func() time.Time

	// AfterFunc is the clock of IdleTimeout and WatchSilence: it calls f after d, on a goroutine of its choice. Defaults to
	// time.AfterFunc.
	AfterFunc func(d time.Duration, f func()) Timer

	// Observe is told of each request when it has ended, on the goroutine that made it. Nil: nobody is told, at no cost.
	Observe func(Exchange)

	// UserAgent is sent with every request. Defaults to "oversqlite-go".
	UserAgent string
}

// Timer is what AfterFunc returns. A *time.Timer is one.
type Timer interface {
	Reset(d time.Duration) bool
	Stop() bool
}

// Bounds limits the length of answers, in bytes after decompression. An answer beyond its bound is a
// *BodyTooLargeError.
type Bounds struct {
	Pull          int64 // one page of bundles; defaults to DefaultPageBytes
	CommittedRows int64 // one page of a committed bundle, and the row in a push_conflict; defaults to DefaultPageBytes
	SnapshotPage  int64 // one page of a snapshot; defaults to DefaultPageBytes
	Other         int64 // any other success; defaults to DefaultOtherBytes
}

// DefaultHTTPClient returns the client that is used where none is configured. It is shared by the process, so that
// many engines of one process keep their connections to one server: net/http's own default keeps two, and every
// further concurrent tenant would dial anew. It has no total timeout; see Config.IdleTimeout.
func DefaultHTTPClient() *http.Client { return defaultHTTPClient() }

var defaultHTTPClient = sync.OnceValue(func() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   512,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ExpectContinueTimeout: time.Second,
		// An HTTP/2 connection whose other end is gone looks alive; every retry would take it again.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}}
})

// withDefaults fills what was left out.
func (c Config) withDefaults() Config {
	if c.HTTPClient == nil {
		c.HTTPClient = DefaultHTTPClient()
	}
	orElse(&c.Bounds.Pull, DefaultPageBytes)
	orElse(&c.Bounds.CommittedRows, DefaultPageBytes)
	orElse(&c.Bounds.SnapshotPage, DefaultPageBytes)
	orElse(&c.Bounds.Other, DefaultOtherBytes)
	orElse(&c.IdleTimeout, DefaultIdleTimeout)
	orElse(&c.WatchSilence, DefaultWatchSilence)
	orElse(&c.UserAgent, "oversqlite-go")
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.AfterFunc == nil {
		c.AfterFunc = func(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
	}
	return c
}

// orElse sets *p to d when it holds its zero value.
func orElse[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}

// parseBase validates the server's address and cuts trailing slashes off its path.
func parseBase(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, &BaseURLError{Reason: "it is empty"}
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The error of url.Parse quotes the whole address, which may hold a password. Its cause does not.
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, &BaseURLError{Reason: err.Error()}
	}
	bad := func(reason string) (*url.URL, error) {
		return nil, &BaseURLError{URL: redacted(u), Reason: reason}
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return bad(`its scheme must be http or https, as in "https://example.com"`)
	case u.Hostname() == "":
		return bad("it names no host")
	case u.RawQuery != "" || u.ForceQuery:
		return bad("it must not have a query")
	case u.Fragment != "":
		return bad("it must not have a fragment")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}
