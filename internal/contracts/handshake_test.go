package contracts

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
)

// handshakeCase is a case of protocol-handshake/connect.json.
type handshakeCase struct {
	Capabilities scripted
	Connect      *scripted
	Local        struct{ HasLocalPendingRows bool }
	Expected     struct {
		ConnectLifecycleSupported bool
		ConnectCalled             bool
		AttachKind                string
		AttachOutcome             string
		RetryAfterSeconds         int
		BindingState              *string
		PendingInitializationID   *string
	}
}

var attachOutcomes = map[string]oversqlite.AttachOutcome{
	"startedEmpty": oversqlite.StartedEmpty, "seededFromLocal": oversqlite.SeededFromLocal,
	"usedRemoteState": oversqlite.UsedRemoteState, "resumedAttachedState": oversqlite.ResumedAttachedState,
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	each(t, "protocol-handshake/connect.json", func(t *testing.T, d *dialect, c *handshakeCase) {
		s := newServer(t, d)
		s.on("GET /sync/capabilities", func(request) *answer {
			a := c.Capabilities.answer()
			a.body = d.told(t, c.Capabilities.Body)
			return a
		})
		if c.Connect != nil {
			s.on("POST /sync/connect", func(r request) *answer {
				sameJSON(t, "connect", json.RawMessage(r.Body), object{"has_local_pending_rows": c.Local.HasLocalPendingRows})
				return c.Connect.answer()
			})
		}
		s.on("POST /sync/snapshot-sessions", func(request) *answer {
			return ok(object{"snapshot_id": "empty", "snapshot_bundle_seq": 0, "row_count": 0, "byte_count": 0, "expires_at": "2099-01-01T00:00:00Z"})
		})
		s.on("GET /sync/snapshot-sessions/{id}", func(request) *answer {
			page := object{"snapshot_id": "empty", "snapshot_bundle_seq": 0, "rows": []any{}, "next_row_ordinal": 0, "has_more": false}
			if d.uniform {
				page["byte_count"] = 0
			}
			return ok(page)
		})
		s.on("DELETE /sync/snapshot-sessions/{id}", func(request) *answer { return &answer{status: http.StatusNoContent} })
		dev := newClient(t, s, statements(usersTable), "main", usersOnly).mustOpen()
		if c.Local.HasLocalPendingRows {
			dev.sql([]string{`INSERT INTO users (id, name) VALUES ('user-1', 'Ada')`}, false)
		}
		result, err := dev.engine.Attach(t.Context(), userID)
		c.compare(t, s, dev, result, err)
	})
}

func (c *handshakeCase) compare(t *testing.T, s *server, dev *client, result oversqlite.AttachResult, err error) {
	t.Helper()
	want := []string{"GET /sync/capabilities"}
	if c.Expected.ConnectCalled {
		want = append(want, "POST /sync/connect")
	}
	got := slices.DeleteFunc(s.seen(), func(r string) bool { return r != want[0] && r != "POST /sync/connect" })
	same(t, "requests", got, want)
	for _, r := range s.requests {
		same(t, "source id", r.Source, dev.source())
	}
	switch c.Expected.AttachKind {
	case "unsupportedCapability":
		if !as[*oversqlite.LifecycleUnsupportedError](err) {
			t.Errorf("got %#v, %v", result, err)
		}
	case "retryLater":
		later, _ := result.(oversqlite.RetryLater)
		if err != nil || later.RetryAfter != time.Duration(c.Expected.RetryAfterSeconds)*time.Second {
			t.Errorf("got %#v, %v", result, err)
		}
	case "connected":
		connected, _ := result.(oversqlite.Connected)
		if err != nil || connected.Outcome == "" || connected.Outcome != attachOutcomes[c.Expected.AttachOutcome] {
			t.Errorf("got %#v, %v", result, err)
		}
	default:
		t.Fatalf("an attach of kind %q is not known", c.Expected.AttachKind)
	}
	if c.Expected.BindingState != nil {
		same(t, "binding", textOf(value(t, dev.db(), `SELECT binding_state FROM _sync_attachment_state`)), *c.Expected.BindingState)
	}
	if c.Expected.PendingInitializationID != nil {
		same(t, "lease", textOf(value(t, dev.db(), `SELECT pending_initialization_id FROM _sync_attachment_state`)), *c.Expected.PendingInitializationID)
	}
}

// tableCase is one of the contractCases of protocol-handshake/connect.json: what the server says it syncs.
type tableCase struct {
	LocalSpecs []tableSpec
	Advertised json.RawMessage
	Expected   struct {
		Kind                               string
		ServerOnlyTables, ClientOnlyTables []string
		SyncKeyMismatches                  []struct {
			QualifiedTable                             string
			ClientSyncKeyColumns, ServerSyncKeyColumns []string
		}
	}
}

type tableSpec struct {
	Schema  string
	Table   string
	Columns []string `json:"sync_key_columns"`
}

func TestHandshakeTables(t *testing.T) {
	t.Parallel()
	const family, member = "protocol-handshake/connect.json", "contractCases"
	for _, fc := range casesOf(t, family, member) {
		for _, d := range dialects {
			t.Run(fc.Name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				begin(t, d, family+" "+member, fc.Name)
				var c tableCase
				decode(t, fc.body, &c)
				c.run(t, d)
			})
		}
	}
}

func (c *tableCase) run(t *testing.T, d *dialect) {
	s := newServer(t, d)
	var ddl []string
	var tables []tableConfig
	for _, spec := range c.LocalSpecs {
		ddl = append(ddl, `CREATE TABLE `+spec.Table+` (`+spec.Columns[0]+` TEXT PRIMARY KEY NOT NULL, name TEXT)`)
		tables = append(tables, tableConfig{TableName: spec.Table, SyncKeyColumns: spec.Columns})
	}
	s.capable(func(int) any {
		caps := d.capabilities(c.LocalSpecs[0].Schema, tables)
		if c.Advertised == nil {
			delete(caps, "registered_table_specs")
		} else {
			caps["registered_table_specs"] = c.Advertised
		}
		return caps
	})
	s.connects(defaultResolution)
	dev := newClient(t, s, ddl, c.LocalSpecs[0].Schema, tables).mustOpen()
	_, err := dev.engine.Attach(t.Context(), userID)
	if kind := c.Expected.Kind; kind != "match" && s.count("POST /sync/connect") != 0 {
		t.Error("it connected all the same")
	}
	var mismatch *oversqlite.TableContractMismatchError
	switch c.Expected.Kind {
	case "match":
		if err != nil {
			t.Error(err)
		}
	case "mismatch":
		if !errors.As(err, &mismatch) {
			t.Fatalf("got %T %v", err, err)
		}
		want := c.Expected
		got := want
		got.ServerOnlyTables = append([]string{}, mismatch.ServerOnlyTables...)
		got.ClientOnlyTables = append([]string{}, mismatch.ClientOnlyTables...)
		got.SyncKeyMismatches = got.SyncKeyMismatches[:0:0]
		for _, m := range mismatch.SyncKeyMismatches {
			got.SyncKeyMismatches = append(got.SyncKeyMismatches, struct {
				QualifiedTable                             string
				ClientSyncKeyColumns, ServerSyncKeyColumns []string
			}{m.QualifiedTable, m.ClientSyncKeyColumns, m.ServerSyncKeyColumns})
		}
		sameJSON(t, "", got, want)
	case "invalid":
		if !as[*oversqlite.ProtocolError](err) {
			t.Errorf("got %T %v", err, err)
		}
	default:
		t.Fatalf("nothing is known of %q", c.Expected.Kind)
	}
}
