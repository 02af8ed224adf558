package wire

// WatchEvent is the data of a bundle event of the watch stream: a hint that there is something to pull.
type WatchEvent struct {
	BundleSeq      int64
	SourceID       string // "": not given
	SourceBundleID int64  // 0: not given
}

// DecodeWatchEvent decodes the data of a bundle event.
func DecodeWatchEvent(data []byte) (WatchEvent, error) {
	d := newDecoder("watch", data)
	var (
		seen memberSet
		meta BundleMeta
	)
	for name := range d.members {
		if !d.meta(name, &meta, &seen) {
			d.skip()
		}
	}
	if err := d.finish(); err != nil {
		return WatchEvent{}, err
	}
	if meta.Seq <= 0 {
		return WatchEvent{}, d.bad("bundle_seq %d must be positive", meta.Seq)
	}
	return WatchEvent{BundleSeq: meta.Seq, SourceID: meta.SourceID, SourceBundleID: meta.SourceBundleID}, nil
}
