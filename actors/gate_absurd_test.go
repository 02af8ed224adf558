package actors

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite/messages"
	"github.com/oversqlite/oversqlite/transport"
	"github.com/oversqlite/oversqlite/wire"
)

// A server that asks to be left alone for a year, by mistake, is left alone for an hour. Status says until when and what would
// end it, and Kick does.
func TestAnAbsurdRetryAfter(t *testing.T) {
	for how, kicked := range map[string]bool{"after an hour": false, "by Kick": true} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db, server := newSessionDB(), newServer()
				var asked atomic.Int64
				var serves atomic.Bool
				server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
					asked.Add(1)
					if serves.Load() {
						return nothingNew(ctx, r)
					}
					return wire.PullPage{}, &wire.HTTPError{Operation: transport.OpPull, Status: 503, RetryAfter: 365 * 24 * time.Hour}
				}
				e, _ := autoEngine(t, db, server, testAuto)
				time.Sleep(time.Minute)
				synctest.Wait()
				serves.Store(true)
				s := e.Status()
				if asked.Load() != 1 || time.Until(s.WaitingUntil) < 55*time.Minute || time.Until(s.WaitingUntil) > 62*time.Minute || !slices.Contains(s.WokenBy, WakerKick) {
					t.Errorf("asked %d times; %+v", asked.Load(), s)
				}
				// A caller who has less time is told so, and until when.
				var exhausted *messages.RetryExhaustedError
				if _, err := e.Ask(t.Context(), VerbPullToStable, ""); !errors.As(err, &exhausted) || time.Until(exhausted.NextRetryAt) > 62*time.Minute || asked.Load() != 1 {
					t.Errorf("a call ends with %v; asked %d times", err, asked.Load())
				}
				if kicked {
					e.Kick()
				} else {
					time.Sleep(62 * time.Minute)
				}
				synctest.Wait()
				if s := e.Status(); asked.Load() < 2 || s.LastError != nil {
					t.Errorf("asked %d times; %+v", asked.Load(), s)
				}
			})
		})
	}
}
