package actors

import (
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// TestK21_LargeBundlesAreFetchedInFewVainRequests pulls through a server of whose bundles only so many fit an answer.
func TestK21_LargeBundlesAreFetchedInFewVainRequests(t *testing.T) {
	t.Parallel()
	for _, fit := range []int64{1, 2, 3, 100, 700, 1000, 5000} {
		const stable = 50_000
		m := newPullMachine(Limits{}, false, 0)
		asked, vain := 0, 0
		var ev event = evStartPull{messages.Pull{Run: 1, Link: testLink}}
		for ev != nil {
			effects := m.step(ev)
			ev = nil
			for _, e := range effects {
				switch e := e.(type) {
				case fxTell:
					ev = evAnswer{ref: e.ref, result: attached(0)}
					if c, ok := e.command.(messages.ApplyBundles); ok {
						ev = evAnswer{ref: e.ref, result: local.Applied{Checkpoint: c.Bundles[len(c.Bundles)-1].Seq}}
					}
				case fxAsk:
					r := e.request.(pullRequest).page
					asked++
					if r.MaxBundles > fit {
						vain++
						ev = evAnswer{ref: e.ref, err: &transport.BodyTooLargeError{Operation: "pull", Limit: 1}}
						continue
					}
					page := wire.PullPage{StableSeq: stable}
					for seq := r.After + 1; seq <= min(r.After+r.MaxBundles, stable); seq++ {
						page.Bundles = append(page.Bundles, wire.Bundle{BundleMeta: wire.BundleMeta{Seq: seq}})
					}
					page.HasMore = r.After+int64(len(page.Bundles)) < stable
					ev = evAnswer{ref: e.ref, result: page}
				case fxReport:
					if d, ok := e.message.(messages.PullDone); ok && (d.Err != nil || d.Verdict != messages.PullIncremental) {
						t.Fatalf("done: %+v", d)
					}
				}
			}
		}
		t.Logf("%d fit: %d requests, %d in vain", fit, asked, vain)
		if vain > asked/5+10 || m.checkpoint != stable {
			t.Errorf("%d fit: %d of %d requests were in vain, the checkpoint is %d", fit, vain, asked, m.checkpoint)
		}
	}
}

// What a machine holds while it is idle holds no rows: thousands of idle engines share a process.
func TestAnIdleMachineHoldsNoRows(t *testing.T) {
	t.Parallel()
	s := newStage(false, false, false)
	for _, line := range []string{"pull run=1", "state checkpoint=5", "bundles from=6 to=7 stable=7", "applied checkpoint=7"} {
		s.tell(t, line)
	}
	for _, e := range s.flow.out[:cap(s.flow.out)] {
		if _, ok := e.(fxTell); ok {
			t.Errorf("an idle machine holds %s", spellEffect(e))
		}
	}
	if s.flow.given != nil {
		t.Error("an idle machine holds its last effect")
	}
}
