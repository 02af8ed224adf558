package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
)

// writer is the only owner of the database's write connection. It executes one command at a time and blocks in
// Receive while SQLite works: milliseconds, bounded by the busy timeout, and interrupted when a command's context
// ends. It answers every command, also one that panics, so that nobody waits for an answer that does not come. What a
// state tells of the application's writes goes to the session, too, before the answer.
//
// The database is opened by the first OpenDatabase and closed by CloseDatabase or when the writer stops. It outlives
// a restart of the writer.
type writer struct {
	*writerState
}

// writerState is what a restart keeps.
type writerState struct {
	open func(context.Context) (database, error)
	log  *zap.Logger
	now  func() time.Time
	db   database // nil: not open
}

// writerProps returns the properties of a writer of the database that open opens.
func writerProps(log *zap.Logger, world *World, open func(context.Context) (database, error)) *actor.Props {
	state := &writerState{open: open, log: log, now: world.now}
	return propsOf(log, world, func() actor.Actor { return &writer{state} })
}

// Receive implements actor.Actor.
func (w *writer) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case messages.Do:
		w.do(c, m)
	case *actor.Stopping:
		if err := w.close(); err != nil {
			fail(w.log, w.log.Error, "the database did not close cleanly", err)
		}
	}
}

func (w *writer) do(c actor.Context, m messages.Do) {
	done := messages.WriterDone{Ref: m.Ref}
	defer func() {
		r := recover()
		if r == nil {
			c.Respond(done)
			return
		}
		// First the answer, then the failure: the asker must not wait for the supervisor.
		p := asPanicked(r)
		done.Result, done.Err = nil, p
		c.Respond(done)
		panic(p)
	}()
	ctx := m.Cancel
	if ctx == nil {
		ctx = context.Background()
	}
	if done.Err = ctx.Err(); done.Err == nil {
		done.Result, done.Err = w.execute(ctx, m.Command)
	}
	if st, ok := done.Result.(local.State); ok && len(st.Written) > 0 && c.Parent() != nil {
		// Whoever asked for the state, it tells this once.
		c.Send(c.Parent(), messages.TablesChanged{Cause: messages.CauseLocal, Tables: st.Written})
	}
	if _, partly := done.Result.(local.Applied); done.Err != nil && !partly {
		done.Result = nil
	}
}

func (w *writer) execute(ctx context.Context, command messages.Command) (any, error) {
	switch command := command.(type) {
	case messages.OpenDatabase:
		if w.db == nil {
			db, err := w.open(ctx)
			if err != nil {
				return nil, err
			}
			w.db = db
		}
		return w.db, nil
	case messages.CloseDatabase:
		return nil, w.close()
	case messages.SetUploadBlocked:
		if command.Blocked != nil && command.Blocked.Since.IsZero() {
			// Machines have no clock; this is where a block begins.
			since := *command.Blocked
			since.Since = w.now().UTC()
			command.Blocked = &since
		}
		return w.onOpen(ctx, command)
	default:
		return w.onOpen(ctx, command)
	}
}

func (w *writer) onOpen(ctx context.Context, command messages.Command) (any, error) {
	if w.db == nil {
		return nil, &messages.OpenRequiredError{Operation: "a transaction"}
	}
	return execute(ctx, w.db, command)
}

func (w *writer) close() error {
	if w.db == nil {
		return nil
	}
	db := w.db
	w.db = nil
	return db.Close()
}
