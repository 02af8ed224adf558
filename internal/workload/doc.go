// Package workload is what an application does to its database, at random, in one transaction: its tables, the rows that
// it writes there, and how the rows of a device and those of its server are read so that they can be compared. The
// simulator and the model test both live on it.
//
// Every write of a row gives it a token, which nothing else was ever set to. So whoever keeps account can tell each write
// from every other, wherever it turns up.
//
// # Whose rows are whose
//
// Rows whose keys begin with "s-" are everybody's, and so are all documents. Rows whose keys begin with a writer's name and
// a dash are his alone, and rows of "v-" are only touched on the server. Two kinds of changes exclude each other there,
// whatever the order: a child of a row that somebody else deletes, and a unique value that somebody else has taken. Tame
// writers make neither: shared parents are never deleted, and no unique value is used twice but by the one who owns all
// rows with it. Wild writers make both, and quantities that the server refuses.
package workload
