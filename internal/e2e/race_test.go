//go:build race

package e2e

// raceEnabled: the race detector's own memory comes on top of everything.
const raceEnabled = true
