package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/workload"
	"github.com/oversqlite/oversqlite/sqlite"
	"github.com/oversqlite/oversqlite/wire"
)

const modelUser = "model"

type (
	place = workload.Place
	row   = workload.Row
)

// version names a row as it was on the server at some time.
type version struct {
	place
	number int64
}

// serverTables are the tables as a server knows them.
func serverTables() (tables []devserver.Table) {
	for _, t := range workload.Tables {
		tables = append(tables, devserver.Table{Schema: workload.Schema, Name: t.Name, Key: "id"})
	}
	return tables
}

// engineTables are the tables as an engine is given them.
func engineTables() (tables []oversqlite.Table) {
	for _, t := range workload.Tables {
		tables = append(tables, oversqlite.Table{Name: t.Name, Key: "id"})
	}
	return tables
}

// verifyModel is the engine's own check of its invariant.
func verifyModel(ctx context.Context, path string) error {
	cfg := sqlite.Config{Path: path, Schema: workload.Schema}
	for _, t := range workload.Tables {
		cfg.Tables = append(cfg.Tables, sqlite.TableConfig{Name: t.Name, Key: "id"})
	}
	return sqlite.VerifyFile(ctx, cfg)
}

// readRow takes a payload apart: in wire form, or else in local form.
func readRow(table string, payload []byte, wire bool) (place, row, error) {
	t := workload.Named(table)
	if t == nil {
		return place{}, row{}, fmt.Errorf("there is no table %q", table)
	}
	return t.Read(payload, wire)
}

// localRow reads a payload in local form that may be none.
func localRow(table string, payload *string) (r row, err error) {
	if payload != nil {
		_, r, err = readRow(table, []byte(*payload), false)
	}
	return r, err
}

// liveRows is what a server has of the model's user.
func liveRows(server *devserver.Server) (map[version]row, error) {
	out := map[version]row{}
	for i := range workload.Tables {
		t := &workload.Tables[i]
		live, err := server.LiveVersions(context.Background(), modelUser, t.Name)
		if err != nil {
			return nil, err
		}
		versions := make(map[string]int64, len(live))
		for key, v := range live {
			versions[t.Key(key)] = v
		}
		payloads, err := server.Rows(context.Background(), modelUser, t.Name)
		if err != nil {
			return nil, err
		}
		for _, payload := range payloads {
			p, r, err := t.Read(payload, true)
			if err != nil {
				return nil, err
			}
			out[version{p, versions[p.Key]}] = r
		}
	}
	return out, nil
}

// modelServer is the server of a model run, with everything that it ever was.
type modelServer struct {
	t      *testing.T
	server *devserver.Server
	log    func(format string, args ...any)

	mu      sync.Mutex
	r       *rand.Rand // of the writers on the server
	history map[version]string
	tokens  map[string]bool // ever seen in a row
	writes  int
}

// modelContract is the dialect of a history: every other one is in the uniform contract.
func modelContract(seed uint64) wire.ContractName {
	if seed%2 == 1 {
		return wire.UniformContract
	}
	return wire.ClassicContract
}

func newModelServer(t *testing.T, seed uint64) *modelServer {
	s, err := devserver.New(devserver.Config{InMemory: true, Schema: workload.ServerSchema, Tables: serverTables(), Contract: modelContract(seed)})
	if err != nil {
		t.Fatal(err)
	}
	return &modelServer{t: t, server: s, r: rand.New(rand.NewPCG(seed, 1)), history: map[version]string{}, tokens: map[string]bool{}}
}

// observe adds what the server has now to its history.
func (s *modelServer) observe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observeLocked()
}

func (s *modelServer) observeLocked() {
	rows, err := liveRows(s.server)
	if err != nil {
		s.t.Error(err)
		return
	}
	for v, r := range rows {
		if old, known := s.history[v]; known && old != r.Text {
			s.t.Errorf("the server changed %s without a new version: %s, then %s", v.place, old, r)
		}
		s.history[v] = r.Text
		s.tokens[r.Token] = true
	}
}

// RoundTrip carries out a request within the process.
func (s *modelServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	if r.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = r.URL.RequestURI()
	w := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(w, in)
	if r.Body != nil {
		_ = r.Body.Close()
	}
	if strings.HasSuffix(r.URL.Path, "/commit") {
		s.observe()
	}
	resp := w.Result()
	resp.Request = r
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if w.Code >= 400 && s.log != nil {
		s.log("  %s %s: %d %s", r.Method, r.URL.Path, w.Code, body)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}

// write lets another program write on the server: to the shared rows, and to rows that no device touches.
func (s *modelServer) write() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	err := s.server.ExecWrite(context.Background(), modelUser, "web", func(tx *sql.Tx) error {
		w := workload.Writer{Tx: tx, R: s.r, Who: "web", N: s.writes * 1000, Vacates: true}
		return w.ByServer()
	})
	if err != nil && err != devserver.ErrScopeInitializing {
		s.t.Errorf("a write on the server: %v", err)
	}
	s.observeLocked()
}

// forget makes the server one that has never seen the user.
func (s *modelServer) forget() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.history)
	return s.server.Forget(modelUser)
}
