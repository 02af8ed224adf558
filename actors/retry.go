package actors

import (
	"errors"
	"math"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/oversqlite/oversqlite/messages"
)

// RetryConfig says how transient failures are repeated.
type RetryConfig struct {
	Initial    time.Duration // first delay
	Max        time.Duration // longest delay of our own; a server may ask for more
	Multiplier float64       // growth of the delay from one failure to the next
	Jitter     float64       // 0…1: how far a delay may be off its nominal value, either way
	// MaxElapsed is how long a one-shot call goes on failing before it gives up, counted from the first failure
	// since it last made progress; 0: it never gives up.
	MaxElapsed time.Duration
}

// longestFloor bounds what a server can ask for: a clock gone wrong must not silence a client for years.
const longestFloor = 24 * time.Hour

// retries chooses the delays between the attempts of one owner. It is not safe for concurrent use.
type retries struct {
	cfg      RetryConfig
	world    *World
	bo       *backoff.ExponentialBackOff
	attempts int       // failures since the last progress
	since    time.Time // of the first of them that was counted here
}

func newRetries(cfg RetryConfig, world *World) *retries {
	return &retries{cfg: cfg, world: world, bo: backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(cfg.Initial),
		backoff.WithMaxInterval(cfg.Max),
		backoff.WithMultiplier(cfg.Multiplier),
		backoff.WithRandomizationFactor(0), // chance comes from the world, see jittered
		backoff.WithMaxElapsedTime(0),      // what a one-shot call has left is decided here, with the server's wish in it
	)}
}

// progressed forgets the failures so far, or all but so many: delays go on from there.
func (r *retries) progressed(failures int) {
	r.bo.Reset()
	for range min(failures, 64) { // by then a delay is as long as it gets
		r.bo.NextBackOff()
	}
	r.attempts, r.since = failures, time.Time{}
}

// next counts a failure and returns the delay before the next attempt, never less than floor. A one-shot call whose
// time does not reach that far is given up instead.
func (r *retries) next(operation string, err error, floor time.Duration, oneShot bool) (time.Duration, *messages.RetryExhaustedError) {
	delay := r.cfg.scattered(r.bo.NextBackOff(), floor, r.world.chance)
	return r.after(delay, operation, err, oneShot)
}

// turn is next for a failure after which the gate has said when to come again: that is no shared instant, and nothing is added to it.
// A request that was not even sent does not make the delays grow.
func (r *retries) turn(operation string, err error, turn time.Time, oneShot bool) (time.Duration, *messages.RetryExhaustedError) {
	delay := max(0, turn.Sub(r.world.now()))
	var held *messages.HeldBackError
	if !errors.As(err, &held) {
		delay = max(delay, r.cfg.scattered(r.bo.NextBackOff(), 0, r.world.chance))
	}
	return r.after(delay, operation, err, oneShot)
}

// after counts a failure that is repeated after a delay, unless the call gives up.
func (r *retries) after(delay time.Duration, operation string, err error, oneShot bool) (time.Duration, *messages.RetryExhaustedError) {
	now := r.world.now()
	if r.since.IsZero() {
		r.since = now
	}
	r.attempts++
	if oneShot && r.cfg.MaxElapsed > 0 && now.Sub(r.since)+delay > r.cfg.MaxElapsed {
		return 0, &messages.RetryExhaustedError{Operation: operation, Attempts: r.attempts, LastErr: err, NextRetryAt: now.Add(delay)}
	}
	return delay, nil
}

// scattered moves a delay off its nominal value, by at most Jitter of it either way, and has it last no less than floor.
func (c RetryConfig) scattered(nominal, floor time.Duration, chance func() float64) time.Duration {
	d := min(nominal+time.Duration(c.Jitter*(2*chance()-1)*float64(nominal)), c.Max)
	if floor = min(floor, longestFloor); floor > d {
		// Upwards only, and a little: whoever was told the same must not come back in the same instant.
		d = floor + time.Duration(chance()*float64(floor/10))
	}
	return d
}

// between is the delay after so many failures in a row. It is what retries chooses, for those who must not keep anything
// but the count: machines.
func (c RetryConfig) between(failures int, floor time.Duration, chance func() float64) time.Duration {
	nominal := math.Min(float64(c.Initial)*math.Pow(c.Multiplier, float64(failures-1)), float64(c.Max))
	return c.scattered(time.Duration(nominal), floor, chance)
}
