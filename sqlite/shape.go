package sqlite

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
)

// shape is what the engine goes by of a schema that it accepts. It follows from the text of the schema and from the tables that
// are configured, and from nothing else, and never changes: so the databases of a process, of which there may be one a
// user, share it.
type shape struct {
	tables []*table          // parents first
	byName map[string]*table // by lower-case name
	// present are the private tables that are there: none, all, or those of the whole family.
	present map[string]bool
	// installed: everything that Open installs is there, as it would install it.
	installed bool
}

// maxShapes bounds the shapes that are kept. An application has one for its databases before their first Open and one for
// those it has opened, and others for as long as it migrates.
const maxShapes = 32

// shapes are the shapes that were read last, by everything that they follow from.
var shapes = struct {
	sync.Mutex
	of map[string]*shape
}{of: map[string]*shape{}}

// readShape returns the shape of the database, or why there is none: a schema that cannot be synced, or private tables of
// another version. It changes nothing.
func (db *DB) readShape() (*shape, error) {
	text, err := db.conn.schemaText(&db.cfg)
	if err != nil {
		return nil, err
	}
	shapes.Lock()
	sh := shapes.of[string(text)]
	shapes.Unlock()
	if sh != nil {
		return sh, nil
	}
	sh = &shape{byName: map[string]*table{}}
	if sh.tables, err = db.conn.readTables(&db.cfg); err != nil {
		return nil, err
	}
	if err := db.conn.checkTriggerNames(sh.tables); err != nil {
		return nil, err
	}
	for _, t := range sh.tables {
		sh.byName[t.Name] = t
	}
	if sh.present, err = db.checkMetadataTables(); err != nil {
		return nil, err
	}
	if sh.installed, err = db.conn.installed(sh.tables); err != nil {
		return nil, err
	}
	shapes.Lock()
	defer shapes.Unlock()
	if len(shapes.of) >= maxShapes {
		clear(shapes.of)
	}
	shapes.of[string(text)] = sh
	return sh, nil
}

// schemaText returns everything that a shape follows from. No two that differ have the same.
func (c *conn) schemaText(cfg *Config) ([]byte, error) {
	text := fmt.Appendf(nil, "%q\n", cfg.Schema)
	for _, t := range cfg.Tables {
		text = fmt.Appendf(text, "%q %q\n", t.Name, t.Key)
	}
	_, err := c.each(`SELECT type, name, tbl_name, sql FROM sqlite_schema`, func(s *sqlite3.Stmt) error {
		for i := range 4 {
			value := s.ColumnRawText(i)
			text = fmt.Appendf(text, "%d ", len(value))
			text = append(text, value...)
		}
		return nil
	})
	return text, err
}

// installed reports whether the private tables, the shared half of the capture and the triggers of tables are as Open makes
// them, and none is left of other tables.
func (c *conn) installed(tables []*table) (bool, error) {
	have := map[string]string{}
	if _, err := c.each(`SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL`, func(s *sqlite3.Stmt) error {
		have[s.ColumnText(0)] = s.ColumnText(1)
		return nil
	}); err != nil {
		return false, err
	}
	for _, ddl := range metadata {
		name, ok := createdBy(ddl)
		if ok && have[name] != strings.Replace(ddl, "IF NOT EXISTS ", "", 1) {
			return false, nil
		}
	}
	triggers, err := c.ourTriggers()
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		for _, want := range t.triggers() {
			if triggers[want.name] != want.sql {
				return false, nil
			}
			delete(triggers, want.name)
		}
	}
	capture, err := c.captureInstalled()
	return capture && len(triggers) == 0, err
}

// createdBy returns the name of the table or index that a statement of metadata creates.
func createdBy(ddl string) (name string, ok bool) {
	words := strings.Fields(ddl)
	if at := slices.Index(words, "EXISTS"); words[0] == "CREATE" && at > 0 {
		return words[at+1], true
	}
	return "", false
}

// validate reads the schema and the metadata and changes nothing.
func (db *DB) validate() error {
	sh, err := db.readShape()
	if err != nil {
		return err
	}
	db.shape = sh
	db.tables, db.byName = sh.tables, sh.byName
	db.watched.tables = nil
	if !sh.present["_sync_attachment_state"] {
		return nil
	}
	if rule, err := db.conn.brokenRule(); err != nil {
		return err
	} else if rule != nil {
		return &local.DatabaseError{Operation: "open", Path: db.owner.path, Table: rule.table,
			Reason: rule.says + ": somebody changed it by hand; restore a backup, or delete the file and attach again"}
	}
	return db.checkBinding()
}
