package oversqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// syncNotes writes a note and brings this device and the server to the same state.
func syncNotes(ctx context.Context, path, serverURL, userID string, client *http.Client) (err error) {
	engine, err := oversqlite.New(oversqlite.Config{
		Path:       path, // an SQLite file with a table notes (id TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL)
		Schema:     "business",
		Tables:     []oversqlite.Table{{Name: "notes", Key: "id"}},
		ServerURL:  serverURL,
		HTTPClient: client, // adds the user's credentials to every request
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	if err := engine.Open(ctx); err != nil { // no network from here …
		return err
	}
	_, err = engine.DB().ExecContext(ctx, `INSERT INTO notes (id, body) VALUES (?, ?)`, "n-1", "written offline") // … to here
	if err != nil {
		return err
	}
	result, err := engine.Attach(ctx, userID)
	if err != nil {
		return err
	}
	if later, ok := result.(oversqlite.RetryLater); ok {
		return fmt.Errorf("another device is just seeding this account, try again in %s", later.RetryAfter)
	}
	report, err := engine.Sync(ctx)
	if err != nil {
		return err // whatever it is, nothing is lost: the next Sync goes on from here
	}
	fmt.Printf("push: %s, pull: %s, pending: %d\n", report.Push, report.Remote, report.Status.Pending.PendingRowCount)
	return nil
}

func Example() {
	err := withNotesServer(func(serverURL string, client *http.Client) error {
		dir, err := os.MkdirTemp("", "oversqlite-example-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "notes.db")
		if err := createNotes(path); err != nil {
			return err
		}
		return syncNotes(context.Background(), path, serverURL, "ada", client)
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: push: committed, pull: already_at_target, pending: 0
}

const notes = `CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL)`

// createNotes creates the application's table, as applications do.
func createNotes(path string) error {
	db, err := sql.Open("sqlite3", "file:"+filepath.ToSlash(path))
	if err != nil {
		return err
	}
	_, err = db.Exec(notes)
	return errors.Join(err, db.Close())
}

// withNotesServer runs fn against a server of its own.
func withNotesServer(fn func(serverURL string, client *http.Client) error) (err error) {
	server, err := devserver.New(devserver.Config{
		InMemory: true, Schema: notes, Tables: []devserver.Table{{Schema: "business", Name: "notes", Key: "id"}},
	})
	if err != nil {
		return err
	}
	front := httptest.NewServer(server.Handler())
	defer front.Close()
	defer func() { err = errors.Join(err, server.Close()) }()
	token, err := server.IssueToken("ada")
	if err != nil {
		return err
	}
	return fn(front.URL, &http.Client{Transport: withBearer{token, front.Client().Transport}})
}

// withBearer adds a token to every request.
type withBearer struct {
	token string
	next  http.RoundTripper
}

func (b withBearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}
