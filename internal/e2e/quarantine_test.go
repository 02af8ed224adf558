package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/race"
)

// A schema whose server is pickier than its clients.
const (
	pickyClient = `CREATE TABLE parents (id TEXT NOT NULL PRIMARY KEY, code TEXT UNIQUE, note TEXT);
CREATE TABLE children (id TEXT NOT NULL PRIMARY KEY, parent_id TEXT NOT NULL REFERENCES parents(id) %s, note TEXT);`
	pickyServer = `CREATE TABLE parents (id TEXT NOT NULL PRIMARY KEY, code TEXT UNIQUE, note TEXT CHECK (note NOT LIKE '%%poison%%'));
CREATE TABLE children (id TEXT NOT NULL PRIMARY KEY, parent_id TEXT NOT NULL REFERENCES parents(id) %s DEFERRABLE INITIALLY DEFERRED, note TEXT CHECK (note NOT LIKE '%%poison%%'));`
)

func pickyWorld(t testing.TB, onDelete string) *world {
	return newWorld(t, devserver.Config{
		InMemory: true, Schema: fmt.Sprintf(pickyServer, onDelete),
		Tables: []devserver.Table{{Schema: "main", Name: "parents", Key: "id"}, {Schema: "main", Name: "children", Key: "id"}},
	})
}

// tollgate counts requests, and answers chunks that hold what it is not to let through with a 400.
type tollgate struct {
	requests atomic.Int64
	chunks   atomic.Int64
	refuses  string
}

func (c *tollgate) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	if strings.HasSuffix(r.URL.Path, "/chunks") {
		c.chunks.Add(1)
		if c.refuses != "" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			_ = r.Body.Close()
			if bytes.Contains(body, []byte(c.refuses)) {
				return &http.Response{
					StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
					Body: io.NopCloser(strings.NewReader(`{"error":"push_chunk_invalid","message":"a row is not to our taste"}`)),
				}, nil
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// pickyDevice opens a device of a user.
func pickyDevice(t testing.TB, w *world, user string, via http.RoundTripper, onDelete string, change ...func(*oversqlite.Config)) *oversqlite.Engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "picky.db")
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(fmt.Sprintf(pickyClient, onDelete)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := engineConfig(path, w.url, w.token(t, user), via)
	cfg.Schema, cfg.Tables = "main", []oversqlite.Table{{Name: "parents", Key: "id"}, {Name: "children", Key: "id"}}
	cfg.Retry.Initial, cfg.Retry.Max = time.Millisecond, 10*time.Millisecond
	for _, c := range change {
		c(&cfg)
	}
	e, err := oversqlite.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if err := e.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Attach(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	return e
}

func isolating(c *oversqlite.Config) { c.PoisonPolicy = oversqlite.PoisonIsolate }

// serverIDs lists the keys that the server has in a table.
func serverRows(t testing.TB, w *world, user, table string) []string {
	t.Helper()
	rows, err := w.server.Rows(t.Context(), user, table)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = string(r)
	}
	return out
}

func inQuarantine(t testing.TB, e *oversqlite.Engine) []oversqlite.QuarantinedRow {
	t.Helper()
	rows, err := e.Quarantined(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// manyParents writes n rows, of which those numbered are poisoned.
func manyParents(t testing.TB, e *oversqlite.Engine, n int, poisoned ...int) {
	t.Helper()
	bad := map[int]bool{}
	for _, i := range poisoned {
		bad[i] = true
	}
	if err := e.Write(t.Context(), func(tx *sql.Tx) error {
		for i := range n {
			note := "fine"
			if bad[i] {
				note = "poison"
			}
			if _, err := tx.Exec(`INSERT INTO parents VALUES (?, ?, ?)`, fmt.Sprintf("p%06d", i), fmt.Sprint("code ", i), note); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// One poisoned row among 10,000: everything else goes to the server, and it does not take many requests more than a plain
// push, wherever the row is and however the server refuses it.
func TestOnePoisonedRowAmongTenThousand(t *testing.T) {
	const n, most = 10_000, 150
	if testing.Short() || race.Enabled {
		t.Skip("pushes 10,000 rows three times; the others push fewer the same way")
	}
	plain := func() int64 {
		w := pickyWorld(t, "")
		via := &tollgate{}
		e := pickyDevice(t, w, "plain", via, "")
		manyParents(t, e, n)
		before := via.requests.Load()
		mustSync(t, e)
		return via.requests.Load() - before
	}()
	for how, places := range map[string][]int{"400": {6789}, "500": {0}} { // the first place takes most requests
		for _, at := range places {
			t.Run(fmt.Sprintf("%s at %d", how, at), func(t *testing.T) {
				w := pickyWorld(t, "")
				via := &tollgate{}
				code := "push_session_commit_failed"
				if how == "400" {
					via.refuses, code = "poison", "push_chunk_invalid"
				}
				e := pickyDevice(t, w, "one", via, "", isolating)
				events := e.Subscribe(oversqlite.WithKinds(oversqlite.KindRowQuarantined))
				defer events.Close()
				manyParents(t, e, n, at)
				before := via.requests.Load()
				mustSync(t, e)
				extra := via.requests.Load() - before - plain
				t.Logf("%d requests beyond the %d of a plain push, %d chunks", extra, plain, via.chunks.Load())
				if extra > most {
					t.Errorf("%d requests beyond the plain push, at most %d", extra, most)
				}
				if got := len(serverRows(t, w, "one", "parents")); got != n-1 {
					t.Errorf("%d rows on the server", got)
				}
				q := inQuarantine(t, e)
				if len(q) != 1 || q[0].Key["id"] != fmt.Sprintf("p%06d", at) || q[0].Code != code || q[0].Origin != oversqlite.QuarantinedByServer || q[0].Message == "" || q[0].Attempts == 0 {
					t.Fatalf("quarantine: %+v", q)
				}
				if told := (<-events.C()).(oversqlite.RowQuarantined); told.ID != q[0].ID || told.Table != "parents" || told.Code != code {
					t.Errorf("told: %+v", told)
				}
				if s := e.Status(); s.Pending.Quarantined != 1 || s.Pending.Rows != 1 || s.UploadBlocked != nil || s.LastError != nil {
					t.Errorf("status: %+v", s)
				}
				if d, err := e.Detach(t.Context()); err != nil || d.Outcome != oversqlite.BlockedUnsyncedData {
					t.Errorf("detach: %+v, %v", d, err)
				}
				// Repaired by a plain write, it goes like any other.
				appWrite(t, e, `UPDATE parents SET note = 'fine' WHERE note = 'poison'`)
				mustSync(t, e)
				if got := len(serverRows(t, w, "one", "parents")); got != n || len(inQuarantine(t, e)) != 0 {
					t.Errorf("%d rows on the server, quarantine %v", got, inQuarantine(t, e))
				}
			})
		}
	}
}

// Under PoisonHold nothing is set aside: pulls go on, and the status says that uploads are blocked, and why.
func TestPoisonHoldBlocksUploadsOnly(t *testing.T) {
	for _, how := range []string{"400", "500"} {
		t.Run(how, func(t *testing.T) {
			w := pickyWorld(t, "")
			via := &tollgate{}
			code, status := "push_session_commit_failed", 500
			if how == "400" {
				via.refuses, code, status = "poison", "push_chunk_invalid", 400
			}
			e := pickyDevice(t, w, "hold", via, "")
			other := pickyDevice(t, w, "hold", http.DefaultTransport, "")
			manyParents(t, e, 20, 7)
			for round := range 2 {
				appWrite(t, other, `INSERT INTO parents VALUES (?, NULL, 'theirs')`, fmt.Sprint("other", round))
				mustSync(t, other)
				_, err := e.Sync(t.Context())
				var rejected *oversqlite.PushRejectedError
				if !errors.As(err, &rejected) || rejected.Code != code || rejected.Status != status {
					t.Fatalf("round %d: %v", round, err)
				}
				s := e.Status()
				if s.UploadBlocked == nil || s.UploadBlocked.Code != code || s.UploadBlocked.Status != status || s.UploadBlocked.Since.IsZero() || s.Pending.Rows != 20 || s.Pending.Quarantined != 0 {
					t.Errorf("round %d: status %+v, blocked %+v", round, s, s.UploadBlocked)
				}
				var n int
				if err := e.DB().QueryRow(`SELECT count(*) FROM parents WHERE note = 'theirs'`).Scan(&n); err != nil || n != round+1 {
					t.Errorf("round %d: %d rows of the other device's, %v", round, n, err)
				}
			}
			appWrite(t, e, `DELETE FROM parents WHERE note = 'poison'`)
			mustSync(t, e)
			if s := e.Status(); s.UploadBlocked != nil || s.Pending.Rows != 0 {
				t.Errorf("repaired: %+v", s)
			}
		})
	}
}

// Several poisoned rows, alone and in crowds, new parents among them, whose children cannot go without them.
func TestPoisonedRowsInCrowds(t *testing.T) {
	for _, how := range []string{"400", "500"} {
		t.Run(how, func(t *testing.T) {
			w := pickyWorld(t, "")
			via := &tollgate{}
			if how == "400" {
				via.refuses = "poison"
			}
			e := pickyDevice(t, w, "crowds", via, "", isolating)
			poisoned := []int{0, 1, 2, 3, 4, 77, 150, 151, 152, 199}
			manyParents(t, e, 200, poisoned...)
			appWrite(t, e, `INSERT INTO children SELECT 'c' || id, id, 'child' FROM parents WHERE id < 'p000010'`)
			mustSync(t, e)
			q := inQuarantine(t, e)
			byOrigin := map[oversqlite.QuarantineOrigin]int{}
			for _, r := range q {
				byOrigin[r.Origin]++
			}
			if byOrigin[oversqlite.QuarantinedByServer] != 10 || byOrigin[oversqlite.QuarantinedByDependency] != 5 || len(q) != 15 {
				t.Errorf("%v", byOrigin)
			}
			if p, c := len(serverRows(t, w, "crowds", "parents")), len(serverRows(t, w, "crowds", "children")); p != 190 || c != 5 {
				t.Errorf("%d parents and %d children on the server", p, c)
			}
			t.Logf("%d requests", via.requests.Load())
			// Repairing the parents brings the children along.
			appWrite(t, e, `UPDATE parents SET note = 'fine'`)
			mustSync(t, e)
			if p, c := len(serverRows(t, w, "crowds", "parents")), len(serverRows(t, w, "crowds", "children")); p != 200 || c != 10 || len(inQuarantine(t, e)) != 0 {
				t.Errorf("repaired: %d parents and %d children on the server, %d in quarantine", p, c, len(inQuarantine(t, e)))
			}
		})
	}
}

// A server that refuses everything is not what quarantine is for.
func TestAServerThatRefusesEverything(t *testing.T) {
	for status, code := range map[int]string{500: "push_session_commit_failed", 400: "push_commit_invalid"} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w := pickyWorld(t, "")
			fault := w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Status: status, Code: code})
			e := pickyDevice(t, w, "all", http.DefaultTransport, "", isolating)
			manyParents(t, e, 100)
			_, err := e.PushPending(t.Context())
			var rejected *oversqlite.PushRejectedError
			if !errors.As(err, &rejected) || rejected.Code != code {
				t.Fatalf("%v", err)
			}
			if q := inQuarantine(t, e); len(q) != 0 {
				t.Errorf("%d rows in quarantine", len(q))
			}
			if s := e.Status(); s.UploadBlocked == nil || s.Pending.Rows != 100 {
				t.Errorf("%+v", s)
			}
			fault.Remove()
			mustSync(t, e)
			if got := len(serverRows(t, w, "all", "parents")); got != 100 {
				t.Errorf("%d rows on the server", got)
			}
		})
	}
}

// A gateway's 5xx is no refusal, however long it lasts.
func TestAGatewaysAnswerIsNoRefusal(t *testing.T) {
	w := pickyWorld(t, "")
	e := pickyDevice(t, w, "gateway", http.DefaultTransport, "", isolating)
	for _, status := range []int{502, 503, 504} {
		w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Status: status, Times: 7})
	}
	manyParents(t, e, 10)
	mustSync(t, e)
	if got := len(serverRows(t, w, "gateway", "parents")); got != 10 || len(inQuarantine(t, e)) != 0 {
		t.Errorf("%d rows on the server, %d in quarantine", got, len(inQuarantine(t, e)))
	}
}

// A commit that fails for a while on the server's side is waited for.
func TestACommitThatFailsForAWhile(t *testing.T) {
	w := pickyWorld(t, "")
	e := pickyDevice(t, w, "while", http.DefaultTransport, "", isolating)
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Status: 500, Code: "push_session_commit_failed", Times: 12})
	manyParents(t, e, 100)
	mustSync(t, e)
	if got := len(serverRows(t, w, "while", "parents")); got != 100 || len(inQuarantine(t, e)) != 0 {
		t.Errorf("%d rows on the server, quarantine %+v", got, inQuarantine(t, e))
	}
}

// A unique value that one row gives up and another one takes: in the order in which the rows are pushed the server
// refuses the second, until the first is committed.
func TestAUniqueValueThatIsFreedInTheSamePush(t *testing.T) {
	w := pickyWorld(t, "")
	e := pickyDevice(t, w, "unique", http.DefaultTransport, "", isolating)
	appWrite(t, e, `INSERT INTO parents VALUES ('old', 'taken', 'x')`)
	mustSync(t, e)
	if err := e.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM parents WHERE id = 'old'; INSERT INTO parents VALUES ('new', 'taken', 'y')`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	mustSync(t, e)
	if got := serverRows(t, w, "unique", "parents"); len(got) != 1 || !strings.Contains(got[0], `"new"`) || len(inQuarantine(t, e)) != 0 {
		t.Errorf("server %v, quarantine %+v", got, inQuarantine(t, e))
	}
}

// What the wire cannot carry is set aside before anything is sent, exact to the bit.
func TestK11_WhatCannotBeSentIsSetAside(t *testing.T) {
	w := pickyWorld(t, "")
	e := pickyDevice(t, w, "values", http.DefaultTransport, "", isolating)
	manyParents(t, e, 10)
	appWrite(t, e, `UPDATE parents SET note = 'a' || char(0) || 'b' WHERE id = 'p000003'`)
	mustSync(t, e)
	q := inQuarantine(t, e)
	if len(q) != 1 || q[0].Origin != oversqlite.QuarantinedByValue || q[0].Code == "" || q[0].Key["id"] != "p000003" {
		t.Fatalf("%+v", q)
	}
	if got := len(serverRows(t, w, "values", "parents")); got != 9 {
		t.Errorf("%d rows on the server", got)
	}
	if err := e.DiscardQuarantined(t.Context(), q[0].ID); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := e.DB().QueryRow(`SELECT count(*) FROM parents`).Scan(&n); err != nil || n != 9 {
		t.Errorf("%d rows left, %v", n, err)
	}
	if d, err := e.Detach(context.WithoutCancel(t.Context())); err != nil || d.Outcome != oversqlite.Detached {
		t.Errorf("%+v, %v", d, err)
	}
}

// A search that is interrupted, at whatever request, and goes on in another process ends as if nothing had happened: each
// row is on the server once, and what it refuses is in quarantine.
func TestAnInterruptedSearchGoesOn(t *testing.T) {
	const n = 64
	for at := int64(4); at < 60; at += 5 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			w := pickyWorld(t, "")
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			via := &tollgate{}
			var cfg oversqlite.Config
			e := pickyDevice(t, w, "interrupted", roundTrip(func(r *http.Request) (*http.Response, error) {
				answer, err := via.RoundTrip(r)
				if via.requests.Load() == at {
					stop()
				}
				return answer, err
			}), "", isolating, func(c *oversqlite.Config) { cfg = *c })
			manyParents(t, e, n, 11, 40)
			if _, err := e.PushPending(ctx); err == nil {
				t.Fatal("was not interrupted")
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := oversqlite.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if err := again.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := again.Attach(t.Context(), "interrupted"); err != nil {
				t.Fatal(err)
			}
			mustSync(t, again)
			if rows, q := len(serverRows(t, w, "interrupted", "parents")), inQuarantine(t, again); rows != n-2 || len(q) != 2 {
				t.Errorf("%d rows on the server, quarantine %+v", rows, q)
			}
			if s := again.Status(); s.Pending.Rows != 2 || s.UploadBlocked != nil {
				t.Errorf("%+v", s)
			}
		})
	}
}
