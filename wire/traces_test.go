package wire

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sharedDir is the folder with the recorded exchanges; OVERSQLITE_SHARED names it when it is not beside the module.
func sharedDir(t testing.TB) string {
	dir := os.Getenv("OVERSQLITE_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	if _, err := os.Stat(filepath.Join(dir, "traces")); err != nil {
		t.Skipf("no recorded exchanges in %s: set OVERSQLITE_SHARED to the folder that holds traces/", dir)
	}
	return dir
}

type traceStep struct {
	Method, Path string
	Status       int
	Body, Answer json.RawMessage
}

// traceSteps calls f for every step of every recorded exchange. Placeholders of the recording are filled in.
func traceSteps(t *testing.T, f func(t *testing.T, s traceStep)) {
	files, err := filepath.Glob(filepath.Join(sharedDir(t), "traces", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text = []byte(strings.ReplaceAll(strings.ReplaceAll(string(text), `"{int}"`, "7"), `"{time}"`, `"2026-03-24T18:42:11Z"`))
			var trace struct{ Steps []traceStep }
			if err := json.Unmarshal(text, &trace); err != nil {
				t.Fatal(err)
			}
			for _, s := range trace.Steps {
				f(t, s)
			}
		})
	}
}

// TestTraceBundleHashes recomputes every bundle hash that the reference server sent.
func TestTraceBundleHashes(t *testing.T) {
	t.Parallel()
	checked, pages := 0, 0
	traceSteps(t, func(t *testing.T, s traceStep) {
		if s.Status != 200 || s.Method != "GET" {
			return
		}
		switch {
		case strings.HasPrefix(s.Path, "/sync/pull"):
			page, err := classic{}.DecodePull(s.Answer, PullRequest{After: queryInt(t, s.Path, "after_bundle_seq", 0)})
			var behind *StableBehindError
			if errors.As(err, &behind) {
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", s.Path, err)
			}
			pages++
			if err := VerifyBundles(classic{}, page.Bundles); err != nil {
				t.Errorf("%s: %v", s.Path, err)
			}
			checked += len(page.Bundles)
		case strings.Contains(s.Path, "/committed-bundles/"):
			page, err := classic{}.DecodeCommittedRows(s.Answer, CommittedRowsRequest{After: queryInt(t, s.Path, "after_row_ordinal", -1), Bundle: BundleMeta{RowCount: -1}})
			if err != nil {
				t.Fatalf("%s: %v", s.Path, err)
			}
			pages++
			if int64(len(page.Rows)) != page.Bundle.RowCount {
				return // the hash is over the whole bundle
			}
			if err := VerifyBundle(classic{}, &Bundle{BundleMeta: page.Bundle, Rows: page.Rows}); err != nil {
				t.Errorf("%s: %v", s.Path, err)
			}
			checked++
		}
	})
	if checked < 20 {
		t.Errorf("only %d bundles on %d pages had a hash to check", checked, pages)
	}
	t.Logf("%d bundle hashes on %d pages", checked, pages)
}

func queryInt(t *testing.T, path, name string, absent int64) int64 {
	_, rest, ok := strings.Cut(path, name+"=")
	if !ok {
		return absent
	}
	value, _, _ := strings.Cut(rest, "&")
	n, err := json.Number(value).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTraceAnswersDecode decodes every other answer of the reference server.
func TestTraceAnswersDecode(t *testing.T) {
	t.Parallel()
	kinds := map[string]int{}
	var session SnapshotSession
	traceSteps(t, func(t *testing.T, s traceStep) {
		var err error
		kind := ""
		switch {
		case len(s.Answer) == 0:
			return // not recorded
		case s.Status >= 400:
			kind = "error"
			e := DecodeError("test", s.Status, s.Answer)
			if e.Code == "" {
				t.Errorf("%s: no code in %s", s.Path, s.Answer)
			}
			if e.Code == "push_conflict" {
				kind = "conflict"
				if e.Conflict == nil {
					t.Errorf("conflict not well formed: %s", s.Answer)
				}
			}
		case s.Path == "/sync/capabilities":
			kind = "capabilities"
			text := strings.ReplaceAll(string(s.Answer), `"{more}": true`, `"max_rows_per_bundle": 0`)
			var c Capabilities
			if c, err = DecodeCapabilities([]byte(text)); err == nil {
				if c.Contract != ClassicContract || len(c.TableSpecs) != 8 || c.Limits.MaxBundlesPerPull != 7 {
					t.Errorf("%+v", c)
				}
				err = CheckCapabilities(c, "", "business", c.TableSpecs)
			}
		case s.Path == "/sync/connect":
			kind = "connect"
			_, err = DecodeConnect(s.Answer)
		case s.Path == "/sync/snapshot-sessions" && s.Method == "POST":
			kind = "snapshot session"
			session, err = classic{}.DecodeSnapshotSession(s.Answer)
		case strings.HasPrefix(s.Path, "/sync/snapshot-sessions/") && s.Method == "GET":
			kind = "snapshot page"
			after := queryInt(t, s.Path, "after_row_ordinal", 0)
			if after > session.RowCount {
				return // this client never asks beyond the end
			}
			_, err = classic{}.DecodeSnapshotPage(s.Answer, SnapshotPageRequest{Session: session, After: after})
		case s.Path == "/sync/push-sessions":
			kind = "create"
			var req struct {
				ID      int64 `json:"source_bundle_id"`
				Planned int64 `json:"planned_row_count"`
			}
			if err := json.Unmarshal(s.Body, &req); err != nil {
				t.Fatal(err)
			}
			var a struct {
				Source string `json:"source_id"`
			}
			if err := json.Unmarshal(s.Answer, &a); err != nil {
				t.Fatal(err)
			}
			_, err = classic{}.DecodeCreatePush(s.Answer, CreatePushRequest{SourceBundleID: req.ID, PlannedRowCount: req.Planned}, a.Source)
		}
		if err != nil {
			t.Errorf("%s %s: %v\n%s", s.Method, s.Path, err, s.Answer)
		}
		kinds[kind]++
	})
	for _, kind := range []string{"error", "conflict", "capabilities", "connect", "snapshot session", "snapshot page", "create"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s in the traces", kind)
		}
	}
}
