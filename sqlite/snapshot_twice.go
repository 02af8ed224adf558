package sqlite

import (
	"errors"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// stageKeyIndex is the index by which the snapshot's rows are found from the intents. It is there only while a snapshot
// is applied to a database that has some: made of all rows at once it costs a fraction of what it costs to keep it
// while they come in, and most snapshots do without.
const stageKeyIndex = `CREATE UNIQUE INDEX IF NOT EXISTS idx_sync_snapshot_stage_key ON _sync_snapshot_stage (snapshot_id, schema_name, table_name, key_json)`

// indexed runs fn while that index is there.
func (s *snapshot) indexed(fn func() error) error {
	if err := s.db.conn.run(stageKeyIndex); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err // rolls back, the index as well
	}
	return s.db.conn.run(`DROP INDEX idx_sync_snapshot_stage_key`)
}

// twice finds out, when a snapshot could not be applied, whether that is because a key comes twice in it: the second row
// then takes the first one for one that is in its way.
func (s *snapshot) twice(err error, collision *local.Collision) error {
	var fault *wire.ProtocolError
	if collision == nil && !isUnique(err) && !errors.As(err, &fault) {
		return nil
	}
	found, qerr := s.db.conn.one(`SELECT 1 FROM _sync_snapshot_stage WHERE snapshot_id = ? GROUP BY schema_name, table_name, key_json HAVING count(*) > 1`, nil, s.session.ID)
	if qerr != nil || !found {
		return qerr
	}
	return &wire.ProtocolError{Operation: "snapshot", Reason: "a row that comes twice", Err: err}
}
