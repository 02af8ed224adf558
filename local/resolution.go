package local

import "fmt"

// InvalidResolutionError is the answer to a conflict resolution that cannot be carried out: a merge of a row that was
// deleted here, a merged row that lacks a column, has one too many or breaks a constraint of the table. Nothing of the
// batch it came in was applied.
type InvalidResolutionError struct {
	Table   string // lower case
	KeyJSON string // local key of the row; kept out of Error, which may be logged
	Reason  string // without any row content
	Err     error  // cause, may be nil
}

func (e *InvalidResolutionError) Error() string {
	s := fmt.Sprintf("oversqlite: a conflict in table %s cannot be resolved as asked: %s", e.Table, e.Reason)
	if e.Err != nil {
		s += fmt.Sprintf(": %v", e.Err)
	}
	return s
}

func (e *InvalidResolutionError) Unwrap() error { return e.Err }

// Retryable reports false: the same resolver is expected to give the same answer.
func (e *InvalidResolutionError) Retryable() bool { return false }

// IntentError is a local change that cannot be sent, and why. Err is a *wire.ValueError, or tells what is wrong with
// the stored change.
type IntentError struct {
	Table   string // lower case
	KeyJSON string // local key of the row; kept out of Error, which may be logged
	Err     error
}

func (e *IntentError) Error() string {
	return fmt.Sprintf("oversqlite: a local change of table %s cannot be sent: %v", e.Table, e.Err)
}

func (e *IntentError) Unwrap() error { return e.Err }

// Retryable reports false: the row must change first.
func (e *IntentError) Retryable() bool { return false }
