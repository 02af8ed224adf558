package actors

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// A story is a golden test of a machine: lines that begin with "> " are what it is told, the lines below each are
// what it wants done. "== name" begins a story with a new machine, "#" a comment. What is told answers whatever is
// outstanding; arguments are name=value.
//
// go test ./actors -run Stories -update rewrites the files.

func TestStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/[pw]*.txt") // push…, pull…, watch
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replayStories(t, file, want)
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs from what the machine does now:\n%s", file, firstDifference(string(want), string(got)))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			other := "(end)"
			if i < len(g) {
				other = g[i]
			}
			return fmt.Sprintf("line %d\n want %s\n  got %s", i+1, w[i], other)
		}
	}
	return fmt.Sprintf("line %d\n want (end)\n  got %s", len(w), g[len(w)])
}

func replayStories(t *testing.T, file string, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var s *stage
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "== "):
			s = newStageOf(file, line)
		case strings.HasPrefix(line, "> "):
		case line == "", strings.HasPrefix(line, "#"):
		default:
			continue // what the machine wanted done when the file was written
		}
		fmt.Fprintln(&out, line)
		if told, ok := strings.CutPrefix(line, "> "); ok {
			for _, e := range s.tell(t, told) {
				fmt.Fprintln(&out, "  "+spellEffect(e))
			}
		}
	}
	return out.Bytes()
}

// stage drives a machine by words.
type stage struct {
	machine machine
	flow    *flow
	push    *uploadMachine // these three: the one machine, by its kind
	pull    *pullMachine
	watch   *watchMachine
}

// newStageOf makes the machine that a story is about.
func newStageOf(file, title string) *stage {
	kind := filepath.Base(file)
	if strings.HasPrefix(kind, "watch") {
		return newWatchStage()
	}
	return newStage(strings.HasPrefix(kind, "push"), strings.Contains(title, "(strict)"), strings.Contains(title, "(isolate)"))
}

func newWatchStage() *stage {
	m := newWatchMachine(0)
	return &stage{machine: m, flow: &m.flow, watch: m}
}

func newStage(push, strict, isolate bool) *stage {
	s := &stage{}
	if push {
		s.push = newUploadMachine(Limits{}, isolate, 0)
		s.machine, s.flow = s.push, &s.push.flow
	} else {
		s.pull = newPullMachine(Limits{}, strict, 0)
		s.machine, s.flow = s.pull, &s.pull.flow
	}
	return s
}

// args are the words after an event's name.
type args map[string]string

func (a args) int(name string, fallback int64) int64 {
	v, ok := a[name]
	if !ok {
		return fallback
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(name + "=" + v)
	}
	return n
}

func (a args) has(name string) bool { _, ok := a[name]; return ok }

func (a args) or(name, fallback string) string {
	if v, ok := a[name]; ok {
		return v
	}
	return fallback
}

// tell steps the machine with an event given by words.
func (s *stage) tell(t *testing.T, line string) []effect {
	t.Helper()
	ev := s.event(line)
	if ev == nil {
		t.Fatalf("no such event: %q", line)
	}
	return s.machine.step(ev)
}

func (s *stage) event(line string) event {
	words := strings.Fields(line)
	a := args{}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		a[name] = value
	}
	run := messages.RunID(a.int("run", 1))
	link := messages.Link{Contract: wire.ClassicContract, SourceID: "src", Limits: wire.Limits{
		MaxRowsPerPushChunk: a.int("chunk", 0), MaxRowsPerBundle: a.int("bundle", 0),
	}}
	if a.has("uniform") {
		link.Contract = wire.UniformContract
		link.Limits.DefaultRowsPerSnapshotChunk, link.Limits.MaxRowsPerSnapshotChunk = 500, 700
		link.Limits.DefaultBytesPerSnapshotChunk, link.Limits.MaxBytesPerSnapshotChunk, link.Limits.MaxBytesPerSnapshotRow = 1<<20, 2<<20, a.int("rowbytes", 1<<20)
		link.Limits.MaxConcurrentSnapshotBuilds, link.Limits.MaxConcurrentSnapshotChunkRequests = 2, 8
	}
	oneShot := a.has("oneshot")
	ok := func(result any) event { return evAnswer{ref: s.flow.ref, result: result} }
	switch words[0] {
	case "push":
		return evStartPush{messages.Push{Run: run, Link: link, OneShot: oneShot, PastGate: a.has("pastgate"), FinishOnly: a.has("finishonly"), ReplayOnly: a.has("replayonly"), Only: spokenOnly(a)}}
	case "pull":
		return evStartPull{messages.Pull{Run: run, Link: link, OneShot: oneShot}}
	case "snapshot":
		return evStartSnapshot{messages.Snapshot{Run: run, Link: link, OneShot: oneShot}}
	case "cancel":
		return evCancelRun{run: run}

	case "watch":
		return evWatch{messages.Watch{Epoch: uint64(a.int("epoch", 1))}}
	case "unwatch":
		return evUnwatch{}
	case "opened":
		return evStreamOpened{ref: s.flow.ref}
	case "streamed":
		return evStreamed{ref: s.flow.ref, streamed: streamed{seq: a.int("seq", 0), beat: a.has("beat"), proved: a.has("proved")}}

	case "done": // a command without a result
		return ok(nil)
	case "marked":
		return ok(a.has("behind"))
	case "fails":
		return evAnswer{ref: s.flow.ref, err: spokenError(a)}
	case "refused":
		return evAnswer{ref: s.flow.ref, err: s.spokenRefusal(a)}
	case "later":
		return evFailure{ref: s.flow.ref, after: time.Duration(a.int("after", 0)) * time.Second, err: errors.New("no network")}
	case "due":
		return evWaitOver{ref: s.flow.ref}
	case "exhausted":
		return evExhausted{ref: s.flow.ref, err: &messages.RetryExhaustedError{Operation: "it", Attempts: 3, LastErr: errors.New("no network")}}
	case "broken":
		return evBroken{ref: s.flow.ref, cause: "boom"}
	case "stale":
		return evAnswer{ref: s.flow.ref - 1}

	case "state":
		return ok(spokenState(a))
	case "settled":
		r := local.Settled{Tables: spokenTables(a)}
		for i := range a.int("conflicts", 0) {
			r.Conflicts = append(r.Conflicts, spokenConflict(i))
		}
		return ok(r)
	case "decided":
		var r []local.Resolution
		for i := range a.int("n", 1) {
			r = append(r, local.Resolution{Conflict: spokenConflict(i), Kind: local.KeepLocal})
		}
		return ok(r)
	case "resolved":
		r := local.ResolutionsApplied{
			Applied: int(a.int("applied", 0)), Stale: int(a.int("stale", 0)), NeedsPull: a.has("needspull"), Tables: spokenTables(a),
		}
		if r.NeedsPull {
			r.Deferred = []local.IntentKey{{Table: "posts", KeyJSON: `{"id":"0"}`}}
		}
		for i := range r.Stale { // those after the one that has to wait
			c := spokenConflict(int64(len(r.Deferred) + i))
			r.StaleKeys = append(r.StaleKeys, local.IntentKey{Table: c.Table, KeyJSON: c.KeyJSON})
		}
		return ok(r)
	case "frozen":
		r := local.Frozen{More: a.has("more"), Unsettled: a.has("unsettled")}
		r.Outbox.State = local.OutboxNone
		if a.has("rows") {
			r.Outbox = local.Outbox{
				State: local.OutboxPrepared, SourceID: "src", SourceBundleID: a.int("id", 1), RowCount: a.int("rows", 0),
				InitializationID: a["lease"], RequestHash: a.or("hash", "rh"),
			}
		}
		return ok(r)
	case "aside":
		var r []local.SetAside
		for i := range a.int("n", 1) {
			r = append(r, local.SetAside{ID: a.int("id", 1) + i, Table: "posts", Reason: local.Reason{Code: "no", Origin: local.OriginServer}})
		}
		return ok(r)
	case "staging":
		return ok(wire.CreatePushResponse{PushID: a.or("id", "p1")})
	case "already":
		return ok(wire.CreatePushResponse{AlreadyCommitted: true, Committed: spokenBundle(a)})
	case "rows":
		return ok(make([]wire.PushRow, a.int("n", 1)))
	case "committed":
		return ok(spokenBundle(a))
	case "proved", "unproved":
		return ok(messages.FrozenReplay{Proved: words[0] == "proved", Replayed: spokenReplay(a)})
	case "page": // of a committed bundle
		rows := make([]wire.Row, a.int("n", 1))
		return ok(wire.CommittedRowsPage{Bundle: spokenBundle(a), Rows: rows, Next: a.int("next", int64(len(rows))-1), HasMore: a.has("more")})
	case "replayed":
		return ok(spokenReplay(a))
	case "taken":
		return ok(local.ConflictTaken{Settled: a.has("settled"), Base: a.int("base", 1), Op: wire.OpUpdate, Tables: spokenTables(a)})

	case "bundles":
		p := wire.PullPage{StableSeq: a.int("stable", 0), HasMore: a.has("more")}
		for seq := a.int("from", 1); seq <= a.int("to", 0); seq++ {
			p.Bundles = append(p.Bundles, wire.Bundle{BundleMeta: wire.BundleMeta{Seq: seq}})
		}
		return ok(p)
	case "applied":
		r := local.Applied{
			Checkpoint: a.int("checkpoint", 0), Tables: spokenTables(a), Foreign: a.has("foreign"), RebuildRequired: a.has("rebuild"),
		}
		if a.has("collision") {
			r.Collision = &local.Collision{BundleSeq: a.int("collision", 0), Cause: "foreign_key", Intents: []local.IntentKey{{Table: "posts"}}}
		}
		if a.has("diverged") {
			r.Diverged = &wire.ProtocolError{Table: "posts", Reason: "a parent is not there"}
		}
		if a.has("error") {
			return evAnswer{ref: s.flow.ref, result: r, err: spokenError(a)}
		}
		return ok(r)
	case "session":
		return ok(wire.SnapshotSession{ID: a.or("id", "s1"), BundleSeq: 9, RowCount: a.int("rows", 0), ByteCount: a.int("bytes", 0)})
	case "snapshotpage":
		return ok(wire.SnapshotPage{Rows: make([]wire.Row, a.int("n", 1)), ByteCount: a.int("bytes", 0), HasMore: a.has("more")})
	case "restored":
		r := local.Restored{BundleSeq: 9, Rows: a.int("rows", 0), Tables: spokenTables(a)}
		if a.has("rotated") {
			r.Rotated = &local.Rotation{From: "src", To: a["rotated"], Reason: local.ReasonSourceRetired}
		}
		return ok(r)
	case "reserved":
		return ok(a.or("id", "fresh-2"))
	case "rotated":
		return ok(local.Rotation{From: "src", To: a.or("to", "fresh"), Reason: local.ReasonSourceRetired})
	default:
		return nil
	}
}

// spokenOnly names as many intents as only says.
func spokenOnly(a args) *local.Collision {
	if !a.has("only") {
		return nil
	}
	c := &local.Collision{BundleSeq: 7, Cause: "unique"}
	for i := range a.int("only", 0) {
		c.Intents = append(c.Intents, local.IntentKey{Table: "posts", KeyJSON: spokenConflict(i).KeyJSON})
	}
	return c
}

func spokenTables(a args) local.TableSet {
	if v := a["tables"]; v != "" {
		return strings.Split(v, ",")
	}
	return nil
}

func spokenBundle(a args) wire.BundleMeta {
	return wire.BundleMeta{Seq: a.int("seq", 7), SourceID: "src", SourceBundleID: a.int("id", 1), RowCount: a.int("count", -1), Hash: "h"}
}

func spokenReplay(a args) local.Replayed {
	return local.Replayed{Foreign: a.has("foreign"), RebuildRequired: a.has("rebuild"), Tables: spokenTables(a)}
}

func spokenConflict(i int64) local.Conflict {
	return local.Conflict{Table: "posts", KeyJSON: fmt.Sprintf(`{"id":"%d"}`, i), LocalOp: wire.OpUpdate, Base: 1, ServerVersion: 2}
}

func spokenState(a args) local.State {
	s := local.State{Attachment: local.Attachment{
		CurrentSourceID: "src", Binding: local.Attached, UserID: "u", Checkpoint: a.int("checkpoint", 0),
		RebuildRequired: a.has("rebuild"), InitializationID: a["lease"],
	}}
	s.Operation.Kind, s.Outbox.State = local.NoOperation, local.OutboxNone
	s.Pending.Dirty = a.int("dirty", 0)
	if a.has("anonymous") {
		s.Attachment.Binding = local.Anonymous
	}
	if reason, ok := a["recovery"]; ok {
		s.Operation = local.Operation{Kind: local.SourceRecovery, Reason: reason}
	}
	if a.has("replace") {
		s.Attachment.Binding = local.Anonymous
		s.Operation = local.Operation{Kind: local.RemoteReplace, TargetUserID: "u"}
		if a["replace"] == "staged" {
			s.Operation.Stage = local.Stage{SnapshotID: "s0", BundleSeq: 8, RowCount: 5, Complete: true}
		}
	}
	s.Operation.ReplacementSourceID, s.Operation.ReplacedBy = a["reserved"], a["replacedby"]
	s.ReattachRequired, s.KeepIntents = a.has("reattach"), a.has("keepintents")
	if rows := a.int("prepared", 0); rows > 0 {
		s.Outbox = local.Outbox{
			State: local.OutboxPrepared, SourceID: "src", SourceBundleID: a.int("id", 1), RowCount: rows, InitializationID: a["lease"],
		}
	}
	if seq := a.int("committed", 0); seq > 0 {
		s.Outbox = local.Outbox{State: local.OutboxCommittedRemote, SourceID: "src", SourceBundleID: a.int("id", 1), RowCount: 2, RemoteSeq: seq, RemoteHash: "h"}
	}
	if code, ok := a["blocked"]; ok {
		s.UploadBlocked = &local.Blocked{Code: code, Since: time.Unix(1, 0)}
	}
	return s
}

func spokenError(a args) error {
	switch a["with"] {
	case "certificate":
		return &transport.AddressError{Operation: "it", Err: errors.New("it does not verify")}
	case "nothing": // there
		return &transport.AddressError{Operation: "it", Status: int(a.int("status", 404))}
	case "closed":
		return messages.ErrClosed
	case "notopen":
		return &messages.OpenRequiredError{Operation: "it"}
	case "otherrequest":
		return &wire.RequestHashError{Operation: "it", Sent: "rh", Named: "other"}
	case "busy":
		return &local.DatabaseError{Operation: "freeze", Transient: true}
	case "intent":
		return &local.IntentError{Table: "posts", Err: &wire.ValueError{Table: "business.posts", Column: "n", Reason: "nul_in_text"}}
	case "unreadable":
		return &local.IntentError{Table: "posts", Err: errors.New("not JSON")}
	case "resolution":
		return &local.InvalidResolutionError{Table: "posts", Reason: "it lacks a column"}
	case "resolver":
		return &messages.InvalidConflictResolutionError{Table: "posts", Reason: "it panicked"}
	case "collision":
		return &local.CollisionError{Collision: local.Collision{BundleSeq: 9, Cause: "unique"}}
	case "protocol":
		return &wire.ProtocolError{Operation: "pull", Reason: "garbage"}
	case "otherbundle":
		return &wire.ProtocolError{Operation: "committed bundle rows", Reason: "another source's", Err: wire.ErrOtherBundle}
	case "behind":
		return &wire.StableBehindError{Stable: 3, After: 5}
	case "large":
		return &transport.BodyTooLargeError{Operation: "pull", Limit: 10}
	default:
		return &local.DatabaseError{Operation: "it", Reason: "broken"}
	}
}

func (s *stage) spokenRefusal(a args) error {
	e := &wire.HTTPError{
		Status: int(a.int("status", 409)), Code: a["code"], Operation: "it", ReplacedBySourceID: a["replacedby"],
		RetryAfter: time.Duration(a.int("after", 0)) * time.Second,
	}
	if ask, ok := s.flow.given.(fxAsk); ok {
		e.Operation = ask.request.operation()
	}
	if a.has("table") {
		e.Conflict = &wire.Conflict{Schema: "business", Table: a["table"], Key: wire.Key{Column: "id", Value: a.or("key", "k")}, Op: wire.OpUpdate}
	}
	return e
}

// spellEffect spells an effect on one line.
func spellEffect(e effect) string {
	switch e := e.(type) {
	case fxTell:
		return "writer: " + spellCommand(e.command)
	case fxAsk:
		return "server: " + spellRequest(e.request)
	case fxWait:
		s := fmt.Sprintf("wait: %s (%v)", e.operation, e.err)
		if e.after > 0 {
			s += fmt.Sprintf(" at least %v", e.after)
		}
		if e.oneShot {
			s += " one shot"
		}
		return s
	case fxAbandon:
		return "abandon"
	case fxProgressed:
		return "progressed"
	case fxDiscard:
		return "discard: " + spellRequest(e.request)
	case fxReport:
		return "session: " + spellMessage(e.message)
	default:
		return fmt.Sprintf("%T", e)
	}
}

func spellCommand(c messages.Command) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", c), "messages.")
	switch c := c.(type) {
	case messages.Settle:
		return fmt.Sprintf("%s max=%d", name, c.Max)
	case messages.Resolve:
		return fmt.Sprintf("%s %d", name, len(c.Resolutions))
	case messages.Freeze:
		more := ""
		if len(c.Request.Only) > 0 {
			more = fmt.Sprintf(" only=%d", len(c.Request.Only))
		}
		if c.Request.Probe > 0 {
			more += fmt.Sprintf(" probe=%d", c.Request.Probe)
		}
		return fmt.Sprintf("%s rows≤%d bytes≤%d without=%d%s", name, c.Request.MaxRows, c.Request.MaxBytes, len(c.Request.Without), more)
	case messages.IsolateOutbox:
		return fmt.Sprintf("%s %s attempts=%d", name, c.Reason.Code, c.Reason.Attempts)
	case messages.RetryQuarantined:
		return fmt.Sprintf("%s %v", name, c.IDs)
	case messages.OutboxRows:
		return fmt.Sprintf("%s from=%d rows≤%d bytes≤%d", name, c.From, c.MaxRows, c.MaxBytes)
	case messages.MarkCommitted:
		if c.New {
			name += " new"
		}
		return fmt.Sprintf("%s seq=%d", name, c.Bundle.Seq)
	case messages.TakeConflict:
		return fmt.Sprintf("%s %s", name, c.Conflict.Table)
	case messages.ReplayFrozen:
		return fmt.Sprintf("%s seq=%d", name, c.Bundle.Seq)
	case messages.Replay:
		return fmt.Sprintf("%s seq=%d rows=%d proof=%v", name, c.Bundle.Seq, len(c.Bundle.Rows), c.Proof)
	case messages.ReplayStaged:
		return fmt.Sprintf("%s seq=%d proof=%v", name, c.Bundle.Seq, c.Proof)
	case messages.StageBundlePage:
		return fmt.Sprintf("%s seq=%d after=%d rows=%d", name, c.Bundle.Seq, c.After, len(c.Rows))
	case messages.ApplyBundles:
		return fmt.Sprintf("%s %d…%d", name, c.Bundles[0].Seq, c.Bundles[len(c.Bundles)-1].Seq)
	case messages.ApplyStaged:
		return fmt.Sprintf("%s seq=%d", name, c.Bundle.Seq)
	case messages.SetRebuildGate:
		return name + " " + c.Reason
	case messages.DoubtCommit:
		return strings.TrimSpace(name + " " + c.Gate)
	case messages.SetSourceRecovery:
		return strings.TrimSpace(name + " " + c.Reason + " " + c.ReplacedBy)
	case messages.SetUploadBlocked:
		if c.Blocked == nil {
			return name + " nil"
		}
		since := ""
		if !c.Blocked.Since.IsZero() {
			since = " since before"
		}
		return fmt.Sprintf("%s %s status=%d table=%s%s", name, c.Blocked.Code, c.Blocked.Status, c.Blocked.Table, since)
	case messages.BeginStage:
		return fmt.Sprintf("%s %s rows=%d", name, c.Session.ID, c.Session.RowCount)
	case messages.StageSnapshotPage:
		return fmt.Sprintf("%s %s after=%d rows=%d", name, c.Session.ID, c.After, len(c.Rows))
	case messages.CompleteStage:
		return name + " " + c.Session.ID
	case messages.ApplySnapshot:
		return name + " " + c.Session.ID
	default:
		return name
	}
}

func spellRequest(r request) string {
	s := r.operation()
	switch r := r.(type) {
	case createPushRequest:
		s += fmt.Sprintf(" id=%d rows=%d", r.push.SourceBundleID, r.push.PlannedRowCount)
		if r.push.InitializationID != "" {
			s += " lease=" + r.push.InitializationID
		}
	case pushChunkRequest:
		s += fmt.Sprintf(" %s start=%d rows=%d", r.pushID, r.start, len(r.rows))
	case commitPushRequest:
		s += " " + r.pushID
	case deletePushRequest:
		s += " " + r.pushID
	case committedRowsRequest:
		s += fmt.Sprintf(" seq=%d after=%d max=%d", r.page.Bundle.Seq, r.page.After, r.page.MaxRows)
	case pullRequest:
		s += fmt.Sprintf(" after=%d bundles=%d target=%d", r.page.After, r.page.MaxBundles, r.page.Target)
	case createSnapshotRequest:
		if r.source != "src" {
			s += " as " + r.source
		}
		if x := r.replacement; x != nil {
			s += fmt.Sprintf(" replacing %s by %s: %s", x.PreviousSourceID, x.NewSourceID, x.Reason)
		}
	case snapshotPageRequest:
		s += fmt.Sprintf(" %s after=%d max=%d", r.page.Session.ID, r.page.After, r.page.MaxRows)
		if r.page.MaxBytes > 0 {
			s += fmt.Sprintf(" bytes=%d/%d", r.page.AfterBytes, r.page.MaxBytes)
		}
	case deleteSnapshotRequest:
		s += " " + r.snapshotID
	case watchRequest:
		s += fmt.Sprintf(" as %s after=%d", r.source, r.after)
	case resolveRequest:
		s += fmt.Sprintf(" %d", len(r.conflicts))
	}
	return s
}

func spellMessage(m messages.Session) string {
	switch m := m.(type) {
	case messages.PushDone:
		s := fmt.Sprintf("push %d done: ", m.Run)
		if m.Err != nil {
			s += spellError(m.Err)
		} else {
			s += [...]string{"no change", "committed", "needs pull", "needs rebuild", "lease unused", "refused"}[m.Verdict]
		}
		if m.Refused != nil {
			s += " as " + m.Refused.Code
		}
		if m.Committed {
			s += " (something was committed)"
		}
		return s
	case messages.PullDone:
		s := fmt.Sprintf("pull %d done: ", m.Run)
		if m.Err != nil {
			return s + spellError(m.Err)
		}
		s += [...]string{"at target", "incremental", "snapshot", "needs push"}[m.Verdict]
		if m.Collision != nil {
			s += fmt.Sprintf(" (bundle %d, %s)", m.Collision.BundleSeq, m.Collision.Cause)
		}
		if m.Restored != nil {
			s += fmt.Sprintf(" (%d rows)", m.Restored.Rows)
		}
		if m.Rotated != nil {
			s += fmt.Sprintf(" (%s follows %s)", m.Rotated.To, m.Rotated.From)
		}
		return s
	case messages.StateChanged:
		return "state"
	case messages.RowsQuarantined:
		return fmt.Sprintf("quarantined %d", len(m.Rows))
	case messages.Progress:
		return fmt.Sprintf("progress %s %d/%d", m.Phase, m.Done, m.Total)
	case messages.TablesChanged:
		return fmt.Sprintf("changed %s by %s", strings.Join(m.Tables, ","), m.Cause)
	case messages.ConflictResolved:
		return fmt.Sprintf("conflict in %s resolved %d", m.Table, m.Resolution)
	case messages.WatchOpened:
		return fmt.Sprintf("watch %d opened", m.Epoch)
	case messages.WatchHint:
		return fmt.Sprintf("watch %d hint seq=%d", m.Epoch, m.Seq)
	case messages.WatchAlive:
		return fmt.Sprintf("watch %d alive", m.Epoch)
	case messages.WatchRefused:
		return fmt.Sprintf("watch %d refused: %s", m.Epoch, spellError(m.Err))
	case messages.ChildFailed:
		return fmt.Sprintf("%s failed: %v", m.Child, m.Cause)
	default:
		return fmt.Sprintf("%T", m)
	}
}

// spellError spells what callers decide by: the type, and the field that says why.
func spellError(err error) string {
	if errors.Is(err, context.Canceled) {
		return "cancelled"
	}
	name := strings.TrimLeft(fmt.Sprintf("%T", err), "*")
	switch e := err.(type) {
	case *messages.PushRejectedError:
		return fmt.Sprintf("%s %s status=%d table=%s", name, e.Code, e.Status, e.Table)
	case *messages.AttachRequiredError:
		return name + " " + e.Reason
	case *messages.SourceRecoveryRequiredError:
		return name + " " + e.Reason
	case *messages.SourceReplacementDivergedError:
		return fmt.Sprintf("%s %s reserved=%s", name, e.Server, e.Reserved)
	case *messages.PushConflictRetryExhaustedError:
		return fmt.Sprintf("%s table=%s conflicts=%d", name, e.Table, e.Conflicts)
	case *messages.SnapshotExpiredError:
		return fmt.Sprintf("%s %d/%d", name, e.Rows, e.Total)
	case *messages.DirtyStateRejectedError:
		return fmt.Sprintf("%s %d", name, e.DirtyRows)
	case *messages.AuthError:
		return fmt.Sprintf("%s %s", name, e.Operation)
	case *wire.HTTPError:
		return name + " " + e.Code
	default:
		return name
	}
}
