package actors

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// update rewrites the golden files of testdata from what the machines do now.
var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// TestMain fails when a test leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
