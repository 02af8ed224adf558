package wire

// AppendConnect appends the request to connect. hasPendingRows says whether there are local rows to seed a scope with.
func AppendConnect(dst []byte, hasPendingRows bool) []byte {
	if hasPendingRows {
		return append(dst, `{"has_local_pending_rows":true}`...)
	}
	return append(dst, `{"has_local_pending_rows":false}`...)
}

// DecodeConnect decodes the answer to connect.
func DecodeConnect(body []byte) (ConnectResponse, error) {
	r, _, err := decodeConnect(body)
	return r, err
}

// decodeConnect returns the initialization_id that came, beside the one that counts.
func decodeConnect(body []byte) (r ConnectResponse, id string, err error) {
	d := newDecoder("connect", body)
	var (
		seen       memberSet
		resolution string
	)
	for name := range d.members {
		switch string(name) {
		case "resolution":
			d.once(&seen, 1)
			d.string(&resolution)
		case "initialization_id":
			d.once(&seen, 2)
			d.string(&r.InitializationID)
		case "lease_expires_at":
			d.once(&seen, 4)
			d.string(&r.LeaseExpiresAt)
		case "retry_after_seconds":
			d.once(&seen, 8)
			d.int(&r.RetryAfterSeconds)
		default:
			d.skip()
		}
	}
	if err := d.finish(); err != nil {
		return ConnectResponse{}, "", err
	}
	r.Resolution, id = Resolution(resolution), r.InitializationID
	switch r.Resolution {
	case RemoteAuthoritative, InitializeEmpty:
		r.InitializationID = ""
	case InitializeLocal:
		if r.InitializationID == "" {
			return ConnectResponse{}, "", d.bad("initialize_local without an initialization_id")
		}
	case ResolutionRetry:
		r.InitializationID = ""
		r.RetryAfterSeconds = max(r.RetryAfterSeconds, 1)
	default:
		return ConnectResponse{}, "", d.bad("an unknown resolution")
	}
	return r, id, nil
}

// AppendSnapshotRequest appends the request for a snapshot session; a nil replacement keeps the source.
func AppendSnapshotRequest(dst []byte, r *SourceReplacement) []byte {
	if r == nil {
		return append(dst, "{}"...)
	}
	dst = append(dst, `{"source_replacement":{"previous_source_id":`...)
	dst = appendString(dst, r.PreviousSourceID)
	dst = append(dst, `,"new_source_id":`...)
	dst = appendString(dst, r.NewSourceID)
	dst = append(dst, `,"reason":`...)
	dst = appendString(dst, r.Reason)
	return append(dst, "}}"...)
}
