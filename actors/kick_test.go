package actors

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oversqlite/oversqlite/local"
	"github.com/oversqlite/oversqlite/wire"
)

// Kick ends a request of which nothing has moved for a while and has it made again, at once, in the background as for a caller. A
// request that was just made it leaves alone, and the more patient it is the more often it has been in vain.
func TestKickEndsARequestThatHangs(t *testing.T) {
	for _, name := range []string{"in the background", "for a caller"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db, server := newSessionDB(), newServer()
				var mu sync.Mutex
				var asked []time.Duration
				begun, hangs := time.Now(), true
				server.pull = func(ctx context.Context, r wire.PullRequest) (wire.PullPage, error) {
					mu.Lock()
					asked = append(asked, time.Since(begun))
					hang := hangs
					mu.Unlock()
					if hang {
						<-ctx.Done()
						return wire.PullPage{}, ctx.Err()
					}
					return nothingNew(ctx, r)
				}
				e, _ := autoEngine(t, db, server, testAuto)
				done := make(chan error, 1)
				if name == "for a caller" {
					synctest.Wait() // the background's own pull hangs: the caller joins it, or comes after it
					mustAsk(t, e, VerbStop)
					mu.Lock()
					asked, begun = nil, time.Now()
					mu.Unlock()
					go func() {
						_, err := e.Ask(t.Context(), VerbPullToStable, "")
						done <- err
					}()
				}
				for range 20 { // a kick a second
					time.Sleep(time.Second)
					e.Kick()
				}
				synctest.Wait()
				mu.Lock()
				if want := []time.Duration{0, 5 * time.Second, 15 * time.Second}; !slices.Equal(asked, want) {
					t.Errorf("asked at %v, want %v", asked, want)
				}
				hangs = false
				mu.Unlock()
				time.Sleep(15 * time.Second) // 20 s after it was asked for last
				e.Kick()
				synctest.Wait()
				s := e.Status()
				mu.Lock()
				defer mu.Unlock()
				if len(asked) < 4 || asked[3] != 35*time.Second || s.LastError != nil || s.Attempt != 0 {
					t.Errorf("asked at %v; %+v", asked, s)
				}
				if name == "for a caller" {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// What the session asks for itself is made anew as well, and what is still heard of the request that hung is not taken for its answer.
func TestKickEndsAnAttachThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		system := newSystem()
		settleSystem(t, system)
		db, server := newSessionDB(), newServer()
		db.state.Attachment.Binding, db.state.Attachment.UserID = local.Anonymous, ""
		times := 0
		server.capabilities = func(ctx context.Context) (wire.Capabilities, error) {
			if times++; times == 1 {
				<-ctx.Done()
				return wire.Capabilities{}, ctx.Err()
			}
			time.Sleep(time.Second) // so that the end of the first is heard of meanwhile
			if err := ctx.Err(); err != nil {
				return wire.Capabilities{}, err
			}
			return parseCapabilities([]string{"no-specs"}), nil
		}
		e := newTestEngine(t, system, db, server)
		mustAsk(t, e, VerbOpen)
		done := make(chan error, 1)
		go func() {
			_, err := e.Ask(t.Context(), VerbAttach, "ann")
			done <- err
		}()
		time.Sleep(10 * time.Second)
		e.Kick()
		if err := <-done; err != nil || times != 2 {
			t.Errorf("asked %d times: %v", times, err)
		}
	})
}
