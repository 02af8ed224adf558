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
// # Servers that go back, files that are copied
//
// Three stories are not about requests. A user is restored from a backup, or forgotten, once in a history; and the file of a
// device with nothing pending is copied, and both go on. A user who was put back has another era from then on: what was
// pushed or pulled in the one before is lost, which is said to be so, and a device's file is of one era, of what both have in
// common, or, if the device was beyond that, of both until it has noticed. S1, S2 and S6 hold for the era; S3 for what is
// pending when a device goes over: it stays as it is, or, when what it needs is lost, as a parent that only the server had, it is
// displaced as it is (03 3.3) and stays listed. A device that a restored server has come as far as again cannot notice: its
// application calls Rebuild. Of a copied file nobody can tell whose push was whose; so its devices may meet their own rows as
// others', and that one change is pushed twice is not looked for.
//
// L4 and L5 are about many users at once and are not simulated; S8 is checked as far as a detached device is attached again.
package sim
