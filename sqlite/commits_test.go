package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// signalledDB opens a database that counts the calls of Config.Committed.
func signalledDB(t testing.TB, ddl string, names ...string) (*DB, *atomic.Int64) {
	t.Helper()
	signals := new(atomic.Int64)
	cfg := testConfig(t, ddl, tables(names...)...)
	cfg.Committed = func() { signals.Add(1) }
	return mustOpen(t, cfg), signals
}

func TestCommitsAreSignalled(t *testing.T) {
	t.Parallel()
	db, signals := signalledDB(t, usersDDL+`; CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id TEXT REFERENCES users(id) DEFERRABLE INITIALLY DEFERRED)`, "users")
	app := db.App()
	tx := func(options *sql.TxOptions, end func(*sql.Tx) error, statements ...string) func() error {
		return func() error {
			tx, err := app.BeginTx(t.Context(), options)
			if err != nil {
				return err
			}
			for _, s := range statements {
				if _, err := tx.Exec(s); err != nil {
					_ = tx.Rollback()
					return err
				}
			}
			return end(tx)
		}
	}
	write := func(result error, statements ...string) func() error {
		return func() error {
			err := db.Write(t.Context(), func(tx *sql.Tx) error {
				for _, s := range statements {
					if _, err := tx.Exec(s); err != nil {
						return err
					}
				}
				return result
			})
			if result != nil && errors.Is(err, result) {
				err = nil
			}
			return err
		}
	}
	autocommit := func(s string) func() error {
		return func() error { _, err := app.ExecContext(t.Context(), s); return err }
	}
	var id string
	for _, c := range []struct {
		name    string
		do      func() error
		signals int64
	}{
		{"a statement", autocommit(`INSERT INTO users VALUES ('a', 'n')`), 1},
		{"a statement read for one row only", func() error {
			return app.QueryRow(`INSERT INTO users VALUES ('b', 'n') RETURNING id`).Scan(&id)
		}, 1},
		{"a transaction", tx(nil, (*sql.Tx).Commit, `INSERT INTO users VALUES ('c', 'n')`, `UPDATE users SET name = 'm'`), 1},
		{"a savepoint that is kept", tx(nil, (*sql.Tx).Commit, `SAVEPOINT s`, `INSERT INTO users VALUES ('d', 'n')`, `RELEASE s`), 1},
		{"a savepoint that is undone", tx(nil, (*sql.Tx).Commit, `INSERT INTO users VALUES ('e', 'n')`, `SAVEPOINT s`, `DELETE FROM users`, `ROLLBACK TO s`), 1},
		{"a deferred transaction", func() error {
			c, err := app.Conn(t.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			for _, s := range []string{`BEGIN DEFERRED`, `SELECT * FROM users`, `UPDATE users SET name = 'deferred'`, `COMMIT`} {
				if _, err := c.ExecContext(t.Context(), s); err != nil {
					return err
				}
			}
			return nil
		}, 1},
		{"Write", write(nil, `INSERT INTO users VALUES ('w', 'n')`), 1},
		{"a table that is not synced", autocommit(`INSERT INTO notes (id) VALUES (1)`), 1}, // which the hook cannot know

		{"a rolled back transaction", tx(nil, (*sql.Tx).Rollback, `INSERT INTO users VALUES ('x', 'n')`), 0},
		{"Write that fails", write(errors.New("mine"), `INSERT INTO users VALUES ('x', 'n')`), 0},
		{"a query", autocommit(`SELECT * FROM users`), 0},
		{"a read-only transaction", tx(&sql.TxOptions{ReadOnly: true}, (*sql.Tx).Commit, `SELECT * FROM users`), 0},
		{"a statement that fails", func() error {
			if autocommit(`INSERT INTO users VALUES ('a', 'again')`)() == nil {
				return errors.New("did not fail")
			}
			return nil
		}, 0},
		{"a commit that a foreign key refuses", func() error {
			if tx(nil, (*sql.Tx).Commit, `INSERT INTO notes VALUES (2, 'nobody')`)() == nil {
				return errors.New("did not fail")
			}
			return nil
		}, 0},
		{"a connection of somebody else", func() error { plain(t, db.Path(), `UPDATE users SET name = 'foreign'`); return nil }, 0},
		{"the engine", func() error { return db.SetRebuildGate(t.Context(), local.ReasonExplicitRebuild) }, 0},
		{"the state", func() error { _, err := db.State(t.Context()); return err }, 0},
	} {
		before := signals.Load()
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := signals.Load() - before; got != c.signals {
			t.Errorf("%s: signalled %d times, want %d", c.name, got, c.signals)
		}
	}
	same(t, "rows", rows(t, db, `SELECT id FROM users ORDER BY id`), []string{"a", "b", "c", "d", "e", "w"})
	mustVerify(t, db)
}

// Whoever looks when a commit is announced looks too early, and is called again.
func TestASignalComesAgainUntilTheCommitIsVisible(t *testing.T) {
	t.Parallel()
	for _, over := range []string{"App", "Write"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			announced, commit := make(chan struct{}), make(chan struct{})
			cfg := testConfig(t, usersDDL, tables("users")...)
			cfg.Committed = func() {
				if calls.Add(1) == 1 {
					close(announced)
					<-commit // what a slow disk does
				}
			}
			db := mustOpen(t, cfg)
			done := make(chan error, 1)
			go func() {
				const insert = `INSERT INTO users VALUES ('a', 'n')`
				if over == "App" {
					_, err := db.App().ExecContext(t.Context(), insert)
					done <- err
					return
				}
				done <- db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(insert); return err })
			}()
			<-announced
			for want := int64(2); want < 5; want++ {
				same(t, "dirty rows before the commit", state(t, db).Pending.Dirty, int64(0))
				same(t, "signals", calls.Load(), want)
			}
			close(commit)
			must(t, <-done)
			same(t, "dirty rows", state(t, db).Pending.Dirty, int64(1))
			same(t, "signals after that", calls.Load(), int64(4))
		})
	}
}

// While another connection writes, nobody can say whether what was announced has been committed. Reading does not wait
// for it.
func TestASignalComesAgainWhileSomebodyWrites(t *testing.T) {
	t.Parallel()
	db, signals := signalledDB(t, usersDDL, "users")
	foreign, err := sqlite3.Open(db.Path())
	must(t, err)
	defer foreign.Close()
	exec(t, db, `INSERT INTO users VALUES ('a', 'n')`)
	must(t, foreign.Exec(`BEGIN IMMEDIATE`))
	same(t, "dirty rows", state(t, db).Pending.Dirty, int64(1))
	same(t, "signals while the lock is held", signals.Load(), int64(2))
	must(t, foreign.Exec(`ROLLBACK`))
	state(t, db)
	same(t, "signals", signals.Load(), int64(2))
	// What is known to be there is not asked for again.
	must(t, foreign.Exec(`BEGIN IMMEDIATE`))
	state(t, db)
	same(t, "signals", signals.Load(), int64(2))
	// The engine waits for locks as before.
	must(t, foreign.Exec(`ROLLBACK`))
	must(t, db.SetRebuildGate(t.Context(), local.ReasonExplicitRebuild))
}

// However commits, looks and foreign locks interleave: who looks after every signal has seen everything in the end.
func TestNoCommitIsMissed(t *testing.T) {
	t.Parallel()
	const writers, each = 4, 25
	wake := make(chan struct{}, 1)
	cfg := testConfig(t, usersDDL, tables("users")...)
	cfg.Committed = func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	db := mustOpen(t, cfg)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				insert := fmt.Sprintf(`INSERT INTO users VALUES ('%d-%d', 'n') RETURNING id`, w, i)
				var id string
				var err error
				switch i % 3 {
				case 0:
					err = db.App().QueryRow(insert).Scan(&id)
				case 1:
					err = db.Write(t.Context(), func(tx *sql.Tx) error { return tx.QueryRow(insert).Scan(&id) })
				case 2:
					c, oerr := sqlite3.Open(db.Path()) // holds the lock for a moment, and commits nothing
					must(t, errors.Join(oerr, c.Exec(`PRAGMA busy_timeout = 60000; BEGIN IMMEDIATE; ROLLBACK`), c.Close()))
					_, err = db.App().Exec(insert)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { all.Wait(); close(finished) }()
	seen := int64(0)
	look := func() { seen = state(t, db).Pending.Dirty }
	for over := false; !over; {
		select {
		case <-wake:
			look()
		case <-finished:
			over = true
		}
	}
	for again := true; again; {
		select {
		case <-wake:
			look()
		default:
			again = false
		}
	}
	same(t, "the rows that were seen after signals alone", seen, int64(writers*each))
}

// Nothing is signalled once Close has returned, although the application's own connections end when they like.
func TestCloseEndsTheSignals(t *testing.T) {
	t.Parallel()
	for range 5 {
		var closed atomic.Bool
		var late atomic.Int64
		cfg := testConfig(t, usersDDL, tables("users")...)
		cfg.Committed = func() {
			runtime.Gosched()
			if closed.Load() {
				late.Add(1)
			}
		}
		db, err := Open(t.Context(), cfg)
		must(t, err)
		var all sync.WaitGroup
		begun := make(chan struct{}, 3)
		for w := range 3 {
			all.Go(func() {
				c, err := db.App().Conn(context.Background())
				begun <- struct{}{}
				if err != nil {
					return
				}
				defer c.Close()
				for i := range 20 {
					if _, err := c.ExecContext(context.Background(), `INSERT INTO users VALUES (?, 'n')`, fmt.Sprint(w, "-", i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range 3 {
			<-begun
		}
		must(t, db.Close())
		closed.Store(true)
		all.Wait()
		same(t, "late signals", late.Load(), int64(0))
	}
}

// The lives of an engine leave no connection, file or goroutine behind. It does not run beside other tests, which open
// files, too.
func TestLivesLeaveNothingBehind(t *testing.T) {
	const lives = 50
	cfg := testConfig(t, usersDDL, tables("users")...)
	var signals atomic.Int64
	cfg.Committed = func() { signals.Add(1) }
	life := func(i int) {
		db, err := Open(t.Context(), cfg)
		must(t, err)
		exec(t, db, `INSERT INTO users VALUES (?, 'n')`, fmt.Sprint("u", i))
		state(t, db)
		must(t, db.Close())
	}
	life(0)
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for i := 1; i < lives; i++ {
		life(i)
	}
	same(t, "signals", signals.Load(), int64(lives))
	same(t, "open files", openFiles(t), files)
	n := runtime.NumGoroutine()
	for range 1000 { // those of database/sql end a moment after Close
		if n <= goroutines {
			break
		}
		<-time.After(10 * time.Millisecond)
		n = runtime.NumGoroutine()
	}
	if n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

// openFiles counts the file descriptors of the process; 0 where it cannot be asked.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

func TestStateTellsWhatWasWritten(t *testing.T) {
	t.Parallel()
	const ddl = `CREATE TABLE Users (id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE);
CREATE TABLE posts (id TEXT PRIMARY KEY NOT NULL, user_id TEXT REFERENCES Users(id) ON DELETE CASCADE)%s;
CREATE TABLE notes (id INTEGER PRIMARY KEY)`
	for name, without := range map[string]string{"with rowids": "", "without": " WITHOUT ROWID"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, _ := signalledDB(t, fmt.Sprintf(ddl, without), "Users", "posts")
			same(t, "at first", state(t, db).Written, local.TableSet(nil))
			told := func(what string, want ...string) {
				t.Helper()
				same(t, what, state(t, db).Written, local.TableSet(want))
				same(t, what+", again", state(t, db).Written, local.TableSet(nil))
			}
			exec(t, db, `INSERT INTO Users VALUES ('a', 'n')`)
			told("an insert", "users")
			exec(t, db, `UPDATE users SET name = 'm'`)
			exec(t, db, `UPDATE users SET name = 'o'`)
			told("an intent rewritten in place", "users")
			exec(t, db, `INSERT INTO posts VALUES ('p', 'a')`)
			told("the other table", "posts")
			exec(t, db, `UPDATE posts SET user_id = NULL; UPDATE posts SET user_id = 'a'`)
			told("it again, in place", "posts")
			exec(t, db, `INSERT OR REPLACE INTO Users VALUES ('b', 'o')`)
			told("an eviction and its cascade", "posts", "users")
			exec(t, db, `INSERT INTO posts VALUES ('q', 'b')`)
			exec(t, db, `DELETE FROM Users`)
			told("several transactions", "posts", "users")
			exec(t, db, `INSERT INTO notes VALUES (1)`)
			told("a table that is not synced")
			must(t, db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(`INSERT INTO posts VALUES ('r', NULL)`); return err }))
			told("Write", "posts")

			tx, err := db.App().Begin()
			must(t, err)
			_, err = tx.Exec(`INSERT INTO Users VALUES ('c', 'n')`)
			must(t, err)
			same(t, "before the commit", state(t, db).Written, local.TableSet(nil))
			must(t, tx.Rollback())
			mine := errors.New("mine")
			if err := db.Write(t.Context(), func(tx *sql.Tx) error { _, _ = tx.Exec(`DELETE FROM posts`); return mine }); err != mine {
				t.Fatal(err)
			}
			if _, err := db.App().Exec(`INSERT INTO Users VALUES ('d', 'x'), ('d', 'y')`); err == nil {
				t.Fatal("inserted twice")
			}
			exec(t, db, `INSERT INTO notes VALUES (2)`)
			told("what was rolled back")

			// A savepoint that is undone may be told of.
			tx, err = db.App().Begin()
			must(t, err)
			for _, s := range []string{`UPDATE posts SET user_id = NULL`, `SAVEPOINT s`, `INSERT INTO Users VALUES ('e', 'z')`, `ROLLBACK TO s`} {
				_, err = tx.Exec(s)
				must(t, err)
			}
			must(t, tx.Commit())
			told("a savepoint", "posts", "users")

			plain(t, db.Path(), `INSERT INTO Users VALUES ('f', 'f')`)
			asServer(t, db, `UPDATE _sync_engine_state SET value = value`)
			told("another process and the engine")
			mustVerify(t, db)
		})
	}
}

// Tables are told once they can be read, not when the commit is announced.
func TestWhatIsNotVisibleIsNotTold(t *testing.T) {
	t.Parallel()
	announced, commit := make(chan struct{}), make(chan struct{})
	cfg := testConfig(t, usersDDL, tables("users")...)
	first := true // the commit alone is signalled before commit is closed, and State afterwards
	var mu sync.Mutex
	cfg.Committed = func() {
		mu.Lock()
		wait := first
		first = false
		mu.Unlock()
		if wait {
			close(announced)
			<-commit
		}
	}
	db := mustOpen(t, cfg)
	done := make(chan error, 1)
	go func() {
		_, err := db.App().ExecContext(t.Context(), `INSERT INTO users VALUES ('a', 'n')`)
		done <- err
	}()
	<-announced
	same(t, "too early", state(t, db).Written, local.TableSet(nil))
	close(commit)
	must(t, <-done)
	// A State that fails takes nothing away.
	asServer(t, db, `INSERT INTO _sync_engine_state VALUES ('upload_blocked', '{')`)
	var bad *local.DatabaseError
	if _, err := db.State(t.Context()); !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	asServer(t, db, `DELETE FROM _sync_engine_state`)
	same(t, "in time", state(t, db).Written, local.TableSet{"users"})
}

func TestDataVersion(t *testing.T) {
	t.Parallel()
	db, _ := signalledDB(t, usersDDL, "users")
	version := state(t, db).DataVersion
	moved := func(what string, want bool) {
		t.Helper()
		now := state(t, db).DataVersion
		if (now != version) != want {
			t.Errorf("%s: from %d to %d", what, version, now)
		}
		version = now
	}
	moved("nothing", false)
	must(t, db.SetRebuildGate(t.Context(), local.ReasonExplicitRebuild))
	moved("the engine", false)
	plain(t, db.Path(), `INSERT INTO users VALUES ('a', 'n')`)
	moved("another process", true)
	moved("nothing", false)
	exec(t, db, `INSERT INTO users VALUES ('b', 'n')`)
	moved("the application", true)
	moved("nothing", false)
	// A connection that is new cannot know what it has missed.
	must(t, db.sleep())
	plain(t, db.Path(), `INSERT INTO users VALUES ('c', 'n')`)
	moved("another process while the engine's connection rests", true)
	must(t, db.sleep())
	moved("rest", true) // whatever was written before is too young to tell it apart from what may come
}

// BenchmarkState reads the state: when nothing is dirty, with 100,000 dirty rows, after a commit, and on a connection that
// has to be opened.
func BenchmarkState(b *testing.B) {
	for _, dirty := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("dirty=%d", dirty), func(b *testing.B) { benchState(b, dirty, func(*DB) {}) })
	}
	b.Run("announced", func(b *testing.B) { benchState(b, 0, func(db *DB) { db.commits.announce(nil) }) })
	b.Run("opened", func(b *testing.B) { benchState(b, 0, func(db *DB) { must(b, db.sleep()) }) })
	b.Run("at_rest", func(b *testing.B) {
		benchState(b, 0, func(db *DB) {
			db.wall = func() time.Time { return time.Now().Add(time.Hour) }
			must(b, db.sleep())
		})
	})
}

func benchState(b *testing.B, dirty int, before func(*DB)) {
	db := testDB(b, usersDDL, "users")
	exec(b, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO users SELECT i, 'n' FROM n WHERE ? > 0`, dirty, dirty)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		before(db)
		if _, err := db.State(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
