package sqlite

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// write writes the scheduled rows of a table.
func (a *applier) write(p *plan) error {
	keyOf := func(changes []*change) func(s *sqlite3.Stmt, slot, i int) error {
		return func(s *sqlite3.Stmt, slot, i int) error { return bindRow(s, slot+1, []wire.Value{changes[i].key}) }
	}
	going := a.drops
	if a.phase == deletePhase {
		going = append(going, a.puts...)
	}
	if a.phase != insertPhase && len(going) > 0 {
		if err := a.remember(p, going, a.phase != deletePhase); err != nil {
			return err
		}
		if err := p.delete.exec(len(going), keyOf(going)); err != nil {
			return p.unfit(err)
		}
	}
	if a.phase == deletePhase {
		return nil
	}
	if len(a.puts) > 0 {
		if a.phase == wholePhase {
			if err := a.remember(p, a.puts, false); err != nil {
				return err
			}
		}
		n := len(p.t.columns)
		if err := p.put(len(a.puts), func(s *sqlite3.Stmt, slot, i int) error {
			row, err := p.decode(&a.puts[i].key, a.puts[i].payload)
			if err != nil {
				return err
			}
			return bindRow(s, 1+slot*n, row)
		}); err != nil {
			return p.unfit(err)
		}
		if len(p.t.parents) > 0 {
			if err := p.children.exec(len(a.puts), keyOf(a.puts)); err != nil {
				return err
			}
		}
	}
	a.rows += int64(len(a.puts) + len(a.drops))
	p.changed = p.changed || len(a.puts)+len(a.drops) > 0
	return a.writeStates(p.t)
}

// remember keeps the values by which other rows may refer to rows that are about to be deleted or, when they are not
// the key, overwritten.
func (a *applier) remember(p *plan, changes []*change, deleted bool) error {
	for i, column := range p.referred {
		if !deleted && a.phase == wholePhase && column == p.t.key().name {
			continue // an upsert does not change the key
		}
		if err := p.gone[i].exec(len(changes), func(s *sqlite3.Stmt, slot, i int) error {
			return bindRow(s, slot+1, []wire.Value{changes[i].key})
		}); err != nil {
			return err
		}
	}
	return nil
}

// newStateSQL writes the versions of n rows that have none.
func newStateSQL(n int) string {
	return `INSERT OR FAIL INTO _sync_row_state (schema_name, table_name, key_json, row_version, deleted, updated_at) VALUES ` + repeat(n, func(i int) string {
		return `(?1, ?2, ` + parameters(4+3*i, 3) + `, ?3)`
	})
}

// stateSQL writes the versions of n rows.
func stateSQL(n int) string {
	return newStateSQL(n) + ` ON CONFLICT (schema_name, table_name, key_json) DO UPDATE SET
  row_version = excluded.row_version, deleted = excluded.deleted, updated_at = excluded.updated_at`
}

// freshSQL is stateSQL of rows that are newer than what is here, and changes fewer than n rows where one is not.
func freshSQL(n int) string { return stateSQL(n) + ` WHERE excluded.row_version > row_version` }

// writeStates records the versions of the scheduled rows.
func (a *applier) writeStates(t *table) error {
	for _, c := range a.stateful {
		if !c.inexact {
			continue
		}
		if err := a.db.conn.run(`DELETE FROM _sync_row_state WHERE schema_name = ? AND table_name = ? AND key_json = ?`, t.Schema, t.Name, c.keyJSON); err != nil {
			return err
		}
	}
	a.stateful = slices.DeleteFunc(a.stateful, func(c *change) bool { return c.inexact })
	states := &a.states
	if a.blind() {
		states = &a.fresh
	}
	return states.exec(len(a.stateful), func(s *sqlite3.Stmt, slot, i int) error {
		c := a.stateful[i]
		if slot == 0 {
			if err := errors.Join(s.BindText(1, t.Schema), s.BindText(2, t.Name), s.BindText(3, a.now)); err != nil {
				return err
			}
		}
		if err := s.BindText(4+3*slot, c.keyJSON); err != nil {
			return err
		}
		if err := s.BindInt64(5+3*slot, c.version); err != nil {
			return err
		}
		return s.BindBool(6+3*slot, c.op == wire.OpDelete)
	})
}

// unfit tells what an error of writing rows of p means: a value that the table cannot hold is the server's fault,
// a unique one may be an intent's.
func (p *plan) unfit(err error) error {
	var proto *wire.ProtocolError
	if errors.As(err, &proto) || isUnique(err) || !errors.Is(err, sqlite3.CONSTRAINT) || errors.Is(err, sqlite3.CONSTRAINT_TRIGGER) {
		return err
	}
	return p.misfit("a row breaks a constraint of the local table", err)
}

// errMisfit marks faults of rows that are sound in themselves.
var errMisfit = errors.New("the local schema cannot hold what the server sent")

// misfit is a fault of a sound row of p's table that has no place here.
func (p *plan) misfit(reason string, cause error) *wire.ProtocolError {
	fault := p.protocol(reason)
	fault.Err = errMisfit
	if cause != nil {
		fault.Err = fmt.Errorf("%w: %w", errMisfit, cause)
	}
	return fault
}

// divergence is a misfit that another history would explain: the row is sound and the table could hold it, but the rows
// here are not those on which the server made the bundle. A snapshot tells which they are.
type divergence struct{ fault *wire.ProtocolError }

func (d *divergence) Error() string { return d.fault.Error() }
func (d *divergence) Unwrap() error { return d.fault }

// isUnique reports whether a row could not be written because another one has a value that must be unique.
func isUnique(err error) bool {
	return errors.Is(err, sqlite3.CONSTRAINT_UNIQUE) || errors.Is(err, sqlite3.CONSTRAINT_PRIMARYKEY) || errors.Is(err, sqlite3.CONSTRAINT_ROWID)
}
