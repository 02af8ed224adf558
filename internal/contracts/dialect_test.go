package contracts

import (
	"encoding/json"
	"testing"

	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/wire"
)

// dialect is one of the two in which the protocol is spoken.
type dialect struct {
	name    string
	uniform bool
	as      wire.ContractName
}

var (
	classic = &dialect{name: "classic", as: wire.ClassicContract}
	uniform = &dialect{name: "uniform", uniform: true, as: wire.UniformContract}

	both = []*dialect{classic, uniform}
	// dialects are those in which the engine is run.
	dialects = func() []*dialect {
		if race.Enabled { // what runs side by side is the same in both
			return []*dialect{uniform}
		}
		return both
	}()
	// local is for cases in which nothing travels.
	local = []*dialect{{name: "local"}}
)

// contract returns our implementation of the dialect, for cases about it alone. The scripted server has its own.
func (d *dialect) contract(t *testing.T) wire.Contract {
	t.Helper()
	c, err := wire.ContractByName(d.as)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// uniformLimits are the limits that tell the uniform dialect from the classic one.
var uniformLimits = map[string]int{
	"default_bytes_per_snapshot_chunk": 4194304, "max_bytes_per_snapshot_chunk": 16777216, "max_bytes_per_snapshot_row": 4194304,
	"max_concurrent_snapshot_builds": 2, "max_concurrent_snapshot_chunk_requests": 8,
	"snapshot_materialization_batch_rows": 1000, "snapshot_materialization_batch_bytes": 4194304,
}

// capabilities returns what a server of the dialect says of itself unless the case says otherwise.
func (d *dialect) capabilities(schema string, tables []tableConfig) object {
	limits := object{
		"max_rows_per_bundle": 100000, "max_bytes_per_bundle": 67108864, "max_bundles_per_pull": 1000,
		"default_rows_per_push_chunk": 1000, "max_rows_per_push_chunk": 10000, "push_session_ttl_seconds": 900,
		"default_rows_per_committed_bundle_chunk": 1000, "max_rows_per_committed_bundle_chunk": 10000,
		"default_rows_per_snapshot_chunk": 1000, "max_rows_per_snapshot_chunk": 10000, "snapshot_session_ttl_seconds": 900,
		"max_rows_per_snapshot_session": 10000000, "max_bytes_per_snapshot_session": 2147483648,
		"initialization_lease_ttl_seconds": 900,
	}
	if d.uniform {
		for name, value := range uniformLimits {
			limits[name] = value
		}
	}
	specs := []object{}
	for _, t := range tables {
		specs = append(specs, object{"schema": schema, "table": t.TableName, "sync_key_columns": []string{t.key()}})
	}
	return object{
		"protocol_version": "v1", "schema_version": 1, "registered_table_specs": specs,
		"features": object{"connect_lifecycle": true}, "bundle_limits": limits,
	}
}

// told turns a capabilities body of the fixtures, which are uniform, into one of the dialect.
func (d *dialect) told(t *testing.T, body json.RawMessage) json.RawMessage {
	t.Helper()
	if d.uniform {
		return body
	}
	var caps map[string]json.RawMessage
	decode(t, body, &caps)
	if limits, ok := caps["bundle_limits"]; ok {
		var l map[string]json.RawMessage
		decode(t, limits, &l)
		for name := range uniformLimits {
			delete(l, name)
		}
		caps["bundle_limits"] = mustJSON(l)
	}
	return mustJSON(caps)
}

// spoken turns any other body of the fixtures into one of the dialect: a classic server knows no request hash, and its pages of
// a snapshot no byte count.
func (d *dialect) spoken(t *testing.T, body json.RawMessage, page bool) json.RawMessage {
	t.Helper()
	if d.uniform || body == nil || body[0] != '{' {
		return body
	}
	var members map[string]json.RawMessage
	decode(t, body, &members)
	delete(members, "canonical_request_hash")
	if page {
		delete(members, "byte_count")
	}
	return mustJSON(members)
}

// object is a JSON object under construction.
type object map[string]any

func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a value made by the runner
	}
	return text
}
