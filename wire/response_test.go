package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func jsonHash(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// edit is one change of a good answer, and a fragment of the error it must lead to; "" when it is as good.
type edit struct{ old, new, fault string }

// checkEdits decodes the answer as it is and after each edit.
func checkEdits(t *testing.T, good string, edits []edit, decode func([]byte) error) {
	t.Helper()
	if err := decode([]byte(good)); err != nil {
		t.Fatalf("the good answer: %v", err)
	}
	for _, e := range edits {
		body := strings.Replace(good, e.old, e.new, 1)
		if body == good {
			t.Fatalf("%q is not in the answer", e.old)
		}
		err := decode([]byte(body))
		if e.fault == "" {
			if err != nil {
				t.Errorf("%q for %q: %v", e.new, e.old, err)
			}
			continue
		}
		wantProtocolError(t, err, e.fault)
	}
	for _, broken := range []string{"", "null", "<html>", good[:len(good)/2], good + "{}", strings.Repeat(`{"a":`, 200)} {
		wantProtocolError(t, decode([]byte(broken)), "")
	}
}

const goodPull = `{"stable_bundle_seq":5,"bundles":[
 {"bundle_seq":4,"source_id":"s","source_bundle_id":1,"row_count":1,"rows":[
  {"schema":"main","table":"users","key":{"id":"a"},"op":"INSERT","row_version":4,"payload":{"id":"a"}}]},
 {"bundle_seq":5,"source_id":"s","source_bundle_id":2,"row_count":1,"bundle_hash":"","rows":[
  {"schema":"main","table":"users","key":{"id":"b"},"op":"DELETE","row_version":5}]}],"has_more":false}`

func TestDecodePull(t *testing.T) {
	t.Parallel()
	checkEdits(t, goodPull, []edit{
		{`"payload":{"id":"a"}`, `"payload":null`, "without a payload"},
		{`,"payload":{"id":"a"}`, ``, "without a payload"},
		{`{"id":"a"}}]`, `7}]`, "not an object"},
		{`"row_version":4`, `"row_version":0`, "bundle row row_version 0 must be positive"},
		{`"row_version":4`, `"row_version":4.0`, "not a 64-bit integer"},
		{`"row_version":4`, `"row_version":99999999999999999999`, "not a 64-bit integer"},
		{`"row_version":4`, `"row_version":4,"row_version":4`, "twice"},
		{`"row_version":4`, `"row_version":4,"new":[{"x":1}]`, ""},
		{`"INSERT"`, `"UPSERT"`, "unknown op"},
		{`"op":"INSERT",`, ``, "without an op"},
		{`"schema":"main",`, ``, "without schema or table"},
		{`{"id":"a"},"op"`, `{},"op"`, "key without a member"},
		{`{"id":"a"},"op"`, `{"id":1},"op"`, "not a string"},
		{`{"id":"a"},"op"`, `{"id":"a","b":"c"},"op"`, "more than one member"},
		{`{"id":"a"},"op"`, `null,"op"`, "without a key"},
		{`"row_version":5`, `"row_version":5,"payload":null`, ""},
		{`"row_version":5`, `"row_version":5,"payload":{"id":"b"}`, ""},
		{`"bundle_seq":5,`, `"bundle_seq":4,`, "bundle_seq 4 comes after 4"},
		{`"bundle_seq":4,`, `"bundle_seq":3,`, "bundle_seq 3 comes after 3"},
		{`"bundle_seq":4,`, `"bundle_seq":0,`, "must be positive"},
		{`"bundle_seq":5,"s`, `"bundle_seq":6,"s`, "beyond stable_bundle_seq"},
		{`"stable_bundle_seq":5`, `"stable_bundle_seq":6`, "stable bundle seq changed from 5 to 6"},
		{`"stable_bundle_seq":5`, `"stable_bundle_seq":0`, "missing stable_bundle_seq for non-empty bundle list"},
		{`"stable_bundle_seq":5,`, ``, "missing stable_bundle_seq"},
		{`"stable_bundle_seq":5`, `"stable_bundle_seq":-5`, "negative"},
		{`"has_more":false`, `"has_more":true`, "says there is more"},
		{`"source_id":"s",`, ``, "without a source_id"},
		{`"source_bundle_id":1`, `"source_bundle_id":-1`, "source_bundle_id -1"},
		{`"row_count":1,`, `"row_count":-9,`, "row_count -9"},
		{`"row_count":1,`, ``, ""},
		{`"has_more":false`, `"has_more":null`, ""},
		{`"has_more":false`, `"has_more":"no"`, "not a boolean"},
		{`"bundles":[`, `"bundles":{"x":[`, "not an array"},
	}, func(body []byte) error {
		_, err := classic{}.DecodePull(body, PullRequest{After: 3, Target: 5})
		return err
	})
	page, err := classic{}.DecodePull([]byte(goodPull), PullRequest{After: 3})
	if err != nil || len(page.Bundles) != 2 || page.Bundles[1].RowCount != 1 || page.Bundles[1].Rows[0].Payload != nil || string(page.Bundles[0].Rows[0].Payload) != `{"id":"a"}` {
		t.Errorf("%+v, %v", page, err)
	}
	if page, err := (classic{}).DecodePull([]byte(`{"stable_bundle_seq":3,"bundles":null,"has_more":false}`), PullRequest{After: 3}); err != nil || len(page.Bundles) != 0 {
		t.Errorf("nothing new: %+v, %v", page, err)
	}
	_, err = classic{}.DecodePull([]byte(`{"stable_bundle_seq":4,"bundles":[],"has_more":false}`), PullRequest{After: 3})
	wantProtocolError(t, err, "before stable_bundle_seq 4")
	_, err = classic{}.DecodePull([]byte(`{"stable_bundle_seq":4,"bundles":[],"has_more":true}`), PullRequest{After: 3})
	wantProtocolError(t, err, "empty page")
	_, err = classic{}.DecodePull([]byte(`{"bundles":[],"has_more":false}`), PullRequest{})
	wantProtocolError(t, err, "without stable_bundle_seq")
}

// A checkpoint of 0 is never answered history_pruned: the last page can end early, but only because it has lost all of it.
func TestPullFromZeroBehindAPrunedHistory(t *testing.T) {
	t.Parallel()
	page, err := classic{}.DecodePull([]byte(`{"stable_bundle_seq":4,"bundles":[],"has_more":false}`), PullRequest{})
	if err != nil || page.StableSeq != 4 {
		t.Fatalf("%+v, %v", page, err)
	}
	if expected, got, gap := page.Gap(0); !gap || expected != 1 || got != 5 {
		t.Errorf("%d, %d, %v", expected, got, gap)
	}
	_, err = classic{}.DecodePull([]byte(strings.Replace(goodPull, `"stable_bundle_seq":5`, `"stable_bundle_seq":9`, 1)), PullRequest{})
	wantProtocolError(t, err, "before stable_bundle_seq 9")
}

func TestStableBehind(t *testing.T) {
	t.Parallel()
	_, err := classic{}.DecodePull([]byte(`{"stable_bundle_seq":2,"bundles":[],"has_more":false}`), PullRequest{After: 3})
	var behind *StableBehindError
	if !errors.As(err, &behind) || behind.Stable != 2 || behind.After != 3 || behind.Retryable() || !strings.Contains(err.Error(), "is behind requested after_bundle_seq 3") {
		t.Errorf("%v", err)
	}
}

func TestGap(t *testing.T) {
	t.Parallel()
	page := func(seqs ...int64) (p PullPage) {
		for _, s := range seqs {
			p.Bundles = append(p.Bundles, Bundle{BundleMeta: BundleMeta{Seq: s}})
		}
		return p
	}
	for _, c := range []struct {
		page          PullPage
		after         int64
		expected, got int64
		gap           bool
	}{
		{PullPage{StableSeq: 5}, 0, 1, 6, true}, {PullPage{StableSeq: 5}, 5, 0, 0, false}, {PullPage{StableSeq: 5, HasMore: true}, 0, 0, 0, false},
		{page(), 3, 0, 0, false}, {page(4, 5), 3, 0, 0, false}, {page(2), 0, 1, 2, true}, {page(1, 2, 4), 0, 3, 4, true},
	} {
		expected, got, gap := c.page.Gap(c.after)
		if expected != c.expected || got != c.got || gap != c.gap {
			t.Errorf("%+v after %d: %d, %d, %v", c.page, c.after, expected, got, gap)
		}
	}
}

func TestVerifyBundle(t *testing.T) {
	t.Parallel()
	page, err := classic{}.DecodePull(benchPage(t), PullRequest{})
	if err != nil {
		t.Fatal(err)
	}
	bundle := page.Bundles[0]
	if err := VerifyBundle(classic{}, &bundle); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Bundle){
		"row_count": func(b *Bundle) { b.RowCount++ },
		"hash":      func(b *Bundle) { b.Hash = strings.Repeat("0", 64) },
		"order":     func(b *Bundle) { b.Rows[0], b.Rows[1] = b.Rows[1], b.Rows[0] },
		"payload":   func(b *Bundle) { b.Rows[3].Payload = []byte(`{}`) },
		"broken":    func(b *Bundle) { b.Rows[3].Payload = []byte(`{`) },
		"version":   func(b *Bundle) { b.Rows[3].RowVersion++ },
		"key":       func(b *Bundle) { b.Rows[3].Key.Value += "x" },
		"op":        func(b *Bundle) { b.Rows[3].Op = OpDelete },
	} {
		b := bundle
		b.Rows = append([]Row{}, bundle.Rows...)
		change(&b)
		if err := VerifyBundle(classic{}, &b); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			wantProtocolError(t, err, "")
		}
		if err := VerifyBundles(classic{}, []Bundle{bundle, b}); err == nil {
			t.Errorf("%s: no error among others", name)
		}
	}
	bundle.RowCount, bundle.Hash = -1, ""
	bundle.Rows = bundle.Rows[:5]
	if err := VerifyBundle(classic{}, &bundle); err != nil {
		t.Errorf("nothing given to check: %v", err)
	}
}

var pushRequest = CreatePushRequest{SourceBundleID: 3, PlannedRowCount: 2}

const goodCommit = `{"status":"already_committed","bundle_seq":9,"source_id":"s","source_bundle_id":3,"row_count":2,"bundle_hash":"h"}`

var commitEdits = []edit{
	{`"bundle_seq":9`, `"bundle_seq":0`, "must be positive"},
	{`"source_id":"s"`, `"source_id":"t"`, "another source's"},
	{`"source_bundle_id":3`, `"source_bundle_id":4`, "source_bundle_id 4"},
	{`"row_count":2,`, ``, "without a row_count"},
	{`"row_count":2,`, `"row_count":5,`, ""},
	{`"h"`, `""`, "without a bundle_hash"},
	{`"row_count":2,`, `"row_count":2,"row_count":2,`, "twice"},
}

func TestDecodeCreatePush(t *testing.T) {
	t.Parallel()
	decode := func(body []byte) error {
		_, err := classic{}.DecodeCreatePush(body, pushRequest, "s")
		return err
	}
	checkEdits(t, `{"push_id":"p","status":"staging","planned_row_count":2,"next_expected_row_ordinal":0}`, []edit{
		{`"push_id":"p"`, `"push_id":""`, "without a push_id"},
		{`"planned_row_count":2`, `"planned_row_count":3`, "planned_row_count 3"},
		{`"next_expected_row_ordinal":0`, `"next_expected_row_ordinal":1`, "row ordinal 1"},
		{`,"next_expected_row_ordinal":0`, ``, ""},
		{`,"planned_row_count":2`, ``, ""},
		{`"staging"`, `"other"`, "unknown session status"},
	}, decode)
	checkEdits(t, goodCommit, commitEdits, decode)
	r, err := classic{}.DecodeCreatePush([]byte(goodCommit), pushRequest, "s")
	if err != nil || !r.AlreadyCommitted || r.Committed != (BundleMeta{Seq: 9, SourceID: "s", SourceBundleID: 3, RowCount: 2, Hash: "h"}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestDecodeCommit(t *testing.T) {
	t.Parallel()
	checkEdits(t, goodCommit, commitEdits, func(body []byte) error {
		_, err := classic{}.DecodeCommit(body, pushRequest, "s")
		return err
	})
}

func TestDecodePushChunk(t *testing.T) {
	t.Parallel()
	checkEdits(t, `{"push_id":"p","next_expected_row_ordinal":7}`, []edit{
		{`"p"`, `"q"`, "another push session"},
		{`7`, `8`, "next_expected_row_ordinal 8 does not match expected 7"},
		{`7`, `null`, "does not match expected 7"},
		{`7`, `7,"push_id":"p"`, "twice"},
		{`7`, `7,"more":1`, ""},
	}, func(body []byte) error { return classic{}.DecodePushChunk(body, "p", 7) })
}

func TestDecodeCommittedRows(t *testing.T) {
	t.Parallel()
	const row = `{"schema":"main","table":"users","key":{"id":"a"},"op":"INSERT","row_version":9,"payload":{"id":"a"}}`
	const page = `{"bundle_seq":9,"source_id":"s","source_bundle_id":3,"row_count":3,"bundle_hash":"h","rows":[` + row + `],"next_row_ordinal":2,"has_more":false}`
	want := BundleMeta{Seq: 9, SourceID: "s", SourceBundleID: 3, RowCount: 3, Hash: "h"}
	checkEdits(t, page, []edit{
		{`"bundle_seq":9`, `"bundle_seq":8`, "bundle_seq 8"},
		{`"bundle_seq":9`, `"bundle_seq":0`, "must be positive"},
		{`"source_id":"s"`, `"source_id":"t"`, "another source's"},
		{`"source_bundle_id":3`, `"source_bundle_id":4`, "source_bundle_id 4"},
		{`"row_count":3`, `"row_count":4`, "row_count 4"},
		{`"h"`, `"g"`, "bundle_hash differs"},
		{`"next_row_ordinal":2`, `"next_row_ordinal":1`, "next_row_ordinal 1 does not match expected 2"},
		{`"has_more":false`, `"has_more":true`, ""}, // one request more, and the server says so
		{row, ``, "next_row_ordinal 2"},
		{row, row + `,` + row, "next_row_ordinal"},
		{`"rows":[`, `"rows":[],"rows":[`, "twice"},
		{`"row_version":9`, `"row_version":-1`, "must be positive"},
	}, func(body []byte) error {
		_, err := classic{}.DecodeCommittedRows(body, CommittedRowsRequest{Bundle: want, After: 1})
		return err
	})
	decode := func(body string, after int64, bundle BundleMeta) (CommittedRowsPage, error) {
		return classic{}.DecodeCommittedRows([]byte(body), CommittedRowsRequest{Bundle: bundle, After: after})
	}
	const empty = `{"bundle_seq":9,"source_id":"s","source_bundle_id":3,"row_count":0,"bundle_hash":"h","rows":[],"next_row_ordinal":0,"has_more":false}`
	if p, err := decode(empty, -1, BundleMeta{RowCount: -1}); err != nil || p.Next != -1 {
		t.Errorf("an empty bundle: %+v, %v", p, err)
	}
	_, err := decode(strings.Replace(empty, "false", "true", 1), -1, BundleMeta{RowCount: -1})
	wantProtocolError(t, err, "empty page")
	_, err = decode(page, 2, BundleMeta{RowCount: -1})
	wantProtocolError(t, err, "next_row_ordinal")
	for _, other := range []BundleMeta{{SourceID: "t", RowCount: -1}, {SourceID: "s", SourceBundleID: 4, RowCount: -1}} {
		if _, err := decode(page, 1, other); !errors.Is(err, ErrOtherBundle) {
			t.Errorf("asked for %+v: %v", other, err)
		}
	}
	_, err = decode(strings.Replace(page, `"next_row_ordinal":2`, `"next_row_ordinal":3`, 1), 2, BundleMeta{RowCount: -1})
	wantProtocolError(t, err, "4 rows of a bundle with row_count 3")
	_, err = decode(strings.Replace(page, `"next_row_ordinal":2`, `"next_row_ordinal":1`, 1), 0, BundleMeta{RowCount: -1})
	wantProtocolError(t, err, "ends after 2 rows")
}

func TestDecodeSnapshotSession(t *testing.T) {
	t.Parallel()
	checkEdits(t, `{"snapshot_id":"x","snapshot_bundle_seq":5,"row_count":3,"byte_count":100,"expires_at":"2099-01-01T00:00:00Z"}`, []edit{
		{`"x"`, `""`, "no snapshot_id"},
		{`"snapshot_bundle_seq":5`, `"snapshot_bundle_seq":0`, "missing snapshot_bundle_seq for non-empty row set"},
		{`"row_count":3`, `"row_count":-3`, "negative"},
		{`,"byte_count":100`, ``, ""},
		{`100`, `"100"`, "not a JSON value"},
		{`100`, `100,"byte_count":1`, "twice"},
	}, func(body []byte) error {
		_, err := classic{}.DecodeSnapshotSession(body)
		return err
	})
}

func TestDecodeSnapshotPage(t *testing.T) {
	t.Parallel()
	const row = `{"schema":"main","table":"users","key":{"id":"a"},"row_version":4,"payload":{"id":"a"}}`
	const good = `{"snapshot_id":"x","snapshot_bundle_seq":5,"rows":[` + row + `],"next_row_ordinal":3,"has_more":false}`
	session := SnapshotSession{ID: "x", BundleSeq: 5, RowCount: 3}
	checkEdits(t, good, []edit{
		{`"x"`, `"y"`, "another snapshot"},
		{`"snapshot_bundle_seq":5`, `"snapshot_bundle_seq":6`, "snapshot_bundle_seq 6 does not match expected 5"},
		{`"next_row_ordinal":3`, `"next_row_ordinal":2`, "next_row_ordinal 2 does not match expected 3"},
		{row, row + `,` + row, "next_row_ordinal 3 does not match expected 4"},
		{`"next_row_ordinal":3,"has_more":false`, `"next_row_ordinal":3,"has_more":true`, "final row total 3"},
		{`"row_version":4`, `"row_version":0`, "snapshot row row_version 0 must be positive"},
		{`,"payload":{"id":"a"}`, ``, "without a payload"},
		{`"row_version":4`, `"row_version":4,"op":7`, ""}, // snapshot rows have no op to be read
	}, func(body []byte) error {
		_, err := classic{}.DecodeSnapshotPage(body, SnapshotPageRequest{Session: session, After: 2})
		return err
	})
	page, err := classic{}.DecodeSnapshotPage([]byte(good), SnapshotPageRequest{Session: session, After: 2})
	if err != nil || page.Rows[0].Op != OpInsert || page.Next != 3 {
		t.Errorf("%+v, %v", page, err)
	}
	session.RowCount = 2
	_, err = classic{}.DecodeSnapshotPage([]byte(good), SnapshotPageRequest{Session: session, After: 2})
	wantProtocolError(t, err, "snapshot final row total 3 does not match session row_count 2")
	session.BundleSeq = 0
	_, err = classic{}.DecodeSnapshotPage([]byte(strings.Replace(good, `seq":5`, `seq":0`, 1)), SnapshotPageRequest{Session: session, After: 2})
	wantProtocolError(t, err, "missing snapshot_bundle_seq for non-empty row set")
	_, err = classic{}.DecodeSnapshotPage([]byte(`{"snapshot_id":"x","snapshot_bundle_seq":0,"rows":[],"next_row_ordinal":0,"has_more":true}`), SnapshotPageRequest{Session: SnapshotSession{ID: "x", RowCount: 1}})
	wantProtocolError(t, err, "empty page")
}

func TestDecodeConnect(t *testing.T) {
	t.Parallel()
	checkEdits(t, `{"resolution":"initialize_local","initialization_id":"i","lease_expires_at":"2099-01-01T00:00:00Z"}`, []edit{
		{`"i"`, `""`, "without an initialization_id"},
		{`initialize_local`, `remote_authoritative`, ""},
		{`initialize_local`, `perhaps`, "unknown resolution"},
		{`"i"`, `7`, "not a string"},
		{`"i"`, `"i","resolution":"retry_later"`, "twice"},
	}, func(body []byte) error {
		_, err := DecodeConnect(body)
		return err
	})
	r, err := DecodeConnect([]byte(`{"resolution":"retry_later","retry_after_seconds":0,"initialization_id":"i"}`))
	if err != nil || r.RetryAfterSeconds != 1 || r.InitializationID != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestDecodeWatchEvent(t *testing.T) {
	t.Parallel()
	checkEdits(t, `{"bundle_seq":7,"source_id":"s","source_bundle_id":2}`, []edit{
		{`7`, `0`, "must be positive"},
		{`7`, `"7"`, "not a JSON value"},
		{`,"source_id":"s","source_bundle_id":2`, ``, ""},
		{`"s"`, `1`, "not a string"},
	}, func(body []byte) error {
		_, err := DecodeWatchEvent(body)
		return err
	})
	e, err := DecodeWatchEvent([]byte(`{"bundle_seq":7,"source_id":"s","source_bundle_id":2}`))
	if err != nil || e != (WatchEvent{7, "s", 2}) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	c := classic{}
	for _, r := range []struct{ got, want string }{
		{string(c.AppendCreatePush(nil, CreatePushRequest{SourceBundleID: 1, PlannedRowCount: 2, RequestHash: "h"})), `{"source_bundle_id":1,"planned_row_count":2}`},
		{string(c.AppendCreatePush(nil, CreatePushRequest{SourceBundleID: 1, PlannedRowCount: 2, InitializationID: "i"})), `{"source_bundle_id":1,"planned_row_count":2,"initialization_id":"i"}`},
		{string(c.AppendPushChunk(nil, 5, []PushRow{
			{Schema: "main", Table: "t", Key: Key{"id", "a\"b"}, Op: OpUpdate, BaseRowVersion: 3, Payload: []byte(`{"id":"a\"b"}`)},
			{Schema: "main", Table: "t", Key: Key{"id", "c"}, Op: OpDelete, BaseRowVersion: 4},
		})), `{"start_row_ordinal":5,"rows":[{"schema":"main","table":"t","key":{"id":"a\"b"},"op":"UPDATE","base_row_version":3,"payload":{"id":"a\"b"}},{"schema":"main","table":"t","key":{"id":"c"},"op":"DELETE","base_row_version":4}]}`},
		{string(AppendConnect(nil, true)), `{"has_local_pending_rows":true}`},
		{string(AppendConnect(nil, false)), `{"has_local_pending_rows":false}`},
		{string(AppendSnapshotRequest(nil, nil)), `{}`},
		{string(AppendSnapshotRequest(nil, &SourceReplacement{"a", "b", "source_retired"})), `{"source_replacement":{"previous_source_id":"a","new_source_id":"b","reason":"source_retired"}}`},
	} {
		if r.got != r.want {
			t.Errorf("%s, want %s", r.got, r.want)
		}
	}
}
