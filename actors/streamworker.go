package actors

import (
	"context"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/oversqlite/oversqlite/transport"
)

const (
	// provedAfter is how long a stream has to live before the delays after its failure start small again. That something
	// arrives proves nothing by itself: a server greets with a heartbeat or an event, and what stands before it may cut the
	// connection right after.
	provedAfter = 10 * time.Second
	// betweenBeats is how far apart heartbeats are told at least.
	betweenBeats = time.Second
)

// streamWorker is a leaf: it holds one watch stream at a time, blocking in Receive on its own goroutine, and has no
// state, so that a restart costs nothing. The context of a job, which its owner cancels, ends the stream at once.
type streamWorker struct{ network *network }

func streamWorkerProps(n *network) *actor.Props {
	return propsOf(n.log, &n.world, func() actor.Actor { return &streamWorker{network: n} })
}

// Receive implements actor.Actor.
func (w *streamWorker) Receive(c actor.Context) {
	j, ok := c.Message().(job)
	if !ok {
		return
	}
	turn, err := w.follow(c, j.ctx, j.ref, j.request.(watchRequest))
	if f := transport.Classify(err); j.ctx.Err() == nil && f.Class == transport.Transient {
		panic(&RetryLater{After: f.RetryAfter, Turn: turn, Operation: transport.OpWatch, Err: err})
	}
	c.Send(c.Parent(), answered{ref: j.ref, err: err})
}

// follow opens a stream and tells what it brings, until it ends. turn is when the gate expects the next attempt, zero when
// it has no say in it.
func (w *streamWorker) follow(c actor.Context, ctx context.Context, ref uint64, r watchRequest) (turn time.Time, err error) { //nolint:revive // the actor's context is no context.Context
	var stream *transport.Stream
	turn, err = w.network.through(transport.OpWatch, func() error {
		stream, err = w.network.client.Watch(ctx, r.source, r.after)
		return err
	})
	if err != nil {
		return turn, err
	}
	defer stream.Close()
	c.Send(c.Parent(), streamOpened{ref: ref})

	box := &newsBox{}
	world := &w.network.world
	opened := world.now()
	var beaten time.Time
	proved := false
	for {
		event, beat, err := stream.Next()
		now := world.now()
		news := streamed{seq: event.BundleSeq}
		if beat && now.Sub(beaten) >= betweenBeats {
			news.beat, beaten = true, now
		}
		if !proved && now.Sub(opened) >= provedAfter {
			news.proved, proved = true, true
		}
		if box.put(news) {
			c.Send(c.Parent(), streamNews{ref: ref, box: box})
		}
		if err != nil {
			return w.network.visitor.lost(err), err
		}
	}
}

// streamOpened tells an owner that the server streams.
type streamOpened struct{ ref uint64 }

// streamNews tells an owner that there is something in the box of a stream.
type streamNews struct {
	ref uint64
	box *newsBox
}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: owners end while streams open.
func (streamOpened) IgnoreDeadLetterLogging() {}

// IgnoreDeadLetterLogging implements actor.IgnoreDeadLetterLogging: owners end while streams bring something.
func (streamNews) IgnoreDeadLetterLogging() {}

// streamed is what a stream has brought.
type streamed struct {
	seq    int64 // of the last event; 0: none
	beat   bool  // a heartbeat
	proved bool  // the stream has lived for long enough
}

// newsBox is what passes from a stream worker to its owner. What comes while the owner has not looked yet is put
// together, so that a stream never fills a mailbox and never waits for anybody, however fast it is.
type newsBox struct {
	mu   sync.Mutex
	news streamed
}

// put adds to the box. It reports true when there was nothing in it and now is: the owner has to be told.
func (b *newsBox) put(n streamed) bool {
	if n == (streamed{}) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	tell := b.news == streamed{}
	if n.seq != 0 {
		b.news.seq = n.seq
	}
	b.news.beat = b.news.beat || n.beat
	b.news.proved = b.news.proved || n.proved
	return tell
}

// take empties the box.
func (b *newsBox) take() streamed {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.news
	b.news = streamed{}
	return n
}
