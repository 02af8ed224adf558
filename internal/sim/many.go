package sim

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Many simulates the histories of n seeds, from cfg.Seed on, as many at a time as there are processors. each is told of every
// result, one at a time, in whatever order they come. It ends early with ctx.
func Many(ctx context.Context, cfg Config, n int, each func(Result)) error {
	var next atomic.Uint64
	var mu sync.Mutex
	var failure error
	var running sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		running.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= uint64(n) { //nolint:gosec // n is a count
					return
				}
				one := cfg
				one.Seed += i
				r, err := Run(one)
				mu.Lock()
				if err != nil {
					failure = err
				} else {
					each(r)
				}
				stop := failure != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	running.Wait()
	return failure
}

// Shrink looks for a shorter history of a seed that still goes wrong in the same way: with fewer devices, fewer kinds of
// faults, fewer faults, fewer acts. It gives up after a while.
func Shrink(ctx context.Context, found Result, atMost time.Duration) (Result, error) {
	best := found
	end := time.Now().Add(atMost)
	try := func(change func(*Config)) (bool, error) {
		if ctx.Err() != nil || time.Now().After(end) {
			return false, nil
		}
		cfg := best.Config
		cfg.Trace = nil
		change(&cfg)
		r, err := Run(cfg)
		if err != nil || r.Rule != found.Rule || r.Lines >= best.Lines {
			return false, err
		}
		best = r
		return true, nil
	}
	for again := true; again; {
		again = false
		for _, change := range steps(&best) {
			better, err := try(change)
			if err != nil {
				return best, err
			}
			again = again || better
		}
	}
	return best, nil
}

// steps are the ways in which a history may be made shorter.
func steps(of *Result) (out []func(*Config)) {
	for devices := 1; devices <= 2; devices++ {
		if of.Config.Devices == 0 || devices < of.Config.Devices {
			out = append(out, func(c *Config) { c.Devices = devices })
		}
	}
	for f := Fault(1); f < lastFault; f <<= 1 {
		if of.Config.Without&f == 0 {
			out = append(out, func(c *Config) { c.Without |= f })
		}
	}
	for _, part := range []int{2, 4, 8} { // what is left of the half, the quarter, the eighth that is taken away
		if n := of.Faults - of.Faults/part; n > 0 && n < of.Faults {
			out = append(out, func(c *Config) { c.MaxFaults = n })
		}
		if n := of.Acts - of.Acts/part; n > 0 && n < of.Acts {
			out = append(out, func(c *Config) { c.MaxActs = n })
		}
	}
	return out
}
