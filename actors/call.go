package actors

import "slices"

// Call is a caller's side of a verb that was asked for without waiting for its answer: for who runs an engine's actors on
// the goroutine on which he would wait.
type Call struct {
	engine  *Engine
	id      uint64
	answers chan answer
}

// Begin asks for a verb; user and ids as for Ask and AskAbout.
func (e *Engine) Begin(verb Verb, user string, ids ...int64) *Call {
	return e.begin(evCalled{Verb: verb, User: user, IDs: slices.Clone(ids)})
}

// BeginStart is Start without waiting.
func (e *Engine) BeginStart(auto AutoConfig) *Call {
	return e.begin(evCalled{Verb: VerbStart, Auto: auto})
}

func (e *Engine) begin(call evCalled) *Call {
	call.ID = e.callers.Add(1)
	c := &Call{engine: e, id: call.ID, answers: make(chan answer, 1)}
	e.tell(ask{call: call, answers: c.answers})
	return c
}

// Answer returns the answer once: done is false when there is none yet, or it was returned before.
func (c *Call) Answer() (result Result, err error, done bool) { //nolint:revive // the answer is a pair; done is about it
	gone := c.engine.Closed()
	select {
	case a := <-c.answers:
		return a.result, a.err, true
	default:
	}
	if !gone {
		return Result{}, nil, false
	}
	return Result{}, c.engine.gone(), true
}

// Leave says that nobody waits for the answer any more. A run that nobody waits for is cancelled.
func (c *Call) Leave() { c.engine.tell(evLeft{ID: c.id}) }

// Closed reports whether the engine has ended, with nothing of it left.
func (e *Engine) Closed() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}
