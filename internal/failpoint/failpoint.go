// Package failpoint names the moments at which a process can die, so that tests can let it die at each of them, one
// after the other. It is the one package below internal that other code than tests imports: a step that is missing
// here is a step whose crash nobody tries, so the points sit in the few functions through which every transaction and
// every request has to pass, and not in the tests.
//
// A point costs one atomic load while no hook is set, and points lie at the boundaries of transactions and requests, never
// at rows. Nothing here reads the environment or a configuration by itself: a hook is set by a test, or by the process
// that a test starts in order to kill it.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Moment says on which side of a step a point lies.
type Moment string

// The moments.
const (
	BeforeCommit  Moment = "before commit of"  // everything of a transaction is written, nothing of it counts
	AfterCommit   Moment = "after commit of"   // nobody has heard of it yet
	BeforeRequest Moment = "before request to" // it has not left
	AfterAnswer   Moment = "after answer to"   // nothing has been made of it
)

// Point names the point of a step at a moment, the step by the name that its errors carry.
func Point(m Moment, step string) string { return string(m) + " " + step }

// hook is told of points. nil: none is.
var hook atomic.Pointer[func(point string)]

// At is reached by code that is about to do something, or has done it.
func At(m Moment, step string) {
	if h := hook.Load(); h != nil {
		(*h)(Point(m, step))
	}
}

// Set makes h be told of every point that is reached, on the goroutine that reaches it, until the returned function is
// called. There is one hook in a process.
func Set(h func(point string)) (clear func()) {
	if !hook.CompareAndSwap(nil, &h) {
		panic("failpoint: there is a hook already")
	}
	return func() { hook.CompareAndSwap(&h, nil) }
}

// Kill returns a hook that ends the process when a point is reached for the nth time, counted from 1. The process gets
// no chance to do anything more: no deferred function runs, no buffer is written.
func Kill(point string, n int64) func(point string) {
	var hits atomic.Int64
	return func(reached string) {
		if reached == point && hits.Add(1) == n {
			die()
		}
	}
}

// die ends the process as a killed one ends: SIGKILL, on Windows TerminateProcess.
func die() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(fmt.Sprintf("failpoint: the process cannot be killed: %v", err))
	}
	select {} // until the signal has arrived
}

// Spell and Parse are the form in which a process is told where to die: "point:n".
func Spell(point string, n int64) string { return point + ":" + strconv.FormatInt(n, 10) }

// Parse reads what Spell wrote.
func Parse(s string) (point string, n int64, err error) {
	i := strings.LastIndexByte(s, ':')
	if i > 0 {
		if n, err = strconv.ParseInt(s[i+1:], 10, 64); err == nil && n > 0 {
			return s[:i], n, nil
		}
	}
	return "", 0, fmt.Errorf("failpoint: %q is not of the form point:n", s)
}

// disks are the file systems of database files that are not on the operating system's own. nil: there are none.
var disks atomic.Pointer[sync.Map]

// PutOn makes the database file at path, which has to be its real path, be opened through the SQLite VFS of that name,
// until the returned function is called: that of a disk that fails.
func PutOn(path, vfs string) (clear func()) {
	disks.CompareAndSwap(nil, new(sync.Map))
	disks.Load().Store(path, vfs)
	return func() { disks.Load().Delete(path) }
}

// Disk returns the VFS through which a database file has to be opened; "" is the operating system's own.
func Disk(path string) string {
	m := disks.Load()
	if m == nil {
		return ""
	}
	name, _ := m.Load(path)
	s, _ := name.(string)
	return s
}
