package wire

import (
	"strings"
	"time"
)

// What is wrong with a snapshot, by the family's names.
const (
	invalidSession = "invalid_session: "
	invalidChunk   = "invalid_chunk: "
	invalidRow     = "invalid_row: "
)

// SnapshotBounds negotiates the size of pages. What the server gives as its defaults is checked and not used: every
// request says how much it wants.
func (uniform) SnapshotBounds(l Limits, rows, bytes int64) (SnapshotBounds, error) {
	bad := func(reason string) (SnapshotBounds, error) {
		return SnapshotBounds{}, &ProtocolError{Operation: "capabilities", Reason: "snapshot limits: " + reason}
	}
	switch {
	case min(l.DefaultRowsPerSnapshotChunk, l.MaxRowsPerSnapshotChunk, l.DefaultBytesPerSnapshotChunk, l.MaxBytesPerSnapshotChunk,
		l.MaxBytesPerSnapshotRow, l.MaxConcurrentSnapshotBuilds, l.MaxConcurrentSnapshotChunkRequests) <= 0:
		return bad("one of them is not positive")
	case l.DefaultRowsPerSnapshotChunk > l.MaxRowsPerSnapshotChunk:
		return bad("default_rows_per_snapshot_chunk is larger than its maximum")
	case l.DefaultBytesPerSnapshotChunk > l.MaxBytesPerSnapshotChunk:
		return bad("default_bytes_per_snapshot_chunk is larger than its maximum")
	case l.MaxBytesPerSnapshotRow > l.MaxBytesPerSnapshotChunk:
		return bad("max_bytes_per_snapshot_row is larger than a chunk may be")
	}
	if rows <= 0 {
		rows = defaultSnapshotRows
	}
	if bytes <= 0 {
		bytes = max(defaultSnapshotBytes, l.MaxBytesPerSnapshotRow)
	}
	b := SnapshotBounds{MaxRows: min(rows, l.MaxRowsPerSnapshotChunk), MaxBytes: min(bytes, l.MaxBytesPerSnapshotChunk)}
	if b.MaxBytes < l.MaxBytesPerSnapshotRow {
		return bad("max_bytes_per_snapshot_row is larger than the pages that are configured here")
	}
	return b, nil
}

// defaultSnapshotBytes is how large a page of a snapshot is asked for.
const defaultSnapshotBytes = 4 << 20

func (uniform) DecodeSnapshotSession(body []byte) (SnapshotSession, error) {
	d := newUniformDecoder("create snapshot session", body)
	s, seen, err := d.snapshotSession()
	given := SnapshotSession{ID: s.ID}
	if err == nil {
		err = d.checkUnique()
	}
	if err != nil {
		return given, err
	}
	_, notAnInstant := time.Parse(time.RFC3339, s.ExpiresAt)
	switch {
	case strings.TrimSpace(s.ID) == "":
		return SnapshotSession{}, d.bad(invalidSession + "a blank snapshot_id")
	case seen&sessionByteCount == 0:
		return given, d.bad(invalidSession + "no byte_count")
	case (s.RowCount == 0) != (s.ByteCount == 0):
		return given, d.bad(invalidSession+"row_count %d with byte_count %d", s.RowCount, s.ByteCount)
	case notAnInstant != nil:
		return given, d.bad(invalidSession + "expires_at is no RFC3339/ISO-8601 instant")
	}
	return s, nil
}

// CheckTransfer implements Contract.
func (uniform) CheckTransfer(s SnapshotSession, rows, bytes int64) error {
	return checkTransfer(s, rows, bytes)
}

// The members of a chunk and of a row of one, as bits of a memberSet.
const (
	chunkByteCount memberSet = 1 << iota
	chunkID
	chunkSeq
	chunkRows
	chunkNext
	chunkMore
	wholeChunk memberSet = 1<<iota - 1

	wholeRow memberSet = 1<<5 - 1
)

// DecodeSnapshotPage decodes a page strictly: exactly the members of a page, each once, none of them null.
func (uniform) DecodeSnapshotPage(body []byte, r SnapshotPageRequest) (SnapshotPage, error) {
	d := newUniformDecoder("snapshot page", body)
	d.strict = true
	var (
		seen memberSet
		page SnapshotPage
		id   string
		seq  int64
	)
	for name := range d.members {
		switch string(name) {
		case "byte_count":
			d.once(&seen, chunkByteCount)
			d.int(&page.ByteCount)
		case "snapshot_id":
			d.once(&seen, chunkID)
			d.string(&id)
		case "snapshot_bundle_seq":
			d.once(&seen, chunkSeq)
			d.int(&seq)
		case "rows":
			d.once(&seen, chunkRows)
			var err error
			if page.Rows, err = d.snapshotRows(); err != nil {
				return SnapshotPage{}, err
			}
		case "next_row_ordinal":
			d.once(&seen, chunkNext)
			d.int(&page.Next)
		case "has_more":
			d.once(&seen, chunkMore)
			d.bool(&page.HasMore)
		default:
			d.fail("an unknown member")
		}
	}
	if err := d.finish(); err != nil {
		return SnapshotPage{}, err
	}
	switch {
	case seen == wholeChunk&^chunkByteCount:
		return SnapshotPage{}, &ContractChangedError{Operation: d.operation, Pinned: UniformContract, Found: ClassicContract, Reason: invalidChunk + "no byte_count"}
	case seen != wholeChunk:
		return SnapshotPage{}, d.bad("a missing member")
	}
	if err := d.checkSnapshotPage(&page, r, id, seq); err != nil {
		return SnapshotPage{}, err
	}
	return page, nil
}

// checkSnapshotPage checks a page against the session and what came before. That the last page reaches the session's
// counts is checked when it has been staged.
func (d *decoder) checkSnapshotPage(page *SnapshotPage, r SnapshotPageRequest, id string, seq int64) error {
	n, bytes := int64(len(page.Rows)), r.AfterBytes+page.ByteCount
	if err := d.checkPage(page, r, id, seq); err != nil {
		return err
	}
	switch {
	case n > r.MaxRows:
		return d.bad(invalidChunk+"%d rows, asked for at most %d", n, r.MaxRows)
	case page.ByteCount < 0 || page.ByteCount > r.MaxBytes:
		return d.bad(invalidChunk+"byte_count %d, asked for at most %d", page.ByteCount, r.MaxBytes)
	case (n == 0) != (page.ByteCount == 0):
		return d.bad(invalidChunk+"%d rows with byte_count %d", n, page.ByteCount)
	case bytes > r.Session.ByteCount || page.HasMore && bytes == r.Session.ByteCount:
		return d.bad(invalidChunk+"snapshot byte total %d does not match session byte_count %d", bytes, r.Session.ByteCount)
	}
	return nil
}

func (d *decoder) snapshotRows() (rows []Row, err error) {
	for range d.elements {
		rows = append(rows, Row{})
		if err := d.snapshotRow(&rows[len(rows)-1]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// snapshotRow reads a row of a page strictly.
func (d *decoder) snapshotRow(r *Row) error {
	var seen memberSet
	for name := range d.members {
		switch string(name) {
		case "schema":
			d.once(&seen, 1)
			d.name(&r.Schema)
		case "table":
			d.once(&seen, 2)
			d.name(&r.Table)
		case "key":
			d.once(&seen, 4)
			d.key(&r.Key)
		case "row_version":
			d.once(&seen, 8)
			d.int(&r.RowVersion)
		case "payload":
			d.once(&seen, 16)
			r.Payload = d.payload()
		default:
			d.fail("an unknown member of a row")
		}
	}
	if !d.failed() && seen != wholeRow {
		d.fail("a missing member of a row")
	}
	if d.failed() {
		return nil // reported at the end, with its place
	}
	if strings.TrimSpace(r.Schema) == "" || strings.TrimSpace(r.Table) == "" {
		return d.bad(invalidRow + "a snapshot row without schema or table")
	}
	return d.checkRow(r, true)
}

// snapshotCodes are the codes of the snapshot endpoints, and of what stands before all endpoints. Any other code is not
// the protocol's and is shown to nobody.
var snapshotCodes = map[string]bool{
	"history_pruned": true, "initialization_expired": true, "initialization_stale": true,
	"snapshot_build_capacity": true, "snapshot_chunk_capacity": true, "snapshot_chunk_too_small": true, "snapshot_session_limit_exceeded": true,
	"snapshot_session_not_found": true, "snapshot_session_expired": true, "snapshot_session_forbidden": true,
	"snapshot_session_invalid": true, "snapshot_chunk_invalid": true,
	"source_replacement_invalid": true, "source_retired": true, "source_sequence_changed": true, "source_sequence_out_of_order": true,
	"scope_uninitialized": true, "scope_initializing": true,
	"invalid_request": true, "authentication_failed": true, "service_unavailable": true,
}

// invalidErrorResponse is the code of an answer that is not the protocol's.
const invalidErrorResponse = "invalid_error_response"

// DecodeSnapshotError decodes a refusal by the taxonomy of snapshots. What is not in it becomes invalid_error_response and
// loses its text.
func (c uniform) DecodeSnapshotError(operation string, status int, body []byte, bounds SnapshotBounds) *HTTPError {
	e := c.DecodeError(operation, status, body)
	if e.Code == "" {
		return e // a proxy's
	}
	code := e.Code
	switch {
	case !snapshotCodes[code]:
		code = invalidErrorResponse
	case code == "snapshot_chunk_too_small" && (status != 400 || e.RequiredByteCount <= bounds.MaxBytes):
		code = "snapshot_chunk_too_small_invalid"
	case code == "snapshot_session_limit_exceeded" && (status != 409 || !e.SessionLimit.valid()),
		(code == "snapshot_build_capacity" || code == "snapshot_chunk_capacity") && status != 429:
		code = invalidErrorResponse
	}
	if code != e.Code {
		return &HTTPError{Operation: operation, Status: status, Code: code}
	}
	return e
}

// DecodeError decodes a refusal. The row of a conflict must not show the server's hidden column.
func (uniform) DecodeError(operation string, status int, body []byte) *HTTPError {
	e := DecodeError(operation, status, body)
	if e.Conflict != nil {
		d := newUniformDecoder(operation, e.Conflict.ServerRow)
		if e.Conflict.ServerRow != nil && d.payload() == nil || strings.TrimSpace(e.Conflict.Key.Value) == "" {
			e.Conflict = nil
		}
	}
	return e
}
