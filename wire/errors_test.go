package wire

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestDecodeError(t *testing.T) {
	t.Parallel()
	e := DecodeError("pull", 409, []byte(`{"error":"source_retired","message":"gone\nfor good","source_id":"a","replaced_by_source_id":"b","x":[1]}`))
	if e.Operation != "pull" || e.Status != 409 || e.Code != "source_retired" || e.Message != "gone for good" || e.ReplacedBySourceID != "b" || e.Conflict != nil {
		t.Errorf("%+v", e)
	}
	if e := DecodeError("snapshot", 409, []byte(`{"error":"snapshot_chunk_too_small","required_byte_count":77}`)); e.RequiredByteCount != 77 {
		t.Errorf("%+v", e)
	}
	for body, message := range map[string]string{
		"": "", "  <html>\n<h1>502</h1>\x00": "<html> <h1>502</h1>", `"text"`: `"text"`, `{"error":`: `{"error":`, "\xff\xfe": "\uFFFD", `[{"error":"x"}]`: `[{"error":"x"}]`,
		`{"error":5,"message":null,"required_byte_count":-1,"replaced_by_source_id":{}}`: "",
	} {
		if e := DecodeError("x", 502, []byte(body)); e.Code != "" || e.Message != message || e.ReplacedBySourceID != "" || e.RequiredByteCount != 0 {
			t.Errorf("%q: %+v", body, e)
		}
	}
	for _, body := range []string{strings.Repeat("é", 5000), `{"error":"x","message":"` + strings.Repeat("😀", 5000) + `"}`, strings.Repeat("\xffa", 5000)} {
		if e := DecodeError("x", 500, []byte(body)); len(e.Message) > maxMessage || len(e.Message) < maxMessage-8 {
			t.Errorf("a message of %d bytes", len(e.Message))
		}
	}
}

func TestDecodeConflict(t *testing.T) {
	t.Parallel()
	const live = `{"schema":"main","table":"t","key":{"id":"a"},"op":"UPDATE","base_row_version":1,"server_row_version":2,"server_row_deleted":false,"server_row":{"id":"a"}}`
	decode := func(conflict string) *Conflict {
		e := DecodeError("commit", 409, []byte(`{"error":"push_conflict","message":"m","conflict":`+conflict+`}`))
		if e.Code != "push_conflict" {
			t.Errorf("%s: %+v", conflict, e)
		}
		return e.Conflict
	}
	if c := decode(live); c == nil || c.Key != (Key{"id", "a"}) || c.Op != OpUpdate || c.BaseRowVersion != 1 || c.ServerRowVersion != 2 || string(c.ServerRow) != `{"id":"a"}` {
		t.Errorf("%+v", c)
	}
	for _, e := range []struct {
		old, new string
		ok       bool
	}{
		{`2,"server_row_deleted":false,"server_row":{"id":"a"}`, `2,"server_row_deleted":true,"server_row":null`, true},
		{`2,"server_row_deleted":false,"server_row":{"id":"a"}`, `0,"server_row_deleted":false,"server_row":null`, true},
		{`2,"server_row_deleted":false,"server_row":{"id":"a"}`, `0,"server_row_deleted":false`, true},
		{`"server_row":{"id":"a"}`, `"server_row":null`, false},
		{`"server_row_deleted":false`, `"server_row_deleted":true`, false},
		{`"server_row_version":2`, `"server_row_version":0`, false},
		{`"server_row_version":2`, `"server_row_version":-2`, false},
		{`"server_row_version":2`, `"server_row_version":"2"`, false},
		{`"base_row_version":1,`, ``, false},
		{`"base_row_version":1`, `"base_row_version":1,"base_row_version":1`, false},
		{`"UPDATE"`, `"PUT"`, false},
		{`"schema":"main"`, `"schema":""`, false},
		{`"table":"t",`, ``, false},
		{`{"id":"a"},"op"`, `{},"op"`, false},
		{`"server_row":{"id":"a"}`, `"server_row":[]`, false},
		{`"server_row":`, `"new":{"x":1},"server_row":`, true},
	} {
		body := strings.Replace(live, e.old, e.new, 1)
		if body == live {
			t.Fatalf("%q is not in the conflict", e.old)
		}
		if c := decode(body); (c != nil) != e.ok {
			t.Errorf("%s: %+v", body, c)
		}
	}
	for _, odd := range []string{`null`, `[]`, `"x"`, `{}`} {
		if c := decode(odd); c != nil {
			t.Errorf("%s: %+v", odd, c)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	type retryable interface {
		error
		Retryable() bool
	}
	for _, c := range []struct {
		err   retryable
		want  string
		again bool
	}{
		{&ProtocolError{Operation: "pull", Table: "m.t", Column: "c", Reason: "why", Err: io.EOF}, "to pull breaks the protocol: why (table m.t, column c): EOF", false},
		{&ValueError{Table: "m.t", Column: "c", Reason: "nul_in_text"}, "column c of m.t holds a value that cannot be sent to this server: nul_in_text", false},
		{&LocalFormError{Table: "m.t", Column: "c", Reason: "why"}, "m.t cannot be read (column c): why", false},
		{&UnsupportedContractError{"x"}, `contract "x"`, false},
		{&LifecycleUnsupportedError{Status: 404, URL: "u"}, "no oversqlite server at u (status 404)", false},
		{&HTTPError{Operation: "pull", Status: 400, Code: "c", Message: "m"}, "pull: the server answered 400 c: m", false},
		{&HTTPError{Status: 408}, "408", true}, {&HTTPError{Status: 429}, "429", true}, {&HTTPError{Status: 500}, "500", true}, {&HTTPError{Status: 503}, "503", true}, {&HTTPError{Status: 409}, "409", false},
	} {
		if !strings.Contains(c.err.Error(), c.want) || c.err.Retryable() != c.again {
			t.Errorf("%q (again: %v), want %q (%v)", c.err.Error(), c.err.Retryable(), c.want, c.again)
		}
	}
	if !errors.Is(&ProtocolError{Err: io.EOF}, io.EOF) {
		t.Error("the cause is lost")
	}
}
