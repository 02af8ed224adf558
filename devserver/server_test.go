package devserver_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/wire"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	one := []devserver.Table{{Schema: "s", Name: "a", Key: "id"}}
	for name, cfg := range map[string]devserver.Config{
		"no place":            {},
		"two places":          {Dir: "x", InMemory: true},
		"tables alone":        {InMemory: true, Tables: one},
		"schema alone":        {InMemory: true, Schema: "CREATE TABLE a (id TEXT PRIMARY KEY)"},
		"broken schema":       {InMemory: true, Schema: "CREATE TABEL a (id TEXT PRIMARY KEY)", Tables: one},
		"absent table":        {InMemory: true, Schema: "CREATE TABLE b (id TEXT PRIMARY KEY)", Tables: one},
		"table twice":         {InMemory: true, Schema: "CREATE TABLE a (id TEXT PRIMARY KEY)", Tables: append(one, one...)},
		"incomplete table":    {InMemory: true, Schema: "CREATE TABLE a (id TEXT PRIMARY KEY)", Tables: []devserver.Table{{Name: "a", Key: "id"}}},
		"key is not primary":  {InMemory: true, Schema: "CREATE TABLE a (id TEXT, x TEXT PRIMARY KEY)", Tables: one},
		"composite key":       {InMemory: true, Schema: "CREATE TABLE a (id TEXT, x TEXT, PRIMARY KEY (id, x))", Tables: one},
		"integer key":         {InMemory: true, Schema: "CREATE TABLE a (id INTEGER PRIMARY KEY)", Tables: one},
		"unknown contract":    {InMemory: true, Contract: "esperanto"},
		"negative duration":   {InMemory: true, LeaseTTL: -1},
		"negative open users": {InMemory: true, MaxOpenUsers: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if s, err := devserver.New(cfg); err == nil {
				_ = s.Close()
				t.Fatal("accepted")
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{AppName: "app", DisableWatch: true, LeaseTTL: 1500 * time.Millisecond,
		Limits: wire.Limits{MaxRowsPerPushChunk: 7, MaxBundlesPerPull: 3}})
	d := newDevice(t, s, web, "u", "s")
	answer := d.do("GET", "/sync/capabilities", nil, 200, "")
	raw, _ := json.Marshal(answer)
	for _, want := range []string{`"protocol_version":"v1"`, `"app_name":"app"`, `"bundle_change_watch":false`, `"connect_lifecycle":true`,
		`"max_rows_per_push_chunk":7`, `"default_rows_per_push_chunk":7`, `"max_bundles_per_pull":3`, `"max_rows_per_snapshot_chunk":5000`,
		`"initialization_lease_ttl_seconds":2`, `"push_session_ttl_seconds":900`, `"business.users"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s lacks %s", raw, want)
		}
	}
	if n := len(list(answer["registered_table_specs"])); n != len(devserver.BusinessTables()) {
		t.Errorf("%d tables", n)
	}
	if strings.Contains(string(raw), "max_bytes_per_snapshot_row") {
		t.Error("a classic server must not advertise a uniform limit")
	}
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	clock := newClock()
	secret := []byte("a secret of some length for the test")
	s, web := start(t, devserver.Config{Secret: secret, Now: clock.Now, MaxBodyBytes: 100})
	sign := func(method jwt.SigningMethod, key any, claims jwt.Claims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	later := jwt.NewNumericDate(clock.Now().Add(time.Hour))
	valid, err := s.IssueToken("u")
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"none":          "",
		"garbage":       "garbage",
		"other secret":  sign(jwt.SigningMethodHS256, []byte("x"), jwt.RegisteredClaims{Subject: "u", ExpiresAt: later}),
		"other method":  sign(jwt.SigningMethodHS512, secret, jwt.RegisteredClaims{Subject: "u", ExpiresAt: later}),
		"unsigned":      sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.RegisteredClaims{Subject: "u", ExpiresAt: later}),
		"no user":       sign(jwt.SigningMethodHS256, secret, jwt.RegisteredClaims{ExpiresAt: later}),
		"no expiration": sign(jwt.SigningMethodHS256, secret, jwt.RegisteredClaims{Subject: "u"}),
		"expired":       sign(jwt.SigningMethodHS256, secret, jwt.RegisteredClaims{Subject: "u", ExpiresAt: jwt.NewNumericDate(clock.Now())}),
	} {
		d := &device{t: t, web: web, token: token, source: "s"}
		if answer := d.do("GET", "/sync/capabilities", nil, 401, "authentication_failed"); answer["message"] == "" {
			t.Error(name)
		}
	}
	d := &device{t: t, web: web, token: valid, source: "s"}
	d.do("GET", "/sync/capabilities", nil, 200, "")
	d.source = ""
	d.do("GET", "/sync/capabilities", nil, 400, "invalid_request")
	d.source = "s"
	d.do("GET", "/sync/nothing", nil, 404, "not_found")
	d.do("DELETE", "/sync/connect", nil, 405, "method_not_allowed")
	d.do("POST", "/sync/connect", `{`, 400, "invalid_request")
	d.do("POST", "/sync/connect", `{"has_local_pending_rows":1}`, 400, "invalid_request")
	d.do("POST", "/sync/connect", `{"x":"`+strings.Repeat("x", 100)+`"}`, 413, "request_too_large")

	guest := &device{t: t, web: web}
	if guest.do("GET", "/syncx/health", nil, 200, "")["status"] != "healthy" || guest.do("GET", "/syncx/status", nil, 200, "")["status"] != "healthy" {
		t.Error("not healthy")
	}
	guest.do("POST", "/dummy-signin", `{"password":"x"}`, 400, "invalid_request")
	guest.do("POST", "/dummy-signin", `[]`, 400, "invalid_request")
	guest.token, _ = guest.do("POST", "/dummy-signin", `{"user":"u","password":"x"}`, 200, "")["token"].(string)
	guest.source = "s"
	guest.do("GET", "/sync/capabilities", nil, 200, "")
	clock.advance(25 * time.Hour)
	guest.do("GET", "/sync/capabilities", nil, 401, "authentication_failed")
	if _, err := s.IssueToken(""); err == nil {
		t.Error("a token for nobody")
	}
}

func TestRequestsAndHook(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []devserver.RequestInfo
	s, web := start(t, devserver.Config{OnRequest: func(i devserver.RequestInfo) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, i)
	}})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	d.do("GET", "/sync/pull", nil, 200, "")
	(&device{t: t, web: web}).do("GET", "/sync/pull", nil, 401, "authentication_failed")
	counts := s.Requests()
	if counts[devserver.EndpointConnect] != 1 || counts[devserver.EndpointPull] != 2 || counts[devserver.EndpointWatch] != 0 {
		t.Errorf("counts: %v", counts)
	}
	want := []devserver.RequestInfo{
		{Endpoint: devserver.EndpointConnect, Method: "POST", Path: "/sync/connect", UserID: "u", SourceID: "s"},
		{Endpoint: devserver.EndpointPull, Method: "GET", Path: "/sync/pull", UserID: "u", SourceID: "s"},
		{Endpoint: devserver.EndpointPull, Method: "GET", Path: "/sync/pull"},
	}
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("hook saw %v", seen)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal("Close is idempotent:", err)
	}
	d.do("GET", "/sync/pull", nil, http.StatusServiceUnavailable, "service_unavailable")
	d.do("GET", "/syncx/health", nil, http.StatusServiceUnavailable, "service_unavailable")
	if _, err := s.Rows(t.Context(), "u", "users"); err == nil {
		t.Error("rows after Close")
	}
	if err := s.Forget("u"); err == nil {
		t.Error("forget after Close")
	}
}

func TestFilesSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := []string{"a", "A", "../../etc/passwd", "ключ", strings.Repeat("long", 200), "a b?c#d%2f", "CON"}
	for round := range 2 {
		s, web := start(t, devserver.Config{Dir: dir})
		for _, user := range users {
			d := newDevice(t, s, web, user, "s")
			if round == 0 {
				d.connect(false)
				d.push(userRow("INSERT", 1, 0, user))
				d.stage("", userRow("INSERT", 2, 0, "staged"))
				continue
			}
			if d.connect(true)["resolution"] != "remote_authoritative" {
				t.Errorf("%q lost its scope", user)
			}
			rows, err := s.Rows(t.Context(), user, "business.users")
			if err != nil || len(rows) != 1 {
				t.Fatal(rows, err)
			}
			var row struct{ Name string }
			if err := json.Unmarshal(rows[0], &row); err != nil || row.Name != user {
				t.Errorf("%q sees %s", user, rows[0])
			}
			d.next = 2
			d.push(userRow("INSERT", 2, 0, "not in the way of the remains"))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A restart is a pause for clients, whose tokens go on. A secret that cannot be one is not used.
func TestTokensSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var token string
	for round := range 2 {
		s, web := start(t, devserver.Config{Dir: dir})
		if round == 0 {
			var err error
			if token, err = s.IssueToken("ada"); err != nil {
				t.Fatal(err)
			}
		}
		d := newDevice(t, s, web, "ada", "s")
		d.token = token
		d.do("GET", "/sync/capabilities", nil, 200, "")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "token-secret")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := devserver.New(devserver.Config{Dir: dir}); err == nil {
		t.Error("a secret of five bytes is used", s.Close())
	}
}

// TestManyUsers works for more users than may be open, at once.
func TestManyUsers(t *testing.T) {
	t.Parallel()
	users := 24
	if race.Enabled {
		users = 8
	}
	for _, dir := range []string{"", t.TempDir()} {
		s, web := start(t, devserver.Config{Dir: dir, MaxOpenUsers: 3})
		var wg sync.WaitGroup
		for n := range users {
			wg.Go(func() {
				d := newDevice(t, s, web, fmt.Sprintf("user %d", n), "s")
				d.connect(false)
				for i := range 5 {
					d.push(userRow("INSERT", i, 0, "x"))
				}
				if n := len(list(d.do("GET", "/sync/pull", nil, 200, "")["bundles"])); n != 5 {
					t.Errorf("%d bundles", n)
				}
			})
		}
		wg.Wait()
		d := newDevice(t, s, web, "one more", "s")
		d.connect(false) // puts out who was busy when he should have gone
		if status := d.do("GET", "/syncx/status", nil, 200, ""); status["users"] != float64(users+1) || status["open_databases"].(float64) > 3 {
			t.Errorf("status %v", status)
		}
	}
}

// TestIdleUsersAreClosed closes what nobody used for the idle time.
func TestIdleUsersAreClosed(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s, web := start(t, devserver.Config{Now: clock.Now, IdleTimeout: time.Minute})
	for _, user := range []string{"a", "b"} {
		newDevice(t, s, web, user, "s").connect(false)
	}
	clock.advance(2 * time.Minute)
	c := newDevice(t, s, web, "c", "s")
	c.connect(false)
	if status := c.do("GET", "/syncx/status", nil, 200, ""); status["users"] != 3.0 || status["open_databases"] != 1.0 {
		t.Errorf("status %v", status)
	}
	if newDevice(t, s, web, "a", "s").connect(false)["resolution"] != "remote_authoritative" {
		t.Error("an idle user in memory lost its scope")
	}
}

// TestInMemoryLeavesNothing closes a server that held some tens of megabytes. Not parallel: it looks at the heap.
func TestInMemoryLeavesNothing(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s, err := devserver.New(devserver.Config{InMemory: true, MaxOpenUsers: 2})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		if err := s.ExecWrite(t.Context(), fmt.Sprint(n), "w", func(tx *sql.Tx) error {
			for i := range 4 {
				if _, err := tx.Exec(`INSERT INTO files VALUES (?, 'f', zeroblob(1000000))`, uid(i)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if held := heap(); held < before+30<<20 {
		t.Fatalf("the test sees only %d bytes of the databases", held-before)
	}
	if err := s.Forget("0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d bytes are left", after-before)
	}
}
