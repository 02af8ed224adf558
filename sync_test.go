package oversqlite_test

import (
	"testing"

	"github.com/oversqlite/oversqlite"
)

func TestTwoDevicesConverge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.device("ann").open()
	first := a.note("written before any account")
	if c := a.attach(); c.Outcome != oversqlite.SeededFromLocal || c.Status.Authority != oversqlite.PendingLocalSeed {
		t.Fatalf("%+v", c)
	}
	if r := a.sync(); r.Push != oversqlite.Committed {
		t.Fatalf("%+v", r)
	}
	b, c := w.device("ann").attached()
	if c.Outcome != oversqlite.UsedRemoteState || c.Restore == nil || c.Restore.RowCount != 1 {
		t.Fatalf("%+v", c)
	}
	if b.title(first) != "written before any account" {
		t.Fatal("the seeded row is missing")
	}
	second := b.note("from b")
	b.exec(`INSERT INTO tags (id, note_id, name) VALUES ('t1', ?, 'x'), ('t2', ?, 'y')`, second, first)
	a.exec(`UPDATE notes SET body = 'changed on a', weight = 0.1, stars = 9007199254740991 WHERE id = ?`, first)
	if r := b.sync(); r.Push != oversqlite.Committed {
		t.Fatalf("%+v", r)
	}
	if r := a.sync(); r.Push != oversqlite.Committed || r.Remote != oversqlite.AppliedIncremental {
		t.Fatalf("%+v", r)
	}
	converged(a, b)
	a.exec(`DELETE FROM notes WHERE id = ?`, second)
	converged(a, b)
	if b.title(second) != "" {
		t.Fatal("the deletion did not arrive")
	}
	w.serverWrite("ann", `UPDATE notes SET title = 'by the server' WHERE id = ?`, first)
	converged(a, b)
	if a.title(first) != "by the server" {
		t.Fatal("the server's write did not arrive")
	}
}
