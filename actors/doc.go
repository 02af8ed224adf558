// Package actors is the engine at work: who owns what, who decides, and who waits.
//
// An engine is a session with up to four children. The session owns the lifecycle and the calls; the writer owns the database; the
// uploader owns the outbox; the puller owns the checkpoint; the watcher owns the watch stream. What is to be done next is decided by
// pure machines (sessionMachine, uploadMachine, pullMachine, watchMachine), which take events and return effects; the actors around them carry the
// effects out and bring their outcomes back. Requests are made by leaf workers, whose owner supervises them: a failure
// that may pass becomes a delay.
//
// A machine does no I/O, reads no clock and starts nothing. A shell decides nothing. No actor waits for another one:
// whatever takes time comes back as a message.
package actors
