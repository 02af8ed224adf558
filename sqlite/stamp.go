package sqlite

import (
	"time"

	"github.com/oversqlite/oversqlite/internal/failpoint"
	"github.com/oversqlite/oversqlite/local"
)

// glance is what State has found, and how to tell without opening the database that it would find the same again. Opening
// it costs some milliseconds of CPU, two calls of the file system some microseconds: an engine that has nothing to do looks
// with every heartbeat of its stream. It belongs to whoever calls State.
type glance struct {
	known bool
	state local.State
	stamp stamp // taken before the state was read: whatever it does not show was read
}

// stamp is what a file system tells of a database. While connections write to its log, a commit changes that; a log is only
// ever emptied or removed by writing what is in it to the database. Neither is written by way of a mapping.
type stamp struct {
	database, log fileStamp
}

// fileStamp is what a file system tells of a file: what every write changes, and what tells one file from another in its place.
// The zero value is a file that is not there.
type fileStamp struct {
	device, inode uint64
	size          int64
	written       int64 // nanoseconds; set at will by programs that copy files
	changed       int64 // nanoseconds; set by the kernel alone
}

// coarse is by how much a file system's time may lag behind a write. Two writes within that may leave the same stamp.
const coarse = 2 * time.Second

// settled reports whether a write that comes after now must change the stamp.
func (s *stamp) settled(now time.Time) bool {
	limit := now.Add(-coarse).UnixNano()
	return s.database != fileStamp{} && max(s.database.written, s.database.changed, s.log.written, s.log.changed) < limit
}

// stampNow takes a stamp. It reports false where nobody can tell, and for a stamp that the next write may leave as it is.
func (db *DB) stampNow() (s stamp, ok bool) {
	if failpoint.Disk(db.owner.path) != "" { // it keeps writes to itself
		return stamp{}, false
	}
	if s.database, ok = stampOf(db.owner.path); !ok {
		return stamp{}, false
	}
	if s.log, ok = stampOf(db.owner.path + "-wal"); !ok {
		return stamp{}, false
	}
	return s, s.settled(db.wall())
}

// unchanged returns what State returned last if the connection rests and nobody has written to the database since.
func (db *DB) unchanged() (local.State, bool) {
	db.rest.mu.Lock()
	rests := db.conn.raw == nil
	db.rest.mu.Unlock()
	g := &db.glance
	if !rests || !g.known || db.commits.untold() {
		return local.State{}, false
	}
	s, ok := db.stampNow()
	return g.state, ok && s == g.stamp
}

// saw keeps what State has found. ok says whether the stamp is any good.
func (g *glance) saw(st local.State, s stamp, ok bool) {
	st.Written = nil // they are told once
	g.known, g.state, g.stamp = ok, st, s
}
