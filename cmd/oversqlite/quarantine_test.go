package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite"
)

func TestQuarantine(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	path := file(t)
	if code, _, complaint := command(t.Context(), "quarantine", "list", path); code != exitUsage || !strings.Contains(complaint, "no oversqlite engine has ever opened it") {
		t.Errorf("%d %s", code, complaint)
	}
	open := func() *oversqlite.Engine {
		t.Helper()
		engine, err := oversqlite.New(oversqlite.Config{
			Path: path, Schema: "business", Tables: businessTables(), ServerURL: a.url, HTTPClient: withToken(a.token), PoisonPolicy: oversqlite.PoisonIsolate,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = engine.Close() })
		if err := engine.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Attach(t.Context(), user); err != nil {
			t.Fatal(err)
		}
		return engine
	}
	engine := open()
	for _, id := range []string{"1", "2", "3"} {
		name := `'secret'`
		if id != "3" {
			name = `'secret' || char(0)`
		}
		if _, err := engine.DB().ExecContext(t.Context(), `INSERT INTO users (id, name, email) VALUES ('0000000`+id+`-1111-4111-8111-111111111111', `+name+`, 'e')`); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := engine.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}

	// While an engine has the file open it can be looked at, not changed.
	code, out, hint := command(t.Context(), "quarantine", "list", path)
	contains(t, out, "ID", "INSERT", "users", "00000001-1111", "nul_in_text")
	contains(t, hint, "quarantine retry")
	if code != 0 || strings.Contains(out, "secret") {
		t.Errorf("%d\n%s", code, out)
	}
	var list []setAside
	_, out, _ = command(t.Context(), "quarantine", "list", "--json", path)
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 || list[0].ID != 1 || list[0].Origin != "value" || list[0].Since == "" {
		t.Errorf("%v\n%s", err, out)
	}
	_, out, _ = command(t.Context(), "pending", path)
	contains(t, out, "set aside: nul_in_text")
	_, out, _ = command(t.Context(), "status", path)
	contains(t, out, "2 in quarantine")
	if code, _, complaint := command(t.Context(), "quarantine", "discard", path, "1"); code != exitUnreachable || !strings.Contains(complaint, "one engine") {
		t.Errorf("owned: %d %s", code, complaint)
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}

	for _, args := range [][]string{{"discard", path}, {"retry", path, "1", "--all"}} {
		if code, _, complaint := command(t.Context(), append([]string{"quarantine"}, args...)...); code != exitUsage || !strings.Contains(complaint, "--all") {
			t.Errorf("%v: %d %s", args, code, complaint)
		}
	}
	if code, _, complaint := command(t.Context(), "quarantine", "retry", path, "9"); code != exitAttention || !strings.Contains(complaint, "quarantine list") {
		t.Errorf("unknown: %d %s", code, complaint)
	}
	if code, out, complaint := command(t.Context(), "quarantine", "discard", path, "1"); code != 0 || out != "1 changes given up\n" {
		t.Errorf("discard: %d %s %s", code, out, complaint)
	}
	if code, out, complaint := command(t.Context(), "quarantine", "retry", path, "--all"); code != 0 || out != "1 changes wait for the next sync\n" {
		t.Errorf("retry: %d %s %s", code, out, complaint)
	}
	if _, out, _ := command(t.Context(), "quarantine", "list", path); out != "nothing in quarantine\n" {
		t.Errorf("%s", out)
	}
	_, out, _ = command(t.Context(), "pending", path)
	contains(t, out, "INSERT", "00000002-1111")
}
