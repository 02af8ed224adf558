package disk

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // the tests' way into a database
)

func open(t *testing.T, d *Disk, path, pragmas string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.ToSlash(path)+"?vfs="+d.Name())
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Exec(`PRAGMA journal_mode = WAL; ` + pragmas + `; CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, pad TEXT)`); err != nil {
		t.Fatal(err)
	}
	return db
}

func count(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.ToSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var check string
	if err := errors.Join(db.QueryRow(`PRAGMA integrity_check`).Scan(&check), db.QueryRow(`SELECT count(*) FROM t`).Scan(&n)); err != nil || check != "ok" {
		t.Fatal(check, err)
	}
	return n
}

// What was synced survives, what was not may go, and no transaction is torn.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	d := New()
	t.Cleanup(d.Remove)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	db := open(t, d, path, `PRAGMA synchronous = FULL`)
	insert := func(n int) {
		t.Helper()
		for range n {
			if _, err := db.Exec(`BEGIN; INSERT INTO t (pad) VALUES (hex(zeroblob(3000))); INSERT INTO t (pad) VALUES (hex(zeroblob(3000))); COMMIT`); err != nil {
				t.Fatal(err)
			}
		}
	}
	insert(3)
	if _, err := db.Exec(`PRAGMA synchronous = NORMAL`); err != nil {
		t.Fatal(err)
	}
	insert(4)
	left := filepath.Join(dir, "left.db")
	if err := d.Image(path, left, All, nil); err != nil {
		t.Fatal(err)
	}
	if n := count(t, left); n != 6 {
		t.Errorf("%d rows are left, 6 were synced", n)
	}
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[int]bool{}
	for i := range 40 {
		left := filepath.Join(dir, fmt.Sprint("some", i))
		if err := d.Image(path, left, Some, r); err != nil {
			t.Fatal(err)
		}
		n := count(t, left)
		if n < 6 || n > 14 || n%2 != 0 {
			t.Errorf("%d rows are left", n)
		}
		seen[n] = true
	}
	if len(seen) < 2 {
		t.Errorf("every cut leaves the same: %v", seen)
	}
	d.PowerOff()
	if _, err := db.Exec(`INSERT INTO t (pad) VALUES ('')`); !errors.Is(err, sqlite3.IOERR) || !d.Off() {
		t.Errorf("written without power: %v", err)
	}
}

func TestFail(t *testing.T) {
	t.Parallel()
	for _, with := range []sqlite3.ErrorCode{Full, Broken} {
		d := New()
		t.Cleanup(d.Remove)
		path := filepath.Join(t.TempDir(), "a.db")
		db := open(t, d, path, `PRAGMA synchronous = FULL`)
		before := d.Ops()
		d.Fail(func(op int64) error {
			if op <= before {
				t.Errorf("operation %d comes again", op)
			}
			return with
		})
		if _, err := db.Exec(`INSERT INTO t (pad) VALUES ('')`); !errors.Is(err, with) {
			t.Errorf("%v, want %v", err, with)
		}
		d.Fail(nil)
		if _, err := db.Exec(`INSERT INTO t (pad) VALUES ('')`); err != nil || count(t, path) != 1 {
			t.Errorf("on a disk that works: %v", err)
		}
	}
}
