package devserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/ncruces/go-sqlite3"
)

// replacement asks to retire a source in favour of another.
type replacement struct {
	Previous string `json:"previous_source_id"`
	New      string `json:"new_source_id"`
	Reason   string `json:"reason"`
}

var replacementReasons = []string{"history_pruned", "source_sequence_out_of_order", "source_sequence_changed", "source_retired"}

// snapshotRequest reads the body of a snapshot's creation: absent, {} or a replacement, and nothing else.
func snapshotRequest(c *call) (*replacement, error) {
	raw, err := c.read()
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	var in struct {
		SourceReplacement *replacement `json:"source_replacement"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || d.More() {
		return nil, invalidSnapshot("the body is not what it should be")
	}
	r := in.SourceReplacement
	switch {
	case r == nil:
		return nil, nil
	case r.Previous != c.source:
		return nil, invalidSnapshot("previous_source_id is not the caller")
	case r.New == "" || r.New == r.Previous:
		return nil, invalidSnapshot("new_source_id must be another source")
	case !slices.Contains(replacementReasons, r.Reason):
		return nil, invalidSnapshot("unknown reason")
	}
	return r, nil
}

func invalidSnapshot(message string) error {
	return refuse(http.StatusBadRequest, "snapshot_session_invalid", "%s", message)
}

func (s *Server) snapshotCreate(c *call) error {
	replace, err := snapshotRequest(c)
	if err != nil {
		return err
	}
	var answer map[string]any
	err = s.with(c, func(_ *user, st *store) error {
		now := s.cfg.Now()
		snapshot := &session{user: c.user, expires: now.Add(s.cfg.SnapshotSessionTTL)}
		s.sessions.add(snapshot)
		var size int64
		err := st.tx(func() error {
			sc, err := st.scope()
			if err != nil {
				return err
			}
			if err := sc.initialized(); err != nil {
				return err
			}
			if replace != nil {
				if err := st.replaceSource(replace); err != nil {
					return err
				}
			}
			snapshot.seq = sc.lastSeq
			if snapshot.rows, size, err = s.freezeRows(st, snapshot); err != nil {
				return err
			}
			return s.sweep(st, c.user, now, func(*session) bool { return false })
		})
		if err != nil {
			s.sessions.remove(snapshot)
			return err
		}
		answer = map[string]any{"snapshot_id": snapshot.id, "snapshot_bundle_seq": snapshot.seq, "row_count": snapshot.rows,
			"expires_at": formatInstant(snapshot.expires)}
		if size > 0 { // the reference server leaves a zero out
			answer["byte_count"] = size
		}
		return nil
	})
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, answer)
	return nil
}

// replaceSource retires a source and reserves its successor. Repeating the same replacement changes nothing.
func (st *store) replaceSource(r *replacement) error {
	_, by, _, err := st.source(r.Previous)
	switch {
	case err != nil:
		return err
	case by == r.New:
		return nil
	case by != "":
		return errRetired(r.Previous, by)
	}
	if _, _, known, err := st.source(r.New); err != nil {
		return err
	} else if known {
		return refuse(http.StatusConflict, "source_replacement_invalid", "the new source is known already")
	}
	return errors.Join(
		st.run(`INSERT INTO _server_source (source_id, replaced_by) VALUES (?, ?) ON CONFLICT DO UPDATE SET replaced_by = excluded.replaced_by`, r.Previous, r.New),
		st.run(`INSERT INTO _server_source (source_id) VALUES (?)`, r.New))
}

// freezeRows copies every live row into the session, by table and key, as it will be sent.
func (s *Server) freezeRows(st *store, session *session) (rows, size int64, err error) {
	insert, err := st.stmt(`INSERT INTO _server_snapshot_row (id, row) VALUES (?, ?)`)
	if err != nil {
		return 0, 0, err
	}
	defer finish(insert)
	l := &s.cfg.Limits
	var buf []byte
	for _, t := range s.tables {
		err := st.each(t.selectAll, func(row *sqlite3.Stmt) error {
			buf = append(buf[:0], t.prefix...)
			buf = appendString(buf, row.ColumnText(0))
			buf = append(buf, `},"row_version":`...)
			buf = appendInt(buf, row.ColumnInt64(1))
			buf = append(buf, `,"payload":`...)
			start := len(buf)
			buf = t.appendRow(buf, row, 2, jsonbStyle)
			size += int64(len(buf) - start)
			buf = append(buf, '}')
			rows++
			if l.MaxRowsPerSnapshotSession > 0 && rows > l.MaxRowsPerSnapshotSession || l.MaxBytesPerSnapshotSession > 0 && size > l.MaxBytesPerSnapshotSession {
				return fmt.Errorf("the scope is larger than a snapshot may be")
			}
			return errors.Join(insert.BindInt64(1, session.number<<snapshotBits|rows), insert.BindRawText(2, buf), insert.Exec())
		}, t.full)
		if err != nil {
			return 0, 0, err
		}
	}
	return rows, size, nil
}

// snapshotPage answers any page of a snapshot. It does not extend the session's life.
func (s *Server) snapshotPage(c *call) error {
	var body []byte
	err := s.with(c, func(_ *user, st *store) error {
		session, err := s.sessions.current(c.r.PathValue("id"), c.user, "snapshot_session", false, s.cfg.Now())
		if err != nil {
			return err
		}
		after, err := c.number("after_row_ordinal", 0, 0, math.MaxInt64, "snapshot_chunk_invalid")
		if err != nil {
			return err
		}
		limit, err := c.number("max_rows", s.cfg.Limits.DefaultRowsPerSnapshotChunk, 1, math.MaxInt64, "snapshot_chunk_invalid")
		if err != nil {
			return err
		}
		limit = min(limit, s.cfg.Limits.MaxRowsPerSnapshotChunk, max(0, session.rows-after))
		body = append(body, `{"snapshot_id":"`...)
		body = append(body, session.id...)
		body = append(body, `","snapshot_bundle_seq":`...)
		body = appendInt(body, session.seq)
		body = append(body, `,"rows":[`...)
		first := true
		if limit > 0 {
			err = st.each(`SELECT row FROM _server_snapshot_row WHERE id BETWEEN ? AND ? ORDER BY id`, func(row *sqlite3.Stmt) error {
				if !first {
					body = append(body, ',')
				}
				first = false
				body = append(body, row.ColumnRawText(0)...)
				return nil
			}, session.number<<snapshotBits|(after+1), session.number<<snapshotBits|(after+limit))
		}
		body = append(body, `],"next_row_ordinal":`...)
		body = appendInt(body, after+limit)
		body = append(body, `,"has_more":`...)
		body = append(strconv.AppendBool(body, after+limit < session.rows), '}')
		return err
	})
	if err != nil {
		return err
	}
	writeBody(c.w, http.StatusOK, body)
	return nil
}
