package main

import (
	"context"
	"errors"
	"net"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/transport"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitAuth        = 4
	exitAttention   = 5
	exitInterrupted = 130
)

// usageError is a command that cannot be carried out as it was given.
type usageError struct {
	problem string
	hint    string // what to do instead
}

func (e *usageError) Error() string { return "oversqlite: " + e.problem }

// failure is an error with an exit code of its own.
type failure struct {
	code int
	err  error
	hint string
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

// explain finds the exit code for an error, and what its reader can do about it where the error does not say it
// itself. ctx is the command's.
func explain(ctx context.Context, err error) (code int, hint string) {
	var (
		usage     *usageError
		own       *failure
		auth      *oversqlite.AuthError
		config    *oversqlite.ConfigError
		exhausted *oversqlite.RetryExhaustedError
		owned     *oversqlite.DatabaseOwnedError
		rejected  *oversqlite.PushRejectedError
		recovery  *oversqlite.SourceRecoveryRequiredError
		mismatch  *oversqlite.SourceSequenceMismatchError
		rebuild   *oversqlite.RebuildRequiredError
		reattach  *oversqlite.AttachRequiredError
		resolver  *oversqlite.InvalidConflictResolutionError
		set       *oversqlite.QuarantineError
		network   *transport.NetworkError
		listen    *net.OpError
	)
	switch {
	case errors.As(err, &usage):
		return exitUsage, usage.hint
	case errors.As(err, &own):
		return own.code, own.hint
	case ctx.Err() != nil:
		return exitInterrupted, "Interrupted. What was committed here is kept; the next run goes on from where this one stopped."
	case errors.As(err, &auth):
		return exitAuth, "Get a fresh token and pass it in OVERSQLITE_TOKEN."
	case errors.As(err, &config):
		return exitUsage, ""
	case errors.As(err, &exhausted), errors.As(err, &network):
		return exitUnreachable, "Nothing is lost: local changes stay where they are. Try again when the server can be reached."
	case errors.As(err, &owned):
		return exitUnreachable, "Close the application that has it open, or let that application sync: it is the one engine of this file."
	case errors.As(err, &set):
		return exitAttention, "See what is there with: oversqlite quarantine list FILE."
	case errors.As(err, &recovery), errors.As(err, &mismatch):
		return exitAttention, "Another copy of this file is in use, or it was restored from a backup. Give it an identity of its own with: oversqlite rebuild FILE."
	case errors.As(err, &rejected), errors.As(err, &rebuild), errors.As(err, &reattach), errors.As(err, &resolver):
		return exitAttention, "Look at it with: oversqlite status FILE; oversqlite pending FILE."
	case errors.As(err, &listen) && listen.Op == "listen":
		return exitFailed, "Is the address taken? --addr 127.0.0.1:0 takes a free port."
	default:
		return exitFailed, ""
	}
}
