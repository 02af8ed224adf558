// Package oversqlite keeps a local SQLite database in step with a server, over HTTP.
//
// The application works on its own tables, in plain SQL, online or offline. An [Engine] captures what it changes, pushes it
// to the server as one transaction, and applies what other devices of the same user have done. After an interruption of
// any kind, at any moment, the next call goes on where the last one ended: what the application has committed is never
// lost, never sent twice, and never overwritten.
//
// # Use
//
// An engine belongs to one database file. [New] checks the configuration; [Engine.Open] opens the file, without network;
// [Engine.Attach] binds it to a signed-in user; [Engine.Sync] pushes and pulls:
//
//	engine, err := oversqlite.New(oversqlite.Config{
//		Path:       "notes.db",
//		Schema:     "business",
//		Tables:     []oversqlite.Table{{Name: "notes", Key: "id"}},
//		ServerURL:  "https://sync.example.com",
//		HTTPClient: client, // adds the user's credentials
//	})
//	…
//	err = engine.Open(ctx)
//	_, err = engine.Attach(ctx, userID)
//	_, err = engine.DB().ExecContext(ctx, `INSERT INTO notes (id, text) VALUES (?, ?)`, uuid.NewString(), "hello")
//	report, err := engine.Sync(ctx)
//
// Open and Attach come on every start; an Attach of a database that is already attached needs no network.
//
// # Background sync
//
// [Engine.Start] makes the engine do all of that by itself: attach, push what is committed, pull what the server tells of, wait for
// whatever has to be waited for, and go on. [Engine.Stop] ends it:
//
//	err = engine.Open(ctx)
//	err = engine.Start(ctx, oversqlite.AutoConfig{UserID: userID})
//
// # Tables
//
// A synced table has exactly one primary-key column, declared NOT NULL, of type TEXT, or BLOB for the 16 bytes of a UUID.
// Tables that reference each other are synced together. The engine adds private tables and triggers whose names begin
// with _sync_ and changes nothing else; [Engine.UninstallSync] removes them.
//
// [Engine.DB] is the application's handle. Other connections to the file are possible: capture works on each of them.
// They should have foreign_keys and recursive_triggers on, as those of DB have; without the latter, rows evicted by
// REPLACE are not captured.
//
// # Conflicts
//
// A local change that meets a newer one of the server's is put to [Config.Resolver]. [ServerWins] is the default;
// [ClientWins], [LastWriterWins] and [MergeColumns] are others, and any [ResolverFunc] will do. Until it is settled the
// row keeps its local content, and everything else syncs around it.
//
// # Errors
//
// Every error is typed; errors.go lists them all. A failure that can pass is retried, with delays, for
// [RetryConfig.MaxElapsed]; what reaches the caller is final for the call. [Engine.Status] says at any time what the engine
// does, what it waits for and until when, and what went wrong last; [Engine.Subscribe] tells as it happens.
//
// # Log and metrics
//
// [Config.Logger] gets JSON-able lines with stable keys: error says that somebody has to look at it, warn that the engine
// cannot do its work now or that the application has to do something, info what is rare and in order, debug the rest. What
// an outage repeats is said at once and then ever more rarely, at last once an hour, with the number of lines that were held
// back (suppressed) and the time of the next attempt (retry_at).
//
// No line holds content of a row, a key of a row, a credential, the path of the file or a user's id, which is not hashed
// either: whoever can guess ids can hash them. An engine's lines carry its number in the process (engine) and, where it
// matters, the opaque identity under which the database writes (source), which the server's log knows too; give each engine's
// logger the field by which you tell your users apart. What a server or SQLite says of an error may quote a row. It is told
// at debug only, under the key text; so do not log at debug what must not be read. Errors that the engine returns do carry
// such texts.
//
// [Config.Metrics] is told what there is to count, with labels of small fixed sets. The words are the same in events, log,
// metrics and errors.
//
// # Many engines
//
// Each engine has one connection to its file, opened by Open, and no goroutine, timer or request while idle. Background sync
// adds the watch stream, one goroutine, one timer and one connection to the server, or, where there is none, a timer for the next poll. Engines of one
// process share an actor system and, unless told otherwise, an HTTP client.
package oversqlite
