package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"

	"github.com/oversqlite/oversqlite/local"
)

const ownerChildEnv = "OVERSQLITE_TEST_OWNER_CHILD"

// ownerChild is the test binary run as another process: it opens the database that the environment names, says so, and
// holds it until it is killed.
func ownerChild() {
	_, err := Open(context.Background(), Config{Path: os.Getenv(ownerChildEnv), Schema: "main", Tables: tables("users")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	select {}
}

func wantOwned(t *testing.T, cfg Config, thisProcess bool) {
	t.Helper()
	db, err := Open(t.Context(), cfg)
	if err == nil {
		_ = db.Close()
	}
	var owned *local.DatabaseOwnedError
	if !errors.As(err, &owned) || owned.ThisProcess != thisProcess || !owned.Retryable() {
		t.Fatalf("got %v, want a DatabaseOwnedError (this process: %t)", err, thisProcess)
	}
}

// One engine a database file, by whatever name it is opened.
func TestOwnershipInsideTheProcess(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	dir := filepath.Dir(cfg.Path)
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink("app.db", link); err != nil {
		t.Fatal(err)
	}
	db := mustOpen(t, cfg)
	wantOwned(t, cfg, true)
	byLink := cfg
	byLink.Path = link
	wantOwned(t, byLink, true)
	relative := cfg
	relative.Path = filepath.Join(dir, ".", "x", "..", "app.db")
	wantOwned(t, relative, true)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	reopen(t, byLink)
	noResidue(t, dir, "app.db", "link.db")
}

// Two links to a file that does not exist yet are one file.
func TestRealPathOfFilesToBe(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"a": "target.db", "b": filepath.Join(dir, "a"), "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	want := filepath.Join(dir, "target.db")
	for _, name := range []string{"a", "b", "target.db"} {
		got, err := realPath(filepath.Join(dir, name))
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
	}
	if got, err := realPath(filepath.Join(dir, "loop")); err == nil {
		t.Errorf("a link to itself is %s", got)
	}
}

// The lock of another process is seen at once and dies with it, however it dies.
func TestOwnershipAcrossProcesses(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, usersDDL, tables("users")...)
	child := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), ownerChildEnv+"="+cfg.Path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "open\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	wantOwned(t, cfg, false)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	reopen(t, cfg)
	noResidue(t, filepath.Dir(cfg.Path), "app.db")
}

// A lock file that its holder removes while we open it is not a lock on the database.
func TestLockFileThatIsRemovedUnderfoot(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "lock")
	first, err := lockFile(name)
	if err != nil || first == nil {
		t.Fatal(first, err)
	}
	if second, err := lockFile(name); second != nil || err != nil {
		t.Fatalf("locked twice: %v, %v", second, err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	third, err := lockFile(name) // a new file: the first lock no longer counts for anybody
	if err != nil || third == nil {
		t.Fatal(third, err)
	}
	for _, l := range []interface{ Close() error }{first, third} {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
