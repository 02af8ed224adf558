package e2e

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite"
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
