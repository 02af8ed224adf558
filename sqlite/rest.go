package sqlite

import (
	"context"
	"sync"
	"time"
)

// restAfter is by default how long the engine's connection stays open unused. What SQLite takes it gives back only when the
// connection closes: 0.4 to 1 MB for an ordinary schema, and up to its cache more after a large transaction. Opening
// one takes about a millisecond. So an engine that has nothing to do holds next to nothing, and comes back at once.
const restAfter = time.Second

// resting is the life of the engine's connection.
type resting struct {
	mu    sync.Mutex
	users int         // operations, or groups of them, that use the connection
	timer *time.Timer // nil, or armed to close it
}

// hold counts an operation, opens the connection if it rests, and keeps both until release is called. Holds nest:
// transactions hold the connection by themselves, and whoever needs several on the same one, for its temporary tables or
// settings, holds it around them.
func (db *DB) hold(ctx context.Context) (release func(), err error) {
	if err := db.begin(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.life.end()
		}
	}()
	r := &db.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	if db.conn.raw == nil {
		raw, err := db.connect(ctx)
		if err != nil {
			return nil, err
		}
		db.conn.raw = raw
	}
	r.disarm()
	r.users++
	return db.release, nil
}

func (db *DB) release() {
	defer db.life.end()
	r := &db.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.users > 0 {
		return
	}
	if db.conn.broken {
		if err := db.conn.close(); err != nil {
			db.report("close a broken connection", err)
			db.conn.raw, db.conn.broken = nil, false // its memory is lost, the database is not
		}
		return
	}
	if db.cfg.RestAfter < 0 {
		return
	}
	r.timer = time.AfterFunc(db.cfg.RestAfter, func() {
		if err := db.sleep(); err != nil {
			db.report("close an unused connection", err)
		}
	})
}

// sleep closes the connection unless it is in use.
func (db *DB) sleep() error {
	r := &db.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users > 0 || db.conn.raw == nil {
		return nil
	}
	r.disarm()
	return db.conn.close()
}

func (r *resting) disarm() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}
