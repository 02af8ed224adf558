//go:build race

package sqlite

// raceEnabled: the race detector's own memory comes on top of everything.
const raceEnabled = true
