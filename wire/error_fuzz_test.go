package wire

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// last finds the last member of a name and kind: what is read of an error is never a fault.
func (n *item) last(name string, kind byte) (found item) {
	for i := range n.names {
		if n.names[i] == name && n.values[i].kind == kind {
			found = n.values[i]
		}
	}
	return found
}

func (n *item) positive(name string) int64 {
	var out int64
	for i := range n.names {
		if v := n.values[i]; n.names[i] == name && v.kind == '0' {
			if number, err := strconv.ParseInt(v.text, 10, 64); err == nil && number > 0 {
				out = number
			}
		}
	}
	return out
}

// conflict is the second reading of a conflict, nil for one that is not well formed.
func conflict(n item, uniform bool) *Conflict {
	if n.kind != '{' {
		return nil
	}
	r := &reader{}
	c := &Conflict{Schema: r.string(n, "schema"), Table: r.string(n, "table"), Key: r.key(n), Op: Op(r.string(n, "op")), BaseRowVersion: r.int(n, "base_row_version", -1),
		ServerRowVersion: r.int(n, "server_row_version", 0), ServerRowDeleted: r.bool(n, "server_row_deleted"), ServerRow: r.payload(n, "server_row")}
	r.wrong(c.Schema == "" || c.Table == "" || c.Key.Column == "" || !c.Op.Valid() || c.BaseRowVersion < 0)
	switch {
	case c.ServerRow != nil:
		r.wrong(c.ServerRowDeleted || c.ServerRowVersion <= 0)
	case c.ServerRowDeleted:
		r.wrong(c.ServerRowVersion <= 0)
	default:
		r.wrong(c.ServerRowVersion != 0)
	}
	if uniform {
		r.uniform = true
		r.payload(n, "server_row")
		r.wrong(strings.TrimSpace(c.Key.Value) == "")
	}
	if r.bad {
		return nil
	}
	return c
}

// shown checks a text of the server's that is to be shown.
func shown(t *testing.T, got, from string) {
	t.Helper()
	if len(got) > maxMessage || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) || strings.TrimSpace(got) != got {
		t.Fatalf("not fit to be shown: %q", got)
	}
	if len(from) <= maxMessage && utf8.ValidString(from) && !strings.ContainsFunc(from, unicode.IsControl) && got != strings.TrimSpace(from) {
		t.Fatalf("%q was made of %q", got, from)
	}
	if plain := strings.TrimSpace(from); plain != "" && plain[0] > ' ' && plain[0] < 0x7f && strings.HasPrefix(from, plain[:1]) && got == "" {
		t.Fatalf("nothing was made of %q", from)
	}
}

var errorSeeds = append(jsonSeeds,
	`{"error":"push_conflict","message":"m","conflict":{"schema":"m","table":"t","key":{"id":"1"},"op":"UPDATE","base_row_version":1,"server_row_version":2,"server_row_deleted":false,"server_row":{"id":"1"}}}`,
	`{"error":"push_conflict","conflict":{"schema":"m","table":"t","key":{"id":"1"},"op":"DELETE","base_row_version":1,"server_row_version":2,"server_row_deleted":true,"server_row":null}}`,
	`{"error":"push_conflict","conflict":{"schema":"m","table":"t","key":{"id":"1"},"op":"INSERT","base_row_version":0}}`,
	`{"error":"push_conflict","conflict":{"schema":"m","table":"t","key":{"id":" "},"op":"UPDATE","base_row_version":1,"server_row_version":2,"server_row":{"a":1,"a":2}}}`,
	`{"error":"snapshot_chunk_too_small","required_byte_count":5000}`, `{"error":"snapshot_session_limit_exceeded","dimension":"row_count","actual":10,"limit":5}`,
	`{"error":"snapshot_build_capacity","message":"wait"}`, `{"error":"source_retired","replaced_by_source_id":"other","message":"`+strings.Repeat("é", 300)+`"}`, `{"error":"Not Found","status":404}`,
	`<html>gateway</html>`, "\x00\x01", "upstream\r\nconnect\terror", strings.Repeat("x", 600), `{"error":`, `{"error":1,"message":{}}`)

// FuzzErrorBody: whatever an answer other than success holds, its status and what can be read of it become the error.
func FuzzErrorBody(f *testing.F) {
	for i, s := range append(errorSeeds, slices.Concat(variants(errorSeeds[len(jsonSeeds)]), variants(errorSeeds[len(jsonSeeds)+1]), variants(`{"error":"snapshot_session_limit_exceeded","dimension":"row_count","actual":10,"limit":5}`))...) {
		f.Add([]byte(s), []int{400, 404, 409, 429, 500, 503}[i%6], int64(i%2*6000))
	}
	for _, s := range errorSeeds[len(jsonSeeds)+4 : len(jsonSeeds)+8] {
		for _, status := range []int{400, 409, 429, 503} {
			f.Add([]byte(s), status, int64(4999))
			f.Add([]byte(s), status, int64(5000))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, status int, maxBytes int64) {
		for _, c := range contracts {
			n, ok := tree(body)
			e := c.DecodeError("x", status, body)
			if e.Operation != "x" || e.Status != status || e.RetryAfter != 0 {
				t.Fatalf("%q: %+v", body, e)
			}
			if !ok || n.kind != '{' {
				shown(t, e.Message, string(body))
				if (*e != HTTPError{Operation: "x", Status: status, Message: e.Message}) {
					t.Fatalf("%q: %+v", body, e)
				}
				continue
			}
			shown(t, e.Code, n.last("error", '"').text)
			shown(t, e.Message, n.last("message", '"').text)
			shown(t, e.SessionLimit.Dimension, n.last("dimension", '"').text)
			if e.ReplacedBySourceID != n.last("replaced_by_source_id", '"').text || e.RequiredByteCount != n.positive("required_byte_count") || e.SessionLimit.Actual != n.positive("actual") || e.SessionLimit.Limit != n.positive("limit") {
				t.Fatalf("%q: %+v", body, e)
			}
			if want := conflict(n.last("conflict", '{'), c.Name() == UniformContract); !reflect.DeepEqual(e.Conflict, want) {
				t.Fatalf("%q: conflict %+v, want %+v", body, e.Conflict, want)
			}
			if got, want := c.DecodeSnapshotError("x", status, body, SnapshotBounds{MaxBytes: maxBytes}), snapshotError(c, e, maxBytes); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %+v, want %+v", body, got, want)
			}
			_ = e.Error()
		}
	})
}

// snapshotError is what the taxonomy of snapshots leaves of an error.
func snapshotError(c Contract, e *HTTPError, maxBytes int64) *HTTPError {
	if c.Name() == ClassicContract || e.Code == "" {
		return e
	}
	limit := e.SessionLimit
	fits := map[string]bool{
		"snapshot_chunk_too_small":        e.Status == 400 && e.RequiredByteCount > maxBytes,
		"snapshot_session_limit_exceeded": e.Status == 409 && limit.Limit > 0 && limit.Actual > limit.Limit && (limit.Dimension == "row_count" || limit.Dimension == "byte_count" || limit.Dimension == "row_byte_count"),
		"snapshot_build_capacity":         e.Status == 429,
		"snapshot_chunk_capacity":         e.Status == 429,
	}
	switch fit, special := fits[e.Code]; {
	case special && fit, !special && snapshotCodes[e.Code]:
		return e
	case e.Code == "snapshot_chunk_too_small":
		return &HTTPError{Operation: e.Operation, Status: e.Status, Code: "snapshot_chunk_too_small_invalid"}
	}
	return &HTTPError{Operation: e.Operation, Status: e.Status, Code: "invalid_error_response"}
}
