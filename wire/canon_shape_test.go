package wire

import (
	"bytes"
	"testing"
)

// familiarSeeds are documents that look alike.
var familiarSeeds = []string{
	`{"b":1,"a":"x<","c":null}`, `{"b":-1.50,"a":"y\u2028é\n","c":true}`, `{"b":1e999,"a":"x","c":null}`, `{"b":1,"a":"x","c":null} `,
	`{"b":1,"a":"x","c":{"z":1,"y":2}}`, `{"b":1,"a":"x","c":[]}`, `{"b":1,"a":"x"}`, `{"b":1,"a":"x","c":null,"d":1}`, `{"b":1,"b":"x","c":null}`,
	`{"b":1,"a":"x","c":null`, `{"b":1,"a":"x","c":null]`, `{"b":1,"a":"x","c":`, `{"b":1,"a":"x" ,"c":null}`, `{"b":01,"a":"x","c":null}`,
	`{"a":"x","b":1,"c":null}`, `{"b":1,"a":"x,"c":null}`, `{"b":1,"a":"` + "\xff" + `","c":nul}`, `{"\u0062":1,"a":"x","c":null}`,
	`{"é":1,"a":2}`, `{"é":1,"a":3}`, `{"<":1,"a":2}`, `{"<":1,"a":3}`, `{}`, `{"":1}`, `{"":2}`, `[]`, ``,
}

// sameAnswer compares what a canonicaliser that has met a answers about b with what a new one does.
func sameAnswer(t *testing.T, d dialect, a, b []byte) {
	t.Helper()
	used, fresh := canonicaliser{dialect: d}, canonicaliser{dialect: d}
	used.append(nil, a)
	for range 2 {
		got, fault := used.append([]byte("kept"), b)
		want, wanted := fresh.append([]byte("kept"), b)
		if fault != wanted || !bytes.Equal(got, want) {
			t.Fatalf("after %q, %q becomes %q %q, want %q %q", a, b, got, fault, want, wanted)
		}
		fresh = canonicaliser{dialect: d}
	}
}

// FuzzFamiliar: that a document was met before changes nothing but the time that the next one takes.
func FuzzFamiliar(f *testing.F) {
	for _, a := range familiarSeeds {
		for _, b := range familiarSeeds {
			f.Add([]byte(a), []byte(b))
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		sameAnswer(t, classicDialect, a, b)
		sameAnswer(t, jcsDialect, a, b)
	})
}

// TestFamiliarShape: rows of one table are recognised, also after those of others, and cost no allocation.
func TestFamiliarShape(t *testing.T) { // not in parallel: it counts allocations
	c := canonicaliser{dialect: classicDialect}
	row, other := []byte(`{"b":1,"a":"x","c":null}`), []byte(`{"z":1,"y":2}`)
	hit := func(doc []byte) bool {
		c.s.reset(doc)
		_, ok := c.familiar(nil, doc)
		return ok
	}
	c.append(nil, row)
	if !hit(row) || hit(other) {
		t.Error("the shape of one object is not remembered, or is taken for another's")
	}
	for range 20 {
		c.append(nil, other)
		c.append(nil, row)
	}
	for range 16 {
		c.append(nil, other)
	}
	if !hit(other) {
		t.Error("the shape that is met from now on is not learned any more")
	}
	dst := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() { c.append(dst, row); c.append(dst, other) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
