package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

// The tables of the model test: a parent with children that go with it, a table that refers to itself, and one with a
// unique column beside its key.
const (
	modelUser   = "model"
	modelSchema = "shop"

	modelTables = `
CREATE TABLE owners (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, score REAL);
CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, owner_id TEXT NOT NULL REFERENCES owners(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  label TEXT NOT NULL, qty INTEGER, data BLOB);
CREATE TABLE nodes (id TEXT PRIMARY KEY NOT NULL, parent_id TEXT REFERENCES nodes(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, note TEXT NOT NULL);
CREATE TABLE slots (id TEXT PRIMARY KEY NOT NULL, code TEXT NOT NULL UNIQUE, note TEXT NOT NULL);
`
)

var (
	modelNames = []string{"owners", "items", "nodes", "slots"}
	// modelToken is the column that tells every write of a row from every other.
	modelToken = map[string]string{"owners": "name", "items": "label", "nodes": "note", "slots": "note"}
)

// place names a row.
type place struct{ table, key string }

func (p place) String() string { return p.table + " " + p.key }

// version names a row as it was on the server at some time.
type version struct {
	place
	number int64
}

// content is a row, column by column, in one spelling for all sides; nil for NULL.
type content map[string]*string

func (c content) String() string {
	if c == nil {
		return "no row"
	}
	var cells []string
	for name, v := range c {
		if v == nil {
			cells = append(cells, name+"=NULL")
		} else {
			cells = append(cells, fmt.Sprintf("%s=%q", name, *v))
		}
	}
	sort.Strings(cells)
	return strings.Join(cells, " ")
}

// cell spells a value: numbers as float64 prints them, bytes in hexadecimal.
func cell(table, column, value string) string {
	if table == "owners" && column == "score" || table == "items" && column == "qty" {
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return "no number: " + value
		}
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return value
}

// fromLocal reads a payload in local form.
func fromLocal(table string, payload []byte) (content, error) {
	var in map[string]*string
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, err
	}
	for name, v := range in {
		if v != nil {
			spelled := cell(table, name, *v)
			in[name] = &spelled
		}
	}
	return in, nil
}

// fromWire reads a payload of the server's.
func fromWire(table string, payload []byte) (content, error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var in map[string]any
	if err := d.Decode(&in); err != nil {
		return nil, err
	}
	out := content{}
	for name, v := range in {
		if v == nil {
			out[name] = nil
			continue
		}
		s := fmt.Sprint(v)
		if table == "items" && name == "data" {
			b, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return nil, err
			}
			s = hex.EncodeToString(b)
		}
		s = cell(table, name, s)
		out[name] = &s
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
	var tables []devserver.Table
	for _, name := range modelNames {
		tables = append(tables, devserver.Table{Schema: modelSchema, Name: name, Key: "id"})
	}
	s, err := devserver.New(devserver.Config{InMemory: true, Schema: modelTables, Tables: tables, Contract: modelContract(seed)})
	if err != nil {
		t.Fatal(err)
	}
	return &modelServer{t: t, server: s, r: rand.New(rand.NewPCG(seed, 1)), history: map[version]string{}, tokens: map[string]bool{}}
}

// rows returns what the server has.
func (s *modelServer) rows() (map[version]content, error) {
	out := map[version]content{}
	for _, table := range modelNames {
		versions, err := s.server.LiveVersions(context.Background(), modelUser, table)
		if err != nil {
			return nil, err
		}
		rows, err := s.server.Rows(context.Background(), modelUser, table)
		if err != nil {
			return nil, err
		}
		for _, raw := range rows {
			c, err := fromWire(table, raw)
			if err != nil {
				return nil, err
			}
			key := *c["id"]
			out[version{place{table, key}, versions[key]}] = c
		}
	}
	return out, nil
}

// observe adds what the server has now to its history.
func (s *modelServer) observe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observeLocked()
}

func (s *modelServer) observeLocked() {
	rows, err := s.rows()
	if err != nil {
		s.t.Error(err)
		return
	}
	for v, c := range rows {
		if old, known := s.history[v]; known && old != c.String() {
			s.t.Errorf("the server changed %s without a new version: %s, then %s", v.place, old, c)
		}
		s.history[v] = c.String()
		if token := c[modelToken[v.table]]; token != nil {
			s.tokens[*token] = true
		}
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
		w := writer{tx: tx, r: s.r, who: "web", n: s.writes * 1000}
		for range 1 + s.r.IntN(3) {
			if s.r.IntN(3) == 0 {
				if err := w.swap(); err != nil {
					return err
				}
				continue
			}
			if err := w.shared(); err != nil {
				return err
			}
		}
		return nil
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
