package sqlite

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/internal/race"
	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// hostileNames are names that SQLite takes as identifiers, or does not, and that something on their way could take for
// more than a name.
var hostileNames = []string{
	``, ` `, "\t", `"`, `""`, `'`, `''`, "`", `[`, `]`, `[a]`, `\`, `\"`, `\u0041`, "\n", "a\x00b", "\x01", "\x7f", "\xff", "a\xc3", "é", "É", "İ", "ſ", "K", "\u2028", "😀", "ﬀ", "ſ", "\u212aids", "_ſync_scope_id",
	`order`, `SELECT`, `table`, `NULL`, `rowid`, `oid`, `_rowid_`, `new`, `OLD`, `excluded`, `key`, `value`, `n`, `X`, `id`, `main`, `temp`, `kids`, `canary`,
	`$`, `$.a`, `$.a[0]`, `a.b`, `a[0]`, `"$"`, `#-1`, `@`, `:a`, `?1`, `%s`, `%!d`, `--`, `-- x`, `/*`, `*/`, `/* x */`, `;`, `a;b`, `"; DROP TABLE canary; --`,
	`'); DROP TABLE canary; --`, `" BEGIN SELECT 1; END; --`, `a"b`, `a'b`, `a\b`, `a"b'c\d[e]`, `<&>`, `{"a":1}`, `a,b`, `a b`, `0`, `1e9`, `x'00'`,
	`sqlite_x`, `sqlite_schema`, `_sync_dirty_rows`, `_Sync_x`, `_sync_scope_id`, `_SYNC_SCOPE_ID`, `trg_kids_ai`, `trg_canary_ai`, `last_sync_at`,
	`schema_name`, `table_name`, `key_json`, `payload`, `deleted`, `row_version`, `dirty_ordinal`, `op`, `b`, `r`, `c`, `p`, `q`, `taken`,
	strings.Repeat("x", 1000), strings.Repeat(`"`, 1000), strings.Repeat("é", 500),
}

// The flags of a hostile schema.
const (
	blobKey      = 1 << iota // the key is a UUID
	noRowid                  // the table is WITHOUT ROWID
	otherCase                // the configuration spells names in upper case
	uniformFlag              // the server speaks the uniform contract
	selfRefering             // the column refers to the key of its own table
)

// hostileSchema is a schema with names from anywhere, and the values of its rows.
type hostileSchema struct {
	table, key, column, schema string
	flags                      uint8
	text                       string
	n                          int64
	x                          float64
	blob                       []byte
}

func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func (h *hostileSchema) has(flag uint8) bool { return h.flags&flag != 0 }

// canaryDDL is what nobody may touch: also a trigger that is named as those of the engine are, and speaks of syncing.
const canaryDDL = `
CREATE TABLE canary (id TEXT PRIMARY KEY NOT NULL, last_sync_at TEXT);
CREATE TABLE canary_log (id TEXT, at_sync_dirty_rows);
CREATE INDEX canary_index ON canary (last_sync_at);
CREATE VIEW canary_view AS SELECT id FROM canary;
CREATE TRIGGER trg_canary_ai AFTER INSERT ON canary BEGIN INSERT INTO canary_log VALUES (NEW.id, NEW.last_sync_at); END;
INSERT INTO canary VALUES ('a', 'never'), ('b', NULL);`

// ddl creates the table under test, and one that refers to it where it can.
func (h *hostileSchema) ddl() string {
	keyType, column, end := `TEXT`, `TEXT UNIQUE`, ``
	if h.has(blobKey) {
		keyType = `BLOB`
	}
	if h.has(selfRefering) {
		column = fmt.Sprintf(`%s REFERENCES %s (%s) DEFERRABLE INITIALLY DEFERRED`, keyType, ident(h.table), ident(h.key))
	}
	if h.has(noRowid) {
		end = ` WITHOUT ROWID`
	}
	target, kind := h.column, `TEXT`
	if h.has(selfRefering) {
		target, kind = h.key, keyType
	}
	return fmt.Sprintf(`CREATE TABLE %s (%s %s PRIMARY KEY NOT NULL, %s %s, n INTEGER, x REAL, b BLOB)%s;
CREATE TABLE kids (id TEXT PRIMARY KEY NOT NULL, ref %s REFERENCES %s (%s) DEFERRABLE INITIALLY DEFERRED)`,
		ident(h.table), ident(h.key), keyType, ident(h.column), column, end, kind, ident(h.table), ident(target))
}

// fit reports whether the engine has to take the schema, which SQLite has taken.
func (h *hostileSchema) fit() bool {
	for _, name := range []string{h.table, h.key, h.schema} {
		if strings.TrimSpace(name) == "" {
			return false
		}
	}
	for _, name := range []string{h.table, h.key, h.column, h.schema} {
		if !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			return false
		}
	}
	columns := map[string]bool{}
	for _, c := range []string{h.key, h.column, "n", "x", "b"} {
		if columns[strings.ToLower(c)] || strings.EqualFold(c, "_sync_scope_id") {
			return false
		}
		columns[strings.ToLower(c)] = true
	}
	for _, suffix := range []string{"_bi_guard", "_bu_guard", "_bd_guard", "_ai", "_au", "_ad"} {
		if strings.EqualFold(h.table, "trg_kids"+suffix) {
			return false
		}
	}
	if slices.Contains([]string{"kids", "canary", "canary_log", "canary_view"}, strings.ToLower(h.table)) {
		return false // to SQLite they can be two
	}
	return !strings.Contains(h.table, ".") && !strings.HasPrefix(strings.ToLower(h.table), "_sync_")
}

func (h *hostileSchema) config(path string) Config {
	spell := func(s string) string { return s }
	if h.has(otherCase) {
		spell = func(s string) string { // as SQLite folds case
			b := []byte(s)
			for i, c := range b {
				if 'a' <= c && c <= 'z' {
					b[i] = c - 'a' + 'A'
				}
			}
			return string(b)
		}
	}
	return Config{Path: path, Schema: h.schema, Synchronous: "NORMAL", Tables: []TableConfig{{spell(h.table), spell(h.key)}, {"kids", "id"}}}
}

// hostileRow is the content of a row of the table under test.
type hostileRow struct {
	key, column any // string, or []byte
	n           int64
	x           float64
	b           []byte
}

// row makes a row of the schema's values; i tells rows apart.
func (h *hostileSchema) row(i int) hostileRow {
	text := strings.ReplaceAll(strings.ToValidUTF8(h.text, "?"), "\x00", "0")
	const safe = 1 << 52 // every dialect carries it
	r := hostileRow{key: fmt.Sprintf("k%d%s", i, text), column: fmt.Sprintf("%s%d", text, i), n: h.n%safe + int64(i), x: h.x, b: append([]byte{byte(i)}, h.blob...)}
	if math.IsNaN(r.x) || math.IsInf(r.x, 0) {
		r.x = -0.5
	}
	if h.has(blobKey) {
		id := make([]byte, 16)
		copy(id[1:], text)
		id[0] = byte(i)
		r.key = id
	}
	if h.has(selfRefering) {
		r.column = r.key
	}
	return r
}

func (r *hostileRow) args() []any { return []any{r.key, r.column, r.n, r.x, r.b} }

// values is the row as the codecs have it.
func (r *hostileRow) values() []wire.Value {
	var out []wire.Value
	for _, v := range r.args() {
		switch v := v.(type) {
		case string:
			out = append(out, wire.Value{Type: wire.Text, Bytes: []byte(v)})
		case []byte:
			out = append(out, wire.Value{Type: wire.Blob, Bytes: v})
		case int64:
			out = append(out, wire.Value{Type: wire.Integer, Int: v})
		case float64:
			out = append(out, wire.Value{Type: wire.Real, Float: v})
		}
	}
	return out
}

// spelled is the row as a reader of JSON who knows nothing of the codecs sees it, in local or in wire form.
func (h *hostileSchema) spelled(r hostileRow, payload []byte, local bool) error {
	var got map[string]any
	if err := json.Unmarshal(payload, &got); err != nil {
		return err
	}
	bytes := func(v any) any {
		b, ok := v.([]byte)
		switch {
		case !ok:
			return v
		case local:
			return hex.EncodeToString(b)
		}
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	}
	want := map[string]any{strings.ToLower(h.key): bytes(r.key), strings.ToLower(h.column): bytes(r.column)}
	for name, v := range want {
		if got[name] != v {
			return fmt.Errorf("%q is %q, want %q", name, got[name], v)
		}
	}
	if len(got) != 5 {
		return fmt.Errorf("%d members", len(got))
	}
	if n := fmt.Sprint(got["n"]); (local || h.has(uniformFlag)) && n != strconv.FormatInt(r.n, 10) || n == "<nil>" {
		return fmt.Errorf("n is %s, want %d", n, r.n)
	}
	return nil
}

func (h *hostileSchema) contract(t testing.TB) wire.Contract {
	name := wire.ClassicContract
	if h.has(uniformFlag) {
		name = wire.UniformContract
	}
	c, err := wire.ContractByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// FuzzIdentifiers: whatever tables and columns are called, either Open refuses them by a *local.ConfigError and changes
// nothing, or what is written into them is captured, sent, settled, pulled and taken back exactly, and nothing else in the
// file is touched.
func FuzzIdentifiers(f *testing.F) {
	few := 1
	if race.Enabled || flag.Lookup("test.fuzz").Value.String() != "" {
		few = 10 // SQLite crawls under the race detector, and under what watches coverage: there is more to find than in the rest of these
	}
	var taken []string // by the engine as well, wherever they stand
	for i, name := range hostileNames {
		if !(&hostileSchema{table: name, key: name, schema: name}).fit() {
			if i%few > 0 {
				continue
			}
			f.Add(name, `id`, `title`, `main`, uint8(i), name, int64(i), 0.1, []byte(name))
			f.Add(`t`, name, `title`, `main`, uint8(i+1), name, int64(-i), 1e300, []byte{})
			f.Add(`t`, `id`, name, `main`, uint8(i+2), name, int64(1)<<50, math.Copysign(0, -1), []byte{0, 255})
			f.Add(`t`, `id`, `title`, name, uint8(i+3), name, int64(0), 5e-324, []byte{})
			continue
		}
		taken = append(taken, name)
	}
	for i := 0; i < len(taken); i += few {
		name := func(n int) string { return taken[(i+n*n)%len(taken)] }
		f.Add(name(0), name(1), name(2), name(3), uint8(i), name(0), int64(i), float64(i)/3, []byte(name(0)))
	}
	f.Fuzz(func(t *testing.T, table, key, column, schema string, flags uint8, text string, n int64, x float64, blob []byte) {
		if len(table)+len(key)+len(column)+len(schema)+len(text)+len(blob) > 8000 {
			return // a statement of such a size takes SQLite longer than it tells
		}
		h := &hostileSchema{table, key, column, schema, flags, text, n, x, blob}
		h.check(t)
	})
}

func (h *hostileSchema) check(t *testing.T) {
	cfg := h.config(t.TempDir() + "/app.db")
	plain(t, cfg.Path, canaryDDL)
	first := h.row(1)
	created := h.create(t, cfg.Path, first)
	before := dumpFile(t, cfg.Path)

	db, err := Open(t.Context(), cfg)
	if err != nil {
		var bad *local.ConfigError
		switch {
		case !errors.As(err, &bad):
			t.Fatalf("Open: %v", err)
		case created && h.fit():
			t.Fatalf("refused: %v", err)
		}
		same(t, "the file after a refusal", dumpFile(t, cfg.Path), before)
		return
	}
	defer db.Close()
	if !created || !h.fit() {
		t.Fatalf("opened: created %v", created)
	}
	asServer(t, db, fmt.Sprintf(`UPDATE _sync_attachment_state SET binding_state = 'attached', attached_user_id = 'ada', schema_name = %s`, literal(h.schema)),
		`INSERT OR REPLACE INTO _sync_engine_state VALUES ('`+engineContract+`', '`+string(h.contract(t).Name())+`')`)
	h.live(t, db, first)
	if t.Failed() {
		return
	}
	if err := db.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	after := dumpFile(t, cfg.Path)
	after[h.table], before[h.table] = nil, nil // has been looked at
	after["kids"], before["kids"] = nil, nil
	for name, want := range before {
		same(t, "afterwards, "+name, after[name], want)
	}
	same(t, "tables afterwards", len(after), len(before))
}

// create makes the tables and a row, and reports whether SQLite has them.
func (h *hostileSchema) create(t testing.TB, path string, first hostileRow) bool {
	c, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if strings.ContainsRune(h.table+h.key+h.column, 0) {
		return false // SQL ends there
	}
	if c.Exec(`BEGIN; `+h.ddl()) != nil {
		_ = c.Exec(`ROLLBACK`)
		return false
	}
	s, _, err := c.Prepare(`INSERT INTO ` + ident(h.table) + ` VALUES (?, ?, ?, ?, ?)`)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bindRow(s, 1, first.values()), s.Exec(), s.Close(), c.Exec(`COMMIT`)); err != nil {
		t.Fatal(err)
	}
	return true
}

// live takes rows through everything that can happen to them.
func (h *hostileSchema) live(t *testing.T, db *DB, first hostileRow) {
	second := h.row(2)
	exec(t, db, `INSERT INTO `+ident(h.table)+` VALUES (?, ?, ?, ?, ?)`, second.args()...)
	h.captured(t, db, "INSERT", first, second)
	h.pushed(t, db, 1, wire.OpInsert, first, second)

	// A local change knows what the server had.
	old := second
	second.n, second.b = 7, nil
	exec(t, db, fmt.Sprintf(`UPDATE %s SET n = 7, b = x'' WHERE %s IS ? AND %s IS ?`, ident(h.table), ident(h.key), ident(h.column)), second.key, second.column)
	second.b = []byte{}
	h.captured(t, db, "UPDATE", second)
	h.holds(t, db, "base row", `SELECT payload FROM _sync_base_rows`, old)
	h.pushed(t, db, 2, wire.OpUpdate, second)

	// Another device changes a row and makes one.
	first.n, first.x = 8, 0.25
	third := h.row(3)
	h.pulled(t, db, 3, first, third)
	same(t, "captured of a pull", dirty(t, db), []string{})

	h.collided(t, db, third)
	if h.has(selfRefering) {
		h.inPieces(t, db)
	}
	h.setAside(t, db)
	h.only(t, db, third)
	same(t, "canary", rows(t, db, `SELECT * FROM canary, canary_log`), []string{"a|never|a|never", "a|never|b|∅", "b|∅|a|never", "b|∅|b|∅"})
	h.detached(t, db)
}

// managed is the table under test as the engine sees it.
func (h *hostileSchema) managed(t testing.TB, db *DB) *table {
	tb := db.byName[strings.ToLower(h.table)]
	if tb == nil || tb.local != h.table {
		t.Fatalf("%q is not managed: %v", h.table, tb)
	}
	return tb
}

// holds checks that a query answers payloads in local form that hold the rows.
func (h *hostileSchema) holds(t *testing.T, db *DB, what, query string, want ...hostileRow) {
	t.Helper()
	got := rows(t, db, query)
	if len(got) != len(want) {
		t.Fatalf("%s: %q, want %d", what, got, len(want))
	}
	decoder := wire.NewLocalDecoder(&h.managed(t, db).Table)
	for i, payload := range got {
		values, err := decoder.Decode([]byte(payload))
		if err != nil || !wire.SameValues(values, want[i].values()) {
			t.Fatalf("%s: %s holds %v, %v, want %v", what, payload, values, err, want[i].values())
		}
		if err := h.spelled(want[i], []byte(payload), true); err != nil {
			t.Fatalf("%s: %s: %v", what, payload, err)
		}
	}
}

func (h *hostileSchema) captured(t *testing.T, db *DB, op string, want ...hostileRow) {
	t.Helper()
	for range want {
		same(t, "intents", rows(t, db, `SELECT DISTINCT schema_name, table_name, op FROM _sync_dirty_rows`), []string{h.schema + "|" + strings.ToLower(h.table) + "|" + op})
	}
	h.holds(t, db, "captured", `SELECT payload FROM _sync_dirty_rows ORDER BY dirty_ordinal`, want...)
	mustVerify(t, db)
}

// pushed freezes what is dirty, checks it, and settles it as a server that changes nothing has it at seq.
func (h *hostileSchema) pushed(t *testing.T, db *DB, seq int64, op wire.Op, want ...hostileRow) {
	t.Helper()
	c := h.contract(t)
	frozen, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: c.Name()})
	if err != nil {
		t.Fatal(err)
	}
	out := sent(t, db)
	if len(out) != len(want) {
		t.Fatalf("sent: %v, want %d rows", out, len(want))
	}
	decoder := c.NewRowDecoder(&h.managed(t, db).Table)
	b := wire.Bundle{BundleMeta: wire.BundleMeta{Seq: seq, SourceID: frozen.Outbox.SourceID, SourceBundleID: frozen.Outbox.SourceBundleID, RowCount: int64(len(out)), RequestHash: frozen.Outbox.RequestHash}}
	for i, r := range out {
		if r.Schema != h.schema || r.Table != strings.ToLower(h.table) || r.Op != op || r.Key.Column != strings.ToLower(h.key) {
			t.Fatalf("sent: %+v", r)
		}
		values, err := decoder.Decode(r.Payload)
		if err != nil || !wire.SameValues(values, want[i].values()) {
			t.Fatalf("sent: %s holds %v, %v, want %v", r.Payload, values, err, want[i].values())
		}
		if err := h.spelled(want[i], r.Payload, false); err != nil {
			t.Fatalf("sent: %s: %v", r.Payload, err)
		}
		key, err := wire.KeyValue(&h.managed(t, db).Table, r.Key)
		if err != nil || !wire.SameValues([]wire.Value{key}, want[i].values()[:1]) {
			t.Fatalf("sent: key %v, %v", r.Key, err)
		}
		b.Rows = append(b.Rows, wire.Row{Schema: r.Schema, Table: r.Table, Key: r.Key, Op: r.Op, RowVersion: seq, Payload: r.Payload})
	}
	hash := c.NewBundleHash()
	for i := range b.Rows {
		if err := hash.Add(&b.Rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	b.Hash = hash.Sum()
	markCommitted(t, db, b)
	replayed, err := db.Replay(t.Context(), c, b, false)
	if err != nil || replayed.Rows != int64(len(want)) {
		t.Fatalf("%+v, %v", replayed, err)
	}
	same(t, "dirty after a push", dirty(t, db), []string{})
	mustVerify(t, db)
}

// sentBy are rows as another device's bundle at seq has them.
func (h *hostileSchema) sentBy(t *testing.T, db *DB, seq int64, all ...hostileRow) []wire.Row {
	tb := h.managed(t, db)
	var out []wire.Row
	for _, r := range all {
		payload, err := h.contract(t).AppendPayload(nil, &tb.Table, r.values())
		if err != nil {
			t.Fatal(err)
		}
		key := wire.Key{Column: strings.ToLower(h.key)}
		switch k := r.key.(type) {
		case string:
			key.Value = k
		case []byte:
			key.Value = fmt.Sprintf("%x-%x-%x-%x-%x", k[:4], k[4:6], k[6:8], k[8:10], k[10:])
		}
		out = append(out, wire.Row{Schema: h.schema, Table: tb.Name, Key: key, Op: wire.OpInsert, RowVersion: seq, Payload: payload})
	}
	return out
}

func (h *hostileSchema) apply(t *testing.T, db *DB, seq int64, all ...wire.Row) local.Applied {
	t.Helper()
	b := wire.Bundle{BundleMeta: wire.BundleMeta{Seq: seq, SourceID: "elsewhere", SourceBundleID: seq, RowCount: int64(len(all))}, Rows: all}
	out, err := db.ApplyBundles(t.Context(), h.contract(t), []wire.Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	mustVerify(t, db)
	return out
}

// pulled applies rows of another device and looks for them in the table.
func (h *hostileSchema) pulled(t *testing.T, db *DB, seq int64, want ...hostileRow) {
	t.Helper()
	if out := h.apply(t, db, seq, h.sentBy(t, db, seq, want...)...); out.Bundles != 1 || out.Rows != int64(len(want)) {
		t.Fatalf("%+v", out)
	}
	for _, r := range want {
		if n := number(t, db, fmt.Sprintf(`SELECT COUNT(*) FROM %s WHERE %s IS ? AND %s IS ? AND n IS ? AND x IS ? AND b IS ?`, ident(h.table), ident(h.key), ident(h.column)), r.args()...); n != 1 {
			t.Fatalf("%d rows are %v", n, r)
		}
	}
}

// collided deletes a row to which another device refers: the intent is told.
func (h *hostileSchema) collided(t *testing.T, db *DB, r hostileRow) {
	t.Helper()
	exec(t, db, fmt.Sprintf(`DELETE FROM %s WHERE %s IS ?`, ident(h.table), ident(h.key)), r.key)
	keyJSON := rows(t, db, `SELECT key_json FROM _sync_dirty_rows WHERE op = 'DELETE'`)
	h.holds(t, db, "base row", `SELECT payload FROM _sync_base_rows`, r)
	value := r.values()[1]
	kids := db.byName["kids"]
	payload, err := h.contract(t).AppendPayload(nil, &kids.Table, []wire.Value{{Type: wire.Text, Bytes: []byte("kid")}, value})
	if err != nil {
		t.Fatal(err)
	}
	kid := wire.Row{Schema: h.schema, Table: "kids", Key: wire.Key{Column: "id", Value: "kid"}, Op: wire.OpInsert, RowVersion: 4, Payload: payload}
	out := h.apply(t, db, 4, kid)
	want := &local.Collision{BundleSeq: 4, Cause: "foreign_key", Intents: []local.IntentKey{{Table: strings.ToLower(h.table), KeyJSON: keyJSON[0]}}}
	same(t, "collision", out.Collision, want)
	// The row comes back here, and the kid with it.
	r.n++
	exec(t, db, `INSERT INTO `+ident(h.table)+` VALUES (?, ?, ?, ?, ?)`, r.args()...)
	if out := h.apply(t, db, 4, kid); out.Bundles != 1 {
		t.Fatalf("%+v", out)
	}
	h.captured(t, db, "UPDATE", r)
	h.pushed(t, db, 5, wire.OpUpdate, r)
}

// inPieces pushes the deletion of rows that refer to each other in bundles of one row, as far as they may be parted.
func (h *hostileSchema) inPieces(t *testing.T, db *DB) {
	t.Helper()
	four, five := h.row(4), h.row(5)
	five.column = four.key
	h.pulled(t, db, 6, four, five)
	exec(t, db, fmt.Sprintf(`UPDATE %s SET n = n + 1 WHERE %s IN (?, ?)`, ident(h.table), ident(h.key)), four.key, five.key)
	exec(t, db, fmt.Sprintf(`DELETE FROM %s WHERE %s IN (?, ?)`, ident(h.table), ident(h.key)), four.key, five.key)
	c, total := h.contract(t), 0
	for more := true; more; {
		f, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: c.Name(), MaxRows: 1})
		if err != nil {
			t.Fatal(err)
		}
		total += len(sent(t, db))
		if more = f.More; f.Outbox.State == local.OutboxNone || total > 2 {
			t.Fatalf("%d rows in pieces: %+v", total, f)
		}
		commit(t, db)
		mustVerify(t, db)
	}
	same(t, "rows in pieces", total, 2)
	same(t, "dirty after all pieces", dirty(t, db), []string{})
}

// setAside makes a row that cannot be sent, and one that refers to it: both go into quarantine.
func (h *hostileSchema) setAside(t *testing.T, db *DB) {
	t.Helper()
	r := h.row(6)
	r.x = math.Inf(1)
	exec(t, db, `INSERT INTO `+ident(h.table)+` VALUES (?, ?, ?, ?, ?)`, r.args()...)
	exec(t, db, `INSERT INTO kids VALUES ('late', ?)`, r.column)
	out, err := db.SetAsideUnfit(t.Context(), h.contract(t).Name())
	if err != nil || len(out) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	mustVerify(t, db)
	exec(t, db, `DELETE FROM kids WHERE id = 'late'`)
	exec(t, db, fmt.Sprintf(`DELETE FROM %s WHERE %s IS ?`, ident(h.table), ident(h.key)), r.key)
	if f, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: h.contract(t).Name()}); err != nil || f.Outbox.State != local.OutboxNone {
		t.Fatalf("%+v, %v", f, err)
	}
	mustVerify(t, db)
}

// only pushes the deletion of a row alone: what refers to it on the server goes with it.
func (h *hostileSchema) only(t *testing.T, db *DB, r hostileRow) {
	t.Helper()
	exec(t, db, `DELETE FROM kids`)
	exec(t, db, fmt.Sprintf(`DELETE FROM %s WHERE %s IS ?`, ident(h.table), ident(h.key)), r.key)
	key := rows(t, db, `SELECT key_json FROM _sync_dirty_rows WHERE table_name <> 'kids'`)
	if _, err := db.Freeze(t.Context(), local.FreezeRequest{Contract: h.contract(t).Name(), Only: []local.IntentKey{{Table: strings.ToLower(h.table), KeyJSON: key[0]}}}); err != nil {
		t.Fatal(err)
	}
	if out := sent(t, db); len(out) != 2 || out[0].Table != "kids" {
		t.Fatalf("sent: %+v", out)
	}
	commit(t, db)
	mustVerify(t, db)
}

// detached leaves the database: no row of the user's stays.
func (h *hostileSchema) detached(t *testing.T, db *DB) {
	t.Helper()
	out, err := db.Detach(t.Context())
	if err != nil || out.Blocked {
		t.Fatalf("%+v, %v", out, err)
	}
	same(t, "tables that Detach has emptied", []string(out.Tables), []string{strings.ToLower(h.table)})
	same(t, "left behind", number(t, db, `SELECT (SELECT COUNT(*) FROM `+ident(h.table)+`) + (SELECT COUNT(*) FROM kids)`), int64(0))
	mustVerify(t, db)
}
