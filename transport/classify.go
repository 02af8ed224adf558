package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

// Class is what a failure means for the one who made the request.
type Class uint8

// The classes.
const (
	// None: there was no failure.
	None Class = iota
	// Transient: the same request may succeed later, without any change. Whether it took effect is not known.
	Transient
	// CommitFailed: the server itself says that it could not commit. That is steady (a constraint) or passing (its
	// database), and the answer does not tell which: repeat with backoff, and count.
	CommitFailed
	// Auth: the credentials were refused.
	Auth
	// Code: the server refused the request. Failure.Code says why; it is "" when the body had no usable code.
	Code
	// TooLarge: the answer is beyond its bound. Ask for less.
	TooLarge
	// Protocol: the answer breaks the contract.
	Protocol
	// Canceled: the caller's context ended.
	Canceled
	// Unsupported: the server does not speak this protocol, this version, or these tables.
	Unsupported
	// WrongAddress: whoever answers there is no oversqlite server.
	WrongAddress
)

var classNames = [...]string{"none", "transient", "commit_failed", "auth", "code", "too_large", "protocol", "canceled", "unsupported", "wrong_address"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

// Failure is what Classify found.
type Failure struct {
	Class      Class
	Status     int           // HTTP status; 0 when there was no answer
	Code       string        // the server's error code; "" none
	RetryAfter time.Duration // the server's wish, a floor for the delay before a repetition; 0 none
	Sign       Sign          // what it says of the server as a whole
}

// Away reports whether nobody was there to do the work: there was no answer, or a gateway's that says so.
func (f Failure) Away() bool {
	return f.Class == Transient && !capacityCodes[f.Code] && (f.Status == 0 || f.Status >= http.StatusBadGateway) // gateways have codes of their own, 524 and others
}

// Classify decides what an error of this package means. Every caller goes by it; nobody looks at statuses himself.
// An error that is not of this package, of wire or of the standard library's network packages is classed Protocol:
// what is not understood must not be repeated for ever.
func Classify(err error) Failure {
	if err == nil {
		return Failure{Sign: Serving}
	}
	var answer *wire.HTTPError
	_ = errors.As(err, &answer)
	f := classify(err, answer)
	f.Sign = sign(f, answer)
	return f
}

// classify does so but for the sign. answer is the refusal in err, nil when there is none.
func classify(err error, answer *wire.HTTPError) Failure {
	var (
		address  *AddressError
		network  *NetworkError
		large    *BodyTooLargeError
		old      *wire.LifecycleUnsupportedError
		version  *wire.ProtocolVersionMismatchError
		tables   *wire.TableContractMismatchError
		protocol *wire.ProtocolError
		timeout  net.Error
	)
	switch {
	case errors.As(err, &address):
		return Failure{Class: WrongAddress, Status: address.Status}
	case errors.As(err, &network):
		return Failure{Class: Transient}
	case errors.As(err, &large):
		return Failure{Class: TooLarge, Status: http.StatusOK}
	case errors.As(err, &old):
		return Failure{Class: Unsupported, Status: old.Status}
	case errors.As(err, &version), errors.As(err, &tables):
		return Failure{Class: Unsupported, Status: http.StatusOK}
	case errors.As(err, &protocol):
		return Failure{Class: Protocol, Status: http.StatusOK}
	case answer != nil:
		return Failure{
			Class: classOfAnswer(answer), Status: answer.Status, Code: answer.Code, RetryAfter: answer.RetryAfter,
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrStreamClosed):
		return Failure{Class: Canceled}
	case errors.As(err, &timeout), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Failure{Class: Transient}
	default:
		return Failure{Class: Protocol}
	}
}

// classOfAnswer decides what an answer other than success means.
func classOfAnswer(e *wire.HTTPError) Class {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return Transient
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return Auth
	case http.StatusForbidden:
		// Anything but the protocol's own refusals is about who asks, whether the server or something before it says so.
		if forbiddenCodes[e.Code] {
			return Code
		}
		return Auth
	}
	switch {
	case e.Status < 300:
		return Protocol // 202, 204, 206 where a body was due
	case e.Status < 500:
		return Code
	case e.Code == "bundle_change_watch_disabled":
		return Code // steady, for all that it comes as a 503
	case e.Status == http.StatusInternalServerError && e.Operation == OpCommitPush && e.Code != "":
		return CommitFailed
	default:
		return Transient
	}
}

// capacityCodes are the refusals of a server that builds or serves as many snapshots as it can. They pass; a server that does
// not say when is asked again after capacityDelay.
var capacityCodes = map[string]bool{"snapshot_build_capacity": true, "snapshot_chunk_capacity": true}

const capacityDelay = time.Second

// forbiddenCodes are the refusals of the protocol that come as a 403 without being about credentials.
var forbiddenCodes = map[string]bool{
	"push_session_forbidden":        true,
	"snapshot_session_forbidden":    true,
	"bundle_change_watch_forbidden": true,
}

// notFoundCodes are the codes of the protocol that come as a 404. A 404 without one of them was not said by an
// oversqlite server, whatever else its body holds: web frameworks and gateways put their own texts there.
var notFoundCodes = map[string]bool{
	"push_session_not_found":     true,
	"snapshot_session_not_found": true,
	"committed_bundle_not_found": true,
}

// wrongAddress reports whether an answer was not said by an oversqlite server.
func wrongAddress(e *wire.HTTPError) bool {
	switch e.Status {
	case http.StatusNotFound:
		return !notFoundCodes[e.Code]
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusMisdirectedRequest:
		return true
	default:
		return e.Status >= 300 && e.Status < 400
	}
}

// permanent reports whether a failure to get an answer is one that waiting does not end.
func permanent(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
		record       tls.RecordHeaderError
	)
	return errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, errTooManyRedirects) ||
		errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &hostname) ||
		errors.As(err, &invalid) || errors.As(err, &record)
}
