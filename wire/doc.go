// Package wire holds what travels between an oversqlite client and its server: rows, keys, the requests and
// responses of every endpoint, and the dialects ("contracts") in which they are written.
//
// It owns every decision about bytes: how a column value is spelled in the local payload that the capture triggers
// write and in the payload that goes over the network, what the canonical JSON of a row is, and how request and
// bundle hashes are computed. It is pure: no I/O, no clock, no goroutine, no import of any other package of this
// module.
package wire
