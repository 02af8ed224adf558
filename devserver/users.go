package devserver

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3/vfs/memdb"
)

// ErrClosed is answered by a Server's methods after Close.
var ErrClosed = errors.New("devserver: the server is closed")

// user is one account: a lock, the database while it is open, and those who watch it.
type user struct {
	id  string
	hub hub

	mu    sync.Mutex // held while the store is used
	store *store     // nil: closed
	swept bool       // remains of an earlier process are gone

	// Guarded by users.mu.
	entry *list.Element // in users.open while the store may be open
	last  time.Time
}

// users opens users' databases on demand and closes those used least.
type users struct {
	cfg     *Config
	tables  []*table
	dialect dialect
	memory  string // name prefix of in-memory databases

	mu     sync.Mutex
	all    map[string]*user
	open   *list.List // of *user, most recently used first
	closed bool

	stores atomic.Int64 // databases that are open
}

func newUsers(cfg *Config, tables []*table, d dialect) *users {
	return &users{cfg: cfg, tables: tables, dialect: d, memory: "devserver-" + rand.Text() + "-", all: map[string]*user{}, open: list.New()}
}

// getLocked returns the user, whose database need not be open.
func (us *users) getLocked(id string) *user {
	u := us.all[id]
	if u == nil {
		u = &user{id: id}
		us.all[id] = u
	}
	return u
}

// with runs fn on the user's open database, alone. A panic in fn, an exhausted SQLite among others, costs the
// connection and becomes an error.
func (us *users) with(id string, fn func(*user, *store) error) (err error) {
	u, surplus, err := us.touch(id)
	if err != nil {
		return err
	}
	for _, s := range surplus {
		us.closeIdle(s)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.store == nil {
		// Close takes every user's lock after it has set closed, so a store opened here is either seen by it or refused.
		if us.isClosed() {
			return ErrClosed
		}
		if u.store, err = us.openUser(u); err != nil {
			return err
		}
		u.swept = true
		us.stores.Add(1)
		us.list(u) // it can have been put out between touch and here
	}
	defer func() {
		if r := recover(); r != nil {
			_ = us.closeStore(u)
			err = fmt.Errorf("devserver: panic in the database of %q: %v", id, r)
		}
	}()
	return fn(u, u.store)
}

// touch marks the user as used now and returns those whose databases should be closed for it.
func (us *users) touch(id string) (*user, []*user, error) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.closed {
		return nil, nil, ErrClosed
	}
	u := us.getLocked(id)
	u.last = us.cfg.Now()
	if u.entry == nil {
		u.entry = us.open.PushFront(u)
	} else {
		us.open.MoveToFront(u.entry)
	}
	var surplus []*user
	for e := us.open.Back(); e != nil && e.Value != u; {
		v, ok := e.Value.(*user)
		if !ok || us.open.Len() <= us.cfg.MaxOpenUsers && u.last.Sub(v.last) < us.cfg.IdleTimeout {
			break
		}
		e = e.Prev()
		us.open.Remove(v.entry)
		v.entry = nil
		surplus = append(surplus, v)
	}
	return u, surplus, nil
}

// closeIdle closes the database of a user that went out of the open list. A busy one goes back into the list.
func (us *users) closeIdle(u *user) {
	if !u.mu.TryLock() {
		us.list(u)
		return
	}
	defer u.mu.Unlock()
	_ = us.closeStore(u)
}

// list puts a user into the open list unless it is there.
func (us *users) list(u *user) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if u.entry == nil {
		u.entry = us.open.PushFront(u)
	}
}

// closeStore closes a user's database if it is open. The caller holds the user.
func (us *users) closeStore(u *user) error {
	if u.store == nil {
		return nil
	}
	st := u.store
	u.store = nil
	us.stores.Add(-1)
	return st.close()
}

func (us *users) isClosed() bool {
	us.mu.Lock()
	defer us.mu.Unlock()
	return us.closed
}

// fileName is safe on every file system for any user id, and distinct.
func fileName(id string) string {
	sum := sha256.Sum256([]byte(id))
	readable := make([]byte, 0, 24)
	for i := 0; i < len(id) && len(readable) < cap(readable); i++ {
		if c := id[i]; c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			readable = append(readable, c)
		}
	}
	return "user-" + string(readable) + "-" + hex.EncodeToString(sum[:12])
}

func (us *users) openUser(u *user) (*store, error) {
	dsn := url.URL{Scheme: "file", OmitHost: true}
	values := url.Values{"_txlock": {"immediate"}}
	if us.cfg.InMemory {
		name := us.memory + fileName(u.id)
		if !u.swept {
			memdb.Create(name, nil)
		}
		dsn.Path = "/" + name
		values.Set("vfs", "memdb")
		values.Set("_pragma", "journal_mode(memory)")
	} else {
		path, err := filepath.Abs(filepath.Join(us.cfg.Dir, fileName(u.id)+".db"))
		if err != nil {
			return nil, err
		}
		dsn.Path = filepath.ToSlash(path)
		values.Set("_pragma", "journal_mode(wal)")
	}
	values.Add("_pragma", "busy_timeout(10000)")
	dsn.RawQuery = values.Encode()
	return openStore(dsn.String(), u.id, us.cfg.Schema, us.tables, us.dialect, !u.swept)
}

// forget drops a user's database altogether.
func (us *users) forget(id string) error {
	u, _, err := us.touch(id)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	err = us.closeStore(u)
	u.swept = false
	u.hub.end()
	if us.cfg.InMemory {
		memdb.Delete(us.memory + fileName(id))
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if rerr := os.Remove(filepath.Join(us.cfg.Dir, fileName(id)+".db"+suffix)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

func (us *users) stats() (known, open int) {
	us.mu.Lock()
	defer us.mu.Unlock()
	return len(us.all), int(us.stores.Load())
}

// close closes every database, after the work that holds it, and drops those in memory.
func (us *users) close() error {
	us.mu.Lock()
	already := us.closed
	us.closed = true
	all := make([]*user, 0, len(us.all))
	for _, u := range us.all {
		all = append(all, u)
	}
	us.mu.Unlock()
	if already {
		return nil
	}
	var err error
	for _, u := range all {
		u.mu.Lock()
		err = errors.Join(err, us.closeStore(u))
		if us.cfg.InMemory && u.swept {
			memdb.Delete(us.memory + fileName(u.id))
		}
		u.mu.Unlock()
	}
	return err
}
