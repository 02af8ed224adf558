// Package sim simulates devices, their server and everything that can go wrong between them, in virtual time, and checks
// all the while what has to hold. A seed decides everything: the same seed is the same history, event by event.
//
// What is simulated is the world, not the engine. Whole engines run (actors.World), with their databases in SQLite, against
// the development server's handler, in one process and, for one history, one thing at a time. Their clocks, delays, ids and
// chance come from here, every actor runs when it is told to, and a request waits on a coroutine until the network decides
// what becomes of it; a stream is a body that is read so, with the client's own patience in virtual time. So no two runs of a seed differ, and nothing is tested that does not ship.
//
// # What is checked
//
// After each transaction of a device, whoever made it:
//
//   - the invariant of the local database (sqlite.Verifier);
//   - S1, S2, S6: each row without an intent is what the server had at the checkpoint, or at the version that is noted for
//     it, and the version is the server's; no row refers to one that is not there;
//   - S3: each write of the application's is on the server or was there, is pending, is set aside, or was given up: by the
//     resolver, or by the application itself; and rows that nobody else touches are what the application left;
//   - S5: the newest intent of a row is what stands in it;
//   - S7: no row of another user's, which no history of the user's own has.
//
// After each event:
//
//   - L2: who waits has something to wait for: a timer, a request, an actor that is to run;
//   - no panic of an engine's, and no error in its log.
//
// When a process ends, in order or suddenly: L6, with nothing left of it. When the time of a history is over its faults end,
// and applications do what the errors of their calls ask for. Within half an hour, most of which nobody needs, L1 and L3:
// everything is pushed, pulled, decided and answered; and then S6 for the whole, rows and versions. Where it is quiet then,
// what is written anywhere is in moments on every device that syncs by itself: with a stream of changes without a poll,
// of which such a device may have none in two hours.
//
// L4 and L5 are about many users at once and are not simulated; S8 is checked as far as a detached device is attached again.
package sim
