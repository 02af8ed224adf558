package oversqlite_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// Answers that no server of this protocol gives: each is a typed error, nothing of it is applied, nothing is lost, and
// when the server is itself again everything converges.
func TestAnswersThatBreakTheContract(t *testing.T) {
	t.Parallel()
	replace := func(old, with string) func([]byte) []byte {
		return func(body []byte) []byte { return bytes.ReplaceAll(body, []byte(old), []byte(with)) }
	}
	passing := func(err error) bool { return errors.As(err, new(*oversqlite.RetryExhaustedError)) }
	broken := func(err error) bool { return errors.As(err, new(*oversqlite.ProtocolError)) }
	elsewhere := func(err error) bool { return errors.As(err, new(*oversqlite.AddressError)) }
	cases := []struct {
		name  string
		fault devserver.Fault
		check func(error) bool
	}{
		{"no JSON", devserver.Fault{Endpoint: devserver.EndpointPull, Status: 200, Body: []byte(`<html>welcome to the hotel's network`)}, elsewhere},
		{"another shape", devserver.Fault{Endpoint: devserver.EndpointPull, Status: 200, Body: []byte(`[1,2,3]`)}, broken},
		{"wrong types", devserver.Fault{Endpoint: devserver.EndpointPull, Status: 200, Body: []byte(`{"stable_bundle_seq":"x","bundles":{},"has_more":0}`)}, broken},
		{"nested too deep", devserver.Fault{Endpoint: devserver.EndpointPull, Status: 200, Body: []byte(`{"x":` + strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000) + `}`)}, broken},
		{"cut off", devserver.Fault{Endpoint: devserver.EndpointPull, TruncateBody: 40}, passing},
		{"a changed row", devserver.Fault{Endpoint: devserver.EndpointPull, Corrupt: replace(`remote`, `romete`)}, broken},
		{"another schema's rows", devserver.Fault{Endpoint: devserver.EndpointPull, Corrupt: replace(`"schema":"main"`, `"schema":"evil"`)}, broken},
		{"an unknown table", devserver.Fault{Endpoint: devserver.EndpointPull, Corrupt: replace(`"table":"notes"`, `"table":"votes"`)}, broken},
		{"empty", devserver.Fault{Endpoint: devserver.EndpointPull, Status: 200, Body: []byte{' '}}, broken},
		{"503", devserver.Fault{Endpoint: devserver.EndpointPull, Status: 503, RetryAfter: time.Hour}, passing},
		{"502 in HTML", devserver.Fault{Endpoint: devserver.EndpointPull, Status: 502, Body: []byte(`<h1>Bad Gateway</h1>`)}, passing},
		{"cut before", devserver.Fault{CutBefore: true}, passing},
		{"404", devserver.Fault{Endpoint: devserver.EndpointPull, Status: 404, Body: []byte(`not found`)}, func(err error) bool {
			return err != nil && !passing(err)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b := w.ready("ann")
			a := w.ready("ann", func(cfg *oversqlite.Config) { cfg.Retry.MaxElapsed = 20 * time.Millisecond })
			a.sync()
			b.note("remote")
			b.sync()
			before := a.dump()
			fault := w.server.Inject(c.fault)
			_, err := a.PullToStable(t.Context())
			if !c.check(err) {
				t.Fatalf("%T %v", err, err)
			}
			if fault.Hits() == 0 {
				t.Fatal("the fault did not strike")
			}
			if strings.Contains(err.Error(), "romete") {
				t.Fatalf("row content in an error: %v", err)
			}
			if got := a.dump(); got != before {
				t.Fatalf("something was applied: %s", got)
			}
			a.note("written meanwhile")
			fault.Remove()
			a.Kick() // who was told to wait for an hour would
			converged(a, b)
		})
	}
}

// A column added on this side is a reason to rebuild, not to lose anything.
func TestColumnAddedBehindOurBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.ready("ann")
	id := a.note("one")
	a.sync()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = w.deviceAt("ann", a.path)
	a.open()
	a.exec(`ALTER TABLE notes ADD COLUMN colour TEXT`)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = w.deviceAt("ann", a.path).open()
	a.attach()
	if info, err := a.SourceInfo(t.Context()); err != nil || !info.RebuildRequired {
		t.Fatalf("%+v %v", info, err)
	}
	if s := a.Status(); !s.RebuildRequired {
		t.Fatalf("%+v", s)
	}
	if a.title(id) != "one" {
		t.Fatal("the row is gone")
	}
	// The server does not have the column: its rows cannot be laid down, and the error says so.
	_, err := a.Sync(t.Context())
	var protocol *oversqlite.ProtocolError
	if !errors.As(err, &protocol) || protocol.Column != "colour" {
		t.Fatalf("%T %v", err, err)
	}
	if a.title(id) != "one" {
		t.Fatal("the row is gone")
	}
}
