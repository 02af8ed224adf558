package transport

import (
	"errors"
	"net/http"
	"net/url"
)

// withRedirectPolicy returns a copy of c that follows a redirect only where nothing is lost or given away by it: the
// method must stay (net/http turns a redirected POST into a GET, and a commit that became a GET has not happened),
// and the host too, unless c has a policy of its own, whose business hosts then are. A redirect that is not followed
// comes back as the answer it is.
func withRedirectPolicy(c *http.Client) *http.Client {
	clone := *c
	own := c.CheckRedirect
	clone.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		first := via[0]
		if req.Method != first.Method {
			return http.ErrUseLastResponse
		}
		if own != nil {
			return own(req, via)
		}
		if !sameServer(first.URL, req.URL) {
			return http.ErrUseLastResponse
		}
		if len(via) >= 10 {
			return errTooManyRedirects
		}
		return nil
	}
	return &clone
}

// sameServer reports whether a redirect stays where the credentials were meant for. From http to https on the same
// host counts as staying.
func sameServer(from, to *url.URL) bool {
	if from.Hostname() != to.Hostname() {
		return false
	}
	if from.Scheme == to.Scheme {
		return from.Port() == to.Port()
	}
	return from.Scheme == "http" && to.Scheme == "https"
}

var errTooManyRedirects = errors.New("too many redirects")
