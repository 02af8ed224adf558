package contracts

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// folder returns where the fixtures are, or would be.
func folder() string {
	if dir := os.Getenv("OVERSQLITE_CONTRACTS"); dir != "" {
		return fromRoot(dir)
	}
	return filepath.Join(sharedFolder(), "contracts")
}

// sharedFolder returns the folder of everything that the family shares.
func sharedFolder() string {
	if dir := os.Getenv("OVERSQLITE_SHARED"); dir != "" {
		return fromRoot(dir)
	}
	return fromRoot(filepath.Join("..", "shared"))
}

// fromRoot makes a path that is relative to the root of the module one that is relative to this package.
func fromRoot(dir string) string {
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join("..", "..", dir)
}

// read decodes a file of the fixtures. Members that the runner does not know are ignored, numbers keep their spelling.
func read(t *testing.T, family string, into any) {
	t.Helper()
	text := readText(t, family)
	var head struct{ FormatVersion *int }
	if err := json.Unmarshal(text, &head); err != nil {
		t.Fatalf("%s: %v", family, err)
	}
	if head.FormatVersion != nil && *head.FormatVersion != 1 {
		t.Fatalf("%s: format %d is not known", family, *head.FormatVersion)
	}
	decode(t, text, into)
}

func readText(t *testing.T, family string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder(), filepath.FromSlash(family)))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decode decodes JSON with numbers as they are spelled.
func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// generic returns a value as decoded JSON.
func generic(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	decode(t, text, &out)
	return out
}

// fixtureCase is one case: its name, and all of it as JSON.
type fixtureCase struct {
	Name string
	body json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *fixtureCase) UnmarshalJSON(text []byte) error {
	var head struct{ Name string }
	if err := json.Unmarshal(text, &head); err != nil {
		return err
	}
	c.Name, c.body = head.Name, bytes.Clone(text)
	return nil
}

// casesOf returns the cases of a file, or of another member of it than "cases".
func casesOf(t *testing.T, family, member string) []fixtureCase {
	t.Helper()
	var file map[string]json.RawMessage
	read(t, family, &file)
	var cases []fixtureCase
	if file[member] == nil {
		t.Fatalf("%s has no %s", family, member)
	}
	decode(t, file[member], &cases)
	if len(cases) == 0 {
		t.Fatalf("%s has no %s", family, member)
	}
	return cases
}

// each runs the cases of a file, each in every dialect that nothing rules out.
func each[C any](t *testing.T, family string, run func(*testing.T, *dialect, *C)) {
	t.Helper()
	eachIn(t, dialects, family, "cases", run)
}

func eachIn[C any](t *testing.T, in []*dialect, family, member string, run func(*testing.T, *dialect, *C)) {
	t.Helper()
	for _, fc := range casesOf(t, family, member) {
		for _, d := range in {
			t.Run(fc.Name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				begin(t, d, family, fc.Name)
				var c C
				decode(t, adapt(t, d, family, fc), &c)
				run(t, d, &c)
			})
		}
	}
}

// begin counts a case, or skips it where the tables say so.
func begin(t *testing.T, d *dialect, family, name string) {
	t.Helper()
	heading := family + " " + d.name
	if r := ruledOut(family, name, d); r != nil {
		tallies.skip(heading, name, r.reason.String()+": "+r.quote)
		t.Skipf("%s: %q", r.reason, r.quote)
	}
	tallies.run(heading)
}
