package actors

import (
	"slices"
	"strings"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// featureConnect is the feature without which a server cannot be attached to.
const featureConnect = "connect_lifecycle"

// checkCapabilities checks a server's capabilities against the configuration and says which contract to speak.
func (m *sessionMachine) checkCapabilities(c *wire.Capabilities) (wire.ContractName, error) {
	if c.ProtocolVersion != wire.ProtocolVersion {
		return "", &wire.ProtocolVersionMismatchError{Actual: c.ProtocolVersion}
	}
	if !c.Features[featureConnect] {
		return "", &wire.LifecycleUnsupportedError{Status: 200, URL: m.cfg.serverURL}
	}
	if c.TableSpecs != nil {
		if err := compareTables(m.cfg.tables, c.TableSpecs); err != nil {
			return "", err
		}
	}
	name := m.cfg.contract
	if name == "" {
		name = c.Contract
	}
	if _, err := wire.ContractByName(name); err != nil {
		return "", err
	}
	return name, nil
}

// checkPinned refuses a contract other than the one in which the outbox is spelled: its hash, and what the server may
// have committed already, are of that spelling.
func (m *sessionMachine) checkPinned(name wire.ContractName) error {
	s := &m.state
	if s.Outbox.State == local.OutboxNone || s.FrozenContract == "" || s.FrozenContract == name {
		return nil
	}
	return &wire.ProtocolError{
		Operation: "capabilities",
		Reason:    "the server speaks " + string(name) + " and the push under way is spelled in " + string(s.FrozenContract) + ": it has to be settled with a server that speaks that",
	}
}

// compareTables reports how the tables that client and server sync differ, as a *wire.TableContractMismatchError.
func compareTables(client, server []wire.TableSpec) error {
	var diff wire.TableContractMismatchError
	ours, theirs := byQualifiedName(client), byQualifiedName(server)
	for name, spec := range theirs {
		mine, ok := ours[name]
		if !ok {
			diff.ServerOnlyTables = append(diff.ServerOnlyTables, name)
		} else if !slices.Equal(lower(mine.SyncKeyColumns), lower(spec.SyncKeyColumns)) {
			diff.SyncKeyMismatches = append(diff.SyncKeyMismatches, wire.SyncKeyMismatch{
				QualifiedTable:       name,
				ClientSyncKeyColumns: mine.SyncKeyColumns,
				ServerSyncKeyColumns: spec.SyncKeyColumns,
			})
		}
	}
	for name := range ours {
		if _, ok := theirs[name]; !ok {
			diff.ClientOnlyTables = append(diff.ClientOnlyTables, name)
		}
	}
	if len(diff.ServerOnlyTables)+len(diff.ClientOnlyTables)+len(diff.SyncKeyMismatches) == 0 {
		return nil
	}
	slices.Sort(diff.ServerOnlyTables)
	slices.Sort(diff.ClientOnlyTables)
	slices.SortFunc(diff.SyncKeyMismatches, func(a, b wire.SyncKeyMismatch) int {
		return strings.Compare(a.QualifiedTable, b.QualifiedTable)
	})
	return &diff
}

func byQualifiedName(specs []wire.TableSpec) map[string]wire.TableSpec {
	byName := make(map[string]wire.TableSpec, len(specs))
	for _, s := range specs {
		byName[strings.ToLower(s.Schema+"."+s.Table)] = s
	}
	return byName
}

func lower(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(n)
	}
	return out
}
