package actors

import (
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// echoServer answers every request with what it was asked.
type echoServer struct {
	endpoints
	asked []any
	rows  []wire.Row
	more  bool
	err   error
}

func (s *echoServer) note(what string, args ...any) {
	s.asked = append([]any{what}, args...)
}

func (s *echoServer) Capabilities(_ context.Context, source string) (wire.Capabilities, error) {
	s.note("capabilities", source)
	return wire.Capabilities{AppName: "echo"}, s.err
}
func (s *echoServer) Connect(_ context.Context, _ wire.Contract, source string, pending bool) (wire.ConnectResponse, error) {
	s.note("connect", source, pending)
	return wire.ConnectResponse{InitializationID: "L"}, s.err
}
func (s *echoServer) CreatePush(_ context.Context, k wire.Contract, source string, r wire.CreatePushRequest) (wire.CreatePushResponse, error) {
	s.note("create", k.Name(), source, r.SourceBundleID)
	return wire.CreatePushResponse{PushID: "p"}, s.err
}
func (s *echoServer) PushChunk(_ context.Context, k wire.Contract, source, id string, start int64, rows []wire.PushRow) error {
	s.note("chunk", k.Name(), source, id, start, len(rows))
	return s.err
}
func (s *echoServer) CommitPush(_ context.Context, k wire.Contract, source, id string, r wire.CreatePushRequest) (wire.BundleMeta, error) {
	s.note("commit", k.Name(), source, id, r.SourceBundleID)
	return wire.BundleMeta{Seq: 7}, s.err
}
func (s *echoServer) DeletePush(_ context.Context, source, id string) error {
	s.note("delete push", source, id)
	return s.err
}
func (s *echoServer) CommittedRows(_ context.Context, k wire.Contract, source string, r wire.CommittedRowsRequest) (wire.CommittedRowsPage, error) {
	s.note("rows", k.Name(), source, r.Bundle.Seq, r.After)
	return wire.CommittedRowsPage{Bundle: r.Bundle, Rows: s.rows, HasMore: s.more}, s.err
}
func (s *echoServer) Pull(_ context.Context, k wire.Contract, source string, r wire.PullRequest) (wire.PullPage, error) {
	s.note("pull", k.Name(), source, r.After)
	return wire.PullPage{StableSeq: 9, Bundles: []wire.Bundle{{BundleMeta: wire.BundleMeta{Seq: 1, RowCount: 1}, Rows: s.rows}}}, s.err
}
func (s *echoServer) CreateSnapshot(_ context.Context, k wire.Contract, source string, r *wire.SourceReplacement) (wire.SnapshotSession, error) {
	s.note("snapshot", k.Name(), source, r)
	return wire.SnapshotSession{ID: "s"}, s.err
}
func (s *echoServer) SnapshotPage(_ context.Context, k wire.Contract, source string, r wire.SnapshotPageRequest) (wire.SnapshotPage, error) {
	s.note("page", k.Name(), source, r.After)
	return wire.SnapshotPage{Next: 3}, s.err
}
func (s *echoServer) DeleteSnapshot(_ context.Context, source, id string) error {
	s.note("delete snapshot", source, id)
	return s.err
}

var classicCall = call{contract: wire.ClassicContract, source: "src"}

func TestEveryRequestReachesItsEndpoint(t *testing.T) {
	t.Parallel()
	const classic = wire.ClassicContract
	var none *wire.SourceReplacement
	for _, c := range []struct {
		request request
		asked   []any
		result  any
	}{
		{capabilitiesRequest{classicCall}, []any{"capabilities", "src"}, wire.Capabilities{AppName: "echo"}},
		{connectRequest{classicCall, true}, []any{"connect", "src", true}, wire.ConnectResponse{InitializationID: "L"}},
		{createPushRequest{classicCall, wire.CreatePushRequest{SourceBundleID: 4}}, []any{"create", classic, "src", int64(4)}, wire.CreatePushResponse{PushID: "p"}},
		{pushChunkRequest{classicCall, "p", 2, make([]wire.PushRow, 3)}, []any{"chunk", classic, "src", "p", int64(2), 3}, nil},
		{commitPushRequest{classicCall, "p", wire.CreatePushRequest{SourceBundleID: 4}}, []any{"commit", classic, "src", "p", int64(4)}, wire.BundleMeta{Seq: 7}},
		{deletePushRequest{classicCall, "p"}, []any{"delete push", "src", "p"}, nil},
		{
			committedRowsRequest{classicCall, wire.CommittedRowsRequest{Bundle: wire.BundleMeta{Seq: 7}, After: 5}},
			[]any{"rows", classic, "src", int64(7), int64(5)}, wire.CommittedRowsPage{Bundle: wire.BundleMeta{Seq: 7}, Rows: make([]wire.Row, 1)},
		},
		{
			pullRequest{classicCall, wire.PullRequest{After: 5}},
			[]any{"pull", classic, "src", int64(5)},
			wire.PullPage{StableSeq: 9, Bundles: []wire.Bundle{{BundleMeta: wire.BundleMeta{Seq: 1, RowCount: 1}, Rows: make([]wire.Row, 1)}}},
		},
		{createSnapshotRequest{classicCall, nil}, []any{"snapshot", classic, "src", none}, wire.SnapshotSession{ID: "s"}},
		{snapshotPageRequest{classicCall, wire.SnapshotPageRequest{After: 5}}, []any{"page", classic, "src", int64(5)}, wire.SnapshotPage{Next: 3}},
		{deleteSnapshotRequest{classicCall, "s"}, []any{"delete snapshot", "src", "s"}, nil},
	} {
		server := &echoServer{rows: make([]wire.Row, 1)}
		n := &network{client: server, log: zap.NewNop()}
		result, err := n.perform(context.Background(), c.request)
		if err != nil || !reflect.DeepEqual(result, c.result) || !reflect.DeepEqual(server.asked, c.asked) {
			t.Errorf("%s asks %v and answers %+v, %v", c.request.operation(), server.asked, result, err)
		}
		server.err = io.ErrUnexpectedEOF
		if _, err := n.perform(context.Background(), c.request); !errors.Is(err, server.err) {
			t.Errorf("%s answers error %v", c.request.operation(), err)
		}
	}
}

func TestRequestsInAnUnknownContractAreRefused(t *testing.T) {
	t.Parallel()
	server := &echoServer{}
	n := &network{client: server, log: zap.NewNop()}
	if _, err := n.perform(context.Background(), pullRequest{call: call{contract: "none"}}); err == nil || server.asked != nil {
		t.Errorf("asked %v, error %v", server.asked, err)
	}
}

func TestUnknownRequestsPanic(t *testing.T) {
	t.Parallel()
	for _, r := range []request{struct{ request }{}, strangeInContract{call: classicCall}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a %T is performed", r)
				}
			}()
			_, _ = (&network{client: &echoServer{}}).perform(context.Background(), r)
		}()
	}
}

type strangeInContract struct {
	request
	call
}

// A bundle whose rows do not have the hash that came with them never reaches the writer.
func TestBundlesAreVerifiedBeforeTheWriterSeesThem(t *testing.T) {
	t.Parallel()
	server := &echoServer{} // announces one row and sends none
	n := &network{client: server, log: zap.NewNop()}
	_, err := n.perform(context.Background(), pullRequest{call: classicCall})
	mustBe[*wire.ProtocolError](t, err)

	whole := wire.CommittedRowsRequest{Bundle: wire.BundleMeta{Seq: 7, RowCount: -1, Hash: strings.Repeat("0", 64)}, After: -1}
	_, err = n.perform(context.Background(), committedRowsRequest{classicCall, whole})
	mustBe[*wire.ProtocolError](t, err)

	// One of several pages cannot be verified by itself; the stage is, when it is complete.
	server.more = true
	if _, err = n.perform(context.Background(), committedRowsRequest{classicCall, whole}); err != nil {
		t.Errorf("a first page: %v", err)
	}
}

func TestAResolverIsTimeBoundedAndPanicSafe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		conflict := local.Conflict{Table: "posts", LocalOp: wire.OpUpdate}
		deleted := local.Conflict{Table: "posts", LocalOp: wire.OpDelete}
		released := make(chan struct{})
		defer close(released)
		failed := errors.New("no idea")
		for name, c := range map[string]struct {
			resolve  ResolveFunc
			conflict local.Conflict
			reason   string
		}{
			"fails":        {func(context.Context, local.Conflict) (local.Resolution, error) { return local.Resolution{}, failed }, conflict, "failed"},
			"panics":       {func(context.Context, local.Conflict) (local.Resolution, error) { panic("boom") }, conflict, "panicked"},
			"answers junk": {func(context.Context, local.Conflict) (local.Resolution, error) { return local.Resolution{Kind: 9}, nil }, conflict, "none of"},
			"merges a void": {func(context.Context, local.Conflict) (local.Resolution, error) {
				return local.Resolution{Kind: local.KeepMerged}, nil
			}, conflict, "empty"},
			"merges a delete": {func(context.Context, local.Conflict) (local.Resolution, error) {
				return local.Resolution{Kind: local.KeepMerged, Merged: []byte("{}")}, nil
			}, deleted, "delete"},
			"heeds nothing": {func(context.Context, local.Conflict) (local.Resolution, error) {
				<-released
				return local.Resolution{}, nil
			}, conflict, "longer"},
			"takes too long": {func(ctx context.Context, _ local.Conflict) (local.Resolution, error) {
				<-ctx.Done()
				return local.Resolution{}, ctx.Err()
			}, conflict, ""},
		} {
			start := time.Now()
			n := &network{resolve: c.resolve, resolveTimeout: time.Second, log: zap.NewNop()}
			_, err := n.perform(context.Background(), resolveRequest{[]local.Conflict{c.conflict}})
			e := mustBe[*messages.InvalidConflictResolutionError](t, err)
			if !strings.Contains(e.Reason, c.reason) || e.Table != "posts" || time.Since(start) > time.Second {
				t.Errorf("one that %s: %v after %v", name, e, time.Since(start))
			}
			if name == "fails" && !errors.Is(err, failed) {
				t.Errorf("the resolver's error is lost: %v", err)
			}
		}
	})
}

func TestAResolverAnswersForEachConflict(t *testing.T) {
	t.Parallel()
	n := &network{resolveTimeout: time.Minute, resolve: func(_ context.Context, c local.Conflict) (local.Resolution, error) {
		if c.LocalOp == wire.OpDelete {
			return local.Resolution{Kind: local.AcceptServer}, nil
		}
		return local.Resolution{Kind: local.KeepMerged, Merged: []byte(`{}`)}, nil
	}}
	got, err := n.perform(context.Background(), resolveRequest{[]local.Conflict{{KeyJSON: "a", LocalOp: wire.OpDelete}, {KeyJSON: "b", LocalOp: wire.OpUpdate}}})
	if err != nil {
		t.Fatal(err)
	}
	r := got.([]local.Resolution)
	if len(r) != 2 || r[0].Kind != local.AcceptServer || r[0].Conflict.KeyJSON != "a" || r[1].Kind != local.KeepMerged || r[1].Conflict.KeyJSON != "b" {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := n.perform(ctx, resolveRequest{make([]local.Conflict, 1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// What a resolver returns is the application's, also an error that the network would repeat.
func TestAResolversNetworkErrorIsNotRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		n := &network{log: zap.NewNop(), resolveTimeout: time.Minute, resolve: func(context.Context, local.Conflict) (local.Resolution, error) {
			calls++
			return local.Resolution{}, io.ErrUnexpectedEOF
		}}
		system := newSystem()
		answers := make(chan answered, 1)
		root := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			switch m := c.Message().(type) {
			case *actor.Started:
				pid := c.Spawn(workerProps(n))
				c.Send(pid, "not a job")
				c.Send(pid, job{ref: 3, ctx: context.Background(), request: resolveRequest{make([]local.Conflict, 1)}})
			case answered:
				answers <- m
			}
		}))
		a := <-answers
		mustBe[*messages.InvalidConflictResolutionError](t, a.err)
		synctest.Wait()
		if a.ref != 3 || calls != 1 {
			t.Errorf("%+v after %d calls", a, calls)
		}
		if err := system.Root.StopFuture(root).Wait(); err != nil {
			t.Error(err)
		}
		system.Shutdown()
	})
}
