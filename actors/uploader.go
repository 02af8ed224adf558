package actors

import (
	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"
)

// ownerConfig is what uploader, puller and watcher of an engine need.
type ownerConfig struct {
	log     *zap.Logger
	network *network
	retry   RetryConfig
	limits  Limits
	strict  bool // pull only when nothing is pending
	isolate bool // set refused changes aside
	writer  *actor.PID
}

// uploaderProps returns the properties of the actor that owns the push in flight. It receives messages.Uploader and
// answers its parent.
func uploaderProps(cfg ownerConfig) *actor.Props {
	return propsOf(cfg.log, &cfg.network.world, func() actor.Actor {
		o := newOwner(cfg, newUploadMachine(cfg.limits, cfg.isolate, firstRef()))
		o.upload = true
		return o
	})
}
