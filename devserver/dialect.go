package devserver

import (
	"strconv"

	"github.com/oversqlite/oversqlite/wire"
)

// dialect is what depends on the contract that the server speaks. The spelling of rows (style) joins it with the
// second dialect.
type dialect struct {
	newBundleHash func() wire.BundleHash
}

// dialectOf returns the dialect of a contract.
func dialectOf(name wire.ContractName) (dialect, error) {
	contract, err := wire.ContractByName(name)
	if err != nil {
		return dialect{}, err
	}
	return dialect{newBundleHash: contract.NewBundleHash}, nil
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
