package sqlite

import "github.com/ncruces/go-sqlite3"

// openRaw opens a connection of our kind on a file without an engine.
func openRaw(path string) (*conn, error) {
	raw, err := sqlite3.Open(path)
	if err != nil {
		return nil, err
	}
	return &conn{raw: raw, stmts: map[string]*sqlite3.Stmt{}}, nil
}
