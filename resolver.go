package oversqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Resolver decides what becomes of a local change that meets a newer one of the server's.
//
// It is called from goroutines of the engine, one at a time and outside any transaction: it may read the database, ask
// a user, or take its time up to Config.ResolveTimeout. It must not call methods of the engine that sync. The answer is
// applied only if the row is still what the resolver was shown; else it is asked again. An error, a panic or an
// impossible answer ends the push with an InvalidConflictResolutionError; the change stays pending.
type Resolver interface {
	Resolve(ctx context.Context, c Conflict) (Resolution, error)
}

// ResolverFunc is a function as a Resolver.
type ResolverFunc func(ctx context.Context, c Conflict) (Resolution, error)

// Resolve implements Resolver.
func (f ResolverFunc) Resolve(ctx context.Context, c Conflict) (Resolution, error) { return f(ctx, c) }

// Op is what happened to a row.
type Op = wire.Op

// The three operations on a row.
const (
	OpInsert = wire.OpInsert
	OpUpdate = wire.OpUpdate
	OpDelete = wire.OpDelete
)

// Conflict is a local change that meets a newer one of the server's. Payloads are JSON objects with every column, lower
// case, spelled as they travel: numbers as JSON numbers, bytes in base64, a UUID in its canonical text. They must not
// be changed.
type Conflict struct {
	Schema, Table string
	Key           map[string]string // the key column and its value, one entry
	LocalOp       Op                // what was done here

	Local  json.RawMessage // the row as it is here now; nil for OpDelete
	Base   json.RawMessage // the server's row on which the local change was made; nil when it is not known, or there was none
	Server json.RawMessage // the server's row now; nil when there is none

	BaseRowVersion   int64 // of the row on which the local change was made; 0: the server was not known to have it
	ServerRowVersion int64 // of the server's row; 0: the server never had one
	ServerRowDeleted bool  // the server had the row and deleted it
}

// Resolution answers a Conflict. It is one of AcceptServer, KeepLocal and KeepMerged.
type Resolution interface{ resolution() }

type (
	// AcceptServer gives the local change up: the row becomes what it is on the server.
	AcceptServer struct{}
	// KeepLocal pushes the local change over the server's.
	KeepLocal struct{}
	// KeepMerged makes Payload the row, here and on the server. It must be an object with exactly the row's columns, spelled
	// as in Conflict. It cannot answer a conflict in which the local change is a delete.
	KeepMerged struct{ Payload json.RawMessage }
)

func (AcceptServer) resolution() {}
func (KeepLocal) resolution()    {}
func (KeepMerged) resolution()   {}

// ServerWins accepts the server's row, always. It is the default.
var ServerWins Resolver = ResolverFunc(func(context.Context, Conflict) (Resolution, error) { return AcceptServer{}, nil })

// ClientWins keeps the local change, always.
var ClientWins Resolver = ResolverFunc(func(context.Context, Conflict) (Resolution, error) { return KeepLocal{}, nil })

// publicConflict shows a conflict to a resolver.
func publicConflict(schema string, c local.Conflict) Conflict {
	return Conflict{
		Schema:           schema,
		Table:            c.Table,
		Key:              map[string]string{c.Key.Column: c.Key.Value},
		LocalOp:          c.LocalOp,
		Local:            c.LocalWire,
		Base:             c.BaseWire,
		Server:           c.ServerWire,
		BaseRowVersion:   c.Base,
		ServerRowVersion: c.ServerVersion,
		ServerRowDeleted: c.ServerDeleted,
	}
}

// internalResolution takes a resolver's answer. What it may be for which conflict is decided where it is applied.
func internalResolution(c local.Conflict, answer Resolution) (local.Resolution, error) {
	r := local.Resolution{Conflict: c}
	switch a := answer.(type) {
	case AcceptServer:
		r.Kind = local.AcceptServer
	case KeepLocal:
		r.Kind = local.KeepLocal
	case KeepMerged:
		r.Kind, r.Merged = local.KeepMerged, a.Payload
	default:
		return local.Resolution{}, fmt.Errorf("a resolver must answer AcceptServer, KeepLocal or KeepMerged, not %T", answer)
	}
	return r, nil
}
