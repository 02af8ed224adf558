package devserver

import (
	"net/http"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// The states of a scope.
const (
	stateUninitialized = "uninitialized"
	stateInitializing  = "initializing"
	stateInitialized   = "initialized"
)

// scope is the state of a user's rows as a whole.
type scope struct {
	state        string
	leaseID      string
	leaseSource  string
	leaseExpires time.Time
	lastSeq      int64
	floor        int64
}

func (st *store) scope() (sc scope, err error) {
	err = st.each(`SELECT state, lease_id, lease_source, lease_expires, last_seq, floor FROM _server_scope`, func(s *sqlite3.Stmt) error {
		sc = scope{state: s.ColumnText(0), leaseID: s.ColumnText(1), leaseSource: s.ColumnText(2),
			leaseExpires: time.Unix(0, s.ColumnInt64(3)), lastSeq: s.ColumnInt64(4), floor: s.ColumnInt64(5)}
		return nil
	})
	return sc, err
}

// initialize makes the scope initialized; a lease ends.
func (st *store) initialize() error {
	return st.run(`UPDATE _server_scope SET state = ?, lease_id = '', lease_source = '', lease_expires = 0`, stateInitialized)
}

// lease gives or extends the lease.
func (st *store) lease(id, source string, expires time.Time) error {
	return st.run(`UPDATE _server_scope SET state = ?, lease_id = ?, lease_source = ?, lease_expires = ?`, stateInitializing, id, source, expires.UnixNano())
}

// initialized refuses a scope that nobody has initialized yet.
func (sc scope) initialized() error {
	switch sc.state {
	case stateUninitialized:
		return refuse(http.StatusConflict, "scope_uninitialized", "nobody has connected to this scope yet")
	case stateInitializing:
		return refuse(http.StatusConflict, "scope_initializing", "another source is seeding this scope")
	}
	return nil
}

func (s *Server) connect(c *call) error {
	var in struct {
		HasLocalPendingRows bool `json:"has_local_pending_rows"`
	}
	if err := c.body(&in, "invalid_request"); err != nil {
		return err
	}
	var answer map[string]any
	err := s.with(c, func(_ *user, st *store) error {
		return st.tx(func() (err error) {
			answer, err = st.connect(c.source, in.HasLocalPendingRows, s.cfg.Now(), s.cfg.LeaseTTL, s.cfg.NewID)
			return err
		})
	})
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, answer)
	return nil
}

// connect decides what a source may do with the scope.
func (st *store) connect(source string, pending bool, now time.Time, ttl time.Duration, newID func() string) (map[string]any, error) {
	sc, err := st.scope()
	if err != nil {
		return nil, err
	}
	if sc.state == stateInitialized {
		return map[string]any{"resolution": wire.RemoteAuthoritative}, nil
	}
	held := sc.state == stateInitializing && now.Before(sc.leaseExpires)
	if held && sc.leaseSource != source {
		return map[string]any{"resolution": wire.ResolutionRetry, "retry_after_seconds": max(1, seconds(sc.leaseExpires.Sub(now))),
			"lease_expires_at": formatInstant(sc.leaseExpires)}, nil
	}
	if !pending {
		return map[string]any{"resolution": wire.InitializeEmpty}, st.initialize()
	}
	id := sc.leaseID
	if !held {
		id = newID()
	}
	expires := now.Add(ttl)
	return map[string]any{"resolution": wire.InitializeLocal, "initialization_id": id, "lease_expires_at": formatInstant(expires)},
		st.lease(id, source, expires)
}

func formatInstant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// checkCreate checks the lease that a new push session claims against the scope, and renews it.
func (st *store) checkCreate(sc scope, source, leaseID string, now time.Time, ttl time.Duration) error {
	switch sc.state {
	case stateUninitialized:
		return sc.initialized()
	case stateInitialized:
		if leaseID != "" {
			return refuse(http.StatusBadRequest, "push_session_invalid", "the scope is initialized: no initialization_id is taken")
		}
		return nil
	}
	switch {
	case leaseID == "":
		return refuse(http.StatusBadRequest, "push_session_invalid", "the scope is being initialized: an initialization_id is needed")
	case leaseID != sc.leaseID || source != sc.leaseSource:
		return errLeaseStale()
	case !now.Before(sc.leaseExpires):
		return refuse(http.StatusGone, "initialization_expired", "the initialization lease has expired")
	}
	return st.lease(leaseID, source, now.Add(ttl))
}

// checkLease checks the lease under which a push session was created, and renews it.
func (st *store) checkLease(sc scope, leaseID string, now time.Time, ttl time.Duration) error {
	if leaseID == "" {
		return sc.initialized()
	}
	if sc.state != stateInitializing || leaseID != sc.leaseID || !now.Before(sc.leaseExpires) {
		return errLeaseStale()
	}
	return st.lease(leaseID, sc.leaseSource, now.Add(ttl))
}

func errLeaseStale() error {
	return refuse(http.StatusConflict, "initialization_stale", "the initialization lease is not, or no longer, this one")
}
