package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/workload"
	"github.com/oversqlite/oversqlite/wire"
)

// phone is a device whose file can be copied, and whose requests can be looked at and lost.
type phone struct {
	*oversqlite.Engine
	path string
	auto bool

	mu           sync.Mutex                                 // requests that tidy up may outlive the call for which they are
	replacements []string                                   // new_source_id of the snapshots it asked for
	lose         func(r *http.Request) bool                 // the answer of such a request is lost
	answer       func(r *http.Request, resp *http.Response) // may change it
}

// losing loses the answers of such requests from now on.
func (p *phone) losing(lose func(r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = lose
}

// answering has all answers pass through a function from now on.
func (p *phone) answering(answer func(r *http.Request, resp *http.Response)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// replaced is what it asked to have its source replaced by, so far.
func (p *phone) replaced() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.replacements)
}

func (p *phone) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/snapshot-sessions") && r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var in struct {
			SourceReplacement *struct {
				New string `json:"new_source_id"`
			} `json:"source_replacement"`
		}
		if err := json.Unmarshal(body, &in); err == nil && in.SourceReplacement != nil {
			p.mu.Lock()
			p.replacements = append(p.replacements, in.SourceReplacement.New)
			p.mu.Unlock()
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	p.mu.Lock()
	lose, answer := p.lose, p.answer
	p.mu.Unlock()
	if err == nil && lose != nil && lose(r) {
		_ = resp.Body.Close()
		return nil, errors.New("the answer was lost")
	}
	if err == nil && answer != nil {
		answer(r, resp)
	}
	return resp, err
}

// openPhone opens the database at path as a device of the user, attached.
func openPhone(t *testing.T, w *world, user, path string, auto bool) *phone {
	t.Helper()
	if err := createSchema(path); err != nil {
		t.Fatal(err)
	}
	p := &phone{path: path, auto: auto}
	cfg := engineConfig(path, w.url, w.token(t, user), p)
	cfg.AutoRecover = auto
	cfg.Retry.MaxElapsed = 1 // a lost answer ends the call
	var err error
	if p.Engine, err = oversqlite.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	attach(t.Context(), t, p.Engine, user)
	return p
}

// copyOf opens a copy of a phone's file, as it is now, as another phone.
func copyOf(t *testing.T, w *world, user string, p *phone) *phone {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := p.DB().ExecContext(t.Context(), `VACUUM INTO ?`, path); err != nil {
		t.Fatal(err)
	}
	return openPhone(t, w, user, path, p.auto)
}

// sync syncs, and calls Rebuild when that is what it takes; it returns how often it was.
func (p *phone) sync(t *testing.T) (rebuilds int) {
	t.Helper()
	for {
		_, err := p.Engine.Sync(t.Context())
		var required *oversqlite.SourceRecoveryRequiredError
		var taken *oversqlite.SourceSequenceMismatchError
		switch {
		case err == nil:
			return rebuilds
		case p.auto || rebuilds > 0:
			t.Fatalf("after %d rebuilds: %v", rebuilds, err)
		case errors.As(err, &taken): // the hash of the request told, and nothing is decided yet
			rebuilds++
			if _, err := p.Engine.Rebuild(t.Context()); err != nil {
				t.Fatal(err)
			}
			continue
		case !errors.As(err, &required):
			t.Fatalf("after %d rebuilds: %v", rebuilds, err)
		}
		info, err := p.SourceInfo(t.Context())
		if err != nil || !info.SourceRecoveryRequired || string(info.SourceRecoveryReason) != required.Reason || p.Status().SourceRecovery != info.SourceRecoveryReason {
			t.Fatalf("%+v, %v, the error says %s, the status %s", info, err, required.Reason, p.Status().SourceRecovery)
		}
		rebuilds++
		if _, err := p.Engine.Rebuild(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *phone) source(t *testing.T) string {
	t.Helper()
	info, err := p.SourceInfo(t.Context())
	if err != nil || info.SourceRecoveryRequired || info.RebuildRequired {
		t.Fatalf("%+v, %v", info, err)
	}
	return info.CurrentSourceID
}

func categoryID(n int) string { return fmt.Sprintf("c0000000-0000-4000-8000-%012d", n) }

// addCategory lets the application write a row that nobody else writes.
func addCategory(t *testing.T, e *oversqlite.Engine, n int, name string) {
	t.Helper()
	appWrite(t, e, `INSERT INTO categories (id, name) VALUES (?, ?)`, categoryID(n), name)
}

// categories are the names that the server has, by number.
func categories(t *testing.T, w *world, user string) []string {
	t.Helper()
	rows, err := w.server.Rows(t.Context(), user, "categories")
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(rows))
	for i, raw := range rows {
		var c struct{ Name string }
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatal(err)
		}
		names[i] = c.Name
	}
	return names
}

func eachWayInBothContracts(t *testing.T, f func(t *testing.T, auto bool, contract wire.ContractName)) {
	inBothContracts(t, func(t *testing.T, contract wire.ContractName) {
		t.Parallel()
		eachWay(t, func(t *testing.T, auto bool) { f(t, auto, contract) })
	})
}

func eachWay(t *testing.T, test func(t *testing.T, auto bool)) {
	for name, auto := range map[string]bool{"Rebuild": false, "AutoRecover": true} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, auto) })
	}
}

// Somebody copies the file of a device and uses both. Whatever the copy was made in the middle of, both go their own ways
// from the first push that shows it, everything written on either is on the server, and that is the end of it.
func TestTwoCopiesOfOneDatabase(t *testing.T) {
	t.Parallel()
	const user = "copied"
	for _, c := range []struct {
		name   string
		before func(t *testing.T, p *phone) // what the file was copied in the middle of
	}{
		{"at rest", func(*testing.T, *phone) {}},
		{"before its first push", func(t *testing.T, p *phone) {}},
		{"with changes", func(t *testing.T, p *phone) { addCategory(t, p.Engine, 2, "changed before") }},
		{"with a push in flight", func(t *testing.T, p *phone) {
			addCategory(t, p.Engine, 2, "in flight")
			p.losing(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/push-sessions") })
			if _, err := p.PushPending(t.Context()); err == nil {
				t.Fatal("the answer was not lost")
			}
			p.losing(nil)
			appWrite(t, p.Engine, `UPDATE categories SET name = 'edited since' WHERE id = ?`, categoryID(2))
		}},
		{"with a push that was committed", func(t *testing.T, p *phone) {
			addCategory(t, p.Engine, 2, "committed")
			p.losing(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/commit") })
			if _, err := p.PushPending(t.Context()); err == nil {
				t.Fatal("the answer was not lost")
			}
			p.losing(nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachWayInBothContracts(t, func(t *testing.T, auto bool, contract wire.ContractName) {
				w := newWorld(t, devserver.Config{InMemory: true, Contract: contract})
				first := openPhone(t, w, user, filepath.Join(t.TempDir(), "first.db"), auto)
				addCategory(t, first.Engine, 1, "known")
				if c.name != "before its first push" {
					first.sync(t)
				}
				c.before(t, first)
				second := copyOf(t, w, user, first)
				if first.source(t) != second.source(t) {
					t.Fatal("a copy has another source")
				}
				rebuilds := 0
				for round := range 4 {
					for i, p := range []*phone{second, first} {
						addCategory(t, p.Engine, 100+10*round+i, fmt.Sprintf("%d of %d", round, i))
						rebuilds += p.sync(t)
					}
				}
				for range 2 {
					rebuilds += first.sync(t) + second.sync(t)
				}
				sameAsServer(t, w, user, first.Engine, second.Engine)
				if a, b := first.source(t), second.source(t); a == b {
					t.Error("both write under one source")
				}
				names := categories(t, w, user)
				for round := range 4 {
					for i := range 2 {
						if name := fmt.Sprintf("%d of %d", round, i); !slices.Contains(names, name) {
							t.Errorf("%s is lost: %s", name, names)
						}
					}
				}
				if !auto && rebuilds > 2 {
					t.Errorf("%d rebuilds; one for the copy that comes late, one for the other, whose source that retired", rebuilds)
				}
				if n := len(first.replaced()) + len(second.replaced()); n > 2 {
					t.Errorf("%d replacements were asked for: %v %v", n, first.replaced(), second.replaced())
				}
			})
		})
	}
}

// A device is put back to what it was some pushes ago.
func TestRestoredDevice(t *testing.T) {
	t.Parallel()
	const user = "restored"
	eachWayInBothContracts(t, func(t *testing.T, auto bool, contract wire.ContractName) {
		w := newWorld(t, devserver.Config{InMemory: true, Contract: contract})
		p := openPhone(t, w, user, filepath.Join(t.TempDir(), "first.db"), auto)
		addCategory(t, p.Engine, 1, "old")
		p.sync(t)
		old := copyOf(t, w, user, p)
		for i := range 3 {
			addCategory(t, p.Engine, 10+i, "lost here")
			p.sync(t)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		appWrite(t, old.Engine, `UPDATE categories SET name = 'new' WHERE id = ?`, categoryID(1))
		old.sync(t)
		sameAsServer(t, w, user, old.Engine)
		if names := categories(t, w, user); !slices.Equal(names, []string{"new", "lost here", "lost here", "lost here"}) {
			t.Error(names)
		}
	})
}

// The answer to a commit is lost, and when the device asks again the server has forgotten its history. What was pushed
// and what was written since are each there once, bytes and all.
func TestK4_PushOfAForgottenHistory(t *testing.T) {
	t.Parallel()
	const user, file = "forgotten", "00112233445566778899aabbccddeeff"
	eachWay(t, func(t *testing.T, auto bool) {
		w := newWorld(t, devserver.Config{InMemory: true})
		p := openPhone(t, w, user, filepath.Join(t.TempDir(), "first.db"), auto)
		events := p.Subscribe(oversqlite.WithKinds(oversqlite.KindSourceRotated))
		defer events.Close()
		addCategory(t, p.Engine, 1, "known")
		p.sync(t)
		before := p.source(t)
		appWrite(t, p.Engine, `INSERT INTO files (id, name, data) VALUES (?, 'f', ?)`, unhex(t, file), unhex(t, "deadbeef00ff"))
		appWrite(t, p.Engine, `UPDATE categories SET name = 'pushed' WHERE id = ?`, categoryID(1))
		for _, committed := range []bool{true, false} {
			p.losing(func(r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, map[bool]string{true: "/commit", false: "/chunks"}[committed])
			})
			if _, err := p.PushPending(t.Context()); err == nil {
				t.Fatal("the answer was not lost")
			}
			p.losing(nil)
			appWrite(t, p.Engine, `INSERT INTO categories (id, name) VALUES (?, 'since')`, uuid.NewString())
			forgetHistory(t, w, user)
			if !committed {
				if err := w.server.RetireSource(user, p.source(t), "by hand"); err != nil {
					t.Fatal(err)
				}
			}
			rebuilds := p.sync(t)
			if !auto && rebuilds != 1 {
				t.Errorf("%d rebuilds", rebuilds)
			}
			sameAsServer(t, w, user, p.Engine)
			var data []byte
			if err := p.DB().QueryRow(`SELECT data FROM files`).Scan(&data); err != nil || hex.EncodeToString(data) != "deadbeef00ff" {
				t.Errorf("%x, %v", data, err)
			}
			appWrite(t, p.Engine, `UPDATE files SET name = 'g'`)
		}
		p.sync(t)
		rows, err := w.server.Rows(t.Context(), user, "files")
		if err != nil || len(rows) != 1 || !strings.Contains(string(rows[0]), `"3q2+7wD/"`) {
			t.Errorf("%s, %v", rows, err)
		}
		for i, want := range []oversqlite.SourceRecoveryReason{oversqlite.SourceHistoryPruned, oversqlite.SourceRetired} {
			e := (<-events.C()).(oversqlite.SourceRotated)
			if e.Reason != string(want) || i == 0 && e.From != before {
				t.Errorf("%+v, want %s", e, want)
			}
		}
	})
}

// A rotation is interrupted after each of its requests, and the engine closed and opened anew. Each time the same new
// source is asked for, and in the end nothing is lost.
func TestRecoveryGoesOnAfterEachOfItsRequests(t *testing.T) {
	t.Parallel()
	const user = "interrupted"
	eachWay(t, func(t *testing.T, auto bool) {
		w := newWorld(t, devserver.Config{InMemory: true})
		path := filepath.Join(t.TempDir(), "first.db")
		p := openPhone(t, w, user, path, auto)
		addCategory(t, p.Engine, 1, "known")
		p.sync(t)
		retired := p.source(t)
		if err := w.server.RetireSource(user, retired, "by hand"); err != nil {
			t.Fatal(err)
		}
		addCategory(t, p.Engine, 2, "pending")
		var asked []string
		for step := range 40 {
			if step == 39 {
				t.Fatal("it never ends")
			}
			left := step
			p.losing(func(r *http.Request) bool {
				if r.Method == http.MethodDelete {
					return false
				}
				left--
				return left < 0
			})
			_, err := p.Engine.Sync(t.Context())
			if !auto && err != nil {
				_, _ = p.Engine.Rebuild(t.Context())
				_, err = p.Engine.Sync(t.Context())
			}
			asked = append(asked, p.replaced()...)
			addCategory(t, p.Engine, 100+step, "meanwhile")
			if err == nil {
				break
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			p = openPhone(t, w, user, path, auto)
		}
		p.losing(nil)
		p.sync(t)
		sameAsServer(t, w, user, p.Engine)
		if slices.Sort(asked); len(slices.Compact(asked)) > 1 {
			t.Errorf("several sources were asked for: %v", asked)
		}
		if s := p.source(t); s == retired || s == "by hand" {
			t.Errorf("it writes under %s", s)
		}
	})
}

// A source that a server has replaced by another id between the reservation and the request.
func TestDivergedReplacement(t *testing.T) {
	t.Parallel()
	const user = "diverged"
	eachWay(t, func(t *testing.T, auto bool) {
		w := newWorld(t, devserver.Config{InMemory: true})
		p := openPhone(t, w, user, filepath.Join(t.TempDir(), "first.db"), auto)
		addCategory(t, p.Engine, 1, "known")
		p.sync(t)
		source := p.source(t)
		clone := copyOf(t, w, user, p)
		addCategory(t, clone.Engine, 2, "theirs")
		clone.sync(t) // takes the next number
		addCategory(t, p.Engine, 3, "mine")
		p.losing(func(r *http.Request) bool { // before the request that asks for the replacement
			if strings.HasSuffix(r.URL.Path, "/push-sessions") {
				if err := w.server.RetireSource(user, source, "another copy's"); err != nil {
					t.Error(err)
				}
			}
			return false
		})
		_, err := p.Engine.Sync(t.Context())
		p.losing(nil)
		if !auto {
			var required *oversqlite.SourceRecoveryRequiredError
			if !errors.As(err, &required) {
				t.Fatal(err)
			}
			var diverged *oversqlite.SourceReplacementDivergedError
			if _, err = p.Engine.Rebuild(t.Context()); !errors.As(err, &diverged) || diverged.Server != "another copy's" {
				t.Fatal(err)
			}
			if _, err = p.Engine.Rebuild(t.Context()); err == nil {
				_, err = p.Engine.Sync(t.Context())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		sameAsServer(t, w, user, p.Engine)
		if s := p.source(t); s == source || s == "another copy's" {
			t.Errorf("it writes under %s", s)
		}
	})
}

// The server is restored from a backup. One call brings a device with pending changes into line with it, and what the
// device has not pushed is not lost.
func TestRestoredServer(t *testing.T) {
	t.Parallel()
	const user = "back"
	for _, c := range []struct {
		name string
		on   int // bundles that the restored server has got since
	}{{"as it was", 0}, {"and has gone on a little", 1}, {"and has gone on further than before", 9}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachWay(t, func(t *testing.T, auto bool) {
				w := newWorld(t, devserver.Config{InMemory: true})
				p := openPhone(t, w, user, filepath.Join(t.TempDir(), "first.db"), auto)
				office := func(q string, args ...any) {
					t.Helper()
					if err := w.server.ExecWrite(t.Context(), user, "office", func(tx *sql.Tx) error { _, err := tx.Exec(q, args...); return err }); err != nil {
						t.Fatal(err)
					}
				}
				for n := range 4 {
					addCategory(t, p.Engine, n, "old")
				}
				p.sync(t)
				backup, err := w.server.Backup(user)
				if err != nil {
					t.Fatal(err)
				}
				for n := range 3 {
					office(`UPDATE categories SET name = 'lost' WHERE id = ?`, categoryID(n))
				}
				office(`INSERT INTO categories (id, name) VALUES (?, 'lost')`, categoryID(5))
				p.sync(t)
				appWrite(t, p.Engine, `UPDATE categories SET name = 'mine' WHERE id IN (?, ?)`, categoryID(0), categoryID(5))
				appWrite(t, p.Engine, `DELETE FROM categories WHERE id = ?`, categoryID(1))
				addCategory(t, p.Engine, 6, "mine")
				if err := w.server.Restore(user, backup); err != nil {
					t.Fatal(err)
				}
				for n := range c.on {
					office(`INSERT INTO categories (id, name) VALUES (?, 'theirs')`, categoryID(20+n))
				}
				commits := 0
				p.losing(func(r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, "/commit") {
						commits++
					}
					return false
				})
				mustSync(t, p.Engine)
				if commits > 2 {
					t.Errorf("%d uploads: the first conflict shows that the server went back, and what to do about the others", commits)
				}
				sameAsServer(t, w, user, p.Engine)
				names := strings.Join(categories(t, w, user)[:4], ",")
				// What it does not have it cannot prefer; for the rest the server wins, as it is asked to.
				all := categories(t, w, user)
				if names != "old,old,old,old" || !slices.Contains(all, "mine") {
					t.Errorf("%s", all)
				}
			})
		})
	}
}

// A row is deleted here that the restored server has at an older version than the one that was known: that is a conflict, and the
// resolver is asked.
func TestRestoredServerHasWhatWasDeleted(t *testing.T) {
	t.Parallel()
	const user = "deleted"
	for name, c := range map[string]struct {
		resolver oversqlite.Resolver
		left     int
	}{"client wins": {oversqlite.ClientWins, 1}, "server wins": {oversqlite.ServerWins, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := pickyWorld(t, "")
			asked := 0
			e := pickyDevice(t, w, user, http.DefaultTransport, "", func(cfg *oversqlite.Config) {
				cfg.Resolver = oversqlite.ResolverFunc(func(ctx context.Context, conflict oversqlite.Conflict) (oversqlite.Resolution, error) {
					asked++
					return c.resolver.Resolve(ctx, conflict)
				})
			})
			other := pickyDevice(t, w, user, http.DefaultTransport, "")
			appWrite(t, other, `INSERT INTO parents VALUES ('a', NULL, 'old'), ('b', NULL, 'old')`)
			mustSync(t, other)
			backup, err := w.server.Backup(user)
			if err != nil {
				t.Fatal(err)
			}
			appWrite(t, other, `UPDATE parents SET note = 'new' WHERE id = 'a'`)
			mustSync(t, other)
			mustSync(t, e)
			appWrite(t, e, `DELETE FROM parents WHERE id = 'a'`)
			if err := w.server.Restore(user, backup); err != nil {
				t.Fatal(err)
			}
			mustSync(t, e)
			if got := serverRows(t, w, user, "parents"); len(got) != c.left || asked == 0 {
				t.Errorf("the server has %s, and the resolver was asked %d times", got, asked)
			}
		})
	}
}

// The server is restored to before a push of this device: it is one number behind.
func TestRestoredServerThatLostAPush(t *testing.T) {
	t.Parallel()
	const user = "behind"
	eachWay(t, func(t *testing.T, auto bool) {
		w := newWorld(t, devserver.Config{InMemory: true})
		p := openPhone(t, w, user, filepath.Join(t.TempDir(), "first.db"), auto)
		addCategory(t, p.Engine, 1, "old")
		p.sync(t)
		backup, err := w.server.Backup(user)
		if err != nil {
			t.Fatal(err)
		}
		appWrite(t, p.Engine, `UPDATE categories SET name = 'pushed' WHERE id = ?`, categoryID(1))
		p.sync(t)
		if err := w.server.Restore(user, backup); err != nil {
			t.Fatal(err)
		}
		addCategory(t, p.Engine, 2, "pending")
		if rebuilds := p.sync(t); !auto && rebuilds != 1 {
			t.Errorf("%d rebuilds", rebuilds)
		}
		sameAsServer(t, w, user, p.Engine)
		if names := categories(t, w, user); !slices.Equal(names, []string{"old", "pending"}) {
			t.Error(names)
		}
	})
}

// The snapshot that is to replace the source has a unique value that a local change holds. The source is replaced first,
// the change is pushed, refused and decided, and then the snapshot is taken.
func TestRecoveryAroundACollision(t *testing.T) {
	t.Parallel()
	const user = "collision"
	eachWay(t, func(t *testing.T, auto bool) {
		w := newWorld(t, devserver.Config{InMemory: true, Schema: workload.ServerSchema, Tables: []devserver.Table{{Schema: workload.Schema, Name: "slots", Key: "id"}}})
		path := filepath.Join(t.TempDir(), "first.db")
		db, err := sql.Open("sqlite3", "file:"+path)
		if err == nil {
			_, err = db.Exec(workload.ClientSchema)
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		p := &phone{auto: auto}
		cfg := engineConfig(path, w.url, w.token(t, user), p)
		cfg.AutoRecover, cfg.Schema, cfg.Tables = auto, workload.Schema, []oversqlite.Table{{Name: "slots", Key: "id"}}
		if p.Engine, err = oversqlite.New(cfg); err == nil {
			err = p.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		attach(t.Context(), t, p.Engine, user)
		appWrite(t, p.Engine, `INSERT INTO slots VALUES ('1', 'A', 'x'), ('2', 'B', 'x')`)
		p.sync(t)
		if err := w.server.RetireSource(user, p.source(t), "by hand"); err != nil {
			t.Fatal(err)
		}
		appWrite(t, p.Engine, `UPDATE slots SET code = 'C' WHERE id = '1'`)
		if err := w.server.ExecWrite(t.Context(), user, "office", func(tx *sql.Tx) error {
			_, err := tx.Exec(`UPDATE slots SET name = 'theirs' WHERE id = '1'; INSERT INTO slots VALUES ('3', 'C', 'theirs')`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		p.sync(t)
		var got string
		if err := p.DB().QueryRowContext(t.Context(), `SELECT group_concat(id || code || name, ' ') FROM (SELECT * FROM slots ORDER BY id)`).Scan(&got); err != nil || got != "1Atheirs 2Bx 3Ctheirs" {
			t.Errorf("%s, %v", got, err)
		}
		if len(p.replaced()) != 0 {
			t.Errorf("the server was asked to replace what another had replaced: %v", p.replaced())
		}
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
