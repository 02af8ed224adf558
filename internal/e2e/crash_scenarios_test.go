package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// crashScenario is a part of an application's life in which it may die. Rows whose key begins with "m-" are written by
// the application alone and survive everything but a detach; "s-" by others as well; "x-" are dropped on the way; "t-" are
// changed by the server.
type crashScenario struct {
	name     string
	limits   oversqlite.Limits
	resolver oversqlite.Resolver
	config   func(*oversqlite.Config)
	// before is what was when the application starts. Nobody dies there.
	before func(context.Context, *crashCase) error
	// run is what the application does, from Open on. It is begun anew after each death.
	run func(context.Context, *crashApp) error
	// during is what the application does while its first push is about to be committed.
	during   func(context.Context, *crashApp) error
	detaches bool
	want     []edit // on the server they have been made at the end
}

func crashScenarioNamed(name string) *crashScenario {
	for i := range crashScenarios {
		if crashScenarios[i].name == name {
			return &crashScenarios[i]
		}
	}
	return nil
}

// small makes everything come in pieces.
var small = oversqlite.Limits{PushRows: 4, PushChunkRows: 2, CommittedRows: 2, PullBundles: 2, SnapshotRows: 3, ConflictsAtOnce: 2}

// begin opens and attaches.
func begin(ctx context.Context, a *crashApp) error {
	if err := a.open(ctx); err != nil {
		return err
	}
	return a.attach(ctx)
}

// inTurn runs one thing after the other.
func inTurn(steps ...func(context.Context, *crashApp) error) func(context.Context, *crashApp) error {
	return func(ctx context.Context, a *crashApp) error {
		for _, step := range steps {
			if err := step(ctx, a); err != nil {
				return err
			}
		}
		return nil
	}
}

func writing(step string, edits ...edit) func(context.Context, *crashApp) error {
	return func(ctx context.Context, a *crashApp) error { return a.write(ctx, step, edits...) }
}

func opening(ctx context.Context, a *crashApp) error   { return a.open(ctx) }
func attaching(ctx context.Context, a *crashApp) error { return a.attach(ctx) }
func syncing(ctx context.Context, a *crashApp) error   { return a.sync(ctx) }

// lived lets the application live before, undisturbed.
func lived(steps ...func(context.Context, *crashApp) error) func(context.Context, *crashCase) error {
	return func(ctx context.Context, c *crashCase) error { return c.live(ctx, inTurn(steps...)) }
}

// and adds to what comes before.
func and(steps ...func(context.Context, *crashCase) error) func(context.Context, *crashCase) error {
	return func(ctx context.Context, c *crashCase) error {
		for _, step := range steps {
			if err := step(ctx, c); err != nil {
				return err
			}
		}
		return nil
	}
}

func serverWrites(edits ...edit) func(context.Context, *crashCase) error {
	return func(_ context.Context, c *crashCase) error { return c.server.write(edits...) }
}

func serverPrunes(_ context.Context, c *crashCase) error { return c.server.prune() }

func serverForgets(_ context.Context, c *crashCase) error { return c.server.forget() }

// serverWaits until every lease has run out.
func serverWaits(_ context.Context, c *crashCase) error {
	c.server.wait(time.Hour)
	return nil
}

// otherDevice is a second device of the user's that attaches and syncs.
func otherDevice(ctx context.Context, c *crashCase) error {
	a := c.app()
	a.path += "-other"
	if err := createCrashFile(a.path); err != nil {
		return err
	}
	run := inTurn(opening, writing("other", append(lots(4, "owners", "s-", "other"), put("slots", "s-1", "other"))...), attaching, syncing)
	return errors.Join(run(ctx, a), a.close())
}

// serverRetires replaces the source of the device by another one, by hand.
func serverRetires(ctx context.Context, c *crashCase) error {
	f, err := readCrashFile(ctx, c.path)
	if err != nil {
		return err
	}
	return c.server.server.RetireSource(modelUser, f.source, "by-hand")
}

// putBack lets something happen to a database, and puts the file back to what it was before that.
func putBack(what func(context.Context, *crashCase) error) func(context.Context, *crashCase) error {
	return func(ctx context.Context, c *crashCase) error {
		before, err := os.ReadFile(c.path)
		if err != nil {
			return err
		}
		if err := what(ctx, c); err != nil {
			return err
		}
		return os.WriteFile(c.path, before, 0o600)
	}
}

// afresh is what an application does that finds its writer stream at an end.
var afresh = inTurn(begin, writing("mine", put("owners", "m-o0", "mine"), remove("owners", "m-o1"), put("nodes", "m-1", "mine"), put("slots", "s-1", "mine")), syncing,
	writing("more", put("slots", "m-2", "more")), syncing)

// decide gives up what was set aside of the rows that may go, and tries the others again.
func decide(ctx context.Context, a *crashApp) error {
	rows, err := a.engine.Quarantined(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if strings.HasPrefix(row.Key["id"], "x-") {
			err = a.engine.DiscardQuarantined(ctx, row.ID)
		} else {
			err = a.engine.RetryQuarantined(ctx, row.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leased is a device that has the lease of an empty scope, and rows to seed it with.
var leased = lived(opening, writing("seed", lots(5, "owners", "m-", "seed")...), attaching)

// lostScope is what an application does that finds the server without its user.
var lostScope = inTurn(begin, writing("mine", put("owners", "m-o0", "mine"), remove("owners", "m-o1"), put("nodes", "m-1", "mine")), syncing)

// attachingAgain attaches once more when the server has lost what it had promised at connect.
func attachingAgain(ctx context.Context, a *crashApp) error {
	err := a.attach(ctx)
	var again *oversqlite.AttachRequiredError
	if errors.As(err, &again) {
		err = a.attach(ctx)
	}
	return err
}

// interrupted lets the application live while a request of its fails, so that it leaves work half done.
func interrupted(f devserver.Fault, steps ...func(context.Context, *crashApp) error) func(context.Context, *crashCase) error {
	return func(ctx context.Context, c *crashCase) error {
		impatient := *c.scenario
		impatient.config = func(cfg *oversqlite.Config) { cfg.Retry.MaxElapsed = 3 * time.Millisecond }
		fault := c.server.server.Inject(f)
		defer fault.Remove()
		a := c.app()
		a.scenario = &impatient
		err := errors.Join(inTurn(steps...)(ctx, a), a.close())
		var exhausted *oversqlite.RetryExhaustedError
		if !errors.As(err, &exhausted) {
			return errors.Join(errors.New("the application was not interrupted"), err)
		}
		return nil
	}
}

// attachedDevice is what most scenarios begin with: some rows, on the server and here.
var attachedDevice = lived(begin, writing("first", append(lots(3, "owners", "m-o", "first"), lots(3, "slots", "s-", "first")...)...), syncing)

// conflicting has another device write the rows that the application is about to write.
func conflicting(name string, resolver oversqlite.Resolver, want ...edit) crashScenario {
	return crashScenario{
		name: name, limits: small, resolver: resolver, want: want,
		before: and(attachedDevice, serverWrites(put("slots", "s-0", "theirs"), remove("slots", "s-1"), put("slots", "s-new", "theirs"))),
		run: inTurn(begin, writing("mine",
			put("slots", "s-0", "mine"), put("slots", "s-1", "mine"), put("slots", "s-new", "mine"), put("owners", "m-o0", "mine"), remove("slots", "s-2")), syncing),
	}
}

var crashScenarios = []crashScenario{
	{
		name: "attach an empty database to an empty scope",
		run:  inTurn(begin, writing("one", put("owners", "m-1", "one")), syncing),
	},
	{
		name:   "attach and seed",
		limits: small,
		run: inTurn(opening, writing("before", append(lots(5, "owners", "m-o", "seed"), child("items", "m-i", "m-o0", "seed"))...), attaching,
			writing("after", put("slots", "m-1", "later")), syncing),
	},
	{
		name: "a lease that turns out not to be needed",
		before: lived(opening, writing("one", put("owners", "x-1", "one")), attaching,
			writing("none", remove("owners", "x-1"))),
		run: inTurn(begin, syncing, writing("two", put("owners", "m-1", "two")), syncing),
	},
	{
		name:   "attach by replacing what is here",
		limits: small,
		before: serverWrites(append(lots(7, "owners", "s-", "theirs"), child("items", "s-i", "s-3", "theirs"))...),
		run:    inTurn(opening, writing("dropped", put("owners", "x-1", "dropped")), attaching, syncing, writing("mine", put("slots", "m-1", "mine")), syncing),
	},
	{
		name:   "push in several bundles",
		limits: small,
		before: attachedDevice,
		run: inTurn(begin, writing("tree", append(lots(5, "owners", "m-p", "tree"), child("items", "m-i1", "m-p1", "tree"), child("items", "m-i2", "m-p2", "tree"))...),
			writing("more", put("owners", "m-o1", "more"), remove("owners", "m-o2")), syncing),
	},
	{
		name:   "push what the server changes, the proof in pages",
		limits: small,
		before: attachedDevice,
		run:    inTurn(begin, writing("changed", lots(6, "nodes", "t-", "changed")...), syncing),
	},
	{
		name:   "push what the server changes, the proof in one page",
		before: attachedDevice,
		run:    inTurn(begin, writing("changed", lots(6, "nodes", "t-", "changed")...), syncing),
	},
	{
		name:   "write while a push is on its way",
		before: attachedDevice,
		run:    inTurn(begin, writing("one", put("owners", "m-1", "one"), put("owners", "m-2", "one"), put("nodes", "t-1", "one")), syncing, writing("late", put("owners", "m-1", "late"), remove("owners", "m-2"), put("slots", "m-3", "late")), syncing),
		during: writing("late", put("owners", "m-1", "late"), remove("owners", "m-2"), put("slots", "m-3", "late")),
	},
	conflicting("conflicts, the server wins", oversqlite.ServerWins,
		put("slots", "s-0", "theirs"), remove("slots", "s-1"), put("slots", "s-new", "theirs"), put("owners", "m-o0", "mine"), remove("slots", "s-2")),
	conflicting("conflicts, the client wins", oversqlite.ClientWins,
		put("slots", "s-0", "mine"), put("slots", "s-1", "mine"), put("slots", "s-new", "mine"), put("owners", "m-o0", "mine"), remove("slots", "s-2")),
	conflicting("conflicts, columns are merged", oversqlite.MergeColumns(oversqlite.ClientWins),
		put("slots", "s-0", "mine"), put("slots", "s-new", "mine"), put("owners", "m-o0", "mine"), remove("slots", "s-2")),
	{
		name:   "pull several bundles, one of them too large for an answer",
		limits: oversqlite.Limits{PullBundles: 2, CommittedRows: 3, PullBodyBytes: 1200},
		before: and(attachedDevice, serverWrites(put("slots", "s-1", "second")), serverWrites(lots(8, "owners", "s-large", "third")...),
			serverWrites(remove("slots", "s-2")), serverWrites(put("owners", "s-last", "fifth"))),
		run: inTurn(begin, writing("mine", put("owners", "m-o0", "mine"), put("nodes", "m-1", "mine")), func(ctx context.Context, a *crashApp) error {
			_, err := a.engine.PullToStable(ctx)
			return err
		}, syncing),
	},
	{
		name:   "rebuild, because the history was pruned",
		limits: small,
		before: and(attachedDevice, serverWrites(put("slots", "s-1", "second")), serverWrites(append(lots(5, "owners", "s-", "third"), remove("slots", "s-2"))...), serverPrunes),
		run:    inTurn(begin, writing("mine", put("owners", "m-o0", "mine"), remove("owners", "m-o1"), put("nodes", "m-1", "mine")), syncing),
	},
	{
		name:   "rebuild around a push that is not committed",
		limits: small,
		before: and(attachedDevice,
			interrupted(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Status: http.StatusServiceUnavailable},
				begin, writing("frozen", put("owners", "m-o0", "frozen"), put("nodes", "m-1", "frozen"), put("slots", "s-0", "frozen")), syncing),
			serverWrites(append(lots(5, "owners", "s-", "second"), remove("slots", "s-2"))...)),
		run: inTurn(begin, writing("dirty", put("owners", "m-o0", "dirty"), remove("owners", "m-o1")), func(ctx context.Context, a *crashApp) error {
			return a.persist(ctx, func() error { _, err := a.engine.Rebuild(ctx); return err })
		}, syncing),
	},
	{
		// Whether the server has lost the commit, or a replica has not got it for too long, create tells.
		name:   "a push that was committed, and is not to be found",
		limits: small,
		before: and(attachedDevice,
			interrupted(devserver.Fault{Endpoint: devserver.EndpointCommittedRows, Status: http.StatusServiceUnavailable},
				begin, writing("committed", put("owners", "m-o0", "committed"), put("nodes", "t-1", "committed")), syncing),
			func(_ context.Context, c *crashCase) error {
				c.server.server.Inject(devserver.Fault{Endpoint: devserver.EndpointCommittedRows, Status: http.StatusNotFound, Code: "committed_bundle_not_found", Times: 6})
				return nil
			}),
		run: inTurn(begin, writing("dirty", put("owners", "m-o0", "dirty"), remove("owners", "m-o1")), syncing),
	},
	{
		name:   "rebuild around a push whose proof is gone",
		limits: small,
		before: and(attachedDevice,
			interrupted(devserver.Fault{Endpoint: devserver.EndpointCommittedRows, Status: http.StatusServiceUnavailable},
				begin, writing("committed", put("owners", "m-o0", "committed"), put("nodes", "t-1", "committed")), syncing),
			serverWrites(lots(4, "owners", "s-", "second")...), serverPrunes),
		run: inTurn(begin, writing("dirty", put("owners", "m-o0", "dirty"), remove("owners", "m-o1")), syncing),
	},
	{
		name:   "a push that the server refuses until it is mended",
		before: attachedDevice,
		run: inTurn(begin, writing("bad", child("slots", "m-1", "bad", "bad"), put("owners", "m-2", "good")), func(ctx context.Context, a *crashApp) error {
			var rejected *oversqlite.PushRejectedError
			if err := a.sync(ctx); err != nil && !errors.As(err, &rejected) {
				return err
			}
			return nil
		}, writing("mended", child("slots", "m-1", "good", "mended")), syncing),
	},
	{
		name:   "changes that the server refuses are set aside",
		before: attachedDevice,
		config: func(cfg *oversqlite.Config) { cfg.PoisonPolicy = oversqlite.PoisonIsolate },
		run: inTurn(begin, writing("bad", child("slots", "m-1", "bad", "bad"), put("owners", "m-2", "good"), child("slots", "x-3", "bad", "bad"), put("owners", "x-5", "unfit"), put("nodes", "m-4", "good")),
			syncing, decide, writing("mended", child("slots", "m-1", "good", "mended")), syncing),
	},
	{
		name:     "detach",
		before:   attachedDevice,
		detaches: true,
		run: inTurn(begin, writing("mine", put("owners", "m-o0", "mine")), syncing, func(ctx context.Context, a *crashApp) error {
			_, err := a.engine.Detach(ctx)
			return err
		}),
	},
	{
		name:     "sync, then detach",
		before:   and(attachedDevice, serverWrites(put("slots", "s-1", "second"))),
		detaches: true,
		run: inTurn(begin, writing("mine", put("owners", "m-o0", "mine")), func(ctx context.Context, a *crashApp) error {
			r, err := a.engine.SyncThenDetach(ctx)
			if err == nil && !r.IsSuccess() {
				err = errors.New("the detach was blocked")
			}
			return err
		}),
	},
	{
		name:   "uninstall",
		before: attachedDevice,
		run: inTurn(begin, writing("mine", put("owners", "m-o0", "mine")), syncing, func(ctx context.Context, a *crashApp) error {
			return a.engine.UninstallSync(ctx)
		}),
	},
	{
		name:   "a server that has lost the user",
		limits: small,
		before: and(attachedDevice, serverForgets),
		run:    lostScope,
	},
	{
		name:   "a server that has lost the user, in the middle of an attach that replaces",
		limits: small,
		before: and(serverWrites(lots(4, "owners", "s-", "theirs")...),
			interrupted(devserver.Fault{Endpoint: devserver.EndpointSnapshotCreate, Status: http.StatusServiceUnavailable},
				opening, writing("kept", put("owners", "m-o0", "kept"), child("items", "m-i", "m-o0", "kept")), attaching),
			serverForgets),
		run: inTurn(opening, attachingAgain, writing("mine", put("slots", "m-1", "mine")), syncing),
	},
	{
		// What was synced and not touched since is the server's to lose.
		name:   "a server that has lost the user, and another device came first",
		limits: small,
		before: and(lived(begin, writing("first", lots(3, "owners", "s-o", "first")...), syncing), serverForgets, otherDevice),
		run:    inTurn(begin, writing("mine", put("owners", "m-o0", "mine"), put("owners", "s-o1", "mine"), remove("owners", "s-o2"), put("nodes", "m-1", "mine")), syncing),
	},
	{
		name:   "a database that was put back to an older state",
		limits: small,
		before: and(attachedDevice, putBack(lived(begin, writing("gone", put("slots", "s-0", "gone"), put("slots", "s-7", "gone")), syncing, writing("gone too", put("slots", "s-8", "gone")), syncing))),
		run:    afresh,
	},
	{
		name:   "a source whose replacement the server does not take",
		limits: small,
		before: and(attachedDevice, putBack(lived(begin, writing("gone", put("slots", "s-0", "gone")), syncing)), func(_ context.Context, c *crashCase) error {
			c.server.server.Inject(devserver.Fault{Endpoint: devserver.EndpointSnapshotCreate, Status: http.StatusBadRequest, Code: "source_replacement_invalid", Times: 1})
			return nil
		}),
		run: afresh,
	},
	{
		name:   "a source that was replaced while what is here excludes what is there",
		limits: small,
		before: and(attachedDevice, serverRetires, serverWrites(put("slots", "s-0", "theirs"), put("slots", "x-s-0", "theirs"))),
		run:    inTurn(begin, writing("mine", child("slots", "s-0", "x-", "mine"), put("owners", "m-o0", "mine")), syncing, writing("more", put("nodes", "m-1", "more")), syncing),
	},
	{
		// The device has pushed nothing under its source, so that the new server need not know that.
		name:   "a server that speaks another dialect than before",
		limits: small,
		before: and(serverWrites(lots(3, "slots", "s-", "first")...), lived(begin), lived(begin, writing("pending", put("owners", "m-o0", "pending"))), func(_ context.Context, c *crashCase) error {
			if err := c.server.upgrade(); err != nil {
				return err
			}
			return c.server.write(lots(3, "slots", "s-", "first")...)
		}),
		run: inTurn(begin, writing("mine", put("nodes", "m-1", "mine"), put("slots", "s-0", "mine")), syncing),
	},
	{
		name:   "a lease that ran out",
		limits: small,
		before: and(leased, serverWaits),
		run:    inTurn(begin, syncing, writing("more", put("slots", "m-1", "more")), syncing),
	},
	{
		name:   "a lease that ran out, and another device came first",
		limits: small,
		before: and(leased, serverWaits, otherDevice),
		run:    inTurn(begin, syncing, writing("more", put("slots", "m-1", "more")), syncing),
	},
}
