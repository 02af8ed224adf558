package wire

import (
	"cmp"
	"slices"
	"strings"
)

// uniformLimits are the limits that only the uniform contract has; whether a server has them tells its contract.
var uniformLimits = [...]string{
	"default_bytes_per_snapshot_chunk",
	"max_bytes_per_snapshot_chunk",
	"max_bytes_per_snapshot_row",
	"max_concurrent_snapshot_builds",
	"max_concurrent_snapshot_chunk_requests",
}

// DecodeCapabilities decodes what a server says of itself, the same in every contract. The contract it speaks is
// nowhere named: it is told from the limits that only the uniform contract has. None of the five members (present,
// whatever their value) means classic, all of them uniform, anything between is a *ProtocolError. What a uniform server
// says is held to more: its five members and the limits of snapshots have to be there, and no object may have a member
// twice.
func DecodeCapabilities(body []byte) (Capabilities, error) {
	d := newDecoder("capabilities", body)
	c, _, uniform, err := d.capabilities()
	if err != nil {
		return Capabilities{}, err
	}
	switch uniform {
	case 0:
		c.Contract = ClassicContract
		return c, nil
	case len(uniformLimits):
		return uniformCapabilities(body)
	}
	return Capabilities{}, d.bad("bundle_limits has %d of the %d limits that tell the contract", uniform, len(uniformLimits))
}

// uniformCapabilities decodes strictly what is known to be a uniform server's.
func uniformCapabilities(body []byte) (Capabilities, error) {
	d := newUniformDecoder("capabilities", body)
	if err := d.checkUnique(); err != nil {
		return Capabilities{}, err
	}
	c, seen, _, err := d.capabilities()
	switch {
	case err != nil:
		return Capabilities{}, err
	case seen&requiredCapabilities != requiredCapabilities:
		return Capabilities{}, d.bad("a required member is missing")
	case c.TableSpecs == nil:
		return Capabilities{}, d.bad("registered_table_specs is null")
	}
	c.Contract = UniformContract
	return c, nil
}

// requiredCapabilities are the members that a uniform server must send.
const requiredCapabilities memberSet = 1 | 2 | 8 | 16 | 32

// capabilities reads what a server says of itself and counts the limits that only the uniform contract has.
func (d *decoder) capabilities() (c Capabilities, seen memberSet, uniform int, err error) {
	for name := range d.members {
		switch string(name) {
		case "protocol_version":
			d.required(&seen, 1)
			d.string(&c.ProtocolVersion)
		case "schema_version":
			d.required(&seen, 2)
			d.int(&c.SchemaVersion)
		case "app_name":
			d.once(&seen, 4)
			d.string(&c.AppName)
		case "registered_table_specs":
			d.once(&seen, 8)
			c.TableSpecs = d.tableSpecs()
		case "features":
			d.required(&seen, 16)
			c.Features = d.features()
		case "bundle_limits":
			d.required(&seen, 32)
			uniform = d.limits(&c.Limits)
		default:
			d.skip()
		}
	}
	return c, seen, uniform, d.finish()
}

// required notes a member that a uniform server must send; null is none.
func (d *decoder) required(seen *memberSet, bit memberSet) {
	d.once(seen, bit)
	if d.uniform && d.peek() == 'n' {
		d.fail("a required member that is null")
	}
}

func (d *decoder) tableSpecs() []TableSpec {
	if d.null() {
		return nil
	}
	specs := []TableSpec{} // given, if empty
	for range d.elements {
		var seen memberSet
		var spec TableSpec
		for name := range d.members {
			switch string(name) {
			case "schema":
				d.once(&seen, 1)
				d.name(&spec.Schema)
			case "table":
				d.once(&seen, 2)
				d.string(&spec.Table)
			case "sync_key_columns":
				d.once(&seen, 4)
				for range d.list {
					spec.SyncKeyColumns = append(spec.SyncKeyColumns, d.intern(d.text()))
				}
			default:
				d.skip()
			}
		}
		if !d.failed() && (spec.Schema == "" || spec.Table == "") {
			d.fail("a table spec without schema or table")
		}
		if d.uniform && !d.failed() && !spec.exact() {
			d.fail("a table spec that does not name schema, table and exactly one sync key column")
		}
		specs = append(specs, spec)
	}
	return specs
}

// exact reports whether a spec names what it has to, and one sync key column.
func (s TableSpec) exact() bool {
	return len(s.SyncKeyColumns) == 1 && strings.TrimSpace(s.SyncKeyColumns[0]) != "" && strings.TrimSpace(s.Schema) != "" && strings.TrimSpace(s.Table) != ""
}

// features reads the flags. One that is no boolean is of a later version and not ours to judge; in the uniform contract
// it is a fault.
func (d *decoder) features() map[string]bool {
	features := map[string]bool{}
	if d.null() {
		return features
	}
	for name := range d.members {
		feature := string(name)
		if c := d.peek(); c == 't' || c == 'f' || d.uniform {
			features[feature] = d.boolean()
		} else {
			d.skip()
		}
	}
	return features
}

// limits reads the bundle limits and counts the names among them that only the uniform contract has.
func (d *decoder) limits(l *Limits) (uniform int) {
	if d.null() {
		return 0
	}
	seen := map[string]bool{}
	for name := range d.members {
		field := l.field(string(name))
		if field == nil {
			d.skip()
			continue
		}
		limit := string(name)
		if seen[limit] {
			d.fail(twice)
			break
		}
		seen[limit] = true
		if d.uniform && d.peek() == 'n' {
			d.fail("a limit that is null")
		}
		d.int(field)
		if *field < 0 {
			d.fail("a negative limit")
		}
	}
	for _, name := range uniformLimits {
		if seen[name] {
			uniform++
		}
	}
	if d.uniform && !d.failed() && !(seen["default_rows_per_snapshot_chunk"] && seen["max_rows_per_snapshot_chunk"]) {
		d.fail("a missing limit of snapshots")
	}
	return uniform
}

// field returns where the limit of a name is kept, nil for an unknown name.
func (l *Limits) field(name string) *int64 {
	switch name {
	case "max_rows_per_bundle":
		return &l.MaxRowsPerBundle
	case "max_bytes_per_bundle":
		return &l.MaxBytesPerBundle
	case "max_bundles_per_pull":
		return &l.MaxBundlesPerPull
	case "default_rows_per_push_chunk":
		return &l.DefaultRowsPerPushChunk
	case "max_rows_per_push_chunk":
		return &l.MaxRowsPerPushChunk
	case "default_rows_per_committed_bundle_chunk":
		return &l.DefaultRowsPerCommittedBundleChunk
	case "max_rows_per_committed_bundle_chunk":
		return &l.MaxRowsPerCommittedBundleChunk
	case "default_rows_per_snapshot_chunk":
		return &l.DefaultRowsPerSnapshotChunk
	case "max_rows_per_snapshot_chunk":
		return &l.MaxRowsPerSnapshotChunk
	case "push_session_ttl_seconds":
		return &l.PushSessionTTLSeconds
	case "snapshot_session_ttl_seconds":
		return &l.SnapshotSessionTTLSeconds
	case "max_rows_per_snapshot_session":
		return &l.MaxRowsPerSnapshotSession
	case "max_bytes_per_snapshot_session":
		return &l.MaxBytesPerSnapshotSession
	case "initialization_lease_ttl_seconds":
		return &l.InitializationLeaseTTLSeconds
	case "default_bytes_per_snapshot_chunk":
		return &l.DefaultBytesPerSnapshotChunk
	case "max_bytes_per_snapshot_chunk":
		return &l.MaxBytesPerSnapshotChunk
	case "max_bytes_per_snapshot_row":
		return &l.MaxBytesPerSnapshotRow
	case "max_concurrent_snapshot_builds":
		return &l.MaxConcurrentSnapshotBuilds
	case "max_concurrent_snapshot_chunk_requests":
		return &l.MaxConcurrentSnapshotChunkRequests
	}
	return nil
}

// CheckCapabilities checks that this client can work with the server: protocol version, lifecycle, and, where the
// server names its tables, exactly the same schema, tables and sync keys as the client's. url is the address that
// was asked, for the error. The error is a *ProtocolVersionMismatchError, a *LifecycleUnsupportedError, a
// *TableContractMismatchError, or a *ProtocolError for specs that contradict each other.
func CheckCapabilities(caps Capabilities, url, schema string, tables []TableSpec) error {
	if caps.ProtocolVersion != ProtocolVersion {
		return &ProtocolVersionMismatchError{Actual: caps.ProtocolVersion}
	}
	if !caps.Features["connect_lifecycle"] {
		return &LifecycleUnsupportedError{Status: 200, URL: url}
	}
	if caps.TableSpecs == nil {
		return nil
	}
	return checkTables(caps.TableSpecs, schema, tables)
}

func checkTables(serverSpecs []TableSpec, schema string, tables []TableSpec) error {
	server := make(map[string]TableSpec, len(serverSpecs))
	for _, spec := range serverSpecs {
		name := spec.Schema + "." + spec.Table
		if _, twice := server[name]; twice {
			return &ProtocolError{Operation: "capabilities", Table: name, Reason: "a table is registered twice"}
		}
		server[name] = spec
	}
	var e TableContractMismatchError
	client := make(map[string]bool, len(tables))
	for _, t := range tables {
		name := cmp.Or(t.Schema, schema) + "." + t.Table
		client[name] = true
		spec, ok := server[name]
		switch {
		case !ok:
			e.ClientOnlyTables = append(e.ClientOnlyTables, name)
		case !slices.Equal(spec.SyncKeyColumns, t.SyncKeyColumns):
			e.SyncKeyMismatches = append(e.SyncKeyMismatches, SyncKeyMismatch{
				QualifiedTable:       name,
				ClientSyncKeyColumns: slices.Clone(t.SyncKeyColumns),
				ServerSyncKeyColumns: slices.Clone(spec.SyncKeyColumns),
			})
		}
	}
	for name := range server {
		if !client[name] {
			e.ServerOnlyTables = append(e.ServerOnlyTables, name)
		}
	}
	if len(e.ServerOnlyTables)+len(e.ClientOnlyTables)+len(e.SyncKeyMismatches) == 0 {
		return nil
	}
	slices.Sort(e.ServerOnlyTables)
	slices.Sort(e.ClientOnlyTables)
	slices.SortFunc(e.SyncKeyMismatches, func(a, b SyncKeyMismatch) int { return cmp.Compare(a.QualifiedTable, b.QualifiedTable) })
	return &e
}
