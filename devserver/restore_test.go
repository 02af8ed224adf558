package devserver_test

import (
	"slices"
	"testing"

	"github.com/oversqlite/oversqlite/devserver"
)

func TestRestoreMakesAUserWhatHeWas(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]devserver.Config{"in memory": {}, "in a file": {Dir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, web := start(t, cfg)
			d := newDevice(t, s, web, "u", "s")
			write := func(user, q string) {
				t.Helper()
				if err := s.ExecWrite(t.Context(), user, "w", run(q)); err != nil {
					t.Fatal(err)
				}
			}
			write("u", `INSERT INTO categories VALUES ('`+uid(1)+`', 'kept', NULL)`)
			write("other", `INSERT INTO categories VALUES ('`+uid(1)+`', 'theirs', NULL)`)
			backup, err := s.Backup("u")
			if err != nil {
				t.Fatal(err)
			}
			write("u", `UPDATE categories SET name = 'lost'`)
			write("u", `INSERT INTO categories VALUES ('`+uid(2)+`', 'lost', NULL)`)
			write("other", `UPDATE categories SET name = 'untouched'`)
			session := d.do("POST", "/sync/snapshot-sessions", nil, 200, "")["snapshot_id"].(string)
			if err := s.Restore("u", backup); err != nil {
				t.Fatal(err)
			}
			d.do("GET", "/sync/snapshot-sessions/"+session, nil, 404, "snapshot_session_not_found")
			for user, want := range map[string]string{"u": "kept", "other": "untouched"} {
				rows, err := s.Rows(t.Context(), user, "categories")
				if err != nil || len(rows) != 1 || !slices.Contains([]string{`{"id":"` + uid(1) + `","name":"` + want + `","parent_id":null}`}, string(rows[0])) {
					t.Errorf("%s: %s, %v", user, rows, err)
				}
			}
			if info, err := s.Scope(t.Context(), "u"); err != nil || info.LastBundleSeq != 1 {
				t.Errorf("%+v, %v", info, err)
			}
			// Its numbers begin anew from there.
			write("u", `UPDATE categories SET name = 'again'`)
			if versions, err := s.LiveVersions(t.Context(), "u", "categories"); err != nil || versions[uid(1)] != 2 {
				t.Errorf("%v, %v", versions, err)
			}
		})
	}
}

func TestRetireSource(t *testing.T) {
	t.Parallel()
	s, web := start(t, devserver.Config{})
	d := newDevice(t, s, web, "u", "s")
	d.connect(false)
	for range 2 { // repeating it is fine
		if err := s.RetireSource("u", "s", "s2"); err != nil {
			t.Fatal(err)
		}
	}
	refused := d.do("POST", "/sync/push-sessions", object{"source_bundle_id": 1, "planned_row_count": 1}, 409, "source_retired")
	if refused["replaced_by_source_id"] != "s2" {
		t.Error(refused)
	}
	if err := s.RetireSource("u", "s", "s3"); err == nil {
		t.Error("a source was replaced twice")
	}
}
