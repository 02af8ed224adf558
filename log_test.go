package oversqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// logged collects log lines as they would be written.
type logged struct {
	mu sync.Mutex
	strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

func (l *logged) Sync() error { return nil }

func (l *logged) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.String(), "\n"), "\n")
}

func (l *logged) logger(level zapcore.Level) *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), l, level))
}

// story plays a story in which everything happens that a log has to be careful about. Every value of a row, every key, the
// user, the credentials and the name of the file hold a marker.
func (m *markers) story(t *testing.T, log *zap.Logger, metrics *oversqlite.Metrics) {
	w := newWorld(t, func(c *devserver.Config) {
		c.Schema = strings.Replace(c.Schema, "title TEXT NOT NULL", "title TEXT NOT NULL CHECK (title NOT LIKE '%poison%')", 1)
	})
	var panics atomic.Bool
	configure := func(c *oversqlite.Config) {
		c.Logger, c.Metrics = log, metrics
		c.PoisonPolicy = oversqlite.PoisonIsolate
		c.Resolver = oversqlite.ResolverFunc(func(_ context.Context, c oversqlite.Conflict) (oversqlite.Resolution, error) {
			if panics.CompareAndSwap(true, false) {
				panic("the resolver does not like " + string(c.Local))
			}
			return oversqlite.KeepLocal{}, nil
		})
	}
	a := w.device(m.user, configure)
	m.token = strings.TrimPrefix(*a.cfg.HTTPClient.Transport.(*token).value.Load(), "Bearer ")
	a.open()
	key := m.row + "-" + uuid.NewString()
	write := func(d *device, key, title string) {
		d.exec(`INSERT INTO notes (id, title) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET title = excluded.title`, key, m.row+title)
	}
	write(a, key, "seed")
	a.attach()
	a.sync()

	// A second device, by snapshot; a conflict, at first with a resolver that panics over the row.
	b := w.ready(m.user, configure)
	b.sync()
	write(b, key, "remote")
	b.sync()
	write(a, key, "local")
	panics.Store(true)
	if _, err := a.Sync(t.Context()); !errors.As(err, new(*oversqlite.InvalidConflictResolutionError)) {
		t.Fatalf("a resolver that panics: %v", err)
	}
	a.sync()

	// Rows that the server refuses, with a message that quotes one.
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Status: 400, Times: 1, Body: m.quoting("push_invalid")})
	write(a, m.row+"-bad", "poison")
	for range 20 {
		write(a, m.row+uuid.NewString(), "good")
	}
	if _, err := a.Sync(t.Context()); err != nil {
		t.Fatalf("with a poisoned row: %v", err)
	}
	if rows, err := a.Quarantined(t.Context()); err != nil || len(rows) != 1 {
		t.Fatalf("%v %v", rows, err)
	}
	// Uploads that are held, a failure that passes, refused credentials, an answer that is none.
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Status: 503, Times: 1, Body: m.quoting("overloaded")})
	a.sync()
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Status: 401, Times: 1, Body: m.quoting("authentication_failed")})
	if _, err := a.Sync(t.Context()); !errors.As(err, new(*oversqlite.AuthError)) {
		t.Fatalf("refused credentials: %v", err)
	}
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Status: 418, Times: 1, Body: m.quoting(m.row + " is odd")})
	if _, err := a.Sync(t.Context()); err == nil {
		t.Fatal("a refusal that has no meaning is none")
	}
	w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Status: 200, Times: 1, Body: []byte(`{"` + m.row + `":"` + m.row + `"}`)})
	if _, err := a.Sync(t.Context()); !errors.As(err, new(*oversqlite.ProtocolError)) {
		t.Fatalf("a wrong answer: %v", err)
	}
	// A server that was restored from a backup, and a snapshot; trouble with the local database, with a message that quotes a row.
	if _, err := a.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.exec(`CREATE TRIGGER picky BEFORE UPDATE ON notes WHEN NEW.title LIKE '%deliberate%' BEGIN SELECT RAISE(ABORT, 'I do not take ` + m.row + `'); END`)
	w.serverWrite(m.user, `UPDATE notes SET title = ? WHERE id = ?`, m.row+"deliberate", key)
	if _, err := a.Sync(t.Context()); err == nil {
		t.Fatal("a trigger that refuses a row of the server's does not")
	}
	a.exec(`DROP TRIGGER picky`)
	a.sync()
	// An engine that fails, with a row in its hand.
	a.wire.set(func(r *http.Request) { panic("a transport full of " + m.row + r.Header.Get("Authorization")) }, nil)
	write(a, key, "again")
	if _, err := a.Sync(t.Context()); !errors.As(err, new(*oversqlite.EngineFailedError)) {
		t.Fatalf("a transport that panics: %v", err)
	}
	a.wire.set(nil, nil)
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = a.Write(t.Context(), func(*sql.Tx) error { return errors.New(m.row) })
	a.sync()
	if _, err := b.SyncThenDetach(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	_ = b.Close()
}

// markers are texts that are in whatever must not be told.
type markers struct{ row, user, token string }

// quoting is an error answer that quotes a row and a user.
func (m *markers) quoting(code string) []byte {
	body, _ := json.Marshal(map[string]string{"error": code, "message": "the row {" + m.row + "} of " + m.user + " is not welcome"})
	return body
}

// Nothing of a row, a key, a user, a credential or a path is told. At debug, what the server and SQLite say is told under one
// key, which may quote a row.
func TestTheLogKeepsSecrets(t *testing.T) {
	t.Parallel()
	for _, level := range []zapcore.Level{zap.InfoLevel, zap.DebugLevel} {
		t.Run(level.String(), func(t *testing.T) {
			t.Parallel()
			m := &markers{row: "markedrow", user: "markeduser"}
			var out logged
			m.story(t, out.logger(level), nil)
			for _, line := range out.lines() {
				var fields map[string]any
				if err := json.Unmarshal([]byte(line), &fields); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				if fields["level"] == "debug" {
					delete(fields, "text")
				}
				rest, _ := json.Marshal(fields)
				for _, marker := range []string{m.row, m.user, m.token, "poison", t.Name(), "device.db"} {
					if marker != m.token && strings.Contains(string(rest), marker) || strings.Contains(line, m.token) {
						t.Errorf("%q is told: %s", marker, line)
					}
				}
			}
			text := strings.Join(out.lines(), "\n")
			for _, want := range []string{
				`"level":"info"`, `"msg":"a user is attached"`, `"outcome":"seeded_from_local"`, `"msg":"rows were set aside: they wait for the application"`,
				`"msg":"a request failed and will be repeated"`, `"operation":"pull"`, `"status":503`, `"retry_at":`, `"code":"overloaded"`,
				`"outcome":"auth"`, `"status":401`, `"outcome":"protocol"`, `"outcome":"conflict"`, `"outcome":"failed"`, `"outcome":"database"`, `"sqlite_code":1811`,
				`"msg":"a worker panicked"`, `"panic_type":"string"`, `"msg":"the user is detached"`, `"engine":`, `"msg":"requests succeed again"`,
			} {
				if !strings.Contains(text, want) {
					t.Errorf("no line has %s", want)
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// What is measured adds up, and its labels are of fixed sets.
func TestMetrics(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	sums := map[string]int64{}
	add := func(n int64, labels ...string) {
		mu.Lock()
		defer mu.Unlock()
		sums[strings.Join(labels, " ")] += n
	}
	m := &markers{row: "markedrow", user: "markeduser"}
	m.story(t, nil, &oversqlite.Metrics{
		Request: func(r oversqlite.RequestDone) {
			add(1, "request", r.Operation, r.Class)
			add(r.Sent, "sent")
			add(r.Received, "received")
			if r.Took <= 0 || r.Took > time.Minute {
				t.Errorf("a request took %v", r.Took)
			}
		},
		Rows:        func(w oversqlite.Way, n int64) { add(n, "rows", string(w)) },
		Bundles:     func(w oversqlite.Way, n int64) { add(n, "bundles", string(w)) },
		Backoff:     func(b oversqlite.BackoffDelay) { add(1, "backoff", b.Operation) },
		Conflict:    func(r string) { add(1, "conflict", r) },
		Quarantined: func(origin string, n int64) { add(n, "quarantined", origin) },
		Pending: func(p oversqlite.PendingWork) {
			add(p.Change, "pending")
			add(1, "looked")
			if p.OldestAge > 0 {
				add(1, "aged")
			}
		},
		Run: func(r oversqlite.RunDone) { add(1, "run", r.Verb, string(r.Outcome)) },
		Phase: func(from, to oversqlite.Phase) {
			add(-1, "phase", string(from))
			add(1, "phase", string(to))
			add(1, "been", string(to))
		},
	})
	mu.Lock()
	defer mu.Unlock()
	for want, n := range map[string]int64{
		"run Open ok": 2, "run Attach ok": 2, "run SyncThenDetach ok": 1, "run Restart ok": 1, "run Sync auth": 1, "run Sync conflict": 1, "run Sync failed": 1,
		"run Sync protocol": 2, "run Sync database": 1, "run Rebuild ok": 1, "quarantined server": 1, "conflict keep_local": 1,
		"request pull auth": 1, "request pull transient": 1, "request pull code": 1, "backoff pull": 1, "request capabilities transient": 0,
		"pending": 0, "rows snapshot": 22,
	} {
		if sums[want] != n {
			t.Errorf("%s: %d, want %d", want, sums[want], n)
		}
	}
	for _, some := range []string{"sent", "received", "looked", "aged", "rows pushed", "rows pulled", "rows applied", "bundles pushed", "bundles pulled", "bundles applied",
		"been idle", "been pushing", "been pulling", "been staging_snapshot", "been failed", "been closed", "request commit push session code"} {
		if sums[some] <= 0 {
			t.Errorf("%s: %d", some, sums[some])
		}
	}
	for labels, n := range sums {
		if strings.HasPrefix(labels, "phase ") && labels != "phase " && n != 0 {
			t.Errorf("%s: %d engines, and all are closed", labels, n)
		}
		if strings.Contains(labels, "marked") || slices.Contains(strings.Fields(labels), "unknown") {
			t.Errorf("a label tells whose it is: %s", labels)
		}
	}
	if t.Failed() {
		t.Log(sums)
	}
}
