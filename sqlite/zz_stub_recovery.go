package sqlite

// setSourceRecovery is a placeholder until the attach half has landed; delete this file then.
func (db *DB) setSourceRecovery(reason, replacement string) error {
	return db.conn.run(`UPDATE _sync_operation_state SET kind = 'source_recovery', reason = ?, replacement_source_id = ?`, reason, replacement)
}
