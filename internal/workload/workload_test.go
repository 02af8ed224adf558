package workload

import (
	"database/sql"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // of the databases
)

func open(t *testing.T, schema string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(`PRAGMA foreign_keys = ON;` + schema); err != nil {
		t.Fatal(err)
	}
	return db
}

func rowsOf(t *testing.T, db *sql.DB) map[Place]Row {
	t.Helper()
	rows, err := Rows(db)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// write makes one transaction.
func write(t *testing.T, db *sql.DB, w *Writer, fn func(*Writer) error) error {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	w.Tx = tx
	if err := fn(w); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// What tame writers do no database refuses, whoever was there before; and each notes what it leaves behind.
func TestTameWriters(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{ClientSchema, ServerSchema} {
		db := open(t, schema)
		r := rand.New(rand.NewPCG(1, 2))
		seen := map[string]bool{} // tables
		vacated := false
		last := map[string]int{}
		for range 300 {
			who := oneOf(r, "d0", "d1", "web")
			w := &Writer{R: r, Who: who, N: last[who], Vacates: true, Wrote: map[Place]string{}}
			before := rowsOf(t, db)
			does := (*Writer).ByDevice
			if who == "web" {
				does = (*Writer).ByServer
			}
			if err := write(t, db, w, does); err != nil {
				t.Fatalf("%s: %v", who, err)
			}
			last[who] = w.N
			here := rowsOf(t, db)
			if err := Dangling(here); err != nil {
				t.Fatal(err)
			}
			for p, token := range w.Wrote {
				got, isHere := here[p]
				if got.Token != token || token == "" && isHere || !p.Shared() {
					t.Fatalf("%s made %s %q, and it is %s", who, p, token, got)
				}
				vacated = vacated || p.Table == "slots" && token == "" && before[p].Text != ""
			}
			for p, was := range before {
				if _, noted := w.Wrote[p]; !noted && !p.Of(who) && here[p].Text != was.Text && (who != "web" || p.Shared()) {
					t.Fatalf("%s changed %s from %s to %s, which it did not note", who, p, was, here[p])
				}
			}
			for p := range here {
				seen[p.Table] = true
			}
		}
		if len(seen) != len(Tables) || !vacated {
			t.Errorf("rows were written in %v, shared slots deleted: %v", seen, vacated)
		}
	}
}

// Wild writers do what a server refuses, and what takes others' rows away.
func TestWildWriters(t *testing.T) {
	t.Parallel()
	db := open(t, ServerSchema)
	r := rand.New(rand.NewPCG(3, 4))
	refused, uprooted := 0, 0
	for i := range 300 {
		w := &Writer{R: r, Who: "d0", N: i * 100, Wild: true, Wrote: map[Place]string{}}
		switch err := write(t, db, w, (*Writer).ByDevice); {
		case errors.Is(err, sqlite3.CONSTRAINT):
			refused++
			continue
		case err != nil:
			t.Fatal(err)
		}
		here := rowsOf(t, db)
		for p, token := range w.Wrote {
			if got := here[p]; got.Token != token {
				t.Fatalf("%s was made %q, and is %s", p, token, got)
			}
			if token == "" && p.Table == "owners" {
				uprooted++
			}
		}
	}
	if refused == 0 || uprooted == 0 {
		t.Errorf("%d transactions were refused, %d owners uprooted", refused, uprooted)
	}
}

// Both sides' spellings of a row are one.
func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ table, local, wire string }{
		{"owners", `{"id":"s-1","name":"n","score":"0.5"}`, `{"id":"s-1","name":"n","score":5e-1}`},
		{"items", `{"id":"i","owner_id":"o","name":"n","qty":"7","data":"00ff"}`, `{"id":"i","owner_id":"o","name":"n","qty":7,"data":"AP8="}`},
		{"items", `{"id":"i","owner_id":"o","name":"n","qty":null,"data":""}`, `{"id":"i","owner_id":"o","name":"n","qty":null,"data":""}`},
		{"docs", `{"id":"73000000000040008000000000000001","slot":null,"name":"n","flag":"1"}`, `{"id":"73000000-0000-4000-8000-000000000001","slot":null,"name":"n","flag":true}`},
	} {
		p, local, err := Named(c.table).Read([]byte(c.local), false)
		if err != nil {
			t.Fatal(err)
		}
		q, wire, err := Named(c.table).Read([]byte(c.wire), true)
		if err != nil || p != q || local.Text != wire.Text || local.Token != "n" {
			t.Errorf("%s: %s, and %s: %s, %v", p, local, q, wire, err)
		}
	}
	for _, payload := range []string{
		`{`, `{"id":"i","parent_id":null}`, `{"id":"i","parent_id":null,"note":"n"}`, `{"id":"i","parent_id":null,"name":"n","more":1}`,
	} {
		if p, r, err := Named("nodes").Read([]byte(payload), false); err == nil {
			t.Errorf("%s was read as %s, %s", payload, p, r)
		}
	}
	if got := At("docs", "73000000-0000-4000-8000-000000000001").Key; got != "73000000000040008000000000000001" {
		t.Errorf("the key of a document is %s", got)
	}
	if got := At("nodes", "d0-1"); got.Key != "d0-1" || !got.Of("d0") || got.Of("d") || got.Shared() {
		t.Errorf("%s is of somebody else", got)
	}
	if Named("strangers") != nil {
		t.Error("there is a table of no name")
	}
	if (Row{}).String() != "no row" {
		t.Error("no row is spelled as one")
	}
	if err := Dangling(map[Place]Row{At("nodes", "a"): {Text: "x", refs: []Place{At("nodes", "b")}}}); err == nil {
		t.Error("a row may refer to one that is not here")
	}
}
