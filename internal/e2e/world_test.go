package e2e

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

// world is a server and the means to open devices against it.
type world struct {
	server *devserver.Server
	url    string
}

// newWorld starts a server. What the test leaves open, its dialect, is OVERSQLITE_E2E_CONTRACT's to say.
func newWorld(t testing.TB, cfg devserver.Config) *world {
	t.Helper()
	if cfg.Contract == "" {
		cfg.Contract = wire.ContractName(os.Getenv("OVERSQLITE_E2E_CONTRACT"))
	}
	s, err := devserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		h.CloseClientConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		h.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return &world{server: s, url: h.URL}
}

// inBothContracts runs a test against a server of each dialect.
func inBothContracts(t *testing.T, f func(t *testing.T, contract wire.ContractName)) {
	for _, contract := range []wire.ContractName{wire.ClassicContract, wire.UniformContract} {
		t.Run(string(contract), func(t *testing.T) { f(t, contract) })
	}
}

// bearer adds a user's token to every request.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

func (w *world) token(t testing.TB, user string) string {
	t.Helper()
	token, err := w.server.IssueToken(user)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// engineConfig is the configuration of a device on the business schema.
func engineConfig(path, url, token string, via http.RoundTripper) oversqlite.Config {
	cfg := oversqlite.Config{
		Path:        path,
		Schema:      "business",
		ServerURL:   url,
		HTTPClient:  &http.Client{Transport: bearer{token: token, next: via}},
		Synchronous: oversqlite.SynchronousNormal,
		Retry: oversqlite.RetryConfig{
			Initial: 5 * time.Millisecond, Max: 200 * time.Millisecond, Multiplier: 2, Jitter: 0.5, MaxElapsed: time.Minute,
		},
	}
	for _, t := range devserver.BusinessTables() {
		cfg.Tables = append(cfg.Tables, oversqlite.Table{Name: t.Name, Key: t.Key})
	}
	return cfg
}

// createSchema makes the business tables in a database file, unless they are there.
func createSchema(path string) error {
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		return err
	}
	defer db.Close()
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM sqlite_schema WHERE name = 'users'`).Scan(&n); err != nil || n > 0 {
		return err
	}
	_, err = db.Exec(`BEGIN IMMEDIATE; ` + devserver.BusinessClientSchema + `; COMMIT`)
	return err
}

func seed(t testing.TB) int64 {
	s := time.Now().UnixNano()
	if v := os.Getenv("OVERSQLITE_E2E_SEED"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	t.Logf("OVERSQLITE_E2E_SEED=%d", s)
	return s
}

func envInt(t testing.TB, name string, byDefault int) int {
	v := os.Getenv(name)
	if v == "" {
		return byDefault
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func envDuration(t testing.TB, name string, byDefault time.Duration) time.Duration {
	v := os.Getenv(name)
	if v == "" {
		return byDefault
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

func newID(r *rand.Rand) string {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return uuid.UUID(b).String()
}

// localDump renders every business row of a device in the spelling of the server's payloads, sorted.
func localDump(ctx context.Context, db *sql.DB) ([]string, error) {
	var out []string
	for _, t := range devserver.BusinessTables() {
		rows, err := db.QueryContext(ctx, `SELECT * FROM "`+t.Name+`"`)
		if err != nil {
			return nil, err
		}
		names, err := rows.Columns()
		if err != nil {
			return nil, err
		}
		types, err := rows.ColumnTypes()
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			values := make([]any, len(names))
			for i := range values {
				values[i] = new(sql.RawBytes)
			}
			if err := rows.Scan(values...); err != nil {
				return nil, err
			}
			cells := make([]string, len(names))
			for i, n := range names {
				raw := *values[i].(*sql.RawBytes)
				cells[i] = n + "=" + localCell(types[i].DatabaseTypeName(), n, raw)
			}
			sort.Strings(cells)
			out = append(out, t.Name+" "+strings.Join(cells, " "))
		}
		if err := rows.Close(); err != nil {
			return nil, err
		}
	}
	sort.Strings(out)
	return out, nil
}

func localCell(declared, name string, raw sql.RawBytes) string {
	if raw == nil {
		return "null"
	}
	switch strings.ToUpper(declared) {
	case "BLOB":
		if name == "id" || strings.HasSuffix(name, "_id") {
			id, err := uuid.FromBytes(raw)
			if err != nil {
				return "bad uuid"
			}
			return id.String()
		}
		return base64.StdEncoding.EncodeToString(raw)
	case "INTEGER", "REAL":
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil {
			return "not a number: " + string(raw)
		}
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return string(raw)
}

// serverDump renders every row of a user on the server in the same way.
func serverDump(ctx context.Context, s *devserver.Server, user string) ([]string, error) {
	var out []string
	for _, t := range devserver.BusinessTables() {
		rows, err := s.Rows(ctx, user, t.Name)
		if err != nil {
			return nil, err
		}
		for _, raw := range rows {
			var m map[string]any
			if err := json.Unmarshal(raw, &m); err != nil {
				return nil, err
			}
			var cells []string
			for k, v := range m {
				if text, spelled := v.(string); spelled && numeric[k] { // in the uniform contract
					if v, err = strconv.ParseFloat(text, 64); err != nil {
						return nil, err
					}
				}
				cells = append(cells, k+"="+serverCell(v))
			}
			sort.Strings(cells)
			out = append(out, t.Name+" "+strings.Join(cells, " "))
		}
	}
	sort.Strings(out)
	return out, nil
}

// numeric are the columns of the business tables that hold numbers.
var numeric = map[string]bool{"count_value": true, "enabled_flag": true, "rating": true}

func serverCell(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		if v {
			return "1"
		}
		return "0"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		return v
	}
	return fmt.Sprint(v)
}

// diff names the first rows that only one side has.
func diff(a, b []string) string {
	in := func(list []string) map[string]bool {
		m := make(map[string]bool, len(list))
		for _, s := range list {
			m[s] = true
		}
		return m
	}
	ina, inb := in(a), in(b)
	var out []string
	for _, s := range a {
		if !inb[s] {
			out = append(out, "- "+s)
		}
	}
	for _, s := range b {
		if !ina[s] {
			out = append(out, "+ "+s)
		}
	}
	if len(out) > 20 {
		out = append(out[:20], fmt.Sprintf("… and %d more", len(out)-20))
	}
	return strings.Join(out, "\n")
}
