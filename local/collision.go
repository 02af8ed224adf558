package local

import "fmt"

// CollisionError says that a snapshot cannot be applied around local intents: its rows need a unique value that one
// of them holds, or would leave a reference without its parent. Nothing was changed.
type CollisionError struct{ Collision Collision }

func (e *CollisionError) Error() string {
	return fmt.Sprintf("oversqlite: the snapshot at bundle %d collides with %d local changes (%s): push them first", e.Collision.BundleSeq, len(e.Collision.Intents), e.Collision.Cause)
}

// Retryable reports true: once the intents are pushed or resolved, the snapshot can be applied.
func (e *CollisionError) Retryable() bool { return true }
