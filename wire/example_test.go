package wire_test

import (
	"fmt"

	"github.com/oversqlite/oversqlite/wire"
)

// A captured row takes its way to the server, and a row of the server its way back.
func Example() {
	contract, err := wire.ContractByName(wire.ClassicContract)
	if err != nil {
		panic(err)
	}
	files := &wire.Table{Schema: "business", Name: "files", Columns: []wire.Column{
		{Name: "id", Kind: wire.KindUUIDBlob}, {Name: "size", Kind: wire.KindInteger}, {Name: "data", Kind: wire.KindBlob},
	}}

	key, _ := wire.WireKey(files, `{"id":"00112233445566778899aabbccddeeff"}`)
	row, _ := wire.NewLocalDecoder(files).Decode([]byte(`{"id":"00112233445566778899aabbccddeeff","size":"4","data":"deadbeef"}`))
	payload, err := contract.AppendPayload(nil, files, row)
	fmt.Println(key.Value, string(payload), err)

	row, _ = contract.NewRowDecoder(files).Decode(payload)
	fmt.Println(string(wire.AppendLocal(nil, files, row)))

	row[1].Int = 1 << 60
	_, err = contract.AppendPayload(nil, files, row)
	fmt.Println(err)
	// Output:
	// 00112233-4455-6677-8899-aabbccddeeff {"id":"00112233-4455-6677-8899-aabbccddeeff","size":4,"data":"3q2+7w=="} <nil>
	// {"id":"00112233445566778899aabbccddeeff","size":"4","data":"deadbeef"}
	// oversqlite: column size of business.files holds a value that cannot be sent to this server: integer_out_of_range
}
