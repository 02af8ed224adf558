package contracts

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// bundleRow is a row of a committed bundle, with the members in the order in which fixtures count their bytes.
type bundleRow struct {
	Schema     string          `json:"schema"`
	Table      string          `json:"table"`
	Key        json.RawMessage `json:"key"`
	Op         string          `json:"op"`
	RowVersion int64           `json:"row_version"`
	Payload    json.RawMessage `json:"payload,omitempty"`
}

// uploadedRow is a row as a client pushes it.
type uploadedRow struct {
	Schema  string          `json:"schema"`
	Table   string          `json:"table"`
	Key     json.RawMessage `json:"key"`
	Op      string          `json:"op"`
	Base    int64           `json:"base_row_version"`
	Payload json.RawMessage `json:"payload"`
}

// committedBundle is a bundle of the server's history.
type committedBundle struct {
	seq      int64
	source   string
	id       int64
	asked    string // canonical_request_hash
	hash     string
	rows     []bundleRow
	rowCount int
}

// createRequest is the body of a request for a push session.
type createRequest struct {
	source           string
	SourceBundleID   int64  `json:"source_bundle_id"`
	PlannedRowCount  int64  `json:"planned_row_count"`
	RequestHash      string `json:"canonical_request_hash"`
	InitializationID string `json:"initialization_id"`
}

type pushSession struct {
	createRequest
	rows []uploadedRow
}

// fake is the chunked server ("FAKE") of the fixtures' guide: it takes whatever is pushed. Its hooks answer in its place, or
// change what it says; a nil hook, and a nil answer, leave it alone.
type fake struct {
	*server
	next      int64 // seq of the next bundle
	sessions  map[string]*pushSession
	committed map[string]*committedBundle // by source and source bundle id
	bundles   []*committedBundle
	creates   []createRequest
	uploaded  []uploadedRow // the last chunk
	pulls     int

	onCreate func(createRequest) *answer
	onCommit func(*pushSession) *answer
	onRows   func(b *committedBundle, first bool) *answer
	onPull   func(n int)
	// pulled answers a pull.
	pulled func(request) *answer
	// hash and asked replace the bundle hash everywhere, and the request hash in committed rows.
	hash  func(string) string
	asked func(string) string
	// amend changes what is committed of an upload.
	amend func([]bundleRow) []bundleRow
}

func newFake(t testing.TB, d *dialect) *fake {
	f := &fake{server: newServer(t, d), next: 1, sessions: map[string]*pushSession{}, committed: map[string]*committedBundle{}}
	f.pulled = f.pull
	return f
}

// routed routes everything that the fake does.
func (f *fake) routed() *fake {
	f.on("POST /sync/push-sessions", f.create)
	f.on("POST /sync/push-sessions/{id}/chunks", f.chunk)
	f.on("POST /sync/push-sessions/{id}/commit", f.commit)
	f.on("DELETE /sync/push-sessions/{id}", func(r request) *answer {
		delete(f.sessions, r.PathValue("id"))
		return &answer{status: http.StatusNoContent}
	})
	f.on("GET /sync/committed-bundles/{seq}/rows", f.rows)
	f.on("GET /sync/pull", func(r request) *answer { return f.pulled(r) })
	return f
}

func tupleOf(source string, id int64) string { return source + "/" + strconv.FormatInt(id, 10) }

// meta is what the server says of a bundle in answers to a push.
func (f *fake) meta(b *committedBundle) object {
	o := object{"bundle_seq": b.seq, "source_id": b.source, "source_bundle_id": b.id, "row_count": b.rowCount, "bundle_hash": b.hash}
	if f.dialect.uniform {
		o["canonical_request_hash"] = b.asked
	}
	return o
}

func (f *fake) create(r request) *answer {
	in := createRequest{source: r.Source}
	f.parse(r, &in)
	f.creates = append(f.creates, in)
	if (in.RequestHash != "") != f.dialect.uniform {
		f.t.Errorf("a request hash of %q is not %s", in.RequestHash, f.dialect.name)
	}
	if f.onCreate != nil {
		if a := f.onCreate(in); a != nil {
			return a
		}
	}
	if b := f.committed[tupleOf(r.Source, in.SourceBundleID)]; b != nil {
		o := f.meta(b)
		o["status"] = "already_committed"
		return ok(o)
	}
	id := uuid.NewString()
	f.sessions[id] = &pushSession{createRequest: in}
	o := object{"push_id": id, "status": "staging", "planned_row_count": in.PlannedRowCount, "next_expected_row_ordinal": 0}
	if f.dialect.uniform {
		o["canonical_request_hash"] = in.RequestHash
	}
	return ok(o)
}

func (f *fake) chunk(r request) *answer {
	id := r.PathValue("id")
	session := f.sessions[id]
	if session == nil {
		return refused(http.StatusNotFound, "push_session_not_found")
	}
	var in struct {
		Start int           `json:"start_row_ordinal"`
		Rows  []uploadedRow `json:"rows"`
	}
	f.parse(r, &in)
	if in.Start != len(session.rows) {
		return refused(http.StatusConflict, "push_chunk_out_of_order")
	}
	session.rows = append(session.rows, in.Rows...)
	f.uploaded = in.Rows
	return ok(object{"push_id": id, "next_expected_row_ordinal": len(session.rows)})
}

func (f *fake) commit(r request) *answer {
	session := f.sessions[r.PathValue("id")]
	if session == nil {
		return refused(http.StatusNotFound, "push_session_not_found")
	}
	if len(r.Body) != 0 {
		f.t.Errorf("a commit with the body %q", r.Body)
	}
	if f.onCommit != nil {
		if a := f.onCommit(session); a != nil {
			return a
		}
	}
	at := tupleOf(session.source, session.SourceBundleID)
	b := f.committed[at]
	if b == nil {
		var rows []bundleRow
		for _, u := range session.rows {
			rows = append(rows, bundleRow{Schema: u.Schema, Table: u.Table, Key: u.Key, Op: u.Op, RowVersion: f.next, Payload: u.Payload})
		}
		b = f.append(session.source, session.SourceBundleID, rows)
		b.asked = session.RequestHash
		f.committed[at] = b
	}
	return ok(f.meta(b))
}

// append adds a bundle to the history.
func (f *fake) append(source string, id int64, rows []bundleRow) *committedBundle {
	if f.amend != nil {
		rows = f.amend(rows)
	}
	b := &committedBundle{seq: f.next, source: source, id: id, rows: rows, rowCount: len(rows), hash: f.dialect.hashOf(rows)}
	if f.hash != nil {
		b.hash = f.hash(b.hash)
	}
	f.next++
	f.bundles = append(f.bundles, b)
	return b
}

func (f *fake) rows(r request) *answer {
	seq, after := number(r, "seq", -1), number(r, "after_row_ordinal", -1)
	var b *committedBundle
	for _, c := range f.bundles {
		if c.seq == seq {
			b = c
		}
	}
	if f.onRows != nil {
		if a := f.onRows(b, after < 0); a != nil {
			return a
		}
	}
	if b == nil {
		return refused(http.StatusNotFound, "committed_bundle_not_found")
	}
	rows, more := page(b.rows, after+1, number(r, "max_rows", 1000))
	o := f.meta(b)
	if f.dialect.uniform && f.asked != nil {
		o["canonical_request_hash"] = f.asked(b.asked)
	}
	o["rows"], o["has_more"] = rows, more
	o["next_row_ordinal"] = max(after+int64(len(rows)), 0)
	return ok(o)
}

// page returns at most n rows from an offset on, and whether more follow.
func page[R any](rows []R, from, n int64) ([]R, bool) {
	from = min(max(from, 0), int64(len(rows)))
	to := min(from+n, int64(len(rows)))
	return append([]R{}, rows[from:to]...), to < int64(len(rows))
}

// number reads an integer of the path or the query.
func number(r request, name string, missing int64) int64 {
	text := r.PathValue(name)
	if text == "" {
		text = r.URL.Query().Get(name)
	}
	if text == "" {
		return missing
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return missing
	}
	return n
}

// stable is the newest bundle's seq.
func (f *fake) stable() int64 {
	if len(f.bundles) == 0 {
		return 0
	}
	return f.bundles[len(f.bundles)-1].seq
}

// bundle is a bundle as a pull shows it.
func (f *fake) bundle(b *committedBundle) object {
	return object{
		"bundle_seq": b.seq, "source_id": b.source, "source_bundle_id": b.id,
		"row_count": b.rowCount, "bundle_hash": b.hash, "rows": b.rows,
	}
}

func (f *fake) pull(r request) *answer {
	f.pulls++
	if f.onPull != nil {
		f.onPull(f.pulls)
	}
	after, ceiling := number(r, "after_bundle_seq", 0), number(r, "target_bundle_seq", 0)
	if ceiling <= 0 {
		ceiling = f.stable()
	}
	bundles := []object{}
	for _, b := range f.bundles {
		if b.seq > after && b.seq <= ceiling {
			bundles = append(bundles, f.bundle(b))
		}
	}
	return ok(object{"stable_bundle_seq": f.stable(), "bundles": bundles, "has_more": false})
}

// uploads names the rows of the last chunk: "users:INSERT:user-1".
func (f *fake) uploads() []string {
	f.serving.Lock()
	defer f.serving.Unlock()
	out := []string{}
	for _, r := range f.uploaded {
		out = append(out, r.Table+":"+r.Op+":"+keyValue(r.Key))
	}
	return out
}

// keyValue is the value of a key's one member.
func keyValue(key json.RawMessage) string {
	var k map[string]string
	if err := json.Unmarshal(key, &k); err != nil || len(k) != 1 {
		return strings.TrimSpace(string(key))
	}
	for _, v := range k {
		return v
	}
	return ""
}
