package oversqlite

import (
	"context"
	"encoding/json"
	"time"

	"github.com/oversqlite/oversqlite/actors"
	"github.com/oversqlite/oversqlite/local"
)

// QuarantinedRow is a local change that was set aside: it is not pushed, and delays nothing else. Its row keeps the local
// content, which pulls go around, unless it is Displaced. It counts as pending and stands in the way of Detach.
//
// It ends when the application retries it, discards it, or writes the row again, which makes it a change like any other.
type QuarantinedRow struct {
	ID     int64 // for RetryQuarantined and DiscardQuarantined; never used twice in a database
	Schema string
	Table  string            // lower case
	Key    map[string]string // the sync key as in Conflict.Key; nil when it is no valid key
	Op     Op                // what the change asks for
	// BaseRowVersion is the version of the server's row on which the change was made; 0: the server had none.
	BaseRowVersion int64
	// Local is the content as the local database stores it, an object with every column: numbers as strings, bytes in
	// hexadecimal. It is nil for a deletion. What the server cannot be sent may be part of it.
	Local json.RawMessage

	// Code is why: the code with which the server refuses it, or what is wrong with a value.
	Code string
	// Message is for people. It comes from the server when Origin is QuarantinedByServer.
	Message string
	// Origin is who found it unfit.
	Origin QuarantineOrigin
	// Displaced is set when the change and rows of the server exclude each other: the server deleted the parent of a new
	// row, say, or gave its unique value to another one. Then the row holds what the server has, and the content is here only.
	Displaced bool
	// Attempts counts the pushes with this change that were refused before it was found.
	Attempts int64
	// QuarantinedAt is when it was set aside.
	QuarantinedAt time.Time

	// ServerRowVersion, ServerRowDeleted and Server are what the server has had since, when that is newer than
	// BaseRowVersion; 0, false and nil otherwise. Server is in the form of Conflict.Server.
	ServerRowVersion int64
	ServerRowDeleted bool
	Server           json.RawMessage
}

// QuarantineOrigin is who found a change unfit to be pushed.
type QuarantineOrigin string

// The origins.
const (
	// QuarantinedByServer: the server refuses it for good.
	QuarantinedByServer = QuarantineOrigin(local.OriginServer)
	// QuarantinedByValue: it holds a value that the protocol cannot carry.
	QuarantinedByValue = QuarantineOrigin(local.OriginValue)
	// QuarantinedByCollision: it and rows of the server exclude each other.
	QuarantinedByCollision = QuarantineOrigin(local.OriginCollision)
	// QuarantinedByDependency: its row refers to a new row that is in quarantine, so the server would refuse it. It comes
	// back by itself with the next push after that one has left the quarantine.
	QuarantinedByDependency = QuarantineOrigin(local.OriginDependency)
)

// Quarantined lists the changes that were set aside, oldest first. It needs Open only and does not wait for a sync.
//
// Errors: *OpenRequiredError, *DatabaseError, ErrClosed.
func (e *Engine) Quarantined(ctx context.Context) ([]QuarantinedRow, error) {
	r, err := e.engine.Ask(ctx, actors.VerbQuarantined, "")
	if err != nil {
		return nil, err
	}
	rows := make([]QuarantinedRow, len(r.Quarantine))
	for i := range r.Quarantine {
		rows[i] = e.quarantinedRow(&r.Quarantine[i])
	}
	return rows, nil
}

func (e *Engine) quarantinedRow(a *local.SetAside) QuarantinedRow {
	row := QuarantinedRow{
		ID: a.ID, Schema: e.schema, Table: a.Table, Op: a.Op, BaseRowVersion: a.Base, Local: a.Local,
		Displaced: a.Displaced, Code: a.Code, Message: a.Message, Origin: QuarantineOrigin(a.Origin), Attempts: a.Attempts, QuarantinedAt: a.CreatedAt,
	}
	if a.Key.Column != "" {
		row.Key = map[string]string{a.Key.Column: a.Key.Value}
	}
	if s := a.Server; s != nil {
		row.ServerRowVersion, row.ServerRowDeleted, row.Server = s.Version, s.Deleted, s.Wire
	}
	return row
}

// RetryQuarantined makes changes in quarantine ordinary pending changes again, which the next push takes along: all of
// them or, with an error, none. A displaced change is written into its row as if the application did it now. Without ids it
// does nothing.
//
// Errors: *QuarantineError for an id that is not in quarantine (any more), or a displaced change that its row cannot take
// as things stand, *OpenRequiredError, *DatabaseError, ErrClosed.
func (e *Engine) RetryQuarantined(ctx context.Context, ids ...int64) error {
	_, err := e.engine.AskAbout(ctx, actors.VerbRetryQuarantined, ids)
	return err
}

// DiscardQuarantined gives changes in quarantine up, in one transaction: each row becomes what the server has, as far as
// that is known here, and a new row goes. Changes of rows that refer to such a new row have to be discarded with it.
// Without ids it does nothing.
//
// Errors: *QuarantineError for an id that is not in quarantine (any more), or for a row that others still need, with
// nothing changed; *OpenRequiredError, *DatabaseError, ErrClosed.
func (e *Engine) DiscardQuarantined(ctx context.Context, ids ...int64) error {
	_, err := e.engine.AskAbout(ctx, actors.VerbDiscardQuarantined, ids)
	return err
}
