package transport

import (
	"net/http"

	"github.com/oversqlite/oversqlite/wire"
)

// Sign is what an outcome says of the server as a whole, for whoever makes requests for many users of it.
type Sign uint8

// The signs.
const (
	// NoSign: nothing. It is about the request alone, or nobody can tell.
	NoSign Sign = iota
	// Serving: the server does its work, whatever it answered.
	Serving
	// Failing: it may be that the server serves nobody. One such outcome proves nothing: it can be about one user, one
	// connection or one request.
	Failing
	// Unavailable: the server, or a gateway before it, says that the service is unavailable, and for how long
	// (Failure.RetryAfter).
	Unavailable
)

var signNames = [...]string{"none", "serving", "failing", "unavailable"}

func (s Sign) String() string {
	if int(s) < len(signNames) {
		return signNames[s]
	}
	return "unknown"
}

// sign decides what an outcome says of the server as a whole. answer is nil when there was none.
func sign(f Failure, answer *wire.HTTPError) Sign {
	switch f.Class {
	case None, Auth, Code, TooLarge:
		return Serving
	case Transient:
	default:
		return NoSign
	}
	switch {
	case answer == nil:
		return Failing
	case capacityCodes[f.Code]:
		return NoSign // it builds and serves as many snapshots as it can; everything else goes on
	case f.RetryAfter == 0, answer.Operation == OpWatch:
		return Failing // a server that has streams enough for now may well answer requests
	case f.Status == http.StatusBadGateway, f.Status == http.StatusServiceUnavailable, f.Status == http.StatusGatewayTimeout:
		return Unavailable
	default:
		return Failing // a 429 is about the one who asks, until many are told the same
	}
}
