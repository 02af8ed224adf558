package messages

import (
	"context"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Writer is what the writer receives: a command that is one transaction on the local database (or one consistent
// read of it), and where the answer goes. The answer is a WriterDone with the same Ref, sent to the message's sender.
type Writer interface{ writer() }

// Do asks the writer to execute a command.
type Do struct {
	Ref     uint64 // chosen by the asker, carried back
	Command Command
	// Cancel, when not nil, interrupts the transaction (which then did not happen) once it is closed.
	Cancel context.Context //nolint:containedctx // a message outlives the call that sends it
}

func (Do) writer() {}

// WriterDone answers a Do. Result has the type that the command's comment names, nil when it names none. When Err is set
// it is nil as well, but for ApplyBundles and ApplyStaged: what came before the bundle that cannot be is applied.
type WriterDone struct {
	Ref    uint64
	Result any
	Err    error
}

// Command is one transaction.
type Command interface{ command() }

// The commands. Each mirrors the method of sqlite.DB of the same name, whose comment tells what it does.
type (
	// OpenDatabase opens the writer's database, or finds it open. Answers *sqlite.DB.
	OpenDatabase struct{}
	// CloseDatabase closes it. Commands after it are answered with an OpenRequiredError until it is open again.
	CloseDatabase struct{}

	// LoadState reads local.State.
	LoadState struct{}

	// AttachSeeding stores a lease: attached, to seed the scope.
	AttachSeeding struct {
		UserID, InitializationID string
		Contract                 wire.ContractName
	}
	// AttachEmpty attaches to a scope that is initialized and empty.
	AttachEmpty struct {
		UserID   string
		Contract wire.ContractName
	}
	// BeginRemoteReplace records that local rows are to be replaced by a snapshot.
	BeginRemoteReplace struct {
		UserID   string
		Contract wire.ContractName
	}
	// AttachKeepingIntents attaches to an initialized scope around the intents that are here; the rebuild gate is set.
	AttachKeepingIntents struct {
		UserID   string
		Contract wire.ContractName
	}
	// PinContract records that the server speaks another dialect from now on.
	PinContract struct{ Contract wire.ContractName }
	// ResetScope prepares the database to seed a scope that the server lost: fresh source, every row a dirty INSERT.
	// SourceID is the fresh source's id: the one that connect was sent with, because a lease belongs to its source.
	ResetScope struct{ SourceID string }
	// DropLease forgets a lease that was used up or is not needed.
	DropLease struct{}
	// LoseLease puts the outbox back to dirty and the binding back to anonymous, intents kept.
	LoseLease struct{}
	// RequireReattach records that the server lost or reset the scope; the outbox goes back to dirty.
	RequireReattach struct{}
	// CancelReplace calls a remote replace off: the rows that it was to replace stay, and are anonymous.
	CancelReplace struct{}
	// Detach answers local.Detached.
	Detach struct{}
	// Uninstall removes every _sync_ table and trigger.
	Uninstall struct{}

	// SetRebuildGate sets the gate with a reason.
	SetRebuildGate struct{ Reason string }
	// SetSourceRecovery records source recovery, with the id by which the server says it has replaced the source ("": it
	// has not said so), and reserves the id that is to follow.
	SetSourceRecovery struct{ Reason, ReplacedBy string }
	// ReserveAnother reserves another id to follow the current source and answers it.
	ReserveAnother struct{}
	// RotateSource replaces the current source by the reserved one without a snapshot and answers local.Rotation. The
	// rebuild gate stays.
	RotateSource struct{ Contract wire.ContractName }
	// SetUploadBlocked records why uploads are held; nil clears it.
	SetUploadBlocked struct{ Blocked *local.Blocked }

	// Settle answers local.Settled with at most Max conflicts.
	Settle struct{ Max int }
	// Resolve answers local.ResolutionsApplied.
	Resolve struct{ Resolutions []local.Resolution }
	// Freeze answers local.Frozen.
	Freeze struct{ Request local.FreezeRequest }
	// OutboxRows answers []wire.PushRow, rows From … of the outbox within both bounds, at least one.
	OutboxRows struct{ From, MaxRows, MaxBytes int64 }
	// MarkCommitted records as which bundle the outbox was committed. New says that the server has not had it before this
	// run; then the answer is a bool: the number contradicts the checkpoint, and the rebuild gate is set.
	MarkCommitted struct {
		Bundle wire.BundleMeta
		New    bool
	}
	// TakeConflict answers local.ConflictTaken: the image is a shadow now and the outbox went back to dirty.
	TakeConflict struct{ Conflict wire.Conflict }
	// RequeueOutbox puts the outbox back to dirty.
	RequeueOutbox struct{}
	// DoubtCommit takes back that the outbox is known to be committed. With a reason, the rebuild gate is set with it.
	DoubtCommit struct{ Gate string }

	// IsolateOutbox sets aside what is in the outbox. Answers []local.SetAside.
	IsolateOutbox struct{ Reason local.Reason }
	// SetAsideUnfit sets aside what the contract cannot carry. Answers []local.SetAside.
	SetAsideUnfit struct{ Contract wire.ContractName }
	// LoadQuarantine answers []local.SetAside: everything in quarantine.
	LoadQuarantine struct{}
	// RetryQuarantined makes changes in quarantine dirty again. Lenient passes over those that are there no more.
	RetryQuarantined struct {
		IDs     []int64
		Lenient bool
	}
	// DiscardQuarantined gives changes in quarantine up. Answers local.Discarded.
	DiscardQuarantined struct{ IDs []int64 }

	// ReplayFrozen answers FrozenReplay: it settles the outbox without fetching when the hash proves what was committed.
	ReplayFrozen struct {
		Contract wire.ContractName
		Bundle   wire.BundleMeta
	}
	// Replay settles the outbox with a bundle held in memory. Answers local.Replayed. Proof says that the bundle was named
	// by the server without this database having seen the commit answered: it is evidence then, not the answer.
	Replay struct {
		Contract wire.ContractName
		Bundle   wire.Bundle
		Proof    bool
	}
	// StageBundlePage stores a page of a bundle too large for memory; After -1 starts anew.
	StageBundlePage struct {
		Bundle wire.BundleMeta
		After  int64
		Rows   []wire.Row
	}
	// ReplayStaged settles the outbox with the staged bundle. Answers local.Replayed.
	ReplayStaged struct {
		Contract wire.ContractName
		Bundle   wire.BundleMeta
		Proof    bool
	}

	// ApplyBundles applies pulled bundles, each whole. Answers local.Applied.
	ApplyBundles struct {
		Contract wire.ContractName
		Bundles  []wire.Bundle
		Displace *local.Displacement // nil: nothing
	}
	// ApplyStaged applies the staged bundle. Answers local.Applied.
	ApplyStaged struct {
		Contract wire.ContractName
		Bundle   wire.BundleMeta
		Displace *local.Displacement
	}

	// BeginStage clears the snapshot stage and records the new session.
	BeginStage struct{ Session wire.SnapshotSession }
	// StageSnapshotPage stores a page of the snapshot.
	StageSnapshotPage struct {
		Session wire.SnapshotSession
		After   int64
		Rows    []wire.Row
	}
	// CompleteStage checks the stage's row count and marks it complete.
	CompleteStage struct{ Session wire.SnapshotSession }
	// ApplySnapshot applies the complete stage as the durable state asks for. Answers local.Restored.
	ApplySnapshot struct {
		Contract wire.ContractName
		Session  wire.SnapshotSession
		Displace *local.Displacement
	}
)

// FrozenReplay answers ReplayFrozen.
type FrozenReplay struct {
	Proved   bool // false: nothing was changed, fetch the bundle
	Replayed local.Replayed
}

func (OpenDatabase) command()         {}
func (CloseDatabase) command()        {}
func (LoadState) command()            {}
func (AttachSeeding) command()        {}
func (AttachEmpty) command()          {}
func (BeginRemoteReplace) command()   {}
func (AttachKeepingIntents) command() {}
func (PinContract) command()          {}
func (ResetScope) command()           {}
func (DropLease) command()            {}
func (LoseLease) command()            {}
func (RequireReattach) command()      {}
func (CancelReplace) command()        {}
func (Detach) command()               {}
func (Uninstall) command()            {}
func (SetRebuildGate) command()       {}
func (SetSourceRecovery) command()    {}
func (ReserveAnother) command()       {}
func (RotateSource) command()         {}
func (SetUploadBlocked) command()     {}
func (Settle) command()               {}
func (Resolve) command()              {}
func (Freeze) command()               {}
func (OutboxRows) command()           {}
func (MarkCommitted) command()        {}
func (TakeConflict) command()         {}
func (RequeueOutbox) command()        {}
func (DoubtCommit) command()          {}
func (IsolateOutbox) command()        {}
func (SetAsideUnfit) command()        {}
func (LoadQuarantine) command()       {}
func (RetryQuarantined) command()     {}
func (DiscardQuarantined) command()   {}
func (ReplayFrozen) command()         {}
func (Replay) command()               {}
func (StageBundlePage) command()      {}
func (ReplayStaged) command()         {}
func (ApplyBundles) command()         {}
func (ApplyStaged) command()          {}
func (BeginStage) command()           {}
func (StageSnapshotPage) command()    {}
func (CompleteStage) command()        {}
func (ApplySnapshot) command()        {}
