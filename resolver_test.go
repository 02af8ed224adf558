package oversqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/oversqlite/oversqlite"
)

// conflict makes a conflict over rows given as JSON; "" is no row.
func conflict(local, base, server string) oversqlite.Conflict {
	raw := func(s string) json.RawMessage {
		if s == "" {
			return nil
		}
		return json.RawMessage(s)
	}
	return oversqlite.Conflict{Table: "notes", LocalOp: oversqlite.OpUpdate, Local: raw(local), Base: raw(base), Server: raw(server)}
}

func spell(r oversqlite.Resolution) string {
	switch r := r.(type) {
	case oversqlite.AcceptServer:
		return "server"
	case oversqlite.KeepLocal:
		return "local"
	case oversqlite.KeepMerged:
		return string(r.Payload)
	default:
		return fmt.Sprintf("%T", r)
	}
}

func resolve(t testing.TB, r oversqlite.Resolver, c oversqlite.Conflict) string {
	t.Helper()
	resolution, err := r.Resolve(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return spell(resolution)
}

func TestServerWinsAndClientWins(t *testing.T) {
	t.Parallel()
	for _, c := range []oversqlite.Conflict{conflict(`{"a":1}`, ``, `{"a":2}`), conflict(``, `{"a":1}`, `{"a":2}`), conflict(`{"a":1}`, ``, ``)} {
		if got := resolve(t, oversqlite.ServerWins, c); got != "server" {
			t.Error(got)
		}
		if got := resolve(t, oversqlite.ClientWins, c); got != "local" {
			t.Error(got)
		}
	}
}

func TestLastWriterWins(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, local, server, want string }{
		{"later time", `"2026-01-02T00:00:00Z"`, `"2026-01-01T23:59:59.999999Z"`, "local"},
		{"earlier time", `"2026-01-01T00:00:00Z"`, `"2026-01-01T00:00:00.000001+00:00"`, "server"},
		{"same instant, other zone: a tie", `"2026-01-01T02:00:00+02:00"`, `"2026-01-01T00:00:00Z"`, "server"},
		{"other zone, later", `"2026-01-01T01:00:01+01:00"`, `"2026-01-01T00:00:00Z"`, "local"},
		{"later number", `8`, `7`, "local"},
		{"same number", `7`, `7`, "server"},
		{"number in a string", `"1750000000001"`, `1750000000000`, "local"},
		{"beyond a float's precision", `9007199254740993`, `9007199254740992`, "local"},
		{"negative", `-1`, `-2`, "local"},
		{"only here", `7`, `null`, "local"},
		{"only there", `null`, `7`, "server"},
		{"nowhere", `null`, `null`, "server"},
		{"not comparable", `7`, `"2026-01-01T00:00:00Z"`, "server"},
		{"no time at all", `"yesterday"`, `"2026-01-01T00:00:00Z"`, "server"},
		{"no time there", `"2026-01-01T00:00:00Z"`, `"yesterday"`, "local"},
		{"a fraction is no version", `7.5`, `7`, "server"},
	}
	r := oversqlite.LastWriterWins("At")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := resolve(t, r, conflict(`{"at":`+c.local+`}`, ``, `{"at":`+c.server+`}`)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if got := resolve(t, r, conflict(``, `{"at":1}`, `{"at":2}`)); got != "server" {
		t.Error("a deletion here has no time:", got)
	}
	if got := resolve(t, r, conflict(`{"at":2}`, `{"at":1}`, ``)); got != "server" {
		t.Error("a deletion there has no time:", got)
	}
	for _, c := range []oversqlite.Conflict{conflict(`{"b":1}`, ``, `{"at":1}`), conflict(`{"at":1}`, ``, `{"b":1}`), conflict(`[]`, ``, `{"at":1}`), conflict(`{"at":1}`, ``, `{"at":`)} {
		if _, err := r.Resolve(t.Context(), c); err == nil {
			t.Errorf("%s over %s is decided", c.Local, c.Server)
		}
	}
}

func TestMergeColumns(t *testing.T) {
	t.Parallel()
	refuse := oversqlite.ResolverFunc(func(context.Context, oversqlite.Conflict) (oversqlite.Resolution, error) {
		return nil, errors.New("asked")
	})
	whole := oversqlite.ResolverFunc(func(context.Context, oversqlite.Conflict) (oversqlite.Resolution, error) {
		return oversqlite.KeepMerged{Payload: json.RawMessage(`{"whole":true}`)}, nil
	})
	cases := []struct {
		name                string
		both                oversqlite.Resolver
		local, base, server string
		want                string
	}{
		{"different columns", refuse, `{"a":2,"b":1}`, `{"a":1,"b":1}`, `{"a":1,"b":2}`, `{"a":2,"b":2}`},
		{"the order of the local row", refuse, `{"b":2,"a":1,"c":1}`, `{"a":1,"b":1,"c":1}`, `{"a":2,"b":1,"c":1}`, `{"b":2,"a":2,"c":1}`},
		{"the same change on both sides", refuse, `{"a":2,"b":3}`, `{"a":1,"b":1}`, `{"a":2,"b":1}`, "local"},
		{"changed there only", refuse, `{"a":1}`, `{"a":1}`, `{"a":2}`, "server"},
		{"changed here only", refuse, `{"a":2}`, `{"a":1}`, `{"a":1}`, "local"},
		{"contested, server", oversqlite.ServerWins, `{"a":2,"b":2}`, `{"a":1,"b":1}`, `{"a":3,"b":1}`, `{"a":3,"b":2}`},
		{"contested, local", oversqlite.ClientWins, `{"a":2,"b":1}`, `{"a":1,"b":1}`, `{"a":3,"b":3}`, `{"a":2,"b":3}`},
		{"contested, nobody said: server", nil, `{"a":2}`, `{"a":1}`, `{"a":3}`, "server"},
		{"contested, decided as a whole", whole, `{"a":2}`, `{"a":1}`, `{"a":3}`, `{"whole":true}`},
		{"to null and from null", refuse, `{"a":null,"b":1}`, `{"a":1,"b":null}`, `{"a":1,"b":null}`, "local"},
		{"null is a value", oversqlite.ServerWins, `{"a":null,"b":2}`, `{"a":1,"b":1}`, `{"a":2,"b":1}`, `{"a":2,"b":2}`},
		{"numbers by value", refuse, `{"a":1.50,"b":2}`, `{"a":1.5,"b":1}`, `{"a":15e-1,"b":1}`, "local"},
		{"numbers exactly", oversqlite.ServerWins, `{"a":9007199254740993,"b":2}`, `{"a":9007199254740992,"b":1}`, `{"a":9007199254740994,"b":1}`, `{"a":9007199254740994,"b":2}`},
		{"minus zero is zero", refuse, `{"a":-0.0,"b":2}`, `{"a":0,"b":1}`, `{"a":0e5,"b":1}`, "local"},
		{"a string is no number", oversqlite.ServerWins, `{"a":"1","b":2}`, `{"a":1,"b":1}`, `{"a":2,"b":1}`, `{"a":2,"b":2}`},
		{"strings by content", refuse, `{"a":"\u00e9","b":2}`, `{"a":"é","b":1}`, `{"a":"é","b":1}`, "local"},
		{"booleans", refuse, `{"a":true,"b":2}`, `{"a":true,"b":1}`, `{"a":false,"b":1}`, `{"a":false,"b":2}`},
		{"a column the server does not have", refuse, `{"a":2,"b":2}`, `{"a":1,"b":1}`, `{"a":1}`, "local"},
		{"a column the base does not have", oversqlite.ServerWins, `{"a":2,"b":2}`, `{"a":1}`, `{"a":1,"b":3}`, `{"a":2,"b":3}`},
		{"names that need quoting", refuse, `{"a\"b":2,"c":1}`, `{"a\"b":1,"c":1}`, `{"a\"b":1,"c":2}`, `{"a\"b":2,"c":2}`},
		{"no base: ask", oversqlite.ClientWins, `{"a":2}`, ``, `{"a":3}`, "local"},
		{"deleted here: ask", oversqlite.ClientWins, ``, `{"a":1}`, `{"a":3}`, "local"},
		{"deleted there: ask", oversqlite.ServerWins, `{"a":2}`, `{"a":1}`, ``, "server"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := resolve(t, oversqlite.MergeColumns(c.both), conflict(c.local, c.base, c.server)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	for _, c := range []oversqlite.Conflict{
		conflict(`{"a":2}`, `{"a":1}`, `{"a":3}`), conflict(`{"a":2}`, ``, `{"a":3}`),
		conflict(`{"a":`, `{"a":1}`, `{"a":3}`), conflict(`{"a":2}`, `7`, `{"a":3}`), conflict(`{"a":2}`, `{"a":1}`, `{"a":1`),
	} {
		if _, err := oversqlite.MergeColumns(refuse).Resolve(t.Context(), c); err == nil {
			t.Errorf("%s over %s is decided", c.Local, c.Server)
		}
	}
}

// What a merge takes: each column from a side that changed it, or from the one that both asks for.
func TestMergeColumnsProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		columns := []string{"a", "b", "c", "d"}
		draw := func(name string) map[string]int {
			row := map[string]int{}
			for _, c := range columns {
				row[c] = rapid.IntRange(0, 2).Draw(t, name+c)
			}
			return row
		}
		local, base, server := draw("local"), draw("base"), draw("server")
		text := func(row map[string]int) string { b, _ := json.Marshal(row); return string(b) }
		mine := rapid.Bool().Draw(t, "mine")
		both := oversqlite.ServerWins
		if mine {
			both = oversqlite.ClientWins
		}
		r, err := oversqlite.MergeColumns(both).Resolve(context.Background(), conflict(text(local), text(base), text(server)))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		switch r := r.(type) {
		case oversqlite.AcceptServer:
			got = server
		case oversqlite.KeepLocal:
			got = local
		case oversqlite.KeepMerged:
			if err := json.Unmarshal(r.Payload, &got); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range columns {
			want := server[c]
			if server[c] == base[c] || mine && local[c] != base[c] {
				want = local[c]
			}
			if got[c] != want {
				t.Fatalf("column %s is %d, want %d: local %v base %v server %v", c, got[c], want, local, base, server)
			}
		}
	})
}

// Numbers that print differently and are the same, and the other way round.
func TestMergeColumnsComparesNumbersExactly(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	r := oversqlite.MergeColumns(oversqlite.ServerWins)
	for range 500 {
		n := random.Int64N(1 << 53)
		zeros := random.IntN(6)
		same := fmt.Sprintf("%d.%0*d", n, zeros+1, 0)
		scientific := fmt.Sprintf("%dE-%d", n, zeros)
		shifted := fmt.Sprintf("%d%0*de-%d", n, zeros+1, 0, 2*zeros+1)
		if got := resolve(t, r, conflict(fmt.Sprintf(`{"n":%s,"m":1}`, same), fmt.Sprintf(`{"n":%d,"m":0}`, n), fmt.Sprintf(`{"n":%d,"m":0}`, n))); got != "local" {
			t.Fatalf("%d is not %s: %s", n, same, got)
		}
		if got := resolve(t, r, conflict(fmt.Sprintf(`{"n":%s,"m":1}`, scientific), fmt.Sprintf(`{"n":%s,"m":0}`, shifted), fmt.Sprintf(`{"n":%d,"m":0}`, n+1))); n > 0 && zeros == 0 && got != fmt.Sprintf(`{"n":%d,"m":1}`, n+1) {
			t.Fatalf("%s is not %s: %s", scientific, shifted, got)
		}
	}
}
