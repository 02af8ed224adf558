package actors

import (
	"fmt"
	"runtime/debug"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"
)

// panicked is what the guard turns an unexpected panic into: the panic's value and the stack at which it happened,
// which the actor system itself does not keep.
type panicked struct {
	cause any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("oversqlite: unexpected panic: %v", p.cause) }

// asPanicked gives a recovered value a stack, unless it has one. To be called in the deferred function that recovered.
func asPanicked(r any) *panicked {
	if p, ok := r.(*panicked); ok {
		return p
	}
	return &panicked{cause: r, stack: debug.Stack()}
}

// guard is the middleware of every actor of the engine.
//
// A panic in Stopping would resurrect the actor and one in Stopped would let its parent wait for ever, so panics in
// lifecycle messages are logged and swallowed. An expected failure passes untouched. Anything else gets its stack.
func guard(log *zap.Logger) actor.ReceiverMiddleware {
	return func(next actor.ReceiverFunc) actor.ReceiverFunc {
		return func(c actor.ReceiverContext, envelope *actor.MessageEnvelope) {
			defer func() {
				r := recover()
				if r == nil {
					return
				}
				if expected, ok := r.(*RetryLater); ok {
					panic(expected)
				}
				p := asPanicked(r)
				switch envelope.Message.(type) {
				case *actor.Stopping, *actor.Stopped, *actor.Restarting:
					failPanicked(log, "panic while an actor was ending", p)
				default:
					panic(p)
				}
			}()
			next(c, envelope)
		}
	}
}

// propsOf returns the properties of an actor of the engine: guarded, and with the mailbox that is cheapest when idle.
func propsOf(log *zap.Logger, world *World, producer actor.Producer) *actor.Props {
	props := actor.PropsFromProducer(producer,
		actor.WithReceiverMiddleware(guard(log)),
		actor.WithMailbox(actor.UnboundedLockfree()),
	)
	if world.Dispatcher != nil {
		props.Configure(actor.WithDispatcher(world.Dispatcher))
	}
	return props
}
