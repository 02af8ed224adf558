package devserver

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// ErrScopeInitializing is answered by ExecWrite while a client holds the initialization lease of the scope.
var ErrScopeInitializing = errors.New("devserver: a client is seeding this scope")

// ExecWrite runs fn in a transaction on the user's business tables and commits what it did, cascades included, as
// the next bundle of the source writerID; watchers are told. Nothing changed: no bundle. A scope that was never seen
// becomes initialized. fn must not keep tx, nor use it from another goroutine, and must not write to tables whose
// names start with _server_. ctx is checked before fn and before the commit; a statement of fn that is interrupted
// through a context of its own undoes the whole transaction, which is then reported as an error.
func (s *Server) ExecWrite(ctx context.Context, userID, writerID string, fn func(tx *sql.Tx) error) error {
	if userID == "" || writerID == "" {
		return errors.New("devserver: ExecWrite needs a user and a writer")
	}
	return s.users.with(userID, func(u *user, st *store) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		meta, err := st.execWrite(ctx, writerID, fn)
		if err == nil && meta.RowCount > 0 {
			u.hub.publish(meta)
		}
		return err
	})
}

func (st *store) execWrite(ctx context.Context, writerID string, fn func(tx *sql.Tx) error) (meta wire.BundleMeta, err error) {
	// With a context that can end, database/sql would roll back from a goroutine of its own, and a connection must
	// only ever be used by one.
	tx, err := st.sc.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return meta, err
	}
	defer func() { _ = tx.Rollback() }() // after a commit: nothing
	if err := st.raw.Exec(`PRAGMA defer_foreign_keys = ON`); err != nil {
		return meta, err
	}
	sc, err := st.scope()
	if err != nil {
		return meta, err
	}
	if sc.state == stateInitializing {
		return meta, ErrScopeInitializing
	}
	changes, err := st.recording(func() error { return fn(tx) })
	if err != nil {
		return meta, err
	}
	if err := ctx.Err(); err != nil {
		return meta, err
	}
	if st.raw.GetAutocommit() {
		return meta, errors.New("devserver: the transaction of ExecWrite was undone while its function ran")
	}
	last, replaced, _, err := st.source(writerID)
	if err != nil {
		return meta, err
	}
	if replaced != "" {
		return meta, errRetired(writerID, replaced)
	}
	if meta, err = st.writeBundle(writerID, last+1, "", changes); err != nil {
		return meta, err
	}
	if err := st.initialize(); err != nil {
		return meta, err
	}
	return meta, tx.Commit()
}

// SetRetentionFloor prunes a user's bundles with a seq at or below floor. A floor never goes down, nor beyond the
// last bundle.
func (s *Server) SetRetentionFloor(userID string, floor int64) error {
	return s.users.with(userID, func(_ *user, st *store) error {
		return st.tx(func() error {
			sc, err := st.scope()
			if err != nil {
				return err
			}
			if floor > sc.lastSeq {
				return refuse(http.StatusBadRequest, "invalid_request", "the last bundle is %d", sc.lastSeq)
			}
			if floor <= sc.floor {
				return nil
			}
			return errors.Join(
				st.run(`DELETE FROM _server_bundle_row WHERE id < ?`, (floor+1)<<ordinalBits),
				st.run(`DELETE FROM _server_bundle WHERE seq <= ?`, floor),
				st.run(`UPDATE _server_scope SET floor = ?`, floor))
		})
	})
}

func (s *Server) retentionFloor(c *call) error {
	var in struct {
		UserID string `json:"user_id"`
		Floor  int64  `json:"retained_bundle_floor"`
	}
	if err := c.body(&in, "invalid_request"); err != nil {
		return err
	}
	if in.UserID == "" {
		return invalidRequest("user_id is missing")
	}
	if err := s.SetRetentionFloor(in.UserID, in.Floor); err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"user_id": in.UserID, "retained_bundle_floor": in.Floor})
	return nil
}

// Forget drops everything of a user, as if the server had never seen him.
func (s *Server) Forget(userID string) error { return s.users.forget(userID) }

// ScopeInfo is the state of a user's rows as a whole.
type ScopeInfo struct {
	State         string // "uninitialized", "initializing" or "initialized"
	LastBundleSeq int64
	RetainedFloor int64
}

// Scope returns the state of a user's scope.
func (s *Server) Scope(ctx context.Context, userID string) (info ScopeInfo, err error) {
	err = s.look(ctx, userID, func(st *store) error {
		sc, err := st.scope()
		info = ScopeInfo{State: sc.state, LastBundleSeq: sc.lastSeq, RetainedFloor: sc.floor}
		return err
	})
	return info, err
}

// Rows returns the live rows of a user's table ("schema.table", or the bare name), ordered by key, each as the
// payload that a pull would bring.
func (s *Server) Rows(ctx context.Context, userID, name string) (rows []json.RawMessage, err error) {
	err = s.eachLive(ctx, userID, name, func(t *table, row *sqlite3.Stmt) {
		rows = append(rows, t.appendRow(nil, row, 2, s.dialect.committed))
	})
	return rows, err
}

// Dump returns the rows of all tables that have any, by "schema.table".
func (s *Server) Dump(ctx context.Context, userID string) (map[string][]json.RawMessage, error) {
	dump := map[string][]json.RawMessage{}
	for _, t := range s.tables {
		rows, err := s.Rows(ctx, userID, t.full)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			dump[t.full] = rows
		}
	}
	return dump, nil
}

// LiveVersions returns the row version of every live row of a user's table, by key.
func (s *Server) LiveVersions(ctx context.Context, userID, name string) (map[string]int64, error) {
	versions := map[string]int64{}
	err := s.eachLive(ctx, userID, name, func(_ *table, row *sqlite3.Stmt) {
		versions[row.ColumnText(0)] = row.ColumnInt64(1)
	})
	return versions, err
}

func (s *Server) eachLive(ctx context.Context, userID, name string, fn func(*table, *sqlite3.Stmt)) error {
	var found *table
	for _, t := range s.tables {
		if name == t.full || name == t.Name {
			found = t
		}
	}
	if found == nil {
		return fmt.Errorf("devserver: there is no table %q", name)
	}
	return s.look(ctx, userID, func(st *store) error {
		return st.each(found.selectAll, func(row *sqlite3.Stmt) error {
			fn(found, row)
			return nil
		}, found.full)
	})
}

// look runs fn on a user's database unless ctx has ended.
func (s *Server) look(ctx context.Context, userID string, fn func(*store) error) error {
	if userID == "" {
		return errors.New("devserver: a user is needed")
	}
	return s.users.with(userID, func(_ *user, st *store) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return fn(st)
	})
}
