//go:build race

package sqlite

import (
	"flag"

	_ "pgregory.net/rapid" // its flags
)

// raceEnabled: the race detector's own memory comes on top of everything.
const raceEnabled = true

// SQLite is one goroutine's at a time and twenty times as slow under the race detector, which has little to find there:
// properties are tried a few times only, unless the command line says how often.
func init() { _ = flag.Set("rapid.checks", "10") }
