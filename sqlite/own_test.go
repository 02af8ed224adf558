package sqlite

import "os"

const ownerChildEnv = "OVERSQLITE_TEST_OWNER_CHILD"

// ownerChild is the test binary run as another process.
func ownerChild() { os.Exit(3) }
