package sqlite

import (
	"slices"
	"testing"

	"github.com/oversqlite/oversqlite/local"
)

// What is in quarantine delays nobody (03 3.7): a row of the server's that was accepted, or that a void change gives way to,
// takes the place of what was refused. As long as something else is in the way too, nothing is displaced.
func TestQuarantineMakesWay(t *testing.T) {
	t.Parallel()
	type image struct {
		table, id string
		s         shadow
	}
	code := func(version int64, id, code string) shadow {
		return live(version, `{"id":"`+id+`","parent":null,"code":`+code+`}`)
	}
	for name, c := range map[string]struct {
		server  []string // nodes at version 2
		refused []string // what is set aside
		edit    []string
		shadows []image // of the edited rows
		void    bool    // nobody has to be asked
		want    []string
		nodes   []string
		leaves  []string
		waits   bool // all of them
		left    int
	}{
		"a unique value that a new row has": {
			server: []string{`'x', NULL, 'old'`}, refused: []string{`INSERT INTO nodes VALUES ('mine', NULL, 'c')`}, edit: []string{`UPDATE nodes SET code = 'new' WHERE id = 'x'`},
			shadows: []image{{"nodes", "x", code(5, "x", `"c"`)}},
			want:    []string{`nodes {"id":"mine"}`}, nodes: []string{"x|∅|c"}, leaves: []string{},
		},
		"unique values that change places": {
			server: []string{`'x', NULL, 'a'`, `'q', NULL, 'b'`}, refused: []string{`UPDATE nodes SET code = 'c' WHERE id = 'q'`}, edit: []string{`UPDATE nodes SET code = 'b' WHERE id = 'x'`},
			shadows: []image{{"nodes", "x", code(5, "x", `"c"`)}},
			want:    []string{`nodes {"id":"q"}`}, nodes: []string{"q|∅|b", "x|∅|c"}, leaves: []string{},
		},
		"new children of a row that is gone": {
			server: []string{`'p', NULL, NULL`}, refused: []string{`INSERT INTO leaves VALUES ('l', 'p', NULL), ('m', 'p', NULL)`}, edit: []string{`UPDATE nodes SET code = 'new' WHERE id = 'p'`},
			shadows: []image{{"nodes", "p", gone(5)}},
			want:    []string{`leaves {"id":"l"}`, `leaves {"id":"m"}`}, nodes: []string{}, leaves: []string{},
		},
		"the deletion of a row that is needed": {
			server: []string{`'p', NULL, NULL`, `'x', NULL, NULL`}, refused: []string{`DELETE FROM nodes WHERE id = 'p'`}, edit: []string{`UPDATE nodes SET code = 'new' WHERE id = 'x'`},
			shadows: []image{{"nodes", "x", live(5, `{"id":"x","parent":"p","code":null}`)}},
			want:    []string{`nodes {"id":"p"}`}, nodes: []string{"p|∅|∅", "x|p|∅"}, leaves: []string{},
		},
		"two rows that lean on each other": {
			server: []string{`'x', NULL, NULL`, `'y', NULL, NULL`}, refused: []string{`INSERT INTO nodes VALUES ('mine', NULL, 'c')`},
			edit:    []string{`UPDATE nodes SET code = 'n' || id WHERE id IN ('x', 'y')`},
			shadows: []image{{"nodes", "x", live(5, `{"id":"x","parent":"y","code":"c"}`)}, {"nodes", "y", live(5, `{"id":"y","parent":"x","code":null}`)}},
			want:    []string{`nodes {"id":"mine"}`}, nodes: []string{"x|y|c", "y|x|∅"}, leaves: []string{},
		},
		"a change that is void": {
			server: []string{`'x', NULL, 'old'`}, refused: []string{`INSERT INTO nodes VALUES ('mine', NULL, 'c')`},
			edit:    []string{`UPDATE nodes SET code = 'new' WHERE id = 'x'`, `UPDATE nodes SET code = 'old' WHERE id = 'x'`},
			shadows: []image{{"nodes", "x", code(5, "x", `"c"`)}}, void: true,
			want: []string{`nodes {"id":"mine"}`}, nodes: []string{"x|∅|c"}, leaves: []string{},
		},
		"a change that is still to be pushed is in the way, too": {
			server: []string{`'p', NULL, NULL`}, refused: []string{`INSERT INTO leaves VALUES ('l', 'p', NULL)`},
			edit:    []string{`UPDATE nodes SET code = 'new' WHERE id = 'p'`, `INSERT INTO leaves VALUES ('m', 'p', NULL)`},
			shadows: []image{{"nodes", "p", gone(5)}},
			nodes:   []string{"p|∅|new"}, leaves: []string{"l|p|∅", "m|p|∅"}, waits: true,
		},
		"of two rows one has to wait": {
			server: []string{`'x', NULL, NULL`, `'y', NULL, NULL`}, refused: []string{`INSERT INTO nodes VALUES ('mine', NULL, 'c')`},
			edit:    []string{`UPDATE nodes SET code = 'n' || id WHERE id IN ('x', 'y')`, `INSERT INTO nodes VALUES ('also', NULL, 'd')`},
			shadows: []image{{"nodes", "x", code(5, "x", `"c"`)}, {"nodes", "y", code(5, "y", `"d"`)}},
			want:    []string{`nodes {"id":"mine"}`}, nodes: []string{"also|∅|d", "x|∅|c", "y|∅|ny"}, leaves: []string{}, left: 1,
		},
		"a row that has to be pulled is in the way, too": {
			server: []string{`'x', NULL, NULL`}, refused: []string{`INSERT INTO nodes VALUES ('mine', NULL, 'c')`}, edit: []string{`UPDATE nodes SET code = 'new' WHERE id = 'x'`},
			shadows: []image{{"nodes", "x", live(5, `{"id":"x","parent":"far","code":"c"}`)}},
			nodes:   []string{"mine|∅|c", "x|∅|new"}, leaves: []string{}, waits: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := attachedDB(t, treeDDL, "nodes", "leaves")
			attachAt(t, db, 7) // no pull brings these images again
			for _, values := range c.server {
				serverRow(t, db, "nodes", values, 2)
			}
			for _, sql := range c.refused {
				exec(t, db, sql)
			}
			isolate(t, db, 0)
			for _, sql := range c.edit {
				exec(t, db, sql)
			}
			for _, i := range c.shadows {
				cast(t, db, i.table, keyOf(i.id), i.s)
			}
			s := settle(t, db, 10)
			aside := s.SetAside
			if !c.void {
				var rs []local.Resolution
				for _, conflict := range s.Conflicts {
					rs = append(rs, local.Resolution{Conflict: conflict, Kind: local.AcceptServer})
				}
				same(t, "conflicts", len(rs), len(c.shadows))
				before := everything(t, db)
				out := resolve(t, db, rs...)
				aside = out.SetAside
				if c.waits {
					c.left = len(rs)
					same(t, "everything", everything(t, db), before)
				} else {
					same(t, "nodes were written", slices.Contains(out.Tables, "nodes"), true)
				}
				same(t, "applied, left", []any{out.Applied, out.NeedsPull, len(out.Deferred)}, []any{len(rs) - c.left, c.left > 0, c.left})
			}
			verify(t, db)
			var displaced []string
			for _, a := range aside {
				if a.Displaced {
					displaced = append(displaced, a.Table+" "+a.KeyJSON)
				}
			}
			same(t, "displaced", displaced, c.want)
			same(t, "nodes", rows(t, db, `SELECT * FROM nodes ORDER BY id`), c.nodes)
			same(t, "leaves", rows(t, db, `SELECT * FROM leaves ORDER BY id`), c.leaves)
			same(t, "why", quarantined(t, db)[0].Code, refusal.Code)
			same(t, "shadows", len(shadows(t, db)), c.left)
		})
	}
}
