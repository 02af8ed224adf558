package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/workload"
	"github.com/oversqlite/oversqlite/wire"
)

const (
	// otherSecret is in a row of another user of the same server. It must never be in a file of ours.
	otherUser   = "somebody-else"
	otherSecret = "the-secret-of-somebody-else"
)

// crashServerSchema makes the server do what real ones do: change a row that it is given, and refuse one.
var crashServerSchema = workload.ServerSchema + `
CREATE TRIGGER stamped AFTER INSERT ON nodes WHEN NEW.id LIKE 't-%' AND NEW.name NOT LIKE '%!'
BEGIN UPDATE nodes SET name = NEW.name || '!' WHERE id = NEW.id; END;
CREATE TRIGGER stamped_again AFTER UPDATE OF name ON nodes WHEN NEW.id LIKE 't-%' AND NEW.name NOT LIKE '%!'
BEGIN UPDATE nodes SET name = NEW.name || '!' WHERE id = NEW.id; END;
CREATE TRIGGER refused BEFORE INSERT ON slots WHEN NEW.code LIKE 'bad%' BEGIN SELECT RAISE(ABORT, 'refused'); END;
`

// standing is a row of the server's as it was at some time.
type standing struct {
	number int64
	row
}

// pushed names a bundle by who wrote it.
type pushed struct {
	Source string `json:"source_id"`
	Bundle number `json:"source_bundle_id"`
	Seq    number `json:"bundle_seq"`
}

// number is a number in either dialect's spelling.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	*n = number(v)
	return err
}

// crashServer is the server of one crash. It survives, and remembers everything that it ever was.
type crashServer struct {
	contract wire.ContractName
	server   *devserver.Server
	web      *httptest.Server
	busy     sync.WaitGroup // requests

	mu     sync.Mutex
	ahead  time.Duration                  // of its clock
	epochs []map[int64]map[place]standing // by bundle seq; a server that forgets a user begins anew
	pushes map[pushed]bool
	told   map[version]bool // rows that a conflict told a device of
	images map[version]bool // every row that was ever committed, by version
}

func newCrashServer(contract wire.ContractName) (*crashServer, error) {
	s := &crashServer{
		contract: contract, epochs: []map[int64]map[place]standing{{0: {}}}, pushes: map[pushed]bool{}, told: map[version]bool{}, images: map[version]bool{},
	}
	if err := s.start(contract); err != nil {
		return nil, err
	}
	s.web = httptest.NewServer(s)
	return s, nil
}

// start sets up a server that has seen nobody but another user.
func (s *crashServer) start(contract wire.ContractName) error {
	server, err := devserver.New(devserver.Config{
		InMemory: true, Contract: contract, Schema: crashServerSchema, Tables: serverTables(), LeaseTTL: time.Second, Secret: []byte(strings.Repeat("crash", 8)), Now: func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return time.Now().Add(s.ahead)
		},
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
	return server.ExecWrite(context.Background(), otherUser, "web", func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO owners (id, name) VALUES ('other', ?)`, otherSecret)
		return err
	})
}

// upgrade puts a server of the other dialect in the place of this one.
func (s *crashServer) upgrade() error {
	if err := s.server.Close(); err != nil {
		return err
	}
	other := wire.UniformContract
	if s.contract == other {
		other = wire.ClassicContract
	}
	return s.start(other)
}

func (s *crashServer) handler() http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server.Handler()
}

func (s *crashServer) close() error {
	s.web.CloseClientConnections()
	err := s.server.Close()
	s.web.Close()
	return err
}

// ServeHTTP takes note of what a commit leads to before its answer leaves.
func (s *crashServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.busy.Add(1)
	defer s.busy.Done()
	if !strings.HasSuffix(r.URL.Path, "/commit") {
		s.handler().ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	s.handler().ServeHTTP(rec, r)
	switch rec.Code {
	case http.StatusConflict:
		var refused struct {
			Conflict struct {
				Table   string            `json:"table"`
				Key     map[string]string `json:"key"`
				Version number            `json:"server_row_version"`
			} `json:"conflict"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &refused); err == nil && refused.Conflict.Version > 0 {
			s.mu.Lock()
			s.told[version{workload.At(refused.Conflict.Table, refused.Conflict.Key["id"]), int64(refused.Conflict.Version)}] = true
			s.mu.Unlock()
		}
	case http.StatusOK:
		var p pushed
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err == nil && p.Seq > 0 {
			s.mu.Lock()
			s.pushes[p] = true
			s.mu.Unlock()
		}
		if err := s.observe(); err != nil {
			panic(err)
		}
	}
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// rows returns what the server has.
func (s *crashServer) rows() (map[place]standing, error) {
	out := map[place]standing{}
	live, err := liveRows(s.server)
	for v, r := range live {
		out[v.place] = standing{v.number, r}
	}
	return out, err
}

// observe adds what the server has now to its history.
func (s *crashServer) observe() error {
	rows, err := s.rows()
	if err != nil {
		return err
	}
	scope, err := s.server.Scope(context.Background(), modelUser)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epochs[len(s.epochs)-1][scope.LastBundleSeq] = rows
	for p, at := range rows {
		s.images[version{p, at.number}] = true
	}
	return nil
}

// write lets another device of the user's write, as one bundle.
func (s *crashServer) write(edits ...edit) error {
	err := s.server.ExecWrite(context.Background(), modelUser, "web", func(tx *sql.Tx) error {
		for _, e := range edits {
			if err := e.apply(tx); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, s.observe())
}

// prune makes the server forget every bundle that it has, but not the rows.
func (s *crashServer) prune() error {
	scope, err := s.server.Scope(context.Background(), modelUser)
	if err != nil {
		return err
	}
	return s.server.SetRetentionFloor(modelUser, scope.LastBundleSeq)
}

// forget makes the server one that has never seen the user.
func (s *crashServer) forget() error {
	s.mu.Lock()
	s.epochs = append(s.epochs, map[int64]map[place]standing{0: {}})
	s.mu.Unlock()
	return s.server.Forget(modelUser)
}

// wait puts the server's clock forward.
func (s *crashServer) wait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

// once checks that no push was committed twice (S4): a tuple is one bundle, and a bundle one tuple.
func (s *crashServer) once() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.epochs) > 1 {
		return nil // a server that has forgotten a source cannot know its bundles
	}
	seqs, tuples := map[pushed]number{}, map[number]pushed{}
	for p := range s.pushes {
		tuple := pushed{Source: p.Source, Bundle: p.Bundle}
		if seq, known := seqs[tuple]; known && seq != p.Seq {
			return fmt.Errorf("push %d of %s is bundle %d and bundle %d", p.Bundle, p.Source, seq, p.Seq)
		}
		if other, known := tuples[p.Seq]; known && other != tuple {
			return fmt.Errorf("bundle %d is two pushes", p.Seq)
		}
		seqs[tuple], tuples[p.Seq] = p.Seq, tuple
	}
	return nil
}

// edit is a write of one row, with a token that tells it from every other.
type edit struct{ table, id, parent, token string }

func put(table, id, token string) edit           { return edit{table, id, "", token} }
func child(table, id, parent, token string) edit { return edit{table, id, parent, token} }
func remove(table, id string) edit               { return edit{table: table, id: id} }

// lots are n rows in a table, one edit each.
func lots(n int, table, prefix, token string) []edit {
	var out []edit
	for i := range n {
		out = append(out, put(table, fmt.Sprint(prefix, i), fmt.Sprint(token, i)))
	}
	return out
}

// apply executes the edit. An empty token deletes the row; "unfit" makes it one that no dialect can carry.
func (e edit) apply(tx *sql.Tx) error {
	var err error
	switch {
	case e.token == "":
		_, err = tx.Exec(`DELETE FROM `+e.table+` WHERE id = ?`, e.id)
	case e.table == "owners":
		_, err = tx.Exec(`INSERT INTO owners (id, name, score) VALUES (?1, ?2, iif(?2 = 'unfit', 9e999, 0.5)) ON CONFLICT (id) DO UPDATE SET name = ?2`, e.id, e.token)
	case e.table == "items":
		_, err = tx.Exec(`INSERT INTO items (id, owner_id, name, qty, data) VALUES (?1, ?2, ?3, 7, ?4) ON CONFLICT (id) DO UPDATE SET name = ?3, data = ?4`,
			e.id, e.parent, e.token, bytes.Repeat([]byte(e.token), 20))
	case e.table == "nodes":
		_, err = tx.Exec(`INSERT INTO nodes (id, parent_id, name) VALUES (?1, nullif(?2, ''), ?3) ON CONFLICT (id) DO UPDATE SET name = ?3`, e.id, e.parent, e.token)
	case e.table == "slots":
		_, err = tx.Exec(`INSERT INTO slots (id, code, name) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET name = ?3, code = ?2`, e.id, e.parent+e.id, e.token)
	}
	return err
}
