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

// errFull ends a page.
var errFull = errors.New("the page is full")

func invalidSnapshot(message string) error {
	return refuse(http.StatusBadRequest, "snapshot_session_invalid", "%s", message)
}

func (s *Server) snapshotCreate(c *call) error {
	replace, err := snapshotRequest(c)
	if err != nil {
		return err
	}
	free, err := s.builds.take("snapshot_build_capacity")
	if err != nil {
		return err
	}
	defer free()
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
		snapshot.size = size
		if size > 0 || s.dialect.measured { // the classic reference server leaves a zero out
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
	var buf []byte
	for _, t := range s.tables {
		err := st.each(t.selectAll, func(row *sqlite3.Stmt) error {
			buf = append(buf[:0], t.prefix...)
			buf = appendString(buf, row.ColumnText(0))
			buf = append(buf, `},"row_version":`...)
			buf = appendInt(buf, row.ColumnInt64(1))
			buf = append(buf, `,"payload":`...)
			start := len(buf)
			buf = t.appendRow(buf, row, 2, s.dialect.live)
			size += int64(len(buf) - start)
			buf = append(buf, '}')
			rows++
			if s.dialect.measured { // the whole row counts
				size += int64(start + 1)
			}
			if err := s.checkSnapshotSize(rows, size, int64(len(buf))); err != nil {
				return err
			}
			return errors.Join(insert.BindInt64(1, session.number<<snapshotBits|rows), insert.BindRawText(2, buf), insert.Exec())
		}, t.full)
		if err != nil {
			return 0, 0, err
		}
	}
	return rows, size, nil
}

// checkSnapshotSize refuses a scope that is larger than a snapshot may be.
func (s *Server) checkSnapshotSize(rows, size, row int64) error {
	l := &s.cfg.Limits
	for _, x := range []struct {
		dimension     string
		actual, limit int64
	}{
		{"row_count", rows, l.MaxRowsPerSnapshotSession}, {"byte_count", size, l.MaxBytesPerSnapshotSession}, {"row_byte_count", row, l.MaxBytesPerSnapshotRow},
	} {
		switch {
		case x.limit <= 0 || x.actual <= x.limit:
		case !s.dialect.measured:
			return fmt.Errorf("the scope is larger than a snapshot may be")
		default:
			e := refuse(http.StatusConflict, "snapshot_session_limit_exceeded", "the scope is larger than a snapshot may be")
			e.extra = map[string]any{"dimension": x.dimension, "actual": x.actual, "limit": x.limit}
			return e
		}
	}
	return nil
}

// snapshotPage answers any page of a snapshot. It does not extend the session's life.
func (s *Server) snapshotPage(c *call) error {
	free, err := s.chunks.take("snapshot_chunk_capacity")
	if err != nil {
		return err
	}
	defer free()
	var body []byte
	err = s.with(c, func(_ *user, st *store) error {
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
		most, err := c.number("max_bytes", s.cfg.Limits.DefaultBytesPerSnapshotChunk, 1, math.MaxInt64, "snapshot_chunk_invalid")
		if err != nil {
			return err
		}
		most = min(most, s.cfg.Limits.MaxBytesPerSnapshotChunk)
		if !s.dialect.measured {
			most = math.MaxInt64
		}
		body = append(body, `{"snapshot_id":"`...)
		body = append(body, session.id...)
		body = append(body, `","snapshot_bundle_seq":`...)
		body = appendInt(body, session.seq)
		body = append(body, `,"rows":[`...)
		read, size := int64(0), int64(0)
		if limit > 0 {
			err = st.each(`SELECT row FROM _server_snapshot_row WHERE id BETWEEN ? AND ? ORDER BY id`, func(row *sqlite3.Stmt) error {
				text := row.ColumnRawText(0)
				switch n := int64(len(text)); {
				case n > most:
					if read == 0 {
						e := refuse(http.StatusBadRequest, "snapshot_chunk_too_small", "the next row is larger than a chunk of %d bytes", most)
						e.extra = map[string]any{"required_byte_count": n}
						return e
					}
					return errFull
				case size+n > most:
					return errFull
				}
				if read > 0 {
					body = append(body, ',')
				}
				body = append(body, text...)
				read++
				size += int64(len(text))
				return nil
			}, session.number<<snapshotBits|(after+1), session.number<<snapshotBits|(after+limit))
			if errors.Is(err, errFull) {
				err = nil
			}
		}
		body = append(body, `],"next_row_ordinal":`...)
		body = appendInt(body, after+read)
		if s.dialect.measured {
			body = append(body, `,"byte_count":`...)
			body = appendInt(body, size)
		}
		body = append(body, `,"has_more":`...)
		body = append(strconv.AppendBool(body, after+read < session.rows), '}')
		return err
	})
	if err != nil {
		return err
	}
	writeBody(c.w, http.StatusOK, body)
	return nil
}
