package oversqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
)

// example is what the examples share: a server in memory, and devices with a table of notes.
type example struct {
	server *devserver.Server
	web    *httptest.Server
	dir    string
	conns  *http.Transport
}

func newExample() *example {
	const schema = `CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, title TEXT NOT NULL, stars INTEGER NOT NULL DEFAULT 0)`
	server, err := devserver.New(devserver.Config{
		InMemory: true, Schema: schema, Tables: []devserver.Table{{Schema: "main", Name: "notes", Key: "id"}},
	})
	check(err)
	dir, err := os.MkdirTemp("", "oversqlite")
	check(err)
	return &example{server: server, web: httptest.NewServer(server.Handler()), dir: dir, conns: &http.Transport{}}
}

func (x *example) close() {
	x.conns.CloseIdleConnections()
	x.web.Close()
	check(x.server.Close())
	check(os.RemoveAll(x.dir))
}

// config is the configuration of a device whose HTTP client authenticates as ann.
func (x *example) config(device string) oversqlite.Config {
	path := filepath.Join(x.dir, device+".db")
	db, err := sql.Open("sqlite3", "file:"+path)
	check(err)
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS notes (id TEXT NOT NULL PRIMARY KEY, title TEXT NOT NULL, stars INTEGER NOT NULL DEFAULT 0)`)
	check(err)
	check(db.Close())
	value, err := x.server.IssueToken("ann")
	check(err)
	auth := &token{next: x.conns}
	auth.value.Store(&value)
	return oversqlite.Config{
		Path: path, Schema: "main", Tables: []oversqlite.Table{{Name: "notes", Key: "id"}},
		ServerURL: x.web.URL, HTTPClient: &http.Client{Transport: auth},
	}
}

// engine is a device that is open and attached.
func (x *example) engine(device string, change ...func(*oversqlite.Config)) *oversqlite.Engine {
	cfg := x.config(device)
	for _, c := range change {
		c(&cfg)
	}
	e, err := oversqlite.New(cfg)
	check(err)
	check(e.Open(context.Background()))
	_, err = e.Attach(context.Background(), "ann")
	check(err)
	return e
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func Example_twoDevices() {
	x := newExample()
	defer x.close()
	ctx := context.Background()

	phone, err := oversqlite.New(x.config("phone"))
	check(err)
	defer phone.Close()
	check(phone.Open(ctx))

	// Written before there is an account, and without a network.
	_, err = phone.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`)
	check(err)

	// Signed in: what is here becomes the user's, because the server has never seen him.
	attached := must(phone.Attach(ctx, "ann")).(oversqlite.Connected)
	report := must(phone.Sync(ctx))
	fmt.Println(attached.Outcome, report.Push)

	// The user's laptop gets it.
	laptop := x.engine("laptop")
	defer laptop.Close()
	var title string
	check(laptop.DB().QueryRow(`SELECT title FROM notes`).Scan(&title))
	fmt.Println(title)
	// Output:
	// seeded_from_local committed
	// milk
}

func ExampleNew() {
	_, err := oversqlite.New(oversqlite.Config{
		Path:      "notes.db",
		Schema:    "business",
		Tables:    []oversqlite.Table{{Name: "notes", Key: "id"}},
		ServerURL: "sync.example.com",
	})
	var config *oversqlite.ConfigError
	fmt.Println(errors.As(err, &config), config.Field)
	// Output: true ServerURL
}

func ExampleEngine_Open() {
	x := newExample()
	defer x.close()
	e, err := oversqlite.New(x.config("phone"))
	check(err)
	defer e.Close()
	check(e.Open(context.Background()))
	fmt.Println(e.Status().Phase)
	// Output: idle
}

func ExampleEngine_Attach() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e, err := oversqlite.New(x.config("phone"))
	check(err)
	defer e.Close()
	check(e.Open(ctx))
	switch r := must(e.Attach(ctx, "ann")).(type) {
	case oversqlite.Connected:
		fmt.Println(r.Outcome, r.Status.Authority)
	case oversqlite.RetryLater:
		fmt.Println("another device is seeding; again in", r.RetryAfter)
	}
	// Output: started_empty authoritative_empty
}

func ExampleEngine_Sync() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone")
	defer e.Close()
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	r := must(e.Sync(ctx))
	fmt.Println(r.Push, r.Remote, r.Status.LastBundleSeqSeen)
	r = must(e.Sync(ctx))
	fmt.Println(r.Push, r.Remote, r.Status.LastBundleSeqSeen)
	// Output:
	// committed already_at_target 1
	// no_change already_at_target 1
}

func ExampleEngine_PushPending() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	r := must(e.PushPending(context.Background()))
	fmt.Println(r.Outcome, r.Status.Pending.PendingRowCount)
	// Output: committed 0
}

func ExampleEngine_PullToStable() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	phone, laptop := x.engine("phone"), x.engine("laptop")
	defer phone.Close()
	defer laptop.Close()
	must(phone.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	must(phone.Sync(ctx))
	r := must(laptop.PullToStable(ctx))
	fmt.Println(r.Outcome)
	// Output: applied_incremental
}

func ExampleEngine_Rebuild() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone")
	defer e.Close()
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	must(e.Sync(ctx))
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n2', 'not pushed yet')`))
	r := must(e.Rebuild(ctx))
	fmt.Println(r.Outcome, r.Restore.RowCount, r.Status.Pending.PendingRowCount)
	// Output: applied_snapshot 1 1
}

func ExampleEngine_Detach() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone")
	defer e.Close()
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	r := must(e.Detach(ctx))
	fmt.Println(r.Outcome, r.PendingRowCount)
	must(e.Sync(ctx))
	r = must(e.Detach(ctx))
	fmt.Println(r.Outcome)
	// Output:
	// blocked_unsynced_data 1
	// detached
}

func ExampleEngine_SyncThenDetach() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	r := must(e.SyncThenDetach(context.Background()))
	fmt.Println(r.IsSuccess(), r.SyncRounds, r.LastSync.Push)
	// Output: true 1 committed
}

func ExampleEngine_UninstallSync() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	check(e.UninstallSync(context.Background()))
	var tables int
	check(e.DB().QueryRow(`SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table'`).Scan(&tables))
	fmt.Println(tables)
	// Output: 1
}

func ExampleEngine_Close() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	check(e.Close())
	_, err := e.Sync(context.Background())
	fmt.Println(errors.Is(err, oversqlite.ErrClosed))
	// Output: true
}

func ExampleEngine_SourceInfo() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	info := must(e.SourceInfo(context.Background()))
	fmt.Println(info.CurrentSourceID != "", info.RebuildRequired, info.SourceRecoveryRequired)
	// Output: true false false
}

func ExampleEngine_SyncStatus() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	s := must(e.SyncStatus(context.Background()))
	fmt.Println(s.Authority, s.Pending.HasPendingSyncData, s.LastBundleSeqSeen)
	// Output: authoritative_empty false 0
}

func ExampleEngine_PendingSyncStatus() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk'), ('n2', 'bread')`))
	fmt.Printf("%+v\n", must(e.PendingSyncStatus(context.Background())))
	// Output: {HasPendingSyncData:true PendingRowCount:2 BlocksDetach:true}
}

func ExampleEngine_Status() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	s := e.Status()
	fmt.Println(s.Phase, s.AttachedUser, s.LastError, s.UploadBlocked == nil)
	// Output: idle ann <nil> true
}

func ExampleEngine_Subscribe() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	phone, laptop := x.engine("phone"), x.engine("laptop")
	defer phone.Close()
	defer laptop.Close()
	events := laptop.Subscribe(oversqlite.WithKinds(oversqlite.KindTablesChanged))
	defer events.Close()

	must(phone.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	must(phone.Sync(ctx))
	must(laptop.Sync(ctx))
	changed := (<-events.C()).(oversqlite.TablesChanged)
	fmt.Println(changed.Tables, changed.Cause)
	// Output: [notes] pull
}

func ExampleEngine_PauseUploads() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	e.PauseUploads()
	r := must(e.Sync(context.Background()))
	fmt.Println(r.Push, r.Remote)
	e.ResumeUploads()
	// Output: skipped_paused already_at_target
}

func ExampleEngine_PauseDownloads() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	e.PauseDownloads()
	r := must(e.Sync(context.Background()))
	fmt.Println(r.Push, r.Remote)
	e.ResumeDownloads()
	// Output: no_change skipped_paused
}

func ExampleEngine_Kick() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	x.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Status: 503, RetryAfter: time.Minute, Times: 1})
	waits := e.Subscribe(oversqlite.WithKinds(oversqlite.KindBackoffScheduled))
	defer waits.Close()
	go func() {
		<-waits.C() // the network is known to be back before the minute is over
		e.Kick()
	}()
	fmt.Println(must(e.Sync(context.Background())).Remote)
	// Output: already_at_target
}

func ExampleEngine_Resume() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone")
	defer e.Close()
	x.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Status: 401, Code: "authentication_failed", Times: 1})
	_, err := e.Sync(ctx)
	fmt.Println(errors.As(err, new(*oversqlite.AuthError)), e.Status().LastError != nil)
	// The HTTP client has new credentials now.
	check(e.Resume())
	fmt.Println(e.Status().LastError, must(e.Sync(ctx)).Remote)
	// Output:
	// true true
	// <nil> already_at_target
}

func ExampleEngine_Restart() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	_, err := e.Sync(context.Background())
	if errors.As(err, new(*oversqlite.EngineFailedError)) {
		check(e.Restart(context.Background()))
	}
	fmt.Println(e.Status().Phase)
	// Output: idle
}

func ExampleEngine_DB() {
	x := newExample()
	defer x.close()
	e := x.engine("phone")
	defer e.Close()
	must(e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	var title string
	check(e.DB().QueryRow(`SELECT title FROM notes WHERE id = 'n1'`).Scan(&title))
	fmt.Println(title)
	// Output: milk
}

func ExampleEngine_Write() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone")
	defer e.Close()
	err := e.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO notes (id, title) VALUES ('n1', 'milk')`)
		return err
	})
	fmt.Println(err, must(e.PendingSyncStatus(ctx)).PendingRowCount)
	// Output: <nil> 1
}

// A resolver that keeps the larger number of stars and leaves the rest to the server.
func ExampleResolverFunc() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	type note struct {
		ID    string `json:"id"`
		Title string `json:"title"`
		Stars int64  `json:"stars"`
	}
	mostStars := oversqlite.ResolverFunc(func(_ context.Context, c oversqlite.Conflict) (oversqlite.Resolution, error) {
		if c.Local == nil || c.Server == nil {
			return oversqlite.AcceptServer{}, nil
		}
		var ours, theirs note
		if err := errors.Join(json.Unmarshal(c.Local, &ours), json.Unmarshal(c.Server, &theirs)); err != nil {
			return nil, err
		}
		theirs.Stars = max(ours.Stars, theirs.Stars)
		payload, err := json.Marshal(theirs)
		return oversqlite.KeepMerged{Payload: payload}, err
	})
	phone := x.engine("phone", func(c *oversqlite.Config) { c.Resolver = mostStars })
	laptop := x.engine("laptop")
	defer phone.Close()
	defer laptop.Close()
	must(phone.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`))
	must(phone.Sync(ctx))
	must(laptop.Sync(ctx))
	must(laptop.DB().Exec(`UPDATE notes SET title = 'oat milk', stars = 2`))
	must(laptop.Sync(ctx))
	must(phone.DB().Exec(`UPDATE notes SET title = 'soy milk', stars = 5`))
	must(phone.Sync(ctx))
	var n note
	check(phone.DB().QueryRow(`SELECT title, stars FROM notes`).Scan(&n.Title, &n.Stars))
	fmt.Println(n.Title, n.Stars)
	// Output: oat milk 5
}

func ExampleLastWriterWins() {
	r := oversqlite.LastWriterWins("updated_at")
	resolution := must(r.Resolve(context.Background(), oversqlite.Conflict{
		Table: "notes", LocalOp: oversqlite.OpUpdate,
		Local:  json.RawMessage(`{"id":"n1","updated_at":"2026-05-01T12:00:01Z"}`),
		Server: json.RawMessage(`{"id":"n1","updated_at":"2026-05-01T12:00:00Z"}`),
	}))
	fmt.Printf("%T\n", resolution)
	// Output: oversqlite.KeepLocal
}

func ExampleMergeColumns() {
	r := oversqlite.MergeColumns(oversqlite.ServerWins)
	resolution := must(r.Resolve(context.Background(), oversqlite.Conflict{
		Table: "notes", LocalOp: oversqlite.OpUpdate,
		Base:   json.RawMessage(`{"id":"n1","title":"milk","stars":0}`),
		Local:  json.RawMessage(`{"id":"n1","title":"oat milk","stars":0}`),
		Server: json.RawMessage(`{"id":"n1","title":"milk","stars":3}`),
	}))
	fmt.Printf("%s\n", resolution.(oversqlite.KeepMerged).Payload)
	// Output: {"id":"n1","title":"oat milk","stars":3}
}

func ExampleEngine_Start() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	var devices []*oversqlite.Engine
	for _, name := range []string{"phone", "laptop"} {
		e, err := oversqlite.New(x.config(name))
		check(err)
		defer e.Close()
		check(e.Open(ctx))
		// From here on nothing has to be called: not even Attach.
		check(e.Start(ctx, oversqlite.AutoConfig{UserID: "ann"}))
		waitFor(e, func() bool { return e.Status().AttachedUser == "ann" })
		devices = append(devices, e)
	}
	phone, laptop := devices[0], devices[1]
	_, err := phone.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`)
	check(err)
	var title string
	waitFor(laptop, func() bool { return laptop.DB().QueryRow(`SELECT title FROM notes`).Scan(&title) == nil })
	fmt.Println(title)
	// Output: milk
}

func ExampleEngine_Stop() {
	x := newExample()
	defer x.close()
	ctx := context.Background()
	e := x.engine("phone")
	defer e.Close()
	check(e.Start(ctx, oversqlite.AutoConfig{}))
	check(e.Stop(ctx)) // when it returns, nothing runs
	_, err := e.DB().Exec(`INSERT INTO notes (id, title) VALUES ('n1', 'milk')`)
	check(err)
	fmt.Println(must(e.PendingSyncStatus(ctx)).PendingRowCount, e.Status().Phase)
	// Output: 1 idle
}

// waitFor waits until something holds, looking whenever the engine tells of a change.
func waitFor(e *oversqlite.Engine, holds func() bool) {
	sub := e.Subscribe()
	defer sub.Close()
	for !holds() {
		<-sub.C()
	}
}
