package sqlite

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oversqlite/oversqlite/local"
)

func TestVerifyFileLooksBesideTheOwner(t *testing.T) {
	t.Parallel()
	db := synced(t, testDB(t, usersDDL, "users"))
	exec(t, db, `INSERT INTO users VALUES ('u1', 'mine')`)
	before := dump(t, db)
	if err := VerifyFile(t.Context(), db.cfg); err != nil {
		t.Fatal(err)
	}
	same(t, "the file", dump(t, db), before)
	asServer(t, db, `INSERT INTO users VALUES ('u2', 'nobody knows')`)
	err := VerifyFile(t.Context(), db.cfg)
	var broken *local.DatabaseError
	if !errors.As(err, &broken) || !strings.Contains(err.Error(), "users: a row that is neither known to the server nor an intent (1)") {
		t.Errorf("%v", err)
	}
	if err := db.Verify(t.Context()); err == nil {
		t.Error("Verify and VerifyFile disagree")
	}
}

func TestVerifyFileMakesNone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none.db")
	var missing *local.DatabaseError
	if err := VerifyFile(t.Context(), Config{Path: path, Schema: "main", Tables: tables("users")}); !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
	var config *local.ConfigError
	if err := VerifyFile(t.Context(), Config{Path: path}); !errors.As(err, &config) {
		t.Errorf("%v", err)
	}
}
