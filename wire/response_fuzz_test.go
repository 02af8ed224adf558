package wire

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

const (
	someUUID = "550e8400-e29b-41d4-a716-446655440000"
	someHash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// FuzzConnect: answers to connect are taken by the rules, in both contracts.
func FuzzConnect(f *testing.F) {
	for _, s := range slices.Concat(jsonSeeds, variants(`{"resolution":"initialize_local","initialization_id":"`+someUUID+`","lease_expires_at":"t"}`),
		variants(`{"resolution":"retry_later","retry_after_seconds":7,"initialization_id":""}`), []string{`{"resolution":"remote_authoritative"}`, `{"resolution":"initialize_empty","initialization_id":"x"}`}) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range contracts {
			r, n := read(body, c)
			want := ConnectResponse{Resolution(r.string(n, "resolution")), r.string(n, "initialization_id"), r.string(n, "lease_expires_at"), r.int(n, "retry_after_seconds", 0)}
			switch want.Resolution {
			case InitializeLocal:
				r.wrong(want.InitializationID == "" || r.uniform && !uuidForm.MatchString(want.InitializationID))
			case RemoteAuthoritative, InitializeEmpty, ResolutionRetry:
				r.wrong(r.uniform && want.InitializationID != "")
				want.InitializationID = ""
			default:
				r.bad = true
			}
			if want.Resolution == ResolutionRetry {
				want.RetryAfterSeconds = max(want.RetryAfterSeconds, 1)
			}
			got, err := c.DecodeConnect(body)
			if agree(t, body, "connect", r, err) && got != want {
				t.Fatalf("%q: %+v, want %+v", body, got, want)
			}
		}
	})
}

// FuzzWatchEvent: the data of an event are a bundle's number, and who wrote it where that is said.
func FuzzWatchEvent(f *testing.F) {
	for _, s := range append(jsonSeeds, variants(`{"bundle_seq":7,"source_id":"s","source_bundle_id":3,"row_count":1}`)...) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, n := read(body, classic{})
		m := r.meta(n)
		r.wrong(m.Seq <= 0)
		got, err := DecodeWatchEvent(body)
		if want := (WatchEvent{m.Seq, m.SourceID, m.SourceBundleID}); agree(t, body, "watch", r, err) && got != want {
			t.Fatalf("%q: %+v, want %+v", body, got, want)
		}
	})
}

// capabilities is the second reading of what a server says of itself.
func (r *reader) capabilities(n item) (c Capabilities, uniformNames int) {
	c = Capabilities{ProtocolVersion: r.string(n, "protocol_version"), SchemaVersion: r.int(n, "schema_version", 0), AppName: r.string(n, "app_name")}
	if r.has(n, "features") {
		c.Features = map[string]bool{}
	}
	if v, ok := r.member(n, "registered_table_specs"); ok {
		c.TableSpecs = []TableSpec{}
		for _, s := range r.list(n, "registered_table_specs") {
			r.wrong(s.kind != '{')
			spec := TableSpec{Schema: r.string(s, "schema"), Table: r.string(s, "table")}
			for _, column := range r.list(s, "sync_key_columns") {
				r.wrong(column.kind != '"')
				spec.SyncKeyColumns = append(spec.SyncKeyColumns, column.text)
			}
			r.wrong(spec.Schema == "" || spec.Table == "")
			r.wrong(r.uniform && (len(spec.SyncKeyColumns) != 1 || strings.TrimSpace(spec.SyncKeyColumns[0]) == "" || strings.TrimSpace(spec.Schema) == "" || strings.TrimSpace(spec.Table) == ""))
			c.TableSpecs = append(c.TableSpecs, spec)
		}
		r.wrong(v.kind != '[')
	}
	if v, ok := r.member(n, "features"); ok {
		r.wrong(v.kind != '{')
		for i, name := range v.names {
			if kind := v.values[i].kind; kind == 't' || kind == 'f' {
				c.Features[name] = kind == 't'
			} else {
				r.wrong(r.uniform)
			}
		}
	}
	limits, ok := r.member(n, "bundle_limits")
	r.wrong(ok && limits.kind != '{')
	for _, name := range limits.names {
		if field := c.Limits.field(name); field != nil {
			*field = r.int(limits, name, 0)
			r.wrong(*field < 0)
		}
	}
	for _, name := range []string{"default_bytes_per_snapshot_chunk", "max_bytes_per_snapshot_chunk", "max_bytes_per_snapshot_row", "max_concurrent_snapshot_builds", "max_concurrent_snapshot_chunk_requests"} {
		if r.has(limits, name) {
			uniformNames++
		}
	}
	if r.uniform {
		for _, name := range []string{"protocol_version", "schema_version", "registered_table_specs", "features", "bundle_limits"} {
			_, ok := r.member(n, name)
			r.wrong(!ok)
		}
		for i, name := range limits.names {
			r.wrong(c.Limits.field(name) != nil && limits.values[i].kind == 'n')
		}
		r.wrong(!n.unique() || !r.has(limits, "default_rows_per_snapshot_chunk") || !r.has(limits, "max_rows_per_snapshot_chunk"))
	}
	return c, uniformNames
}

// FuzzCapabilities: what a server says of itself tells its contract, and is held to its rules.
func FuzzCapabilities(f *testing.F) {
	outer := regexp.MustCompile(`"registered_table_specs":\[[^]]*\][^]]*\]|"(features|bundle_limits)":\{[^}]*\}`).ReplaceAllString(uniformCapabilitiesText, `"$1":null`)
	for _, s := range slices.Concat(jsonSeeds, variants(goodCapabilities), variants(uniformCapabilitiesText), []string{outer, strings.Replace(uniformCapabilitiesText, `"registered_table_specs":[`, `"registered_table_specs":null,"x":[`, 1),
		strings.Replace(uniformCapabilitiesText, `"features"`, `"feature"`, 1), strings.Replace(uniformCapabilitiesText, `"bundle_limits"`, `"bundle_limits":null,"x"`, 1)}) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, n := read(body, classic{})
		want, names := r.capabilities(n)
		want.Contract = ClassicContract
		if names == 5 {
			r, n = read(body, uniform{})
			want, _ = r.capabilities(n)
			want.Contract = UniformContract
		}
		r.wrong(names > 0 && names < 5)
		got, err := DecodeCapabilities(body)
		if agree(t, body, "capabilities", r, err) && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %+v, want %+v", body, got, want)
		}
	})
}

// committed is the second reading of a bundle as which a push was committed.
func (r *reader) committed(m BundleMeta, request CreatePushRequest, source string) {
	r.check(m)
	r.wrong(m.SourceID != source || m.SourceBundleID != request.SourceBundleID || m.RowCount < 0 || m.Hash == "")
}

// request checks which request an answer names, which it does in the uniform contract only.
func (r *reader) request(n item, hash, want string) {
	if !r.uniform {
		r.wrong(r.has(n, "canonical_request_hash"))
	} else if want != "" {
		r.wrong(hash != want || !hashForm.MatchString(hash))
	}
}

// FuzzPushAnswers: create, chunk and commit, in both contracts.
func FuzzPushAnswers(f *testing.F) {
	withHash := func(s string) string { return s[:len(s)-1] + `,"canonical_request_hash":"` + someHash + `"}` }
	staging := `{"push_id":"` + someUUID + `","status":"staging","planned_row_count":2,"next_expected_row_ordinal":0}`
	for _, s := range slices.Concat(jsonSeeds, variants(staging), variants(withHash(staging)), variants(goodCommit), variants(withHash(goodCommit)), variants(`{"push_id":"`+someUUID+`","next_expected_row_ordinal":2}`),
		[]string{strings.Replace(withHash(goodCommit), "0123", "3210", 1), `{"push_id":"p","status":"staging"}`}) {
		f.Add([]byte(s), int64(3), int64(2))
	}
	f.Fuzz(func(t *testing.T, body []byte, number, planned int64) {
		request := CreatePushRequest{SourceBundleID: number, PlannedRowCount: planned, RequestHash: someHash}
		for _, c := range contracts {
			r, n := read(body, c)
			status, m := r.string(n, "status"), r.meta(n)
			want := CreatePushResponse{PushID: r.string(n, "push_id")}
			rows, next := r.int(n, "planned_row_count", planned), r.int(n, "next_expected_row_ordinal", 0)
			switch status {
			case "staging":
				r.wrong(want.PushID == "" || rows != planned || next != 0 || r.uniform && !uuidForm.MatchString(want.PushID))
				want.Committed.RequestHash = m.RequestHash
			case "already_committed":
				r.committed(m, request, "s")
				want = CreatePushResponse{AlreadyCommitted: true, Committed: m}
			default:
				r.bad = true
			}
			r.request(n, m.RequestHash, someHash)
			got, err := c.DecodeCreatePush(body, request, "s")
			if agree(t, body, "create", r, err) && got != want {
				t.Fatalf("%q: %+v, want %+v", body, got, want)
			}

			r, n = read(body, c)
			m = r.meta(n)
			r.committed(m, request, "s")
			r.request(n, m.RequestHash, someHash)
			meta, err := c.DecodeCommit(body, request, "s")
			if agree(t, body, "commit", r, err) && meta != m {
				t.Fatalf("%q: %+v, want %+v", body, meta, m)
			}

			r, n = read(body, c)
			r.wrong(r.string(n, "push_id") != someUUID)
			r.wrong(r.int(n, "next_expected_row_ordinal", -1) != planned)
			agree(t, body, "chunk", r, c.DecodePushChunk(body, someUUID, planned))
		}
	})
}
