// Package local holds the plain values that describe what lives in the local database: the attachment, the
// operation in progress, the outbox, intents, conflicts, and the outcomes of the transactions that change them.
//
// It exists so that sqlite (which reads and writes them), messages (which carries them) and actors (which decide by
// them) share one vocabulary without knowing each other. It has no behaviour beyond small predicates and errors.
// The meaning of every field is that of the table column of the same name; see SPEC.md.
package local
