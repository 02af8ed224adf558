package oversqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/zap"

	"github.com/oversqlite/oversqlite"
)

// This file is a program against every public name that callers rely on, in the shape in which they use it. It is never
// run: it is there to be compiled. A change that breaks it breaks programs.
var _ = []any{verbs, configuration, outcomes, resolvers, events}

func verbs(ctx context.Context, cfg oversqlite.Config) error {
	e, err := oversqlite.New(cfg)
	if err != nil {
		return err
	}
	gives[oversqlite.AttachResult](e.Attach(ctx, "user"))
	gives[oversqlite.DetachResult](e.Detach(ctx))
	gives[oversqlite.SyncThenDetachResult](e.SyncThenDetach(ctx))
	gives[oversqlite.SyncReport](e.Sync(ctx))
	gives[oversqlite.PushReport](e.PushPending(ctx))
	gives[oversqlite.RemoteSyncReport](e.PullToStable(ctx))
	gives[oversqlite.RemoteSyncReport](e.Rebuild(ctx))
	gives[oversqlite.SourceInfo](e.SourceInfo(ctx))
	gives[oversqlite.SyncStatus](e.SyncStatus(ctx))
	gives[oversqlite.PendingSyncStatus](e.PendingSyncStatus(ctx))
	gives[oversqlite.Status](e.Status(), nil)
	gives[*sql.DB](e.DB(), nil)
	e.Kick()
	e.PauseUploads()
	e.ResumeUploads()
	e.PauseDownloads()
	e.ResumeDownloads()
	return errors.Join(e.Open(ctx), e.UninstallSync(ctx), e.Resume(), e.Restart(ctx), e.Close(),
		e.Write(ctx, func(tx *sql.Tx) error { return tx.Rollback() }))
}

// gives compiles when what a method returns has exactly this type.
func gives[T any](T, error) {}

func configuration(client *http.Client, system *actor.ActorSystem) []oversqlite.Config {
	return []oversqlite.Config{
		{
			Path: "file.db", Schema: "business", Tables: []oversqlite.Table{{Name: "notes", Key: "id"}},
			ServerURL: "https://example.com/sync", HTTPClient: client, Resolver: oversqlite.ServerWins,
			Retry:  oversqlite.RetryConfig{Initial: time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.5, MaxElapsed: time.Hour},
			Limits: oversqlite.Limits{}, Logger: zap.NewNop(), System: system,
		},
		{Contract: oversqlite.ContractAuto, PullPolicy: oversqlite.PullAroundDirty, PoisonPolicy: oversqlite.PoisonHold, Synchronous: oversqlite.SynchronousFull},
		{Contract: oversqlite.ContractClassic, PullPolicy: oversqlite.PullStrict, PoisonPolicy: oversqlite.PoisonIsolate, Synchronous: oversqlite.SynchronousNormal},
		{Contract: oversqlite.ContractUniform, AutoRecover: true},
	}
}

func outcomes(
	attach oversqlite.AttachResult, detach oversqlite.DetachResult, both oversqlite.SyncThenDetachResult, sync oversqlite.SyncReport,
	push oversqlite.PushReport, pull oversqlite.RemoteSyncReport, status oversqlite.SyncStatus, source oversqlite.SourceInfo,
) (ok bool) {
	switch a := attach.(type) {
	case oversqlite.Connected:
		switch a.Outcome {
		case oversqlite.ResumedAttachedState, oversqlite.UsedRemoteState, oversqlite.SeededFromLocal, oversqlite.StartedEmpty:
		}
		var restore *oversqlite.RestoreSummary = a.Restore
		ok = a.Status.LastBundleSeqSeen == restore.BundleSeq+restore.RowCount+restore.DroppedLocalRows
	case oversqlite.RetryLater:
		ok = a.RetryAfter > time.Second
	}
	switch detach.Outcome {
	case oversqlite.Detached, oversqlite.BlockedUnsyncedData:
		ok = detach.PendingRowCount == 0
	}
	ok = ok && both.IsSuccess() && both.SyncRounds == 1 && both.RemainingPendingRowCount == 0 && both.Detach == detach && both.LastSync.Restore == sync.Restore
	switch push.Outcome {
	case oversqlite.NoChange, oversqlite.Committed, oversqlite.SkippedPaused:
		ok = ok && sync.Push == push.Outcome && sync.Status == push.Status
	}
	switch pull.Outcome {
	case oversqlite.AlreadyAtTarget, oversqlite.AppliedIncremental, oversqlite.AppliedSnapshot, oversqlite.SkippedPaused:
		ok = ok && sync.Remote == pull.Outcome && pull.Restore == sync.Restore && pull.Status == status
	}
	switch status.Authority {
	case oversqlite.PendingLocalSeed, oversqlite.AuthoritativeEmpty, oversqlite.AuthoritativeMaterialized:
	}
	p := status.Pending
	return ok && p.HasPendingSyncData && p.BlocksDetach && p.PendingRowCount == 1 &&
		source.CurrentSourceID != "" && source.RebuildRequired && source.SourceRecoveryRequired && source.SourceRecoveryReason == oversqlite.SourceRetired
}

func resolvers() []oversqlite.Resolver {
	var own oversqlite.ResolverFunc = func(_ context.Context, c oversqlite.Conflict) (oversqlite.Resolution, error) {
		var payloads = [...]json.RawMessage{c.Local, c.Base, c.Server}
		var op oversqlite.Op = c.LocalOp
		switch {
		case c.Schema == c.Table, c.Key["id"] == "", op == oversqlite.OpDelete:
			return oversqlite.AcceptServer{}, nil
		case c.BaseRowVersion < c.ServerRowVersion, c.ServerRowDeleted:
			return oversqlite.KeepLocal{}, nil
		}
		return oversqlite.KeepMerged{Payload: payloads[0]}, nil
	}
	return []oversqlite.Resolver{
		own, oversqlite.ServerWins, oversqlite.ClientWins, oversqlite.LastWriterWins("updated_at"), oversqlite.MergeColumns(oversqlite.ServerWins),
	}
}

func events(e *oversqlite.Engine) (dropped uint64) {
	var s *oversqlite.Subscription = e.Subscribe(oversqlite.WithKinds(oversqlite.KindStateChanged), oversqlite.WithBuffer(8))
	defer s.Close()
	var c <-chan oversqlite.Event = s.C()
	for event := range c {
		switch event := event.(type) {
		case oversqlite.StateChanged, oversqlite.ProgressMade, oversqlite.TablesChanged, oversqlite.BackoffScheduled, oversqlite.ConflictResolved,
			oversqlite.RowQuarantined:
			_ = event.(oversqlite.Event).Kind()
		}
	}
	now := e.Status()
	var until time.Time = now.WaitingUntil
	var oldest time.Duration = now.Pending.OldestAge
	var rows int64 = now.Pending.Rows
	_, _, _, _, _, _, _, _, _ = now.Phase, now.Reason, until, now.Attempt, now.LastProgressAt, now.LastError, oldest, rows, now.UploadBlocked
	return s.Dropped()
}
