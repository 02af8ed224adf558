package wire

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// valueOf draws a value that the kind holds and the contract carries.
func valueOf(t *rapid.T, c Contract, kind Kind) Value {
	if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
		return Value{}
	}
	switch kind {
	case KindInteger:
		if c.Name() == UniformContract {
			return Value{Type: Integer, Int: rapid.Int64().Draw(t, "int")}
		}
		return Value{Type: Integer, Int: rapid.Int64Range(-maxSafeInteger, maxSafeInteger).Draw(t, "int")}
	case KindReal:
		return Value{Type: Real, Float: rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).Draw(t, "real")}
	case KindText:
		return Value{Type: Text, Bytes: []byte(rapid.String().Filter(func(s string) bool { return validText([]byte(s)) == "" }).Draw(t, "text"))}
	case KindBlob:
		return Value{Type: Blob, Bytes: rapid.SliceOf(rapid.Byte()).Draw(t, "blob")}
	}
	return Value{Type: Blob, Bytes: rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")}
}

// TestValuesSurviveEveryForm takes rows through local form and wire form and back; nothing may change on the way, and
// nothing of it may depend on what the coders did before.
func TestValuesSurviveEveryForm(t *testing.T) {
	t.Parallel()
	inBothContracts(t, valuesSurviveEveryForm)
}

func valuesSurviveEveryForm(t *testing.T, c Contract) {
	table := &Table{Schema: "main", Name: "t", Columns: []Column{
		{"i", KindInteger}, {"r", KindReal}, {"t", KindText}, {"b", KindBlob}, {"u", KindUUIDBlob}, {"naïve \"name\"", KindText},
	}}
	spelling := classicDialect
	if c.Name() == UniformContract {
		spelling = jcsDialect
	}
	local, wire := NewLocalDecoder(table), c.NewRowDecoder(table)
	rapid.Check(t, func(t *rapid.T) {
		var row []Value
		for _, column := range table.Columns {
			row = append(row, valueOf(t, c, column.Kind))
		}
		form := AppendLocal(nil, table, row)
		held, err := local.Decode(form)
		if err != nil || !SameValues(held, row) {
			t.Fatalf("%s: %v, %v; want %v", form, held, err, row)
		}
		payload, err := c.AppendPayload(nil, table, held)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		got, err := wire.Decode(payload)
		if err != nil || !SameValues(got, row) {
			t.Fatalf("%s: %v, %v; want %v", payload, got, err, row)
		}
		if !c.LosslessPayload(table, payload) {
			t.Fatalf("%s is not lossless", payload)
		}
		// The server's spelling of the same row, members sorted and numbers as it prints them.
		canon := canonicaliser{dialect: spelling}
		server, fault := canon.append(nil, payload)
		if fault != "" {
			t.Fatal(fault)
		}
		if c.Name() == UniformContract && string(server) != string(payload) {
			t.Fatalf("%s is not canonical", payload)
		}
		if same, err := c.SameImage(table, payload, server); err != nil || !same {
			t.Fatalf("%s and %s: %v", payload, server, err)
		}
		if got, err := wire.Decode(server); err != nil || !SameValues(got, row) {
			t.Fatalf("%s: %v, %v; want %v", server, got, err, row)
		}
	})
}

// inBothContracts runs a test once a contract.
func inBothContracts(t *testing.T, f func(t *testing.T, c Contract)) {
	for _, c := range []Contract{classic{}, uniform{}} {
		t.Run(string(c.Name()), func(t *testing.T) {
			t.Parallel()
			f(t, c)
		})
	}
}
