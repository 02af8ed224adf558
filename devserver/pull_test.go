package devserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

func seqs(answer object) string {
	var out []string
	for _, b := range list(answer["bundles"]) {
		out = append(out, fmt.Sprint(b["bundle_seq"]))
	}
	return fmt.Sprintf("%s of %v more %v", strings.Join(out, " "), answer["stable_bundle_seq"], answer["has_more"])
}

func TestPull(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{Limits: wire.Limits{MaxBundlesPerPull: 4}})
	d := newDevice(t, s, web, "u", "s")
	d.do("GET", "/sync/pull", nil, 409, "scope_uninitialized")
	d.connect(false)
	for i := range 6 {
		d.push(userRow("INSERT", i, 0, "x"))
	}
	check := func(query, want string) {
		t.Helper()
		if got := seqs(d.do("GET", "/sync/pull?"+query, nil, 200, "")); got != want {
			t.Errorf("%s: want %q, got %q", query, want, got)
		}
	}
	check("", "1 2 3 4 of 6 more true")
	check("after_bundle_seq=4", "5 6 of 6 more false")
	check("after_bundle_seq=2&max_bundles=4", "3 4 5 6 of 6 more false")
	check("after_bundle_seq=1&max_bundles=2&target_bundle_seq=3", "2 3 of 3 more false")
	check("after_bundle_seq=1&max_bundles=1&target_bundle_seq=3", "2 of 3 more true")
	check("after_bundle_seq=5&target_bundle_seq=99", "6 of 99 more false") // echoed
	check("after_bundle_seq=9", " of 6 more false")                        // ahead of the server
	check("after_bundle_seq=6", " of 6 more false")
	for _, bad := range []string{"max_bundles=5", "max_bundles=0", "after_bundle_seq=-1", "after_bundle_seq=", "target_bundle_seq=-1", "target_bundle_seq=1.5"} {
		d.do("GET", "/sync/pull?"+bad, nil, 400, "invalid_request")
	}
	(&device{t: t, web: web}).do("POST", "/test/retention-floor", object{"user_id": "u", "retained_bundle_floor": 3}, 200, "")
	check("after_bundle_seq=4", "5 6 of 6 more false")
	check("", "4 5 6 of 6 more false") // zero is never pruned
	d.do("GET", "/sync/pull?after_bundle_seq=3", nil, 409, "history_pruned")
	d.do("GET", "/sync/pull?after_bundle_seq=4&target_bundle_seq=3", nil, 409, "history_pruned")
	d.do("GET", "/sync/committed-bundles/3/rows", nil, 409, "history_pruned")
	if err := s.SetRetentionFloor("u", 1); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Scope(t.Context(), "u"); err != nil || info != (devserver.ScopeInfo{State: "initialized", LastBundleSeq: 6, RetainedFloor: 3}) {
		t.Error("a floor never goes down", info, err)
	}
	guest := &device{t: t, web: web}
	guest.do("POST", "/test/retention-floor", object{"user_id": "u", "retained_bundle_floor": 7}, 400, "invalid_request")
	guest.do("POST", "/test/retention-floor", object{"retained_bundle_floor": 1}, 400, "invalid_request")
	guest.do("POST", "/test/retention-floor", `x`, 400, "invalid_request")
}

// TestLargeBundle goes through every way of reading a bundle that does not fit a read from the database.
func TestLargeBundle(t *testing.T) {
	t.Parallel()
	const rows = 3500 // near 1 MB
	s, web := start(t, devserver.Config{Limits: wire.Limits{MaxRowsPerCommittedBundleChunk: 1500, MaxRowsPerSnapshotChunk: 1500}})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	pushed := make([]object, rows)
	for i := range pushed {
		pushed[i] = userRow("INSERT", i, 0, "somebody")
	}
	d.push(userRow("INSERT", rows, 0, "a small one before"))
	committed := d.push(pushed...)
	d.push(userRow("INSERT", rows+1, 0, "a small one after"))

	_, raw, _, err := d.try("GET", "/sync/pull?after_bundle_seq=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	contract, err := wire.ContractByName(wire.ClassicContract)
	if err != nil {
		t.Fatal(err)
	}
	page, err := contract.DecodePull(raw, wire.PullRequest{MaxBundles: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Bundles) != 3 || len(page.Bundles[1].Rows) != rows || page.Bundles[1].Hash != committed["bundle_hash"] || len(page.Bundles[2].Rows) != 1 {
		t.Fatalf("%d bundles", len(page.Bundles))
	}

	hash := contract.NewBundleHash()
	for after, pages := int64(-1), 0; ; pages++ {
		path := "/sync/committed-bundles/2/rows?max_rows=99999"
		if after >= 0 {
			path += fmt.Sprintf("&after_row_ordinal=%d", after)
		}
		_, raw, _, err := d.try("GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := contract.DecodeCommittedRows(raw, wire.CommittedRowsRequest{Bundle: page.Bundles[1].BundleMeta, After: after, MaxRows: 1500})
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.Rows {
			if err := hash.Add(&p.Rows[i]); err != nil {
				t.Fatal(err)
			}
		}
		if after = p.Next; !p.HasMore {
			if pages != 2 || after != rows-1 {
				t.Errorf("%d more pages, next %d", pages, after)
			}
			break
		}
	}
	if hash.Sum() != committed["bundle_hash"] {
		t.Error("the pages do not have the bundle's hash")
	}

	var size int
	id := d.do("POST", "/sync/snapshot-sessions", nil, 200, "")["snapshot_id"]
	for _, after := range []int{3000, 0, 1500} { // any order
		answer := d.do("GET", fmt.Sprintf("/sync/snapshot-sessions/%s?after_row_ordinal=%d&max_rows=99999", id, after), nil, 200, "")
		size += len(list(answer["rows"]))
		if answer["has_more"] != (after != 3000) {
			t.Error(after, answer["has_more"])
		}
	}
	if size != rows+2 {
		t.Errorf("%d rows in the snapshot", size)
	}
}

func TestCommittedRowsChecks(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.do("GET", "/sync/committed-bundles/1/rows", nil, 409, "scope_uninitialized")
	d.connect(false)
	d.push(userRow("INSERT", 1, 0, "x"), userRow("INSERT", 2, 0, "x"))
	d.do("GET", "/sync/committed-bundles/2/rows", nil, 404, "committed_bundle_not_found")
	for _, bad := range []string{"0/rows", "x/rows", "-1/rows", "1/rows?max_rows=0", "1/rows?after_row_ordinal=-1", "1/rows?max_rows=x"} {
		d.do("GET", "/sync/committed-bundles/"+bad, nil, 400, "committed_bundle_chunk_invalid")
	}
	for query, want := range map[string]string{
		"":                                "2 next 1 more false",
		"?max_rows=1":                     "1 next 0 more true",
		"?after_row_ordinal=0":            "1 next 1 more false",
		"?after_row_ordinal=1":            "0 next 1 more false",
		"?after_row_ordinal=7&max_rows=1": "0 next 7 more false",
	} {
		answer := d.do("GET", "/sync/committed-bundles/1/rows"+query, nil, 200, "")
		if got := fmt.Sprintf("%d next %v more %v", len(list(answer["rows"])), answer["next_row_ordinal"], answer["has_more"]); got != want {
			t.Errorf("%s: want %s, got %s", query, want, got)
		}
	}
	// Another source of the user may read it, another user sees nothing.
	other := newDevice(t, s, web, "u", "other")
	other.do("GET", "/sync/committed-bundles/1/rows", nil, 200, "")
	stranger := newDevice(t, s, web, "stranger", "s")
	stranger.connect(false)
	stranger.do("GET", "/sync/committed-bundles/1/rows", nil, 404, "committed_bundle_not_found")
	if raw, _ := json.Marshal(stranger.do("GET", "/sync/pull", nil, 200, "")); strings.Contains(string(raw), uid(1)) {
		t.Error("rows of another user")
	}
}
