package actors

import (
	"testing"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// measureAll tells m one of everything.
func measureAll(m *Metrics) {
	m.rows(WayApplied, 1, 1)
	m.backoff("pull", 1, 1)
	m.conflict("keep_local")
	m.quarantined("server")
	m.pending(PendingWork{Rows: 1})
	m.run(VerbSync, OutcomeOK, 1)
	m.phase(messages.PhaseIdle, messages.PhasePulling)
	m.applied(nil)
	m.received(nil, nil)
}

func TestMetricsThatNobodyWantsCostNothing(t *testing.T) {
	for _, m := range []*Metrics{nil, {}} {
		if n := testing.AllocsPerRun(100, func() { measureAll(m) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		if m.ObserveRequests() != nil {
			t.Error("requests are measured for nobody")
		}
	}
}

func TestMetricsThatPanicHarmNobody(t *testing.T) {
	t.Parallel()
	calls := 0
	boom := func() { calls++; panic("metrics") }
	m := &Metrics{
		Request: func(RequestDone) { boom() }, Rows: func(Way, int64) { boom() }, Bundles: func(Way, int64) { boom() },
		Backoff: func(BackoffDelay) { boom() }, Conflict: func(string) { boom() }, Quarantined: func(string, int64) { boom() },
		Pending: func(PendingWork) { boom() }, Run: func(RunDone) { boom() }, Phase: func(_, _ messages.Phase) { boom() },
	}
	measureAll(m)
	m.ObserveRequests()(transport.Exchange{})
	if calls != 8 {
		t.Errorf("%d calls", calls)
	}
}

func TestRowsAreCountedOnTheirWay(t *testing.T) {
	t.Parallel()
	got := map[string]int64{}
	m := &Metrics{
		Rows:    func(w Way, n int64) { got["rows "+string(w)] += n },
		Bundles: func(w Way, n int64) { got["bundles "+string(w)] += n },
	}
	push := wire.CreatePushRequest{PlannedRowCount: 5}
	m.received(createPushRequest{push: push}, wire.CreatePushResponse{PushID: "p"})
	m.received(createPushRequest{push: push}, wire.CreatePushResponse{AlreadyCommitted: true})
	m.received(pushChunkRequest{}, nil)
	m.received(commitPushRequest{push: push}, wire.BundleMeta{})
	rows := make([]wire.Row, 3)
	m.received(pullRequest{}, wire.PullPage{Bundles: []wire.Bundle{{Rows: rows}, {Rows: rows[:1]}}})
	m.received(committedRowsRequest{}, wire.CommittedRowsPage{Rows: rows})
	m.received(snapshotPageRequest{}, wire.SnapshotPage{Rows: rows})
	m.applied(local.Applied{Rows: 4, Bundles: 2})
	m.applied(local.Restored{Rows: 3})
	want := map[string]int64{
		"rows pushed": 10, "bundles pushed": 2, "rows pulled": 7, "bundles pulled": 2, "rows snapshot": 3, "rows applied": 7, "bundles applied": 2,
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%s: %d, want %d", k, got[k], n)
		}
	}
}
