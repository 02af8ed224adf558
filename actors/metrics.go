package actors

import (
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// Metrics are functions that are told what an engine does, for counting. Each may be nil, and so may the whole: then
// nothing is measured and it costs nothing. It is a struct and not an interface so that it can grow.
//
// One Metrics may serve any number of engines. The functions are called from many goroutines, some of which everything
// else of an engine waits for: they must not block, nor call an engine. A panic in one is swallowed.
//
// All names (operations, classes, verbs, outcomes, phases, …) are of small fixed sets, fit for labels; nothing tells
// whose data it is.
type Metrics struct {
	// Request is told of each request to the server, when it has ended.
	Request func(RequestDone)
	// Rows and Bundles are told of rows and bundles on their way.
	Rows    func(way Way, n int64)
	Bundles func(way Way, n int64)
	// Backoff is told of each delay before something that failed is repeated.
	Backoff func(BackoffDelay)
	// Conflict is told of each conflict that was settled, and how: "accept_server", "keep_local", "keep_merged".
	Conflict func(resolution string)
	// Quarantined is told of rows that were set aside, and who found them: "server", "value", "collision", "dependency".
	Quarantined func(origin string, n int64)
	// Pending is told how much local work waits, whenever the engine has looked.
	Pending func(PendingWork)
	// Run is told of each call, or run of the engine's own, that has ended. Calls that only look are none.
	Run func(RunDone)
	// Phase is told that an engine went from one phase to another. From is "" for a new engine, to is "" for one that is no
	// more, so that what was added and taken away is the number of engines in each phase.
	Phase func(from, to messages.Phase)
}

// RequestDone is a request that has ended.
type RequestDone struct {
	Operation string        // e.g. "pull"
	Class     string        // "ok", or what the failure means, e.g. "transient", "auth"
	Took      time.Duration // until the whole answer was there; of a watch stream: until it was open
	Sent      int64         // bytes of its body
	Received  int64         // bytes of the answer's body, as far as read; of a watch stream: 0
}

// Way is on which way rows are.
type Way string

// The ways.
const (
	WayPushed   Way = "pushed"   // committed by the server. A push whose answer was lost is counted when it is asked about
	WayPulled   Way = "pulled"   // received as bundles, or as pages of one
	WaySnapshot Way = "snapshot" // received as pages of a snapshot
	WayApplied  Way = "applied"  // written to the local tables, from bundles and snapshots
)

// BackoffDelay is a delay before something that failed is repeated.
type BackoffDelay struct {
	Operation string // a request, e.g. "pull", or a local transaction, e.g. "freeze"
	Delay     time.Duration
	Attempt   int // failures in a row, from 1
}

// PendingWork is how much local work an engine has that the server does not have.
type PendingWork struct {
	Rows        int64
	Change      int64         // by how much Rows differs from what was told of this engine before: their sum is that of all engines
	Quarantined int64         // of Rows, those set aside
	OldestAge   time.Duration // since the oldest waiting row was last written; 0 when none waits
}

// RunDone is a call that has ended.
type RunDone struct {
	Verb    string // e.g. "Sync"
	Outcome Outcome
	Took    time.Duration // without the time in which it waited for its turn
}

// ObserveRequests returns what a transport is to tell of its requests; nil: nothing.
func (m *Metrics) ObserveRequests() func(transport.Exchange) {
	if m == nil || m.Request == nil {
		return nil
	}
	return func(x transport.Exchange) {
		class := "ok"
		if x.Class != transport.None {
			class = x.Class.String()
		}
		defer swallow()
		m.Request(RequestDone{Operation: x.Operation, Class: class, Took: x.Took, Sent: x.Sent, Received: x.Received})
	}
}

func (m *Metrics) rows(way Way, rows, bundles int64) {
	if m == nil {
		return
	}
	defer swallow()
	if rows > 0 && m.Rows != nil {
		m.Rows(way, rows)
	}
	if bundles > 0 && m.Bundles != nil {
		m.Bundles(way, bundles)
	}
}

// received counts what an answer brought.
func (m *Metrics) received(r request, answer any) {
	if m == nil {
		return
	}
	switch r := r.(type) {
	case createPushRequest:
		if a := answer.(wire.CreatePushResponse); a.AlreadyCommitted {
			m.rows(WayPushed, r.push.PlannedRowCount, 1)
		}
	case commitPushRequest:
		m.rows(WayPushed, r.push.PlannedRowCount, 1)
	case pullRequest:
		rows, bundles := 0, answer.(wire.PullPage).Bundles
		for i := range bundles {
			rows += len(bundles[i].Rows)
		}
		m.rows(WayPulled, int64(rows), int64(len(bundles)))
	case committedRowsRequest:
		m.rows(WayPulled, int64(len(answer.(wire.CommittedRowsPage).Rows)), 0)
	case snapshotPageRequest:
		m.rows(WaySnapshot, int64(len(answer.(wire.SnapshotPage).Rows)), 0)
	}
}

// applied counts what a transaction wrote.
func (m *Metrics) applied(result any) {
	if m == nil {
		return
	}
	switch r := result.(type) {
	case local.Applied:
		m.rows(WayApplied, r.Rows, int64(r.Bundles))
	case local.Restored:
		m.rows(WayApplied, r.Rows, 0)
	}
}

func (m *Metrics) backoff(operation string, delay time.Duration, attempt int) {
	if m != nil && m.Backoff != nil {
		defer swallow()
		m.Backoff(BackoffDelay{Operation: operation, Delay: delay, Attempt: attempt})
	}
}

func (m *Metrics) conflict(resolution string) {
	if m != nil && m.Conflict != nil {
		defer swallow()
		m.Conflict(resolution)
	}
}

func (m *Metrics) quarantined(origin string) {
	if m != nil && m.Quarantined != nil {
		defer swallow()
		m.Quarantined(origin, 1)
	}
}

func (m *Metrics) pending(w PendingWork) {
	if m != nil && m.Pending != nil {
		defer swallow()
		m.Pending(w)
	}
}

func (m *Metrics) run(verb Verb, outcome Outcome, took time.Duration) {
	if m != nil && m.Run != nil {
		defer swallow()
		m.Run(RunDone{Verb: verb.String(), Outcome: outcome, Took: took})
	}
}

func (m *Metrics) phase(from, to messages.Phase) {
	if m != nil && m.Phase != nil && from != to {
		defer swallow()
		m.Phase(from, to)
	}
}
