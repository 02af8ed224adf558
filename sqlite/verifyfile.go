package sqlite

import (
	"context"
	"errors"

	"github.com/ncruces/go-sqlite3"
)

// VerifyFile is Verify for a database that somebody else may own: it reads the file over a connection of its own,
// changes nothing, and sees what was committed when it began. Of cfg, Path, Schema, Tables and BusyTimeout count.
//
// Errors: *local.DatabaseError that lists what is wrong, or says why the file cannot be read; *local.ConfigError.
func VerifyFile(ctx context.Context, cfg Config) (err error) {
	if err := checkConfig(&cfg); err != nil {
		return err
	}
	path, err := realPath(cfg.Path)
	if err != nil {
		return databaseError("verify", cfg.Path, err)
	}
	cfg = cfg.withDefaults()
	db := &DB{cfg: cfg, owner: &owner{path: path}, life: newLife()}
	defer recoverTo(&err)
	raw, err := sqlite3.OpenFlags(path, sqlite3.OPEN_READONLY)
	if err != nil {
		return db.fail("verify", err)
	}
	db.conn = &conn{raw: raw, stmts: map[string]*sqlite3.Stmt{}}
	defer func() { err = errors.Join(err, db.conn.close()) }()
	if err := raw.BusyTimeout(cfg.BusyTimeout); err != nil {
		return db.fail("verify", err)
	}
	if err := db.validate(); err != nil {
		return db.fail("verify", err)
	}
	return db.Verify(ctx)
}
