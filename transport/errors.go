package transport

import (
	"fmt"
	"net/url"
)

// BaseURLError is a server address that cannot be used. Nothing was sent.
type BaseURLError struct {
	URL    string // without user information and query; "" when it could not be parsed at all
	Reason string // what is wrong with it
}

func (e *BaseURLError) Error() string {
	return fmt.Sprintf("oversqlite: unusable server address %q: %s", e.URL, e.Reason)
}

// Retryable reports false: the address must change.
func (e *BaseURLError) Retryable() bool { return false }

// NetworkError is a request that brought no whole answer: no connection, no answer in time, or a connection that
// broke before the end of it. Whether the server did what it was asked is not known.
type NetworkError struct {
	Operation string
	URL       string // without user information and query
	Timeout   bool   // nothing arrived for too long
	Err       error
}

func (e *NetworkError) Error() string {
	return fmt.Sprintf("oversqlite: %s: no answer from %s: %v", e.Operation, e.URL, e.Err)
}

func (e *NetworkError) Unwrap() error { return e.Err }

// Retryable reports true.
func (e *NetworkError) Retryable() bool { return true }

// AddressError says that whoever answers at the configured address is no oversqlite server: an answer 404, 405 or
// 501 without a code of the protocol, a redirect to another host, a web page in place of an answer, a certificate that does not verify, plain HTTP
// where TLS was expected.
type AddressError struct {
	Operation string
	URL       string // without user information and query
	Status    int    // HTTP status; 0 when there was no answer
	Err       error
}

func (e *AddressError) Error() string {
	s := fmt.Sprintf("oversqlite: %s: no oversqlite server answers at %s", e.Operation, e.URL)
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d)", e.Status)
	}
	if e.Err != nil && e.Status < 300 { // what a refusal says was not written for this client
		s += ": " + e.Err.Error()
	}
	return s + "; check the server address, and what stands between here and there"
}

func (e *AddressError) Unwrap() error { return e.Err }

// Retryable reports false: an address, a proxy or a certificate has to change first.
func (e *AddressError) Retryable() bool { return false }

// BodyTooLargeError is an answer longer than the bound of its kind, measured after decompression. It was not read
// to its end; asking for fewer bundles or rows may bring a shorter one.
type BodyTooLargeError struct {
	Operation string
	Limit     int64 // bytes
}

func (e *BodyTooLargeError) Error() string {
	return fmt.Sprintf("oversqlite: %s: the answer is longer than %d bytes", e.Operation, e.Limit)
}

// Retryable reports false: the same request will bring the same answer.
func (e *BodyTooLargeError) Retryable() bool { return false }

// redacted renders a URL for an error message. User information and the query may be secrets: neither is shown.
func redacted(u *url.URL) string {
	r := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return r.String()
}
