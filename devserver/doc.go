// Package devserver is a compatible oversqlite server on embedded SQLite, for demonstrations, tests and load.
//
// It speaks the classic contract of the protocol with the habits of the reference server: PostgreSQL's spelling of
// times and UUIDs, numbers that pass through a float64, foreign keys checked at commit, cascades that end up in the
// bundle. Each user's rows live in a database of their own, a file or an in-memory one, with real business tables;
// a bundle is what a transaction did to them, captured by SQLite's preupdate hook.
//
// Beyond the protocol it offers what tests need: server-side writes ([Server.ExecWrite]), a retention floor
// ([Server.SetRetentionFloor]), injected faults ([Server.Inject]), request counts ([Server.Requests]) and a look at
// the server's tables ([Server.Rows], [Server.LiveVersions]).
//
// It is not meant for production: anybody who can reach it can sign in as anybody (POST /dummy-signin), push and
// snapshot sessions live in the process and are void after a restart, and nothing is replicated.
package devserver
