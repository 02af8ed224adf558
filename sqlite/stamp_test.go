//go:build linux || darwin || freebsd || netbsd || openbsd

package sqlite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// later makes a database take all stamps for old enough.
func later(db *DB) {
	db.wall = func() time.Time { return time.Now().Add(time.Hour) }
}

func rests(db *DB) bool { return db.conn.raw == nil }

// A look at a database to which nobody has written does not open it; the first one after anything was written does.
func TestALookAtRestOpensNothing(t *testing.T) {
	t.Parallel()
	db, _ := signalledDB(t, usersDDL, "users")
	later(db)
	exec(t, db, `INSERT INTO users VALUES ('a', 'n')`)
	state(t, db)
	must(t, db.sleep())
	st := state(t, db) // what the connection did when it closed
	same(t, "dirty", st.Pending.Dirty, int64(1))
	must(t, db.sleep())
	for range 3 {
		same(t, "a look", state(t, db), st)
		if !rests(db) {
			t.Fatal("a look opened a database to which nobody had written")
		}
	}
	tick(t, db)
	plain(t, db.Path(), `INSERT INTO users VALUES ('b', 'n')`)
	same(t, "dirty", state(t, db).Pending.Dirty, int64(2))
	must(t, db.sleep())
	tick(t, db)
	exec(t, db, `INSERT INTO users VALUES ('c', 'n')`)
	st = state(t, db)
	same(t, "dirty", st.Pending.Dirty, int64(3))
	same(t, "written", st.Written, local.TableSet{"users"})
	must(t, db.Close())
	if _, err := db.State(t.Context()); err == nil {
		t.Error("a database that is closed has a state")
	}
}

// A write in the moment in which a stamp was taken may leave that as it is. So it proves nothing until it is older than any
// file system's clock is coarse.
func TestAYoungStampProvesNothing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	file := func(written, changed time.Duration) fileStamp {
		return fileStamp{inode: 1, written: now.Add(-written).UnixNano(), changed: now.Add(-changed).UnixNano()}
	}
	old := file(time.Hour, time.Hour)
	for name, c := range map[string]struct {
		stamp stamp
		want  bool
	}{
		"old":                         {stamp{old, old}, true},
		"without a log":               {stamp{database: old}, true},
		"nothing there":               {stamp{}, false},
		"written just now":            {stamp{file(time.Second, time.Second), old}, false},
		"the log written just now":    {stamp{old, file(time.Second, time.Second)}, false},
		"copied with its old time":    {stamp{file(time.Hour, time.Second), old}, false},
		"of a clock that was ahead":   {stamp{file(-time.Hour, -time.Hour), old}, false},
		"as old as clocks are coarse": {stamp{old, file(coarse, coarse)}, false},
	} {
		if got := c.stamp.settled(now); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	db, _ := signalledDB(t, usersDDL, "users") // written just now
	state(t, db)
	must(t, db.sleep())
	state(t, db)
	if rests(db) {
		t.Error("a look went by a stamp that is too young")
	}
}

// Whatever other connections, of this process or another, do to the file, in whatever order: no look misses a commit.
func TestNoLookMissesACommit(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	db, _ := signalledDB(t, usersDDL, "users")
	later(db)
	other, err := sqlite3.Open(db.Path())
	must(t, err)
	defer func() { _ = other.Close() }()
	looks, opened := 0, 0
	rows := int64(0)
	insert := func() string {
		rows++
		return fmt.Sprintf(`INSERT INTO users VALUES ('%05d', 'n')`, rows)
	}
	for range 300 {
		switch tick(t, db); random.IntN(10) {
		case 0: // a process that comes and goes
			plain(t, db.Path(), insert())
		case 1: // one that stays
			must(t, other.Exec(insert()))
		case 2: // a log that is written anew from its beginning
			_ = other.Exec(`PRAGMA wal_checkpoint(RESTART)`) // or it is busy
			must(t, other.Exec(insert()))
		case 3:
			_ = other.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
		case 4: // the last connection goes, and the log with it
			must(t, other.Close())
			must(t, db.sleep())
			other, err = sqlite3.Open(db.Path())
			must(t, err)
		case 5:
			exec(t, db, insert())
		case 6: // the engine itself
			must(t, db.SetRebuildGate(t.Context(), local.ReasonExplicitRebuild))
		default:
		}
		if random.IntN(4) > 0 {
			must(t, db.sleep())
		}
		looks++
		st := state(t, db)
		if !rests(db) {
			opened++
		}
		if st.Pending.Dirty != rows {
			t.Fatalf("look %d finds %d dirty rows of %d", looks, st.Pending.Dirty, rows)
		}
	}
	t.Logf("%d of %d looks opened the database", opened, looks)
	if opened == looks {
		t.Error("every look opened the database: nothing was tested")
	}
}

// tick lets the file system's clock go on beyond every stamp of a database.
func tick(t *testing.T, db *DB) {
	t.Helper()
	probe := filepath.Join(filepath.Dir(db.Path()), "clock")
	newest := int64(0)
	for _, path := range []string{db.Path(), db.Path() + "-wal"} {
		s, ok := stampOf(path)
		if !ok {
			t.Fatal("no stamp")
		}
		newest = max(newest, s.written, s.changed)
	}
	for {
		must(t, os.WriteFile(probe, []byte("x"), 0o600))
		if s, _ := stampOf(probe); s.written > newest {
			return
		}
	}
}
