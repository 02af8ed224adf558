//go:build linux || darwin || freebsd || netbsd || openbsd

package sqlite

import (
	"errors"

	"golang.org/x/sys/unix"
)

// stampOf asks the file system about a file. One that is not there has a stamp, too. It reports false when the file system
// does not say.
func stampOf(path string) (fileStamp, bool) {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case errors.Is(err, unix.ENOENT):
		return fileStamp{}, true
	case err != nil:
		return fileStamp{}, false
	}
	return fileStamp{
		device: uint64(st.Dev), inode: st.Ino, size: st.Size, //nolint:unconvert // its type is another on each system
		written: st.Mtim.Nano(), changed: st.Ctim.Nano(),
	}, true
}
