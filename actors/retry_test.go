package actors

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestDelaysGrowToTheirMaximum(t *testing.T) {
	t.Parallel()
	r := newRetries(RetryConfig{Initial: time.Second, Max: 10 * time.Second, Multiplier: 3}, new(World))
	for i, want := range []time.Duration{time.Second, 3 * time.Second, 9 * time.Second, 10 * time.Second, 10 * time.Second} {
		if d, _ := r.next("it", nil, 0, false); d != want {
			t.Errorf("delay %d is %v, want %v", i, d, want)
		}
	}
	r.progressed(0)
	if d, _ := r.next("it", nil, 0, false); d != time.Second || r.attempts != 1 {
		t.Errorf("after progress: %v, attempt %d", d, r.attempts)
	}
}

func TestJitterStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	low, high := time.Hour, time.Duration(0)
	for range 2000 {
		r := newRetries(RetryConfig{Initial: 10 * time.Second, Max: 12 * time.Second, Multiplier: 2, Jitter: 0.5}, new(World))
		d, _ := r.next("it", nil, 0, false)
		low, high = min(low, d), max(high, d)
	}
	if low < 5*time.Second || low > 7*time.Second || high != 12*time.Second {
		t.Errorf("delays from %v to %v", low, high)
	}
}

func TestTheServersWishIsAFloor(t *testing.T) {
	t.Parallel()
	cfg := RetryConfig{Initial: 10 * time.Second, Max: 10 * time.Second, Multiplier: 2}
	different := map[time.Duration]bool{}
	for range 100 {
		d, _ := newRetries(cfg, new(World)).next("it", nil, time.Minute, false)
		if d < time.Minute || d > 66*time.Second {
			t.Fatalf("a floor of 1m makes %v", d)
		}
		different[d] = true
	}
	if len(different) < 50 {
		t.Errorf("only %d different delays: everybody comes back at once", len(different))
	}
	if d, _ := newRetries(cfg, new(World)).next("it", nil, time.Second, false); d != 10*time.Second {
		t.Errorf("a floor below the delay makes %v", d)
	}
	if d, _ := newRetries(cfg, new(World)).next("it", nil, 10000*time.Hour, false); d > longestFloor*11/10 {
		t.Errorf("a clock gone wrong makes %v", d)
	}
}

func TestAOneShotCallGivesUpBeforeItWaitsInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRetries(RetryConfig{Initial: time.Second, Max: time.Second, Multiplier: 1, MaxElapsed: 10 * time.Second}, new(World))
		cause := errors.New("no network")
		if _, e := r.next("it", cause, time.Hour, true); e == nil || e.Attempts != 1 || !errors.Is(e, cause) || time.Until(e.NextRetryAt) < time.Hour {
			t.Errorf("an hour's wait is not given up: %+v", e)
		}
		r.progressed(0)
		for i := range 10 {
			if _, e := r.next("it", cause, 0, true); e != nil {
				t.Fatalf("given up after %d attempts: %v", i, e)
			}
			time.Sleep(time.Second)
		}
		if _, e := r.next("it", cause, 0, false); e != nil {
			t.Errorf("a call that is not one-shot gives up: %v", e)
		}
		if _, e := r.next("it", cause, 0, true); e == nil || e.Attempts != 12 {
			t.Errorf("not given up: %+v", e)
		}
	})
}
