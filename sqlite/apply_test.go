package sqlite

import (
	"testing"

	"github.com/oversqlite/oversqlite/wire"
)

func TestApplySmoke(t *testing.T) {
	db := testDB(t, usersDDL, "users")
	asServer(t, db, `UPDATE _sync_attachment_state SET binding_state='attached', attached_user_id='u'`)
	c, _ := wire.ContractByName(wire.ClassicContract)
	r, err := db.ApplyBundles(t.Context(), c, []wire.Bundle{{BundleMeta: wire.BundleMeta{Seq: 1, RowCount: 1}, Rows: []wire.Row{
		{Schema: "main", Table: "users", Key: wire.Key{Column: "id", Value: "a"}, Op: wire.OpInsert, RowVersion: 1, Payload: []byte(`{"id":"a","name":"b"}`)}}}})
	t.Log(r, err, rows(t, db, `SELECT * FROM users`), rows(t, db, `SELECT * FROM _sync_row_state`))
}
