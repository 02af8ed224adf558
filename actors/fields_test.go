package actors

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// secret stands for what must not be told: the content of rows, texts of others.
const secret = "s3cr3t value"

func TestAnErrorIsToldWithoutWhatItSays(t *testing.T) {
	t.Parallel()
	answer := &wire.HTTPError{Operation: transport.OpCommitPush, Status: http.StatusBadRequest, Code: "push_invalid", Message: secret}
	for _, c := range []struct {
		err  error
		want map[string]any
		text bool // what the server or SQLite says is told at debug
	}{
		{answer, map[string]any{keyErrorType: "wire.HTTPError", keyClass: "code", keyStatus: int64(400), keyCode: "push_invalid"}, true},
		{&wire.HTTPError{Status: http.StatusBadRequest, Code: secret}, map[string]any{keyCode: "(no identifier)"}, true},
		{&wire.HTTPError{Status: http.StatusBadRequest, Code: strings.Repeat(secret, 100)}, map[string]any{keyCode: "(too long)"}, true},
		{&messages.PushRejectedError{Code: "push_invalid", Message: secret, Table: secret, Err: answer},
			map[string]any{keyErrorType: "messages.PushRejectedError < wire.HTTPError", keyTable: "(no identifier)", keyStatus: int64(400)}, true},
		{&messages.PushRejectedError{Code: "nul_in_text", Table: "notes", Err: &wire.ValueError{Table: "main.notes", Column: "title"}},
			map[string]any{keyTable: "notes", keyColumn: "title"}, false},
		{&transport.NetworkError{Operation: "pull", Err: fmt.Errorf("%s: %w", secret, syscall.ECONNREFUSED)},
			map[string]any{keyErrorType: "transport.NetworkError < syscall.Errno", keyClass: "transient", keyErrno: "connection refused"}, false},
		{&local.DatabaseError{Operation: "freeze", Path: secret, Err: errors.New(secret)}, map[string]any{keyOperation: "freeze"}, true},
	} {
		core, seen := observer.New(zap.DebugLevel)
		log := zap.New(core)
		fail(log, log.Warn, "it failed", c.err)
		told := seen.All()[0].ContextMap()
		for key, want := range c.want {
			if told[key] != want {
				t.Errorf("%T: %s is %v, want %v", c.err, key, told[key], want)
			}
		}
		if strings.Contains(fmt.Sprint(told), secret) {
			t.Errorf("%T: %v", c.err, told)
		}
		for _, detail := range seen.All()[1:] {
			if detail.Level != zap.DebugLevel || !strings.Contains(fmt.Sprint(detail.ContextMap()[keyText]), secret) {
				t.Errorf("%T: the detail is %v", c.err, detail)
			}
		}
		if told := seen.Len() > 1; told != c.text {
			t.Errorf("%T: what others say of it is told: %t", c.err, told)
		}
	}
}

func TestAPanicIsToldWithoutItsValue(t *testing.T) {
	t.Parallel()
	var nobody []int
	index := func() (r any) {
		defer func() { r = asPanicked(recover()) }()
		return nobody[len(nobody)]
	}
	for want, reason := range map[string]any{
		"string": asPanicked(secret),
		"runtime.boundsError: runtime error: index out of range [0] with length 0": index(),
	} {
		core, seen := observer.New(zap.DebugLevel)
		failPanicked(zap.New(core), "a panic", reason)
		told := seen.All()[0].ContextMap()
		if seen.Len() != 1 || told[keyPanicType] != want || told[keyStack] == "" || strings.Contains(fmt.Sprint(told), secret) {
			t.Errorf("%v", told)
		}
	}
}

// Every error of the public list has an outcome of its own choosing: "other" is for what nobody thought of.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	status := func(s int, operation string) error {
		return &wire.HTTPError{Status: s, Operation: operation, Code: "x"}
	}
	for want, errs := range map[Outcome][]error{
		OutcomeOK:        {nil},
		OutcomeClosed:    {messages.ErrClosed, fmt.Errorf("so %w", messages.ErrClosed)},
		OutcomeCanceled:  {context.Canceled, context.DeadlineExceeded},
		OutcomeFailed:    {&messages.EngineFailedError{}, &panicked{}},
		OutcomeExhausted: {&messages.RetryExhaustedError{LastErr: status(503, "pull")}},
		OutcomeAuth:      {&messages.AuthError{Err: status(401, "pull")}},
		OutcomeRejected:  {&messages.PushRejectedError{Err: status(400, "commit")}, &messages.PushRejectedError{Err: &wire.ValueError{}}},
		OutcomeConflict:  {&messages.InvalidConflictResolutionError{Err: &panicked{}}, &messages.PushConflictRetryExhaustedError{}},
		OutcomeRecovery: {&messages.SourceRecoveryRequiredError{}, &messages.SourceReplacementDivergedError{}, &messages.RebuildRequiredError{},
			&messages.SourceSequenceMismatchError{Err: &wire.RequestHashError{}}},
		OutcomeRefused: {&messages.OpenRequiredError{}, &messages.AttachRequiredError{}, &messages.AttachBindingConflictError{},
			&messages.AttachLocalStateConflictError{}, &messages.DirtyStateRejectedError{}, &local.QuarantineError{}},
		OutcomeServer: {&wire.ContractChangedError{}, &wire.UnsupportedContractError{}, &wire.LifecycleUnsupportedError{}, &wire.ProtocolVersionMismatchError{},
			&wire.TableContractMismatchError{}, &transport.AddressError{}, &transport.AddressError{Err: status(404, "pull")}},
		OutcomeProtocol: {&wire.ProtocolError{}, &messages.SnapshotExpiredError{}, status(400, "pull"), &transport.BodyTooLargeError{}},
		OutcomeDatabase: {&local.DatabaseError{}, &local.ConfigError{}, &local.DatabaseOwnedError{}},
		OutcomeOther:    {errors.New("new")},
	} {
		for _, err := range errs {
			if got := outcomeOf(err); got != want {
				t.Errorf("%T is %s, want %s", err, got, want)
			}
		}
	}
}
