package oversqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// notesSchema is the schema of these tests on both sides: notes, and tags that hang on them.
const notesSchema = `
CREATE TABLE notes (
  id TEXT NOT NULL PRIMARY KEY,
  title TEXT NOT NULL,
  body TEXT,
  stars INTEGER NOT NULL DEFAULT 0,
  weight REAL,
  slug TEXT UNIQUE
);
CREATE TABLE tags (
  id TEXT NOT NULL PRIMARY KEY,
  note_id TEXT NOT NULL REFERENCES notes(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  name TEXT NOT NULL
);`

var notesTables = []oversqlite.Table{{Name: "notes", Key: "id"}, {Name: "tags", Key: "id"}}

// world is a server and the devices of its users.
type world struct {
	t      testing.TB
	server *devserver.Server
	web    *httptest.Server
	conns  http.RoundTripper
}

func newWorld(t testing.TB, change ...func(*devserver.Config)) *world {
	t.Helper()
	cfg := devserver.Config{
		InMemory: true,
		Schema:   notesSchema,
		Tables:   []devserver.Table{{Schema: "main", Name: "notes", Key: "id"}, {Schema: "main", Name: "tags", Key: "id"}},
	}
	for _, c := range change {
		c(&cfg)
	}
	server, err := devserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, server: server, web: httptest.NewServer(server.Handler())}
	conns := &http.Transport{MaxIdleConnsPerHost: 64}
	w.conns = conns
	t.Cleanup(func() {
		conns.CloseIdleConnections()
		w.web.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// device is an engine, and a file that outlives it.
type device struct {
	t    testing.TB
	w    *world
	user string
	path string
	cfg  oversqlite.Config
	*oversqlite.Engine
	// wire sees every request before it is sent and may answer in the server's place.
	wire *tap
}

// tap is a RoundTripper that lets a test stand between an engine and its server.
type tap struct {
	next http.RoundTripper
	mu   sync.Mutex
	// before is called before a request is sent, after before its answer is handed over.
	before, after func(*http.Request)
	requests      atomic.Int64
}

func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	t.requests.Add(1)
	t.mu.Lock()
	before, after := t.before, t.after
	t.mu.Unlock()
	if before != nil {
		before(r)
	}
	resp, err := t.next.RoundTrip(r)
	if after != nil && err == nil {
		after(r)
	}
	return resp, err
}

func (t *tap) set(before, after func(*http.Request)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before, t.after = before, after
}

// token adds a user's credentials.
type token struct {
	next  http.RoundTripper
	value atomic.Pointer[string]
}

func (t *token) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+*t.value.Load())
	return t.next.RoundTrip(r)
}

// device makes a device of a user, with its tables created but not opened.
func (w *world) device(user string, change ...func(*oversqlite.Config)) *device {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "device.db")
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := db.Exec(notesSchema); err != nil {
		w.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
	return w.deviceAt(user, path, change...)
}

func (w *world) deviceAt(user, path string, change ...func(*oversqlite.Config)) *device {
	w.t.Helper()
	d := &device{t: w.t, w: w, user: user, path: path, wire: &tap{next: w.conns}}
	auth := &token{next: d.wire}
	value, err := w.server.IssueToken(user)
	if err != nil {
		w.t.Fatal(err)
	}
	auth.value.Store(&value)
	d.cfg = oversqlite.Config{
		Path: path, Schema: "main", Tables: notesTables, ServerURL: w.web.URL,
		HTTPClient: &http.Client{Transport: auth},
		Retry:      oversqlite.RetryConfig{Initial: time.Millisecond, Max: 20 * time.Millisecond, MaxElapsed: 5 * time.Second},
	}
	for _, c := range change {
		c(&d.cfg)
	}
	d.start()
	return d
}

// start makes the device's engine anew.
func (d *device) start() {
	d.t.Helper()
	e, err := oversqlite.New(d.cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.Engine = e
	d.t.Cleanup(func() { _ = e.Close() })
}

// open opens the device.
func (d *device) open() *device {
	d.t.Helper()
	if err := d.Open(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	return d
}

// attached opens and attaches the device and returns how.
func (d *device) attached() (*device, oversqlite.Connected) {
	d.t.Helper()
	d.open()
	return d, d.attach()
}

func (d *device) attach() oversqlite.Connected {
	d.t.Helper()
	r, err := d.Attach(d.t.Context(), d.user)
	if err != nil {
		d.t.Fatalf("attach: %v", err)
	}
	c, ok := r.(oversqlite.Connected)
	if !ok {
		d.t.Fatalf("attach: %#v", r)
	}
	return c
}

// ready returns an attached device.
func (w *world) ready(user string, change ...func(*oversqlite.Config)) *device {
	w.t.Helper()
	d, _ := w.device(user, change...).attached()
	return d
}

func (d *device) exec(query string, args ...any) {
	d.t.Helper()
	if _, err := d.DB().ExecContext(d.t.Context(), query, args...); err != nil {
		d.t.Fatalf("%s: %v", query, err)
	}
}

// note inserts a note and returns its id.
func (d *device) note(title string) string {
	d.t.Helper()
	id := uuid.NewString()
	d.exec(`INSERT INTO notes (id, title) VALUES (?, ?)`, id, title)
	return id
}

func (d *device) sync() oversqlite.SyncReport {
	d.t.Helper()
	r, err := d.Sync(d.t.Context())
	if err != nil {
		d.t.Fatalf("sync: %v", err)
	}
	return r
}

// dump writes every row of the device's tables, in key order.
func (d *device) dump() string {
	d.t.Helper()
	var out strings.Builder
	for _, table := range []string{"notes", "tags"} {
		rows, err := d.DB().QueryContext(d.t.Context(), `SELECT * FROM `+table+` ORDER BY id`)
		if err != nil {
			d.t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			d.t.Fatal(err)
		}
		for rows.Next() {
			values := make([]any, len(columns))
			into := make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				d.t.Fatal(err)
			}
			fmt.Fprintf(&out, "%s %v\n", table, values)
		}
		if err := rows.Err(); err != nil {
			d.t.Fatal(err)
		}
		_ = rows.Close()
	}
	return out.String()
}

// title returns a note's title, "" when there is no such note.
func (d *device) title(id string) string {
	d.t.Helper()
	var title string
	err := d.DB().QueryRowContext(d.t.Context(), `SELECT title FROM notes WHERE id = ?`, id).Scan(&title)
	if err != nil && err != sql.ErrNoRows {
		d.t.Fatal(err)
	}
	return title
}

// serverWrite changes the user's rows on the server.
func (w *world) serverWrite(user, query string, args ...any) {
	w.t.Helper()
	err := w.server.ExecWrite(context.Background(), user, "server", func(tx *sql.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// converged syncs the devices until nobody has anything new, and compares their tables.
func converged(devices ...*device) {
	t := devices[0].t
	t.Helper()
	for range 2 {
		for _, d := range devices {
			d.sync()
		}
	}
	want := devices[0].dump()
	for _, d := range devices {
		if got := d.dump(); got != want {
			t.Fatalf("the devices differ:\n%s\nand\n%s", want, got)
		}
		status, err := d.SyncStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if status.Pending.HasPendingSyncData {
			t.Fatalf("still pending: %+v", status)
		}
	}
}
