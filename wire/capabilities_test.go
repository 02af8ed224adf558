package wire

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const goodCapabilities = `{"protocol_version":"v1","schema_version":3,"app_name":"demo",
 "registered_table_specs":[{"schema":"main","table":"users","sync_key_columns":["id"]},{"schema":"main","table":"posts","sync_key_columns":["id"]}],
 "features":{"connect_lifecycle":true,"bundle_change_watch":false,"odd":7},
 "bundle_limits":{"max_rows_per_bundle":0,"max_rows_per_push_chunk":5000,"unknown":"x"},"new":{}}`

func TestDecodeCapabilities(t *testing.T) {
	t.Parallel()
	decode := func(body []byte) error {
		_, err := DecodeCapabilities(body)
		return err
	}
	checkEdits(t, goodCapabilities, []edit{
		{`"schema_version":3`, `"schema_version":"3"`, "not a JSON value"},
		{`"max_rows_per_push_chunk":5000`, `"max_rows_per_push_chunk":-1`, "negative limit"},
		{`"max_rows_per_push_chunk":5000`, `"max_rows_per_push_chunk":1,"max_rows_per_push_chunk":1`, "twice"},
		{`"protocol_version":"v1"`, `"protocol_version":"v1","protocol_version":"v2"`, "twice"},
		{`"table":"users"`, `"table":""`, "without schema or table"},
		{`["id"]`, `"id"`, "not an array"},
		{`{"connect_lifecycle":true,"bundle_change_watch":false,"odd":7}`, `null`, ""},
		{`{"max_rows_per_bundle":0,"max_rows_per_push_chunk":5000,"unknown":"x"}`, `null`, ""},
	}, decode)
	c, err := DecodeCapabilities([]byte(goodCapabilities))
	if err != nil {
		t.Fatal(err)
	}
	want := Capabilities{
		ProtocolVersion: "v1", SchemaVersion: 3, AppName: "demo", Contract: ClassicContract,
		TableSpecs: []TableSpec{{"main", "users", []string{"id"}}, {"main", "posts", []string{"id"}}},
		Features:   map[string]bool{"connect_lifecycle": true, "bundle_change_watch": false},
		Limits:     Limits{MaxRowsPerPushChunk: 5000},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, want %+v", c, want)
	}
}

// TestContractDetection: the names count, not the values; some of the five are neither contract.
func TestContractDetection(t *testing.T) {
	t.Parallel()
	for n := range len(uniformLimits) + 1 {
		body := `{"protocol_version":"v1","schema_version":1,"features":{},"registered_table_specs":[],"bundle_limits":{"default_rows_per_snapshot_chunk":0,"max_rows_per_snapshot_chunk":1`
		for i, name := range uniformLimits[:n] {
			body += `,"` + name + `":` + []string{"0", "7", "5"}[i%3]
		}
		c, err := DecodeCapabilities([]byte(body + `}}`))
		switch n {
		case 0:
			if err != nil || c.Contract != ClassicContract {
				t.Errorf("none: %q, %v", c.Contract, err)
			}
		case len(uniformLimits):
			if err != nil || c.Contract != UniformContract {
				t.Errorf("all: %q, %v", c.Contract, err)
			}
		default:
			wantProtocolError(t, err, "limits that tell the contract")
		}
	}
}

// TestLimitNames: every limit has a place of its own.
func TestLimitNames(t *testing.T) {
	t.Parallel()
	names := append(strings.Fields(`max_rows_per_bundle max_bytes_per_bundle max_bundles_per_pull default_rows_per_push_chunk max_rows_per_push_chunk
		default_rows_per_committed_bundle_chunk max_rows_per_committed_bundle_chunk default_rows_per_snapshot_chunk max_rows_per_snapshot_chunk
		push_session_ttl_seconds snapshot_session_ttl_seconds max_rows_per_snapshot_session max_bytes_per_snapshot_session initialization_lease_ttl_seconds`), uniformLimits[:]...)
	var l Limits
	for i, name := range names {
		field := l.field(name)
		if field == nil || *field != 0 {
			t.Fatalf("%s has no place of its own", name)
		}
		*field = int64(i + 1)
	}
	if v := reflect.ValueOf(l); v.NumField() != len(names) {
		t.Errorf("%d limits, %d names", v.NumField(), len(names))
	}
	if l.field("max_concurrent_snapshot_chunks") != nil {
		t.Error("an alias that must not be taken")
	}
}

func TestCheckCapabilities(t *testing.T) {
	t.Parallel()
	caps, err := DecodeCapabilities([]byte(goodCapabilities))
	if err != nil {
		t.Fatal(err)
	}
	id := []string{"id"}
	same := []TableSpec{{"", "posts", id}, {"main", "users", id}}
	if err := CheckCapabilities(caps, "u", "main", same); err != nil {
		t.Error(err)
	}
	var mismatch *TableContractMismatchError
	err = CheckCapabilities(caps, "u", "main", []TableSpec{{"", "zoo", id}, {"", "users", []string{"uid"}}, {"", "apes", id}})
	want := &TableContractMismatchError{ServerOnlyTables: []string{"main.posts"}, ClientOnlyTables: []string{"main.apes", "main.zoo"},
		SyncKeyMismatches: []SyncKeyMismatch{{"main.users", []string{"uid"}, id}}}
	if !errors.As(err, &mismatch) || !reflect.DeepEqual(mismatch, want) || mismatch.Retryable() {
		t.Errorf("%+v, want %+v", err, want)
	}
	for _, part := range []string{"main.posts", "main.apes, main.zoo", "main.users has sync key [uid] here and [id]"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if err := CheckCapabilities(caps, "u", "other", []TableSpec{{"", "users", id}}); !errors.As(err, &mismatch) || len(mismatch.ServerOnlyTables) != 2 {
		t.Errorf("another schema: %v", err)
	}
	unnamed := caps
	unnamed.TableSpecs = nil
	if err := CheckCapabilities(unnamed, "u", "main", nil); err != nil {
		t.Errorf("a server that does not name its tables: %v", err)
	}
	twice := caps
	twice.TableSpecs = append(twice.TableSpecs, caps.TableSpecs[0])
	wantProtocolError(t, CheckCapabilities(twice, "u", "main", same), "registered twice")
	old := caps
	old.ProtocolVersion = "v0"
	var version *ProtocolVersionMismatchError
	if err := CheckCapabilities(old, "u", "main", same); !errors.As(err, &version) || version.Actual != "v0" || version.Retryable() || !strings.Contains(err.Error(), `"v0"`) {
		t.Errorf("%v", err)
	}
	plain := caps
	plain.Features = map[string]bool{"connect_lifecycle": false}
	var lifecycle *LifecycleUnsupportedError
	if err := CheckCapabilities(plain, "https://x", "main", same); !errors.As(err, &lifecycle) || lifecycle.Status != 200 || lifecycle.URL != "https://x" || lifecycle.Retryable() || !strings.Contains(err.Error(), "connect_lifecycle") {
		t.Errorf("%v", err)
	}
}
