package actors

// Limits bounds what one request carries and one transaction takes. A zero field takes its default; what a server
// advertises as its maximum is never exceeded.
type Limits struct {
	BundleRows     int64 // rows frozen into one push; 0: as many as the server takes
	BundleBytes    int64 // bytes of their payloads; 0: as many as the server takes
	PushChunkRows  int64 // rows of an uploaded chunk; default: the server's default, else 1000
	PushChunkBytes int64 // bytes of its payloads; default 4 MiB
	CommittedRows  int64 // rows of a page of a committed bundle; default: the server's default, else 1000
	PullBundles    int64 // bundles of a page of a pull; default 1000
	SnapshotRows   int64 // rows of a page of a snapshot; default: the server's default (classic), else 1000
	SnapshotBytes  int64 // bytes of its rows, in contracts that bound them; default 4 MiB, or the largest row a server may send
	Conflicts      int   // conflicts handed to the resolver between two transactions; default 64
}

const (
	defaultRows       = 1000
	defaultChunkBytes = 4 << 20
	defaultBundles    = 1000
	defaultConflicts  = 64
)

// within returns what is wanted, else what the server advertises as its default, else fallback; never more than the
// server's maximum and never less than one.
func within(want, advertised, fallback, most int64) int64 {
	switch {
	case want > 0:
	case advertised > 0:
		want = advertised
	default:
		want = fallback
	}
	if most > 0 {
		want = min(want, most)
	}
	return max(want, 1)
}

// narrower returns the smaller of two bounds of which 0 means none.
func narrower(a, b int64) int64 {
	if a <= 0 || b > 0 && b < a {
		return max(b, 0)
	}
	return a
}
