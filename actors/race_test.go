//go:build race

package actors

// raceEnabled: machines run on one goroutine and are many times as slow under the race detector, which has nothing to find there.
const raceEnabled = true
