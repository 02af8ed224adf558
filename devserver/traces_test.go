package devserver_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/oversqlite/oversqlite/devserver"
	"github.com/oversqlite/oversqlite/internal/race"
)

// TestTraces replays the recorded exchanges with the reference server, where they are at hand.
func TestTraces(t *testing.T) {
	t.Parallel()
	race.Skip(t, "one request after another")
	shared := os.Getenv("OVERSQLITE_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	shared, err := filepath.Abs(shared)
	if err != nil {
		t.Fatal(err)
	}
	traces, _ := filepath.Glob(filepath.Join(shared, "traces", "*.json"))
	tool := filepath.Join(shared, "tools", "tracereplay")
	if _, err := os.Stat(filepath.Join(tool, "main.go")); err != nil || len(traces) == 0 {
		t.Skipf("no recorded traces in %s; set OVERSQLITE_SHARED to the folder that has traces/ and tools/tracereplay/", shared)
	}
	for name, cfg := range map[string]devserver.Config{"files": {Dir: t.TempDir()}, "memory": {InMemory: true}} {
		t.Run(name, func(t *testing.T) {
			s, err := devserver.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			web := httptest.NewServer(s.Handler())
			defer web.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			replay := exec.CommandContext(ctx, "go", append([]string{"run", "main.go", "-base", web.URL, "-v"}, traces...)...)
			replay.Dir = tool
			out, err := replay.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
