// Package transport speaks HTTP with an oversqlite server: one method an endpoint, bounded bodies, one function that
// decides what a failure means, and the parser of the watch stream.
//
// It has no state beyond the client it was given: no retry, no token, no cache. Authentication belongs to the
// injected [http.Client]; retrying belongs to whoever supervises the caller. It never logs, and no error of this
// package contains user information or a query of a URL, a header, or the content of a row.
package transport
