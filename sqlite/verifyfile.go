package sqlite

import (
	"context"
	"errors"

	"github.com/ncruces/go-sqlite3"
)

// Verifier verifies a database that somebody else may own: it reads the file over a connection of its own, changes
// nothing, and sees what was committed when a Verify began. Not safe for concurrent use.
type Verifier struct{ db *DB }

// OpenVerifier opens a verifier. Of cfg, Path, Schema, Tables and BusyTimeout count.
//
// Errors: *local.DatabaseError that says why the file cannot be read, *local.ConfigError.
func OpenVerifier(cfg Config) (_ *Verifier, err error) {
	if err := checkConfig(&cfg); err != nil {
		return nil, err
	}
	path, err := realPath(cfg.Path)
	if err != nil {
		return nil, databaseError("verify", cfg.Path, err)
	}
	cfg = cfg.withDefaults()
	cfg.RestAfter = -1
	db := &DB{cfg: cfg, owner: &owner{path: path}, life: newLife()}
	defer recoverTo(&err)
	raw, err := sqlite3.OpenFlags(path, sqlite3.OPEN_READONLY)
	if err != nil {
		return nil, db.fail("verify", err)
	}
	db.conn = &conn{raw: raw, stmts: map[string]*sqlite3.Stmt{}}
	if err := errors.Join(raw.BusyTimeout(cfg.BusyTimeout), db.validate()); err != nil {
		return nil, errors.Join(db.fail("verify", err), db.conn.close())
	}
	return &Verifier{db}, nil
}

// Verify is DB.Verify. The error is a *local.DatabaseError that lists what is wrong.
func (v *Verifier) Verify(ctx context.Context) error { return v.db.Verify(ctx) }

// Each hands every row of a query to fn, in the order of the query. The query is kept prepared.
func (v *Verifier) Each(query string, fn func(*sqlite3.Stmt)) error {
	_, err := v.db.conn.each(query, func(s *sqlite3.Stmt) error {
		fn(s)
		return nil
	})
	return v.db.fail("verify", err)
}

// Close closes the verifier's connection.
func (v *Verifier) Close() error { return v.db.conn.close() }

// VerifyFile is Verify of a file, once.
func VerifyFile(ctx context.Context, cfg Config) (err error) {
	v, err := OpenVerifier(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return v.Verify(ctx)
}
