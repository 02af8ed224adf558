package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/internal/failpoint"
)

// conn is the engine's write connection with its prepared statements. One goroutine at a time.
//
// foreign_keys is off on it: a bundle changes exactly its own rows, whatever the local foreign-key actions would
// do, and dangling references are checked by query before the commit.
type conn struct {
	raw   *sqlite3.Conn
	stmts map[string]*sqlite3.Stmt
	// broken is set by a panic inside SQLite: the connection must not be used again.
	broken bool
	// triggersOff: no trigger fires for what is written.
	triggersOff bool

	canFreeze bool      // the functions of freezing are there
	freezing  *freezing // what they serve; nil outside of a Freeze

	dataVersion int64 // as of the last look; 0: none on this connection

	sees map[*table]int64 // tables without blind deletions, as of a version of the database
}

// stmt returns the prepared statement for sql, preparing it on first use. It is reset and has no bindings. sql must
// come from a bounded set: statements are kept until the connection closes.
func (c *conn) stmt(sql string) (*sqlite3.Stmt, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	s, tail, err := c.raw.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", sql, err)
	}
	if tail != "" {
		_ = s.Close()
		return nil, fmt.Errorf("prepare %q: more than one statement", sql)
	}
	c.stmts[sql] = s
	return s, nil
}

// forget closes every prepared statement, so that a changed schema is compiled anew.
func (c *conn) forget() {
	for sql, s := range c.stmts {
		_ = s.Close()
		delete(c.stmts, sql)
	}
}

func (c *conn) close() (err error) {
	defer recoverTo(&err) // what a panic left behind may panic again
	c.forget()
	err = c.raw.Close()
	c.raw, c.broken, c.canFreeze, c.dataVersion, c.sees = nil, false, false, 0, nil
	return err
}

// catch turns a panic into an error: SQLite panics when it is out of memory.
func (c *conn) catch(err *error) {
	if r := recover(); r != nil {
		c.broken = true
		*err = fmt.Errorf("sqlite: panic: %v", r)
	}
}

// run executes a statement that returns no rows.
func (c *conn) run(sql string, args ...any) error {
	_, err := c.each(sql, nil, args...)
	return err
}

// changes executes a statement and returns how many rows it inserted, updated or deleted directly.
func (c *conn) changes(sql string, args ...any) (int64, error) {
	if err := c.run(sql, args...); err != nil {
		return 0, err
	}
	return c.raw.Changes(), nil
}

// one executes a query and hands its first row to fn; found reports whether there was one.
func (c *conn) one(sql string, fn func(*sqlite3.Stmt) error, args ...any) (found bool, err error) {
	errStop := errors.New("stop")
	n, err := c.each(sql, func(s *sqlite3.Stmt) error {
		if fn != nil {
			if err := fn(s); err != nil {
				return err
			}
		}
		return errStop
	}, args...)
	if errors.Is(err, errStop) {
		err = nil
	}
	return n > 0, err
}

// each executes a query and hands every row to fn. Column values that fn keeps must be copied.
func (c *conn) each(sql string, fn func(*sqlite3.Stmt) error, args ...any) (rows int, err error) {
	s, err := c.stmt(sql)
	if err != nil {
		return 0, err
	}
	defer func() {
		// Reset repeats the error of the last step; the one that matters is already in err.
		rerr := s.Reset()
		cerr := s.ClearBindings()
		if err == nil {
			err = errors.Join(rerr, cerr)
		}
	}()
	for i, a := range args {
		if err := bind(s, i+1, a); err != nil {
			return 0, err
		}
	}
	for s.Step() {
		rows++
		if fn != nil {
			if err := fn(s); err != nil {
				return rows, err
			}
		}
	}
	if err := s.Err(); err != nil {
		return rows, fmt.Errorf("%s: %w", sql, err)
	}
	return rows, nil
}

func bind(s *sqlite3.Stmt, i int, a any) error {
	switch v := a.(type) {
	case nil:
		return s.BindNull(i)
	case string:
		return s.BindText(i, v)
	case int64:
		return s.BindInt64(i, v)
	case int:
		return s.BindInt(i, v)
	case bool:
		return s.BindBool(i, v)
	case rawText:
		if v == nil {
			return s.BindNull(i)
		}
		return s.BindRawText(i, v)
	case rawBlob:
		return s.BindBlob(i, v)
	default:
		return fmt.Errorf("sqlite: cannot bind a %T", a)
	}
}

// rawText binds bytes as TEXT without a copy into a string; nil binds NULL.
type rawText []byte

// rawBlob binds bytes as a BLOB.
type rawBlob []byte

// tx runs fn in one IMMEDIATE transaction; op names it. A panic inside SQLite (it panics when out of memory) becomes an
// error: the connection is then broken and the DB must be reopened. Everything that the engine writes passes here.
func (c *conn) tx(ctx context.Context, op string, fn func() error) error {
	err := c.transact(ctx, func() error {
		if err := fn(); err != nil {
			return err
		}
		if c.raw.GetAutocommit() {
			// An interrupted write rolls the whole transaction back; whatever ran since then ran in autocommit.
			return errors.New("sqlite: the transaction was lost to an interrupt")
		}
		failpoint.At(failpoint.BeforeCommit, op)
		return nil
	})
	if err == nil {
		failpoint.At(failpoint.AfterCommit, op)
	}
	return err
}

func (c *conn) transact(ctx context.Context, fn func() error) (err error) {
	old := c.raw.SetInterrupt(ctx)
	defer c.raw.SetInterrupt(old)
	defer c.catch(&err)
	t, err := c.raw.BeginImmediate()
	if err != nil {
		return err
	}
	defer t.End(&err) // commits or rolls back; runs before the recover above and panics on
	err = fn()
	return err
}

// tryLock takes the right to write and gives it back, or fails with BUSY at once.
func (c *conn) tryLock(ctx context.Context, patience time.Duration) (err error) {
	old := c.raw.SetInterrupt(ctx)
	defer c.raw.SetInterrupt(old)
	defer c.catch(&err)
	if err := c.raw.BusyTimeout(0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.raw.BusyTimeout(patience)) }()
	t, err := c.raw.BeginImmediate()
	if err != nil {
		return err
	}
	return t.Rollback()
}

// view runs fn in one read transaction.
func (c *conn) view(ctx context.Context, fn func() error) (err error) {
	old := c.raw.SetInterrupt(ctx)
	defer c.raw.SetInterrupt(old)
	defer c.catch(&err)
	if err := c.raw.Exec(`BEGIN`); err != nil {
		return err
	}
	defer func() {
		// A read that was interrupted leaves the transaction open; ending it must not be interrupted as well.
		c.raw.SetInterrupt(context.Background())
		if rerr := c.raw.Exec(`ROLLBACK`); err == nil {
			err = rerr
		}
	}()
	return fn()
}
