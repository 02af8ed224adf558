package sqlite

import (
	"sync"

	"github.com/oversqlite/oversqlite/local"
)

// life counts the operations in progress, so that closing can wait for them and nobody has to wait for closing: an
// operation either counts, or is told at once that it comes too late.
type life struct {
	mu     sync.Mutex
	active int
	ended  bool
	done   chan struct{} // closed when no further operation may begin: whoever waits for its turn gives up
	idle   chan struct{} // closed when, after that, none is left
}

func newLife() *life { return &life{done: make(chan struct{}), idle: make(chan struct{})} }

// begin counts an operation until end is called.
func (l *life) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return local.ErrClosed
	}
	l.active++
	return nil
}

func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	if l.ended && l.active == 0 {
		close(l.idle)
	}
}

// finish lets no further operation begin and waits for those in progress.
func (l *life) finish() {
	l.mu.Lock()
	if !l.ended {
		l.ended = true
		close(l.done)
		if l.active == 0 {
			close(l.idle)
		}
	}
	l.mu.Unlock()
	<-l.idle
}
