package devserver

import (
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/wire"
)

// change is a row that a transaction touched, by its wire key.
type change struct {
	table *table
	key   string
}

// capture records which rows a transaction touches, once each, in the order in which SQLite first touched them. The
// preupdate hook sees a cascaded parent before its children, where an AFTER trigger would see it last.
type capture struct {
	seen  map[change]struct{}
	order []change
	err   error
}

func (c *capture) add(t *table, v sqlite3.Value, err error) {
	if err != nil {
		c.err = err
		return
	}
	ch := change{t, t.columns[t.key].keyText(v)}
	if _, ok := c.seen[ch]; !ok {
		c.seen[ch] = struct{}{}
		c.order = append(c.order, ch)
	}
}

// recording runs fn, inside a transaction, and returns the rows that it touched.
func (st *store) recording(fn func() error) ([]change, error) {
	st.capture = capture{seen: map[change]struct{}{}}
	st.raw.PreUpdateHook(func(d sqlite3.PreUpdateData) {
		t := st.byName[d.Table]
		if t == nil || d.Schema != "main" {
			return
		}
		if d.Op != sqlite3.AUTH_INSERT {
			v, err := d.Old(t.key)
			st.capture.add(t, v, err)
		}
		if d.Op != sqlite3.AUTH_DELETE {
			v, err := d.New(t.key)
			st.capture.add(t, v, err)
		}
	})
	defer func() {
		st.raw.PreUpdateHook(nil)
		st.capture = capture{}
	}()
	if err := fn(); err != nil {
		return nil, err
	}
	return st.capture.order, st.capture.err
}

// writeBundle makes the touched rows the next bundle of a source, inside the transaction that touched them: what a
// row was before and is now decides its op; a row that came and went is left out. Without any row there is no bundle,
// and the answer has a RowCount of 0.
func (st *store) writeBundle(source string, sourceBundleID int64, requestHash string, changes []change) (meta wire.BundleMeta, err error) {
	sc, err := st.scope()
	if err != nil {
		return meta, err
	}
	meta = wire.BundleMeta{Seq: sc.lastSeq + 1, SourceID: source, SourceBundleID: sourceBundleID, RequestHash: requestHash}
	hash := st.dialect.newBundleHash()
	var buf []byte
	for _, ch := range changes {
		row := wire.Row{Schema: ch.table.Schema, Table: ch.table.Name, Key: wire.Key{Column: ch.table.Key, Value: ch.key}, RowVersion: meta.Seq}
		buf, err = st.bundleRow(buf[:0], ch, &row)
		if err != nil {
			return meta, err
		}
		if row.Op == "" {
			continue
		}
		if err := hash.Add(&row); err != nil {
			return meta, err
		}
		if err := st.run(`INSERT INTO _server_bundle_row (id, row) VALUES (?, ?)`, meta.Seq<<ordinalBits|meta.RowCount, buf); err != nil {
			return meta, err
		}
		if err := st.run(`INSERT INTO _server_row (tab, key, version, deleted) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET version = excluded.version, deleted = excluded.deleted`, ch.table.full, ch.key, meta.Seq, row.Op == wire.OpDelete); err != nil {
			return meta, err
		}
		if meta.RowCount++; meta.RowCount > maxPushRows {
			return meta, errors.New("devserver: too many rows for a bundle")
		}
	}
	if meta.RowCount == 0 {
		return meta, nil
	}
	meta.Hash = hash.Sum()
	if err := st.run(`INSERT INTO _server_bundle (`+bundleColumns+`) VALUES (?, ?, ?, ?, ?, ?)`,
		meta.Seq, source, sourceBundleID, meta.RowCount, meta.Hash, requestHash); err != nil {
		return meta, err
	}
	if err := st.run(`INSERT INTO _server_source (source_id, last_bundle_id) VALUES (?, ?)
		ON CONFLICT DO UPDATE SET last_bundle_id = excluded.last_bundle_id`, source, sourceBundleID); err != nil {
		return meta, err
	}
	return meta, st.run(`UPDATE _server_scope SET last_seq = ?`, meta.Seq)
}

// bundleRow fills in what happened to a row and appends it as it is sent. An empty op: nothing happened.
func (st *store) bundleRow(dst []byte, ch change, row *wire.Row) ([]byte, error) {
	t := ch.table
	err := st.lookup(t, ch.key, func(s *sqlite3.Stmt) error {
		was, is := s.ColumnBool(0), s.ColumnType(1+t.key) != sqlite3.NULL
		switch {
		case is && was:
			row.Op = wire.OpUpdate
		case is:
			row.Op = wire.OpInsert
		case was:
			row.Op = wire.OpDelete
		default:
			return nil
		}
		dst = append(dst, t.prefix...)
		dst = appendString(dst, ch.key)
		dst = append(dst, `},"op":"`...)
		dst = append(dst, row.Op...)
		dst = append(dst, `","row_version":`...)
		dst = appendInt(dst, row.RowVersion)
		if is {
			dst = append(dst, `,"payload":`...)
			start := len(dst)
			dst = t.appendRow(dst, s, 1, st.dialect.committed)
			row.Payload = dst[start:len(dst):len(dst)]
		}
		dst = append(dst, '}')
		return nil
	})
	return dst, err
}
