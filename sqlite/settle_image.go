package sqlite

import (
	"bytes"
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// images reads and writes row contents in both their forms, with one pair of decoders a table. It lives as long as a
// transaction and is used by one goroutine.
type images struct {
	contract wire.Contract
	tables   map[*table]*image
}

// image is what images keeps for a table.
type image struct {
	local *wire.LocalDecoder
	other *wire.LocalDecoder // a second one: comparing needs both rows at once
	wire  wire.RowDecoder
	key   *wire.KeyReader
}

// newImages returns images of a contract; nil will do where nothing in wire form is met.
func newImages(contract wire.Contract) *images {
	return &images{contract: contract, tables: map[*table]*image{}}
}

func (im *images) of(t *table) *image {
	i := im.tables[t]
	if i == nil {
		i = &image{local: wire.NewLocalDecoder(&t.Table), other: wire.NewLocalDecoder(&t.Table), key: wire.NewKeyReader(&t.Table)}
		if im.contract != nil {
			i.wire = im.contract.NewRowDecoder(&t.Table)
		}
		im.tables[t] = i
	}
	return i
}

// fromWire turns a payload in wire form into local form.
func (im *images) fromWire(t *table, payload []byte) ([]byte, error) {
	row, err := im.of(t).wire.Decode(payload)
	if err != nil {
		return nil, err
	}
	return wire.AppendLocal(nil, &t.Table, row), nil
}

// toWire turns a payload in local form into wire form.
func (im *images) toWire(t *table, payload []byte) ([]byte, error) {
	row, err := im.of(t).local.Decode(payload)
	if err != nil {
		return nil, err
	}
	return im.contract.AppendPayload(nil, &t.Table, row)
}

// sameLocal reports whether two payloads in local form hold the same row. One that cannot be read, as it was captured
// before the table had all its columns, is the same as no other.
func (im *images) sameLocal(t *table, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	i := im.of(t)
	x, err := i.local.Decode(a)
	if err != nil {
		return false
	}
	y, err := i.other.Decode(b)
	return err == nil && wire.SameValues(x, y)
}

// pinnedContract returns the dialect in which shadows are spelled.
func (db *DB) pinnedContract() (wire.Contract, error) { return db.storedContract(engineContract) }

// storedContract returns the contract whose name is kept under name in the engine state.
func (db *DB) storedContract(name string) (wire.Contract, error) {
	var stored wire.ContractName
	if _, err := db.conn.one(`SELECT value FROM _sync_engine_state WHERE name = ?`, func(s *sqlite3.Stmt) error {
		stored = wire.ContractName(s.ColumnText(0))
		return nil
	}, name); err != nil {
		return nil, err
	}
	c, err := wire.ContractByName(stored)
	if err != nil {
		return nil, db.damaged("_sync_engine_state", "names no contract that this engine knows under "+name, err)
	}
	return c, nil
}

// damaged is the error for metadata that no transaction of ours can have written.
func (db *DB) damaged(table, reason string, err error) error {
	return &local.DatabaseError{Operation: "read", Path: db.cfg.Path, Table: table, Reason: reason, Err: err}
}

// bindRow binds the values of a row to the parameters from first on.
func bindRow(s *sqlite3.Stmt, first int, row []wire.Value) (err error) {
	for i := range row {
		v := &row[i]
		switch v.Type {
		case wire.Null:
			err = s.BindNull(first + i)
		case wire.Integer:
			err = s.BindInt64(first+i, v.Int)
		case wire.Real:
			err = s.BindFloat(first+i, v.Float)
		case wire.Text:
			err = s.BindText(first+i, string(v.Bytes))
		case wire.Blob:
			if len(v.Bytes) == 0 {
				err = s.BindZeroBlob(first+i, 0) // a nil slice would bind NULL
			} else {
				err = s.BindBlob(first+i, v.Bytes)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// withRow executes a statement whose parameters are the values of row. The first row of the answer, if fn is given, goes there.
func (c *conn) withRow(sql string, row []wire.Value, fn func(*sqlite3.Stmt) error) (found bool, err error) {
	return c.stepRow(sql, row, false, fn)
}

// withRows is withRow for all rows of the answer.
func (c *conn) withRows(sql string, row []wire.Value, fn func(*sqlite3.Stmt) error) error {
	_, err := c.stepRow(sql, row, true, fn)
	return err
}

func (c *conn) stepRow(sql string, row []wire.Value, all bool, fn func(*sqlite3.Stmt) error) (found bool, err error) {
	s, err := c.stmt(sql)
	if err != nil {
		return false, err
	}
	defer func() {
		rerr := errors.Join(s.Reset(), s.ClearBindings())
		if err == nil {
			err = rerr
		}
	}()
	if err := bindRow(s, 1, row); err != nil {
		return false, err
	}
	for s.Step() {
		found = true
		if fn != nil {
			if err := fn(s); err != nil {
				return true, err
			}
		}
		if !all {
			break
		}
	}
	return found, s.Err()
}

// columnValue copies a result column out of SQLite.
func columnValue(s *sqlite3.Stmt, i int) wire.Value {
	switch s.ColumnType(i) {
	case sqlite3.INTEGER:
		return wire.Value{Type: wire.Integer, Int: s.ColumnInt64(i)}
	case sqlite3.FLOAT:
		return wire.Value{Type: wire.Real, Float: s.ColumnFloat(i)}
	case sqlite3.TEXT:
		return wire.Value{Type: wire.Text, Bytes: append([]byte{}, s.ColumnRawText(i)...)}
	case sqlite3.BLOB:
		return wire.Value{Type: wire.Blob, Bytes: s.ColumnBlob(i, []byte{})}
	default:
		return wire.Value{}
	}
}

// columnBytes copies a result column that holds text; nil for NULL.
func columnBytes(s *sqlite3.Stmt, i int) []byte {
	if s.ColumnType(i) == sqlite3.NULL {
		return nil
	}
	return append([]byte{}, s.ColumnRawText(i)...)
}
