package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/oversqlite/oversqlite/internal/disk"
)

// This file holds what can be wrong with a device for a while, and what is done to it on the server.

// retire replaces a device's source on the server, as if another copy of it had asked for that.
func (d *device) retire() {
	if d.life == nil || d.life.books == nil {
		return
	}
	source := d.life.books.text(`SELECT current_source_id FROM _sync_attachment_state`)
	d.w.trace.note("server: retires the source of %s", d.name)
	d.excuse("its source was retired")
	_ = d.w.server.dev.RetireSource(d.user.name, source, d.w.newID()) // unless it is already
}

// excuse says why a device may from now on meet its own rows as if they were another's.
func (d *device) excuse(why string) { d.excused = why }

// preparedNow reports whether it is not known what became of a push of the device's.
func (d *device) preparedNow() bool {
	return d.life == nil || d.life.books == nil || d.life.books.text(`SELECT state FROM _sync_outbox_bundle`) != "none"
}

// partition cuts the device off for a while.
func (d *device) partition(cut string) {
	d.cut = cut
	d.w.trace.note("%s: is cut off: %s", d.name, cut)
	d.w.loop.after(d.w.loop.between(time.Second, 40*time.Second), nil, func() { d.cut = "" })
}

func (d *device) cutOff(direction string) bool {
	return !d.w.calm && (d.cut == direction || d.cut == "both")
}

// breakDisk lets the disk fail for a while.
func (d *device) breakDisk(v *life) {
	why := pick[error](d.r, disk.Full, disk.Broken)
	often := pick(d.r, 1, 1, 3, 20)
	d.w.trace.note("%s: its disk fails: %v, one in %d", d.name, why, often)
	v.failing = true
	r := rand.New(rand.NewPCG(d.w.loop.r.Uint64(), 3)) //nolint:gosec // its own, so that nothing else depends on how often a disk is used
	v.disk.Fail(func(int64) error {
		if r.IntN(often) == 0 {
			return why
		}
		return nil
	})
	d.w.loop.after(d.w.loop.between(10*time.Millisecond, 5*time.Second), nil, func() { v.mend() })
}

func (v *life) mend() {
	if !v.dying && v.failing {
		v.disk.Fail(nil)
		v.failing = false
		v.w.trace.note("%s: its disk works again", v.d.name)
	}
}

// hold keeps a transaction of the application's open for a while.
func (d *device) hold(v *life) {
	if d.busy != nil || v.engine.App() == nil {
		return
	}
	tx, err := v.engine.App().BeginTx(context.Background(), nil)
	if err != nil {
		d.w.trace.note("%s: no transaction: %v", d.name, err)
		return
	}
	d.busy = tx
	d.w.trace.note("%s: keeps a transaction open", d.name)
	d.w.loop.after(d.w.loop.between(10*time.Millisecond, 4*time.Second), nil, func() {
		if d.busy == tx {
			d.forgetTransaction()
		}
	})
}

// forgetTransaction gives up the transaction that the application keeps open.
func (d *device) forgetTransaction() {
	if d.busy != nil {
		_ = d.busy.Rollback()
		d.busy = nil
	}
}

// pause holds uploads or downloads for a while.
func (d *device) pause(v *life) {
	if d.paused {
		return
	}
	d.paused = true
	up, down := d.r.IntN(2) == 0, d.r.IntN(2) == 0
	d.w.trace.note("%s: pauses uploads %v, downloads %v", d.name, up, down)
	v.engine.PauseUploads(up)
	v.engine.PauseDownloads(down)
	d.w.loop.after(d.w.loop.between(time.Second, 10*time.Second), nil, func() { d.resume(v) })
}

func (d *device) resume(v *life) {
	if d.life == v && d.paused {
		d.paused = false
		v.engine.PauseUploads(false)
		v.engine.PauseDownloads(false)
	}
}
