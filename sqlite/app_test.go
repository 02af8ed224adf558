package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/local"
)

func TestWriteCommitsOrRollsBack(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	insert := func(id string) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO users VALUES (?, 'n')`, id)
			return err
		}
	}
	must(t, db.Write(t.Context(), insert("kept")))
	mine := errors.New("mine")
	if err := db.Write(t.Context(), func(tx *sql.Tx) error { _ = insert("failed")(tx); return mine }); err != mine {
		t.Errorf("got %v, want the function's own error", err)
	}
	func() {
		defer func() {
			if r := recover(); r != "panic" {
				t.Errorf("recovered %v", r)
			}
		}()
		_ = db.Write(t.Context(), func(tx *sql.Tx) error { _ = insert("panicked")(tx); panic("panic") })
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = db.Write(t.Context(), func(tx *sql.Tx) error { _ = insert("exited")(tx); goexit(); return nil })
	}()
	<-done
	must(t, db.Write(t.Context(), insert("last")))
	same(t, "rows", rows(t, db, `SELECT id FROM users`), []string{"kept", "last"})
	mustVerify(t, db)
}

// A statement whose own context ends rolls the whole transaction back; what is executed after it would be committed
// alone. Nothing of such a transaction may stay.
func TestWriteSurvivesACancelledStatement(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec(`INSERT INTO users VALUES ('before', 'n')`); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for range 1000 {
			}
			cancel()
		}()
		_, err := tx.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) INSERT INTO users SELECT 'x' || i, 'n' FROM n`)
		if err == nil {
			t.Error("was not cancelled")
		}
		_, _ = tx.Exec(`INSERT INTO users VALUES ('after', 'n')`)
		return nil
	})
	if err == nil {
		t.Error("a lost transaction was reported as committed")
	}
	same(t, "rows", number(t, db, `SELECT COUNT(*) FROM users`), int64(0))
	must(t, db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(`INSERT INTO users VALUES ('next', 'n')`); return err }))
	same(t, "rows", number(t, db, `SELECT COUNT(*) FROM users`), int64(1))
}

func TestWriteRefusesToBeEndedFromInside(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	for name, end := range map[string]func(*sql.Tx) error{"commit": (*sql.Tx).Commit, "rollback": (*sql.Tx).Rollback} {
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.Exec(`INSERT INTO users VALUES ('u', 'n')`); err != nil {
				return err
			}
			_ = end(tx)
			return nil
		})
		var bad *local.DatabaseError
		if !errors.As(err, &bad) || !errors.Is(err, errLostTransaction) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	same(t, "rows", number(t, db, `SELECT COUNT(*) FROM users`), int64(0))
}

// What a commit fails of is told as it is.
func TestWriteSaysWhyItDoesNotCommit(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL+`; CREATE TABLE notes (user_id TEXT REFERENCES users(id) DEFERRABLE INITIALLY DEFERRED)`, "users")
	err := db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(`INSERT INTO notes VALUES ('nobody')`); return err })
	if !errors.Is(err, sqlite3.CONSTRAINT_FOREIGNKEY) || errors.Is(err, errLostTransaction) {
		t.Errorf("got %v", err)
	}
	same(t, "rows", number(t, db, `SELECT COUNT(*) FROM notes`), int64(0))
}

func TestWriteWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	entered, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- db.Write(t.Context(), func(tx *sql.Tx) error {
			close(entered)
			<-release
			_, err := tx.Exec(`INSERT INTO users VALUES ('first', 'n')`)
			return err
		})
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Write(ctx, func(*sql.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := db.write(ctx, "test", relaxed, func() error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	state(t, db) // a read does not wait
	closed := make(chan error, 1)
	second := make(chan error, 1)
	go func() { second <- db.Write(t.Context(), func(*sql.Tx) error { return nil }) }()
	go func() { closed <- db.Close() }()
	// Whoever waits for its turn, or comes later, is told so at once; whoever has it finishes.
	if err := <-second; !errors.Is(err, local.ErrClosed) {
		t.Errorf("got %v", err)
	}
	<-db.life.done
	if _, err := db.State(t.Context()); !errors.Is(err, local.ErrClosed) {
		t.Errorf("got %v", err)
	}
	select {
	case err := <-closed:
		t.Fatalf("closed during a write: %v", err)
	default:
	}
	close(release)
	must(t, <-first)
	must(t, <-closed)
	same(t, "rows", ask(t, db.Path(), `SELECT id FROM users`), "first")
}

func TestEverythingIsClosedAfterClose(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	must(t, db.Close())
	must(t, db.Close())
	if _, err := db.State(t.Context()); !errors.Is(err, local.ErrClosed) {
		t.Errorf("State: %v", err)
	}
	if err := db.Write(t.Context(), func(*sql.Tx) error { return nil }); !errors.Is(err, local.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	if err := db.DropLease(t.Context()); !errors.Is(err, local.ErrClosed) {
		t.Errorf("DropLease: %v", err)
	}
	if err := db.App().PingContext(t.Context()); err == nil {
		t.Error("a connection of the application's was opened")
	}
}

// Engine and application never find the database busy because of each other.
func TestWritersDoNotCollide(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	cfg.BusyTimeout = 1 // gives up at once
	db := mustOpen(t, cfg)
	const n = 50
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range n {
				if err := db.Write(t.Context(), func(tx *sql.Tx) error {
					_, err := tx.Exec(`INSERT INTO users VALUES (?, 'n')`, fmt.Sprintf("%d-%d", w, i))
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range n {
		must(t, db.DropLease(t.Context()))
	}
	group.Wait()
	same(t, "rows", number(t, db, `SELECT COUNT(*) FROM _sync_dirty_rows`), int64(4*n))
}

func TestApplicationConnections(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	cfg.Synchronous = ""
	db := mustOpen(t, cfg)
	for pragma, want := range map[string]string{"foreign_keys": "1", "recursive_triggers": "1", "synchronous": "2", "busy_timeout": "60000", "journal_mode": "wal", "temp_store": "0"} {
		same(t, pragma, rows(t, db, `PRAGMA `+pragma), []string{want})
	}
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		var foreign, recursive, synchronous int
		if err := tx.QueryRow(`SELECT (SELECT foreign_keys FROM pragma_foreign_keys), (SELECT recursive_triggers FROM pragma_recursive_triggers), (SELECT synchronous FROM pragma_synchronous)`).Scan(&foreign, &recursive, &synchronous); err != nil {
			return err
		}
		same(t, "in Write", []int{foreign, recursive, synchronous}, []int{1, 1, 2})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestIdleFootprint measures what an open engine that nobody uses costs.
func TestIdleFootprint(t *testing.T) { //nolint:paralleltest // measures the process
	if testing.Short() || race.Enabled {
		t.Skip("measures memory, of which the race detector takes its own: 200 engines")
	}
	const n = 200
	open := func(n int) []*DB {
		var dbs []*DB
		for range n {
			dbs = append(dbs, businessDB(t))
		}
		return dbs
	}
	closeAll := func(dbs []*DB) {
		for _, db := range dbs {
			must(t, db.Close())
		}
	}
	closeAll(open(5))
	before, goroutines := resident(t), numGoroutine()
	dbs := open(n)
	resting := (resident(t) - before) / n
	if got := numGoroutine(); got > goroutines {
		t.Errorf("%d idle engines run %d goroutines", n, got-goroutines)
	}
	var held []func()
	for _, db := range dbs {
		release, err := db.hold(t.Context())
		must(t, err)
		held = append(held, release)
		state(t, db)
	}
	awake := (resident(t) - before) / n
	t.Logf("an engine of eight tables costs %d KB while its connection rests, %d KB while it is open", resting, awake)
	if resting > 200 || awake > 800 { // about 30 and 500; the rest is for noise
		t.Error("that is too much")
	}
	for _, release := range held {
		release()
	}
	closeAll(dbs)
}

// resident answers the memory of the process that is in RAM, in KB, after a collection.
func resident(t testing.TB) int {
	t.Helper()
	freeMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("memory is read from /proc, which this system does not have: ", err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	must(t, err)
	return pages * os.Getpagesize() / 1024
}

// A panic inside SQLite costs the transaction and the connection, not the database.
func TestPanicsInsideATransaction(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	err := db.write(t.Context(), "test", relaxed, func() error {
		if err := db.setRebuildGate("x"); err != nil {
			return err
		}
		panic("out of memory")
	})
	var bad *local.DatabaseError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("got %v", err)
	}
	if db.conn.raw != nil {
		t.Error("the broken connection is kept")
	}
	if state(t, db).Attachment.RebuildRequired {
		t.Error("half a transaction was kept")
	}
}

// An unused connection is closed after a while, and what comes next finds a new one.
func TestTheConnectionRests(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(t.Context(), cfg)
		must(t, err)
		release, err := db.hold(t.Context())
		must(t, err)
		time.Sleep(2 * restAfter) // of the bubble's clock
		if db.conn.raw == nil {
			t.Error("closed in use")
		}
		release()
		time.Sleep(2 * restAfter)
		synctest.Wait()
		if db.conn.raw != nil || len(db.conn.stmts) != 0 {
			t.Error("still open")
		}
		state(t, db)
		must(t, db.Close())
	})
}

// A file that was removed does not come back as an empty one.
func TestAFileThatWasRemovedStaysRemoved(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	must(t, os.Remove(db.Path()))
	var bad *local.DatabaseError
	if _, err := db.State(t.Context()); !errors.As(err, &bad) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(db.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestABrokenPoolSaysWhy(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	pool := sql.OpenDB(brokenConnector{why})
	defer pool.Close()
	if err := pool.PingContext(t.Context()); !errors.Is(err, why) || pool.Driver() == nil {
		t.Errorf("got %v", err)
	}
}
