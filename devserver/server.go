package devserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/wire"
)

// Server is a development server. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	tables   []*table
	byFull   map[string]*table // by "schema.table"
	users    *users
	sessions sessions
	faults   faults
	counts   [len(endpoints)]atomic.Int64
	handler  http.Handler
	dialect  dialect
	builds   slots // of snapshots
	chunks   slots // of snapshots, read
	started  time.Time

	closing   chan struct{} // closed by Close
	closeOnce sync.Once
	closeErr  error
	watchers  sync.WaitGroup
	watchMu   sync.Mutex // orders closing against watchers.Add
}

// New returns a server. It checks the configuration, the schema included, but opens no user's database.
func New(cfg Config) (*Server, error) {
	if err := cfg.normalize(); err != nil {
		return nil, err
	}
	d, err := dialectOf(cfg.Contract)
	if err != nil {
		return nil, fmt.Errorf("devserver: %w", err)
	}
	tables, err := checkSchema(&cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("devserver: %w", err)
		}
		if len(cfg.Secret) == 0 {
			if cfg.Secret, err = keptSecret(cfg.Dir); err != nil {
				return nil, fmt.Errorf("devserver: %w", err)
			}
		}
	}
	s := &Server{cfg: cfg, tables: tables, byFull: map[string]*table{}, started: cfg.Now(), closing: make(chan struct{})}
	for _, t := range tables {
		s.byFull[t.full] = t
	}
	s.dialect = d
	if d.measured {
		s.builds, s.chunks = newSlots(cfg.Limits.MaxConcurrentSnapshotBuilds), newSlots(cfg.Limits.MaxConcurrentSnapshotChunkRequests)
	}
	s.users = newUsers(&s.cfg, tables, d)
	s.sessions.init(cfg.NewID)
	s.faults.init(cfg.Seed)
	for _, f := range cfg.Faults {
		s.Inject(f)
	}
	s.handler = s.routes()
	return s, nil
}

// checkSchema runs the schema in a scratch database and reads the tables from it.
func checkSchema(cfg *Config) ([]*table, error) {
	c, err := sqlite3.Open(":memory:")
	if err != nil {
		return nil, fmt.Errorf("devserver: %w", err)
	}
	defer c.Close()
	if err := c.Exec(metaSchema + cfg.Schema); err != nil {
		return nil, fmt.Errorf("devserver: Config.Schema: %w", err)
	}
	return loadTables(c, cfg.Tables)
}

// Handler returns the server's HTTP handler.
func (s *Server) Handler() http.Handler { return s.handler }

// Close ends the watches, waits for the work under way in the databases and closes them; requests after it are
// answered 503. It is idempotent.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.watchMu.Lock()
		close(s.closing)
		s.watchMu.Unlock()
		s.watchers.Wait()
		s.closeErr = s.users.close()
	})
	return s.closeErr
}

func (s *Server) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// call is one request on its way through the server.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	user   string
	source string
}

// with runs fn on the caller's database, alone.
func (s *Server) with(c *call, fn func(*user, *store) error) error { return s.users.with(c.user, fn) }

// routes builds the handler: a table of paths, each with its methods.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	paths := map[string]map[string]endpoint{}
	for _, e := range s.endpoints() {
		if paths[e.path] == nil {
			paths[e.path] = map[string]endpoint{}
		}
		paths[e.path][e.method] = e
	}
	for path, methods := range paths {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			e, ok := methods[r.Method]
			if !ok {
				writeError(w, &apiError{status: http.StatusMethodNotAllowed, code: "method_not_allowed", message: r.Method + " is not offered here"})
				return
			}
			s.serve(e, w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusNotFound, code: "not_found", message: "no such endpoint"})
	})
	return mux
}

// serve runs one request: counted, faulted, authenticated, handled.
func (s *Server) serve(e endpoint, w http.ResponseWriter, r *http.Request) {
	s.counts[e.number].Add(1)
	c := &call{w: w, r: r, source: r.Header.Get("Oversync-Source-ID")}
	var authErr error
	c.user, authErr = s.authenticate(r)
	if s.cfg.OnRequest != nil {
		s.cfg.OnRequest(RequestInfo{Endpoint: e.name, Method: r.Method, Path: r.URL.Path, UserID: c.user, SourceID: c.source})
	}
	w, after, done := s.applyFault(e, c)
	if done {
		return
	}
	c.w = w
	err := s.admit(e, c, authErr)
	if err == nil {
		r.Body = http.MaxBytesReader(w, r.Body, s.cfg.MaxBodyBytes)
		err = e.handle(c)
	}
	if err != nil {
		s.fail(c, e, err)
	}
	s.cfg.Logger.Debug("request", zap.String("endpoint", string(e.name)), zap.String("user", c.user), zap.String("source", c.source), zap.Error(err))
	after()
}

// admit decides whether a request may reach its handler.
func (s *Server) admit(e endpoint, c *call, authErr error) error {
	switch {
	case s.closed():
		return ErrClosed
	case e.open:
		return nil
	case authErr != nil:
		return &apiError{status: http.StatusUnauthorized, code: "authentication_failed", message: authErr.Error()}
	case c.source == "":
		return invalidRequest("the Oversync-Source-ID header is missing")
	}
	return nil
}

// fail answers an error.
func (s *Server) fail(c *call, e endpoint, err error) {
	var api *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &api):
	case errors.Is(err, ErrClosed):
		api = &apiError{status: http.StatusServiceUnavailable, code: "service_unavailable", message: "the server is shutting down"}
	case errors.As(err, &tooLarge):
		api = &apiError{status: http.StatusRequestEntityTooLarge, code: "request_too_large", message: err.Error()}
	default:
		// Whose request it was and what the error says (it may quote a row) is in the debug line.
		s.cfg.Logger.Error("request failed", zap.String("endpoint", string(e.name)), zap.String("error_type", fmt.Sprintf("%T", err)))
		api = &apiError{status: http.StatusInternalServerError, code: string(e.name) + "_failed", message: err.Error()}
	}
	writeError(c.w, api)
}

// apiError is an error answer.
type apiError struct {
	status  int
	code    string
	message string
	extra   map[string]any

	retryAfter int // seconds; 0: not said
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func invalidRequest(format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, "invalid_request", format, args...)
}

func writeError(w http.ResponseWriter, e *apiError) {
	body := map[string]any{"error": e.code, "message": e.message}
	for k, v := range e.extra {
		body[k] = v
	}
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	writeJSON(w, e.status, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a programming error
		panic(err)
	}
	writeBody(w, status, body)
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (s *Server) capabilities(c *call) error {
	l := &s.cfg.Limits
	names, specs := make([]string, len(s.tables)), make([]map[string]any, len(s.tables))
	for i, t := range s.tables {
		spec := t.spec()
		names[i] = t.full
		specs[i] = map[string]any{"schema": spec.Schema, "table": spec.Table, "sync_key_columns": spec.SyncKeyColumns}
	}
	features := map[string]bool{"bundle_change_watch": !s.cfg.DisableWatch}
	for _, name := range []string{"connect_lifecycle", "bundle_push", "bundle_pull", "push_session_chunking",
		"committed_bundle_row_fetch", "snapshot_chunking", "history_pruned_errors"} {
		features[name] = true
	}
	limits := map[string]int64{
		"max_rows_per_bundle":                     l.MaxRowsPerBundle,
		"max_bytes_per_bundle":                    l.MaxBytesPerBundle,
		"max_bundles_per_pull":                    l.MaxBundlesPerPull,
		"default_rows_per_push_chunk":             l.DefaultRowsPerPushChunk,
		"max_rows_per_push_chunk":                 l.MaxRowsPerPushChunk,
		"default_rows_per_committed_bundle_chunk": l.DefaultRowsPerCommittedBundleChunk,
		"max_rows_per_committed_bundle_chunk":     l.MaxRowsPerCommittedBundleChunk,
		"default_rows_per_snapshot_chunk":         l.DefaultRowsPerSnapshotChunk,
		"max_rows_per_snapshot_chunk":             l.MaxRowsPerSnapshotChunk,
		"push_session_ttl_seconds":                l.PushSessionTTLSeconds,
		"snapshot_session_ttl_seconds":            l.SnapshotSessionTTLSeconds,
		"max_rows_per_snapshot_session":           l.MaxRowsPerSnapshotSession,
		"max_bytes_per_snapshot_session":          l.MaxBytesPerSnapshotSession,
		"initialization_lease_ttl_seconds":        l.InitializationLeaseTTLSeconds,
	}
	if s.dialect.measured {
		limits["default_bytes_per_snapshot_chunk"] = l.DefaultBytesPerSnapshotChunk
		limits["max_bytes_per_snapshot_chunk"] = l.MaxBytesPerSnapshotChunk
		limits["max_bytes_per_snapshot_row"] = l.MaxBytesPerSnapshotRow
		limits["max_concurrent_snapshot_builds"] = l.MaxConcurrentSnapshotBuilds
		limits["max_concurrent_snapshot_chunk_requests"] = l.MaxConcurrentSnapshotChunkRequests
	}
	writeJSON(c.w, http.StatusOK, map[string]any{
		"protocol_version": wire.ProtocolVersion, "schema_version": 1, "app_name": s.cfg.AppName,
		"registered_tables": names, "registered_table_specs": specs, "features": features,
		"bundle_limits": limits,
	})
	return nil
}

func (s *Server) health(c *call) error {
	writeJSON(c.w, http.StatusOK, map[string]any{"status": "healthy"})
	return nil
}

func (s *Server) status(c *call) error {
	known, open := s.users.stats()
	writeJSON(c.w, http.StatusOK, map[string]any{
		"status": "healthy", "app_name": s.cfg.AppName, "users": known, "open_databases": open,
		"uptime_seconds": int64(s.cfg.Now().Sub(s.started) / time.Second),
	})
	return nil
}
