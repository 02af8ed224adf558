package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// A server is put back to an older state behind the back of a device that watches, and has nothing to tell of since: the next
// stream says nothing. What the server no longer has is no longer the device's either, and Status does not claim otherwise.
func TestRestoredServerWhileWatching(t *testing.T) {
	for _, c := range []struct {
		name    string
		stopped bool
	}{{"its connections end", false}, {"while background sync is stopped", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { restoredWhileWatching(t, c.stopped) })
		})
	}
}

func restoredWhileWatching(t *testing.T, stopped bool) {
	v := newVirtual(t)
	start(t, v.engine, virtualUser)
	watching := func(s *oversqlite.Status) bool { return s.Reason == "watching for changes" && s.Pending.Rows == 0 }
	reaches(t, v.engine, watching)
	add := func(n int) {
		t.Helper()
		if _, err := v.engine.DB().Exec(`INSERT INTO users (id, name, email) VALUES (?, 'n', ?)`,
			fmt.Sprintf("00000000-0000-4000-8000-%012d", n), fmt.Sprint(n, "@example.com")); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		synctest.Wait()
	}
	add(1)
	backup, err := v.server.Backup(virtualUser)
	if err != nil {
		t.Fatal(err)
	}
	add(2)
	add(3)
	if n := v.rows(t); n != 3 {
		t.Fatalf("%d rows on the server", n)
	}
	if stopped {
		mustSync(t, v.engine) // which vouches for nothing that comes after the stream
		if err := v.engine.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.server.Restore(virtualUser, backup); err != nil {
		t.Fatal(err)
	}
	v.wires.cut()
	if stopped {
		start(t, v.engine, virtualUser)
	}
	<-time.After(10 * time.Second)
	synctest.Wait()
	reaches(t, v.engine, watching)
	var here int
	if err := v.engine.DB().QueryRow(`SELECT count(*) FROM users`).Scan(&here); err != nil {
		t.Fatal(err)
	}
	if there := v.rows(t); here != there || there != 1 {
		t.Errorf("%d rows here, %d there; %+v", here, there, v.engine.Status())
	}
}

// A server that was put back lacks a row that is changed here, which others refer to, and the parent of a row that is new here.
// What is decided about the one waits for the snapshot, and the snapshot for the other one's parent: the new row makes room.
func TestRestoredServerThatLostParents(t *testing.T) {
	t.Parallel()
	for _, onDelete := range []string{"", "ON DELETE CASCADE"} {
		for name, policy := range map[string]func(*oversqlite.Config){"isolate": isolating, "hold": func(*oversqlite.Config) {}} {
			t.Run(name+" "+onDelete, func(t *testing.T) {
				t.Parallel()
				const user = "orphans"
				w := pickyWorld(t, onDelete)
				e := pickyDevice(t, w, user, http.DefaultTransport, onDelete, policy)
				appWrite(t, e, `INSERT INTO parents VALUES ('kept', NULL, 'old')`)
				mustSync(t, e)
				backup, err := w.server.Backup(user)
				if err != nil {
					t.Fatal(err)
				}
				other := pickyDevice(t, w, user, http.DefaultTransport, onDelete)
				appWrite(t, other, `INSERT INTO parents VALUES ('a', 'A', 'old'), ('b', NULL, 'old')`)
				appWrite(t, other, `INSERT INTO children VALUES ('a1', 'a', 'old')`)
				mustSync(t, other)
				mustSync(t, e)
				if err := w.server.Restore(user, backup); err != nil {
					t.Fatal(err)
				}
				appWrite(t, e, `INSERT INTO children VALUES ('b1', 'b', 'new')`)
				appWrite(t, e, `UPDATE parents SET note = 'changed' WHERE id = 'a'`)
				mustSync(t, e)
				mustSync(t, e)
				if s := e.Status(); s.RebuildRequired || s.Pending.Rows != 1 {
					t.Errorf("%+v", s)
				}
				if aside := inQuarantine(t, e); len(aside) != 1 || aside[0].Key["id"] != "b1" || !aside[0].Displaced {
					t.Errorf("in quarantine: %+v", aside)
				}
				if got := serverRows(t, w, user, "parents"); len(got) != 2 || !strings.Contains(got[0], "changed") {
					t.Errorf("the server has %s", got)
				}
			})
		}
	}
}

// A push is committed, its rows cannot be fetched and are gone from the history by the time, and the snapshot that would settle it
// excludes a new row, which cannot be pushed before that: the new row makes room.
func TestCommittedPushBehindASnapshotThatCollides(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]func(*oversqlite.Config){"isolate": isolating, "hold": func(*oversqlite.Config) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const user = "circle"
			w := newWorld(t, devserver.Config{ // what it makes of the row only the rows tell
				InMemory: true, Schema: fmt.Sprintf(pickyServer, "") +
					` CREATE TRIGGER stamped AFTER INSERT ON parents WHEN NEW.note = 'mine' BEGIN UPDATE parents SET note = 'stamped' WHERE id = NEW.id; END;`,
				Tables: []devserver.Table{{Schema: "main", Name: "parents", Key: "id"}, {Schema: "main", Name: "children", Key: "id"}},
			})
			e := pickyDevice(t, w, user, http.DefaultTransport, "", policy, func(c *oversqlite.Config) { c.Retry.MaxElapsed = 20 * time.Millisecond })
			other := pickyDevice(t, w, user, http.DefaultTransport, "")
			appWrite(t, other, `INSERT INTO parents VALUES ('p', NULL, 'old')`)
			mustSync(t, other)
			mustSync(t, e)

			fault := w.server.Inject(devserver.Fault{Endpoint: devserver.EndpointCommittedRows, Status: http.StatusServiceUnavailable})
			appWrite(t, e, `INSERT INTO parents VALUES ('q', NULL, 'mine')`)
			_, err := e.Sync(t.Context())
			var exhausted *oversqlite.RetryExhaustedError
			if !errors.As(err, &exhausted) {
				t.Fatalf("the rows were fetched: %v", err)
			}
			fault.Remove()
			mustSync(t, other)
			appWrite(t, other, `DELETE FROM parents WHERE id = 'p'`)
			mustSync(t, other)
			forgetHistory(t, w, user)
			appWrite(t, e, `INSERT INTO children VALUES ('c', 'p', 'new')`)

			mustSync(t, e)
			if s := e.Status(); s.RebuildRequired || s.Pending.Rows != 1 {
				t.Errorf("%+v", s)
			}
			if aside := inQuarantine(t, e); len(aside) != 1 || aside[0].Key["id"] != "c" || !aside[0].Displaced {
				t.Errorf("in quarantine: %+v", aside)
			}
		})
	}
}
