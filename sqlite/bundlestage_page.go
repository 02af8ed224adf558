package sqlite

import (
	"encoding/binary"

	"github.com/oversqlite/oversqlite/wire"
)

// stageBytes is about how large a value of the bundle stage gets. A page of the server becomes several values when it
// is larger.
const stageBytes = 256 << 10

// staged is a row of the bundle stage. Its version is the bundle's.
type staged struct {
	table   []byte
	key     []byte // value of the wire key
	op      wire.Op
	payload []byte // wire form, nil for a deletion
}

// appendStaged appends a row: length and bytes of its op, its table, its key and, unless it was deleted, its payload.
func appendStaged(b []byte, r *wire.Row) []byte {
	b = appendSized(b, string(r.Op))
	b = appendSized(b, r.Table)
	b = appendSized(b, r.Key.Value)
	if r.Op == wire.OpDelete {
		return b
	}
	return appendSized(b, r.Payload)
}

func appendSized[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// nextStaged reads the row at the start of b, into which the row's slices point, and returns what follows it. ok is
// false when there is no whole row.
func nextStaged(b []byte) (r staged, rest []byte, ok bool) {
	op, b, _ := nextSized(b) // nil, which is no op, when there is none
	if r.op = opOf(op); r.op == "" {
		return r, nil, false
	}
	if r.table, b, ok = nextSized(b); !ok {
		return r, nil, false
	}
	if r.key, b, ok = nextSized(b); !ok {
		return r, nil, false
	}
	if r.op != wire.OpDelete {
		r.payload, b, ok = nextSized(b)
	}
	return r, b, ok
}

func nextSized(b []byte) (v, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	end := size + int(n) //nolint:gosec // n is at most the length of b
	return b[size:end:end], b[end:], true
}

// opOf returns an op without a copy.
func opOf(text []byte) wire.Op {
	switch string(text) {
	case string(wire.OpInsert):
		return wire.OpInsert
	case string(wire.OpUpdate):
		return wire.OpUpdate
	case string(wire.OpDelete):
		return wire.OpDelete
	}
	return ""
}
