// Command oversqlite shows, serves and operates databases that are kept in step by package oversqlite.
//
//	oversqlite demo      two devices of one user, offline and online, end to end
//	oversqlite serve     a compatible development server
//	oversqlite sync      push and pull one database file
//	oversqlite rebuild   replace the synced rows by a snapshot of the server's, local changes kept
//	oversqlite status    what a database file's sync state is
//	oversqlite pending   which local changes the server does not have yet
//	oversqlite quarantine which changes were set aside, and why: list, retry, discard
//	oversqlite sim       devices, a server and everything that can go wrong, simulated
//	oversqlite version
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// cli is the command line: one field a verb.
type cli struct {
	Demo       demoCmd       `cmd:"" help:"Play a story with two devices of one user and a server of its own."`
	Serve      serveCmd      `cmd:"" help:"Run a compatible development server."`
	Sync       syncCmd       `cmd:"" help:"Push and pull one database file."`
	Rebuild    rebuildCmd    `cmd:"" help:"Replace the synced rows of a file by a snapshot of the server's, and its identity when that is at its end. Local changes are kept."`
	Status     statusCmd     `cmd:"" help:"Show the sync state of a database file, also while an engine has it open."`
	Pending    pendingCmd    `cmd:"" help:"List local changes that the server does not have yet."`
	Quarantine quarantineCmd `cmd:"" help:"List, retry or discard local changes that were set aside."`
	Sim        simCmd        `cmd:"" help:"Simulate devices and a server in virtual time, with everything that can go wrong, and check what has to hold. Exit code 1 on a finding."`
	Version    versionCmd    `cmd:"" help:"Show the version."`
}

const about = `Keeps local SQLite databases in step with an oversqlite server.

Exit codes: 0 done; 1 failed, or the data differs; 2 wrong usage; 3 the server cannot be reached for now, nothing is lost, try again;
4 the credentials were refused; 5 the database needs attention; 130 interrupted, the next run goes on from here.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks; a second one, with nobody listening any more, kills.
	context.AfterFunc(ctx, stop)
	c := &console{out: os.Stdout, err: os.Stderr, interactive: term.IsTerminal(int(os.Stderr.Fd()))}
	os.Exit(run(ctx, c, os.Args[1:]))
}

// console is where a verb speaks to.
type console struct {
	out         io.Writer // results
	err         io.Writer // progress and complaints
	interactive bool      // err is a terminal
}

// say prints a line of the result.
func (c *console) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// note prints a line about what is going on.
func (c *console) note(format string, args ...any) { fmt.Fprintf(c.err, format+"\n", args...) }

// exited is what kong's wish to exit (after --help) is turned into.
type exited int

// run executes a command line and returns the exit code.
func run(ctx context.Context, c *console, args []string) (code int) {
	defer func() {
		if e, ok := recover().(exited); ok {
			code = int(e)
		}
	}()
	parser, err := kong.New(&cli{},
		kong.Name("oversqlite"), kong.Description(about), kong.Writers(c.out, c.err),
		kong.Exit(func(code int) { panic(exited(code)) }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil { // a mistake in the declarations above
		panic(err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		c.note("oversqlite: %v\nTry --help.", err)
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(c)
	if err := parsed.Run(); err != nil {
		var hint string
		code, hint = explain(ctx, err)
		c.note("%v", err)
		if hint != "" {
			c.note("%s", hint)
		}
	}
	return code
}
