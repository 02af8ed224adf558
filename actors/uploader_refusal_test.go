package actors

import (
	"testing"

	"github.com/oversqlite/oversqlite/wire"
)

// Whoever stands before the server refuses without a code of the protocol's. Found by simulation: what was set aside for it had no
// reason.
func TestRefusalWithoutACodeIsNamedByItsStatus(t *testing.T) {
	t.Parallel()
	for want, answer := range map[string]wire.HTTPError{
		"status_413": {Status: 413},
		"bad_row":    {Status: 400, Code: "bad_row"},
	} {
		m := newUploadMachine(Limits{}, false, 1)
		m.rejectAnswer(&answer)
		if got := m.quarantine.refused.Code; got != want {
			t.Errorf("%d %s: the reason is %q, want %q", answer.Status, answer.Code, got, want)
		}
	}
}
