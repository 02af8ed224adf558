package oversqlite_test

import (
	"os"
	"strings"
	"testing"
)

// The example in the README is the one that is compiled and run as Example.
func TestReadmeExampleIsTheCompiledOne(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```go\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed || !strings.Contains(example, "oversqlite.New(") {
		t.Fatal("the README has no example")
	}
	if !strings.Contains(string(source), example) {
		t.Error("the example in the README is not in example_test.go, letter by letter")
	}
}

// The commands of the README's first screen are those that continuous integration runs.
func TestReadmeCommandsAreRunByCI(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(readme), "\n## ")
	for _, command := range []string{"go run ./cmd/oversqlite demo", "go test -timeout 10m ./..."} {
		if !strings.Contains(first, command) || !strings.Contains(string(script), command) {
			t.Errorf("%q is not on the README's first screen, or not run by .ci/run", command)
		}
	}
}
