package transport

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/big"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/wire"
)

// fuzzNow is when answers come.
var fuzzNow = time.Date(2026, 3, 24, 18, 42, 11, 0, time.UTC)

// instant is an HTTP date (RFC 9110, 5.6.7): one form to be written, two older ones to be read.
func instant(s string) (time.Time, bool) {
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 MST", "Mon Jan _2 15:04:05 2006"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// wait is what a Retry-After header asks for (RFC 9110, 10.2.3), within its bounds.
func wait(value, date string) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		n, _ := new(big.Int).SetString(value, 10)
		if n.Cmp(big.NewInt(3600)) > 0 {
			return time.Hour
		}
		return time.Duration(n.Int64()) * time.Second
	}
	at, ok := instant(value)
	if !ok {
		return 0
	}
	from := fuzzNow
	if d, ok := instant(date); ok {
		from = d
	}
	switch d := at.Sub(from); {
	case at.Before(from):
		return 0
	case d > time.Hour:
		return time.Hour
	default:
		return d
	}
}

var retryAfterSeeds = []string{
	"", "0", "7", "3600", "3601", "007", "-1", "+5", "1.5", "1e3", " 5 ", "5, 6", "soon", "99999999999999999999999999", "９", "0x10", "\t120\n",
	"Tue, 24 Mar 2026 18:43:11 GMT", "Tuesday, 24-Mar-26 18:43:11 GMT", "Tue Mar 24 18:43:11 2026", "Tue, 24 Mar 2026 18:41:11 GMT", "Mon, 01 Jan 0001 00:00:00 GMT",
	"Fri, 31 Dec 9999 23:59:59 GMT", "Tue, 24 Mar 2026 18:43:11 CET", "tue, 24 mar 2026 18:43:11 gmt", "2026-03-24T18:43:11Z",
}

// FuzzRetryAfter: the header is read by the standard, whatever a gateway puts there, and never asks for more than an hour.
func FuzzRetryAfter(f *testing.F) {
	for i, value := range retryAfterSeeds {
		f.Add(value, retryAfterSeeds[(i*5)%len(retryAfterSeeds)])
		f.Add(value, "")
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		got := retryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, fuzzNow)
		if want := wait(value, date); got != want || got < 0 || got > MaxRetryAfter {
			t.Fatalf("Retry-After %q, Date %q: %v, want %v", value, date, got, want)
		}
	})
}

func zipped(body string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, body)
	_ = w.Close()
	return b.Bytes()
}

// plainBody is what an encoded body says; false when it says nothing.
func plainBody(encoding string, body []byte) (plain []byte, ok bool) {
	if encoding != "gzip" {
		return body, encoding == "" || encoding == "identity"
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	plain, err = io.ReadAll(r)
	return plain, err == nil
}

// FuzzAnswer: whatever answers a request, the caller gets what the decoders of wire make of its body, within the bound, or
// an error that tells what to do.
func FuzzAnswer(f *testing.F) {
	const page = `{"stable_bundle_seq":1,"bundles":[{"bundle_seq":1,"source_id":"s","source_bundle_id":1,"rows":[{"schema":"m","table":"t","key":{"id":"1"},"op":"INSERT","row_version":1,"payload":{"id":"1"}}]}],"has_more":false}`
	const conflict = `{"error":"push_conflict","conflict":{"schema":"m","table":"t","key":{"id":"1"},"op":"UPDATE","base_row_version":1,"server_row_version":2,"server_row":{"id":"1"}}}`
	for i, body := range []string{page, page[:80], conflict, `{"error":"history_pruned"}`, `{"error":"push_session_not_found"}`, `<html>`, ``, `{"error":"snapshot_build_capacity"}`, strings.Repeat(" ", 5000) + page} {
		for _, status := range []int{200, 204, 301, 400, 401, 403, 404, 409, 429, 500, 503} {
			f.Add(status, "", retryAfterSeeds[i], []byte(body), uint16(i*600), uint8(status+i))
		}
		f.Add(200, "gzip", "", zipped(body), uint16(300), uint8(i))
		for _, bound := range []int{len(body) - 1, len(body)} {
			f.Add(200, "", "", []byte(body), uint16(bound-1), uint8(0))
			f.Add(200, "", "", []byte(body), uint16(bound-1), uint8(2))
			f.Add(200, "gzip", "", zipped(body), uint16(bound-1), uint8(0))
		}
		f.Add(503, "gzip", "9", zipped(body), uint16(300), uint8(i))
		f.Add(200, "br", "", []byte(body), uint16(300), uint8(i))
	}
	f.Fuzz(func(t *testing.T, status int, encoding, retryAfter string, body []byte, limit uint16, flags uint8) {
		if status < 200 || status > 599 {
			return // net/http answers no such status
		}
		name := wire.ClassicContract
		if flags&1 != 0 {
			name = wire.UniformContract
		}
		k, err := wire.ContractByName(name)
		if err != nil {
			t.Fatal(err)
		}
		bound := int64(limit) + 1
		client, err := New(Config{
			BaseURL: "http://server", Bounds: Bounds{Pull: bound, CommittedRows: bound}, IdleTimeout: -1, Now: func() time.Time { return fuzzNow },
			HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				a := &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: -1, Request: r}
				a.Header["Retry-After"] = []string{retryAfter}
				if encoding != "" {
					a.Header["Content-Encoding"] = []string{encoding}
				}
				if flags&2 != 0 {
					a.ContentLength = int64(len(body))
				}
				return a, nil
			})},
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.Pull(t.Context(), k, "s", wire.PullRequest{MaxBundles: 1})
		failure := Classify(err)
		if (err == nil) != (failure.Class == None) {
			t.Fatalf("%v is %v", err, failure)
		}
		plain, whole := plainBody(encoding, body)
		if status != http.StatusOK {
			refused(t, k, err, failure, status, retryAfter, plain, whole && len(plain) <= maxErrorBytes)
			return
		}
		var large *BodyTooLargeError
		var network *NetworkError
		trimmed := strings.Trim(string(plain), " \t\r\n\v\f\u0085\u00a0")
		cut := flags&2 == 0 && strings.HasPrefix(trimmed, "{") && !strings.HasSuffix(trimmed, "}")
		switch {
		case errors.As(err, &large):
			if int64(len(plain)) <= bound && whole && (flags&2 == 0 || int64(len(body)) <= bound) {
				t.Fatalf("%d bytes are too large for %d", len(plain), bound)
			}
		case errors.As(err, &network):
			if whole && !cut {
				t.Fatalf("%q: %v", body, err)
			}
		case encoding != "" && encoding != "identity" && encoding != "gzip":
			if failure.Class != Protocol {
				t.Fatalf("an encoding that was not asked for: %v", err)
			}
		default:
			want, wantErr := k.DecodePull(plain, wire.PullRequest{})
			if !whole || cut || int64(len(plain)) > bound || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(err, wantErr) {
				t.Fatalf("%q: %+v, %v; want %+v, %v", body, got, err, want, wantErr)
			}
		}
	})
}

// refused checks the error that an answer other than success is.
func refused(t *testing.T, k wire.Contract, err error, failure Failure, status int, retryAfter string, plain []byte, readable bool) {
	t.Helper()
	var (
		answer  *wire.HTTPError
		address *AddressError
		network *NetworkError
	)
	if errors.As(err, &network) {
		if readable {
			t.Fatalf("%d %q: %v", status, plain, err)
		}
		return // half an error body can hide the code on which everything depends
	}
	if !readable {
		plain = nil
	}
	want := k.DecodeError(OpPull, status, plain)
	want.RetryAfter = wait(retryAfter, "")
	if strings.HasPrefix(want.Code, "snapshot_") && strings.HasSuffix(want.Code, "_capacity") && (want.Code == "snapshot_build_capacity" || want.Code == "snapshot_chunk_capacity") {
		want.RetryAfter = max(want.RetryAfter, map[bool]time.Duration{true: time.Second}[want.RetryAfter == 0])
	}
	if errors.As(err, &address) {
		answer, _ = address.Err.(*wire.HTTPError)
	} else {
		errors.As(err, &answer)
	}
	if !reflect.DeepEqual(answer, want) {
		t.Fatalf("%d %q: %+v, want %+v", status, plain, answer, want)
	}
	wrong := status/100 == 3 || status == 405 || status == 421 || status == 501
	if status == 404 {
		wrong = want.Code != "push_session_not_found" && want.Code != "snapshot_session_not_found" && want.Code != "committed_bundle_not_found"
	}
	if wrong != (failure.Class == WrongAddress) || wrong != (address != nil) || !wrong && failure.RetryAfter != want.RetryAfter {
		t.Fatalf("%d %q is %+v, at the wrong address: %v", status, plain, failure, wrong)
	}
}
