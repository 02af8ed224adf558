package transport

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/oversqlite/oversqlite/wire"
)

// A body comes back whole or not at all, whatever was announced and however it arrives.
func TestReadBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		content := bytes.Repeat([]byte("x1"), rapid.IntRange(0, 40_000).Draw(t, "length"))
		announced := rapid.OneOf(rapid.Just(int64(-1)), rapid.Just(int64(0)), rapid.Just(int64(len(content))), rapid.Int64Range(1, 100_000)).Draw(t, "announced")
		limit := rapid.Int64Range(1, 100_000).Draw(t, "limit")
		readers := []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
		}
		r := readers[rapid.IntRange(0, len(readers)-1).Draw(t, "reader")](bytes.NewReader(content))
		got, err := readBounded(r, announced, limit)
		switch {
		case announced > limit || int64(len(content)) > limit:
			if !errors.Is(err, errOverBound) {
				t.Fatalf("%d bytes, announced %d, limit %d: %v", len(content), announced, limit, err)
			}
		case err != nil || !bytes.Equal(got, content):
			t.Fatalf("%d bytes, announced %d, limit %d: %d bytes, %v", len(content), announced, limit, len(got), err)
		}
	})
}

func TestReadBoundedPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, length := range []int{0, 1, firstSegment - 1, firstSegment, firstSegment + 1, 3 * firstSegment} {
		r := io.MultiReader(strings.NewReader(strings.Repeat("x", length)), iotest.ErrReader(broken))
		if _, err := readBounded(r, -1, 1<<20); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", length, err)
		}
	}
}

// An endless body costs no more memory than its bound.
func TestK21_AnswersAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	read := 0
	endless := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 200, ProtoMajor: 1, Header: http.Header{}, ContentLength: -1,
			Body: io.NopCloser(readerFunc(func(p []byte) (int, error) { read += len(p); return len(p), nil })),
		}, nil
	})
	client := inMemory(t, endless, func(c *Config) { c.Bounds.Other = 100_000 })
	err := connect(client)
	var large *BodyTooLargeError
	if !errors.As(err, &large) || large.Limit != 100_000 || large.Operation != OpConnect || large.Retryable() {
		t.Fatalf("%v", err)
	}
	if read > 400_000 {
		t.Errorf("%d bytes were read for a bound of 100000", read)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestBodyBound(t *testing.T) {
	t.Parallel()
	padded := func(length int) string {
		return initializeEmpty + strings.Repeat(" ", length-len(initializeEmpty))
	}
	zipped := func(s string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, s)
		_ = z.Close()
		return b.Bytes()
	}
	const limit = 10_000
	cases := []struct {
		name  string
		serve http.HandlerFunc
		large bool
	}{
		{"announced, at the bound", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(limit))
			_, _ = io.WriteString(w, padded(limit))
		}, false},
		{"announced, beyond", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(limit+1))
			_, _ = io.WriteString(w, padded(limit+1))
		}, true},
		{"chunked, at the bound", func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, padded(limit))
		}, false},
		{"chunked, beyond", func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, padded(limit+1))
		}, true},
		{"compressed, at the bound", func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				t.Error("compression is not offered")
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped(padded(limit)))
		}, false},
		{"compressed, beyond only after decompression", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped(padded(limit + 1)))
		}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, c.serve, func(cfg *Config) { cfg.Bounds.Other = limit })
			err := connect(client)
			var large *BodyTooLargeError
			if c.large != errors.As(err, &large) || (!c.large && err != nil) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A transport that does not undo compression by itself is helped; an encoding that nobody asked for is refused.
func TestContentEncoding(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, initializeEmpty)
	_ = z.Close()
	for encoding, check := range map[string]func(error) bool{
		"gzip":     func(err error) bool { return err == nil },
		"identity": func(err error) bool { return Classify(err).Class == Protocol }, // compressed bytes are no JSON
		"br":       func(err error) bool { return Classify(err).Class == Protocol },
	} {
		client := inMemory(t, func(*http.Request) (*http.Response, error) {
			resp := answer(200, zipped.String())
			resp.Header.Set("Content-Encoding", encoding)
			return resp, nil
		})
		if err := connect(client); !check(err) {
			t.Errorf("%s: %v", encoding, err)
		}
	}
}

// An answer that was cut off is late, not wrong: asking again helps.
func TestCutAnswersAreTransient(t *testing.T) {
	t.Parallel()
	half := initializeEmpty[:len(initializeEmpty)/2]
	hijack := func(head, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, head+"\r\n\r\n"+body)
			_ = conn.Close()
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"before the head":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"announced":        hijack("HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(initializeEmpty)), half),
		"chunked":          hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "5\r\n"+half[:5]+"\r\n"),
		"close-delimited":  hijack("HTTP/1.1 200 OK\r\nConnection: close", half),
		"in an error body": hijack("HTTP/1.1 409 Conflict\r\nContent-Length: 100", `{"error":"hist`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := connect(serve(t, handler))
			var network *NetworkError
			if !errors.As(err, &network) || !network.Retryable() || Classify(err).Class != Transient {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWrongAnswersAreProtocolErrors(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, `null`, `[]`, `"x"`, `<html>log in to this network</html>`, `{"resolution":7}`, `{"resolution":"initialize_empty"`,
		`{"resolution":"initialize_empty"}{}`, `{}`, "\x00", strings.Repeat(`{"a":`, 100_000),
	} {
		client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json") // whatever it is
			_, _ = io.WriteString(w, body)
		})
		err := connect(client)
		var protocol *wire.ProtocolError
		if !errors.As(err, &protocol) || Classify(err).Class != Protocol {
			t.Errorf("%.40q: %v", body, err)
		}
	}
}

// The row in a conflict can be as large as a row can be; no other error body matters beyond its first bytes.
func TestErrorBodyBounds(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 200_000)
	k := contract()
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/commit") {
			w.WriteHeader(409)
			_, _ = io.WriteString(w, `{"error":"push_conflict","message":"m","conflict":{"schema":"business","table":"users","key":{"id":"a"},"op":"UPDATE",`+
				`"base_row_version":1,"server_row_version":2,"server_row_deleted":false,"server_row":{"id":"a","name":"`+big+`"}}}`)
			return
		}
		w.WriteHeader(503)
		_, _ = io.WriteString(w, `{"error":"service_unavailable","message":"`+big+`"}`)
	})
	_, err := client.CommitPush(context.Background(), k, "source", "push", wire.CreatePushRequest{SourceBundleID: 1, PlannedRowCount: 1})
	var refused *wire.HTTPError
	if !errors.As(err, &refused) || refused.Conflict == nil || len(refused.Conflict.ServerRow) < len(big) {
		t.Errorf("the row of a conflict is lost: %.200v", err)
	}
	if f := Classify(connect(client)); f.Class != Transient || f.Status != 503 {
		t.Errorf("an overlong error body hides the status: %+v", f)
	}
}
