package devserver

import (
	"time"

	"github.com/ncruces/go-sqlite3/ext/serdes"
)

// This file holds what happens to servers rather than on them: one is restored from a backup, and somebody retires a
// source by hand.

// Backup returns a copy of everything that the server has of a user, for Restore.
func (s *Server) Backup(userID string) (backup []byte, err error) {
	err = s.users.with(userID, func(_ *user, st *store) (err error) {
		backup, err = serdes.Serialize(st.raw, "main")
		return err
	})
	return backup, err
}

// Restore makes a user what he was when the backup was taken: what was committed since has never been. Sessions that
// are open are void, watchers are told that something has changed.
func (s *Server) Restore(userID string, backup []byte) error {
	return s.users.with(userID, func(u *user, st *store) error {
		s.sessions.takeOld(userID, s.cfg.Now(), func(*session) time.Duration { return 0 }, func(*session) bool { return true })
		if err := serdes.Deserialize(st.raw, "main", backup); err != nil {
			return err
		}
		u.hub.end()
		return st.tx(func() error {
			if err := st.run(`DELETE FROM _server_push_row`); err != nil {
				return err
			}
			return st.run(`DELETE FROM _server_snapshot_row`)
		})
	})
}

// LoseSessions ends a user's sessions and watches, as a restart of the server does.
func (s *Server) LoseSessions(userID string) error {
	return s.users.with(userID, func(u *user, st *store) error {
		old := s.sessions.takeOld(userID, s.cfg.Now(), func(*session) time.Duration { return 0 }, func(*session) bool { return true })
		u.hub.end()
		for _, o := range old {
			if err := st.tx(func() error { return st.drop(o) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// RetireSource retires a source in favour of another one, as a client's source_replacement does.
func (s *Server) RetireSource(userID, previous, next string) error {
	return s.users.with(userID, func(_ *user, st *store) error {
		return st.tx(func() error { return st.replaceSource(&replacement{Previous: previous, New: next}) })
	})
}
