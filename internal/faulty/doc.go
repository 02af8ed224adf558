// Package faulty is a network that misbehaves on purpose: an http.RoundTripper that injects faults into the exchanges
// of an engine with its server. Tests use it to show that an engine survives them.
//
// What happens to the n-th request of an endpoint follows from the seed alone, whatever else is on the wire at the
// same time, so that a failing run can be run again.
package faulty
