package devserver

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/oversqlite/oversqlite/wire"
)

// dialect is what depends on the contract that the server speaks.
type dialect struct {
	name           wire.ContractName
	newBundleHash  func() wire.BundleHash
	newRequestHash func() wire.RequestHash

	committed style // of rows in bundles
	live      style // of rows in snapshots and conflicts
	numbers   numbers

	// named: pushes carry the hash of their request, and answers about them name it.
	named bool
	// measured: snapshots are bounded and accounted for in bytes, and as many are made at a time as are advertised.
	measured bool
	// ahead: a checkpoint beyond the newest bundle is refused as such.
	ahead bool
}

// dialectOf returns the dialect of a contract.
func dialectOf(name wire.ContractName) (dialect, error) {
	contract, err := wire.ContractByName(name)
	if err != nil {
		return dialect{}, err
	}
	d := dialect{name: name, newBundleHash: contract.NewBundleHash, newRequestHash: contract.NewRequestHash, committed: committedStyle, live: jsonbStyle}
	if name == wire.UniformContract {
		d.committed, d.live, d.numbers = uniformStyle, uniformStyle, numbersAsStrings
		d.named, d.measured, d.ahead = true, true, true
	}
	return d, nil
}

// meta is what an answer says of a committed bundle.
func (d *dialect) meta(m wire.BundleMeta) map[string]any {
	answer := metaJSON(m)
	if d.named {
		answer["canonical_request_hash"] = m.RequestHash
	}
	return answer
}

// checkHash wants the hash of a push where the dialect has one.
func (d *dialect) checkHash(hash string) error {
	if d.named && !hexHash(hash) {
		return refuse(http.StatusBadRequest, "push_session_invalid", "canonical_request_hash must be a SHA-256 in lower-case hexadecimal digits")
	}
	return nil
}

func hexHash(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// slots bounds how much of one kind is done at a time; nil: as much as comes.
type slots chan struct{}

func newSlots(n int64) slots { return make(slots, n) }

// take takes a slot, or refuses with code until one is free.
func (s slots) take(code string) (free func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	default:
		e := refuse(http.StatusTooManyRequests, code, "the server is at its capacity")
		e.retryAfter = 1
		return nil, e
	}
}

// numbers is how numbers travel in payloads.
type numbers uint8

const (
	numbersAsSuch    numbers = iota // JSON numbers, taken through a float64
	numbersAsStrings                // strings in canonical form
)

var errSpelling = errors.New("a number that is not a string")

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
