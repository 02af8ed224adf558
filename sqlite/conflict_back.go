package sqlite

// stepBack drops intents that were given up for a shadow which cannot be laid down yet, and makes their rows again what
// the server had when the intents were made on it. The pull that brings what the shadow lacks would collide with the
// intent, and the shadow cannot be laid down without that pull: neither would ever come first.
//
// That is done only where the shadow is newer than the checkpoint, so that the pull brings it again. Intents whose row as
// it was is not known, or cannot be laid down either, are returned untouched.
func (db *DB) stepBack(im *images, intents []*intent) (left []*intent, err error) {
	h, err := db.head()
	if err != nil {
		return nil, err
	}
	of := map[*intent]*intent{} // the intent with the image it was made on for a shadow
	var backward []*intent
	for _, in := range intents {
		before := im.before(in)
		if before == nil || in.shadow.deleted || in.shadow.version <= h.checkpoint {
			left = append(left, in)
			continue
		}
		back := *in
		back.shadow = before
		of[&back] = in
		backward = append(backward, &back)
	}
	stuck, err := db.layDown(im, backward)
	for _, back := range stuck {
		left = append(left, of[back])
	}
	return left, err
}

// before is the image that the intent was made on; nil when it is not known exactly.
func (im *images) before(in *intent) *shadow {
	if !in.live {
		return &shadow{version: in.base, exact: true, deleted: true}
	}
	if in.baseRow == nil {
		return nil
	}
	payload, err := im.toWire(in.t, in.baseRow)
	if err != nil {
		return nil // a base row that cannot be spelled is as good as one that is not known
	}
	again, err := im.fromWire(in.t, payload)
	if err != nil || !im.sameLocal(in.t, in.baseRow, again) {
		return nil
	}
	return &shadow{version: in.base, exact: true, payload: payload}
}
