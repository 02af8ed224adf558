package devserver

// BusinessTables returns the tables of the default schema: name and sync key of the eight "business" tables, in
// the order in which a client would create them.
func BusinessTables() []Table {
	names := []string{"users", "posts", "categories", "teams", "team_members", "files", "file_reviews", "typed_rows"}
	tables := make([]Table, len(names))
	for i, name := range names {
		tables[i] = Table{Schema: "business", Name: name, Key: "id"}
	}
	return tables
}

// BusinessClientSchema is the SQL of a client database whose tables have exactly the columns of the default schema.
const BusinessClientSchema = `
CREATE TABLE users (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  email TEXT NOT NULL,
  created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE posts (
  id TEXT PRIMARY KEY NOT NULL,
  title TEXT NOT NULL,
  content TEXT NOT NULL,
  author_id TEXT REFERENCES users(id) DEFERRABLE INITIALLY DEFERRED,
  created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE categories (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  parent_id TEXT REFERENCES categories(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE teams (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  captain_member_id TEXT REFERENCES team_members(id) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE team_members (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  team_id TEXT NOT NULL REFERENCES teams(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE files (
  id BLOB PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  data BLOB NOT NULL
);
CREATE TABLE file_reviews (
  id BLOB PRIMARY KEY NOT NULL,
  review TEXT NOT NULL,
  file_id BLOB NOT NULL REFERENCES files(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE typed_rows (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  note TEXT NULL,
  count_value INTEGER NULL,
  enabled_flag INTEGER NOT NULL,
  rating REAL NULL,
  data BLOB NULL,
  created_at TEXT NULL
);
`

// businessServerSchema is the server's side of the same tables. The declared types name the kind of the values as
// they are on the wire; "TEXT" in them keeps SQLite's affinity where it belongs. Tables of small rows are without a
// rowid: one B-tree to keep instead of two.
const businessServerSchema = `
CREATE TABLE users (
  id UUID TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  email TEXT NOT NULL,
  created_at TIMESTAMPTZ TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now')),
  updated_at TIMESTAMPTZ TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now'))
) WITHOUT ROWID;
CREATE TABLE posts (
  id UUID TEXT PRIMARY KEY NOT NULL,
  title TEXT NOT NULL,
  content TEXT NOT NULL,
  author_id UUID TEXT REFERENCES users(id) DEFERRABLE INITIALLY DEFERRED,
  created_at TIMESTAMPTZ TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now')),
  updated_at TIMESTAMPTZ TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now'))
) WITHOUT ROWID;
CREATE INDEX posts_author ON posts(author_id);
CREATE TABLE categories (
  id UUID TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  parent_id UUID TEXT REFERENCES categories(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;
CREATE INDEX categories_parent ON categories(parent_id);
CREATE TABLE teams (
  id UUID TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  captain_member_id UUID TEXT REFERENCES team_members(id) DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;
CREATE INDEX teams_captain ON teams(captain_member_id);
CREATE TABLE team_members (
  id UUID TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  team_id UUID TEXT NOT NULL REFERENCES teams(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;
CREATE INDEX team_members_team ON team_members(team_id);
CREATE TABLE files (
  id UUID TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  data BYTEA NOT NULL
);
CREATE TABLE file_reviews (
  id UUID TEXT PRIMARY KEY NOT NULL,
  review TEXT NOT NULL,
  file_id UUID TEXT NOT NULL REFERENCES files(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;
CREATE INDEX file_reviews_file ON file_reviews(file_id);
CREATE TABLE typed_rows (
  id UUID TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  note TEXT NULL,
  count_value BIGINT NULL,
  enabled_flag INTEGER NOT NULL,
  rating DOUBLE PRECISION NULL,
  data BYTEA NULL,
  created_at TIMESTAMPTZ TEXT NULL
) WITHOUT ROWID;
`
