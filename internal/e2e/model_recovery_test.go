package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/oversqlite/oversqlite"
)

// What a model run does to identities: devices are copied, sources retired, and the server put back to what it was.

// copyDevice makes another device out of a copy of a device's file. Nothing may be pending in it: whose changes those
// were, the books could not tell.
func (m *model) copyDevice(of *modelDevice) error {
	p, err := of.engine.PendingSyncStatus(m.ctx)
	if err != nil || p.HasPendingSyncData || of.anonymous || len(m.devices) > 4 {
		return err
	}
	d := modelDeviceAt(m.t, m.server, filepath.Join(m.t.TempDir(), "copy.db"), len(m.devices), m.seed, m.log)
	if _, err := of.look.Exec(`VACUUM INTO ?`, d.path); err != nil {
		return err
	}
	if d.look, err = sql.Open("sqlite3", "file:"+d.path); err != nil {
		return err
	}
	d.oracle, d.anonymous = m.oracle, false
	m.log("%s is a copy of %s", d.name, of.name)
	m.devices = append(m.devices, d)
	d.open(m.ctx)
	return nil
}

// retire replaces a device's source on the server, as if another copy of the device had asked for it. Not one that holds the
// lease of an empty scope: that is nobody's to use then until it runs out, in a quarter of an hour. This is not waited for.
func (m *model) retire(d *modelDevice) error {
	var source, lease string
	if err := d.look.QueryRow(`SELECT current_source_id, pending_initialization_id FROM _sync_attachment_state`).Scan(&source, &lease); err != nil || lease != "" {
		return err
	}
	_ = m.server.server.RetireSource(modelUser, source, uuid.NewString()) // unless it is already
	return nil
}

// prune moves the floor of what the server remembers. A device that has still to ask what became of a push will never
// know, and meets its own rows as if they were another's.
func (m *model) prune() error {
	for _, d := range m.devices {
		var state string
		if err := d.look.QueryRow(`SELECT state FROM _sync_outbox_bundle`).Scan(&state); err != nil {
			return err
		}
		if state == "prepared" {
			d.mu.Lock()
			d.excused = true
			d.mu.Unlock()
		}
	}
	s, err := m.server.server.Scope(m.ctx, modelUser)
	if err != nil || s.LastBundleSeq == s.RetainedFloor {
		return err
	}
	return m.server.server.SetRetentionFloor(modelUser, s.RetainedFloor+1+m.r.Int64N(s.LastBundleSeq-s.RetainedFloor))
}

// goBack takes a backup of the server, or restores it from the one that was taken. A device notices when it pulls, as long
// as the server has not come as far again as it was; for what cannot be noticed any more there is Rebuild.
func (m *model) goBack() (err error) {
	if m.backup == nil {
		// A lease that comes back is its holder's for a quarter of an hour, and he may be gone by then. This is not waited for.
		s, err := m.server.server.Scope(m.ctx, modelUser)
		if err != nil || s.State == "initializing" {
			return err
		}
		m.backup, err = m.server.server.Backup(modelUser)
		return err
	}
	m.server.mu.Lock()
	clear(m.server.history)
	err = m.server.server.Restore(modelUser, m.backup)
	m.backup = nil
	m.server.observeLocked()
	m.server.mu.Unlock()
	if err != nil {
		return err
	}
	restored, err := m.server.server.Scope(m.ctx, modelUser)
	for _, d := range m.devices {
		if err != nil || d.anonymous || d.retired {
			continue
		}
		if !d.attached {
			m.judge(d, "attach", m.attach(d), false)
		}
		d.calm()
		var checkpoint, newest int64
		if err := d.look.QueryRow(`SELECT last_bundle_seq_seen, (SELECT max(row_version) FROM (SELECT row_version FROM _sync_row_state UNION ALL SELECT 0)) FROM _sync_attachment_state`).
			Scan(&checkpoint, &newest); err != nil {
			return err
		}
		now, err := m.server.server.Scope(m.ctx, modelUser)
		switch {
		case err != nil:
			return err
		case checkpoint > now.LastBundleSeq:
			m.do(d, "pull from the restored server", func(ctx context.Context) error { _, err := d.engine.PullToStable(ctx); return err })
		case max(checkpoint, newest) > restored.LastBundleSeq:
			m.do(d, "rebuild from the restored server", func(ctx context.Context) error { _, err := d.engine.Rebuild(ctx); return err })
		}
	}
	return err
}

// recover does what an application does whose device's identity is at its end: it calls Rebuild.
func (m *model) recover(d *modelDevice, err error) {
	if d.auto && m.oracle {
		m.t.Errorf("%s: %v, although it recovers by itself", d.name, err)
		return
	}
	var again *oversqlite.SourceReplacementDivergedError
	for range 3 {
		if _, err = d.engine.Rebuild(m.ctx); !errors.As(err, &again) {
			break
		}
		m.log("%s: rebuild: %v", d.name, err)
	}
	m.judge(d, fmt.Sprintf("rebuild for the source's sake (now %s)", d.sourceNow()), err, false)
}

func (d *modelDevice) sourceNow() (source string) {
	if err := d.look.QueryRow(`SELECT substr(current_source_id, 1, 8) FROM _sync_attachment_state`).Scan(&source); err != nil {
		return err.Error()
	}
	return source
}
