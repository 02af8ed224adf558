package wire

func (classic) DecodeSnapshotSession(body []byte) (SnapshotSession, error) {
	s, _, err := newDecoder("create snapshot session", body).snapshotSession()
	if err != nil {
		return SnapshotSession{ID: s.ID}, err
	}
	return s, nil
}

// sessionByteCount is a member of a snapshot session, as a bit of a memberSet.
const sessionByteCount memberSet = 8

// snapshotSession reads and checks what both contracts have in common.
func (d *decoder) snapshotSession() (s SnapshotSession, seen memberSet, err error) {
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
			d.once(&seen, sessionByteCount)
			d.int(&s.ByteCount)
		case "expires_at":
			d.once(&seen, 16)
			d.string(&s.ExpiresAt)
		default:
			d.skip()
		}
	}
	if err := d.finish(); err != nil {
		return s, seen, err
	}
	switch {
	case s.ID == "":
		return s, seen, d.bad(invalidSession + "no snapshot_id")
	case s.BundleSeq < 0 || s.RowCount < 0 || s.ByteCount < 0:
		return s, seen, d.bad(invalidSession + "a negative count")
	case s.BundleSeq == 0 && s.RowCount > 0:
		return s, seen, d.bad(invalidSession + "missing snapshot_bundle_seq for non-empty row set")
	}
	return s, seen, nil
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
		case "byte_count":
			d.once(&seen, 32)
			d.int(&page.ByteCount)
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
	if seen&32 != 0 {
		return SnapshotPage{}, &ContractChangedError{Operation: d.operation, Pinned: ClassicContract, Found: UniformContract}
	}
	if err := d.checkPage(&page, r, id, seq); err != nil {
		return SnapshotPage{}, err
	}
	return page, nil
}

// checkPage checks what both contracts have in common: the page's rows against the session and what came before.
func (d *decoder) checkPage(page *SnapshotPage, r SnapshotPageRequest, id string, seq int64) error {
	n := int64(len(page.Rows))
	switch next := r.After + n; {
	case id != r.Session.ID:
		return d.bad(invalidChunk + "the answer is for another snapshot")
	case seq != r.Session.BundleSeq:
		return d.bad(invalidChunk+"snapshot_bundle_seq %d does not match expected %d", seq, r.Session.BundleSeq)
	case seq == 0 && n > 0:
		return d.bad(invalidChunk + "missing snapshot_bundle_seq for non-empty row set")
	case page.Next != next:
		return d.bad(invalidChunk+"next_row_ordinal %d does not match expected %d", page.Next, next)
	case page.HasMore && n == 0:
		return d.bad(invalidChunk + "an empty page that says there is more")
	case next > r.Session.RowCount || page.HasMore && next == r.Session.RowCount:
		// That the last page reaches row_count is checked of the whole stage.
		return d.bad(invalidChunk+"snapshot final row total %d does not match session row_count %d", next, r.Session.RowCount)
	}
	return nil
}
