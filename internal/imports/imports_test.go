// Package imports holds no code, only the test that the packages of this module know each other as ARCHITECTURE.md says.
package imports

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/oversqlite/oversqlite"

// arrows says which packages of ours the code of a package may import, tests apart. "." is the root package.
var arrows = map[string][]string{
	"wire":           {},
	"local":          {"wire"},
	"messages":       {"wire", "local"},
	"sqlite":         {"wire", "local"},
	"transport":      {"wire"},
	"actors":         {"messages", "local", "sqlite", "transport", "wire"},
	".":              {"actors", "messages", "sqlite", "transport", "wire", "local"},
	"devserver":      {"wire"},
	"otelmetrics":    {"."}, // a module of its own
	"cmd/oversqlite": {".", "devserver", "transport", "wire", "local", "messages", "sqlite", "actors"},
}

// tested says which code may import an internal package although that is not a test's: code through which everything of
// its kind passes, so that a test can act at each instance without being told of it, or a command that is a test itself.
var tested = map[string][]string{
	"internal/failpoint": {"sqlite", "transport"},
	"internal/sim":       {"cmd/oversqlite"}, // the simulator is for anybody to run
}

// strangers says which packages of others a package must not import, nor anything below them.
var strangers = map[string][]string{
	"wire":     {"net", "os", "database/sql", "context", "sync", "go.uber.org"},
	"local":    {"net", "os", "database/sql", "context", "sync", "go.uber.org"},
	"messages": {"net", "os", "database/sql", "sync", "go.uber.org"},
	"sqlite":   {"net/http", "go.uber.org/zap", "log", "github.com/asynkron"},
	// What an application records with is its own business; only the API is ours.
	"otelmetrics": {"go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/exporters"},
	"transport":   {"database/sql", "go.uber.org/zap", "log", "github.com/asynkron"},
}

func TestPackagesKnowEachOtherAsDrawn(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		relative, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		from := filepath.ToSlash(relative)
		seen[from] = true
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if reason := forbidden(from, to); reason != "" {
				t.Errorf("%s imports %s: %s", name, to, reason)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range arrows {
		if !seen[name] {
			t.Errorf("there is no code in %s: is the test looking in the right place?", name)
		}
	}
}

// forbidden says why a package must not import another; "" when it may.
func forbidden(from, to string) string {
	for _, stranger := range strangers[from] {
		if below(to, stranger) {
			return "it has no business there"
		}
	}
	if !below(to, module) {
		return ""
	}
	target := path.Clean(strings.TrimPrefix(strings.TrimPrefix(to, module), "/"))
	switch {
	case below(from, "internal"):
		return "" // test support looks at everything
	case below(target, "internal") && !slices.Contains(tested[target], from):
		return "internal packages are for tests"
	case below(target, "internal"):
		return ""
	case arrows[from] == nil:
		return "the package is not in the table of this test and of ARCHITECTURE.md"
	case !slices.Contains(arrows[from], target):
		return "the table of ARCHITECTURE.md does not say so"
	}
	return ""
}

func below(name, root string) bool { return name == root || strings.HasPrefix(name, root+"/") }

func TestForbidden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		allowed  bool
	}{
		{"sqlite", module + "/wire", true},
		{"sqlite", module + "/transport", false},
		{"wire", module + "/local", false},
		{"wire", "strings", true},
		{"wire", "net/http", false},
		{"wire", "network", true},
		{"cmd/oversqlite", module, true},
		{"actors", module, false},
		{".", module + "/devserver", false},
		{".", module + "/internal/faulty", false},
		{"internal/e2e", module, true},
		{"sqlite", module + "/internal/failpoint", true},
		{"wire", module + "/internal/failpoint", false},
		{"sqlite", module + "/internal/faulty", false},
		{"otelmetrics", module, true},
		{"otelmetrics", module + "/actors", false},
		{"otelmetrics", "go.opentelemetry.io/otel/metric", true},
		{"otelmetrics", "go.opentelemetry.io/otel/sdk/metric", false},
		{".", module + "/otelmetrics", false},
		{"newcomer", module + "/wire", false},
		{"newcomer", "strings", true},
	} {
		if reason := forbidden(c.from, c.to); (reason == "") != c.allowed {
			t.Errorf("%s to %s: %q", c.from, c.to, reason)
		}
	}
}
