package sqlite

// now is SQLite's spelling of the current time in every metadata table of the family.
const now = `(strftime('%Y-%m-%dT%H:%M:%fZ','now'))`

// jcsContract is the literal that _sync_outbox_bundle.canonical_json_contract is constrained to in every database of
// the family. Which dialect the frozen rows are really in is kept in _sync_engine_state (engineFrozenContract).
const jcsContract = `jcs_uniform_numeric_strings_v1`

// Names in _sync_engine_state.
const (
	engineContract         = "contract"           // wire.ContractName pinned for the attachment
	engineFrozenContract   = "frozen_contract"    // wire.ContractName of the outbox rows
	engineFrozenSince      = "frozen_since"       // when the oldest of the outbox rows was last written
	engineReattachRequired = "reattach_required"  // "1": the server lost or reset the scope
	engineKeepIntents      = "keep_intents"       // the user whose lease was lost: the next attach keeps the intents that are here
	engineUploadBlocked    = "upload_blocked"     // JSON of local.Blocked
	engineReplacedBy       = "source_replaced_by" // the source by which the server has replaced the current one, when that is not the id reserved here
	engineQuarantineID     = "quarantine_id"      // the last id given in _sync_quarantine
	engineColumns          = "columns:"           // + table name: signature of its columns at the last open
)

// metadata is the DDL of the private tables. Names and columns of the family's tables are a contract with other
// clients; WITHOUT ROWID, indexes and the tables of our own are not.
//
// Tables that are looked up by key and rewritten row by row are WITHOUT ROWID: one B-tree instead of two. Not so
// _sync_dirty_rows, which is filled row by row by the triggers: keys are random, so that its rows, which are wide, are
// better appended, in the order of their ordinals, than sorted in; nor _sync_outbox_rows, which is filled in its own order:
// one push is in flight at a time, so that row_ordinal alone is its key. The conditions on op are spelled out because IN
// with a list of three builds a temporary B-tree for every row.
var metadata = []string{
	`CREATE TABLE IF NOT EXISTS _sync_source_state (
  source_id TEXT NOT NULL PRIMARY KEY,
  next_source_bundle_id INTEGER NOT NULL DEFAULT 1,
  replaced_by_source_id TEXT NOT NULL DEFAULT '',
  created_at TEXT NOT NULL DEFAULT ` + now + `
)`,
	`CREATE TABLE IF NOT EXISTS _sync_attachment_state (
  singleton_key INTEGER NOT NULL PRIMARY KEY CHECK (singleton_key = 1),
  current_source_id TEXT NOT NULL DEFAULT '',
  binding_state TEXT NOT NULL DEFAULT 'anonymous' CHECK (binding_state IN ('anonymous', 'attached')),
  attached_user_id TEXT NOT NULL DEFAULT '',
  schema_name TEXT NOT NULL DEFAULT '',
  last_bundle_seq_seen INTEGER NOT NULL DEFAULT 0,
  rebuild_required INTEGER NOT NULL DEFAULT 0,
  pending_initialization_id TEXT NOT NULL DEFAULT ''
)`,
	`CREATE TABLE IF NOT EXISTS _sync_operation_state (
  singleton_key INTEGER NOT NULL PRIMARY KEY CHECK (singleton_key = 1),
  kind TEXT NOT NULL DEFAULT 'none' CHECK (kind IN ('none', 'remote_replace', 'source_recovery')),
  target_user_id TEXT NOT NULL DEFAULT '',
  staged_snapshot_id TEXT NOT NULL DEFAULT '',
  snapshot_bundle_seq INTEGER NOT NULL DEFAULT 0,
  snapshot_row_count INTEGER NOT NULL DEFAULT 0,
  snapshot_byte_count INTEGER NOT NULL DEFAULT 0,
  snapshot_stage_complete INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '',
  replacement_source_id TEXT NOT NULL DEFAULT ''
)`,
	`CREATE TABLE IF NOT EXISTS _sync_apply_state (
  singleton_key INTEGER NOT NULL PRIMARY KEY CHECK (singleton_key = 1),
  apply_mode INTEGER NOT NULL DEFAULT 0
)`,
	`CREATE TABLE IF NOT EXISTS _sync_row_state (
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  key_json TEXT NOT NULL,
  row_version INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  updated_at TEXT NOT NULL DEFAULT ` + now + `,
  PRIMARY KEY (schema_name, table_name, key_json)
) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS _sync_dirty_rows (
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  key_json TEXT NOT NULL,
  op TEXT NOT NULL CHECK (op = 'INSERT' OR op = 'UPDATE' OR op = 'DELETE'),
  base_row_version INTEGER NOT NULL DEFAULT 0,
  payload TEXT,
  dirty_ordinal INTEGER NOT NULL PRIMARY KEY,
  updated_at TEXT NOT NULL DEFAULT ` + now + `,
  UNIQUE (schema_name, table_name, key_json)
)`,
	// Deletions are looked through before every push, and most changes are none.
	`CREATE INDEX IF NOT EXISTS idx_sync_dirty_rows_deletions ON _sync_dirty_rows (dirty_ordinal) WHERE op = 'DELETE'`,
	`CREATE TABLE IF NOT EXISTS _sync_outbox_bundle (
  singleton_key INTEGER NOT NULL PRIMARY KEY CHECK (singleton_key = 1),
  canonical_json_contract TEXT NOT NULL CHECK (canonical_json_contract = '` + jcsContract + `'),
  state TEXT NOT NULL DEFAULT 'none' CHECK (state IN ('none', 'prepared', 'committed_remote')),
  source_id TEXT NOT NULL DEFAULT '',
  source_bundle_id INTEGER NOT NULL DEFAULT 0,
  initialization_id TEXT NOT NULL DEFAULT '',
  canonical_request_hash TEXT NOT NULL DEFAULT '',
  row_count INTEGER NOT NULL DEFAULT 0,
  remote_bundle_hash TEXT NOT NULL DEFAULT '',
  remote_bundle_seq INTEGER NOT NULL DEFAULT 0
)`,
	`CREATE TABLE IF NOT EXISTS _sync_outbox_rows (
  source_bundle_id INTEGER NOT NULL,
  row_ordinal INTEGER NOT NULL PRIMARY KEY,
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  key_json TEXT NOT NULL,
  wire_key_json TEXT NOT NULL,
  op TEXT NOT NULL CHECK (op = 'INSERT' OR op = 'UPDATE' OR op = 'DELETE'),
  base_row_version INTEGER NOT NULL DEFAULT 0,
  local_payload TEXT,
  wire_payload TEXT
)`,
	// The key comes first: it alone tells rows apart, and schema and table are nearly always the same.
	`CREATE INDEX IF NOT EXISTS idx_sync_outbox_rows_key ON _sync_outbox_rows (key_json, table_name, schema_name)`,
	`CREATE TABLE IF NOT EXISTS _sync_snapshot_stage (
  snapshot_id TEXT NOT NULL,
  row_ordinal INTEGER NOT NULL,
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  key_json TEXT NOT NULL,
  row_version INTEGER NOT NULL,
  payload TEXT NOT NULL,
  PRIMARY KEY (snapshot_id, row_ordinal)
) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS _sync_managed_tables (
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  PRIMARY KEY (schema_name, table_name)
)`,

	// Tables of our own.
	`CREATE TABLE IF NOT EXISTS _sync_shadow (
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  key_json TEXT NOT NULL,
  row_version INTEGER NOT NULL,
  version_exact INTEGER NOT NULL DEFAULT 1,
  deleted INTEGER NOT NULL DEFAULT 0,
  payload TEXT,
  PRIMARY KEY (schema_name, table_name, key_json)
) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS _sync_base_rows (
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  key_json TEXT NOT NULL,
  payload TEXT NOT NULL,
  PRIMARY KEY (schema_name, table_name, key_json)
) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS _sync_quarantine (
  id INTEGER NOT NULL PRIMARY KEY,
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  key_json TEXT NOT NULL,
  op TEXT NOT NULL CHECK (op = 'INSERT' OR op = 'UPDATE' OR op = 'DELETE'),
  base_row_version INTEGER NOT NULL DEFAULT 0,
  payload TEXT,
  dirty_ordinal INTEGER NOT NULL DEFAULT 0,
  code TEXT NOT NULL,
  message TEXT NOT NULL DEFAULT '',
  origin TEXT NOT NULL DEFAULT '',
  attempts INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT ` + now + `,
  updated_at TEXT NOT NULL DEFAULT ` + now + `,
  UNIQUE (schema_name, table_name, key_json)
)`,
	// _sync_displaced holds changes that had to make room for the server's rows. They are no intents.
	`CREATE TABLE IF NOT EXISTS _sync_displaced (
  id INTEGER NOT NULL PRIMARY KEY,
  schema_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  key_json TEXT NOT NULL,
  op TEXT NOT NULL CHECK (op = 'INSERT' OR op = 'UPDATE' OR op = 'DELETE'),
  base_row_version INTEGER NOT NULL DEFAULT 0,
  payload TEXT,
  code TEXT NOT NULL,
  message TEXT NOT NULL DEFAULT '',
  origin TEXT NOT NULL DEFAULT '',
  attempts INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT ` + now + `,
  updated_at TEXT NOT NULL DEFAULT ` + now + `,
  UNIQUE (schema_name, table_name, key_json)
)`,
	`CREATE TABLE IF NOT EXISTS _sync_engine_state (
  name TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID`,
	// _sync_bundle_stage holds the pages of one committed bundle that is too large to be held in memory, until its hash
	// is proved and it is applied. A page is row_count rows from row_ordinal on, one after the other as appendStaged
	// spells them: thousands of rows are stored, read and hashed much faster as one value than each for itself.
	`CREATE TABLE IF NOT EXISTS _sync_bundle_stage (
  row_ordinal INTEGER NOT NULL PRIMARY KEY,
  bundle_seq INTEGER NOT NULL,
  row_count INTEGER NOT NULL,
  page BLOB NOT NULL
)`,

	`INSERT INTO _sync_attachment_state (singleton_key) VALUES (1) ON CONFLICT DO NOTHING`,
	`INSERT INTO _sync_operation_state (singleton_key) VALUES (1) ON CONFLICT DO NOTHING`,
	`INSERT INTO _sync_apply_state (singleton_key) VALUES (1) ON CONFLICT DO NOTHING`,
	`INSERT INTO _sync_outbox_bundle (singleton_key, canonical_json_contract) VALUES (1, '` + jcsContract + `') ON CONFLICT DO NOTHING`,
}

// ownTables are the private tables that other clients of the family do not have. They may be missing.
var ownTables = []string{"_sync_shadow", "_sync_base_rows", "_sync_quarantine", "_sync_displaced", "_sync_engine_state", "_sync_bundle_stage"}
