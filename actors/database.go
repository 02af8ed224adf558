package actors

import (
	"context"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/wire"
)

// database is what the writer drives; *sqlite.DB is the one implementation outside tests. Each method is one
// transaction and mirrors the command of the same name.
type database interface {
	State(ctx context.Context) (local.State, error)

	AttachSeeding(ctx context.Context, userID, initializationID string, contract wire.ContractName) error
	AttachEmpty(ctx context.Context, userID string, contract wire.ContractName) error
	BeginRemoteReplace(ctx context.Context, userID string, contract wire.ContractName) error
	AttachKeepingIntents(ctx context.Context, userID string, contract wire.ContractName) error
	PinContract(ctx context.Context, contract wire.ContractName) error
	ResetScope(ctx context.Context, sourceID string) error
	DropLease(ctx context.Context) error
	LoseLease(ctx context.Context) error
	RequireReattach(ctx context.Context) error
	CancelReplace(ctx context.Context) error
	Detach(ctx context.Context) (local.Detached, error)
	Uninstall(ctx context.Context) error

	SetRebuildGate(ctx context.Context, reason string) error
	SetSourceRecovery(ctx context.Context, reason, replacedBy string) error
	ReserveAnother(ctx context.Context) (string, error)
	RotateSource(ctx context.Context, contract wire.ContractName) (local.Rotation, error)
	SetUploadBlocked(ctx context.Context, blocked *local.Blocked) error

	Settle(ctx context.Context, max int) (local.Settled, error)
	Resolve(ctx context.Context, resolutions []local.Resolution) (local.ResolutionsApplied, error)
	Freeze(ctx context.Context, request local.FreezeRequest) (local.Frozen, error)
	OutboxRows(ctx context.Context, from, maxRows, maxBytes int64) ([]wire.PushRow, error)
	MarkCommitted(ctx context.Context, bundle wire.BundleMeta, isNew bool) (behind bool, err error)
	TakeConflict(ctx context.Context, conflict wire.Conflict) (local.ConflictTaken, error)
	RequeueOutbox(ctx context.Context) error
	DoubtCommit(ctx context.Context, gate string) error

	IsolateOutbox(ctx context.Context, why local.Reason) ([]local.SetAside, error)
	SetAsideUnfit(ctx context.Context, contract wire.ContractName) ([]local.SetAside, error)
	Quarantined(ctx context.Context) ([]local.SetAside, error)
	RetryQuarantined(ctx context.Context, ids []int64, lenient bool) error
	DiscardQuarantined(ctx context.Context, ids []int64) (local.Discarded, error)

	ReplayFrozen(ctx context.Context, contract wire.Contract, bundle wire.BundleMeta) (proved bool, r local.Replayed, err error)
	Replay(ctx context.Context, contract wire.Contract, bundle wire.Bundle, proof bool) (local.Replayed, error)
	StageBundlePage(ctx context.Context, bundle wire.BundleMeta, after int64, rows []wire.Row) error
	ReplayStaged(ctx context.Context, contract wire.Contract, bundle wire.BundleMeta, proof bool) (local.Replayed, error)
	ApplyBundles(ctx context.Context, contract wire.Contract, bundles []wire.Bundle, displace ...local.Displacement) (local.Applied, error)
	ApplyStaged(ctx context.Context, contract wire.Contract, bundle wire.BundleMeta, displace ...local.Displacement) (local.Applied, error)

	BeginStage(ctx context.Context, session wire.SnapshotSession) error
	StageSnapshotPage(ctx context.Context, session wire.SnapshotSession, after int64, rows []wire.Row) error
	CompleteStage(ctx context.Context, session wire.SnapshotSession) error
	ApplySnapshot(ctx context.Context, contract wire.Contract, session wire.SnapshotSession, displace ...local.Displacement) (local.Restored, error)

	Close() error
}

// execute executes a command, which is one transaction. The result has the type that the command's comment names.
func execute(ctx context.Context, db database, command messages.Command) (any, error) {
	switch c := command.(type) {
	case messages.LoadState:
		return db.State(ctx)

	case messages.AttachSeeding:
		return nil, db.AttachSeeding(ctx, c.UserID, c.InitializationID, c.Contract)
	case messages.AttachEmpty:
		return nil, db.AttachEmpty(ctx, c.UserID, c.Contract)
	case messages.BeginRemoteReplace:
		return nil, db.BeginRemoteReplace(ctx, c.UserID, c.Contract)
	case messages.AttachKeepingIntents:
		return nil, db.AttachKeepingIntents(ctx, c.UserID, c.Contract)
	case messages.PinContract:
		return nil, db.PinContract(ctx, c.Contract)
	case messages.ResetScope:
		return nil, db.ResetScope(ctx, c.SourceID)
	case messages.DropLease:
		return nil, db.DropLease(ctx)
	case messages.LoseLease:
		return nil, db.LoseLease(ctx)
	case messages.RequireReattach:
		return nil, db.RequireReattach(ctx)
	case messages.CancelReplace:
		return nil, db.CancelReplace(ctx)
	case messages.Detach:
		return db.Detach(ctx)
	case messages.Uninstall:
		return nil, db.Uninstall(ctx)

	case messages.SetRebuildGate:
		return nil, db.SetRebuildGate(ctx, c.Reason)
	case messages.SetSourceRecovery:
		return nil, db.SetSourceRecovery(ctx, c.Reason, c.ReplacedBy)
	case messages.ReserveAnother:
		return db.ReserveAnother(ctx)
	case messages.RotateSource:
		return db.RotateSource(ctx, c.Contract)
	case messages.SetUploadBlocked:
		return nil, db.SetUploadBlocked(ctx, c.Blocked)

	case messages.Settle:
		return db.Settle(ctx, c.Max)
	case messages.Resolve:
		return db.Resolve(ctx, c.Resolutions)
	case messages.Freeze:
		return db.Freeze(ctx, c.Request)
	case messages.OutboxRows:
		return db.OutboxRows(ctx, c.From, c.MaxRows, c.MaxBytes)
	case messages.MarkCommitted:
		return db.MarkCommitted(ctx, c.Bundle, c.New)
	case messages.TakeConflict:
		return db.TakeConflict(ctx, c.Conflict)
	case messages.RequeueOutbox:
		return nil, db.RequeueOutbox(ctx)
	case messages.DoubtCommit:
		return nil, db.DoubtCommit(ctx, c.Gate)

	case messages.IsolateOutbox:
		return db.IsolateOutbox(ctx, c.Reason)
	case messages.SetAsideUnfit:
		return db.SetAsideUnfit(ctx, c.Contract)
	case messages.LoadQuarantine:
		return db.Quarantined(ctx)
	case messages.RetryQuarantined:
		return nil, db.RetryQuarantined(ctx, c.IDs, c.Lenient)
	case messages.DiscardQuarantined:
		return db.DiscardQuarantined(ctx, c.IDs)

	case messages.ReplayFrozen:
		return inDialect(c.Contract, func(k wire.Contract) (messages.FrozenReplay, error) {
			proved, replayed, err := db.ReplayFrozen(ctx, k, c.Bundle)
			return messages.FrozenReplay{Proved: proved, Replayed: replayed}, err
		})
	case messages.Replay:
		return inDialect(c.Contract, func(k wire.Contract) (local.Replayed, error) { return db.Replay(ctx, k, c.Bundle, c.Proof) })
	case messages.StageBundlePage:
		return nil, db.StageBundlePage(ctx, c.Bundle, c.After, c.Rows)
	case messages.ReplayStaged:
		return inDialect(c.Contract, func(k wire.Contract) (local.Replayed, error) { return db.ReplayStaged(ctx, k, c.Bundle, c.Proof) })
	case messages.ApplyBundles:
		return inDialect(c.Contract, func(k wire.Contract) (local.Applied, error) {
			return db.ApplyBundles(ctx, k, c.Bundles, displaced(c.Displace)...)
		})
	case messages.ApplyStaged:
		return inDialect(c.Contract, func(k wire.Contract) (local.Applied, error) {
			return db.ApplyStaged(ctx, k, c.Bundle, displaced(c.Displace)...)
		})

	case messages.BeginStage:
		return nil, db.BeginStage(ctx, c.Session)
	case messages.StageSnapshotPage:
		return nil, db.StageSnapshotPage(ctx, c.Session, c.After, c.Rows)
	case messages.CompleteStage:
		return nil, db.CompleteStage(ctx, c.Session)
	case messages.ApplySnapshot:
		return inDialect(c.Contract, func(k wire.Contract) (local.Restored, error) {
			return db.ApplySnapshot(ctx, k, c.Session, displaced(c.Displace)...)
		})
	default:
		return nil, &local.DatabaseError{Operation: "execute", Reason: "the command is not known to the writer"}
	}
}

// displaced is what a command says is to make room.
func displaced(d *local.Displacement) []local.Displacement {
	if d == nil {
		return nil
	}
	return []local.Displacement{*d}
}

// inDialect calls f with the contract of a name.
func inDialect[T any](name wire.ContractName, f func(wire.Contract) (T, error)) (any, error) {
	k, err := wire.ContractByName(name)
	if err != nil {
		return nil, err
	}
	return f(k)
}
