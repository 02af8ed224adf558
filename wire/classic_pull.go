package wire

func (classic) DecodePull(body []byte, r PullRequest) (PullPage, error) {
	return newDecoder("pull", body).pull(r)
}

func (d *decoder) pull(r PullRequest) (PullPage, error) {
	var (
		seen memberSet
		page PullPage
	)
	for name := range d.members {
		switch string(name) {
		case "stable_bundle_seq":
			d.once(&seen, 1)
			d.int(&page.StableSeq)
		case "bundles":
			d.once(&seen, 2)
			for range d.list {
				page.Bundles = append(page.Bundles, Bundle{})
				if err := d.bundle(&page.Bundles[len(page.Bundles)-1]); err != nil {
					return PullPage{}, err
				}
			}
		case "has_more":
			d.once(&seen, 4)
			d.bool(&page.HasMore)
		default:
			d.skip()
		}
	}
	if err := d.finish(); err != nil {
		return PullPage{}, err
	}
	if seen&1 == 0 && len(page.Bundles) == 0 {
		return PullPage{}, d.bad("an answer without stable_bundle_seq")
	}
	if err := d.checkPull(&page, r); err != nil {
		return PullPage{}, err
	}
	return page, nil
}

func (d *decoder) bundle(b *Bundle) error {
	var seen memberSet
	b.RowCount = -1
	for name := range d.members {
		if string(name) == "rows" {
			d.once(&seen, 1<<metaBits)
			rows, err := d.rows(false)
			if err != nil {
				return err
			}
			b.Rows = rows
			continue
		}
		if !d.meta(name, &b.BundleMeta, &seen) {
			d.skip()
		}
	}
	if d.failed() {
		return nil // reported at the end, with its place
	}
	return d.checkMeta(&b.BundleMeta)
}

// checkPull checks the seqs of a page against each other and against what was asked.
func (d *decoder) checkPull(page *PullPage, r PullRequest) error {
	stable, last := page.StableSeq, r.After
	switch {
	case stable < 0:
		return d.bad("stable_bundle_seq %d is negative", stable)
	case stable == 0 && len(page.Bundles) > 0:
		return d.bad("missing stable_bundle_seq for non-empty bundle list")
	case r.Target > 0 && stable != r.Target:
		return d.bad("stable bundle seq changed from %d to %d", r.Target, stable)
	case stable < r.After:
		return &StableBehindError{Stable: stable, After: r.After}
	}
	for i := range page.Bundles {
		seq := page.Bundles[i].Seq
		switch {
		case seq <= last:
			return d.bad("bundle_seq %d comes after %d", seq, last)
		case seq > stable:
			return d.bad("bundle_seq %d is beyond stable_bundle_seq %d", seq, stable)
		}
		last = seq
	}
	switch {
	case page.HasMore && len(page.Bundles) == 0:
		return d.bad("an empty page that says there is more")
	case page.HasMore && last == stable:
		return d.bad("a page that reaches stable_bundle_seq %d and says there is more", stable)
	case !page.HasMore && last != stable && (r.After > 0 || len(page.Bundles) > 0): // from 0, an answer that lost all its bundles: see Gap
		return d.bad("the last page ends at bundle_seq %d, before stable_bundle_seq %d", last, stable)
	}
	return nil
}

// Gap looks for the first bundle of the page that is not the next one after its predecessor, the first after the
// checkpoint after. Seqs have no gaps, so the bundles between were lost from the server's history. So were those of a
// last page that is empty although there is something to come: a checkpoint of 0 is never answered history_pruned. Then
// got is one beyond what was lost.
func (p PullPage) Gap(after int64) (expected, got int64, gap bool) {
	for i := range p.Bundles {
		if seq := p.Bundles[i].Seq; seq != after+1 {
			return after + 1, seq, true
		}
		after++
	}
	if len(p.Bundles) == 0 && !p.HasMore && after < p.StableSeq {
		return after + 1, p.StableSeq + 1, true
	}
	return 0, 0, false
}
