package contracts

import (
	"net/http"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/transport"
)

// The waits that a busy server asks for, and the one where it does not say. How long is waited at most, and how the delay is
// scattered, is the supervisors' matter (03-behaviour.md 3.6).
func TestCapacity(t *testing.T) {
	t.Parallel()
	const family = "snapshot-capacity/retry.json"
	var file struct {
		Contract string
		Defaults struct {
			FallbackDelayMillis int64 `json:"fallback_delay_millis"`
		}
		RetryAfterCases []struct {
			Wire           string
			ExpectedMillis *int64 `json:"expected_millis"`
		} `json:"retry_after_cases"`
		Codes []string `json:"capacity_error_codes"`
	}
	read(t, family, &file)
	same(t, "contract", file.Contract, "snapshot-capacity-retry-v1")
	same(t, "codes", file.Codes, []string{"snapshot_build_capacity", "snapshot_chunk_capacity"})
	for _, d := range both {
		for _, c := range file.RetryAfterCases {
			for _, code := range file.Codes {
				t.Run(c.Wire+"/"+code+"/"+d.name, func(t *testing.T) {
					begin(t, d, family, c.Wire)
					client, err := transport.New(transport.Config{BaseURL: "http://sync.test", HTTPClient: &http.Client{Transport: refusing{code, c.Wire}}})
					if err != nil {
						t.Fatal(err)
					}
					_, err = client.CreateSnapshot(t.Context(), d.contract(t), "source", nil)
					f := transport.Classify(err)
					same(t, "class", f.Class, transport.Transient)
					same(t, "code", f.Code, code)
					want := file.Defaults.FallbackDelayMillis
					if c.ExpectedMillis != nil {
						want = *c.ExpectedMillis
					}
					same(t, "delay", f.RetryAfter, time.Duration(want)*time.Millisecond)
				})
			}
		}
	}
}

// refusing is a server that has no capacity left.
type refusing struct{ code, retryAfter string }

// RoundTrip implements http.RoundTripper.
func (r refusing) RoundTrip(q *http.Request) (*http.Response, error) {
	line := &capture{answer: object{"error": r.code, "message": "scripted"}}
	resp, err := line.RoundTrip(q)
	resp.StatusCode = http.StatusTooManyRequests
	resp.Header.Set("Retry-After", r.retryAfter)
	return resp, err
}
