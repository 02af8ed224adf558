package actors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// TestSessionStories plays the stories in testdata/session. A line that begins in column one is an event for the session
// machine; the indented lines below it are the effects that it must bring, and the phase it leaves the engine in.
func TestSessionStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/session/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := playSession(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("the story goes otherwise:\n%s", whereSessionsPart(string(want), got))
			}
		})
	}
}

// whereSessionsPart shows the first line in which two stories differ.
func whereSessionsPart(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("one ends after line %d", min(len(w), len(g)))
}

func playSession(t *testing.T, story string) string {
	p := newSessionPlayer(story)
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimRight(story, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, " "): // what it brought last time
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
		default:
			fmt.Fprintln(&out, line)
			event, err := p.parse(line)
			if err != nil {
				t.Fatalf("%s: %v, after:\n%s", line, err, out.String())
			}
			for _, e := range p.step(event) {
				if _, measured := e.(fxRan); measured {
					continue // tells log and metrics what the replies tell the callers
				}
				fmt.Fprintln(&out, "    "+describe(e))
			}
			fmt.Fprintln(&out, "    "+p.describeStatus())
		}
	}
	return out.String()
}

// describeStatus writes the phase, and while background sync is on also how long it waits and what would wake it.
func (p *sessionPlayer) describeStatus() string {
	s := p.machine.status()
	line := fmt.Sprintf("(%s: %s", s.Phase, s.Reason)
	if p.machine.bg.on {
		if s.Attempt > 0 {
			line += fmt.Sprintf(", attempt %d", s.Attempt)
		}
		if !s.WaitingUntil.IsZero() {
			line += fmt.Sprintf(", for %v", s.WaitingUntil.Sub(p.now))
		}
		if len(s.WokenBy) > 0 {
			line += fmt.Sprintf(", or %q", s.WokenBy)
		}
	}
	return line + ")"
}

// sessionPlayer drives a session machine by lines of text.
type sessionPlayer struct {
	machine *sessionMachine
	now     time.Time
	out     sessionEffect // the last effect of a run that has an answer
	looks   []uint64      // refs of reads that background sync waits for
	commits uint64
	attempt int // of what waits
}

var storyBegins = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newSessionPlayer(story string) *sessionPlayer {
	id := 0
	return &sessionPlayer{
		now: storyBegins,
		machine: newSessionMachine(sessionConfig{
			tables:    []wire.TableSpec{{Schema: "main", Table: "users", SyncKeyColumns: []string{"id"}}},
			serverURL: "https://example.com",
			newID:     func() string { id++; return fmt.Sprintf("fresh-%d", id) },
			recover:   strings.HasPrefix(story, "# AutoRecover"),
			retry:     testRetry,
			chance:    func() float64 { return 0.5 },
		}),
	}
}

func (p *sessionPlayer) step(event any) []sessionEffect {
	if alarm, ok := event.(evAlarm); ok && alarm.Ref == p.machine.bg.alarmRef && !p.machine.bg.alarm.IsZero() {
		p.now = p.machine.bg.alarm // nothing happens between
	} else {
		p.now = p.now.Add(time.Second)
	}
	effects := p.machine.step(p.now, event)
	if len(p.machine.reads) == 0 {
		p.looks = nil
	}
	for _, e := range effects {
		if p.isLook(e) {
			p.looks = append(p.looks, e.(fxDo).Ref)
			continue
		}
		switch e.(type) {
		case fxOpen, fxDo, fxCapabilities, fxConnect, fxPush, fxPull, fxSnapshot:
			p.out = e
		}
	}
	return effects
}

// isLook reports whether an effect is a read of background sync's.
func (p *sessionPlayer) isLook(e sessionEffect) bool {
	do, ok := e.(fxDo)
	return ok && slices.ContainsFunc(p.machine.reads, func(r sessionRead) bool { return r.look && r.ref == do.Ref })
}

// parse reads an event:
//
//	call N VERB [USER]      leave N       close N      pause|resume uploads|downloads      kick     crash
//	ok                      the outstanding effect succeeds, with nothing to say
//	state TOKENS…           … with a state
//	error NAME              … fails
//	capable TOKENS…         … with capabilities
//	connect RESOLUTION      … with a resolution
//	pushed VERDICT [committed]      pulled VERDICT [SEQ KEY… rotated=ID | outbox | lease]      pulled snapshot [ID]
//	detached                blocked N     stopped
//	call N Start [USER] [watch]           written     alarm [commits] (the time is its own)     looked TOKENS…|error
//	waiting [CODE of a 429]      resumed     answered
//	opened    hint SEQ      alive         lost        refused NAME      unwatched     watcher-panic
func (p *sessionPlayer) parse(line string) (any, error) {
	words := strings.Fields(line)
	rest := words[1:]
	switch words[0] {
	case "call":
		c := evCalled{ID: number(rest[0]), Verb: verbNamed(rest[1])}
		if c.Verb == VerbStart {
			c.Auto = parseAuto(rest[2:])
		} else if len(rest) > 2 {
			c.User = rest[2]
		}
		return c, nil
	case "written":
		p.commits++
		return evWritten{Commits: p.commits}, nil
	case "alarm":
		if len(rest) > 0 { // something was committed since the signal
			p.commits++
		}
		return evAlarm{Ref: p.machine.bg.alarmRef, Commits: p.commits}, nil
	case "looked":
		if len(p.looks) == 0 {
			return nil, errors.New("nobody looks")
		}
		done := messages.WriterDone{Ref: p.looks[0]}
		p.looks = p.looks[1:]
		if len(rest) == 1 && rest[0] == "error" {
			done.Err = errors.New("disk I/O error")
		} else {
			done.Result = parseState(rest)
		}
		return done, nil
	case "opened":
		return messages.WatchOpened{Epoch: p.machine.bg.stream.epoch}, nil
	case "hint":
		return messages.WatchHint{Epoch: p.machine.bg.stream.epoch, Seq: int64(number(rest[0]))}, nil
	case "alive":
		return messages.WatchAlive{Epoch: p.machine.bg.stream.epoch}, nil
	case "lost":
		return messages.WatchLost{Epoch: p.machine.bg.stream.epoch, Err: errors.New("down"), Attempt: 1, Until: p.now.Add(time.Minute)}, nil
	case "refused":
		return messages.WatchRefused{Epoch: p.machine.bg.stream.epoch, Err: namedError(rest[0])}, nil
	case "unwatched":
		return evUnwatched{}, nil
	case "watcher-panic":
		return evLost{Child: ChildWatcher, Err: &panicked{cause: "boom"}}, nil
	case "leave":
		return evLeft{ID: number(rest[0])}, nil
	case "pause", "resume":
		return evPaused{Uploads: rest[0] == "uploads", Paused: words[0] == "pause"}, nil
	case "kick":
		return evKicked{}, nil
	case "crash":
		return evCrashed{Cause: "boom"}, nil
	case "stopped":
		return evStopped{}, nil
	case "waiting":
		p.attempt++
		w := messages.Waiting{Run: p.machine.lastRun, Reason: "pull", Err: &transport.NetworkError{Operation: "pull", Err: errors.New("down")}, Attempt: p.attempt, Until: p.now.Add(time.Minute)}
		if len(rest) > 0 {
			w.Err = &wire.HTTPError{Operation: "pull", Status: 429, Code: rest[0], RetryAfter: time.Minute}
		}
		return w, nil
	case "answered":
		p.attempt = 0
		return messages.Answered{Run: p.machine.lastRun}, nil
	case "resumed":
		return messages.Resumed{Run: p.machine.lastRun}, nil
	case "progress":
		return messages.Progress{Run: p.machine.lastRun, Phase: messages.Phase(rest[0]), Done: 1, Total: 2}, nil
	case "ok":
		return p.answer(nil, nil)
	case "state":
		return p.answer(parseState(rest), nil)
	case "error":
		return p.answer(nil, namedError(rest[0]))
	case "capable":
		return p.answer(parseCapabilities(rest), nil)
	case "connect":
		r := wire.ConnectResponse{Resolution: wire.Resolution(rest[0])}
		switch r.Resolution {
		case wire.InitializeLocal:
			if len(rest) == 1 {
				r.InitializationID = "lease"
			}
		case wire.ResolutionRetry:
			r.RetryAfterSeconds = 7
		}
		return p.answer(r, nil)
	case "detached":
		return p.answer(local.Detached{Tables: local.TableSet{"users"}}, nil)
	case "blocked":
		return p.answer(local.Detached{Blocked: true, Pending: local.Pending{Dirty: int64(number(rest[0]))}}, nil)
	case "pushed":
		push, ok := p.out.(fxPush)
		if !ok {
			return nil, fmt.Errorf("there is no push, but: %s", describe(p.out))
		}
		d := messages.PushDone{Run: push.Run, Verdict: pushVerdicts[rest[0]], Committed: rest[0] == "committed" || len(rest) > 1}
		if d.Verdict == messages.PushRefused {
			d.Refused = &messages.PushRejectedError{Code: "no", Status: 400}
		}
		return d, nil
	case "pulled":
		d := messages.PullDone{Run: p.runOut(), Verdict: pullVerdicts[rest[0]]}
		switch d.Verdict {
		case messages.PullSnapshot:
			if len(rest) > 1 {
				d.Rotated = &local.Rotation{From: "source", To: rest[1], Reason: local.ReasonSourceRetired}
			}
			d.Restored = &local.Restored{BundleSeq: 9, Rows: 3}
			if r := p.machine.current; r != nil && r.result.Attach == AttachUsedRemote && !p.machine.keepsIntents() {
				d.Restored.DroppedLocalRows = 1
			}
		case messages.PullNeedsPush:
			if rest[1] == collisionOutbox || rest[1] == collisionLease {
				d.Collision = &local.Collision{Cause: rest[1]}
				break
			}
			d.Collision = &local.Collision{BundleSeq: int64(number(rest[1])), Cause: "unique"}
			for _, k := range rest[2:] {
				if to, rotated := strings.CutPrefix(k, "rotated="); rotated {
					d.Rotated = &local.Rotation{From: "source", To: to, Reason: local.ReasonSourceRetired}
					continue
				}
				d.Collision.Intents = append(d.Collision.Intents, local.IntentKey{Table: "users", KeyJSON: k})
			}
		}
		return d, nil
	}
	return nil, errors.New("not understood")
}

var pushVerdicts = map[string]messages.PushVerdict{
	"nochange": messages.PushNoChange, "committed": messages.PushCommitted, "needs-pull": messages.PushNeedsPull,
	"needs-rebuild": messages.PushNeedsRebuild, "lease-unused": messages.PushLeaseUnused, "refused": messages.PushRefused,
}

var pullVerdicts = map[string]messages.PullVerdict{
	"at-target": messages.PullAtTarget, "incremental": messages.PullIncremental, "snapshot": messages.PullSnapshot,
	"needs-push": messages.PullNeedsPush,
}

func (p *sessionPlayer) runOut() messages.RunID {
	switch e := p.out.(type) {
	case fxPull:
		return e.Run
	case fxSnapshot:
		return e.Run
	default:
		return 0
	}
}

// answer answers the outstanding effect.
func (p *sessionPlayer) answer(result any, err error) (any, error) {
	switch e := p.out.(type) {
	case fxOpen:
		s, _ := result.(local.State)
		return evOpened{Ref: e.Ref, State: s, Err: err}, nil
	case fxDo:
		return messages.WriterDone{Ref: e.Ref, Result: result, Err: err}, nil
	case fxCapabilities:
		c, _ := result.(wire.Capabilities)
		return evCapable{Ref: e.Ref, Capabilities: c, Err: err}, nil
	case fxConnect:
		r, _ := result.(wire.ConnectResponse)
		return evConnected{Ref: e.Ref, Response: r, Err: err}, nil
	case fxPush:
		return messages.PushDone{Run: e.Run, Err: err}, nil
	case fxPull, fxSnapshot:
		return messages.PullDone{Run: p.runOut(), Err: err}, nil
	default:
		return nil, errors.New("nothing is outstanding")
	}
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func verbNamed(name string) Verb {
	for v, n := range verbNames {
		if n == name {
			return Verb(v)
		}
	}
	panic("no verb " + name)
}

// parseAuto reads "[USER] [watch]". The times are the defaults of the root package.
func parseAuto(tokens []string) AutoConfig {
	a := AutoConfig{Debounce: 20 * time.Millisecond, MaxDelay: 500 * time.Millisecond, PollInterval: time.Minute}
	for _, token := range tokens {
		if token == "watch" {
			a.Watch = true
		} else {
			a.UserID = token
		}
	}
	return a
}

// parseState reads "user=u dirty=2 lease gate outbox=classic committed contract=classic keep reattach live recovery=reason replace=u staged at=7".
func parseState(tokens []string) local.State {
	s := local.State{Attachment: local.Attachment{CurrentSourceID: "source", Binding: local.Anonymous}}
	s.Operation.Kind = local.NoOperation
	s.Outbox.State = local.OutboxNone
	for _, token := range tokens {
		name, value, _ := strings.Cut(token, "=")
		switch name {
		case "user":
			s.Attachment.Binding, s.Attachment.UserID = local.Attached, value
		case "was":
			s.Attachment.UserID = value
		case "dirty":
			s.Pending.Dirty = int64(number(value))
		case "lease":
			s.Attachment.InitializationID, s.Pending.Lease = "lease", true
		case "gate":
			s.Attachment.RebuildRequired, s.Operation.Reason = true, value
		case "committed":
			s.Outbox.State, s.Pending.Outbox = local.OutboxCommittedRemote, 1
		case "outbox":
			s.Outbox.State, s.FrozenContract, s.Pending.Outbox = local.OutboxPrepared, wire.ContractName(value), 1
		case "keep":
			s.KeepIntents = true
		case "reattach":
			s.ReattachRequired = true
		case "live":
			s.HasLiveRows = true
		case "recovery":
			s.Operation = local.Operation{Kind: local.SourceRecovery, Reason: value}
		case "replace":
			s.Operation = local.Operation{Kind: local.RemoteReplace, TargetUserID: value}
		case "staged":
			s.Operation.Stage.Complete, s.Contract = true, wire.ClassicContract
		case "contract":
			s.Contract = wire.ContractName(value)
		case "at":
			s.Attachment.Checkpoint = int64(number(value))
		case "held":
			s.UploadBlocked = &local.Blocked{Code: value}
		default:
			panic("no state token " + token)
		}
	}
	return s
}

func parseCapabilities(tokens []string) wire.Capabilities {
	c := wire.Capabilities{
		ProtocolVersion: wire.ProtocolVersion,
		Contract:        wire.ClassicContract,
		Features:        map[string]bool{"connect_lifecycle": true},
		TableSpecs:      []wire.TableSpec{{Schema: "main", Table: "users", SyncKeyColumns: []string{"id"}}},
	}
	for _, token := range tokens {
		name, value, _ := strings.Cut(token, "=")
		switch name {
		case "version":
			c.ProtocolVersion = value
		case "contract":
			c.Contract = wire.ContractName(value)
		case "without-lifecycle":
			c.Features = nil
		case "watch":
			c.Features["bundle_change_watch"] = true
		case "no-specs":
			c.TableSpecs = nil
		case "key":
			c.TableSpecs[0].SyncKeyColumns = []string{value}
		case "table":
			c.TableSpecs = append(c.TableSpecs, wire.TableSpec{Schema: "main", Table: value, SyncKeyColumns: []string{"id"}})
		case "not-users":
			c.TableSpecs = c.TableSpecs[1:]
		default:
			panic("no capability token " + token)
		}
	}
	return c
}

func namedError(name string) error {
	switch name {
	case "canceled":
		return context.Canceled
	case "rejected":
		return &messages.PushRejectedError{Code: "push_chunk_invalid", Status: 400}
	case "lost":
		return &messages.AttachRequiredError{Operation: "PushPending", Reason: "initialization_expired"}
	case "auth":
		return &messages.AuthError{Operation: "pull", Status: 401, Err: &wire.HTTPError{Operation: "pull", Status: 401}}
	case "exhausted":
		return &messages.RetryExhaustedError{Operation: "fetch committed rows", Attempts: 5, LastErr: &wire.HTTPError{Operation: "fetch committed rows", Status: 503}}
	case "forbidden":
		return &wire.HTTPError{Operation: "fetch committed rows", Status: 403, Code: "no"}
	case "protocol":
		return &wire.ProtocolError{Operation: "fetch committed rows", Reason: "no JSON"}
	case "panic":
		return &panicked{cause: "boom"}
	case "value":
		return &wire.ValueError{Table: "users", Column: "n", Reason: "integer_out_of_range"}
	case "resolver":
		return &messages.InvalidConflictResolutionError{Table: "users", Reason: "it panicked", Err: &panicked{cause: "boom"}}
	case "retired":
		return &messages.SourceRecoveryRequiredError{Operation: "push", Reason: local.ReasonSourceRetired}
	case "mismatch":
		return &messages.SourceSequenceMismatchError{SourceBundleID: 4}
	case "diverged":
		return &messages.SourceReplacementDivergedError{Reserved: "fresh", Server: "other"}
	case "conflicts":
		return &messages.PushConflictRetryExhaustedError{Table: "users"}
	default:
		return errors.New(name)
	}
}

// describe writes an effect in a line.
func describe(e sessionEffect) string {
	switch e := e.(type) {
	case fxReply:
		if e.Err != nil {
			return fmt.Sprintf("reply %d: %s: %v", e.ID, strings.TrimPrefix(fmt.Sprintf("%T", e.Err), "*"), e.Err) + describeSync(e.Result.Sync)
		}
		return fmt.Sprintf("reply %d", e.ID) + describeResult(e.Result)
	case fxOpen:
		return "open"
	case fxDo:
		return fmt.Sprintf("write %s%+v", strings.TrimPrefix(fmt.Sprintf("%T", e.Command), "messages."), e.Command)
	case fxCapabilities:
		return "capabilities as " + e.SourceID + describeFailures(e.Failures)
	case fxConnect:
		return fmt.Sprintf("connect as %s pending=%t", e.SourceID, e.Pending) + describeFailures(e.Failures)
	case fxPush:
		s := fmt.Sprintf("push run %d as %s %s", e.Run, e.Link.SourceID, e.Link.Contract)
		if e.PastGate {
			s += " past-gate"
		}
		if e.FinishOnly {
			s += " finish-only"
		}
		if e.ReplayOnly {
			s += " replay-only"
		}
		s += describeEnd(e.OneShot) + describeFailures(e.Failures)
		if e.Only != nil {
			s += fmt.Sprintf(" only=%d", len(e.Only.Intents))
		}
		return s
	case fxPull:
		return fmt.Sprintf("pull run %d as %s %s", e.Run, e.Link.SourceID, e.Link.Contract) + describeRoom(e.Displace) + describeEnd(e.OneShot) + describeFailures(e.Failures)
	case fxSnapshot:
		return fmt.Sprintf("snapshot run %d as %s %s", e.Run, e.Link.SourceID, e.Link.Contract) + describeRoom(e.Displace) + describeEnd(e.OneShot) + describeFailures(e.Failures)
	case fxCancel:
		return "cancel: " + describe(e.Effect)
	case fxListen:
		return fmt.Sprintf("listen %t", e.On)
	case fxAlarm:
		if e.At.IsZero() {
			return "no alarm"
		}
		return "alarm " + e.At.Sub(storyBegins).String()
	case fxWatch:
		return fmt.Sprintf("watch %d", e.Epoch) + describeFailures(e.Failures)
	case fxPublish:
		if r, ok := e.Event.(SourceRotated); ok {
			return fmt.Sprintf("publish %s %s by %s: %s", r.Kind(), r.From, r.To, r.Reason)
		}
		if d, ok := e.Event.(LocalRowsDropped); ok {
			return fmt.Sprintf("publish %s %d", d.Kind(), d.Rows)
		}
		return fmt.Sprintf("publish %s", e.Event.Kind())
	default:
		return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "actors.fx"))
	}
}

func describeEnd(oneShot bool) string {
	if oneShot {
		return ""
	}
	return " for-ever"
}

func describeFailures(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" after %d failures", n)
}

func describeRoom(d *local.Displacement) string {
	if d == nil {
		return ""
	}
	return fmt.Sprintf(" displacing %d: %s by %s", len(d.Intents), d.Reason.Code, d.Reason.Origin)
}

func describeResult(r Result) string {
	s := ""
	if r.Attach != 0 {
		s += " " + [...]string{AttachResumed: "resumed", AttachUsedRemote: "used-remote", AttachSeeded: "seeded", AttachStartedEmpty: "started-empty", AttachRetryLater: "retry-later"}[r.Attach]
	}
	if r.RetryAfter > 0 {
		s += " after " + r.RetryAfter.String()
	}
	if r.Rounds > 0 {
		s += fmt.Sprintf(" rounds=%d detached=%t pending=%d", r.Rounds, r.Detached, r.Pending.Rows())
	}
	return s + describeSync(r.Sync)
}

func describeSync(s SyncResult) string {
	out := ""
	if s.Committed {
		out += " committed"
	}
	if s.UploadsSkipped {
		out += " uploads-skipped"
	}
	if s.DownloadSkipped {
		out += " downloads-skipped"
	}
	switch s.Downloads {
	case messages.PullIncremental:
		out += " incremental"
	case messages.PullSnapshot:
		out += " snapshot"
	}
	if s.Restored != nil {
		out += fmt.Sprintf(" restored=%d/%d", s.Restored.Rows, s.Restored.DroppedLocalRows)
	}
	return out
}
