package oversqlite_test

import (
	"context"
	"fmt"

	"github.com/oversqlite/oversqlite"
)

// isolating sets refused changes aside instead of holding uploads.
func isolating(c *oversqlite.Config) { c.PoisonPolicy = oversqlite.PoisonIsolate }

func ExampleEngine_Quarantined() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone", isolating)
	defer e.Close()

	// The server cannot be sent a NUL in a text. Everything else goes.
	_, err := e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('a', 'fine'), ('b', 'not' || char(0) || 'fine')`)
	check(err)
	report, err := e.Sync(ctx)
	check(err)
	fmt.Println(report.Push)

	rows, err := e.Quarantined(ctx)
	check(err)
	for _, r := range rows {
		fmt.Println(r.Op, r.Table, r.Key["id"], r.Origin, r.Code)
	}

	// Writing the row again takes it out of quarantine.
	_, err = e.DB().Exec(`UPDATE notes SET title = 'fine now' WHERE id = 'b'`)
	check(err)
	_, err = e.Sync(ctx)
	check(err)
	rows, err = e.Quarantined(ctx)
	check(err)
	fmt.Println(len(rows), "left")
	// Output:
	// committed
	// INSERT notes b value nul_in_text
	// 0 left
}

func ExampleEngine_DiscardQuarantined() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone", isolating)
	defer e.Close()
	_, err := e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('a', 'fine')`)
	check(err)
	_, err = e.Sync(ctx)
	check(err)
	_, err = e.DB().Exec(`UPDATE notes SET title = 'not' || char(0) || 'fine'`)
	check(err)
	_, err = e.Sync(ctx)
	check(err)

	rows, err := e.Quarantined(ctx)
	check(err)
	check(e.DiscardQuarantined(ctx, rows[0].ID))
	var title string
	check(e.DB().QueryRow(`SELECT title FROM notes`).Scan(&title))
	fmt.Println(title)
	// Output: fine
}

func ExampleEngine_RetryQuarantined() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone", isolating)
	defer e.Close()
	_, err := e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('a', 'not' || char(0) || 'fine')`)
	check(err)
	_, err = e.Sync(ctx)
	check(err)

	// A server that has learnt to take such rows may be asked again. This one has not.
	rows, err := e.Quarantined(ctx)
	check(err)
	check(e.RetryQuarantined(ctx, rows[0].ID))
	_, err = e.Sync(ctx)
	check(err)
	rows, err = e.Quarantined(ctx)
	check(err)
	fmt.Println(len(rows), "in quarantine")
	// Output: 1 in quarantine
}
