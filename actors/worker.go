package actors

import (
	"context"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// RetryLater is the failure with which a worker says that its request may succeed later. Its owner, who supervises
// it, turns it into a delay; no other actor ever fails on purpose.
//
// It carries no progress: an owner has one request outstanding, so it has seen every answer that came before.
type RetryLater struct {
	After     time.Duration // the server's wish, a floor for the delay; 0: none
	Turn      time.Time     // when the gate expects the next attempt, in place of After; zero: it does not care
	Operation string
	Err       error
}

func (e *RetryLater) Error() string {
	return "oversqlite: " + e.Operation + " may succeed later: " + e.Err.Error()
}

func (e *RetryLater) Unwrap() error { return e.Err }

// ResolveFunc asks the application what is to become of a conflict. It may block until its context ends.
type ResolveFunc func(context.Context, local.Conflict) (local.Resolution, error)

// network is what the workers of an engine share. It is not changed once they run.
type network struct {
	client         endpoints
	visitor        *visitor // of the gate before the server; nil: there is none
	resolve        ResolveFunc
	resolveTimeout time.Duration // of one call of resolve
	log            *zap.Logger
	metrics        *Metrics
	world          World
}

// job is what a worker receives.
type job struct {
	ref     uint64
	ctx     context.Context //nolint:containedctx // the job's owner cancels it
	request request
	// discard, when not nil, marks a request whose outcome matters to nobody; it releases ctx. The worker ends with it.
	discard context.CancelFunc
}

// answered is what a worker tells its owner, its parent.
type answered struct {
	ref    uint64
	result any
	err    error
	served bool // the server has answered, whatever it said
}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: owners end while workers answer.
func (answered) IgnoreDeadLetterLogging() {}

// worker is a leaf: it makes one request at a time, blocking in Receive on its own goroutine, and has no state, so
// that a restart costs nothing. The context of a job, which its owner cancels, ends the wait.
type worker struct{ network *network }

func workerProps(n *network) *actor.Props {
	return propsOf(n.log, &n.world, func() actor.Actor { return &worker{network: n} })
}

// Receive implements actor.Actor.
func (w *worker) Receive(c actor.Context) {
	j, ok := c.Message().(job)
	if !ok {
		return
	}
	if j.discard != nil {
		w.discard(j)
		c.Stop(c.Self())
		return
	}
	var (
		result any
		turn   time.Time
		err    error
	)
	_, resolving := j.request.(resolveRequest)
	if resolving {
		result, err = w.network.perform(j.ctx, j.request)
	} else {
		turn, err = w.network.through(j.request.operation(), func() error {
			result, err = w.network.perform(j.ctx, j.request)
			return err
		})
	}
	if err == nil {
		w.network.metrics.received(j.request, result)
	}
	if err != nil && j.ctx.Err() == nil {
		// Whatever error a resolver returns, a network error among them, is the application's and final.
		if f := transport.Classify(err); f.Class == transport.Transient && !resolving {
			panic(&RetryLater{After: f.RetryAfter, Turn: turn, Operation: j.request.operation(), Err: err})
		}
	}
	served := !resolving && transport.Classify(err).Sign == transport.Serving
	c.Send(c.Parent(), answered{ref: j.ref, result: result, err: err, served: served})
}

// discard makes a best-effort request.
func (w *worker) discard(j job) {
	defer j.discard()
	defer func() {
		if r := recover(); r != nil {
			failPanicked(w.network.log, "panic in a request that nobody waits for", r)
		}
	}()
	if !w.network.visitor.mayEnter() {
		return
	}
	if _, err := w.network.perform(j.ctx, j.request); err != nil {
		fail(w.network.log, w.network.log.Debug, "a session was left to its time to live", err, zap.String(keyOperation, j.request.operation()))
	}
}

// through makes a request through the gate. What the gate holds back is a *messages.HeldBackError, and was not sent. After a
// failure turn is when the gate expects the next attempt, zero when it has no say in it.
func (n *network) through(operation string, ask func() error) (turn time.Time, err error) {
	p, turn, cause := n.visitor.enter()
	if !turn.IsZero() {
		return turn, &messages.HeldBackError{Operation: operation, Until: turn, Err: cause}
	}
	returned := false
	defer func() {
		if !returned { // it panicked, which says nothing of the server
			n.visitor.left(p, context.Canceled)
		}
	}()
	err = ask()
	returned = true
	turn, closed := n.visitor.left(p, err)
	if closed {
		fail(n.log, n.log.Warn, "the server serves nobody: the requests of all engines are held back", err, zap.Time(keyRetryAt, turn))
	}
	return turn, err
}

// perform makes a request and checks what its answer can be checked for without the local database.
func (n *network) perform(ctx context.Context, r request) (any, error) {
	switch r := r.(type) {
	case capabilitiesRequest:
		return n.client.Capabilities(ctx, r.source)
	case deletePushRequest:
		return nil, n.client.DeletePush(ctx, r.source, r.pushID)
	case deleteSnapshotRequest:
		return nil, n.client.DeleteSnapshot(ctx, r.source, r.snapshotID)
	case resolveRequest:
		return n.resolveAll(ctx, r.conflicts)
	case inContract:
		k, err := wire.ContractByName(r.dialect())
		if err != nil {
			return nil, err
		}
		return n.performIn(ctx, k, r)
	default:
		panic(fmt.Sprintf("actors: a worker was given a %T", r))
	}
}

// inContract is a request whose spelling depends on the contract.
type inContract interface {
	request
	dialect() wire.ContractName
}

func (c call) dialect() wire.ContractName { return c.contract }

func (n *network) performIn(ctx context.Context, k wire.Contract, r inContract) (any, error) {
	switch r := r.(type) {
	case connectRequest:
		return n.client.Connect(ctx, k, r.source, r.hasPending)
	case createPushRequest:
		return n.client.CreatePush(ctx, k, r.source, r.push)
	case pushChunkRequest:
		return nil, n.client.PushChunk(ctx, k, r.source, r.pushID, r.start, r.rows)
	case commitPushRequest:
		return n.client.CommitPush(ctx, k, r.source, r.pushID, r.push)
	case committedRowsRequest:
		page, err := n.client.CommittedRows(ctx, k, r.source, r.page)
		if err == nil && r.page.After < 0 && !page.HasMore {
			err = wire.VerifyBundle(k, &wire.Bundle{BundleMeta: page.Bundle, Rows: page.Rows})
		}
		return page, err
	case pullRequest:
		page, err := n.client.Pull(ctx, k, r.source, r.page)
		if err == nil {
			err = wire.VerifyBundles(k, page.Bundles)
		}
		return page, err
	case createSnapshotRequest:
		session, err := n.client.CreateSnapshot(ctx, k, r.source, r.replacement)
		if err != nil && session.ID != "" {
			n.giveUp(ctx, deleteSnapshotRequest{call: r.call, snapshotID: session.ID})
		}
		return session, err
	case snapshotPageRequest:
		return n.client.SnapshotPage(ctx, k, r.source, r.page)
	default:
		panic(fmt.Sprintf("actors: a worker was given a %T", r))
	}
}

// giveUp makes a best-effort request after one whose answer cannot be used.
func (n *network) giveUp(ctx context.Context, r request) {
	ctx, cancel := context.WithTimeout(ctx, discardTimeout)
	defer cancel()
	if _, err := n.perform(ctx, r); err != nil {
		fail(n.log, n.log.Debug, "a session was left to its time to live", err, zap.String(keyOperation, r.operation()))
	}
}

// resolveAll asks the resolver about each conflict. The first unusable answer ends it.
func (n *network) resolveAll(ctx context.Context, conflicts []local.Conflict) (any, error) {
	resolutions := make([]local.Resolution, 0, len(conflicts))
	for i := range conflicts {
		r, err := n.resolveOne(ctx, conflicts[i])
		if err != nil {
			return nil, err
		}
		resolutions = append(resolutions, r)
	}
	return resolutions, nil
}

// resolveOne asks the resolver about one conflict, on a goroutine of its own: a resolver that does not heed its
// context is left behind when its time is up, and its goroutine ends when it returns.
func (n *network) resolveOne(ctx context.Context, conflict local.Conflict) (local.Resolution, error) {
	timed, cancel := context.WithTimeout(ctx, n.resolveTimeout)
	defer cancel()
	type answer struct {
		resolution local.Resolution
		reason     string
		err        error
	}
	answers := make(chan answer, 1) // room for the answer of one that was left behind
	go func() {
		var a answer
		defer func() {
			if r := recover(); r != nil {
				a = answer{reason: "it panicked", err: asPanicked(r)}
			}
			answers <- a
		}()
		a.resolution, a.err = n.resolve(timed, conflict)
		if a.err != nil {
			a.reason = "it failed"
		}
	}()
	var a answer
	select {
	case a = <-answers:
	case <-timed.Done():
		a = answer{reason: fmt.Sprintf("it took longer than %v", n.resolveTimeout), err: timed.Err()}
	}
	if ctx.Err() != nil {
		return local.Resolution{}, ctx.Err()
	}
	if a.reason == "" {
		a.reason = unusable(conflict, a.resolution)
	}
	if a.reason != "" {
		return local.Resolution{}, &messages.InvalidConflictResolutionError{Table: conflict.Table, Reason: a.reason, Err: a.err}
	}
	a.resolution.Conflict = conflict
	return a.resolution, nil
}

// unusable says what is wrong with a resolution as far as that shows without the table; "" when nothing does.
func unusable(conflict local.Conflict, r local.Resolution) string {
	switch {
	case r.Kind != local.AcceptServer && r.Kind != local.KeepLocal && r.Kind != local.KeepMerged:
		return "it is none of AcceptServer, KeepLocal and KeepMerged"
	case r.Kind == local.KeepMerged && conflict.LocalOp == wire.OpDelete:
		return "a local delete cannot be merged with anything"
	case r.Kind == local.KeepMerged && len(r.Merged) == 0:
		return "the merged row is empty"
	default:
		return ""
	}
}
