package transport

import (
	"context"
	"sync/atomic"
	"time"
)

// Activity tells when something of a request last moved. Who makes the request gives one along with its context, and may ask
// at any time, from any goroutine. The zero Activity is of a request of which nothing has moved yet.
type Activity struct{ at atomic.Int64 }

type activityKey struct{}

// WithActivity returns a context whose requests note in a what they send and receive.
func WithActivity(ctx context.Context, a *Activity) context.Context {
	return context.WithValue(ctx, activityKey{}, a)
}

func activityOf(ctx context.Context) *Activity {
	a, _ := ctx.Value(activityKey{}).(*Activity)
	return a
}

// Last returns when something was last sent or received, by the clock of the client; zero when nothing was.
func (a *Activity) Last() time.Time {
	if at := a.at.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

func (a *Activity) moved(now time.Time) {
	if a != nil {
		a.at.Store(now.UnixNano())
	}
}
