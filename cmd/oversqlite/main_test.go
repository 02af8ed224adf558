package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/oversqlite/oversqlite"
	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

func TestMain(m *testing.M) {
	// The actor system of the process, the one that engines share, lives as long as it.
	warm, err := oversqlite.New(oversqlite.Config{Path: "unused", Schema: "x", Tables: []oversqlite.Table{{Name: "t", Key: "id"}}, ServerURL: "http://x"})
	if err != nil {
		panic(err)
	}
	_ = warm.Close()
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.Cleanup(func(code int) {
		transport.DefaultHTTPClient().CloseIdleConnections()
		os.Exit(code)
	}))
}

// command runs a command line and returns what it printed.
func command(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, complaints bytes.Buffer
	code = run(ctx, &console{out: &out, err: &complaints}, args)
	return code, out.String(), complaints.String()
}

// account is a server and a user on it.
type account struct {
	server     *devserver.Server
	url, token string
}

func newAccount(t *testing.T, adjust ...func(*devserver.Config)) *account {
	t.Helper()
	cfg := devserver.Config{InMemory: true}
	for _, f := range adjust {
		f(&cfg)
	}
	server, err := devserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen("127.0.0.1:0", server.Handler())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), l.close()); err != nil {
			t.Error(err)
		}
	})
	token, err := server.IssueToken(user)
	if err != nil {
		t.Fatal(err)
	}
	return &account{server, l.url, token}
}

// file creates a database with the business tables and runs statements in it.
func file(t *testing.T, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device.db")
	change(t, path, append([]string{devserver.BusinessClientSchema}, statements...)...)
	return path
}

// change runs statements on a database as an application does that has no engine open.
func change(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite3", fileURI(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// sync runs the sync verb on a file with the business tables.
func (a *account) sync(t *testing.T, path string, more ...string) (code int, stdout, stderr string) {
	t.Helper()
	args := []string{"sync", path, "--url", a.url, "--token", a.token}
	code, stdout, stderr = command(t.Context(), append(args, more...)...)
	if strings.Contains(stdout+stderr, a.token) {
		t.Error("the token was printed")
	}
	return code, stdout, stderr
}

// first are the flags of a file's first sync.
func first() []string {
	flags := []string{"--user", user, "--schema", "business"}
	for _, table := range devserver.BusinessTables() {
		flags = append(flags, "--table", table.Name+":"+table.Key)
	}
	return flags
}

const (
	oneUser  = `INSERT INTO users (id, name, email) VALUES ('11111111-1111-4111-8111-111111111111', 'Ada', 'a@example.org')`
	twoUsers = `INSERT INTO users (id, name, email) VALUES ('22222222-2222-4222-8222-222222222222', 'Alan', 'b@example.org')`
)

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	if code, out, _ := command(t.Context(), "version"); code != 0 || !strings.HasPrefix(out, "oversqlite ") {
		t.Errorf("%d %s", code, out)
	}
	code, out, _ := command(t.Context(), "--help")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	contains(t, out, "demo", "serve", "sync", "status", "pending", "version", "Exit codes")
	if code, _, complaint := command(t.Context(), "frobnicate"); code != exitUsage || !strings.Contains(complaint, "--help") {
		t.Errorf("%d %s", code, complaint)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	for _, contract := range []string{"classic", "uniform"} {
		t.Run(contract, func(t *testing.T) {
			t.Parallel()
			demo(t, contract)
		})
	}
}

func demo(t *testing.T, contract string) {
	dir := filepath.Join(t.TempDir(), "kept")
	code, out, complaint := command(t.Context(), "demo", "--contract", contract, "--keep", dir)
	if code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	contains(t, out, "Requests so far: 0", "seeded_from_local", "used_remote_state", "met 2 conflicts", "nothing is sent twice", "Every row is the same")
	if strings.Contains(out, "DIFFERENT") {
		t.Errorf("%s", out)
	}
	for _, name := range []string{"laptop.db", "phone.db"} {
		status, err := readStatus(t.Context(), filepath.Join(dir, name))
		if err != nil || status.Pending.total() != 0 || status.User != user {
			t.Errorf("%s: %+v, %v", name, status, err)
		}
	}
	if code, _, complaint := command(t.Context(), "demo", "--keep", dir); code != exitUsage || !strings.Contains(complaint, "exists already") {
		t.Errorf("over an earlier demo: %d %s", code, complaint)
	}
}

// The comparison at the end of the demo can fail.
func TestDemoFindsDifferences(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s, err := newStage(&console{out: &out, err: io.Discard}, t.TempDir(), wire.ClassicContract)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.play(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = s.phone.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE typed_rows SET rating = 0.30000000000000004`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.compare(t.Context(), nil)
	if code, _ := explain(t.Context(), err); code != exitFailed || !strings.Contains(out.String(), "DIFFERENT") {
		t.Errorf("%d %v", code, err)
	}
}

func TestInterruptedDemoCleansUp(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, out, complaint := command(ctx, "demo"); code != exitInterrupted {
		t.Errorf("%d\n%s%s", code, out, complaint)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestSync(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	laptop, phone := file(t, oneUser), file(t)

	code, _, complaint := a.sync(t, laptop, first()...)
	if code != exitUsage {
		t.Fatalf("rows of its own were not asked about: %d", code)
	}
	contains(t, complaint, "holds 1 rows of its own", "--may-replace")

	code, out, complaint := a.sync(t, laptop, append(first(), "--may-replace")...)
	if code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	contains(t, complaint, "this file seeds it")
	contains(t, out, "pushed 1 changes")

	code, out, complaint = a.sync(t, phone, first()...)
	if code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	contains(t, complaint, "1 rows from the server")

	// From now on the file knows everything but the server.
	change(t, laptop, twoUsers)
	if code, out, complaint = a.sync(t, laptop); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	contains(t, out, "pushed 1 changes")
	if code, out, complaint = a.sync(t, phone); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	contains(t, out, "nothing to push", "pulled up to bundle 2")
	rows, err := a.server.Rows(t.Context(), user, "users")
	if err != nil || len(rows) != 2 {
		t.Errorf("%d rows on the server, %v", len(rows), err)
	}
}

// A file is copied, and both copies are used.
func TestRebuildOfACopiedFile(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	original, clone := file(t, oneUser), filepath.Join(t.TempDir(), "copy.db")
	if code, out, complaint := a.sync(t, original, append(first(), "--may-replace")...); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	change(t, original, `VACUUM INTO '`+clone+`'`, twoUsers)
	if code, out, complaint := a.sync(t, original); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	change(t, clone, `UPDATE users SET name = 'Grace'`)
	code, _, complaint := a.sync(t, clone)
	if code != exitAttention {
		t.Fatalf("%d\n%s", code, complaint)
	}
	contains(t, complaint, "source_sequence_changed", "oversqlite rebuild FILE")
	code, out, complaint := command(t.Context(), "rebuild", clone, "--url", a.url, "--token", a.token)
	if code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	contains(t, out, "an identity of its own", "2 rows from the server", "1 local changes are kept")
	if code, out, complaint = a.sync(t, clone); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	contains(t, out, "pushed 1 changes")
	change(t, original, `UPDATE users SET email = 'x@example.org' WHERE name = 'Alan'`)
	if code, out, complaint = a.sync(t, original, "--auto-recover"); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	if code, out, complaint = command(t.Context(), "rebuild", original, "--url", a.url, "--token", a.token); code != 0 || strings.Contains(out, "identity") {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	rows, err := a.server.Rows(t.Context(), user, "users")
	if err != nil || len(rows) != 2 || !strings.Contains(string(rows[0]), "Grace") || !strings.Contains(string(rows[1]), "x@example.org") {
		t.Errorf("%s, %v", rows, err)
	}
}

// On a terminal there is a bar, which is gone at the end; a wait is told in a line of its own.
func TestSyncOnATerminal(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPull, Times: 1, Status: 503})
	path := file(t, oneUser)
	var out, screen bytes.Buffer
	args := append([]string{"sync", path, "--url", a.url, "--token", a.token, "--may-replace"}, first()...)
	if code := run(t.Context(), &console{out: &out, err: &screen, interactive: true}, args); code != 0 {
		t.Fatalf("%d\n%s%s", code, out.String(), screen.String())
	}
	contains(t, screen.String(), "\r", "503", "attempt 2 in")
	contains(t, out.String(), "pushed 1 changes")
}

// What goes wrong says so in a way that can be acted upon, with an exit code that a script can go by.
func TestSyncErrors(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	ready := file(t)
	if code, out, complaint := a.sync(t, ready, first()...); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	other, err := listen("127.0.0.1:0", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.close() })
	noDatabase := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(noDatabase, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no file":        {[]string{"sync", ready + "x", "--url", a.url}, exitUsage, "no such file"},
		"a folder":       {[]string{"sync", filepath.Dir(ready), "--url", a.url}, exitUsage, "is a folder"},
		"no database":    {[]string{"sync", noDatabase, "--url", a.url}, exitUsage, "no SQLite database"},
		"never synced":   {[]string{"sync", file(t), "--url", a.url}, exitUsage, "--schema is needed"},
		"no tables":      {[]string{"sync", file(t), "--url", a.url, "--schema", "business", "--user", user}, exitUsage, "--table NAME:KEY"},
		"a bad table":    {[]string{"sync", ready, "--url", a.url, "--table", "users"}, exitUsage, "--table users"},
		"no user":        {[]string{"sync", file(t), "--url", a.url, "--schema", "business"}, exitUsage, "--user is needed"},
		"bad URL":        {[]string{"sync", ready, "--url", "ftp://x"}, exitUsage, "scheme"},
		"bad token":      {[]string{"sync", ready, "--url", a.url, "--token", "x"}, exitAuth, "OVERSQLITE_TOKEN"},
		"no token":       {[]string{"sync", ready, "--url", a.url}, exitAuth, "OVERSQLITE_TOKEN"},
		"server down":    {[]string{"sync", ready, "--url", "http://127.0.0.1:1", "--token", a.token, "--give-up", "50ms"}, exitUnreachable, "Nothing is lost"},
		"no such server": {[]string{"sync", ready, "--url", other.url, "--token", a.token}, exitFailed, "no oversqlite server"},
		"another user":   {[]string{"sync", ready, "--url", a.url, "--token", a.token, "--user", "eve"}, exitFailed, "attached to another user"},
		"other tables":   {append([]string{"sync", file(t), "--url", a.url, "--token", a.token}, first()[:6]...), exitFailed, "only on the server"},
	} {
		t.Run(name, func(t *testing.T) {
			// Not in parallel: they share a file, and a file has one engine at a time.
			code, out, complaint := command(t.Context(), c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, out, complaint)
			}
			contains(t, complaint, c.says)
		})
	}
}

// An interrupted sync leaves a file that the next one goes on with.
func TestInterruptedSyncGoesOn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	a := newAccount(t, func(c *devserver.Config) {
		c.OnRequest = func(r devserver.RequestInfo) {
			if r.Endpoint == devserver.EndpointPushCommit {
				cancel()
			}
		}
	})
	path := file(t, oneUser)
	fault := a.server.Inject(devserver.Fault{Endpoint: devserver.EndpointPushCommit, Delay: time.Hour})
	args := append([]string{"sync", path, "--url", a.url, "--token", a.token, "--may-replace"}, first()...)
	code, out, complaint := command(ctx, args...)
	if code != exitInterrupted {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	contains(t, complaint, "the next run goes on")
	fault.Remove()
	status, err := readStatus(t.Context(), path)
	if err != nil || status.Outbox.State != "prepared" || status.Pending.Outbox != 1 {
		t.Fatalf("%+v, %v", status, err)
	}
	if code, out, complaint = a.sync(t, path); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	rows, err := a.server.Rows(t.Context(), user, "users")
	if err != nil || len(rows) != 1 {
		t.Errorf("%d rows on the server, %v", len(rows), err)
	}
}

// The file can be looked at while an engine has it open, and before and after.
func TestStatusAndPending(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	path := file(t)
	for _, verb := range []string{"status", "pending"} {
		code, _, complaint := command(t.Context(), verb, path)
		if code != exitUsage {
			t.Errorf("%s: exit code %d", verb, code)
		}
		contains(t, complaint, "no oversqlite engine has ever opened it")
	}
	engine, err := oversqlite.New(oversqlite.Config{
		Path: path, Schema: "business", Tables: businessTables(), ServerURL: a.url, HTTPClient: withToken(a.token),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = engine.Close() }()
	if err := engine.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := func(statement string) {
		t.Helper()
		if _, err := engine.DB().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		write(fmt.Sprintf(`INSERT INTO users (id, name, email) VALUES ('%08d-1111-4111-8111-111111111111', 'secret', 'e')`, i))
	}

	_, out, _ := command(t.Context(), "status", path)
	contains(t, out, "not attached to any user, schema business", "60 changed", "users", "60 pending")
	_, out, _ = command(t.Context(), "pending", path)
	contains(t, out, "INSERT", "users", "00000000-1111", "and 10 more")
	if strings.Contains(out, "secret") {
		t.Error("the content of a row is shown")
	}
	var list pendingList
	_, out, _ = command(t.Context(), "pending", path, "--json", "--limit", "0")
	if err := json.Unmarshal([]byte(out), &list); err != nil || list.Total != 60 || len(list.Changes) != 60 {
		t.Errorf("%v\n%s", err, out)
	}
	if code, _, _ := command(t.Context(), "pending", path, "--limit", "-1"); code != exitUsage {
		t.Errorf("a negative limit: %d", code)
	}

	if _, err := engine.Attach(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var status fileStatus
	_, out, _ = command(t.Context(), "status", "--json", path)
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.User != user || status.Checkpoint != 1 || status.Pending.total() != 0 || status.Contract != "classic" {
		t.Errorf("%v\n%s", err, out)
	}
	_, out, _ = command(t.Context(), "status", path)
	contains(t, out, "attached to ada", "applied up to bundle 1", "nothing pending")
	if _, out, _ = command(t.Context(), "pending", path); out != "nothing pending\n" {
		t.Errorf("%s", out)
	}
	// Nobody else's engine may sync the file meanwhile.
	if code, _, complaint := a.sync(t, path); code != exitUnreachable {
		t.Errorf("%d %s", code, complaint)
	}
}

// Every state that waits for somebody is named.
func TestStatusTellsWhatNeedsAttention(t *testing.T) {
	t.Parallel()
	s := fileStatus{
		Operation: "source_recovery", OperationReason: "source_retired", RebuildRequired: true, ReattachRequired: true, Shadows: 2, LeaseHeld: true,
		UploadBlocked: json.RawMessage(`{"Code":"push_chunk_invalid","Table":"users","Message":"m"}`),
		Pending:       pendingCounts{Dirty: 1, Outbox: 2, Quarantined: 3}, Outbox: outboxStatus{State: "committed_remote", BundleSeq: 9},
	}
	var out bytes.Buffer
	s.print(&console{out: &out}, time.Now())
	contains(t, out.String(), "source_retired", "attach again", "push_chunk_invalid in table users: m", "2 pending changes meet newer rows",
		"1 changed", "2 committed by the server as bundle 9", "3 in quarantine", "a lease")
	out.Reset()
	s = fileStatus{Operation: "remote_replace", RebuildRequired: true, Outbox: outboxStatus{State: "prepared"}, Pending: pendingCounts{Outbox: 1}}
	s.print(&console{out: &out}, time.Now())
	contains(t, out.String(), "being replaced", "rebuilt from a snapshot", "1 frozen for the push under way")
	for n, want := range map[int64]string{5: "5 bytes", 2048: "2.0 KB", 3 << 20: "3.0 MB", 4 << 30: "4.0 GB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// A file on read-only media can be looked at as well.
func TestStatusOfReadOnlyFile(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	path := file(t)
	if code, out, complaint := a.sync(t, path, first()...); code != 0 {
		t.Fatalf("%d\n%s%s", code, out, complaint)
	}
	for _, name := range []string{path, filepath.Dir(path)} {
		if err := os.Chmod(name, map[bool]os.FileMode{true: 0o400, false: 0o500}[name == path]); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(path), 0o700) })
	if code, out, complaint := command(t.Context(), "status", path); code != 0 {
		t.Errorf("%d\n%s%s", code, out, complaint)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "nonsense"} {
		if code, _, complaint := command(t.Context(), "serve", "--addr", addr); code != exitUsage || !strings.Contains(complaint, "--any-host") {
			t.Errorf("%s: %d %s", addr, code, complaint)
		}
	}
	for _, addr := range []string{"127.0.0.1:1", "[::1]:1", "localhost:1"} {
		if !loopback(addr) {
			t.Errorf("%s is refused", addr)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan int)
	go func() {
		done <- run(ctx, &console{out: w, err: io.Discard}, []string{"serve", "--addr", "127.0.0.1:0", "--data", t.TempDir()})
		_ = w.Close()
	}()
	var url string
	if _, err := fmt.Fscanf(r, "oversqlite development server on %s", &url); err != nil {
		t.Fatal(err)
	}
	url = strings.TrimSuffix(url, ",")
	go func() { _, _ = io.Copy(io.Discard, r) }()
	resp, err := http.Get(url + "/syncx/health")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("%v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	if code, _, complaint := command(t.Context(), "serve", "--addr", strings.TrimPrefix(url, "http://")); code != exitFailed || !strings.Contains(complaint, "address taken") {
		t.Errorf("a taken address: %d %s", code, complaint)
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
}
