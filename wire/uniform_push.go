package wire

import "strings"

// hiddenColumn is the server's own column that never leaves it.
const hiddenColumn = "_sync_scope_id"

// newUniformDecoder returns a decoder that reads rows by the rules of the uniform contract.
func newUniformDecoder(operation string, body []byte) *decoder {
	d := newDecoder(operation, body)
	d.uniform = true
	return d
}

// AppendCreatePush appends the request that opens a push session.
func (uniform) AppendCreatePush(dst []byte, r CreatePushRequest) []byte {
	dst = classic{}.AppendCreatePush(dst, r)
	dst = append(dst[:len(dst)-1], `,"canonical_request_hash":`...)
	dst = appendString(dst, r.RequestHash)
	return append(dst, '}')
}

// AppendPushChunk appends the request that stages rows from ordinal start on.
func (uniform) AppendPushChunk(dst []byte, start int64, rows []PushRow) []byte {
	return classic{}.AppendPushChunk(dst, start, rows)
}

func (uniform) DecodeCreatePush(body []byte, r CreatePushRequest, sourceID string) (CreatePushResponse, error) {
	d := newUniformDecoder("create push session", body)
	resp, seen, err := d.createPush(r, sourceID)
	if err == nil && !resp.AlreadyCommitted && !canonicalUUID(resp.PushID) {
		err = d.bad("a push_id that is no canonical UUID")
	}
	if err == nil {
		err = d.checkRequest(&resp.Committed, seen, r.RequestHash)
	}
	if err != nil {
		return CreatePushResponse{}, err
	}
	return resp, nil
}

func (uniform) DecodePushChunk(body []byte, pushID string, next int64) error {
	return classic{}.DecodePushChunk(body, pushID, next)
}

func (uniform) DecodeCommit(body []byte, r CreatePushRequest, sourceID string) (BundleMeta, error) {
	d := newUniformDecoder("commit push session", body)
	meta, seen, err := d.commit(r, sourceID)
	if err == nil {
		err = d.checkRequest(&meta, seen, r.RequestHash)
	}
	if err != nil {
		return BundleMeta{}, err
	}
	return meta, nil
}

func (uniform) DecodeCommittedRows(body []byte, r CommittedRowsRequest) (CommittedRowsPage, error) {
	d := newUniformDecoder("committed bundle rows", body)
	page, seen, err := d.committedRows(r)
	if err == nil {
		err = d.checkRequest(&page.Bundle, seen, r.Bundle.RequestHash)
	}
	if err != nil {
		return CommittedRowsPage{}, err
	}
	return page, nil
}

// checkRequest checks that an answer is about the request whose hash is want; "": a bundle that is not ours, which may have
// been no push at all.
func (d *decoder) checkRequest(m *BundleMeta, seen memberSet, want string) error {
	switch {
	case want == "":
		return nil
	case seen&hasRequestHash == 0:
		return &ContractChangedError{Operation: d.operation, Pinned: UniformContract, Found: ClassicContract}
	case !canonicalHash(m.RequestHash):
		return d.bad("a canonical_request_hash that is no hash")
	case m.RequestHash != want:
		return &RequestHashError{Operation: d.operation, Sent: want, Named: m.RequestHash}
	}
	return nil
}

// canonicalHash reports whether s is a SHA-256 hash in lower-case hexadecimal digits.
func canonicalHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, hexDigits) == ""
}

func (uniform) DecodePull(body []byte, r PullRequest) (PullPage, error) {
	d := newUniformDecoder("pull", body)
	page, err := d.pull(r)
	if err != nil {
		return PullPage{}, err
	}
	for i := range page.Bundles {
		b := &page.Bundles[i]
		switch {
		case !visibleASCII(b.SourceID):
			return PullPage{}, d.bad("bundle %d has a source_id that is not visible ASCII", b.Seq)
		case b.SourceBundleID <= 0:
			return PullPage{}, d.bad("bundle %d has source_bundle_id %d", b.Seq, b.SourceBundleID)
		}
	}
	return page, nil
}

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7E {
			return false
		}
	}
	return s != ""
}

// checkKey checks a row key by the rules of the uniform contract.
func (d *decoder) checkKey(k *Key) {
	switch {
	case strings.TrimSpace(k.Value) == "":
		d.fail("invalid_row: a blank row key")
	case strings.EqualFold(k.Column, hiddenColumn):
		d.fail("invalid_row: a row key with the hidden column " + hiddenColumn)
	}
}

// payload passes over the payload of a row and returns its text, nil for null. In the uniform contract the server's hidden
// column must not be in it, and no object may have a member twice.
func (d *decoder) payload() []byte {
	if !d.uniform {
		return d.object()
	}
	if d.null() {
		return nil
	}
	if d.peek() != '{' {
		d.fail("not an object")
		return nil
	}
	start := d.i
	var names nameSet
	for name := range d.members {
		if len(name) == len(hiddenColumn) && strings.EqualFold(string(name), hiddenColumn) {
			d.fail("invalid_row: a payload with the hidden column " + hiddenColumn)
			return nil
		}
		if !names.add(name) {
			d.fail(twice)
			return nil
		}
		d.skipUnique()
	}
	if d.failed() {
		return nil
	}
	return d.b[start:d.i:d.i]
}

// DecodeConnect decodes the answer to connect. A lease is named by a canonical UUID, and by nothing else.
func (uniform) DecodeConnect(body []byte) (ConnectResponse, error) {
	r, id, err := decodeConnect(body)
	switch {
	case err != nil:
	case r.Resolution == InitializeLocal && !canonicalUUID(id):
		err = &ProtocolError{Operation: "connect", Reason: "initialize_local with an initialization_id that is no canonical UUID"}
	case r.Resolution != InitializeLocal && id != "":
		err = &ProtocolError{Operation: "connect", Reason: string(r.Resolution) + " with an initialization_id"}
	}
	if err != nil {
		return ConnectResponse{}, err
	}
	return r, nil
}
