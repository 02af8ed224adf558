// Package race tells tests whether the race detector watches, under which SQLite is twenty times as slow and memory is not
// what it is otherwise. What runs on one goroutine at a time is tried little or not at all there: the detector has
// nothing to find in it, and everything that runs side by side has the time instead.
package race

import (
	"flag"
	"strconv"
	"testing"
)

// FewProperties makes rapid try each property n times under the race detector, unless the command line says how often. It
// is called by TestMain, before the command line is read.
func FewProperties(n int) {
	if !Enabled {
		return
	}
	if err := flag.Set("rapid.checks", strconv.Itoa(n)); err != nil {
		panic(err)
	}
}

// Skip skips a test under the race detector, and says why.
func Skip(tb testing.TB, why string) {
	tb.Helper()
	if Enabled {
		tb.Skip("under the race detector: " + why)
	}
}
