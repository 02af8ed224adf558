package actors

import (
	"math"
	"time"
)

// How a server that was away is gone back to.
const (
	rampRate   = 50.0            // engines a second at first
	rampDouble = 2 * time.Second // after so long it is twice as many
	// rampGrowth is by how much a turn raises the rate: what doubles it in that time.
	rampGrowth = math.Ln2 / float64(rampDouble/time.Second)
)

// ramp is a timetable: one turn for each ticket, in the order of the tickets, at a rate that grows with each turn that is given. So
// it grows exponentially as long as they are asked for, and not at all while nobody asks.
type ramp struct {
	start time.Time
	first uint64  // the ticket whose turn is at the start; the turns of smaller ones are over
	rate  float64 // a second, at the start
}

// rateOf is the rate when it is a ticket's turn.
func (r *ramp) rateOf(ticket uint64) float64 {
	if ticket <= r.first {
		return r.rate
	}
	return r.rate + rampGrowth*float64(ticket-r.first)
}

// turn is when a ticket's turn is: the time from one to the next is one by the rate.
func (r *ramp) turn(ticket uint64) time.Time {
	if ticket <= r.first {
		return r.start
	}
	return r.start.Add(time.Duration(math.Log(r.rateOf(ticket)/r.rate) / rampGrowth * float64(time.Second)))
}

// move moves the turn of a ticket to a time, and those of all later ones with it.
func (r *ramp) move(ticket uint64, start time.Time) {
	r.rate = r.rateOf(ticket)
	r.start, r.first = start, max(r.first, ticket)
}
