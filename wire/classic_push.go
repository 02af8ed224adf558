package wire

import "strconv"

// AppendCreatePush appends the request that opens a push session. The classic dialect sends no request hash.
func (classic) AppendCreatePush(dst []byte, r CreatePushRequest) []byte {
	dst = append(dst, `{"source_bundle_id":`...)
	dst = strconv.AppendInt(dst, r.SourceBundleID, 10)
	dst = append(dst, `,"planned_row_count":`...)
	dst = strconv.AppendInt(dst, r.PlannedRowCount, 10)
	if r.InitializationID != "" {
		dst = append(dst, `,"initialization_id":`...)
		dst = appendString(dst, r.InitializationID)
	}
	return append(dst, '}')
}

// AppendPushChunk appends the request that stages rows from ordinal start on.
func (classic) AppendPushChunk(dst []byte, start int64, rows []PushRow) []byte {
	dst = append(dst, `{"start_row_ordinal":`...)
	dst = strconv.AppendInt(dst, start, 10)
	dst = append(dst, `,"rows":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendPushRow(dst, &rows[i])
	}
	return append(dst, "]}"...)
}

func appendPushRow(dst []byte, r *PushRow) []byte {
	dst = append(dst, `{"schema":`...)
	dst = appendString(dst, r.Schema)
	dst = append(dst, `,"table":`...)
	dst = appendString(dst, r.Table)
	dst = append(dst, `,"key":`...)
	dst = AppendWireKeyJSON(dst, r.Key)
	dst = append(dst, `,"op":`...)
	dst = appendString(dst, string(r.Op))
	dst = append(dst, `,"base_row_version":`...)
	dst = strconv.AppendInt(dst, r.BaseRowVersion, 10)
	if r.Op != OpDelete { // a DELETE with a payload, null included, is refused
		dst = append(dst, `,"payload":`...)
		dst = append(dst, r.Payload...)
	}
	return append(dst, '}')
}

func (classic) DecodeCreatePush(body []byte, r CreatePushRequest, sourceID string) (CreatePushResponse, error) {
	d := newDecoder("create push session", body)
	resp, seen, err := d.createPush(r, sourceID)
	if err == nil {
		err = d.classicOnly(seen)
	}
	if err != nil {
		return CreatePushResponse{}, err
	}
	return resp, nil
}

// classicOnly refuses an answer that names the request it is about: only the uniform contract does.
func (d *decoder) classicOnly(seen memberSet) error {
	if seen&hasRequestHash != 0 {
		return &ContractChangedError{Operation: d.operation, Pinned: ClassicContract, Found: UniformContract}
	}
	return nil
}

// createPush reads and checks what both contracts have in common. Where the answer is a staging session, the request
// hash is in Committed as well.
func (d *decoder) createPush(r CreatePushRequest, sourceID string) (resp CreatePushResponse, seen memberSet, err error) {
	var (
		status  string
		planned = r.PlannedRowCount
		next    int64
		meta    = BundleMeta{RowCount: -1}
	)
	for name := range d.members {
		switch string(name) {
		case "push_id":
			d.once(&seen, 1<<metaBits)
			d.string(&resp.PushID)
		case "status":
			d.once(&seen, 2<<metaBits)
			d.string(&status)
		case "planned_row_count":
			d.once(&seen, 4<<metaBits)
			d.int(&planned)
		case "next_expected_row_ordinal":
			d.once(&seen, 8<<metaBits)
			d.int(&next)
		default:
			if !d.meta(name, &meta, &seen) {
				d.skip()
			}
		}
	}
	if err := d.finish(); err != nil {
		return CreatePushResponse{}, seen, err
	}
	switch status {
	case "staging":
		switch {
		case resp.PushID == "":
			return CreatePushResponse{}, seen, d.bad("a staging session without a push_id")
		case planned != r.PlannedRowCount:
			return CreatePushResponse{}, seen, d.bad("planned_row_count %d, asked for %d", planned, r.PlannedRowCount)
		case next != 0:
			return CreatePushResponse{}, seen, d.bad("a new session expects row ordinal %d", next)
		}
		resp.Committed = BundleMeta{RequestHash: meta.RequestHash}
		return resp, seen, nil
	case "already_committed":
		if err := d.checkCommit(&meta, r, sourceID); err != nil {
			return CreatePushResponse{}, seen, err
		}
		return CreatePushResponse{AlreadyCommitted: true, Committed: meta}, seen, nil
	}
	return CreatePushResponse{}, seen, d.bad("an unknown session status")
}

// checkCommit checks that meta data belong to the push r of the source.
func (d *decoder) checkCommit(m *BundleMeta, r CreatePushRequest, sourceID string) error {
	if err := d.checkMeta(m); err != nil {
		return err
	}
	switch {
	case m.SourceID != sourceID:
		return d.bad("the bundle is another source's")
	case m.SourceBundleID != r.SourceBundleID:
		return d.bad("source_bundle_id %d, pushed was %d", m.SourceBundleID, r.SourceBundleID)
	case m.RowCount < 0:
		return d.bad("a committed bundle without a row_count")
	case m.Hash == "":
		return d.bad("a committed bundle without a bundle_hash")
	}
	return nil
}

func (classic) DecodePushChunk(body []byte, pushID string, next int64) error {
	d := newDecoder("push chunk", body)
	var (
		seen     memberSet
		id       string
		expected int64 = -1
	)
	for name := range d.members {
		switch string(name) {
		case "push_id":
			d.once(&seen, 1)
			d.string(&id)
		case "next_expected_row_ordinal":
			d.once(&seen, 2)
			d.int(&expected)
		default:
			d.skip()
		}
	}
	if err := d.finish(); err != nil {
		return err
	}
	switch {
	case id != pushID:
		return d.bad("the answer is for another push session")
	case expected != next:
		return d.bad("next_expected_row_ordinal %d does not match expected %d", expected, next)
	}
	return nil
}

func (classic) DecodeCommit(body []byte, r CreatePushRequest, sourceID string) (BundleMeta, error) {
	d := newDecoder("commit push session", body)
	meta, seen, err := d.commit(r, sourceID)
	if err == nil {
		err = d.classicOnly(seen)
	}
	if err != nil {
		return BundleMeta{}, err
	}
	return meta, nil
}

// commit reads and checks what both contracts have in common.
func (d *decoder) commit(r CreatePushRequest, sourceID string) (meta BundleMeta, seen memberSet, err error) {
	meta.RowCount = -1
	for name := range d.members {
		if !d.meta(name, &meta, &seen) {
			d.skip()
		}
	}
	if err := d.finish(); err != nil {
		return BundleMeta{}, 0, err
	}
	if err := d.checkCommit(&meta, r, sourceID); err != nil {
		return BundleMeta{}, 0, err
	}
	return meta, seen, nil
}

func (classic) DecodeCommittedRows(body []byte, r CommittedRowsRequest) (CommittedRowsPage, error) {
	d := newDecoder("committed bundle rows", body)
	page, seen, err := d.committedRows(r)
	if err == nil {
		err = d.classicOnly(seen)
	}
	if err != nil {
		return CommittedRowsPage{}, err
	}
	return page, nil
}

// committedRows reads and checks what both contracts have in common.
func (d *decoder) committedRows(r CommittedRowsRequest) (page CommittedRowsPage, seen memberSet, err error) {
	page.Bundle.RowCount = -1
	for name := range d.members {
		switch string(name) {
		case "rows":
			d.once(&seen, 1<<metaBits)
			if page.Rows, err = d.rows(false); err != nil {
				return CommittedRowsPage{}, 0, err
			}
		case "next_row_ordinal":
			d.once(&seen, 2<<metaBits)
			d.int(&page.Next)
		case "has_more":
			d.once(&seen, 4<<metaBits)
			d.bool(&page.HasMore)
		default:
			if !d.meta(name, &page.Bundle, &seen) {
				d.skip()
			}
		}
	}
	if err := d.finish(); err != nil {
		return CommittedRowsPage{}, 0, err
	}
	if err := d.checkCommittedPage(&page, &r); err != nil {
		return CommittedRowsPage{}, 0, err
	}
	return page, seen, nil
}

func (d *decoder) checkCommittedPage(page *CommittedRowsPage, r *CommittedRowsRequest) error {
	got, want := &page.Bundle, &r.Bundle
	if err := d.checkMeta(got); err != nil {
		return err
	}
	switch {
	case want.Seq > 0 && got.Seq != want.Seq:
		return d.bad("bundle_seq %d, asked for %d", got.Seq, want.Seq)
	case want.SourceID != "" && got.SourceID != want.SourceID:
		return d.otherBundle("bundle %d is another source's", got.Seq)
	case want.SourceBundleID > 0 && got.SourceBundleID != want.SourceBundleID:
		return d.otherBundle("source_bundle_id %d does not match expected %d", got.SourceBundleID, want.SourceBundleID)
	case want.RowCount >= 0 && got.RowCount != want.RowCount:
		return d.bad("row_count %d does not match expected %d", got.RowCount, want.RowCount)
	case want.Hash != "" && got.Hash != want.Hash:
		return d.bad("bundle_hash differs from the committed one")
	}
	n := int64(len(page.Rows))
	if n == 0 {
		// The server echoes the ordinal that was sent, or 0 when none was.
		if page.Next != r.After && page.Next != max(r.After, 0) {
			return d.bad("next_row_ordinal %d does not match expected %d", page.Next, r.After)
		}
		page.Next = r.After
	}
	switch last := r.After + n; {
	case page.Next != last:
		return d.bad("next_row_ordinal %d does not match expected %d", page.Next, last)
	case page.HasMore && n == 0:
		return d.bad("an empty page that says there is more")
	case got.RowCount >= 0 && last >= got.RowCount && n > 0:
		return d.bad("%d rows of a bundle with row_count %d", last+1, got.RowCount)
	case got.RowCount >= 0 && !page.HasMore && last+1 != got.RowCount:
		return d.bad("the last page ends after %d rows of a bundle with row_count %d", last+1, got.RowCount)
	}
	return nil
}

// rows reads an array of rows.
func (d *decoder) rows(snapshot bool) (rows []Row, err error) {
	for range d.list {
		rows = append(rows, Row{})
		if err := d.row(&rows[len(rows)-1], snapshot); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
