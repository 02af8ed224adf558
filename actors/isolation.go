package actors

// isolation is the strategy by which the upload machine finds the changes that the server refuses: it narrows down. A
// bundle is always the beginning of what is pending, in the order of pushing, which keeps it closed under foreign keys.
// One that is refused holds a culprit, so its first half goes next; one that is committed is done with, so half of what
// then remains of the suspected rows goes next. The smallest bundle that is refused is the culprit, and the search goes
// on behind it. k culprits among n rows are found with O(k log n) bundles, and everything else is committed on the way.
//
// It is plain data about one run. Nothing of it is durable: a run that begins anew searches anew.
type isolation struct {
	size     int64 // rows that the next bundle may have; 0: as many as go
	among    int64 // among the next so many rows there is a culprit; 0: not known
	refusals int64 // bundles refused since the last culprit
	found    int   // culprits
	since    int64 // rows committed since the last culprit
}

// narrowing reports whether the size of the next bundle is the strategy's choice.
func (i *isolation) narrowing() bool { return i.size > 0 }

// smallest reports whether a bundle with so many rows is as small as bundles get. One may have more rows than were asked
// for: rows that need each other are not parted.
func (i *isolation) smallest(rows int64) bool { return rows <= 1 || i.size == 1 }

// refused takes in that a bundle was refused. It reports whether that bundle is the culprit.
func (i *isolation) refused(rows int64) bool {
	i.refusals++
	if i.smallest(rows) {
		return true
	}
	half := rows / 2
	if i.size > 0 {
		half = min(half, i.size/2)
	}
	i.size, i.among = max(half, 1), rows
	return false
}

// committed takes in that a bundle was committed.
func (i *isolation) committed(rows int64) {
	i.since += rows
	if i.size == 0 {
		return
	}
	if i.among = max(i.among-rows, 0); i.among > 0 {
		i.size = max(i.among/2, 1)
		return
	}
	// Nothing is known of what follows.
	i.size = 4 * max(i.size, rows)
}

// culprit takes in that the culprit is out of the way. Behind the first one everything is tried at once; behind others
// about as much as lay between the last two, because culprits come in crowds.
func (i *isolation) culprit() {
	i.found++
	next := int64(0)
	if i.found > 1 {
		next = 2 * max(i.since, 1)
	}
	i.size, i.among, i.refusals, i.since = next, 0, 0, 0
}
