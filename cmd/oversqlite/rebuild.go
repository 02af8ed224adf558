package main

import (
	"context"
	"errors"

	"github.com/oversqlite/oversqlite"
)

type rebuildCmd struct {
	attached
}

// Run rebuilds the file from a snapshot. That another copy of the file has been replaced on the server before is no
// reason to ask twice.
func (r *rebuildCmd) Run(ctx context.Context, c *console) error {
	return r.with(ctx, c, false, func(engine *oversqlite.Engine, done func()) error {
		before, err := engine.SourceInfo(ctx)
		if err != nil {
			return err
		}
		report, err := engine.Rebuild(ctx)
		var diverged *oversqlite.SourceReplacementDivergedError
		if errors.As(err, &diverged) {
			report, err = engine.Rebuild(ctx)
		}
		if err != nil {
			return err
		}
		after, err := engine.SourceInfo(ctx)
		if err != nil {
			return err
		}
		done()
		if after.CurrentSourceID != before.CurrentSourceID {
			c.say("the file goes on under an identity of its own")
		}
		if report.Restore != nil {
			c.say("%d rows from the server, up to bundle %d", report.Restore.RowCount, report.Restore.BundleSeq)
		}
		if n := report.Status.Pending.PendingRowCount; n > 0 {
			c.say("%d local changes are kept; sync pushes them", n)
		}
		return nil
	})
}
