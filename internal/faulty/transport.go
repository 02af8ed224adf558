package faulty

import (
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Transport injects faults into the exchanges of another RoundTripper. It is safe for concurrent use. The zero value is
// not usable; see New.
type Transport struct {
	base http.RoundTripper
	seed uint64

	mu       sync.Mutex
	rate     float64
	kinds    []Kind
	rules    []*rule
	requests map[Endpoint]int
	faults   map[Endpoint]map[Kind]int
}

// rule is a fault ordered for particular requests.
type rule struct {
	endpoint Endpoint
	skip     int
	left     int
	fault    Fault
}

// New returns a Transport over base that misbehaves in no way yet. base nil: http.DefaultTransport.
func New(base http.RoundTripper, seed uint64) *Transport {
	if base == nil {
		base = http.DefaultTransport
	}
	return &Transport{base: base, seed: seed, requests: map[Endpoint]int{}, faults: map[Endpoint]map[Kind]int{}}
}

// Random makes a share of all requests, 0 to 1, meet a fault of one of kinds; of Every where none are given.
func (t *Transport) Random(rate float64, kinds ...Kind) {
	if len(kinds) == 0 {
		kinds = Every
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate, t.kinds = rate, kinds
}

// Inject orders a fault for the next count requests of an endpoint. Orders for one endpoint are carried out one after
// the other, before any random fault.
func (t *Transport) Inject(e Endpoint, count int, f Fault) { t.InjectAfter(e, 0, count, f) }

// InjectAfter is Inject, skipping some requests of the endpoint first.
func (t *Transport) InjectAfter(e Endpoint, skip, count int, f Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules = append(t.rules, &rule{endpoint: e, skip: skip, left: count, fault: f})
}

// Heal ends all misbehaviour, ordered and random.
func (t *Transport) Heal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate, t.rules = 0, nil
}

// Requests counts the requests to an endpoint so far, or to all of them for Any. A request that met a fault counts
// once.
func (t *Transport) Requests(e Endpoint) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e != Any {
		return t.requests[e]
	}
	n := 0
	for _, k := range t.requests {
		n += k
	}
	return n
}

// Faults counts the faults of a kind so far, at an endpoint or at all of them for Any.
func (t *Transport) Faults(e Endpoint, k Kind) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e != Any {
		return t.faults[e][k]
	}
	n := 0
	for _, kinds := range t.faults {
		n += kinds[k]
	}
	return n
}

// next decides what happens to the next request of an endpoint.
func (t *Transport) next(e Endpoint) Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.requests[e]
	t.requests[e]++
	f := t.choose(e, n)
	if f.Kind != None {
		if t.faults[e] == nil {
			t.faults[e] = map[Kind]int{}
		}
		t.faults[e][f.Kind]++
	}
	return f
}

func (t *Transport) choose(e Endpoint, n int) Fault {
	for i, r := range t.rules {
		if r.endpoint != Any && r.endpoint != e {
			continue
		}
		if r.skip > 0 {
			r.skip--
			break
		}
		if r.left--; r.left <= 0 {
			t.rules = append(t.rules[:i:i], t.rules[i+1:]...)
		}
		return r.fault
	}
	// Every request has a generator of its own, so that requests of other endpoints do not change what it draws.
	h := fnv.New64a()
	_, _ = io.WriteString(h, string(e))
	r := rand.New(rand.NewPCG(t.seed^h.Sum64(), uint64(n)))
	if r.Float64() >= t.rate {
		return Fault{}
	}
	return draw(r, t.kinds)
}

// RoundTrip carries out one exchange, and whatever is to happen to it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	f := t.next(EndpointOf(r))
	if f.BeforeSend != nil {
		f.BeforeSend(r)
	}
	resp, err := t.exchange(r, f)
	if f.BeforeAnswer != nil {
		f.BeforeAnswer(r)
	}
	return resp, err
}

func (t *Transport) exchange(r *http.Request, f Fault) (*http.Response, error) {
	switch f.Kind {
	case Refuse:
		closeBody(r)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case Status:
		closeBody(r)
		return madeUp(r, f.Status, f), nil
	case Delay:
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			closeBody(r)
			return nil, r.Context().Err()
		}
	case Duplicate:
		if again, ok := repeat(r); ok {
			if err := t.discard(again); err != nil {
				closeBody(r)
				return nil, err
			}
		}
	case Lose, Overrule, WrongBody:
		if err := t.discard(r); err != nil {
			return nil, err
		}
		switch f.Kind {
		case Overrule:
			return madeUp(r, f.Status, f), nil
		case WrongBody:
			return madeUp(r, http.StatusOK, f), nil
		}
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	resp, err := t.base.RoundTrip(r)
	if err == nil && f.Kind == Cut {
		resp.Body = &cutBody{body: resp.Body, left: f.Bytes}
	}
	return resp, err
}

// discard carries out an exchange whose answer nobody gets to see. A stream is not read: it would not end.
func (t *Transport) discard(r *http.Request) error {
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		return err
	}
	if EndpointOf(r) != Watch {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	return resp.Body.Close()
}

// repeat returns a copy of r with a body of its own, if r's can be read again.
func repeat(r *http.Request) (*http.Request, bool) {
	again := r.Clone(r.Context())
	if r.Body == nil || r.Body == http.NoBody {
		return again, true
	}
	if r.GetBody == nil {
		return nil, false
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, false
	}
	again.Body = body
	return again, true
}

// closeBody does what every RoundTripper must, whether it sends a request or not.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// madeUp is an answer that no server gave.
func madeUp(r *http.Request, status int, f Fault) *http.Response {
	resp := &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(f.Body)), ContentLength: int64(len(f.Body)), Request: r,
	}
	if f.RetryAfter != "" {
		resp.Header.Set("Retry-After", f.RetryAfter)
	}
	return resp
}

// cutBody is a body that breaks off, at its end at the latest.
type cutBody struct {
	body io.ReadCloser
	left int
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.body.Read(p)
	c.left -= n
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *cutBody) Close() error { return c.body.Close() }
