package contracts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/sqlite"
	"github.com/oversqlite/oversqlite/wire"
)

const canonicalFamily = "canonical-json/jcs-uniform-numeric-strings.json"

// valueCase is a value on its way: as it is stored here, as it is sent, and as the server sends it back.
type valueCase struct {
	LocalSQLite struct {
		StorageClass string `json:"storage_class"`
		ValueText    string `json:"value_text"`
	} `json:"local_sqlite"`
	UploadedWire    json.RawMessage `json:"uploaded_wire"`
	CommittedServer json.RawMessage `json:"committed_server"`
}

func TestCanonicalHead(t *testing.T) {
	t.Parallel()
	var head struct {
		ContractID string `json:"contract_id"`
		Version    int    `json:"fixture_schema_version"`
		Protocol   string `json:"required_protocol_version"`
	}
	read(t, canonicalFamily, &head)
	same(t, "contract", head.ContractID, string(uniform.as))
	same(t, "version", head.Version, 1)
	same(t, "protocol", head.Protocol, wire.ProtocolVersion)
}

// Values are stored, captured by the triggers and spelled for the wire; what the server makes of them is decoded.
func TestCanonicalValues(t *testing.T) {
	t.Parallel()
	for _, member := range []string{"integer_cases", "decimal_cases", "float_cases", "boolean_cases"} {
		for _, fc := range casesOf(t, canonicalFamily, member) {
			for _, d := range both {
				t.Run(fc.Name+"/"+d.name, func(t *testing.T) {
					t.Parallel()
					begin(t, d, canonicalFamily+" "+member, fc.Name)
					var c valueCase
					decode(t, fc.body, &c)
					c.run(t, d)
				})
			}
		}
	}
}

func (c *valueCase) run(t *testing.T, d *dialect) {
	cfg := sqlite.Config{Path: filepath.Join(t.TempDir(), "app.db"), Schema: "main", Tables: []sqlite.TableConfig{{Name: "v", Key: "id"}}}
	plain(t, cfg.Path, `CREATE TABLE v (id TEXT PRIMARY KEY NOT NULL, x `+c.LocalSQLite.StorageClass+`)`)
	db, err := sqlite.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.App().ExecContext(t.Context(), `INSERT INTO v VALUES ('a', CAST(? AS `+c.LocalSQLite.StorageClass+`))`, c.LocalSQLite.ValueText); err != nil {
		t.Fatal(err)
	}
	table, k := db.Tables()[0], d.contract(t)
	row, err := wire.NewLocalDecoder(&table).Decode([]byte(textOf(value(t, db.App(), `SELECT payload FROM _sync_dirty_rows`))))
	if err != nil {
		t.Fatal(err)
	}
	sent, err := k.AppendPayload(nil, &table, row)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "uploaded", json.RawMessage(sent), object{"id": "a", "x": c.UploadedWire})
	if _, err := k.NewRowDecoder(&table).Decode(mustJSON(object{"id": "a", "x": c.CommittedServer})); err != nil {
		t.Error(err)
	}
}

// invalidCase is a value that a server must not send. Those of the families decimal and boolean are for servers to refuse.
type invalidCase struct {
	Name, Family, Outcome string
	Input                 json.RawMessage
}

func TestCanonicalRefusals(t *testing.T) {
	t.Parallel()
	columns := map[string]string{"integer": "INTEGER", "float": "REAL"}
	for _, fc := range casesOf(t, canonicalFamily, "invalid_cases") {
		var c invalidCase
		decode(t, fc.body, &c)
		if !slices.Contains([]string{"integer", "float", "decimal", "boolean"}, c.Family) || c.Outcome != "reject_before_mutation" {
			t.Fatalf("%s is of the family %s and ends with %s", c.Name, c.Family, c.Outcome)
		}
		for _, d := range both {
			t.Run(c.Name+"/"+d.name, func(t *testing.T) {
				begin(t, d, canonicalFamily+" invalid_cases", c.Name)
				table := wire.Table{Schema: "main", Name: "v", Columns: []wire.Column{
					{Name: "id", Kind: wire.KindOf("TEXT", false)}, {Name: "x", Kind: wire.KindOf(columns[c.Family], false)},
				}}
				if row, err := d.contract(t).NewRowDecoder(&table).Decode(mustJSON(object{"id": "a", "x": c.Input})); !as[*wire.ProtocolError](err) {
					t.Errorf("%s was taken for %v (%v)", c.Input, row, err)
				}
			})
		}
	}
}

// replayCase is a push that came back: the row as it was frozen, as the server has it, and as it stands here.
type replayCase struct {
	FrozenLocal     map[string]json.RawMessage `json:"frozen_local"`
	UploadedWire    map[string]json.RawMessage `json:"uploaded_wire"`
	CommittedServer map[string]json.RawMessage `json:"committed_server"`
	LiveLocal       map[string]json.RawMessage `json:"live_local"`
	Decision        string
}

var amounts = []tableConfig{{TableName: "amounts", SyncKeyColumnName: "id"}}

// The row is pushed; where the case has a later edit, it is made while the committed rows are on their way.
func TestCanonicalReplay(t *testing.T) {
	t.Parallel()
	for _, fc := range casesOf(t, canonicalFamily, "replay_cases") {
		for _, d := range dialects {
			t.Run(fc.Name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				begin(t, d, canonicalFamily+" replay_cases", fc.Name)
				var c replayCase
				decode(t, fc.body, &c)
				c.run(t, d)
			})
		}
	}
}

// sqlValue spells a value of the fixture, a string or a number, for SQL.
func sqlValue(t *testing.T, v json.RawMessage) string {
	t.Helper()
	var x any
	decode(t, v, &x)
	if s, isText := x.(string); isText {
		return "'" + s + "'"
	}
	return fmt.Sprint(x)
}

func (c *replayCase) run(t *testing.T, d *dialect) {
	f := newFake(t, d)
	f.capable(func(int) any { return d.capabilities("main", amounts) })
	f.connects(defaultResolution)
	f.amend = func(rows []bundleRow) []bundleRow {
		for i := range rows {
			sameJSON(t, "uploaded", rows[i].Payload, withID(c.UploadedWire))
			rows[i].Payload = mustJSON(withID(c.CommittedServer))
		}
		return rows
	}
	dev := newClient(t, f, []string{`CREATE TABLE amounts (id TEXT PRIMARY KEY NOT NULL, amount TEXT, ratio REAL)`}, "main", amounts).mustOpen().mustAttach()
	set := func(v map[string]json.RawMessage) []string {
		return []string{`UPDATE amounts SET amount = ` + sqlValue(t, v["amount"]) + `, ratio = ` + sqlValue(t, v["ratio"])}
	}
	f.onRows = func(*committedBundle, bool) *answer {
		if c.Decision == "preserve_later_local_edit_and_requeue" {
			if err := script(t.Context(), dev.db(), set(c.LiveLocal), false); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	f.routed()
	dev.sql(append([]string{`INSERT INTO amounts (id) VALUES ('a')`}, set(c.FrozenLocal)...), false)
	if r, err := dev.engine.PushPending(t.Context()); err != nil || r.Outcome != oversqlite.Committed {
		t.Fatalf("%+v, %v", r, err)
	}
	got := rowsOf(t, dev.db(), `SELECT amount, ratio FROM amounts`)[0]
	dirty := value(t, dev.db(), `SELECT COUNT(*) FROM _sync_dirty_rows`)
	want, pending := c.CommittedServer, int64(0)
	switch c.Decision {
	case "apply_committed_and_clear_dirty":
	case "preserve_later_local_edit_and_requeue":
		want, pending = c.LiveLocal, 1
	default:
		t.Fatalf("no decision %q", c.Decision)
	}
	same(t, "pending", dirty, any(pending))
	same(t, "amount", textOf(got["amount"]), unquoted(want["amount"]))
	same(t, "ratio", fmt.Sprint(got["ratio"]), unquoted(want["ratio"]))
}

func unquoted(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil {
		return string(v)
	}
	return s
}

func withID(v map[string]json.RawMessage) object {
	o := object{"id": "a"}
	for name, x := range v {
		o[name] = x
	}
	return o
}

// A server of another version is refused before anything is asked of it, and before anything is frozen.
func TestCanonicalVersions(t *testing.T) {
	t.Parallel()
	var file struct {
		Protocol struct {
			Rejections []struct{ Name, Actual, Category, Timing string } `json:"updated_client_rejections"`
		}
	}
	read(t, canonicalFamily, &file)
	if len(file.Protocol.Rejections) == 0 {
		t.Fatal("there is nothing to reject")
	}
	for _, r := range file.Protocol.Rejections {
		for _, d := range dialects {
			t.Run(r.Name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				begin(t, d, canonicalFamily+" updated_client_rejections", r.Name)
				same(t, "timing", r.Timing, "before_connect_or_outbox_freeze")
				s := newServer(t, d)
				s.capable(func(int) any {
					caps := d.capabilities("main", usersOnly)
					caps["protocol_version"] = r.Actual
					return caps
				})
				s.on("POST /sync/connect", func(request) *answer { return refused(http.StatusInternalServerError, "not_to_be_asked") })
				dev := newClient(t, s, statements(usersTable), "main", usersOnly).mustOpen()
				dev.sql([]string{`INSERT INTO users VALUES ('u', 'x')`}, false)
				_, err := dev.engine.Attach(t.Context(), userID)
				expectError(t, err, r.Category)
				same(t, "requests", s.seen(), []string{"GET /sync/capabilities"})
				same(t, "frozen", value(t, dev.db(), `SELECT COUNT(*) FROM _sync_outbox_rows`), any(int64(0)))
			})
		}
	}
}
