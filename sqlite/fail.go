package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// fail turns an error of operation op into one a caller can act on. It is the one place that decides what SQLite's
// result codes mean. Typed errors of ours and context errors pass through.
func (db *DB) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return databaseError(op, db.cfg.Path, err)
}

// failCtx is fail for an operation that ctx may have cut short: SQLite then reports an interrupt, or a lock it no longer
// waits for, where the caller wants to hear of its own context.
func (db *DB) failCtx(ctx context.Context, op string, err error) error {
	if err != nil && ctx.Err() != nil && (errors.Is(err, sqlite3.INTERRUPT) || errors.Is(err, sqlite3.BUSY)) {
		return ctx.Err()
	}
	return db.fail(op, err)
}

// report tells of an error that nobody waits for.
func (db *DB) report(op string, err error) {
	if db.cfg.Report != nil {
		db.cfg.Report(op, databaseError(op, db.cfg.Path, err))
	}
}

// ResultCode returns SQLite's extended result code in an error, 0 when there is none.
func ResultCode(err error) uint16 {
	var (
		full     *sqlite3.Error
		extended sqlite3.ExtendedErrorCode
		code     sqlite3.ErrorCode
	)
	switch {
	case errors.As(err, &full):
		return uint16(full.ExtendedCode())
	case errors.As(err, &extended):
		return uint16(extended)
	case errors.As(err, &code):
		return uint16(code)
	default:
		return 0
	}
}

func databaseError(op, path string, err error) error {
	var (
		config *local.ConfigError
		owned  *local.DatabaseOwnedError
		dberr  *local.DatabaseError
		proto  *wire.ProtocolError
		value  *wire.ValueError
	)
	if errors.As(err, &config) || errors.As(err, &owned) || errors.As(err, &dberr) || errors.As(err, &proto) || errors.As(err, &value) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, local.ErrClosed) {
		return err
	}
	e := &local.DatabaseError{Operation: op, Path: path, Err: err}
	var code sqlite3.ErrorCode
	var extended sqlite3.ExtendedErrorCode
	var full *sqlite3.Error
	switch {
	case errors.As(err, &full):
		code = full.Code()
	case errors.As(err, &extended):
		code = extended.Code()
	case errors.As(err, &code):
	}
	switch {
	case code != 0:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		code = sqlite3.CANTOPEN
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code = sqlite3.READONLY
	case errors.Is(err, syscall.ENOSPC):
		code = sqlite3.FULL
	}
	switch code {
	case sqlite3.BUSY, sqlite3.LOCKED:
		e.Reason, e.Transient = "another connection kept a transaction open for longer than the busy timeout", true
	case sqlite3.INTERRUPT:
		return context.Canceled
	case sqlite3.FULL:
		e.Reason, e.Transient = "the disk is full: free some space", true
	case sqlite3.READONLY:
		e.Reason = "the file or its directory is read-only: the engine needs to write both"
	case sqlite3.CANTOPEN:
		e.Reason = "the file cannot be opened: check that the directory exists and is writable"
	case sqlite3.NOTADB:
		e.Reason = "the file is not an SQLite database, or is encrypted"
	case sqlite3.CORRUPT:
		e.Reason = "the file is damaged: restore a backup, or delete it and attach again"
	case sqlite3.IOERR:
		e.Reason, e.Transient = "the disk failed a read or a write", true
	case sqlite3.NOMEM:
		e.Reason, e.Transient = "SQLite ran out of memory", true
	}
	return e
}
