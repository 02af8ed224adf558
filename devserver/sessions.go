package devserver

import (
	"net/http"
	"sync"
	"time"
)

// session is a push or snapshot session. Identity and number never change; the rest belongs to whoever holds the
// user's database.
type session struct {
	id      string
	user    string
	number  int64 // prefix of its rows' ids in the user's database
	expires time.Time

	push *pushSession // nil: a snapshot
	seq  int64        // snapshot
	rows int64        // snapshot
	size int64        // snapshot: bytes of its rows as they are sent
}

// pushSession is what a push session stages.
type pushSession struct {
	source         string
	sourceBundleID int64
	planned        int64
	next           int64 // ordinal of the next row
	leaseID        string
	requestHash    string // "" where the dialect has none
}

// sessions is the directory of all sessions of the process.
type sessions struct {
	newID  func() string
	mu     sync.Mutex
	byID   map[string]*session
	byUser map[string]map[string]*session
	last   int64
}

func (d *sessions) init(newID func() string) {
	d.newID, d.byID, d.byUser = newID, map[string]*session{}, map[string]map[string]*session{}
}

// add gives s an id and a number and enters it.
func (d *sessions) add(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	s.id, s.number = d.newID(), d.last
	d.byID[s.id] = s
	if d.byUser[s.user] == nil {
		d.byUser[s.user] = map[string]*session{}
	}
	d.byUser[s.user][s.id] = s
}

func (d *sessions) remove(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removeLocked(s)
}

func (d *sessions) removeLocked(s *session) {
	delete(d.byID, s.id)
	delete(d.byUser[s.user], s.id)
	if len(d.byUser[s.user]) == 0 {
		delete(d.byUser, s.user)
	}
}

// find returns the caller's session; kind is the prefix of the error codes.
func (d *sessions) find(id, user, kind string, push bool) (*session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.byID[id]
	switch {
	case s == nil || (s.push != nil) != push:
		return nil, refuse(http.StatusNotFound, kind+"_not_found", "no such session")
	case s.user != user:
		return nil, refuse(http.StatusForbidden, kind+"_forbidden", "the session belongs to somebody else")
	}
	return s, nil
}

// current is find for somebody who holds the user's database: the session is there, and not expired.
func (d *sessions) current(id, user, kind string, push bool, now time.Time) (*session, error) {
	s, err := d.find(id, user, kind, push)
	if err == nil && !now.Before(s.expires) {
		return nil, refuse(http.StatusGone, kind+"_expired", "the session has expired")
	}
	return s, err
}

// takeOld takes those of the user's sessions out of the directory that superseded matches or that have been expired
// for as long as they lived.
func (d *sessions) takeOld(user string, now time.Time, ttl func(*session) time.Duration, superseded func(*session) bool) []*session {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*session
	for _, s := range d.byUser[user] {
		if superseded(s) || now.Sub(s.expires) > ttl(s) {
			d.removeLocked(s)
			out = append(out, s)
		}
	}
	return out
}

// sweep ends the user's sessions that superseded matches or that expired long ago; those answer 404 from now on.
func (s *Server) sweep(st *store, user string, now time.Time, superseded func(*session) bool) error {
	ttl := func(old *session) time.Duration {
		if old.push != nil {
			return s.cfg.PushSessionTTL
		}
		return s.cfg.SnapshotSessionTTL
	}
	for _, old := range s.sessions.takeOld(user, now, ttl, superseded) {
		if err := st.drop(old); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes a session's rows.
func (st *store) drop(s *session) error {
	if s.push != nil {
		return st.run(`DELETE FROM _server_push_row WHERE id BETWEEN ? AND ?`, s.number<<ordinalBits, s.number<<ordinalBits|maxPushRows)
	}
	return st.run(`DELETE FROM _server_snapshot_row WHERE id BETWEEN ? AND ?`, s.number<<snapshotBits, (s.number+1)<<snapshotBits-1)
}

// endSession removes the caller's session for good.
func (s *Server) endSession(c *call, kind string, push bool) error {
	err := s.with(c, func(_ *user, st *store) error {
		session, err := s.sessions.find(c.r.PathValue("id"), c.user, kind, push)
		if err != nil {
			return err
		}
		s.sessions.remove(session)
		return st.tx(func() error { return st.drop(session) })
	})
	if err == nil {
		c.w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func (s *Server) pushDelete(c *call) error     { return s.endSession(c, "push_session", true) }
func (s *Server) snapshotDelete(c *call) error { return s.endSession(c, "snapshot_session", false) }
