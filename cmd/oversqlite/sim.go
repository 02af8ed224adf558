package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/oversqlite/oversqlite/internal/sim"
)

type simCmd struct {
	Seeds    int           `default:"100" help:"How many histories to simulate, one a seed (${default})."`
	Seed     uint64        `help:"The first seed; with --trace, the only one. By default it is drawn, and told."`
	Devices  int           `help:"Devices of the first user, instead of what the seed has."`
	Duration time.Duration `help:"Virtual time of a history, instead of what the seed has: how long things go wrong before all has to come together."`
	Without  uint          `hidden:"" help:"Kinds of faults to leave out, as a sum of bits."`
	Faults   int           `hidden:"" help:"Faults at most."`
	Acts     int           `hidden:"" help:"Acts of applications at most."`
	Trace    bool          `help:"Tell everything that happens in the history of one seed."`
	NoShrink bool          `help:"Do not look for a shorter history in which the same goes wrong."`
}

// errSimulated is returned for histories that went wrong, which have been told of.
var errSimulated = errors.New("the simulation has findings")

func (s *simCmd) Run(ctx context.Context, c *console) error {
	if s.Seeds < 1 || s.Devices < 0 || s.Duration < 0 {
		return &usageError{problem: "there is nothing to simulate", hint: "Ask for one seed or more."}
	}
	cfg := sim.Config{Seed: s.Seed, Devices: s.Devices, Duration: s.Duration, Without: sim.Fault(s.Without), MaxFaults: s.Faults, MaxActs: s.Acts}
	if s.Trace {
		return s.tell(c, cfg)
	}
	if cfg.Seed == 0 {
		cfg.Seed = 1 + rand.Uint64N(1<<40) //nolint:gosec // any seed will do
	}
	began, told := time.Now(), time.Now()
	var done, faults, lines int
	var virtual time.Duration
	var found []sim.Result
	err := sim.Many(ctx, cfg, s.Seeds, func(r sim.Result) {
		done++
		faults += r.Faults
		lines += r.Lines
		virtual += r.Time
		if r.Failed() {
			found = append(found, r)
			c.say("seed %d: %s: %s\n  %s", r.Config.Seed, r.Rule, r.Finding, r.Plan)
		}
		if c.interactive && time.Since(told) > time.Second {
			told = time.Now()
			c.note("%d of %d histories, %d findings", done, s.Seeds, len(found))
		}
	})
	if err != nil {
		return err
	}
	c.say("%d histories from seed %d in %s: %d findings, %d faults, %d events, %s of virtual time",
		done, cfg.Seed, time.Since(began).Round(10*time.Millisecond), len(found), faults, lines, virtual.Round(time.Second))
	if len(found) == 0 {
		return ctx.Err()
	}
	return s.shrink(ctx, c, found[0])
}

// shrink tells of the shortest history there is of a finding.
func (s *simCmd) shrink(ctx context.Context, c *console, found sim.Result) error {
	if !s.NoShrink {
		var err error
		if found, err = sim.Shrink(ctx, found, time.Minute); err != nil {
			return err
		}
	}
	c.say("\n%s: %s\noversqlite sim --trace%s", found.Rule, found.Finding, arguments(found.Config))
	return errSimulated
}

// arguments says how to play a history again.
func arguments(cfg sim.Config) (s string) {
	add := func(name string, value any, there bool) {
		if there {
			s += fmt.Sprintf(" --%s=%v", name, value)
		}
	}
	add("seed", cfg.Seed, true)
	add("devices", cfg.Devices, cfg.Devices > 0)
	add("duration", cfg.Duration, cfg.Duration > 0)
	add("without", uint(cfg.Without), cfg.Without > 0)
	add("faults", cfg.MaxFaults, cfg.MaxFaults > 0)
	add("acts", cfg.MaxActs, cfg.MaxActs > 0)
	return s
}

// tell plays one history and tells everything that happens in it.
func (s *simCmd) tell(c *console, cfg sim.Config) error {
	cfg.Trace = c.out
	r, err := sim.Run(cfg)
	if err != nil {
		return err
	}
	c.say("%s\n%d events, %d faults, %d acts, hash %016x", r.Plan, r.Lines, r.Faults, r.Acts, r.Hash)
	if r.Failed() {
		return errSimulated
	}
	return nil
}
