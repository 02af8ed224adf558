package devserver

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is something that goes wrong with requests. The fields of the first part say with which, the others what.
// Several effects can be combined; a delay comes first.
type Fault struct {
	Endpoint    Endpoint // "": all
	Method      string   // "": all
	UserID      string   // "": all
	Skip        int      // matching requests that are let through first
	Times       int      // requests that are faulted; 0: all, until it is removed
	Probability float64  // chance that a matching request is faulted; 0: always. Drawn from Config.Seed

	// Delay holds the request back. It ends with the request or the server.
	Delay time.Duration
	// Status is answered in place of the server, with Code and Body, without processing the request.
	Status int
	// AfterProcessing makes Status the answer to a request that was processed: a gateway's timeout.
	AfterProcessing bool
	// Code is the "error" of the answer's body. Defaults to "injected_fault".
	Code string
	// Body replaces the JSON body of the answer, whatever it is.
	Body []byte
	// RetryAfter is sent as the Retry-After header, in seconds rounded up, or as a date if RetryAfterDate is set.
	RetryAfter     time.Duration
	RetryAfterDate bool

	// CutBefore cuts the connection without processing the request. Go's HTTP client sends a GET or DELETE again by
	// itself when a kept connection is cut before any byte of the answer: with Times 1 it may never show.
	CutBefore bool
	// CutAfter processes the request and cuts the connection without an answer.
	CutAfter bool
	// TruncateBody sends only so many bytes of the answer's body and then cuts the connection. 0: all.
	TruncateBody int
	// Corrupt changes the body of the answer.
	Corrupt func(body []byte) []byte
}

// Injected is a fault at work.
type Injected struct {
	fault Fault
	hits  atomic.Int64
	seen  int // guarded by faults.mu
	owner *faults
}

// Hits returns how many requests the fault has hit.
func (i *Injected) Hits() int64 { return i.hits.Load() }

// Remove takes the fault away. Requests that it has hit already go on.
func (i *Injected) Remove() {
	i.owner.mu.Lock()
	defer i.owner.mu.Unlock()
	i.owner.active = slices.DeleteFunc(i.owner.active, func(o *Injected) bool { return o == i })
}

// faults are the faults at work, oldest first.
type faults struct {
	mu     sync.Mutex
	active []*Injected
	rand   *rand.Rand
}

func (f *faults) init(seed uint64) { f.rand = rand.New(rand.NewPCG(seed, seed)) }

// Inject puts a fault to work. Of several that match a request the oldest wins.
func (s *Server) Inject(f Fault) *Injected {
	i := &Injected{fault: f, owner: &s.faults}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.active = append(s.faults.active, i)
	return i
}

// pick returns the fault that hits a request, nil for none.
func (f *faults) pick(e endpoint, user string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.active {
		want := &i.fault
		switch {
		case want.Endpoint != "" && want.Endpoint != e.name,
			want.Method != "" && want.Method != e.method,
			want.UserID != "" && want.UserID != user,
			want.Times > 0 && i.hits.Load() >= int64(want.Times):
			continue
		}
		if i.seen++; i.seen <= want.Skip {
			continue
		}
		if want.Probability > 0 && f.rand.Float64() >= want.Probability {
			continue
		}
		i.hits.Add(1)
		return want
	}
	return nil
}

// applyFault lets a fault at the request. It returns the writer that the handler shall use and what must be called
// after it, or done: the request is over. Connections are cut by panicking with http.ErrAbortHandler.
func (s *Server) applyFault(e endpoint, c *call) (http.ResponseWriter, func(), bool) {
	w, after := c.w, func() {}
	f := s.faults.pick(e, c.user)
	if f == nil {
		return w, after, false
	}
	if f.Delay > 0 && !s.pause(c, f.Delay) {
		panic(http.ErrAbortHandler)
	}
	switch {
	case f.CutBefore:
		panic(http.ErrAbortHandler)
	case f.CutAfter:
		return &recorder{header: http.Header{}}, func() { panic(http.ErrAbortHandler) }, false
	case f.Status != 0 && !f.AfterProcessing:
		f.answer(w, s.cfg.Now())
		return w, after, true
	case f.Status != 0:
		return &recorder{header: http.Header{}}, func() { f.answer(w, s.cfg.Now()) }, false
	case f.TruncateBody > 0:
		return &truncated{ResponseWriter: w, left: f.TruncateBody}, after, false
	case f.Corrupt != nil:
		r := &recorder{header: http.Header{}, keep: true}
		return r, func() { r.replay(w, f.Corrupt) }, false
	}
	return w, after, false
}

// pause waits; it reports false when the request or the server ended first.
func (s *Server) pause(c *call, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.r.Context().Done():
	case <-s.closing:
	}
	return false
}

// answer writes the fault's own answer.
func (f *Fault) answer(w http.ResponseWriter, now time.Time) {
	if f.RetryAfter > 0 {
		value := strconv.FormatInt(seconds(f.RetryAfter), 10)
		if f.RetryAfterDate {
			value = now.Add(f.RetryAfter + time.Second - 1).UTC().Format(http.TimeFormat)
		}
		w.Header().Set("Retry-After", value)
	}
	if f.Body != nil {
		w.WriteHeader(f.Status)
		_, _ = w.Write(f.Body)
		return
	}
	code := f.Code
	orDefault(&code, "injected_fault")
	writeError(w, refuse(f.Status, code, "injected fault"))
}

// recorder takes an answer in place of the client.
type recorder struct {
	header http.Header
	status int
	keep   bool
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }
func (r *recorder) Flush()                 {}
func (r *recorder) Write(p []byte) (int, error) {
	if r.keep {
		return r.body.Write(p)
	}
	return len(p), nil
}

// replay sends what was recorded, its body changed.
func (r *recorder) replay(w http.ResponseWriter, change func([]byte) []byte) {
	for k, v := range r.header {
		w.Header()[k] = v
	}
	if r.status != 0 {
		w.WriteHeader(r.status)
	}
	_, _ = w.Write(change(r.body.Bytes()))
}

// truncated cuts the connection after some bytes.
type truncated struct {
	http.ResponseWriter
	left int
}

func (t *truncated) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *truncated) Write(p []byte) (int, error) {
	if len(p) < t.left {
		t.left -= len(p)
		return t.ResponseWriter.Write(p)
	}
	_, _ = t.ResponseWriter.Write(p[:t.left])
	_ = http.NewResponseController(t.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
