// Package messages is the vocabulary of the engine's actors: what they tell each other, as plain immutable values,
// one sealed interface per receiver. It has no behaviour.
//
// A message is a wake-up; the truth is on disk. Every owner re-reads its state when it starts, so a lost message
// delays, it never loses.
package messages
