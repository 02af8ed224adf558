package contracts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

const watchBasic = "watch/basic.json"

func TestWatchCapability(t *testing.T) {
	t.Parallel()
	type watchCase struct {
		Response                           scripted
		ExpectedBundleChangeWatchSupported bool
	}
	eachIn(t, both, watchBasic, "capabilitiesCases", func(t *testing.T, d *dialect, c *watchCase) {
		same(t, "status", c.Response.Status, http.StatusOK)
		caps, err := wire.DecodeCapabilities(d.told(t, c.Response.Body))
		if err != nil {
			t.Fatal(err)
		}
		same(t, "contract", caps.Contract, d.as)
		same(t, "bundle_change_watch", caps.Features["bundle_change_watch"], c.ExpectedBundleChangeWatchSupported)
	})
}

// listen opens the stream of a server that answers with a.
func listen(t *testing.T, d *dialect, a *answer) (*transport.Stream, error) {
	t.Helper()
	s := newServer(t, d)
	s.on("GET /sync/watch", func(r request) *answer {
		same(t, "after_bundle_seq", number(r, "after_bundle_seq", -1), 7)
		return a
	})
	client, err := transport.New(transport.Config{BaseURL: "http://sync.test" + basePath, HTTPClient: &http.Client{Transport: s}})
	if err != nil {
		t.Fatal(err)
	}
	return client.Watch(t.Context(), "source", 7)
}

func TestWatchEvents(t *testing.T) {
	t.Parallel()
	type eventCase struct {
		Lines          []string
		ExpectedEvents json.RawMessage
		ExpectError    bool
	}
	eachIn(t, both, watchBasic, "sseCases", func(t *testing.T, d *dialect, c *eventCase) {
		var text strings.Builder
		for _, line := range c.Lines {
			text.WriteString(line + "\n")
		}
		stream, err := listen(t, d, &answer{status: http.StatusOK, body: text.String(), contentType: "text/event-stream"})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		events := []object{}
		for {
			var (
				e    wire.WatchEvent
				beat bool
			)
			if e, beat, err = stream.Next(); err != nil {
				break
			}
			if beat {
				continue
			}
			events = append(events, object{"bundle_seq": e.BundleSeq, "source_id": e.SourceID, "source_bundle_id": e.SourceBundleID})
		}
		if c.ExpectError {
			if !as[*wire.ProtocolError](err) {
				t.Errorf("got %v and %v", events, err)
			}
			return
		}
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		sameJSON(t, "events", events, c.ExpectedEvents)
	})
}

func TestWatchRefusals(t *testing.T) {
	t.Parallel()
	const member = "setupErrorResponses"
	var file struct {
		SetupErrorResponses []struct {
			Status        int
			Body          json.RawMessage
			ExpectedError string
		}
	}
	read(t, watchBasic, &file)
	var statuses []int
	for _, r := range file.SetupErrorResponses {
		statuses = append(statuses, r.Status)
		for _, d := range both {
			t.Run(fmt.Sprint(r.Status, " ", r.ExpectedError, "/", d.name), func(t *testing.T) {
				begin(t, d, watchBasic+" "+member, r.ExpectedError)
				_, err := listen(t, d, scripted{r.Status, r.Body}.answer())
				f := transport.Classify(err)
				same(t, "status", f.Status, r.Status)
				same(t, "code", f.Code, r.ExpectedError)
			})
		}
	}
	slices.Sort(statuses)
	same(t, "statuses", statuses, []int{400, 401, 403, 409, 409, 500, 503})
}
