package oversqlite_test

import (
	"errors"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite"
)

// Every typed error that can come out of the packages below is named by the root package, with a sentence about it:
// a program can tell errors apart without importing anything else.
func TestEveryTypedErrorIsPublic(t *testing.T) {
	t.Parallel()
	public := map[string]bool{} // "wire.HTTPError"
	for _, decl := range parsed(t, "errors.go").Decls {
		types, ok := decl.(*ast.GenDecl)
		if !ok || types.Tok != gotoken.TYPE {
			continue
		}
		for _, spec := range types.Specs {
			spec := spec.(*ast.TypeSpec)
			from, ok := spec.Type.(*ast.SelectorExpr)
			if !ok || !spec.Assign.IsValid() {
				t.Errorf("%s is no alias", spec.Name.Name)
				continue
			}
			if from.Sel.Name != spec.Name.Name {
				t.Errorf("%s is called %s elsewhere", spec.Name.Name, from.Sel.Name)
			}
			if spec.Doc == nil && types.Doc == nil {
				t.Errorf("%s has no comment", spec.Name.Name)
			}
			public[from.X.(*ast.Ident).Name+"."+from.Sel.Name] = true
		}
	}
	found := 0
	for _, pkg := range []string{"wire", "local", "messages", "transport"} {
		files, err := filepath.Glob(filepath.Join(pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(pkg, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, decl := range parsed(t, name).Decls {
				d, ok := decl.(*ast.FuncDecl)
				if !ok || d.Name.Name != "Error" {
					continue
				}
				typ := receiver(d)
				if !ast.IsExported(typ) {
					continue
				}
				found++
				if !public[pkg+"."+typ] && !public["messages."+typ] { // which passes one of local's on
					t.Errorf("%s.%s is not named in errors.go", pkg, typ)
				}
			}
		}
	}
	if found < 25 {
		t.Fatalf("only %d errors found: the test does not see them", found)
	}
}

func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	typ := d.Recv.List[0].Type
	if p, ok := typ.(*ast.StarExpr); ok {
		typ = p.X
	}
	name, _ := typ.(*ast.Ident)
	if name == nil {
		return ""
	}
	return name.Name
}

func parsed(t *testing.T, name string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Each error says whether to try again.
func TestEveryErrorSaysWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	type retryable interface {
		error
		Retryable() bool
	}
	for _, err := range []retryable{
		&oversqlite.AddressError{}, &oversqlite.AttachBindingConflictError{}, &oversqlite.AttachLocalStateConflictError{},
		&oversqlite.AttachRequiredError{}, &oversqlite.AuthError{}, &oversqlite.BaseURLError{}, &oversqlite.BodyTooLargeError{},
		&oversqlite.CollisionError{}, &oversqlite.ConfigError{}, &oversqlite.DatabaseError{}, &oversqlite.DatabaseOwnedError{},
		&oversqlite.DirtyStateRejectedError{}, &oversqlite.EngineFailedError{}, &oversqlite.HTTPError{},
		&oversqlite.IntentError{Err: errors.New("x")}, &oversqlite.InvalidConflictResolutionError{}, &oversqlite.InvalidResolutionError{},
		&oversqlite.LifecycleUnsupportedError{}, &oversqlite.LocalFormError{}, &oversqlite.NetworkError{Err: errors.New("x")},
		&oversqlite.OpenRequiredError{}, &oversqlite.ProtocolError{}, &oversqlite.ProtocolVersionMismatchError{},
		&oversqlite.PushConflictRetryExhaustedError{}, &oversqlite.PushRejectedError{}, &oversqlite.RebuildRequiredError{},
		&oversqlite.RetryExhaustedError{}, &oversqlite.SnapshotExpiredError{}, &oversqlite.SourceRecoveryRequiredError{},
		&oversqlite.SourceReplacementDivergedError{}, &oversqlite.SourceSequenceMismatchError{}, &oversqlite.StableBehindError{},
		&oversqlite.TableContractMismatchError{}, &oversqlite.UnsupportedContractError{}, &oversqlite.ValueError{},
		&oversqlite.ContractChangedError{}, &oversqlite.RequestHashError{},
	} {
		if text := err.Error(); !strings.HasPrefix(text, "oversqlite: ") {
			t.Errorf("%T: %q", err, text)
		}
		_ = err.Retryable()
	}
}
