package sqlite

import "testing"

func TestCaptureTransitions(t *testing.T) {
	t.Parallel()
	db := testDB(t, usersDDL, "users")
	exec(t, db, `INSERT INTO users VALUES ('u1', 'Ada')`)
	serverRow(t, db, "users", `'u2', 'Bob'`, 7)
	exec(t, db, `UPDATE users SET name = 'Bobby' WHERE id = 'u2'`)
	same(t, "dirty", dirty(t, db), []string{
		`users|{"id":"u1"}|INSERT|0|{"id":"u1","name":"Ada"}`,
		`users|{"id":"u2"}|UPDATE|7|{"id":"u2","name":"Bobby"}`,
	})
	same(t, "base", rows(t, db, `SELECT payload FROM _sync_base_rows`), []string{`{"id":"u2","name":"Bob"}`})
}
