package sim

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/workload"
)

// version names a row as it was on the server at some time.
type version struct {
	place
	number int64
}

// standing is a row on the server at a bundle.
type standing struct {
	row
	version int64
}

// account is a user on the server, with everything he ever was.
type account struct {
	name  string
	token string // with which his devices authenticate

	*era
	eras   int                          // that are over
	last   int64                        // bundle seq
	given  map[string]map[place][]int64 // by token: the versions that had it, in any era
	writes int                          // of other programs on the server

	forgotten bool // what one device deletes, another one may bring back: the server knows nothing of it
	backup    []byte
	backedUp  int64 // the last bundle in it
}

// server is the development server's core, and what it was.
type server struct {
	w        *world
	dev      *devserver.Server
	accounts []*account
	r        *rand.Rand
	down     bool
	streams  []*stream
}

func newServer(w *world) (*server, error) {
	s := &server{w: w, r: rand.New(rand.NewPCG(w.seed, 2))} //nolint:gosec // chance is to be the same each time
	cfg := devserver.Config{
		InMemory: true, Schema: workload.ServerSchema, Contract: w.plan.contract, LeaseTTL: leaseTTL, PushSessionTTL: sessionTTL, SnapshotSessionTTL: sessionTTL,
		Now: func() time.Time { return w.loop.now }, NewID: w.newID, TokenTTL: 10000 * time.Hour, IdleTimeout: 10000 * time.Hour,
		Secret: []byte("simulated"), DisableWatch: !w.plan.streams, HeartbeatInterval: 10000 * time.Hour,
	}
	for i := range tables {
		cfg.Tables = append(cfg.Tables, devserver.Table{Schema: workload.Schema, Name: tables[i].Name, Key: "id"})
	}
	var err error
	if s.dev, err = devserver.New(cfg); err != nil {
		return nil, err
	}
	for i := range w.plan.users {
		a := &account{name: fmt.Sprintf("u%d", i), era: newEra(), given: map[string]map[place][]int64{}}
		if a.token, err = s.dev.IssueToken(a.name); err != nil {
			return nil, err
		}
		s.accounts = append(s.accounts, a)
	}
	return s, nil
}

// observe adds to the history what has been committed since it was last looked at.
func (s *server) observe(a *account) {
	scope, err := s.dev.Scope(context.Background(), a.name)
	if err != nil {
		fail("sim", "the server: %v", err)
	}
	if scope.LastBundleSeq == a.last {
		return
	}
	if scope.LastBundleSeq != a.last+1 {
		fail("sim", "the server went from bundle %d to %d unseen", a.last, scope.LastBundleSeq)
	}
	a.last = scope.LastBundleSeq
	now := map[place]standing{}
	for i := range tables {
		t := &tables[i]
		versions, err := s.dev.LiveVersions(context.Background(), a.name, t.Name)
		if err != nil {
			fail("sim", "the server: %v", err)
		}
		rows, err := s.dev.Rows(context.Background(), a.name, t.Name)
		if err != nil {
			fail("sim", "the server: %v", err)
		}
		byKey := make(map[string]int64, len(versions))
		for key, v := range versions {
			byKey[t.Key(key)] = v
		}
		for _, payload := range rows {
			p, r, err := t.Read(payload, true)
			if err != nil {
				fail("sim", "the server: %v", err)
			}
			v := byKey[p.Key]
			now[p] = standing{r, v}
			at := version{p, v}
			if old, known := a.history[at]; known && old.Text != r.Text {
				fail("sim", "the server changed %s without a new version: %s, then %s", p, old.Text, r.Text)
			} else if !known {
				a.history[at] = r
				if a.given[r.Token] == nil {
					a.given[r.Token] = map[place][]int64{}
				}
				a.given[r.Token][p] = append(a.given[r.Token][p], v)
			}
		}
	}
	s.twice(a, now)
	if err := workload.Dangling(now); err != nil {
		fail("sim", "the server: %v", err)
	}
	a.at[a.last] = now
	s.w.trace.note("server: %s is at bundle %d, %d rows", a.name, a.last, len(now))
	s.tell(a)
	s.overtake(a)
}

// twice looks for a row that was written again with nothing in it changed: no application does that, so somebody has pushed
// the same change twice (S4). What is done to a source, or to history, can make a device do so, and so can a refusal.
func (s *server) twice(a *account, now map[place]standing) {
	for _, d := range s.w.devices {
		if d.user == a && (d.excused != "" || s.w.plan.wild || s.w.plan.has(Status)) {
			return
		}
	}
	before := a.at[a.last-1]
	for _, p := range places(now) {
		if old, was := before[p]; was && old.version < now[p].version && old.Text == now[p].Text && !strings.HasPrefix(p.Key, "v-") {
			s.w.report("S4", "%s was written twice, at %d and at %d: %s", p, old.version, now[p].version, old.Text)
		}
	}
}

// had reports whether the server ever had a row with this token.
func (a *account) had(token string) bool { return len(a.given[token]) > 0 }

// write lets another program write on the server.
func (s *server) write(a *account) {
	a.writes++
	err := s.dev.ExecWrite(context.Background(), a.name, "web", func(tx *sql.Tx) error {
		w := writer{Tx: tx, R: s.r, Who: a.name + "-web", N: a.writes * 1000, Wild: s.w.plan.wild}
		return w.ByServer()
	})
	s.w.trace.note("server: a program writes for %s: %v", a.name, err)
	if err != nil && err != devserver.ErrScopeInitializing && !constraint(err) { //nolint:errorlint // it comes as it is
		fail("sim", "a write on the server: %v", err)
	}
	s.observe(a)
}

// message is a request on its way: whoever sent it may be gone when it arrives, and it may arrive twice.
type message struct {
	method string
	url    *url.URL
	header http.Header
	body   []byte
	user   *account
}

// reply is what the server answers.
type reply struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (r *reply) Header() http.Header         { return r.header }
func (r *reply) WriteHeader(status int)      { r.status = status }
func (r *reply) Write(p []byte) (int, error) { return r.body.Write(p) }

// serve lets the server take a request.
func (s *server) serve(m *message) *reply {
	r := (&http.Request{
		Method: m.method, URL: m.url, Header: m.header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: m.url.Host,
		RequestURI: m.url.RequestURI(), ContentLength: int64(len(m.body)), Body: io.NopCloser(bytes.NewReader(m.body)),
	}).WithContext(context.Background())
	a := &reply{status: http.StatusOK, header: http.Header{}}
	s.dev.Handler().ServeHTTP(a, r)
	s.observe(m.user)
	return a
}

// prune lets the server forget some of its history.
func (s *server) prune(a *account) {
	scope, err := s.dev.Scope(context.Background(), a.name)
	if err != nil {
		fail("sim", "the server: %v", err)
	}
	if scope.LastBundleSeq == scope.RetainedFloor {
		return
	}
	floor := scope.RetainedFloor + 1 + s.r.Int64N(scope.LastBundleSeq-scope.RetainedFloor)
	for _, d := range s.w.devices {
		if d.user == a && d.preparedNow() {
			d.excuse("history that would tell what became of its push is gone")
		}
	}
	s.w.trace.note("server: %s: the floor is %d", a.name, floor)
	if err := s.dev.SetRetentionFloor(a.name, floor); err != nil {
		fail("sim", "the server: %v", err)
	}
}

// restart ends all sessions.
func (s *server) restart() {
	s.w.trace.note("server: restarts")
	for _, a := range s.accounts {
		if err := s.dev.LoseSessions(a.name); err != nil {
			fail("sim", "the server: %v", err)
		}
		s.hangUp(a)
	}
}
