package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
)

const childEnv = "OVERSQLITE_FAILPOINT_CHILD"

func TestMain(m *testing.M) {
	if at := os.Getenv(childEnv); at != "" {
		defer os.Exit(3) // a killed process defers nothing
		point, n, err := Parse(at)
		if err != nil {
			panic(err)
		}
		Set(Kill(point, n))
		for range 3 {
			At(BeforeCommit, "one")
			At(AfterCommit, "one")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHook(t *testing.T) {
	At(BeforeCommit, "nothing listens")
	var got []string
	clear := Set(func(point string) { got = append(got, point) })
	At(BeforeCommit, "freeze")
	At(AfterAnswer, "pull")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a second hook")
			}
		}()
		Set(func(string) {})
	}()
	clear()
	At(BeforeCommit, "too late")
	if want := []string{"before commit of freeze", "after answer to pull"}; !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	Set(func(string) {})()
}

// A process told to die at a point dies there, by the signal, and one that is told of a point it never reaches does not.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   string
		dies bool
	}{
		{Spell(Point(BeforeCommit, "one"), 1), true},
		{Spell(Point(AfterCommit, "one"), 3), true},
		{Spell(Point(AfterCommit, "one"), 4), false},
		{Spell(Point(AfterCommit, "two"), 1), false},
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+c.at)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case c.dies && (!errors.As(err, &exit) || exit.ExitCode() >= 0):
			t.Errorf("%s: %v, %s", c.at, err, out)
		case !c.dies && err != nil:
			t.Errorf("%s: %v, %s", c.at, err, out)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	if p, n, err := Parse(Spell("a: b", 12)); p != "a: b" || n != 12 || err != nil {
		t.Fatal(p, n, err)
	}
	for _, bad := range []string{"", ":1", "a", "a:", "a:0", "a:-1", "a:x"} {
		if _, _, err := Parse(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// A point that nobody asks about costs nothing worth counting.
func TestAtIsFree(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() { At(BeforeCommit, "freeze") }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkAt(b *testing.B) {
	for b.Loop() {
		At(BeforeCommit, "freeze")
	}
}

func TestDisk(t *testing.T) {
	t.Parallel()
	if got := Disk("/a"); got != "" {
		t.Fatal(got)
	}
	clear := PutOn("/a", "broken")
	if a, b := Disk("/a"), Disk("/b"); a != "broken" || b != "" {
		t.Fatal(a, b)
	}
	clear()
	if got := Disk("/a"); got != "" {
		t.Fatal(got)
	}
}
