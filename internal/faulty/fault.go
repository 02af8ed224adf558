package faulty

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Kind is a way to misbehave.
type Kind uint8

// The kinds.
const (
	None      Kind = iota
	Refuse         // the request does not leave: connection refused
	Lose           // the server does it, the answer is lost: connection reset
	Delay          // the request leaves after Fault.Delay
	Cut            // the answer breaks off after Fault.Bytes bytes of its body
	Status         // something in between answers Fault.Status, and the server never hears of the request
	Overrule       // the server does it, something in between answers Fault.Status instead of it
	WrongBody      // the server does it, the answer's body is Fault.Body, with status 200
	Duplicate      // the request is sent twice; the answer is the second one's
)

var kindNames = [...]string{"none", "refuse", "lose", "delay", "cut", "status", "overrule", "wrong body", "duplicate"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Fault is what is to happen to a request.
type Fault struct {
	Kind       Kind
	Status     int           // of Status and Overrule
	RetryAfter string        // of Status and Overrule: value of the header; "": none
	Body       string        // of WrongBody, Status and Overrule
	Delay      time.Duration // of Delay
	Bytes      int           // of Cut
	// BeforeSend and BeforeAnswer, where not nil, are called before the request leaves and before its answer is handed
	// over. They come with any kind, None included.
	BeforeSend   func(*http.Request)
	BeforeAnswer func(*http.Request)
}

// Bodies that no decoder of the protocol must accept.
var wrongBodies = []string{
	"",
	"<html><body>Please log in to this network.</body></html>",
	`{"stable_bundle_seq":12,"bundles":[{"bundle_seq":1,"sour`,
	`{"status":7,"push_id":{},"bundle_seq":"nine","bundles":"none","rows":3,"resolution":[],"snapshot_id":true,"features":1}`,
	`[]`,
	`null`,
}

// statuses that gateways and overloaded servers answer, all of them passing.
var statuses = []int{408, 429, 500, 502, 503, 504}

// Every lists the kinds that Random draws from by default: all of them.
var Every = []Kind{Refuse, Lose, Delay, Cut, Status, Overrule, WrongBody, Duplicate}

// draw makes up a fault of one of kinds.
func draw(r *rand.Rand, kinds []Kind) Fault {
	f := Fault{Kind: kinds[r.IntN(len(kinds))]}
	switch f.Kind {
	case Delay:
		f.Delay = time.Duration(r.IntN(30)) * time.Millisecond
	case Cut:
		f.Bytes = r.IntN(200)
	case Status, Overrule:
		f.Status = statuses[r.IntN(len(statuses))]
		if r.IntN(2) == 0 {
			f.RetryAfter = []string{"0", "1", "-1", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"}[r.IntN(5)]
		}
		if r.IntN(2) == 0 {
			f.Body = wrongBodies[r.IntN(len(wrongBodies))]
		}
	case WrongBody:
		f.Body = wrongBodies[r.IntN(len(wrongBodies))]
	}
	return f
}
