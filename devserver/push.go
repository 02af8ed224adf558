package devserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// pushCreate opens a push session. The order of its checks is the protocol's: scope, committed tuple, retired
// source, sequence.
func (s *Server) pushCreate(c *call) error {
	var in struct {
		SourceBundleID   int64  `json:"source_bundle_id"`
		PlannedRowCount  int64  `json:"planned_row_count"`
		InitializationID string `json:"initialization_id"`
		RequestHash      string `json:"canonical_request_hash"`
	}
	if err := c.body(&in, "invalid_request"); err != nil {
		return err
	}
	if in.SourceBundleID <= 0 || in.PlannedRowCount <= 0 || in.PlannedRowCount > maxPushRows {
		return refuse(http.StatusBadRequest, "push_session_invalid", "source_bundle_id and planned_row_count must be positive")
	}
	if err := s.dialect.checkHash(in.RequestHash); err != nil {
		return err
	}
	var answer map[string]any
	err := s.with(c, func(_ *user, st *store) error {
		now := s.cfg.Now()
		return st.tx(func() error {
			sc, err := st.scope()
			if err != nil {
				return err
			}
			if err := st.checkCreate(sc, c.source, in.InitializationID, now, s.cfg.LeaseTTL); err != nil {
				return err
			}
			meta, found, err := st.committedTuple(c.source, in.SourceBundleID)
			if err != nil {
				return err
			}
			if found {
				answer = s.dialect.meta(meta)
				answer["status"] = "already_committed"
				return nil
			}
			if err := st.checkSequence(c.source, in.SourceBundleID, "history_pruned", "source_sequence_out_of_order"); err != nil {
				return err
			}
			push := &pushSession{source: c.source, sourceBundleID: in.SourceBundleID, planned: in.PlannedRowCount, leaseID: in.InitializationID, requestHash: in.RequestHash}
			session := &session{user: c.user, expires: now.Add(s.cfg.PushSessionTTL), push: push}
			if err := s.sweep(st, c.user, now, push.supersedes); err != nil {
				return err
			}
			s.sessions.add(session)
			// The next expected ordinal is zero, which the reference server leaves out.
			answer = map[string]any{"push_id": session.id, "status": "staging", "planned_row_count": in.PlannedRowCount}
			if s.dialect.named {
				answer["canonical_request_hash"] = in.RequestHash
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, answer)
	return nil
}

// supersedes reports whether old stages the same tuple.
func (p *pushSession) supersedes(old *session) bool {
	return old.push != nil && old.push.source == p.source && old.push.sourceBundleID == p.sourceBundleID
}

func metaJSON(m wire.BundleMeta) map[string]any {
	return map[string]any{"bundle_seq": m.Seq, "source_id": m.SourceID, "source_bundle_id": m.SourceBundleID, "row_count": m.RowCount, "bundle_hash": m.Hash}
}

const bundleColumns = `seq, source_id, source_bundle_id, row_count, hash, request_hash`

func scanBundle(s *sqlite3.Stmt) wire.BundleMeta {
	return wire.BundleMeta{Seq: s.ColumnInt64(0), SourceID: s.ColumnText(1), SourceBundleID: s.ColumnInt64(2), RowCount: s.ColumnInt64(3), Hash: s.ColumnText(4), RequestHash: s.ColumnText(5)}
}

// committedTuple returns the retained bundle as which a tuple was committed.
func (st *store) committedTuple(source string, n int64) (meta wire.BundleMeta, found bool, err error) {
	err = st.each(`SELECT `+bundleColumns+` FROM _server_bundle WHERE source_id = ? AND source_bundle_id = ?`, func(s *sqlite3.Stmt) error {
		meta, found = scanBundle(s), true
		return nil
	}, source, n)
	return meta, found, err
}

// checkSequence refuses a tuple that is not the source's next; below and beyond name the errors of one that is
// before and after it.
func (st *store) checkSequence(source string, n int64, below, beyond string) error {
	last, replaced, _, err := st.source(source)
	switch {
	case err != nil:
		return err
	case replaced != "":
		return errRetired(source, replaced)
	case n <= last:
		return refuse(http.StatusConflict, below, "bundle %d of this source was committed before", n)
	case n != last+1:
		return refuse(http.StatusConflict, beyond, "the next bundle of this source is %d", last+1)
	}
	return nil
}

// source returns what is known of a source.
func (st *store) source(id string) (last int64, replacedBy string, known bool, err error) {
	err = st.each(`SELECT last_bundle_id, replaced_by FROM _server_source WHERE source_id = ?`, func(s *sqlite3.Stmt) error {
		last, replacedBy, known = s.ColumnInt64(0), s.ColumnText(1), true
		return nil
	}, id)
	return last, replacedBy, known, err
}

func errRetired(source, by string) error {
	err := refuse(http.StatusConflict, "source_retired", "the source has been replaced")
	err.extra = map[string]any{"source_id": source, "replaced_by_source_id": by}
	return err
}

// incomingRow is a row of a chunk as it arrives.
type incomingRow struct {
	Schema         string          `json:"schema"`
	Table          string          `json:"table"`
	Key            json.RawMessage `json:"key"`
	Op             wire.Op         `json:"op"`
	BaseRowVersion int64           `json:"base_row_version"`
	Payload        json.RawMessage `json:"payload"`
}

func (s *Server) pushChunk(c *call) error {
	var in struct {
		Start int64         `json:"start_row_ordinal"`
		Rows  []incomingRow `json:"rows"`
	}
	if err := c.body(&in, "invalid_request"); err != nil {
		return err
	}
	var next int64
	err := s.with(c, func(_ *user, st *store) error {
		now := s.cfg.Now()
		session, err := s.sessions.current(c.r.PathValue("id"), c.user, "push_session", true, now)
		if err != nil {
			return err
		}
		push := session.push
		err = st.tx(func() error {
			if err := st.renewLease(push, now, s.cfg.LeaseTTL); err != nil {
				return err
			}
			switch n := int64(len(in.Rows)); {
			case in.Start < 0 || n == 0:
				return invalidChunk("a chunk has rows, from an ordinal that is not negative")
			case n > s.cfg.Limits.MaxRowsPerPushChunk:
				return invalidChunk("a chunk has at most %d rows", s.cfg.Limits.MaxRowsPerPushChunk)
			case in.Start != push.next:
				return refuse(http.StatusConflict, "push_chunk_out_of_order", "the next row has ordinal %d", push.next)
			case push.next+n > push.planned:
				return invalidChunk("only %d rows were planned", push.planned)
			}
			return s.stage(st, session, in.Rows)
		})
		if err != nil {
			return err
		}
		push.next += int64(len(in.Rows))
		session.expires = now.Add(s.cfg.PushSessionTTL)
		next = push.next
		return nil
	})
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"push_id": c.r.PathValue("id"), "next_expected_row_ordinal": next})
	return nil
}

func (st *store) renewLease(push *pushSession, now time.Time, ttl time.Duration) error {
	sc, err := st.scope()
	if err != nil {
		return err
	}
	return st.checkLease(sc, push.leaseID, now, ttl)
}

func invalidChunk(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "push_chunk_invalid", format, args...)
}

// stage checks the rows of a chunk and keeps them.
func (s *Server) stage(st *store, session *session, rows []incomingRow) error {
	type identity struct{ table, key string }
	seen := make(map[identity]struct{}, len(rows))
	insert, err := st.stmt(`INSERT INTO _server_push_row (id, tab, key, op, base, payload) VALUES (?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer finish(insert)
	for i := range rows {
		r := &rows[i]
		t, key, err := s.checkRow(r)
		if err != nil {
			return invalidChunk("row %d: %v", i, err)
		}
		id := identity{t.full, key}
		if _, twice := seen[id]; twice {
			return invalidChunk("row %d: its key comes twice", i)
		}
		seen[id] = struct{}{}
		err = errors.Join(
			insert.BindInt64(1, session.number<<ordinalBits|(session.push.next+int64(i))),
			insert.BindText(2, t.full),
			insert.BindText(3, key),
			insert.BindText(4, string(r.Op)),
			insert.BindInt64(5, r.BaseRowVersion),
			bind(insert, 6, payloadOf(r)),
		)
		if err == nil {
			err = insert.Exec()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func payloadOf(r *incomingRow) any {
	if r.Op == wire.OpDelete {
		return nil
	}
	return []byte(r.Payload)
}

// checkRow checks what can be checked of a pushed row without the database, and returns its table and key.
func (s *Server) checkRow(r *incomingRow) (*table, string, error) {
	t := s.byFull[r.Schema+"."+r.Table]
	switch {
	case t == nil:
		return nil, "", errors.New("the table is not registered")
	case !r.Op.Valid():
		return nil, "", errors.New("unknown op")
	case r.BaseRowVersion < 0:
		return nil, "", errors.New("negative base_row_version")
	case r.Key == nil:
		return nil, "", errors.New("no key")
	}
	key, count := "", 0
	err := members(r.Key, func(name string, value []byte) (err error) {
		if name != t.Key {
			return errors.New("the key has another member than the sync key")
		}
		count++
		key, err = unquote(value)
		return err
	})
	switch {
	case err != nil:
		return nil, "", err
	case count != 1:
		return nil, "", errors.New("the key must have one member")
	case t.columns[t.key].kind != kindText && !canonicalUUID(key):
		return nil, "", errors.New("the key is no canonical UUID")
	}
	if r.Op == wire.OpDelete {
		if r.Payload != nil {
			return nil, "", errors.New("a DELETE takes no payload")
		}
		return t, key, nil
	}
	if r.Payload == nil {
		return nil, "", errors.New("no payload")
	}
	return t, key, t.checkPayload(r.Payload, key)
}

// checkPayload wants an object that repeats the key and names no hidden column. Other columns are the commit's affair.
func (t *table) checkPayload(payload []byte, key string) error {
	repeated := false
	err := members(payload, func(name string, value []byte) error {
		switch name {
		case t.Key:
			own, err := unquote(value)
			if err != nil || own != key {
				return errors.New("the key in the payload is not the row's")
			}
			repeated = true
		case "_sync_scope_id":
			return errors.New("a hidden column in the payload")
		}
		return nil
	})
	if err == nil && !repeated {
		return errors.New("the payload lacks the key")
	}
	return err
}
