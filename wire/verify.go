package wire

// VerifyBundle checks the rows of a bundle against the count and the hash that came with it, where they did. The
// error is a *ProtocolError.
func VerifyBundle(c Contract, b *Bundle) error {
	var h BundleHash
	if b.Hash != "" {
		h = c.NewBundleHash()
	}
	return verifyBundle(h, b)
}

// VerifyBundles is VerifyBundle for all bundles of a page.
func VerifyBundles(c Contract, bundles []Bundle) error {
	h := c.NewBundleHash()
	for i := range bundles {
		if err := verifyBundle(h, &bundles[i]); err != nil {
			return err
		}
	}
	return nil
}

func verifyBundle(h BundleHash, b *Bundle) error {
	if b.RowCount >= 0 && b.RowCount != int64(len(b.Rows)) {
		return &ProtocolError{Operation: "bundle", Reason: "the number of rows differs from row_count"}
	}
	if b.Hash == "" {
		return nil
	}
	h.Reset()
	for i := range b.Rows {
		if err := h.Add(&b.Rows[i]); err != nil {
			return err
		}
	}
	if h.Sum() != b.Hash {
		return &ProtocolError{Operation: "bundle", Reason: "the rows do not have the bundle_hash that came with them"}
	}
	return nil
}
