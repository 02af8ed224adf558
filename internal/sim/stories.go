package sim

import (
	"maps"
	"time"
)

// This file holds what happens to servers rather than on them, and to files of devices behind their backs: a user is
// restored from a backup or forgotten, and a file is copied.

// era is a history of a user's. One who is restored or forgotten has another one from then on, and what the devices have of
// the first is lost there: that is said to be so.
type era struct {
	fork    int64                        // the last bundle that it has in common with the era before
	history map[version]row              // every row as it ever was
	at      map[int64]map[place]standing // all rows at each bundle
}

func newEra() *era { return &era{history: map[version]row{}, at: map[int64]map[place]standing{0: {}}} }

// until is what of an era there was up to a bundle.
func (e *era) until(last int64) *era {
	n := &era{fork: last, history: maps.Clone(e.history), at: maps.Clone(e.at)}
	maps.DeleteFunc(n.history, func(v version, _ row) bool { return v.number > last })
	maps.DeleteFunc(n.at, func(seq int64, _ map[place]standing) bool { return seq > last })
	return n
}

// made reports whether a bundle of an era's made a row what is noted for it.
func (e *era) made(p place, at int64, deleted bool) bool {
	if !deleted {
		_, was := e.history[version{p, at}]
		return was
	}
	_, before := e.at[at-1][p]
	_, after := e.at[at][p]
	return before && !after
}

// goBack restores an account from its backup. The first time it makes that.
func (s *server) goBack(a *account) {
	var err error
	switch {
	case a.eras > 0:
		return
	case a.backup == nil:
		a.backup, err = s.dev.Backup(a.name)
		a.backedUp = a.last
		s.w.trace.note("server: %s is backed up at bundle %d", a.name, a.last)
	default:
		s.w.trace.note("server: %s is restored to bundle %d", a.name, a.backedUp)
		if err = s.dev.Restore(a.name, a.backup); err == nil {
			s.begin(a, a.era.until(a.backedUp), "the server was restored")
		}
	}
	if err != nil {
		fail("sim", "the server: %v", err)
	}
}

// forget makes the server one that has never seen an account.
func (s *server) forget(a *account) {
	if a.eras > 0 {
		return
	}
	s.w.trace.note("server: %s is forgotten", a.name)
	if err := s.dev.Forget(a.name); err != nil {
		fail("sim", "the server: %v", err)
	}
	s.begin(a, newEra(), "the server forgot the user")
}

// begin begins an account's other era.
func (s *server) begin(a *account, e *era, why string) {
	a.eras, a.forgotten = a.eras+1, e.fork == 0
	a.era, a.last = e, e.fork
	for _, d := range s.w.devices {
		if d.user == a {
			d.excuse(why)
		}
	}
	s.hangUp(a)
	s.overtake(a)
}

// overtake marks the devices that cannot notice any more that the server was put back: it has come as far again as they
// are. Applications have to know, and to call Rebuild.
func (s *server) overtake(a *account) {
	for _, d := range s.w.devices {
		if d.user == a && d.era != a.era && d.top > a.era.fork && a.last >= d.checkpoint && !d.overtaken {
			s.w.trace.note("server: %s is overtaken", d.name)
			d.overtaken = true
		}
	}
}

// agree finds the era that a device's file is of, and fails when it is of none. What it has when it goes over to another
// one, but for its intents, is the server's.
func (v *life) agree(here map[place]row, in *intents) {
	d := v.d
	f := v.differs(d.era, here, in)
	if d.era == d.user.era {
		if f != nil && d.former != nil && d.untold && v.differs(d.former, here, in) == nil {
			d.w.trace.note("%s: has what the server was, after all", d.name)
			d.fallBack()
			d.mixed, d.overtaken, d.untold = false, true, false
			return
		}
		if f != nil {
			panic(f)
		}
		return
	}
	back := d.checkpoint <= d.user.fork && d.user.fork < d.top // so far both eras are one
	if f == nil && !d.mixed && !d.overtaken && !back {
		return
	}
	if v.differs(d.user.era, here, in) == nil {
		d.untold = f == nil // by chance both are alike where nothing is pending
		v.adopt(here, in)
		return
	}
	if f == nil {
		return
	}
	// A device beyond the point to which its server was put back may have something of both, until it notices.
	if d.top <= d.user.era.fork {
		panic(f)
	}
	if !d.mixed {
		d.mixed = true
		d.w.trace.note("%s: has something of what the server was, and of what it is: %s", d.name, f.text)
	}
}

// adopt goes over to the account's present era. What was pending stays as it was, or is set aside as it was (S3).
func (v *life) adopt(here map[place]row, in *intents) {
	d := v.d
	d.w.trace.note("%s: has what the server is now", d.name)
	for _, p := range places(d.held) {
		_, given := d.givenUp[p]
		_, aside := d.aside[p]
		if given || aside || d.w.plan.wild || !p.Of(d.name) {
			continue
		}
		if now, was := here[p].Text, d.mine[p].Text; now != was {
			fail("S3", "%s: %s was pending as %q when the server was put back, and is %q", d.name, p, was, now)
		}
	}
	d.former, d.formerTop = d.era, d.top
	d.era, d.top, d.mixed, d.overtaken = d.user.era, d.checkpoint, false, false
	d.mine = d.own(here)
	clear(d.accepted)
}

// fallBack takes back that a device has gone over to another era, which a power cut may have undone: it is not durable before
// something else is. The next look tells.
func (d *device) fallBack() {
	if d.former != nil {
		d.era, d.top, d.mixed, d.former = d.former, d.formerTop, true, nil
	}
}

// setAside follows changes of rows that nobody else touches, which are displaced where a server that was put back has lost what
// they need, as the parent of a child: each stays listed as it was, until it is written again, is given up, or goes back (S3).
func (v *life) setAside(here map[place]row, in *intents) {
	d := v.d
	if d.user.eras == 0 || d.w.plan.wild {
		return
	}
	for _, p := range places(in.aside) {
		if _, known := d.aside[p]; known || !d.held[p] || !p.Of(d.name) {
			continue
		}
		was, now := d.mine[p], row{}
		if r := in.aside[p]; r != nil {
			now = *r
		}
		if was.Text != now.Text {
			fail("S3", "%s: %s was %q and is displaced as %q", d.name, p, was.Text, now.Text)
		}
		d.w.trace.note("%s: %s is displaced", d.name, p)
		d.aside[p] = now
		d.leave(p, here)
	}
	for _, p := range places(d.aside) {
		_, listed := in.aside[p]
		_, given := d.givenUp[p]
		switch was := d.aside[p]; {
		case listed:
			continue
		case !given && here[p].Text != was.Text:
			fail("S3", "%s: %s was displaced as %q, is not listed any more, and is %q", d.name, p, was.Text, here[p].Text)
		}
		delete(d.aside, p)
		d.leave(p, here)
	}
}

// leave takes a row for what the application left.
func (d *device) leave(p place, here map[place]row) {
	if r, ok := here[p]; ok {
		d.mine[p] = r
	} else {
		delete(d.mine, p)
	}
}

// rests reports whether a device's file may be copied: nothing may be pending in it, for whose changes those were, the books
// could not tell.
func (d *device) rests() bool {
	return d.life != nil && d.life.books != nil && !d.anonymous && d.attached() && d.busy == nil && len(d.doubts) == 0 && !d.life.failing &&
		len(d.w.devices) < 6 && d.life.books.text(settledSQL) == "0"
}

// copied makes another device of a copy of this one's file.
func (d *device) copied() {
	w := d.w
	c := newDevice(w, len(w.devices), d.user)
	if err := d.life.image(c.path, false); err != nil {
		fail("sim", "%v", err)
	}
	c.anonymous, c.era, c.top, c.mixed, c.overtaken, c.accepted = false, d.era, d.top, d.mixed, d.overtaken, maps.Clone(d.accepted)
	w.trace.note("%s: is a copy of %s", c.name, d.name)
	for _, o := range w.devices { // of its other copies one may have been the one that pushed
		if o.user == d.user {
			o.excuse("a file was copied")
		}
	}
	c.excuse("it was copied")
	w.devices = append(w.devices, c)
	w.loop.after(w.loop.between(0, 2*time.Second), nil, c.start)
}
