package sim

import (
	"os"
	"strconv"
	"sync"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/internal/workload"
)

// emptyFile is the file of an application that has not written anything yet.
var emptyFile = sync.OnceValue(func() []byte {
	f, err := os.CreateTemp(scratch(), "oversqlite-sim-*.db")
	if err == nil {
		err = f.Close()
		defer os.Remove(f.Name())
	}
	if err != nil {
		fail("sim", "%v", err)
	}
	c, err := sqlite3.Open(f.Name())
	if err == nil {
		err = c.Exec(`PRAGMA page_size = 1024; VACUUM;` + workload.ClientSchema)
	}
	if err == nil {
		err = c.Close()
	}
	if err != nil {
		fail("sim", "%v", err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		fail("sim", "%v", err)
	}
	return b
})

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
