package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/oversqlite/oversqlite/local"
)

// lockSuffix is appended to the real path of a database to name its lock file. The file is empty, exists while an
// engine has the database open, and is removed by Close. The lock is the operating system's: it dies with its
// holder, so a file left behind by a crash means nothing.
const lockSuffix = ".oversqlite-lock"

// maxSymlinks bounds the resolution of a chain of links to a file that does not exist yet.
const maxSymlinks = 40

// owners holds the real paths of the databases this process owns. File locks alone would not do: two handles of one
// process must not fight over one lock file, and the caller deserves to know that the other engine is its own.
var owners = struct {
	sync.Mutex
	paths map[string]bool
}{paths: map[string]bool{}}

// owner is the ownership of one database file.
type owner struct {
	path string // real path of the database
	lock *flock.Flock
}

// own takes ownership of the database at path, which need not exist. It never waits.
func own(path string) (*owner, error) {
	path, err := realPath(path)
	if err != nil {
		return nil, databaseError("open", path, err)
	}
	owners.Lock()
	defer owners.Unlock()
	if owners.paths[path] {
		return nil, &local.DatabaseOwnedError{Path: path, ThisProcess: true}
	}
	lock, err := lockFile(path + lockSuffix)
	if err != nil {
		return nil, databaseError("open", path, err)
	}
	if lock == nil {
		return nil, &local.DatabaseOwnedError{Path: path}
	}
	owners.paths[path] = true
	return &owner{path: path, lock: lock}, nil
}

// lockFile locks the file at name, creating it; nil without an error when somebody else holds the lock.
func lockFile(name string) (*flock.Flock, error) {
	for {
		lock := flock.New(name)
		ok, err := lock.TryLock()
		if err != nil || !ok {
			return nil, errors.Join(err, lock.Close())
		}
		// The holder before us may have removed the file between our opening and our locking it. Then this lock is on
		// a file that nobody else will ever look at.
		held, err := lock.Stat()
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		named, err := os.Stat(name)
		if err == nil && os.SameFile(held, named) {
			return lock, nil
		}
		if cerr := lock.Close(); cerr != nil {
			return nil, cerr
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// release gives the database up and removes the lock file.
func (o *owner) release() error {
	owners.Lock()
	defer owners.Unlock()
	// Removed while still locked; see lockFile for who may have opened it meanwhile. Where an open file cannot be
	// removed it stays, empty and unlocked.
	_ = os.Remove(o.path + lockSuffix)
	err := o.lock.Close()
	delete(owners.paths, o.path)
	return err
}

// realPath returns the absolute path of the file that name stands for, with every symbolic link resolved, also when
// the file itself does not exist.
func realPath(name string) (string, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return name, err
	}
	for range maxSymlinks {
		real, err := filepath.EvalSymlinks(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return real, err
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return path, err
		}
		path = filepath.Join(dir, filepath.Base(path))
		target, err := os.Readlink(path)
		if err != nil { // no link: the file is yet to be created
			return path, nil //nolint:nilerr // only tells a link from no link
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return path, fmt.Errorf("more than %d symbolic links", maxSymlinks)
}
