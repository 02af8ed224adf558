package devserver

import (
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// streamBatch is how many bytes of a pull are read from the database, and held, at a time. Between batches the
// user's database is free: a slow reader delays nobody.
const streamBatch = 256 << 10

// pullStream writes the answer to a pull bit by bit. Bundles do not change, so it goes on where it was.
type pullStream struct {
	stable  int64
	bundles []wire.BundleMeta
	more    bool

	begun bool
	at    int   // bundle
	row   int64 // next row of it
	ended bool
}

func (s *Server) pull(c *call) error {
	after, err := c.number("after_bundle_seq", 0, 0, math.MaxInt64, "invalid_request")
	if err != nil {
		return err
	}
	limit, err := c.number("max_bundles", min(1000, s.cfg.Limits.MaxBundlesPerPull), 1, s.cfg.Limits.MaxBundlesPerPull, "invalid_request")
	if err != nil {
		return err
	}
	target, err := c.number("target_bundle_seq", 0, 0, math.MaxInt64, "invalid_request")
	if err != nil {
		return err
	}
	var p pullStream
	buf := make([]byte, 0, 4<<10)
	err = s.with(c, func(_ *user, st *store) (err error) {
		if p, err = st.planPull(after, limit, target); err != nil {
			return err
		}
		buf, err = p.fill(st, buf)
		return err
	})
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	for {
		if _, err := c.w.Write(buf); err != nil {
			return nil // the client has gone
		}
		if p.ended {
			return nil
		}
		err := s.with(c, func(_ *user, st *store) (err error) {
			buf, err = p.fill(st, buf[:0])
			return err
		})
		if err != nil {
			// The answer is half out: all that is left is to show that it is not whole.
			panic(http.ErrAbortHandler)
		}
	}
}

// planPull decides which bundles a pull brings.
func (st *store) planPull(after, limit, target int64) (p pullStream, err error) {
	sc, err := st.scope()
	if err != nil {
		return p, err
	}
	if err := sc.initialized(); err != nil {
		return p, err
	}
	if st.dialect.ahead && after > sc.lastSeq {
		return p, refuse(http.StatusConflict, "checkpoint_ahead", "the checkpoint %d is ahead of bundle %d, the newest one", after, sc.lastSeq)
	}
	if after > 0 && after <= sc.floor || target > 0 && target <= sc.floor {
		return p, errPruned(sc.floor)
	}
	p.stable = sc.lastSeq
	if target > 0 {
		p.stable = target // one above the highest seq is echoed, as the reference server does
	}
	err = st.each(`SELECT `+bundleColumns+` FROM _server_bundle WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?`, func(s *sqlite3.Stmt) error {
		if int64(len(p.bundles)) == limit {
			p.more = true
			return nil
		}
		p.bundles = append(p.bundles, scanBundle(s))
		return nil
	}, after, p.stable, limit+1)
	return p, err
}

func errPruned(floor int64) error {
	return refuse(http.StatusConflict, "history_pruned", "history is retained above %d only", floor)
}

// fill appends the next part of the answer to dst, until it has a batch or the end.
func (p *pullStream) fill(st *store, dst []byte) ([]byte, error) {
	if !p.begun {
		p.begun = true
		dst = append(dst, `{"stable_bundle_seq":`...)
		dst = appendInt(dst, p.stable)
		dst = append(dst, `,"bundles":[`...)
	}
	for p.at < len(p.bundles) {
		b := p.bundles[p.at]
		if p.row == 0 {
			if p.at > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '{')
			dst = appendMeta(dst, b)
			dst = append(dst, `,"rows":[`...)
		}
		var err error
		var read int64
		if dst, read, err = st.appendBundleRows(dst, b.Seq, p.row, b.RowCount-p.row, streamBatch); err != nil {
			return dst, err
		}
		if read == 0 && p.row < b.RowCount {
			return dst, fmt.Errorf("bundle %d was pruned while it was read", b.Seq)
		}
		if p.row += read; p.row < b.RowCount {
			return dst, nil
		}
		dst = append(dst, `]}`...)
		p.at, p.row = p.at+1, 0
		if len(dst) >= streamBatch {
			return dst, nil
		}
	}
	p.ended = true
	dst = append(dst, `],"has_more":`...)
	dst = strconv.AppendBool(dst, p.more)
	return append(dst, '}'), nil
}

func appendMeta(dst []byte, m wire.BundleMeta) []byte {
	dst = append(dst, `"bundle_seq":`...)
	dst = appendInt(dst, m.Seq)
	dst = append(dst, `,"source_id":`...)
	dst = appendString(dst, m.SourceID)
	dst = append(dst, `,"source_bundle_id":`...)
	dst = appendInt(dst, m.SourceBundleID)
	dst = append(dst, `,"row_count":`...)
	dst = appendInt(dst, m.RowCount)
	dst = append(dst, `,"bundle_hash":"`...)
	dst = append(dst, m.Hash...)
	return append(dst, '"')
}

// appendBundleRows appends up to limit rows of a bundle from an ordinal on, comma separated, and says how many. It
// stops early when dst has reached enough bytes. A row other than the bundle's first starts with a comma.
func (st *store) appendBundleRows(dst []byte, seq, from, limit, enough int64) ([]byte, int64, error) {
	read := int64(0)
	s, err := st.stmt(`SELECT row FROM _server_bundle_row WHERE id BETWEEN ? AND ? ORDER BY id`)
	if err != nil {
		return dst, 0, err
	}
	defer finish(s)
	if err := s.BindInt64(1, seq<<ordinalBits|from); err != nil {
		return dst, 0, err
	}
	if err := s.BindInt64(2, seq<<ordinalBits|maxPushRows); err != nil {
		return dst, 0, err
	}
	for read < limit && (read == 0 || int64(len(dst)) < enough) && s.Step() {
		if from+read > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, s.ColumnRawText(0)...)
		read++
	}
	return dst, read, s.Err()
}

// committedRows answers a page of a committed bundle.
func (s *Server) committedRows(c *call) error {
	const code = "committed_bundle_chunk_invalid"
	seq, err := strconv.ParseInt(c.r.PathValue("seq"), 10, 64)
	if err != nil || seq <= 0 {
		return refuse(http.StatusBadRequest, code, "bundle_seq must be a positive integer")
	}
	after, err := c.number("after_row_ordinal", -1, 0, math.MaxInt64-1, code)
	if err != nil {
		return err
	}
	limit, err := c.number("max_rows", s.cfg.Limits.DefaultRowsPerCommittedBundleChunk, 1, math.MaxInt64, code)
	if err != nil {
		return err
	}
	limit = min(limit, s.cfg.Limits.MaxRowsPerCommittedBundleChunk)
	var body []byte
	err = s.with(c, func(_ *user, st *store) error {
		sc, err := st.scope()
		if err != nil {
			return err
		}
		if err := sc.initialized(); err != nil {
			return err
		}
		if seq <= sc.floor {
			return errPruned(sc.floor)
		}
		var meta wire.BundleMeta
		if err := st.each(`SELECT `+bundleColumns+` FROM _server_bundle WHERE seq = ?`, func(s *sqlite3.Stmt) error {
			meta = scanBundle(s)
			return nil
		}, seq); err != nil {
			return err
		}
		if meta.Seq == 0 {
			return refuse(http.StatusNotFound, "committed_bundle_not_found", "there is no bundle %d", seq)
		}
		from := min(after+1, meta.RowCount)
		rows, read, err := st.appendBundleRows(nil, seq, from, min(limit, meta.RowCount-from), math.MaxInt64)
		if err != nil {
			return err
		}
		if from > 0 && read > 0 {
			rows = rows[1:] // the comma
		}
		next := after // a bundle has rows, so only a page after the last one is empty
		if read > 0 {
			next = from + read - 1
		}
		body = appendMeta(append(body, '{'), meta)
		if st.dialect.named {
			body = append(append(append(body, `,"canonical_request_hash":"`...), meta.RequestHash...), '"')
		}
		body = append(append(append(body, `,"rows":[`...), rows...), `],"next_row_ordinal":`...)
		body = appendInt(body, next)
		body = append(body, `,"has_more":`...)
		body = append(strconv.AppendBool(body, from+read < meta.RowCount), '}')
		return nil
	})
	if err != nil {
		return err
	}
	writeBody(c.w, http.StatusOK, body)
	return nil
}
