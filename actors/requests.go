package actors

import (
	"context"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// endpoints is what a worker needs of the transport; *transport.Client is the one implementation outside tests.
type endpoints interface {
	Capabilities(ctx context.Context, sourceID string) (wire.Capabilities, error)
	Connect(ctx context.Context, k wire.Contract, sourceID string, hasPending bool) (wire.ConnectResponse, error)
	CreatePush(ctx context.Context, k wire.Contract, sourceID string, r wire.CreatePushRequest) (wire.CreatePushResponse, error)
	PushChunk(ctx context.Context, k wire.Contract, sourceID, pushID string, start int64, rows []wire.PushRow) error
	CommitPush(ctx context.Context, k wire.Contract, sourceID, pushID string, r wire.CreatePushRequest) (wire.BundleMeta, error)
	DeletePush(ctx context.Context, sourceID, pushID string) error
	CommittedRows(ctx context.Context, k wire.Contract, sourceID string, r wire.CommittedRowsRequest) (wire.CommittedRowsPage, error)
	Pull(ctx context.Context, k wire.Contract, sourceID string, r wire.PullRequest) (wire.PullPage, error)
	CreateSnapshot(ctx context.Context, k wire.Contract, sourceID string, replacement *wire.SourceReplacement) (wire.SnapshotSession, error)
	SnapshotPage(ctx context.Context, k wire.Contract, sourceID string, r wire.SnapshotPageRequest) (wire.SnapshotPage, error)
	DeleteSnapshot(ctx context.Context, sourceID, snapshotID string) error
	Watch(ctx context.Context, sourceID string, after int64) (*transport.Stream, error)
}

var _ endpoints = (*transport.Client)(nil)

// request is one piece of work for a worker: a request to the server, or a question to the application's resolver.
// Each says which type its answer has.
type request interface {
	// operation names the request in errors and in the status.
	operation() string
}

// call is what every request to the server carries.
type call struct {
	contract wire.ContractName
	source   string // source id
}

type (
	// capabilitiesRequest answers wire.Capabilities.
	capabilitiesRequest struct{ call }
	// connectRequest answers wire.ConnectResponse.
	connectRequest struct {
		call
		hasPending bool
	}
	// createPushRequest answers wire.CreatePushResponse.
	createPushRequest struct {
		call
		push wire.CreatePushRequest
	}
	// pushChunkRequest has no answer.
	pushChunkRequest struct {
		call
		pushID string
		start  int64
		rows   []wire.PushRow
	}
	// commitPushRequest answers wire.BundleMeta.
	commitPushRequest struct {
		call
		pushID string
		push   wire.CreatePushRequest
	}
	// deletePushRequest has no answer.
	deletePushRequest struct {
		call
		pushID string
	}
	// committedRowsRequest answers wire.CommittedRowsPage. A bundle that is on one page is verified.
	committedRowsRequest struct {
		call
		page wire.CommittedRowsRequest
	}
	// pullRequest answers wire.PullPage with every bundle verified.
	pullRequest struct {
		call
		page wire.PullRequest
	}
	// createSnapshotRequest answers wire.SnapshotSession.
	createSnapshotRequest struct {
		call
		replacement *wire.SourceReplacement
	}
	// snapshotPageRequest answers wire.SnapshotPage.
	snapshotPageRequest struct {
		call
		page wire.SnapshotPageRequest
	}
	// deleteSnapshotRequest has no answer.
	deleteSnapshotRequest struct {
		call
		snapshotID string
	}
	// watchRequest opens the stream of changes and follows it. It is for a stream worker, has no answer but the error that
	// ends it, and is told of by streamOpened and streamed meanwhile.
	watchRequest struct {
		source string // source id
		after  int64
	}
	// resolveRequest asks the application's resolver and answers []local.Resolution, one for each conflict.
	resolveRequest struct{ conflicts []local.Conflict }
)

func (capabilitiesRequest) operation() string   { return transport.OpCapabilities }
func (connectRequest) operation() string        { return transport.OpConnect }
func (createPushRequest) operation() string     { return transport.OpCreatePush }
func (pushChunkRequest) operation() string      { return transport.OpPushChunk }
func (commitPushRequest) operation() string     { return transport.OpCommitPush }
func (deletePushRequest) operation() string     { return transport.OpDeletePush }
func (committedRowsRequest) operation() string  { return transport.OpCommittedRows }
func (pullRequest) operation() string           { return transport.OpPull }
func (createSnapshotRequest) operation() string { return transport.OpCreateSnapshot }
func (snapshotPageRequest) operation() string   { return transport.OpSnapshotPage }
func (deleteSnapshotRequest) operation() string { return transport.OpDeleteSnapshot }
func (watchRequest) operation() string          { return transport.OpWatch }
func (resolveRequest) operation() string        { return "resolve conflicts" }
