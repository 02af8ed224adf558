package wire

func (classic) DecodeSnapshotSession(body []byte) (SnapshotSession, error) {
	d := newDecoder("create snapshot session", body)
	var (
		seen memberSet
		s    SnapshotSession
	)
	for name := range d.members {
		switch string(name) {
		case "snapshot_id":
			d.once(&seen, 1)
			d.string(&s.ID)
		case "snapshot_bundle_seq":
			d.once(&seen, 2)
			d.int(&s.BundleSeq)
		case "row_count":
			d.once(&seen, 4)
			d.int(&s.RowCount)
		case "byte_count":
			d.once(&seen, 8)
			d.int(&s.ByteCount)
		case "expires_at":
			d.once(&seen, 16)
			d.string(&s.ExpiresAt)
		default:
			d.skip()
		}
	}
	if err := d.finish(); err != nil {
		return SnapshotSession{}, err
	}
	switch {
	case s.ID == "":
		return SnapshotSession{}, d.bad("invalid_session: no snapshot_id")
	case s.BundleSeq < 0 || s.RowCount < 0 || s.ByteCount < 0:
		return SnapshotSession{}, d.bad("invalid_session: a negative count")
	case s.BundleSeq == 0 && s.RowCount > 0:
		return SnapshotSession{}, d.bad("invalid_session: missing snapshot_bundle_seq for non-empty row set")
	}
	return s, nil
}

func (classic) DecodeSnapshotPage(body []byte, r SnapshotPageRequest) (SnapshotPage, error) {
	d := newDecoder("snapshot page", body)
	var (
		seen memberSet
		page SnapshotPage
		id   string
		seq  int64
	)
	for name := range d.members {
		switch string(name) {
		case "snapshot_id":
			d.once(&seen, 1)
			d.string(&id)
		case "snapshot_bundle_seq":
			d.once(&seen, 2)
			d.int(&seq)
		case "rows":
			d.once(&seen, 4)
			var err error
			if page.Rows, err = d.rows(true); err != nil {
				return SnapshotPage{}, err
			}
		case "next_row_ordinal":
			d.once(&seen, 8)
			d.int(&page.Next)
		case "has_more":
			d.once(&seen, 16)
			d.bool(&page.HasMore)
		default:
			d.skip()
		}
	}
	if err := d.finish(); err != nil {
		return SnapshotPage{}, err
	}
	n := int64(len(page.Rows))
	switch next := r.After + n; {
	case id != r.Session.ID:
		return SnapshotPage{}, d.bad("invalid_chunk: the answer is for another snapshot")
	case seq != r.Session.BundleSeq:
		return SnapshotPage{}, d.bad("invalid_chunk: snapshot_bundle_seq %d does not match expected %d", seq, r.Session.BundleSeq)
	case seq == 0 && n > 0:
		return SnapshotPage{}, d.bad("invalid_chunk: missing snapshot_bundle_seq for non-empty row set")
	case page.Next != next:
		return SnapshotPage{}, d.bad("invalid_chunk: next_row_ordinal %d does not match expected %d", page.Next, next)
	case page.HasMore && n == 0:
		return SnapshotPage{}, d.bad("invalid_chunk: an empty page that says there is more")
	case next > r.Session.RowCount || page.HasMore && next == r.Session.RowCount:
		// That the last page reaches row_count is checked of the whole stage.
		return SnapshotPage{}, d.bad("invalid_chunk: snapshot final row total %d does not match session row_count %d", next, r.Session.RowCount)
	}
	return page, nil
}
