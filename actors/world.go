package actors

import (
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// World is what an engine gets from beyond itself: the time, chance, and who lets its actors run. The zero World is the
// real one. A simulator brings its own, and then everything an engine does follows from what the simulator does: there is
// no other clock, no other chance and no other goroutine in this package, except that of a resolver, which is waited for.
type World struct {
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// AfterFunc calls f after d, on a goroutine of its choice, unless stop is called first. Nil: time.AfterFunc.
	AfterFunc func(d time.Duration, f func()) (stop func())
	// Chance returns a number in [0, 1), another one each time: for the jitter of delays. Nil: math/rand.
	Chance func() float64
	// Dispatcher runs the actors of the engine. Nil: each on a goroutine of its own while it has something to do.
	Dispatcher actor.Dispatcher
}

func (w *World) now() time.Time {
	if w.Now == nil {
		return time.Now()
	}
	return w.Now()
}

func (w *World) afterFunc(d time.Duration, f func()) (stop func()) {
	if w.AfterFunc == nil {
		t := time.AfterFunc(d, f)
		return func() { t.Stop() }
	}
	return w.AfterFunc(d, f)
}

func (w *World) chance() float64 {
	if w.Chance == nil {
		return rand.Float64()
	}
	return w.Chance()
}
