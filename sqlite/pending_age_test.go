package sqlite

import (
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// A change is as old as it is until the server is known to have it: neither that it is on its way nor that it was refused
// makes it young again.
func TestAChangeInTheOutboxKeepsItsAge(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	written := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	oldest := func(what string, pending local.Pending) {
		t.Helper()
		pending.OldestAt = written
		same(t, what, state(t, db).Pending, pending)
	}
	exec(t, db, `INSERT INTO users VALUES ('u', 'U')`)
	exec(t, db, `UPDATE _sync_dirty_rows SET updated_at = '2026-01-02T03:04:05.678Z'`)
	exec(t, db, `INSERT INTO users VALUES ('v', 'V')`)
	freeze(t, db, local.FreezeRequest{})
	oldest("frozen", local.Pending{Outbox: 2})
	exec(t, db, `INSERT INTO users VALUES ('w', 'W')`)
	oldest("frozen, and another written since", local.Pending{Outbox: 2, Dirty: 1})
	must(t, db.RequeueOutbox(t.Context()))
	oldest("refused", local.Pending{Dirty: 3})
	freeze(t, db, local.FreezeRequest{MaxRows: 2})
	oldest("some of them frozen again", local.Pending{Outbox: 2, Dirty: 1})
	_, err := db.MarkCommitted(t.Context(), wire.BundleMeta{Seq: 1, Hash: "h", SourceID: state(t, db).Outbox.SourceID, SourceBundleID: state(t, db).Outbox.SourceBundleID}, true)
	must(t, err)
	oldest("committed, not settled", local.Pending{Outbox: 2, Dirty: 1})
	must(t, db.Close())
	if got := state(t, mustOpen(t, db.cfg)).Pending.OldestAt; !got.Equal(written) {
		t.Errorf("after another start the oldest is of %v", got)
	}
}
