package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/wire"
)

type serveCmd struct {
	Addr     string        `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address to listen on; port 0 takes a free one (${default})."`
	Data     string        `type:"path" placeholder:"DIR" help:"Keep the users' databases here. Without it they live in memory and die with the server."`
	AnyHost  bool          `help:"Allow an address that other machines can reach. Anybody who can reach the server can sign in as anybody."`
	Contract string        `enum:"classic,uniform" default:"classic" help:"Dialect of the protocol to speak: ${enum} (${default})."`
	LeaseTTL time.Duration `default:"15m" help:"Life of an initialization lease (${default})."`
}

func (s *serveCmd) Run(ctx context.Context, c *console) (err error) {
	if !s.AnyHost && !loopback(s.Addr) {
		return &usageError{
			problem: fmt.Sprintf("%s can be reached from other machines, and this server lets anybody sign in as anybody", s.Addr),
			hint:    "Listen on 127.0.0.1, or pass --any-host if that is what you want.",
		}
	}
	server, err := devserver.New(devserver.Config{Dir: s.Data, InMemory: s.Data == "", Contract: contractNamed(s.Contract), LeaseTTL: s.LeaseTTL})
	if err != nil {
		return err
	}
	l, err := listen(s.Addr, server.Handler())
	if err != nil {
		return errors.Join(err, server.Close())
	}
	where := "in memory"
	if s.Data != "" {
		where = "in " + s.Data
	}
	c.say("oversqlite development server on %s, data %s, %s contract", l.url, where, s.Contract)
	c.say("sign in: curl -d '{\"user\":\"ada\",\"password\":\"any\"}' %s/dummy-signin", l.url)
	select {
	case <-ctx.Done():
		c.note("shutting down")
	case err = <-l.done:
		l.done <- err
	}
	// Ends the watches first: they would hold up the listener's shutdown.
	return errors.Join(server.Close(), l.close())
}

// contractNamed returns the contract that a flag names.
func contractNamed(flag string) wire.ContractName {
	if flag == string(oversqlite.ContractUniform) {
		return wire.UniformContract
	}
	return wire.ClassicContract
}

// loopback reports whether only this machine can reach addr.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
