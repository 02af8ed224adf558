package contracts

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// basePath is that of the scripted server's URL, to show that a path in it is kept.
const basePath = "/api/v1"

// request is a request as the server got it.
type request struct {
	*http.Request
	Path   string // below the base path
	Source string
	Body   []byte
}

// answer is what the server says to a request. The body is JSON, of anything.
type answer struct {
	status      int
	body        any
	contentType string
	stream      io.ReadCloser // in place of the body: what arrives while it is read
}

// text is the body as it travels.
func (a *answer) text() string {
	switch body := a.body.(type) {
	case nil:
		return ""
	case string:
		return body
	case json.RawMessage:
		return string(body)
	default:
		return string(mustJSON(body))
	}
}

func ok(body any) *answer { return &answer{status: http.StatusOK, body: body} }

// refused is an error in the shape that all of the protocol's have.
func refused(status int, code string) *answer {
	return &answer{status: status, body: object{"error": code, "message": "scripted"}}
}

// server plays a script to one or more engines. It is an http.RoundTripper: nothing listens anywhere. Requests are served
// one at a time, so that a script may look at and change whatever it likes.
type server struct {
	t       testing.TB
	dialect *dialect
	mux     *http.ServeMux

	serving  sync.Mutex
	requests []request
}

func newServer(t testing.TB, d *dialect) *server {
	return &server{t: t, dialect: d, mux: http.NewServeMux()}
}

// on routes requests: "GET /sync/pull". What is not routed is answered 404, or 405 where only the method is wrong.
func (s *server) on(pattern string, handle func(request) *answer) {
	method, at, _ := strings.Cut(pattern, " ")
	s.mux.HandleFunc(method+" "+basePath+at, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.t.Error(err)
		}
		req := request{Request: r, Path: strings.TrimPrefix(r.URL.EscapedPath(), basePath), Source: r.Header.Get("Oversync-Source-ID"), Body: body}
		s.requests = append(s.requests, req)
		if req.Source == "" {
			s.t.Errorf("%s %s without a source id", r.Method, req.Path)
		}
		a := handle(req)
		if a.contentType == "" {
			a.contentType = "application/json"
		}
		w.Header().Set("Content-Type", a.contentType)
		w.WriteHeader(a.status)
		if a.stream != nil {
			w.(*playback).stream = a.stream
			return
		}
		if text := a.text(); text != "" {
			if _, err = io.WriteString(w, text); err != nil {
				s.t.Error(err)
			}
		}
	})
}

// playback takes an answer, or the head of one whose body is read as it comes.
type playback struct {
	*httptest.ResponseRecorder
	stream io.ReadCloser
}

// RoundTrip implements http.RoundTripper.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	s.serving.Lock()
	defer s.serving.Unlock()
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer in.Body.Close()
	w := &playback{ResponseRecorder: httptest.NewRecorder()}
	s.mux.ServeHTTP(w, in)
	resp := w.Result()
	if w.stream != nil {
		resp.Body, resp.ContentLength = w.stream, -1
	}
	resp.Request = r
	return resp, nil
}

// seen returns "METHOD /path" of every request so far.
func (s *server) seen() []string {
	s.serving.Lock()
	defer s.serving.Unlock()
	var out []string
	for _, r := range s.requests {
		out = append(out, r.Method+" "+r.Path)
	}
	return out
}

// count counts the requests of a method to a path.
func (s *server) count(route string) int {
	n := 0
	for _, r := range s.seen() {
		if r == route {
			n++
		}
	}
	return n
}

// parse decodes the body of a request.
func (s *server) parse(r request, into any) {
	d := json.NewDecoder(bytes.NewReader(r.Body))
	if err := d.Decode(into); err != nil {
		s.t.Errorf("%s %s: %v in %q", r.Method, r.Path, err, r.Body)
	}
}

// scripted is an answer that a fixture gives.
type scripted struct {
	Status int
	Body   json.RawMessage
}

func (a scripted) answer() *answer {
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	return &answer{status: a.Status, body: a.Body}
}

// capable routes capabilities; each request is asked about anew.
func (s *server) capable(body func(n int) any) {
	n := 0
	s.on("GET /sync/capabilities", func(request) *answer {
		n++
		return ok(body(n))
	})
}

// connects routes connect: default is what the protocol says of a scope that nobody has seen yet.
func (s *server) connects(resolution func(pending bool) object) {
	s.on("POST /sync/connect", func(r request) *answer {
		var in struct {
			Pending bool `json:"has_local_pending_rows"`
		}
		s.parse(r, &in)
		return ok(resolution(in.Pending))
	})
}

const leaseID = "22222222-2222-4222-8222-222222222222"

func defaultResolution(pending bool) object {
	if pending {
		return object{"resolution": "initialize_local", "initialization_id": leaseID, "lease_expires_at": "2099-01-01T00:00:00Z"}
	}
	return object{"resolution": "initialize_empty"}
}
