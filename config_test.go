package oversqlite_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
)

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	good := oversqlite.Config{
		Path: "x.db", Schema: "business", ServerURL: "https://sync.example.com/v1",
		Tables: []oversqlite.Table{{Name: "notes", Key: "id"}},
	}
	e, err := oversqlite.New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		field  string
		change func(*oversqlite.Config)
	}{
		{"Path", func(c *oversqlite.Config) { c.Path = "" }},
		{"Path", func(c *oversqlite.Config) { c.Path = ":memory:" }},
		{"Path", func(c *oversqlite.Config) { c.Path = "file:x.db" }},
		{"Path", func(c *oversqlite.Config) { c.Path = "x\x00.db" }},
		{"Schema", func(c *oversqlite.Config) { c.Schema = "" }},
		{"Schema", func(c *oversqlite.Config) { c.Schema = "Business" }},
		{"Tables", func(c *oversqlite.Config) { c.Tables = nil }},
		{"Tables", func(c *oversqlite.Config) { c.Tables = []oversqlite.Table{{Key: "id"}} }},
		{"Tables", func(c *oversqlite.Config) { c.Tables = []oversqlite.Table{{Name: "notes"}} }},
		{"Tables", func(c *oversqlite.Config) { c.Tables = []oversqlite.Table{{Name: "main.notes", Key: "id"}} }},
		{"Tables", func(c *oversqlite.Config) { c.Tables = []oversqlite.Table{{Name: "_Sync_x", Key: "id"}} }},
		{"Tables", func(c *oversqlite.Config) {
			c.Tables = []oversqlite.Table{{Name: "notes", Key: "id"}, {Name: "Notes", Key: "id"}}
		}},
		{"ServerURL", func(c *oversqlite.Config) { c.ServerURL = "" }},
		{"ServerURL", func(c *oversqlite.Config) { c.ServerURL = "ftp://x" }},
		{"ServerURL", func(c *oversqlite.Config) { c.ServerURL = "https://x?y" }},
		{"ServerURL", func(c *oversqlite.Config) { c.ServerURL = "://" }},
		{"Contract", func(c *oversqlite.Config) { c.Contract = "esperanto" }},
		{"PullPolicy", func(c *oversqlite.Config) { c.PullPolicy = "x" }},
		{"PoisonPolicy", func(c *oversqlite.Config) { c.PoisonPolicy = "x" }},
		{"Synchronous", func(c *oversqlite.Config) { c.Synchronous = "off" }},
		{"ResolveTimeout", func(c *oversqlite.Config) { c.ResolveTimeout = -1 }},
		{"BusyTimeout", func(c *oversqlite.Config) { c.BusyTimeout = -1 }},
		{"Retry.Initial", func(c *oversqlite.Config) { c.Retry.Initial = -1 }},
		{"Retry.Max", func(c *oversqlite.Config) { c.Retry.Initial, c.Retry.Max = time.Minute, time.Second }},
		{"Retry.Multiplier", func(c *oversqlite.Config) { c.Retry.Multiplier = 0.5 }},
		{"Retry.Jitter", func(c *oversqlite.Config) { c.Retry.Jitter = 1.5 }},
		{"Limits.ConflictsAtOnce", func(c *oversqlite.Config) { c.Limits.ConflictsAtOnce = -1 }},
		{"Limits.PullBundles", func(c *oversqlite.Config) { c.Limits.PullBundles = -1 }},
		{"Limits.SnapshotBodyBytes", func(c *oversqlite.Config) { c.Limits.SnapshotBodyBytes = -1 }},
	}
	for _, c := range cases {
		cfg := good
		c.change(&cfg)
		e, err := oversqlite.New(cfg)
		var config *oversqlite.ConfigError
		if !errors.As(err, &config) || config.Field != c.field || config.Reason == "" || config.Retryable() {
			t.Errorf("%s: %v", c.field, err)
		}
		if e != nil {
			t.Errorf("%s: an engine all the same", c.field)
		}
	}
}

// Credentials in a URL are not repeated in an error.
func TestConfigErrorKeepsSecrets(t *testing.T) {
	t.Parallel()
	_, err := oversqlite.New(oversqlite.Config{
		Path: "x.db", Schema: "s", Tables: []oversqlite.Table{{Name: "t", Key: "id"}}, ServerURL: "https://me:hunter2@x?y",
	})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatal(err)
	}
}

func TestUserTablesThatCannotBeSynced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.device("ann", func(c *oversqlite.Config) { c.Tables = []oversqlite.Table{{Name: "tags", Key: "id"}} })
	var config *oversqlite.ConfigError
	if err := d.Open(t.Context()); !errors.As(err, &config) || config.Table != "tags" { // references notes, which is not synced
		t.Fatal(err)
	}
}
