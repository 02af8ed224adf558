package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/oversqlite/oversqlite/messages"
)

// watcher is the shell of the watch machine: an owner whose worker goes on answering. A restart of it forgets the watch:
// its supervisor, the session, asks for it again.
//
// While a stream is open, one goroutine of ours is blocked in it, the stream worker's; net/http has those of its
// connection. The one timer is the stream's own, which ends it when nothing arrives for too long.
type watcher struct {
	*owner
	epoch uint64 // of the last watch
}

// watcherProps returns the properties of the actor that owns the watch stream. It receives messages.Watcher and tells
// its parent.
func watcherProps(cfg ownerConfig) *actor.Props {
	return propsOf(cfg.log, &cfg.network.world, func() actor.Actor {
		w := &watcher{owner: newOwner(cfg, newWatchMachine(firstRef()))}
		w.leaf, w.announce = streamWorkerProps, w.lost
		return w
	})
}

// Receive implements actor.Actor.
func (w *watcher) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case messages.Watch:
		w.epoch = m.Epoch
		w.feed(c, evWatch{m})
	case messages.Unwatch:
		w.feed(c, evUnwatch{})
	case streamOpened:
		w.lasts = w.lasts || m.ref == w.ref
		w.feed(c, evStreamOpened{ref: m.ref})
	case streamNews:
		news := m.box.take()
		if news.proved && m.ref == w.ref {
			w.panics = 0
		}
		w.feed(c, evStreamed{ref: m.ref, streamed: news})
	default:
		w.owner.Receive(c)
	}
}

// lost tells that the stream is lost, and for how long.
func (w *watcher) lost(c actor.Context, waiting messages.Waiting) {
	c.Send(w.session, messages.WatchLost{Epoch: w.epoch, Err: waiting.Err, Attempt: waiting.Attempt, Until: waiting.Until})
}
