package actors

import (
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// checkCapabilities checks a server's capabilities against the configuration and says which contract to speak.
func (m *sessionMachine) checkCapabilities(c *wire.Capabilities) (wire.Contract, error) {
	if err := wire.CheckCapabilities(*c, m.cfg.serverURL, "", m.cfg.tables); err != nil {
		return nil, err
	}
	if m.cfg.contract != "" && m.cfg.contract != c.Contract {
		return nil, &wire.ContractChangedError{Operation: "capabilities", Pinned: m.cfg.contract, Found: c.Contract, Reason: "the configuration asks for it"}
	}
	return wire.ContractByName(c.Contract)
}

// checkPinned refuses a contract other than the one in which the outbox is spelled: its hash, and what the server may
// have committed already, are of that spelling.
func (m *sessionMachine) checkPinned(name wire.ContractName) error {
	s := &m.state
	if s.Outbox.State == local.OutboxNone || s.FrozenContract == "" || s.FrozenContract == name {
		return nil
	}
	return &wire.ContractChangedError{Operation: "capabilities", Pinned: s.FrozenContract, Found: name, Reason: "a push is under way"}
}
