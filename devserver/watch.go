package devserver

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

// hub wakes those who watch a user's bundles.
type hub struct {
	mu   sync.Mutex
	last wire.BundleMeta
	ends int           // how often what there was to watch has ended
	wake chan struct{} // closed at the next bundle or end; nil: nobody watches
}

// publish tells the watchers of a new bundle. Called while the user's database is held, so in seq order.
func (h *hub) publish(m wire.BundleMeta) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = m
	h.wakeAll()
}

// end ends the watches: there is nothing to watch any more. Called while the user's database is held.
func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = wire.BundleMeta{}
	h.ends++
	h.wakeAll()
}

func (h *hub) wakeAll() {
	if h.wake != nil {
		close(h.wake)
		h.wake = nil
	}
}

// life names what there is to watch now: another one after an end.
func (h *hub) life() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ends
}

// next returns the latest bundle of this process, the life it belongs to and what closes at the next one.
func (h *hub) next() (last wire.BundleMeta, life int, wake <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wake == nil {
		h.wake = make(chan struct{})
	}
	return h.last, h.ends, h.wake
}

// watchWriteTimeout bounds one write to a watcher, so that one who does not read cannot hold up Close.
const watchWriteTimeout = 10 * time.Second

func (s *Server) watch(c *call) error {
	if s.cfg.DisableWatch {
		return refuse(http.StatusServiceUnavailable, "bundle_change_watch_disabled", "this server does not offer to watch")
	}
	after, err := c.number("after_bundle_seq", 0, 0, math.MaxInt64, "invalid_request")
	if err != nil {
		return err
	}
	var (
		latest int64
		hub    *hub
		life   int // taken while the database is held: an end from now on is not missed
	)
	err = s.with(c, func(u *user, st *store) error {
		sc, err := st.scope()
		if err == nil {
			err = sc.initialized()
		}
		latest, hub, life = sc.lastSeq, &u.hub, u.hub.life()
		return err
	})
	if err != nil {
		return err
	}
	if !s.enterWatch() {
		return ErrClosed
	}
	defer s.watchers.Done()
	s.streamEvents(c, hub, life, after, latest)
	return nil
}

// streamEvents writes events until the client, the server or what is watched ends. Bundles that come while an event is written are
// told as one.
func (s *Server) streamEvents(c *call, hub *hub, begun int, seen, latest int64) {
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(c.w)
	write := func(text string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(watchWriteTimeout)) // not every writer has deadlines
		if _, err := fmt.Fprint(c.w, text); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	if latest > seen {
		if !write(fmt.Sprintf("event: bundle\ndata: {\"bundle_seq\":%d}\n\n", latest)) {
			return
		}
		seen = latest
	} else if !write(": watching\n\n") {
		return
	}
	heartbeat := time.NewTicker(s.cfg.HeartbeatInterval)
	defer heartbeat.Stop()
	for {
		last, life, wake := hub.next()
		if life != begun {
			return
		}
		if last.Seq > seen {
			if !write(fmt.Sprintf("event: bundle\ndata: {\"bundle_seq\":%d,\"source_id\":%s,\"source_bundle_id\":%d}\n\n",
				last.Seq, appendString(nil, last.SourceID), last.SourceBundleID)) {
				return
			}
			seen = last.Seq
			continue
		}
		select {
		case <-wake:
		case <-heartbeat.C:
			if !write(": heartbeat\n\n") {
				return
			}
		case <-c.r.Context().Done():
			return
		case <-s.closing:
			return
		}
	}
}

// enterWatch counts a watcher in, so that Close waits for it. It reports false when Close came first.
func (s *Server) enterWatch() bool {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if s.closed() {
		return false
	}
	s.watchers.Add(1)
	return true
}
