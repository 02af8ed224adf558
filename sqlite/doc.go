// Package sqlite is the local database of an engine: ownership of the file, the private _sync_* tables and the
// capture triggers, and every transaction that changes durable state: attach, freeze, settle, replay, apply of
// bundles and snapshots, detach.
//
// It is synchronous and knows nothing of actors, HTTP or time-outs. A DB has one write connection and is driven by
// one goroutine at a time (the engine's writer); only App, Write and Close may be called from others. Every
// exported method that changes something is exactly one SQLite transaction: it happened whole or it did not happen,
// at any kill point.
//
// It must never hold a transaction open across a network wait or a call into the application.
package sqlite
