package wire

// columnFinder maps the member names of payloads to columns. Payloads of one table come with their members in the
// same order, so it remembers where each position led last time. Not safe for concurrent use.
type columnFinder struct {
	t     *Table
	index map[string]int
	hint  []int // column expected at each member position
	seen  []uint64
	round uint64 // value in seen of the columns met in the current payload
	at    int
}

func newColumnFinder(t *Table) columnFinder {
	f := columnFinder{t: t, index: make(map[string]int, len(t.Columns)), hint: make([]int, len(t.Columns)), seen: make([]uint64, len(t.Columns))}
	for i, c := range t.Columns {
		f.index[c.Name] = i
		f.hint[i] = i
	}
	return f
}

func (f *columnFinder) reset() {
	f.round++
	f.at = 0
}

// find returns the column of the next member, -1 when the table has none of this name. again says that the payload
// had it before.
func (f *columnFinder) find(name []byte) (column int, again bool) {
	at := f.at
	f.at++
	if at < len(f.hint) && string(name) == f.t.Columns[f.hint[at]].Name {
		column = f.hint[at]
	} else {
		var ok bool
		if column, ok = f.index[string(name)]; !ok {
			f.at-- // a member of no column takes no position
			return -1, false
		}
		if at < len(f.hint) {
			f.hint[at] = column
		}
	}
	again = f.seen[column] == f.round
	f.seen[column] = f.round
	return column, again
}

// missing returns the first column that the payload did not have, -1 when it had all.
func (f *columnFinder) missing() int {
	for i, r := range f.seen {
		if r != f.round {
			return i
		}
	}
	return -1
}

func (t *Table) qualified() string { return t.Schema + "." + t.Name }
