package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

const (
	valueSchema = "values"
	valueTable  = `CREATE TABLE held (id TEXT PRIMARY KEY NOT NULL, i INTEGER, r REAL, t TEXT, b BLOB, u BLOB REFERENCES kept (id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE kept (id BLOB PRIMARY KEY NOT NULL, note TEXT);`
)

// valueWorld is a server and two devices of one user for tables with a column of each kind.
type valueWorld struct {
	ctx  context.Context
	a, b *oversqlite.Engine
}

func newValueWorld(t *testing.T, contract wire.ContractName) *valueWorld {
	t.Helper()
	w := newWorld(t, devserver.Config{InMemory: true, Contract: contract, Schema: valueTable,
		Tables: []devserver.Table{{Schema: valueSchema, Name: "held", Key: "id"}, {Schema: valueSchema, Name: "kept", Key: "id"}}})
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	device := func(name string) *oversqlite.Engine {
		path := filepath.Join(t.TempDir(), name)
		db, err := sql.Open("sqlite3", "file:"+path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(valueTable); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := engineConfig(path, w.url, w.token(t, "values"), http.DefaultTransport)
		cfg.Schema, cfg.Tables = valueSchema, []oversqlite.Table{{Name: "held", Key: "id"}, {Name: "kept", Key: "id"}}
		e, err := oversqlite.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := e.Open(ctx); err != nil {
			t.Fatal(err)
		}
		attach(ctx, t, e, "values")
		return e
	}
	return &valueWorld{ctx: ctx, a: device("a.db"), b: device("b.db")}
}

// held is a row of every kind of value, each of which may be absent.
type held struct {
	i *int64
	r *float64
	t *string
	b []byte // nil: NULL
	u []byte // nil: NULL
}

func (h held) same(other held) bool {
	return (h.i == nil) == (other.i == nil) && (h.i == nil || *h.i == *other.i) &&
		(h.r == nil) == (other.r == nil) && (h.r == nil || math.Float64bits(*h.r) == math.Float64bits(*other.r)) &&
		(h.t == nil) == (other.t == nil) && (h.t == nil || *h.t == *other.t) &&
		(h.b == nil) == (other.b == nil) && bytes.Equal(h.b, other.b) && (h.u == nil) == (other.u == nil) && bytes.Equal(h.u, other.u)
}

func (w *valueWorld) write(e *oversqlite.Engine, rows map[string]held) error {
	return e.Write(w.ctx, func(tx *sql.Tx) error {
		for id, h := range rows {
			if h.u != nil {
				if _, err := tx.Exec(`INSERT OR IGNORE INTO kept VALUES (?, 'n')`, h.u); err != nil {
					return err
				}
			}
			b := any(h.b)
			if h.b == nil {
				b = nil
			}
			u := any(h.u)
			if h.u == nil {
				u = nil
			}
			if _, err := tx.Exec(`INSERT INTO held VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET i = excluded.i, r = excluded.r, t = excluded.t, b = excluded.b, u = excluded.u`,
				id, h.i, h.r, h.t, b, u); err != nil {
				return err
			}
		}
		return nil
	})
}

// read returns the row with all its values in the storage classes that they had.
func (w *valueWorld) read(e *oversqlite.Engine, id string) (h held, classes string, err error) {
	err = e.DB().QueryRowContext(w.ctx, `SELECT i, r, t, b, u, typeof(i) || ' ' || typeof(r) || ' ' || typeof(t) || ' ' || typeof(b) || ' ' || typeof(u) FROM held WHERE id = ?`, id).
		Scan(&h.i, &h.r, &h.t, &h.b, &h.u, &classes)
	return h, classes, err
}

// carry takes rows from one device to the other and compares them bit by bit.
func (w *valueWorld) carry(rows map[string]held) error {
	if err := w.write(w.a, rows); err != nil {
		return err
	}
	if _, err := w.a.Sync(w.ctx); err != nil {
		return err
	}
	if _, err := w.b.Sync(w.ctx); err != nil {
		return err
	}
	return w.compare(rows)
}

func (w *valueWorld) compare(rows map[string]held) error {
	for id, want := range rows {
		_, classes, err := w.read(w.a, id)
		if err != nil {
			return err
		}
		for name, e := range map[string]*oversqlite.Engine{"its own device": w.a, "the other device": w.b} {
			got, c, err := w.read(e, id)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if !got.same(want) || c != classes {
				return fmt.Errorf("%s has %s where %s was written (%s, %s)", name, got, want, c, classes)
			}
		}
	}
	return nil
}

func (h held) String() string {
	show := func(v any, there bool) string {
		if !there {
			return "NULL"
		}
		s := fmt.Sprintf("%v", v)
		return s[:min(len(s), 80)]
	}
	var i, r, t any
	if h.i != nil {
		i = *h.i
	}
	if h.r != nil {
		r = *h.r
	}
	if h.t != nil {
		t = fmt.Sprintf("%q", *h.t)
	}
	return show(i, i != nil) + " " + show(r, r != nil) + " " + show(t, t != nil) + " " + show(h.b, h.b != nil) + " " + show(h.u, h.u != nil)
}

func at[T any](v T) *T { return &v }

const maxSafe = 1<<53 - 1

// corners are the values at which encodings break.
func corners(contract wire.ContractName) map[string]held {
	rows := map[string]held{"null": {}, "zero blob": {b: []byte{}}, "zeros": {i: at(int64(0)), r: at(0.0), t: at(""), b: []byte{}, u: make([]byte, 16)}}
	integers := []int64{1, -1, maxSafe, -maxSafe, 1 << 31, -1 << 31, 1<<31 - 1, 255, -32768}
	if contract == wire.UniformContract {
		integers = append(integers, math.MaxInt64, math.MinInt64, maxSafe+1, -maxSafe-1, maxSafe+2, 1<<62+1, math.MaxInt64-1, 999999999999999999)
	}
	for _, n := range integers {
		rows[fmt.Sprint("i", n)] = held{i: at(n)}
	}
	for _, f := range []float64{1, 0.1, -0.1, 1.0 / 3, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 2.2250738585072014e-308,
		2.225073858507201e-308, 1e21, 1e20, 999999999999999900000, 1e-6, 1e-7, 9.5367431640625e-07, maxSafe, maxSafe + 1, 1 << 62, 1e22, 1e23, 123456789.12345679, math.Pi, 1e15, 1e16, 1e17, 5e-324} {
		rows[fmt.Sprint("r", f)] = held{r: at(f)}
	}
	texts := []string{"<&>\u2028\u2029", "\u0001\u001f\u007f\u0080", "\\\"/\b\f\n\r\t", "\ufeffbom", "é", "e\u0301", "\ufffd", "\uffff\ufffe", "\ue000", "\U0010ffff", "2026-03-24T18:42:11Z", " 1 ", "1", "1e3", "null", "true", `{"a":1}`, `["blob","00"]`}
	for plane := rune(0); plane <= 16; plane++ {
		texts = append(texts, string([]rune{plane<<16 | 0x41, plane<<16 | 0x1234, plane<<16 | 0xfffd}))
	}
	for n, s := range texts {
		rows[fmt.Sprint("t", n)] = held{t: at(s)}
	}
	every := make([]byte, 256)
	for c := range every {
		every[c] = byte(c)
	}
	large := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for c := range large {
		large[c] = byte(r.Uint32())
	}
	rows["every byte"], rows["a megabyte"] = held{b: every, u: every[16:32]}, held{b: large, t: at(string(bytes.Repeat([]byte("é"), 1<<19)))}
	return rows
}

// TestValues: what SQLite holds on one device it holds on the other, bit by bit and in the same storage class, whether
// it came as a bundle or in a snapshot.
func TestValues(t *testing.T) {
	inBothContracts(t, func(t *testing.T, contract wire.ContractName) {
		w := newValueWorld(t, contract)
		rows := corners(contract)
		if err := w.carry(rows); err != nil {
			t.Fatal(err)
		}
		if _, err := w.b.Rebuild(w.ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.compare(rows); err != nil {
			t.Error(err)
		}
		n := 0
		rapid.Check(t, func(rt *rapid.T) {
			rows := map[string]held{}
			for range rapid.IntRange(1, 20).Draw(rt, "rows") {
				n++
				rows[fmt.Sprint("random", n)] = drawHeld(rt, contract)
			}
			if err := w.carry(rows); err != nil {
				rt.Fatal(err)
			}
		})
		if _, err := w.b.Rebuild(w.ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func drawHeld(t *rapid.T, contract wire.ContractName) (h held) {
	has := func(name string) bool { return rapid.IntRange(0, 3).Draw(t, "has "+name) > 0 }
	if has("i") {
		if contract == wire.UniformContract {
			h.i = at(rapid.Int64().Draw(t, "i"))
		} else {
			h.i = at(rapid.Int64Range(-maxSafe, maxSafe).Draw(t, "i"))
		}
	}
	if has("r") {
		f := math.Float64frombits(rapid.Uint64().Draw(t, "r"))
		if math.IsNaN(f) || math.IsInf(f, 0) || f == 0 {
			f = 0 // SQLite holds one zero and no NaN
		}
		h.r = at(f)
	}
	if has("t") {
		s := string(rapid.SliceOf(rapid.Int32Range(1, utf8.MaxRune).Filter(utf8.ValidRune)).Draw(t, "t"))
		h.t = &s
	}
	if has("b") {
		h.b = rapid.SliceOf(rapid.Byte()).Draw(t, "b")
		if h.b == nil {
			h.b = []byte{}
		}
	}
	if has("u") {
		h.u = rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "u")
	}
	return h
}

// TestWhatADialectCannotCarryIsRefused: by name, before anything is sent, and the row stays as it was written.
func TestWhatADialectCannotCarryIsRefused(t *testing.T) {
	inBothContracts(t, func(t *testing.T, contract wire.ContractName) {
		type unfit struct {
			name, column, reason string
			sql                  string
		}
		cases := []unfit{
			{"NUL", "t", "nul_in_text", `INSERT INTO held (id, t) VALUES ('x', CAST(x'610062' AS TEXT))`},
			{"no UTF-8", "t", "invalid_utf8", `INSERT INTO held (id, t) VALUES ('x', CAST(x'ff' AS TEXT))`},
			{"infinite", "r", "non_finite_real", `INSERT INTO held (id, r) VALUES ('x', 9e999)`},
			{"minus infinite", "r", "non_finite_real", `INSERT INTO held (id, r) VALUES ('x', -9e999)`},
			{"a real in an integer column", "i", "storage_class", `INSERT INTO held (id, i) VALUES ('x', 1.5)`},
			{"text in a blob column", "b", "storage_class", `INSERT INTO held (id, b) VALUES ('x', 'text')`},
			{"a blob in a text column", "t", "storage_class", `INSERT INTO held (id, t) VALUES ('x', x'00')`},
		}
		if contract == wire.ClassicContract {
			cases = append(cases,
				unfit{"beyond 2^53", "i", "integer_out_of_range", `INSERT INTO held (id, i) VALUES ('x', 9007199254740992)`},
				unfit{"the smallest", "i", "integer_out_of_range", `INSERT INTO held (id, i) VALUES ('x', -9223372036854775808)`})
		}
		w := newValueWorld(t, contract)
		for _, c := range cases {
			if _, err := w.a.DB().ExecContext(w.ctx, c.sql); err != nil {
				t.Fatal(err)
			}
			var before, after string
			const look = `SELECT quote(i) || quote(r) || hex(t) || typeof(t) || quote(b) FROM held WHERE id = 'x'`
			if err := w.a.DB().QueryRowContext(w.ctx, look).Scan(&before); err != nil {
				t.Fatal(err)
			}
			_, err := w.a.PushPending(w.ctx)
			var value *oversqlite.ValueError
			if !errors.As(err, &value) || value.Reason != c.reason || value.Column != c.column || value.Table != valueSchema+".held" {
				t.Errorf("%s: %v, want %s of column %s", c.name, err, c.reason, c.column)
			}
			if err := w.a.DB().QueryRowContext(w.ctx, look).Scan(&after); err != nil || after != before {
				t.Errorf("%s: %s became %s, %v", c.name, before, after, err)
			}
			if _, err := w.a.DB().ExecContext(w.ctx, `DELETE FROM held`); err != nil {
				t.Fatal(err)
			}
			if _, err := w.a.Sync(w.ctx); err != nil {
				t.Errorf("%s: once it is gone: %v", c.name, err)
			}
		}
	})
}
