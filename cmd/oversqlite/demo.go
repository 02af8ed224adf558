package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

type demoCmd struct {
	Contract string `enum:"classic,uniform" default:"classic" help:"Dialect of the protocol that the demo's server speaks: ${enum} (${default})."`
	Keep     string `type:"path" placeholder:"DIR" help:"Keep the two databases and the server's data here. Without it they are removed at the end."`
}

func (d *demoCmd) Run(ctx context.Context, c *console) (err error) {
	dir := d.Keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "oversqlite-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := unused(dir); err != nil {
		return err
	}
	start := time.Now()
	s, err := newStage(c, dir, contractNamed(d.Contract))
	if err != nil {
		return err
	}
	err = s.play(ctx)
	if err := errors.Join(err, s.close()); err != nil {
		return err
	}
	c.say("\nIt took %s.", time.Since(start).Round(10*time.Millisecond))
	if d.Keep != "" {
		c.say("Have a look: oversqlite status %s", filepath.Join(dir, "laptop.db"))
	}
	return nil
}

// unused refuses a folder in which an earlier demo left its files: the story begins with new ones.
func unused(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"laptop.db", "phone.db", "server"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return &usageError{problem: filepath.Join(dir, name) + " exists already", hint: "Name a folder that does not hold an earlier demo."}
		}
	}
	return nil
}

// user is the account whose devices play in the demo.
const user = "ada"

// stage is what the story is played on: a server and two devices of one user.
type stage struct {
	console  *console
	contract wire.ContractName
	chapter  int
	server   *devserver.Server
	front    *listener
	laptop   *device
	phone    *device
}

// device is an engine on a file of its own, and a count of the requests it has made.
type device struct {
	name     string
	path     string
	engine   *oversqlite.Engine
	requests *atomic.Int64
}

func newStage(c *console, dir string, contract wire.ContractName) (s *stage, err error) {
	s = &stage{console: c, contract: contract}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.server, err = devserver.New(devserver.Config{Dir: filepath.Join(dir, "server"), Contract: contract}); err != nil {
		return s, err
	}
	if s.front, err = listen("127.0.0.1:0", s.server.Handler()); err != nil {
		return s, err
	}
	token, err := s.server.IssueToken(user)
	if err != nil {
		return s, err
	}
	for _, d := range []struct {
		name     string
		resolver oversqlite.Resolver
		into     **device
	}{
		{"laptop", oversqlite.ServerWins, &s.laptop},
		{"phone", oversqlite.MergeColumns(oversqlite.ServerWins), &s.phone},
	} {
		made := &device{name: d.name, path: filepath.Join(dir, d.name+".db"), requests: new(atomic.Int64)}
		client := withToken(token)
		client.Transport = counted{made.requests, client.Transport}
		made.engine, err = oversqlite.New(oversqlite.Config{
			Path: made.path, Schema: "business", Tables: businessTables(), ServerURL: s.front.url,
			HTTPClient: client, Resolver: d.resolver,
		})
		if err != nil {
			return s, err
		}
		*d.into = made
	}
	return s, nil
}

// businessTables are the tables of the development server's default schema.
func businessTables() (tables []oversqlite.Table) {
	for _, t := range devserver.BusinessTables() {
		tables = append(tables, oversqlite.Table{Name: t.Name, Key: t.Key})
	}
	return tables
}

// close ends the devices before the server, whose last requests they may be making.
func (s *stage) close() (err error) {
	for _, d := range []*device{s.laptop, s.phone} {
		if d != nil {
			err = errors.Join(err, d.engine.Close())
		}
	}
	if s.server != nil {
		err = errors.Join(err, s.server.Close())
	}
	if s.front != nil {
		err = errors.Join(err, s.front.close())
	}
	return err
}

// title begins a chapter.
func (s *stage) title(text string) {
	s.chapter++
	s.console.say("\n%d. %s", s.chapter, text)
}

// tell prints a sentence of the story.
func (s *stage) tell(format string, args ...any) { s.console.say("   "+format, args...) }

// counted counts requests.
type counted struct {
	n    *atomic.Int64
	next http.RoundTripper
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.next.RoundTrip(r)
}

// sync syncs a device and tells what it took.
func (s *stage) sync(ctx context.Context, d *device) error {
	before := d.requests.Load()
	pending, err := d.engine.PendingSyncStatus(ctx)
	if err != nil {
		return err
	}
	report, err := d.engine.Sync(ctx)
	if err != nil {
		return fmt.Errorf("the %s could not sync: %w", d.name, err)
	}
	text := fmt.Sprintf("The %s syncs: ", d.name)
	if report.Push == oversqlite.Committed {
		text += fmt.Sprintf("%s pushed, ", count(pending.PendingRowCount, "change"))
	}
	if report.Remote == oversqlite.AlreadyAtTarget {
		text += "nothing new to pull"
	} else {
		text += fmt.Sprintf("pulled up to bundle %d", report.Status.LastBundleSeqSeen)
	}
	s.tell("%s (%s).", text, count(d.requests.Load()-before, "request"))
	return nil
}

// count renders a number of things.
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
