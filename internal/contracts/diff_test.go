package contracts

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
)

// same compares two values and says what was compared.
func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// sameJSON compares values as JSON and names every place where they differ.
func sameJSON(t *testing.T, what string, got, want any) {
	t.Helper()
	for _, line := range differences("", generic(t, got), generic(t, want)) {
		t.Errorf("%s%s", what, line)
	}
}

// differences names the places where two decoded JSON values differ.
func differences(at string, got, want any) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if _, there := g[name]; !there {
				lines = append(lines, fmt.Sprintf("%s.%s: missing, want %s", at, name, mustJSON(w[name])))
				continue
			}
			lines = append(lines, differences(at+"."+name, g[name], w[name])...)
		}
		for _, name := range slices.Sorted(maps.Keys(g)) {
			if _, there := w[name]; !there {
				lines = append(lines, fmt.Sprintf("%s.%s: %s, want no such member", at, name, mustJSON(g[name])))
			}
		}
		return lines
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			break
		}
		var lines []string
		for i := range w {
			lines = append(lines, differences(fmt.Sprintf("%s[%d]", at, i), g[i], w[i])...)
		}
		return lines
	case json.Number:
		// 1 and 1.0 are the same number, 9007199254740992 and …993 are not.
		if g, ok := got.(json.Number); ok {
			if g == w {
				return nil
			}
			a, errA := g.Float64()
			b, errB := w.Float64()
			_, intA := g.Int64()
			_, intB := w.Int64()
			if errA == nil && errB == nil && a == b && (intA != nil || intB != nil) {
				return nil
			}
		}
	default:
		if reflect.DeepEqual(got, want) {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s: %s, want %s", at, mustJSON(got), mustJSON(want))}
}

// The comparison sees what it is there to see.
func TestDifferences(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		got, want string
		lines     int
	}{
		{`{"a":[1,{"b":null}]}`, `{"a":[1,{"b":null}]}`, 0},
		{`{"a":1.0}`, `{"a":1}`, 0},
		{`{"a":9007199254740992}`, `{"a":9007199254740993}`, 1},
		{`{"a":1,"x":2}`, `{"a":1}`, 1},
		{`{}`, `{"a":null}`, 1},
		{`{"a":"1"}`, `{"a":1}`, 1},
		{`{"a":[1]}`, `{"a":[1,2]}`, 1},
		{`{"a":false,"b":""}`, `{"a":null,"b":null}`, 2},
	} {
		if lines := differences("", generic(t, json.RawMessage(c.got)), generic(t, json.RawMessage(c.want))); len(lines) != c.lines {
			t.Errorf("%s and %s: %q", c.got, c.want, lines)
		}
	}
}
