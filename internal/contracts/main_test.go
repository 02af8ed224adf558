package contracts

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if _, err := os.Stat(folder()); err != nil {
		fmt.Printf("contracts: skipped as a whole, there are no fixtures in %s (set OVERSQLITE_CONTRACTS)\n", folder())
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		tallies.print()
		os.Exit(code)
	}))
}

// tallies counts the cases that ran and were skipped, by family and dialect. What it prints is what CI shows.
var tallies = tally{ran: map[string]int{}, skipped: map[string][]string{}}

type tally struct {
	mu      sync.Mutex
	ran     map[string]int
	skipped map[string][]string // case and reason
}

func (t *tally) run(heading string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ran[heading]++
}

func (t *tally) skip(heading, name, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.skipped[heading] = append(t.skipped[heading], name+": "+reason)
}

func (t *tally) print() {
	t.mu.Lock()
	defer t.mu.Unlock()
	headings := map[string]bool{}
	for h := range t.ran {
		headings[h] = true
	}
	for h := range t.skipped {
		headings[h] = true
	}
	ran, skipped := 0, 0
	for _, h := range slices.Sorted(maps.Keys(headings)) {
		fmt.Printf("contracts: %-62s %3d ran, %2d skipped\n", h, t.ran[h], len(t.skipped[h]))
		ran += t.ran[h]
		skipped += len(t.skipped[h])
		slices.Sort(t.skipped[h])
		for _, line := range t.skipped[h] {
			fmt.Println("contracts:   skipped " + strings.ReplaceAll(line, "\n", " "))
		}
	}
	fmt.Printf("contracts: %d cases ran, %d skipped\n", ran, skipped)
}
