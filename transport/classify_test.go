package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	status := func(op string, status int, code string) error {
		return &wire.HTTPError{Operation: op, Status: status, Code: code}
	}
	cases := []struct {
		name string
		err  error
		want Class
	}{
		{"nil", nil, None},
		{"request timeout", status(OpPull, 408, ""), Transient},
		{"too many requests", status(OpPull, 429, ""), Transient},
		{"snapshot capacity", status(OpCreateSnapshot, 429, "snapshot_build_capacity"), Transient},
		{"bad gateway", status(OpCommitPush, 502, ""), Transient},
		{"unavailable", status(OpPull, 503, "service_unavailable"), Transient},
		{"gateway timeout", status(OpCommitPush, 504, ""), Transient},
		{"a gateway's own", status(OpCommitPush, 524, ""), Transient},
		{"500 anywhere", status(OpPull, 500, "pull_failed"), Transient},
		{"500 on commit", status(OpCommitPush, 500, "push_session_commit_failed"), CommitFailed},
		{"500 on commit by a gateway", status(OpCommitPush, 500, ""), Transient},
		{"502 on commit with a code", status(OpCommitPush, 502, "upstream"), Transient},
		{"401", status(OpPull, 401, "authentication_failed"), Auth},
		{"401 bare", status(OpPull, 401, ""), Auth},
		{"407", status(OpPull, 407, ""), Auth},
		{"403 bare", status(OpPull, 403, ""), Auth},
		{"403 of an authentication", status(OpPull, 403, "authentication_failed"), Auth},
		{"403 of a push session", status(OpPushChunk, 403, "push_session_forbidden"), Code},
		{"403 of a snapshot", status(OpSnapshotPage, 403, "snapshot_session_forbidden"), Code},
		{"403 of the watch", status(OpWatch, 403, "bundle_change_watch_forbidden"), Code},
		{"watch disabled", status(OpWatch, 503, "bundle_change_watch_disabled"), Code},
		{"conflict", status(OpCommitPush, 409, "push_conflict"), Code},
		{"expired", status(OpPushChunk, 410, "push_session_expired"), Code},
		{"not found with a code", status(OpPushChunk, 404, "push_session_not_found"), Code},
		{"too large a request", status(OpPushChunk, 413, ""), Code},
		{"400", status(OpPushChunk, 400, "push_chunk_invalid"), Code},
		{"no content", status(OpPull, 204, ""), Protocol},
		{"wrapped", fmt.Errorf("pulling: %w", status(OpPull, 503, "")), Transient},
		{"network", &NetworkError{Err: io.EOF}, Transient},
		{"network with the client's own timeout", &NetworkError{Err: context.DeadlineExceeded}, Transient},
		{"address", &AddressError{Status: 404, Err: status(OpPull, 404, "")}, WrongAddress},
		{"too large", &BodyTooLargeError{}, TooLarge},
		{"protocol", &wire.ProtocolError{}, Protocol},
		{"protocol, caused by a cut", &wire.ProtocolError{Err: io.ErrUnexpectedEOF}, Protocol},
		{"lifecycle", &wire.LifecycleUnsupportedError{Status: 404}, Unsupported},
		{"version", &wire.ProtocolVersionMismatchError{}, Unsupported},
		{"tables", &wire.TableContractMismatchError{}, Unsupported},
		{"canceled", &canceledError{op: OpPull, err: context.Canceled}, Canceled},
		{"deadline", context.DeadlineExceeded, Canceled},
		{"closed stream", ErrStreamClosed, Canceled},
		{"end of the stream", io.EOF, Transient},
		{"a bare network error", &net.OpError{Op: "dial", Err: errors.New("refused")}, Transient},
		{"anything else", errors.New("what"), Protocol},
	}
	for _, c := range cases {
		if got := Classify(c.err).Class; got != c.want {
			t.Errorf("%s: class %v, want %v", c.name, got, c.want)
		}
	}

	f := Classify(&wire.HTTPError{Status: 503, Code: "service_unavailable", RetryAfter: time.Second})
	if f != (Failure{Class: Transient, Status: 503, Code: "service_unavailable", RetryAfter: time.Second, Sign: Unavailable}) {
		t.Errorf("details are lost: %+v", f)
	}
	if Transient.String() != "transient" || WrongAddress.String() != "wrong_address" || Class(99).String() != "unknown" {
		t.Error("classes have wrong names")
	}
}

// What concerns one request, one user or one kind of request must not be taken for the whole server's state.
func TestAway(t *testing.T) {
	t.Parallel()
	answer := func(status int, code string) error {
		return fmt.Errorf("pulling: %w", &wire.HTTPError{Operation: OpPull, Status: status, Code: code, RetryAfter: time.Second})
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{&NetworkError{Err: io.EOF}, true},
		{answer(502, ""), true},
		{answer(503, "service_unavailable"), true},
		{answer(504, ""), true},
		{answer(524, ""), true},
		{answer(500, "pull_failed"), false},
		{answer(503, "snapshot_chunk_capacity"), false},
		{answer(429, ""), false},
		{answer(401, ""), false},
		{answer(409, "push_conflict"), false},
		{&wire.ProtocolError{}, false},
		{context.Canceled, false},
	} {
		if got := Classify(c.err).Away(); got != c.want {
			t.Errorf("%v: away %t", c.err, got)
		}
	}
}

func TestSigns(t *testing.T) {
	t.Parallel()
	answer := func(op string, status int, code string, after time.Duration) error {
		return &wire.HTTPError{Operation: op, Status: status, Code: code, RetryAfter: after}
	}
	for _, c := range []struct {
		name string
		err  error
		want Sign
	}{
		{"success", nil, Serving},
		{"a conflict", answer(OpCommitPush, 409, "push_conflict", 0), Serving},
		{"credentials", answer(OpPull, 401, "authentication_failed", 0), Serving},
		{"a large body", &BodyTooLargeError{}, Serving},
		{"a watch that is switched off", answer(OpWatch, 503, "bundle_change_watch_disabled", time.Second), Serving},
		{"an unavailable service", answer(OpPull, 503, "service_unavailable", time.Second), Unavailable},
		{"an unavailable service, wrapped", fmt.Errorf("pulling: %w", answer(OpPull, 503, "", time.Second)), Unavailable},
		{"a gateway", answer(OpPull, 502, "", time.Second), Unavailable},
		{"a gateway's timeout", answer(OpPull, 504, "", time.Second), Unavailable},
		{"an unavailable service that does not say for how long", answer(OpPull, 503, "", 0), Failing},
		{"a stream that is refused for now", answer(OpWatch, 503, "service_unavailable", time.Second), Failing},
		{"too many requests of one user", answer(OpPull, 429, "", time.Second), Failing},
		{"an internal error", answer(OpPull, 500, "pull_failed", time.Second), Failing},
		{"no connection", &NetworkError{Err: io.EOF}, Failing},
		{"a stream that ended", io.EOF, Failing},
		{"snapshots enough for now", answer(OpCreateSnapshot, 429, "snapshot_build_capacity", time.Second), NoSign},
		{"a commit that failed", answer(OpCommitPush, 500, "push_session_commit_failed", time.Second), NoSign},
		{"a wrong address", &AddressError{Status: 404, Err: answer(OpPull, 404, "", 0)}, NoSign},
		{"garbage", &wire.ProtocolError{}, NoSign},
		{"a caller that left", context.Canceled, NoSign},
	} {
		if got := Classify(c.err).Sign; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if Sign(9).String() != "unknown" || Unavailable.String() != "unavailable" {
		t.Error("signs have wrong names")
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cases := []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"1", "", time.Second},
		{" 30 ", "", 30 * time.Second},
		{"0", "", 0},
		{"-1", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{"3600", "", time.Hour},
		{"3601", "", MaxRetryAfter},
		{"99999999999999999999999", "", MaxRetryAfter},
		{now.Add(90 * time.Second).Format(http.TimeFormat), "", 90 * time.Second},
		{now.Add(-90 * time.Second).Format(http.TimeFormat), "", 0},
		{now.Add(48 * time.Hour).Format(http.TimeFormat), "", MaxRetryAfter},
		// The server's clock is an hour ahead: what it means is its own minute.
		{now.Add(time.Hour + time.Minute).Format(http.TimeFormat), now.Add(time.Hour).Format(http.TimeFormat), time.Minute},
		{now.Add(time.Minute).Format(http.TimeFormat), "yesterday", time.Minute},
	}
	for _, c := range cases {
		h := http.Header{"Retry-After": {c.value}}
		if c.date != "" {
			h.Set("Date", c.date)
		}
		if got := retryAfter(h, now); got != c.want {
			t.Errorf("Retry-After %q, Date %q: %v, want %v", c.value, c.date, got, c.want)
		}
	}
	if got := retryAfter(http.Header{}, now); got != 0 {
		t.Errorf("no header: %v", got)
	}
}

// Answers that come from no oversqlite server at all are told apart from its refusals.
func TestWrongAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		wrong  bool
	}{
		{404, `<html>not here</html>`, true},
		{404, `{"timestamp":1,"status":404,"error":"Not Found","path":"/sync/pull"}`, true},
		{404, `{"error":"push_session_not_found","message":"m"}`, false},
		{405, ``, true},
		{501, ``, true},
		{421, ``, true},
		{400, `{"error":"invalid_request"}`, false},
		{503, ``, false},
	} {
		client := inMemory(t, func(*http.Request) (*http.Response, error) { return answer(c.status, c.body), nil })
		err := connect(client)
		var address *AddressError
		if got := errors.As(err, &address); got != c.wrong {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
		if c.wrong && (address.Status != c.status || address.Retryable() || Classify(err).Class != WrongAddress) {
			t.Errorf("%d %s: %+v", c.status, c.body, address)
		}
	}
}
