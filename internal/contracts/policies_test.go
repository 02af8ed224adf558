package contracts

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

// deviation changes what a case expects of one step, because 03-behaviour.md asks something else of this engine than the
// other clients do. Whatever it does not name is compared as it stands in the fixture.
type deviation struct {
	family  string
	name    string
	dialect *dialect // nil: both
	step    int
	// patch replaces members of the step (RFC 7396: objects are merged, null removes).
	patch string
	quote string // the words of 03-behaviour.md that ask for it
}

var deviations = []deviation{
	{
		"push/behavior/recovery.json", "committed-re*-requires-rebuild", nil, 0,
		// The rebuild is tried at once, and this server has no snapshots; what is on disk is the same.
		`{"expectedException": "http_error"}`,
		"| history_pruned at replay or create, outbox committed_remote | keep-source rebuild;",
	},
	{
		"pull-snapshot/behavior/apply.json", "checkpoint-recovery-pending-work-is-actionable-and-preserved", nil, 0,
		// The pending row is laid over the snapshot, which nothing has to wait for.
		`{"expectedException": "none", "expectedErrorContains": null, "expectedCheckpointRecoveryBlocked": null,
"expectedState": {"lastBundleSeqSeen": 7, "rebuildRequired": 0, "dirtyRowCount": 1, "outboxRowCount": 0}}`,
		"**A rebuild never drops, and never waits for, local intents.**",
	},
}

// adapt returns the body of a case with the deviations applied.
func adapt(t *testing.T, d *dialect, family string, fc fixtureCase) json.RawMessage {
	t.Helper()
	body := fc.body
	for _, v := range deviations {
		if v.family == family && matches(v.name, fc.Name) && (v.dialect == nil || v.dialect == d) {
			changed, err := v.apply(t, body)
			if err != nil {
				t.Fatal(err)
			}
			body = changed
		}
	}
	return body
}

// apply patches the step of a case. A patch that changes nothing is an error.
func (v deviation) apply(t *testing.T, body json.RawMessage) (json.RawMessage, error) {
	t.Helper()
	var c map[string]any
	decode(t, body, &c)
	steps, _ := c["steps"].([]any)
	if v.step >= len(steps) {
		return nil, fmt.Errorf("%s: %s has no step %d", v.family, v.name, v.step)
	}
	var patch any
	decode(t, []byte(v.patch), &patch)
	before := generic(t, steps[v.step])
	steps[v.step] = merge(steps[v.step], patch)
	if reflect.DeepEqual(before, generic(t, steps[v.step])) {
		return nil, fmt.Errorf("%s: %s: the deviation of step %d changes nothing", v.family, v.name, v.step)
	}
	return mustJSON(c), nil
}

// merge is the JSON merge patch of RFC 7396.
func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	out, ok := target.(map[string]any)
	if !ok {
		out = map[string]any{}
	}
	for name, value := range p {
		if value == nil {
			delete(out, name)
			continue
		}
		out[name] = merge(out[name], value)
	}
	return out
}

// A deviation must name a case that exists, change something, and quote the words that ask for it.
func TestDeviationsAreAskedFor(t *testing.T) {
	t.Parallel()
	for _, v := range deviations {
		found := false
		for _, fc := range casesOf(t, v.family, "cases") {
			if !matches(v.name, fc.Name) {
				continue
			}
			found = true
			if _, err := v.apply(t, fc.body); err != nil {
				t.Error(err)
			}
		}
		if !found {
			t.Errorf("%s: there is no case %s", v.family, v.name)
		}
		quoted(t, policy.source(), v.quote)
	}
}
