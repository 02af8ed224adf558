package sim

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

// Times of a run.
const (
	leaseTTL   = 40 * time.Second
	sessionTTL = 60 * time.Second
	// pollInterval is how often background sync asks for what is new.
	pollInterval = 6 * time.Second
	// seldom is the same for devices that have to hear from the stream of changes what is new, or not at all.
	seldom = 2 * time.Hour
	// silence is how long a request waits whose answer never comes.
	silence = 20 * time.Second
	// settleWithin bounds the time, after the last fault, in which everything has to have come together.
	settleWithin = 30 * time.Minute
	// byItself bounds the time in which background sync has to have pushed and pulled everything, when nothing is wrong.
	byItself = 3 * time.Minute
	// tooMuch bounds the events of a run, a hundred times the usual number.
	tooMuch = 50_000
)

// Fault is a kind of fault. A run has some of them only: what one hides another run shows.
type Fault uint

// The faults.
const (
	Loss      Fault = 1 << iota // requests and answers get lost, late, doubled, cut
	Status                      // answers of gateways and of a server in trouble
	Garbage                     // answers that are none
	Partition                   // for a while nothing gets out, in, or either
	Restart                     // the server restarts, and its sessions are gone
	Prune                       // the server forgets history
	Retire                      // the server retires sources
	Kill                        // processes die
	Power                       // and the power goes
	Disk                        // disks are full or broken
	Busy                        // the application keeps transactions open
	Clock                       // clocks jump
	Leave                       // callers do not wait
	Detach                      // devices detach, and attach again
	Pause                       // uploads and downloads are paused
	Stream                      // streams of changes break, fall silent, are refused
	Restore                     // the server is restored from a backup
	Forget                      // the server forgets a user
	Copy                        // files of devices are copied, and both go on
	lastFault
)

var faultNames = []string{"loss", "status", "garbage", "partition", "restart", "prune", "retire", "kill", "power", "disk", "busy", "clock", "leave", "detach", "pause", "stream", "restore", "forget", "copy"}

// AllFaults is every kind of fault.
const AllFaults = lastFault - 1

func (f Fault) String() string {
	var names []string
	for i, name := range faultNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// plan is what a seed makes of a run before it begins.
type plan struct {
	contract wire.ContractName
	users    int
	devices  int // of the first user; each further user has one
	faults   Fault
	rate     float64 // how much goes wrong, 0…1
	wild     bool    // devices write what excludes each other
	streams  bool    // the server streams changes
	length   time.Duration
}

func newPlan(seed uint64, cfg *Config) plan {
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // chance is to be the same each time
	p := plan{contract: wire.ClassicContract, users: 1, devices: 1 + r.IntN(3), wild: r.IntN(3) == 0}
	if r.IntN(2) == 0 {
		p.contract = wire.UniformContract
	}
	if r.IntN(6) == 0 {
		p.users = 2
	}
	p.faults = Fault(r.Uint64()) & Fault(r.Uint64()|r.Uint64()) & AllFaults
	p.rate = pick(r, 0.02, 0.05, 0.1, 0.25)
	p.length = time.Duration(6+r.IntN(20)) * time.Second
	p.streams = r.IntN(8) > 0
	if cfg.Devices > 0 {
		p.devices = cfg.Devices
	}
	if cfg.Duration > 0 {
		p.length = cfg.Duration
	}
	p.faults &^= cfg.Without
	return p
}

func (p *plan) has(f Fault) bool { return p.faults&f != 0 }
