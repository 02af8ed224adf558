package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/internal/workload"
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// settle ends all faults and lets applications do what an engine's errors ask for, and no more. Within a bounded time all
// devices of a user have to be what the server is, with nothing pending.
func (w *world) settle() {
	w.calm = true
	w.server.down = false
	w.trace.note("from here on nothing goes wrong")
	for _, d := range w.devices {
		d.cut = ""
		d.forgetTransaction()
		if v := d.life; v != nil {
			v.mend()
			d.resume(v)
		}
	}
	w.until(w.loop.now.Add(2 * silence)) // what has gone wrong by now is still to be heard of
	end := w.loop.now.Add(settleWithin)
	w.together(end)
	w.echo()
	w.together(end) // what was written meanwhile, with those who sync when they are told to
	w.over = true
	w.trace.note("everything has come together")
	for _, d := range w.devices {
		d.compare()
		d.close(d.life)
	}
	for len(w.lives) > 0 {
		if !w.loop.step(end) {
			fail("L6", "%s: Close does not end", w.lives[0].d.name)
		}
		w.look()
	}
}

// together lets everything come together.
func (w *world) together(end time.Time) {
	w.gathering++
	defer func() { w.gathering++ }()
	for _, d := range w.devices {
		d.steady(w.gathering, 0)
	}
	for !w.settled() {
		if !w.loop.step(end) {
			w.unsettled()
		}
		w.look()
	}
}

// settled reports whether every device has nothing left to do.
func (w *world) settled() bool {
	for _, d := range w.devices {
		if d.life == nil || !d.opened || !d.attached() || d.life.books == nil || len(d.life.calls) > 0 || d.overtaken || d.pendingNow() {
			return false
		}
	}
	return true
}

// settledSQL counts what the server does not have, or what is to be done about that.
const settledSQL = `SELECT ((SELECT count(*) FROM _sync_dirty_rows) + (SELECT count(*) FROM _sync_outbox_rows) + (SELECT count(*) FROM _sync_quarantine)
  + (SELECT count(*) FROM _sync_displaced) + (SELECT state <> 'none' FROM _sync_outbox_bundle) + (SELECT rebuild_required FROM _sync_attachment_state))`

const pendingSQL = settledSQL + `
  || ' ' || (SELECT last_bundle_seq_seen FROM _sync_attachment_state)`

// pendingNow reports whether the device has something that the server does not have, or the reverse.
func (d *device) pendingNow() bool {
	return d.life.books.text(pendingSQL) != "0 "+itoa(d.user.last)
}

// unsettled says what has not come together.
func (w *world) unsettled() {
	for _, d := range w.devices {
		switch {
		case d.life == nil:
			fail("L1", "%s: no process runs", d.name)
		case !d.opened || !d.attached() || d.life.books == nil:
			fail("L1", "%s: is not attached: %+v", d.name, d.life.engine.Status())
		case len(d.life.calls) > 0:
			fail("L3", "%s: %s has not been answered for %v: %+v", d.name, d.life.calls[0].verb, w.loop.now.Sub(d.life.calls[0].began), d.life.engine.Status())
		case d.pendingNow() || d.overtaken:
			fail("L1", "%s: after %v without a fault, pending and checkpoint are %s, the server's last bundle is %d: %+v",
				d.name, settleWithin, d.life.books.text(pendingSQL), d.user.last, d.life.engine.Status())
		}
	}
	fail("L1", "nothing happens any more")
}

// steady lets the application sync until nothing is left to do, and heed what errors say.
func (d *device) steady(gathering, rounds int) {
	w := d.w
	again := func() { w.loop.after(time.Second, nil, func() { d.steady(gathering, rounds+1) }) }
	v := d.life
	switch {
	case w.gathering != gathering:
		return
	case v == nil:
		d.start()
		again()
		return
	case !d.opened || d.closing || len(v.calls) > 0:
		again()
		return
	case d.auto && v.books != nil:
		d.watchOver(v, gathering, rounds)
		return
	case !d.attached():
		d.attach(v)
		again()
		return
	case w.settled():
		return
	}
	verb := actors.VerbSync
	if d.overtaken { // as whoever restores a server has to tell
		verb = actors.VerbRebuild
	}
	v.ask(verb, func(_ actors.Result, err error) {
		d.heed(v, err, rounds)
		again()
	})
}

// watchOver leaves the work to background sync, and does what its status asks the application for, no more. With nothing to ask it has to get
// everything done by itself, in time.
func (d *device) watchOver(v *life, gathering, rounds int) {
	w := d.w
	s := v.engine.Status()
	wakes := func(by actors.Waker) bool { return slices.Contains(s.WokenBy, by) }
	switch {
	case wakes(actors.WakerRebuild):
		v.ask(actors.VerbRebuild, func(_ actors.Result, err error) { d.heed(v, err, rounds) })
	case slices.Equal(s.WokenBy, []actors.Waker{actors.WakerAttach, actors.WakerStart}): // detached on purpose, it rests
		d.background(v)
	case d.overtaken && rounds%6 == 1:
		v.ask(actors.VerbRebuild, func(_ actors.Result, err error) { d.heed(v, err, rounds) })
	default:
		d.resumeIfTold(v)
	}
	w.loop.after(5*time.Second, nil, func() {
		if w.gathering != gathering || d.life != v || d.closing || w.settled() {
			return
		}
		s := v.engine.Status()
		aside := v.books.text(`SELECT (SELECT count(*) FROM _sync_quarantine) + (SELECT count(*) FROM _sync_displaced)`) != "0"
		err := v.autoError(s)
		if rounds > int(byItself/(5*time.Second)) && !aside && err == nil && (d.pendingNow() || !d.attached()) {
			fail("L1", "%s: background sync has had %v and gets no further: %s, the server is at %d: %+v", d.name, byItself, v.books.text(pendingSQL), d.user.last, s)
		}
		if d.attached() && d.pendingNow() && (aside || err != nil) {
			d.heedStatus(v, err, rounds)
		}
		d.watchOver(v, gathering, rounds+1)
	})
}

// resumeIfTold resumes background sync where its status names that, and nothing that has to come before: the credentials are good
// again, and the stream is forbidden to nobody any more.
func (d *device) resumeIfTold(v *life) {
	by := v.engine.Status().WokenBy
	if len(v.calls) == 0 && slices.Contains(by, actors.WakerResume) && !slices.Contains(by, actors.WakerRebuild) {
		v.ask(actors.VerbResume, func(_ actors.Result, err error) { d.judge(v, actors.VerbResume, err) })
	}
}

// autoError is what a status says to be wrong with background sync. The last error may be that of a call of long ago, which was
// answered with it: it is the caller's to heed, and says nothing of what goes on by itself.
func (v *life) autoError(s actors.Status) error {
	if slices.Contains(v.answered, s.LastError) {
		return nil
	}
	return s.LastError
}

// heedStatus does what an error of background sync asks for. One that passes by itself is none to heed.
func (d *device) heedStatus(v *life, err error, rounds int) {
	var retryable interface{ Retryable() bool }
	if errors.As(err, &retryable) && retryable.Retryable() {
		return
	}
	d.heed(v, err, rounds)
}

// heed does what an error asks the application for.
func (d *device) heed(v *life, err error, rounds int) {
	var (
		recovery *messages.SourceRecoveryRequiredError
		diverged *local.SourceReplacementDivergedError
		mismatch *messages.SourceSequenceMismatchError
		gone     *local.QuarantineError
		rejected *messages.PushRejectedError
		versions *messages.PushConflictRetryExhaustedError
		attach   *messages.AttachRequiredError
		invalid  *messages.InvalidConflictResolutionError
	)
	switch {
	case err == nil, errors.As(err, &gone):
	case errors.As(err, &attach):
		return
	case errors.As(err, &invalid): // a merge of two rows need not be one that can be
		d.decides = "server"
		return
	case errors.As(err, &recovery), errors.As(err, &mismatch), errors.As(err, &diverged):
		v.ask(actors.VerbRebuild, func(_ actors.Result, err error) { d.heed(v, err, rounds) })
		return
	case errors.As(err, &rejected), errors.As(err, &versions):
		d.repair(v)
		if rounds > 5 {
			d.yieldTo(v)
		}
		return
	default:
		fail("L1", "%s: nothing is wrong, and Sync says %v", d.name, err)
	}
	if aside := v.books.text(`SELECT (SELECT count(*) FROM _sync_quarantine) + (SELECT count(*) FROM _sync_displaced)`); aside != "0" {
		d.repair(v)
		v.ask(actors.VerbQuarantined, func(result actors.Result, err error) {
			if err != nil {
				fail("L1", "%s: nothing is wrong, and Quarantined says %v", d.name, err)
			}
			switch {
			case len(result.Quarantine) == 0:
			case rounds < 3:
				var ids []int64
				for _, s := range result.Quarantine {
					ids = append(ids, s.ID)
				}
				v.ask(actors.VerbRetryQuarantined, func(_ actors.Result, err error) { d.judge(v, actors.VerbRetryQuarantined, err) }, ids...)
			default:
				d.discard(v, result.Quarantine...)
			}
		})
	}
}

// yieldTo gives up what the server will not take, whatever it is: the child of a parent that is gone, here or there, a unique
// value that somebody else has.
func (d *device) yieldTo(v *life) {
	if d.uprootForgone(v) {
		return
	}
	if v.books.text(`SELECT (SELECT count(*) FROM slots WHERE substr(code, 1, 5) = 'code-') + (SELECT count(*) FROM items WHERE owner_id NOT IN (SELECT id FROM owners))`) == "0" {
		return
	}
	d.transact(v, "gives up what is refused", func(w *writer) error {
		if err := w.Do(`UPDATE slots SET code = code || ? WHERE substr(code, 1, 5) = 'code-'`, "-"+d.name+itoa(int64(d.writes))); err != nil {
			return err
		}
		return w.Do(`INSERT INTO owners (id, name) SELECT DISTINCT owner_id, ? || owner_id FROM items WHERE owner_id NOT IN (SELECT id FROM owners)`, w.Token())
	})
}

// uprootForgone gives up rows whose parent the server has deleted, and the parent with them. It reports whether there were any.
// The server's deletion cannot come while changes that nobody gives up refer to the parent.
func (d *device) uprootForgone(v *life) bool {
	var forgone []string
	there := d.user.at[d.user.last]
	v.books.each(`SELECT DISTINCT owner_id FROM items WHERE owner_id IN (SELECT id FROM owners) AND substr(owner_id, 1, 2) = 's-' ORDER BY 1`, func(s *sqlite3.Stmt) {
		if _, ok := there[workload.At("owners", s.ColumnText(0))]; !ok {
			forgone = append(forgone, s.ColumnText(0))
		}
	})
	if len(forgone) == 0 {
		return false
	}
	d.transact(v, "gives up what belongs to what is gone", func(w *writer) error {
		for _, owner := range forgone {
			if err := w.UprootOwner(owner); err != nil {
				return err
			}
		}
		return nil
	})
	return true
}

// compare compares a device with the server (S6), and asks what has become of everything that was written there (S3, S4).
func (d *device) compare() {
	v, a := d.life, d.user
	here := v.books.rows()
	there := a.at[a.last]
	for _, p := range places(there) {
		want := there[p]
		if got := here[p]; got.Text != want.Text {
			fail("S6", "%s: %s is %s, on the server %s at %d", d.name, p, got.Text, want.Text, want.version)
		}
	}
	if len(here) != len(there) {
		fail("S6", "%s: %d rows, %d on the server", d.name, len(here), len(there))
	}
	v.check()
	for _, p := range places(d.newest) {
		fail("S3", "%s: %s was made %q; the server never had that", d.name, p, d.newest[p])
	}
}
