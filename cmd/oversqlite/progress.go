package main

import (
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/oversqlite/oversqlite"
)

// progress shows what an engine is doing: a bar on a terminal, a line for each phase elsewhere.
type progress struct {
	console *console
	sub     *oversqlite.Subscription
	done    chan struct{}
	once    sync.Once

	bar   *progressbar.ProgressBar
	phase oversqlite.Phase
}

// follow shows what engine is doing until stop.
func follow(c *console, engine *oversqlite.Engine) *progress {
	p := &progress{console: c, sub: engine.Subscribe(), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for e := range p.sub.C() {
			p.show(e)
		}
		p.endBar()
	}()
	return p
}

// stop ends the display and waits until it is off the screen.
func (p *progress) stop() {
	p.once.Do(p.sub.Close)
	<-p.done
}

func (p *progress) show(e oversqlite.Event) {
	switch e := e.(type) {
	case oversqlite.ProgressMade:
		p.advance(e)
	case oversqlite.BackoffScheduled:
		p.endBar()
		p.console.note("%v; attempt %d in %s", e.Err, e.Attempt+1, time.Until(e.Until).Round(100*time.Millisecond))
	}
}

func (p *progress) advance(e oversqlite.ProgressMade) {
	if e.Phase != p.phase {
		p.endBar()
		p.phase = e.Phase
		if !p.console.interactive {
			p.console.note("%s", phaseText(e.Phase))
		}
	}
	if !p.console.interactive {
		return
	}
	if p.bar == nil {
		total := e.Total
		if total == 0 {
			total = -1 // a spinner
		}
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.console.err), progressbar.OptionSetDescription(phaseText(e.Phase)),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetSpinnerChangeInterval(0), // else it turns in a goroutine that nothing waits for
		)
	}
	_ = p.bar.Set64(e.Done)
}

func (p *progress) endBar() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
	p.phase = ""
}

func phaseText(p oversqlite.Phase) string {
	switch p {
	case oversqlite.PhaseSettling:
		return "looking for conflicts"
	case oversqlite.PhasePushing:
		return "pushing"
	case oversqlite.PhaseReplaying:
		return "confirming"
	case oversqlite.PhasePulling:
		return "pulling"
	case oversqlite.PhaseStagingSnapshot:
		return "fetching a snapshot"
	case oversqlite.PhaseApplyingSnapshot:
		return "applying a snapshot"
	default:
		return string(p)
	}
}
