package devserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

func (s *Server) pushCommit(c *call) error {
	var meta wire.BundleMeta
	err := s.with(c, func(u *user, st *store) error {
		session, err := s.sessions.current(c.r.PathValue("id"), c.user, "push_session", true, s.cfg.Now())
		if err != nil {
			return err
		}
		if err := st.tx(func() (err error) {
			meta, err = s.commit(st, session)
			return err
		}); err != nil {
			var api *apiError
			if errors.As(err, &api) {
				return err
			}
			return refuse(http.StatusInternalServerError, "push_session_commit_failed", "%v", err)
		}
		s.sessions.remove(session)
		u.hub.publish(meta)
		return nil
	})
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, s.dialect.meta(meta))
	return nil
}

// commit turns a complete push session into a bundle, inside a transaction.
func (s *Server) commit(st *store, session *session) (meta wire.BundleMeta, err error) {
	push := session.push
	if err := st.renewLease(push, s.cfg.Now(), s.cfg.LeaseTTL); err != nil {
		return meta, err
	}
	if err := st.checkSequence(push.source, push.sourceBundleID, "source_sequence_changed", "source_sequence_changed"); err != nil {
		return meta, err
	}
	if push.next != push.planned {
		return meta, invalidCommit("%d of %d rows are staged", push.next, push.planned)
	}
	if err := st.checkTwice(session); err != nil {
		return meta, err
	}
	if err := s.checkRequest(st, session); err != nil {
		return meta, err
	}
	if err := s.checkConflict(st, session); err != nil {
		return meta, err
	}
	changes, err := st.recording(func() error { return s.apply(st, session) })
	if err != nil {
		return meta, err
	}
	meta, err = st.writeBundle(push.source, push.sourceBundleID, push.requestHash, changes)
	if err != nil {
		return meta, err
	}
	if meta.RowCount == 0 {
		return meta, invalidCommit("the push has no effect")
	}
	if push.leaseID != "" {
		if err := st.initialize(); err != nil {
			return meta, err
		}
	}
	return meta, st.drop(session)
}

func invalidCommit(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "push_commit_invalid", format, args...)
}

// staged is the range of a push session's rows.
func (s *session) staged() (first, last any) {
	return s.number << ordinalBits, s.number<<ordinalBits | maxPushRows
}

// checkTwice refuses a push with two rows of one key. Chunks were checked by themselves.
func (st *store) checkTwice(session *session) error {
	first, last := session.staged()
	return st.each(`SELECT tab, key FROM _server_push_row WHERE id BETWEEN ? AND ? GROUP BY tab, key HAVING count(*) > 1 LIMIT 1`, func(s *sqlite3.Stmt) error {
		return invalidCommit("%s %s is pushed twice", s.ColumnText(0), s.ColumnText(1))
	}, first, last)
}

// checkRequest refuses a push whose rows do not have the hash with which it was announced.
func (s *Server) checkRequest(st *store, session *session) error {
	if !s.dialect.named {
		return nil
	}
	first, last := session.staged()
	hash := s.dialect.newRequestHash()
	err := st.each(`SELECT tab, key, op, base, payload FROM _server_push_row WHERE id BETWEEN ? AND ? ORDER BY id`, func(row *sqlite3.Stmt) error {
		t := s.byFull[row.ColumnText(0)]
		pushed := wire.PushRow{Schema: t.Schema, Table: t.Name, Key: wire.Key{Column: t.Key, Value: row.ColumnText(1)}, Op: wire.Op(row.ColumnText(2)), BaseRowVersion: row.ColumnInt64(3)}
		if pushed.Op != wire.OpDelete {
			pushed.Payload = row.ColumnRawText(4)
		}
		return hash.Add(&pushed)
	}, first, last)
	if err != nil {
		return err
	}
	if hash.Sum() != session.push.requestHash {
		return invalidCommit("the rows do not have the canonical_request_hash of their session")
	}
	return nil
}

// checkConflict refuses a push for its first row whose base is not what the server has.
func (s *Server) checkConflict(st *store, session *session) error {
	first, last := session.staged()
	var conflict wire.Conflict
	var t *table
	err := st.each(`SELECT p.tab, p.key, p.op, p.base, coalesce(r.version, 0), coalesce(r.deleted, 0)
		FROM _server_push_row p LEFT JOIN _server_row r ON r.tab = p.tab AND r.key = p.key
		WHERE p.id BETWEEN ? AND ?
		  AND NOT CASE WHEN r.version IS NULL THEN p.op = 'INSERT' AND p.base = 0
		               ELSE p.base = r.version AND (p.op = 'INSERT') = r.deleted END
		ORDER BY p.id LIMIT 1`, func(row *sqlite3.Stmt) error {
		t = s.byFull[row.ColumnText(0)]
		conflict = wire.Conflict{Schema: t.Schema, Table: t.Name, Key: wire.Key{Column: t.Key, Value: row.ColumnText(1)}, Op: wire.Op(row.ColumnText(2)),
			BaseRowVersion: row.ColumnInt64(3), ServerRowVersion: row.ColumnInt64(4), ServerRowDeleted: row.ColumnBool(5)}
		return nil
	}, first, last)
	if err != nil || t == nil {
		return err
	}
	row, err := st.one(t, conflict.Key.Value, s.dialect.live)
	if err != nil {
		return err
	}
	out := refuse(http.StatusConflict, "push_conflict", "%s %s is not at the version that this change is based on", t.full, conflict.Key.Value)
	out.extra = map[string]any{"conflict": map[string]any{
		"schema": t.Schema, "table": t.Name, "key": map[string]string{t.Key: conflict.Key.Value}, "op": conflict.Op,
		"base_row_version": conflict.BaseRowVersion, "server_row_version": conflict.ServerRowVersion,
		"server_row_deleted": conflict.ServerRowDeleted, "server_row": json.RawMessage(row),
	}}
	return out
}

// one returns the live row with the key; "null" when there is none.
func (st *store) one(t *table, key string, how style) (row []byte, err error) {
	err = st.lookup(t, key, func(s *sqlite3.Stmt) error {
		if row = []byte("null"); s.ColumnType(1+t.key) != sqlite3.NULL {
			row = t.appendRow(nil, s, 1, how)
		}
		return nil
	})
	return row, err
}

// lookup hands fn the result of selectOne for the key.
func (st *store) lookup(t *table, key string, fn func(*sqlite3.Stmt) error) error {
	s, err := st.stmt(t.selectOne)
	if err != nil {
		return err
	}
	defer finish(s)
	if err := errors.Join(t.columns[t.key].bindText(s, 1, key), s.BindText(2, t.full), s.BindText(3, key)); err != nil {
		return err
	}
	if s.Step() {
		return fn(s)
	}
	return s.Err()
}

// apply changes the business tables as the staged rows say, in their order.
func (s *Server) apply(st *store, session *session) error {
	first, last := session.staged()
	values := map[*table][][]byte{} // scratch: a payload's values by column
	return st.each(`SELECT tab, key, op, payload FROM _server_push_row WHERE id BETWEEN ? AND ? ORDER BY id`, func(row *sqlite3.Stmt) error {
		t := s.byFull[row.ColumnText(0)]
		key := row.ColumnText(1)
		if op := wire.Op(row.ColumnText(2)); op != wire.OpDelete {
			if values[t] == nil {
				values[t] = make([][]byte, len(t.columns))
			}
			return st.write(t, key, op, row.ColumnBlob(3, nil), values[t])
		}
		del, err := st.stmt(t.deleteOne)
		if err != nil {
			return err
		}
		defer finish(del)
		if err := t.columns[t.key].bindText(del, 1, key); err != nil {
			return err
		}
		return del.Exec()
	}, first, last)
}

// write inserts or updates a row from its payload. Columns that the payload lacks get their default, or stay.
func (st *store) write(t *table, key string, op wire.Op, payload []byte, values [][]byte) error {
	clear(values)
	present := 0
	err := members(payload, func(name string, value []byte) error {
		i, ok := t.index[name]
		if !ok {
			return fmt.Errorf("%s has no column %s", t.full, name)
		}
		if values[i] == nil {
			present++
		}
		values[i] = value
		return nil
	})
	if err != nil {
		return err
	}
	s, err := st.stmt(t.writeSQL(op, values, present))
	if err != nil {
		return err
	}
	defer finish(s)
	param := 0
	for i, v := range values {
		if v == nil {
			continue
		}
		param++
		if err := t.columns[i].bindJSON(s, param, v, st.dialect.numbers); err != nil {
			return fmt.Errorf("%s %s: %w", t.full, key, err)
		}
	}
	if op == wire.OpUpdate {
		if err := t.columns[t.key].bindText(s, param+1, key); err != nil {
			return err
		}
	}
	return s.Exec()
}

// writeSQL is the statement that writes the columns that have a value.
func (t *table) writeSQL(op wire.Op, values [][]byte, present int) string {
	full := present == len(values)
	switch {
	case full && op == wire.OpInsert:
		return t.insertAll
	case full:
		return t.updateAll
	}
	columns := make([]int, 0, present)
	for i, v := range values {
		if v != nil {
			columns = append(columns, i)
		}
	}
	if op == wire.OpInsert {
		return t.insertSQL(columns)
	}
	return t.updateSQL(columns)
}
