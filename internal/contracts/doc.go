// Package contracts runs the language-neutral fixtures that the clients of the protocol family share against this engine:
// cases in JSON, played to the real engine by a scripted server. There is nothing in it but tests.
//
// The fixtures are not part of this repository. Their folder is $OVERSQLITE_CONTRACTS, or else contracts in
// $OVERSQLITE_SHARED (default: ../shared beside the clone); without it the tests say so and are skipped as a whole. Its
// README.md says what every file means. Every case of every file that is there runs, in each dialect that its matrix
// allows; what does not is listed, with the reason, in skips_test.go, and what the engine answers otherwise than the other
// clients, because the specification of the family says so, in policies_test.go. Both tables are checked: they must name
// cases that exist and quote the words by which they stand.
package contracts
