package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/internal/failpoint"
)

// unreached are the steps that no scenario reaches, and why that is so. One that is reached all the same must go from here.
var unreached = map[string]string{
	"watch": "nothing watches yet",
}

// everyStepIsReached compares the points that the scenarios reached with the steps that there are.
func everyStepIsReached(t *testing.T, points map[string]bool) {
	t.Helper()
	steps := transactionNames(t)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		for _, m := range []failpoint.Moment{failpoint.BeforeCommit, failpoint.AfterCommit} {
			checkReached(t, points, m, name)
		}
	}
	for _, name := range requestNames(t) {
		for _, m := range []failpoint.Moment{failpoint.BeforeRequest, failpoint.AfterAnswer} {
			checkReached(t, points, m, name)
		}
	}
}

func checkReached(t *testing.T, points map[string]bool, m failpoint.Moment, name string) {
	t.Helper()
	switch point := failpoint.Point(m, name); {
	case !points[point] && unreached[name] == "":
		t.Errorf("no scenario reaches the point %q: add one that does", point)
	case points[point] && unreached[name] != "":
		t.Errorf("%q is reached, although it is said that %q", point, unreached[name])
	}
}

// transactionNames reads the names of all transactions out of the code of package sqlite: what its functions that run a
// transaction are given for a name. A function that passes its own parameter on is such a function as well.
func transactionNames(t *testing.T) map[string]bool {
	t.Helper()
	// By function, which argument is the name. (*sql.DB).Tx and the like take none.
	runs := map[string]int{"tx": 1}
	files := parseCode(t, "sqlite")
	names, where := map[string]bool{}, map[string]token.Pos{}
	fset := token.NewFileSet()
	for grown := true; grown; {
		grown = false
		for _, file := range files {
			for _, d := range file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Body == nil {
					continue
				}
				ast.Inspect(f.Body, func(n ast.Node) bool {
					call, ok := n.(*ast.CallExpr)
					if !ok {
						return true
					}
					called, ok := call.Fun.(*ast.SelectorExpr)
					if !ok {
						return true
					}
					at, runner := runs[called.Sel.Name]
					if !runner || at >= len(call.Args) {
						return true
					}
					switch name := call.Args[at].(type) {
					case *ast.BasicLit:
						s, err := strconv.Unquote(name.Value)
						if err != nil {
							t.Fatal(err)
						}
						if other, twice := where[s]; twice && other != call.Pos() {
							t.Errorf("two transactions of package sqlite are called %q", s)
						}
						names[s], where[s] = true, call.Pos()
					case *ast.Ident:
						i := parameter(f, name.Name)
						if i < 0 {
							t.Errorf("%s: a transaction whose name cannot be told: %s", fset.Position(call.Pos()), name.Name)
							return true
						}
						if _, known := runs[f.Name.Name]; !known {
							runs[f.Name.Name], grown = i, true
						}
					default:
						t.Errorf("%s calls %s with a name that is neither a literal nor a parameter", f.Name.Name, called.Sel.Name)
					}
					return true
				})
			}
		}
	}
	names["write"] = true // the application's own, see (*sqlite.DB).Write
	if len(names) < 20 {
		t.Fatalf("only %d transactions were found: is the test looking in the right place?", len(names))
	}
	return names
}

// parameter returns which parameter of f is called name; -1 when none is.
func parameter(f *ast.FuncDecl, name string) int {
	i := 0
	for _, field := range f.Type.Params.List {
		for _, n := range field.Names {
			if n.Name == name {
				return i
			}
			i++
		}
	}
	return -1
}

// requestNames reads the names of all requests out of the code of package transport: its constants Op….
func requestNames(t *testing.T) (names []string) {
	t.Helper()
	for _, file := range parseCode(t, "transport") {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Op") {
				return true
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				s, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, s)
			}
			return true
		})
	}
	if len(names) < 10 {
		t.Fatalf("only %d requests were found: is the test looking in the right place?", len(names))
	}
	return names
}

func parseCode(t *testing.T, pkg string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "..", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
