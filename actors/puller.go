package actors

import "github.com/asynkron/protoactor-go/actor"

// pullerProps returns the properties of the actor that owns the checkpoint. It receives messages.Puller and answers its
// parent.
func pullerProps(cfg ownerConfig) *actor.Props {
	return propsOf(cfg.log, &cfg.network.world, func() actor.Actor {
		return newOwner(cfg, newPullMachine(cfg.limits, cfg.strict, firstRef()))
	})
}
