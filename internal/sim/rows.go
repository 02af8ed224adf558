package sim

import (
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/internal/workload"
)

// What applications do here is the workload that the tests of the real engine share.
type (
	place  = workload.Place
	row    = workload.Row
	writer = workload.Writer
)

var tables = workload.Tables

func places[V any](of map[place]V) []place { return workload.Places(of) }

func tableNamed(name string) *workload.Table {
	t := workload.Named(name)
	if t == nil {
		fail("sim", "there is no table %q", name)
	}
	return t
}

// constraint reports whether SQLite refused a statement for what is in the tables: the application meets that as well.
func constraint(err error) bool { return errors.Is(err, sqlite3.CONSTRAINT) }
