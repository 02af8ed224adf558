package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/oversqlite/oversqlite/internal/workload"
)

// crashFile is a database file as it is found: read without an engine.
type crashFile struct {
	installed  bool // there are tables of the engine's
	steps      map[string]bool
	wrote      map[place]string // the newest token of the application's
	rows       map[place]row
	known      map[place]knownRow
	intents    map[place]*string // newest content in local form; nil: a deletion
	binding    string
	source     string
	checkpoint int64
	rebuild    bool
	replacing  bool // a remote replace is under way
	sources    map[string]bool
	leftover   int64 // rows in tables that must be empty after a detach
}

type knownRow struct {
	version int64
	deleted bool
}

func readCrashFile(ctx context.Context, path string) (f crashFile, err error) {
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return f, err
	}
	defer tx.Rollback()
	var integrity string
	if err := tx.QueryRow(`PRAGMA integrity_check`).Scan(&integrity); err != nil || integrity != "ok" {
		return f, fmt.Errorf("integrity_check: %s %v", integrity, err)
	}
	f = crashFile{steps: map[string]bool{}, wrote: map[place]string{}, known: map[place]knownRow{}, intents: map[place]*string{}, sources: map[string]bool{}}
	if f.rows, err = workload.Rows(tx); err != nil {
		return f, err
	}
	read := func(query string, fn func(scan func(...any) error) error) {
		if err == nil {
			err = each(tx, query, fn)
		}
	}
	read(`SELECT step FROM app_steps`, func(scan func(...any) error) error {
		var step string
		err := scan(&step)
		f.steps[step] = true
		return err
	})
	read(`SELECT tbl, id, token FROM app_wrote`, func(scan func(...any) error) error {
		var p place
		var token string
		err := scan(&p.Table, &p.Key, &token)
		f.wrote[p] = token
		return err
	})
	read(`SELECT count(*) FROM sqlite_schema WHERE name = '_sync_attachment_state'`, func(scan func(...any) error) error { return scan(&f.installed) })
	if err != nil || !f.installed {
		return f, err
	}
	read(`SELECT table_name, key_json ->> 'id', row_version, deleted FROM _sync_row_state`, func(scan func(...any) error) error {
		var p place
		var k knownRow
		err := scan(&p.Table, &p.Key, &k.version, &k.deleted)
		f.known[p] = k
		return err
	})
	for _, query := range []string{ // the newest last
		`SELECT table_name, key_json ->> 'id', local_payload FROM _sync_outbox_rows`,
		`SELECT table_name, key_json ->> 'id', payload FROM _sync_quarantine`,
		`SELECT table_name, key_json ->> 'id', payload FROM _sync_dirty_rows`,
	} {
		read(query, func(scan func(...any) error) error {
			var p place
			var payload *string
			err := scan(&p.Table, &p.Key, &payload)
			f.intents[p] = payload
			return err
		})
	}
	read(`SELECT binding_state, current_source_id, last_bundle_seq_seen, rebuild_required FROM _sync_attachment_state`, func(scan func(...any) error) error {
		return scan(&f.binding, &f.source, &f.checkpoint, &f.rebuild)
	})
	read(`SELECT kind = 'remote_replace' FROM _sync_operation_state`, func(scan func(...any) error) error { return scan(&f.replacing) })
	read(`SELECT source_id FROM _sync_source_state`, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		f.sources[id] = true
		return err
	})
	read(`SELECT (SELECT count(*) FROM _sync_row_state) + (SELECT count(*) FROM _sync_dirty_rows) + (SELECT count(*) FROM _sync_outbox_rows) +
  (SELECT count(*) FROM _sync_quarantine) + (SELECT count(*) FROM _sync_shadow) + (SELECT count(*) FROM _sync_base_rows) +
  (SELECT count(*) FROM _sync_snapshot_stage) + (SELECT count(*) FROM _sync_bundle_stage)`, func(scan func(...any) error) error { return scan(&f.leftover) })
	return f, err
}

// check looks at a file that an application left behind, dead or alive, while nobody has it open.
func (c *crashCase) check(ctx context.Context) (f crashFile, err error) {
	if f, err = readCrashFile(ctx, c.path); err != nil {
		return f, err
	}
	if f.installed {
		if err := verifyModel(ctx, c.path); err != nil {
			return f, fmt.Errorf("the invariant: %w", err)
		}
	}
	if err := workload.Dangling(f.rows); err != nil {
		return f, err
	}
	return f, errors.Join(c.strangers(), c.checkSaid(&f), c.checkMine(&f), f.checkIntents(), c.checkServer(&f), c.checkDetached(&f), c.server.once())
}

// strangers looks for another user's rows in the file and its log (S7).
func (c *crashCase) strangers() error {
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(c.path + suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if bytes.Contains(b, []byte(otherSecret)) {
			return fmt.Errorf("S7: a row of another user's is in the file%s", suffix)
		}
	}
	return nil
}

// checkSaid compares the file with what the application said it had committed: all of that is there (S3).
func (c *crashCase) checkSaid(f *crashFile) error {
	said, err := os.ReadFile(c.journal)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(said)) {
		if step, done := strings.CutPrefix(strings.TrimSpace(line), "done "); done && !f.steps[step] {
			return fmt.Errorf("S3: the write %q was committed, and is gone", step)
		}
	}
	return nil
}

// checkMine compares rows that nobody else writes, and that no scenario drops, with what the application made of them last:
// whatever a push, a pull or a rebuild has done, that is what they are (S3, S5).
func (c *crashCase) checkMine(f *crashFile) error {
	if c.scenario.detaches && f.binding == "anonymous" && len(f.rows) == 0 {
		return nil
	}
	for p, token := range f.wrote {
		if !strings.HasPrefix(p.Key, "m-") {
			continue
		}
		got, isHere := f.rows[p]
		switch {
		case token == "" && isHere:
			return fmt.Errorf("S3: %s was deleted, and is %s", p, got)
		case got.Token != token:
			return fmt.Errorf("S3: %s was made %q, and is %s", p, token, got)
		}
	}
	return nil
}

// checkIntents compares the newest content of each intent with the row that stands there (S5).
func (f *crashFile) checkIntents() error {
	for p, payload := range f.intents {
		want, err := localRow(p.Table, payload)
		if err != nil {
			return err
		}
		if got := f.rows[p]; got.Text != want.Text {
			return fmt.Errorf("S5: %s: the intent is %s, the row is %s", p, want, got)
		}
	}
	return nil
}

// checkServer compares everything that is no intent with what the server was at the checkpoint (S1, S2). A push of our own
// may have been settled before bundles that lie between, and a row taken from a conflict's answer.
func (c *crashCase) checkServer(f *crashFile) error {
	if f.binding != "attached" {
		return nil
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	ours := map[int64]bool{}
	for p := range c.server.pushes {
		if f.sources[p.Source] {
			ours[int64(p.Seq)] = true
		}
	}
	var err error
	for i := range c.server.epochs {
		// A server that has forgotten everything leaves devices behind that stand where it was before.
		if err = f.standsIn(c.server.epochs[len(c.server.epochs)-1-i], ours, c.server.told); err == nil {
			return nil
		}
	}
	return err
}

func (f *crashFile) standsIn(history map[int64]map[place]standing, ours map[int64]bool, told map[version]bool) error {
	at, known := history[f.checkpoint]
	if !known {
		return fmt.Errorf("S2: the checkpoint is %d, which the server never had (it had %d states)", f.checkpoint, len(history))
	}
	places := map[place]bool{}
	for p := range at {
		places[p] = true
	}
	for p := range f.rows {
		places[p] = true
	}
	for p := range f.known {
		places[p] = true
	}
	own := map[int64]bool{}
	for p := range places {
		if _, intent := f.intents[p]; intent {
			continue
		}
		k, want, seq := f.known[p], at[p], f.checkpoint
		if k.version > f.checkpoint {
			seq = k.version
			switch {
			case ours[seq]:
				own[seq] = true
			case !told[version{p, seq}]:
				return fmt.Errorf("S2: %s is at version %d, the checkpoint is %d, and that bundle is no push of this database's", p, seq, f.checkpoint)
			}
			want = history[seq][p]
		}
		got, isHere := f.rows[p]
		switch {
		case got.Text != want.Text:
			return fmt.Errorf("S1: %s is %s; the server had %s at bundle %d (checkpoint %d)", p, got, want.row, seq, f.checkpoint)
		case isHere && k.version != want.number:
			return fmt.Errorf("S6: %s is noted at version %d, the server had %d", p, k.version, want.number)
		case !isHere && k.version > 0 && !k.deleted:
			return fmt.Errorf("S6: %s is not here, and noted as live", p)
		}
	}
	for seq := range own {
		for p, at := range history[seq] {
			if _, intent := f.intents[p]; at.number == seq && !intent && f.known[p].version < seq {
				return fmt.Errorf("S1: bundle %d is here in part: %s is at version %d", seq, p, f.known[p].version)
			}
		}
	}
	return nil
}

// checkDetached looks for what a detach must not leave behind (S8).
func (c *crashCase) checkDetached(f *crashFile) error {
	if !c.scenario.detaches || !f.installed || f.binding != "anonymous" || f.replacing {
		return nil
	}
	if len(f.rows) > 0 || f.leftover > 0 {
		return fmt.Errorf("S8: after a detach %d rows are here, and %d notes about rows", len(f.rows), f.leftover)
	}
	return nil
}

// checkEnd compares a database at the end of its scenario with the server, and both with what they come to when nobody dies.
func (c *crashCase) checkEnd(ctx context.Context, crashes int, reference *crashEnd) (end crashEnd, err error) {
	f, err := c.check(ctx)
	if err != nil {
		return end, err
	}
	there, err := c.server.rows()
	if err != nil {
		return end, err
	}
	scope, err := c.server.server.Scope(ctx, modelUser)
	if err != nil {
		return end, err
	}
	end = crashEnd{here: f.rows, there: map[place]row{}, images: len(c.server.images)}
	for p, at := range there {
		end.there[p] = at.row
		if f.binding == "attached" && f.known[p].version != at.number {
			return end, fmt.Errorf("S6: %s is at version %d here, at %d on the server", p, f.known[p].version, at.number)
		}
	}
	if f.binding == "attached" {
		if err := sameRows(f.rows, end.there); err != nil {
			return end, fmt.Errorf("S6: here, compared with the server: %w", err)
		}
		switch {
		case len(f.intents) > 0:
			return end, fmt.Errorf("%d intents are left", len(f.intents))
		case f.checkpoint != scope.LastBundleSeq || f.rebuild:
			return end, fmt.Errorf("S6: the checkpoint is %d, the server's last bundle %d, rebuild gate %v", f.checkpoint, scope.LastBundleSeq, f.rebuild)
		}
	}
	for _, e := range c.scenario.want {
		p := workload.At(e.table, e.id)
		if got, isThere := end.there[p]; got.Token != e.token || e.token == "" && isThere {
			return end, fmt.Errorf("on the server %s is %s, and should be %q", p, got, e.token)
		}
	}
	if reference == nil {
		return end, nil
	}
	if err := sameRows(end.here, reference.here); err != nil {
		return end, fmt.Errorf("S3: here, compared with a life without a crash: %w", err)
	}
	if err := sameRows(end.there, reference.there); err != nil {
		return end, fmt.Errorf("S3: on the server, compared with a life without a crash: %w", err)
	}
	// Whether a commit was answered is forgotten in a crash. What the server has made of a row then counts as a row that was
	// edited here since, and is pushed once more.
	most := reference.images
	for p := range reference.there {
		if strings.HasPrefix(p.Key, "t-") {
			most += crashes
		}
	}
	if end.images > most {
		return end, fmt.Errorf("S4: the server was given %d row images, %d in a life without a crash", end.images, reference.images)
	}
	return end, nil
}

// crashEnd is what a scenario comes to.
type crashEnd struct {
	here, there map[place]row
	images      int // rows that were ever committed on the server, each version counted
}

func (e crashEnd) String() string {
	return fmt.Sprintf("%d rows here, %d on the server, %d images", len(e.here), len(e.there), e.images)
}
