package contracts

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// reason is why a case does not run. There are no others.
type reason int

const (
	// theMatrix: the README of the fixtures says that the case does not apply to the dialect.
	theMatrix reason = iota + 1
	// policy: the behaviour that the specification of the family asks of this engine (03-behaviour.md) makes the case
	// impossible. A case that merely ends otherwise is not skipped, see policies_test.go.
	policy
)

func (r reason) String() string {
	return [...]string{"?", "the matrix", "03-behaviour.md"}[r]
}

// source is where the words must stand that a ruling quotes.
func (r reason) source() string {
	switch r {
	case theMatrix:
		return filepath.Join(folder(), "README.md")
	case policy:
		return filepath.Join(sharedFolder(), "spec", "03-behaviour.md")
	default:
		return ""
	}
}

// ruling says that a case does not run.
type ruling struct {
	family  string // the file; of one of several lists of cases in it, also which: "watch/basic.json runtimeCases"
	name    string // of the case, or a pattern of path.Match
	dialect *dialect
	reason  reason
	quote   string // the words that rule so
}

// skips lists every case that does not run.
var skips = []ruling{
	// Wire shapes that the classic dialect does not have.
	{canonicalFamily, "*", classic, theMatrix, "| canonical-json/*, snapshot-capacity/* | no | yes |"},
	{canonicalFamily + " invalid_cases", "decimal_*", nil, theMatrix, "`decimal` and `boolean` families are server-side"},
	{canonicalFamily + " invalid_cases", "boolean_*", nil, theMatrix, "`decimal` and `boolean` families are server-side"},
	{"snapshot-capacity/retry.json", "*", classic, theMatrix, "| canonical-json/*, snapshot-capacity/* | no | yes |"},
	{"protocol-handshake/connect.json contractCases", "*", classic, theMatrix, "| protocol-handshake `contractCases` | no | yes |"},
	{"push/basic-insert.json", "already-committed-request-hash-mismatch-*", classic, theMatrix, "the two mismatch cases have no J meaning"},
	{"push/basic-insert.json", "committed-remote-request-hash-mismatch-*", classic, theMatrix, "the two mismatch cases have no J meaning"},
	{"push/behavior/recovery.json", "*-request-hash-mismatch-*", classic, theMatrix, "the two request-hash cases are U only"},
	{"push/behavior/apply.json", "committed-replay-applies-*", classic, theMatrix, "the four `committed-replay-applies-*` use string numbers and authoritative overwrite -> U only"},
	{"pull-snapshot/basic.json", "*-rejects-malformed-expiry", classic, theMatrix, "session/chunk cases apply except malformed-expiry, hidden-scope, and byte_count rules"},
	{"pull-snapshot/basic.json", "*-rejects-hidden-scope-payload", classic, theMatrix, "J: pull cases apply except hidden-scope"},
	{"lifecycle/behavior/protocol-gates.json", "sync-then-detach-protocol-mismatch-*", classic, theMatrix, "| lifecycle/behavior/protocol-gates.json | no (June client does not check the version) | yes |"},

	// A classic server that says "already committed" of an outbox whose commit was never sent speaks of a cloned database.
	{"push/behavior/apply.json", "failed-replay-rollback-*", classic, policy, "an `already_committed` for an outbox that this process froze and whose commit it has not sent yet, mean a cloned or restored database"},
	{"push/behavior/recovery.json", "hidden-scope-conflict-row-is-rejected", classic, policy, "Classic: unknown columns in a payload are ignored"},
}

// ruledOut returns why a case does not run in a dialect; nil: it runs.
func ruledOut(family, name string, d *dialect) *ruling {
	for _, r := range skips {
		listed := r.family == family || strings.HasPrefix(family, r.family+" ")
		if listed && (r.dialect == nil || r.dialect == d) && matches(r.name, name) {
			return &r
		}
	}
	return nil
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// A skip must name a case that exists and quote words that stand where its reason is.
func TestSkipsAreRuled(t *testing.T) {
	t.Parallel()
	for _, r := range skips {
		if n := named(t, r.family, r.name); n == 0 {
			t.Errorf("%s: there is no case %s", r.family, r.name)
		}
		if r.reason != theMatrix && r.reason != policy {
			t.Errorf("%s: %s is skipped for no reason that counts", r.family, r.name)
			continue
		}
		quoted(t, r.reason.source(), r.quote)
	}
}

// named counts the cases that a pattern names.
func named(t *testing.T, family, pattern string) int {
	t.Helper()
	n := 0
	for _, name := range namesOf(t, family) {
		if matches(pattern, name) {
			n++
		}
	}
	return n
}

// namesOf returns the names of all cases of a family: of those of a file, or of one list in it.
func namesOf(t *testing.T, family string) []string {
	t.Helper()
	file, member, listed := strings.Cut(family, " ")
	var members map[string]json.RawMessage
	read(t, file, &members)
	var names []string
	for at, text := range members {
		if listed && at != member || text[0] != '[' {
			continue
		}
		var cases []struct{ Name string }
		if json.Unmarshal(text, &cases) != nil {
			continue // a list of something else
		}
		for _, c := range cases {
			names = append(names, c.Name)
		}
	}
	return names
}

// quoted checks that words stand in a file, line breaks apart. A specification that is not at hand is not checked.
func quoted(t *testing.T, file, words string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Logf("not checked: %v", err)
		return
	}
	if words == "" || !strings.Contains(strings.Join(strings.Fields(string(text)), " "), strings.Join(strings.Fields(words), " ")) {
		t.Errorf("%s does not say %q", file, words)
	}
}
