package devserver

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAppendFloatIsGoJSON compares with encoding/json, whose spelling the bundle hash rests on.
func TestAppendFloatIsGoJSON(t *testing.T) {
	t.Parallel()
	check := func(t interface{ Fatalf(string, ...any) }, f float64) {
		want, _ := json.Marshal(f)
		if got := appendFloat(nil, f); string(got) != string(want) {
			t.Fatalf("want %s, got %s", want, got)
		}
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1e-6, 9.9e-7, 1e21, 9.99e20, 5e-324, math.MaxFloat64, 1e-10, 1e100, 0.1, -1e-7} {
		check(t, f)
	}
	rapid.Check(t, func(t *rapid.T) {
		if f := math.Float64frombits(rapid.Uint64().Draw(t, "bits")); !math.IsNaN(f) && !math.IsInf(f, 0) {
			check(t, f)
		}
	})
}

func TestAppendStringIsGoJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~\x00-\x1f]*`)).Draw(t, "s")
		want, _ := json.Marshal(s)
		if got := appendString(nil, s); string(got) != string(want) {
			t.Fatalf("want %s, got %s", want, got)
		}
	})
}

// TestMembersIsGoJSON takes apart what encoding/json made, with spaces put in, and compares.
func TestMembersIsGoJSON(t *testing.T) {
	t.Parallel()
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaves := []*rapid.Generator[any]{
			rapid.String().AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil),
			rapid.SampledFrom([]string{`"`, `\`, `\"`, `}`, `{`, `[,]`, `:`}).AsAny(),
		}
		if depth > 0 {
			leaves = append(leaves, rapid.SliceOfN(value(depth-1), 0, 3).AsAny(), rapid.MapOfN(rapid.String(), value(depth-1), 0, 3).AsAny())
		}
		return rapid.OneOf(leaves...)
	}
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.MapOfN(rapid.String(), value(2), 0, 5).Draw(t, "object")
		var raw []byte
		if rapid.Bool().Draw(t, "indent") {
			raw, _ = json.MarshalIndent(in, " ", "\t")
		} else {
			raw, _ = json.Marshal(in)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		if err := members(raw, func(name string, value []byte) error {
			got[name] = string(value)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d members", raw, len(got))
		}
		for name, v := range want {
			if got[name] != string(v) {
				t.Fatalf("%s: member %q is %s", raw, name, got[name])
			}
		}
	})
	for _, raw := range []string{`[]`, `"x"`, `1`, ` null`} {
		if err := members([]byte(raw), nil); err == nil {
			t.Errorf("%s is no object", raw)
		}
	}
}

func TestFormatTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := time.Unix(rapid.Int64Range(-1e9, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999999).Draw(t, "µs")*1000)
		in = in.In(time.FixedZone("", rapid.IntRange(-12, 14).Draw(t, "zone")*3600))
		out, err := parseTime(formatTime(in))
		if err != nil || !out.Equal(in) {
			t.Fatalf("%s became %s: %v", in, out, err)
		}
	})
}

func TestFileNamesAreDistinct(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		if a != b && fileName(a) == fileName(b) {
			t.Fatal("one file for two users")
		}
		for _, c := range fileName(a) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				t.Fatalf("%q", fileName(a))
			}
		}
	})
}
