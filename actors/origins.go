package actors

import (
	"net/url"
	"strings"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// origins holds the gate of every server that engines of this process talk to, one for each actor system.
var origins struct {
	mu sync.Mutex
	of map[originKey]*origin
}

type originKey struct {
	system *actor.ActorSystem
	origin string
}

// origin is a server, and how many engines talk to it.
type origin struct {
	gate    *gate
	engines int
}

// visit returns a new engine's place at the gate of its server. It is given back with depart. An engine in a world of its own
// shares no clock with others, and no gate.
func visit(system *actor.ActorSystem, world *World, serverURL string) *visitor {
	origins.mu.Lock()
	defer origins.mu.Unlock()
	key := originKey{system, originOf(serverURL)}
	if key.origin == "" || world.Now != nil {
		return &visitor{gate: newGate(world.now, world.chance), alone: true}
	}
	o := origins.of[key]
	if o == nil {
		o = &origin{gate: newGate(world.now, world.chance)}
		if origins.of == nil {
			origins.of = map[originKey]*origin{}
		}
		origins.of[key] = o
	}
	o.engines++
	return &visitor{gate: o.gate}
}

// depart ends a visit; with the last one the gate goes.
func depart(system *actor.ActorSystem, serverURL string, v *visitor) {
	v.leave()
	if v.alone {
		return
	}
	origins.mu.Lock()
	defer origins.mu.Unlock()
	key := originKey{system, originOf(serverURL)}
	o := origins.of[key]
	if o.engines--; o.engines == 0 {
		delete(origins.of, key)
	}
}

// originOf returns scheme, host and port of a server's address, "" when it has none.
func originOf(serverURL string) string {
	u, err := url.Parse(serverURL)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme + "://" + u.Hostname() + ":" + port)
}
