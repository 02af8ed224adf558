// Package disk is a disk for SQLite that fails as it is told to: it is full, it refuses a write, or its power goes and
// with it what was written and not synced. It lies over the operating system's own files, so that everything but the
// faults is real.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// What a rule can answer.
const (
	Full   = sqlite3.FULL
	Broken = sqlite3.IOERR
)

// Disk is an SQLite VFS. Safe for concurrent use.
type Disk struct {
	name string

	mu    sync.Mutex
	ops   int64
	rule  func(op int64) error
	dead  bool
	files map[string]*platter // by path
}

// platter is what is known of a file: what survives a power cut for certain, and what may.
type platter struct {
	synced  []byte
	pending []change
}

// change is a write, or a truncation when data is nil.
type change struct {
	at   int64
	data []byte
}

var disks atomic.Int64

// New returns a disk that works, and registers it with SQLite until Remove.
func New() *Disk {
	d := &Disk{name: "disk-" + strconv.FormatInt(disks.Add(1), 10), files: map[string]*platter{}}
	vfs.Register(d.name, d)
	return d
}

// Name is what SQLite knows the disk by.
func (d *Disk) Name() string { return d.name }

// Remove takes the disk out of SQLite's hands.
func (d *Disk) Remove() { vfs.Unregister(d.name) }

// Ops counts the operations so far that change something: writes, truncations, syncs.
func (d *Disk) Ops() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Fail lets rule decide about each operation from now on: it is given the operation's number, counted from 1 since New,
// and an error of its own is that of the operation, which then does nothing. nil ends all failing.
func (d *Disk) Fail(rule func(op int64) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rule = rule
}

// PowerOff lets every operation fail from now on, for ever.
func (d *Disk) PowerOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

// Off reports whether the power is off.
func (d *Disk) Off() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// change counts an operation on a file, asks the rule, and notes what the operation does in the platter.
func (d *Disk) change(path string, note func(*platter)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return Broken
	}
	d.ops++
	if d.rule != nil {
		// The rule may look at the disk.
		rule, op := d.rule, d.ops
		d.mu.Unlock()
		err := rule(op)
		d.mu.Lock()
		if err != nil {
			return err
		}
	}
	if p := d.files[path]; p != nil {
		note(p)
	}
	return nil
}

// Loss says what a power cut leaves of what was not synced.
type Loss int

// The losses.
const (
	// All of it is gone.
	All Loss = iota
	// Some of it is gone: the first writes are there, up to any of them, and of those after it none or any, whatever their
	// order; one of those is torn at a multiple of 512 bytes.
	Some
)

// Image writes a database file and its log as a power cut leaves them, to another path.
func (d *Disk) Image(path, to string, loss Loss, r *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, suffix := range []string{"", "-wal", "-journal"} {
		p := d.files[path+suffix]
		if p == nil {
			continue
		}
		if err := os.WriteFile(to+suffix, p.after(loss, r), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (p *platter) after(loss Loss, r *rand.Rand) []byte {
	left := platter{synced: append([]byte(nil), p.synced...)}
	if loss == Some {
		whole := r.IntN(len(p.pending) + 1)
		left.pending = append(left.pending, p.pending[:whole]...)
		for _, c := range p.pending[whole:] {
			if r.IntN(4) == 0 {
				left.pending = append(left.pending, c)
			}
		}
		if n := len(left.pending) - whole; n > 0 {
			if torn := &left.pending[whole+r.IntN(n)]; len(torn.data) > 512 {
				torn.data = torn.data[:512*r.IntN(len(torn.data)/512)]
			}
		}
	}
	left.settle()
	return left.synced
}

// settle makes everything that is pending certain.
func (p *platter) settle() {
	for _, c := range p.pending {
		switch end := c.at + int64(len(c.data)); {
		case c.data == nil && c.at < int64(len(p.synced)):
			p.synced = p.synced[:c.at]
		case c.data == nil:
			p.synced = append(p.synced, make([]byte, c.at-int64(len(p.synced)))...)
		default:
			if grow := end - int64(len(p.synced)); grow > 0 {
				p.synced = append(p.synced, make([]byte, grow)...)
			}
			copy(p.synced[c.at:], c.data)
		}
	}
	p.pending = nil
}

// FullPathname implements vfs.VFS.
func (d *Disk) FullPathname(name string) (string, error) { return vfs.Find("os").FullPathname(name) }

// Access implements vfs.VFS.
func (d *Disk) Access(name string, flags vfs.AccessFlag) (bool, error) {
	return vfs.Find("os").Access(name, flags)
}

// Delete implements vfs.VFS. That a file is gone is certain at once.
func (d *Disk) Delete(name string, syncDir bool) error {
	if d.Off() {
		return Broken
	}
	d.mu.Lock()
	delete(d.files, name)
	d.mu.Unlock()
	return vfs.Find("os").Delete(name, syncDir)
}

// Open implements vfs.VFS; SQLite calls OpenFilename.
func (d *Disk) Open(string, vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	return nil, 0, sqlite3.CANTOPEN
}

// OpenFilename implements vfs.VFSFilename.
func (d *Disk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if d.Off() {
		return nil, 0, Broken
	}
	beneath, ok := vfs.Find("os").(vfs.VFSFilename)
	if !ok {
		return nil, 0, sqlite3.CANTOPEN
	}
	path := name.String()
	d.mu.Lock()
	defer d.mu.Unlock()
	if path != "" && d.files[path] == nil {
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, err
		}
		d.files[path] = &platter{synced: content} // what was there before was there long before
	}
	f, flags, err := beneath.OpenFilename(name, flags)
	if err != nil {
		return nil, flags, err
	}
	return &file{File: f, disk: d, path: path}, flags, nil
}

// file is an open file on the disk. Closing, locking and reading are the operating system's.
type file struct {
	vfs.File
	disk *Disk
	path string
}

// SharedMemory implements vfs.FileSharedMemory. It is no part of the disk, and does not survive a power cut.
func (f *file) SharedMemory() vfs.SharedMemory {
	if s, ok := f.File.(vfs.FileSharedMemory); ok {
		return s.SharedMemory()
	}
	return nil
}

func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if f.disk.Off() {
		return 0, Broken
	}
	n, err := f.File.ReadAt(p, at)
	if err == io.EOF { //nolint:errorlint // SQLite's VFS layer compares, so it must not be wrapped
		return n, io.EOF
	}
	return n, err
}

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	if err := f.disk.change(f.path, func(pl *platter) {
		pl.pending = append(pl.pending, change{at, append([]byte{}, p...)})
	}); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

func (f *file) Truncate(size int64) error {
	if err := f.disk.change(f.path, func(pl *platter) { pl.pending = append(pl.pending, change{at: size}) }); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) Sync(flags vfs.SyncFlag) error {
	// What a sync covers is certain; the operating system's own sync would only cost time.
	return f.disk.change(f.path, (*platter).settle)
}
