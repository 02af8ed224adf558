package sim

import (
	"time"

	"github.com/oversqlite/oversqlite/local"
)

// promptly is how long what is written on one device may take to another one, where nothing is wrong and a stream tells.
const promptly = 5 * time.Second

// echo looks at background sync where nothing is wrong and everything is quiet: what is written, on the server or on one
// of the devices, is on all of them in moments, though nobody asks for anything (L1). Whoever has a stream needs no poll.
func (w *world) echo() {
	var autos []*device
	for _, d := range w.devices {
		if d.auto {
			autos = append(autos, d)
		}
	}
	if len(autos) == 0 {
		return
	}
	// Who was told nothing for a minute opens the stream again. One that was forbidden while things went wrong, the status says.
	w.expect(autos, 2*time.Minute, "there is no stream", func(d *device) bool {
		d.resumeIfTold(d.life)
		return d.watched() || !d.watches || !w.plan.streams
	})
	shows := func() {
		within := promptly
		for _, d := range autos {
			if !d.watched() {
				within = promptly + pollInterval*11/10
			}
		}
		w.expect(autos, within, "what was written elsewhere is not here", func(d *device) bool {
			// That the source of a quiet device was retired, or is that of a copy as well, shows by its next push.
			status := d.life.engine.Status()
			return !d.pendingNow() || d.excused != "" && (status.SourceRecovery != "" || status.UploadBlocked != nil && status.UploadBlocked.Code == local.BlockedBySequence)
		})
	}
	for _, a := range w.server.accounts {
		w.server.write(a)
	}
	shows()
	for _, d := range autos {
		d.transact(d.life, "writes, and waits", func(w *writer) error {
			w.Wild = false
			return w.Private()
		})
		shows()
	}
}

// expect lets things happen until something is true of all of some devices, which it has to be within a time.
func (w *world) expect(of []*device, within time.Duration, otherwise string, is func(*device) bool) {
	end := w.loop.now.Add(within)
	for _, d := range of {
		for !is(d) {
			if !w.loop.step(end) {
				fail("L1", "%s: for %v nothing was wrong, and %s: %s, the server is at %d: %+v", d.name, within, otherwise,
					d.life.books.text(pendingSQL), d.user.last, d.life.engine.Status())
			}
			w.look()
		}
	}
}
