// Package e2e proves whole engines against a whole server: several devices of one user under faults, and processes
// that are killed at random moments. Its tests take their length from the environment, so that an ordinary test run
// stays short and the slow gate runs them in full:
//
//	OVERSQLITE_E2E_KILLS     how many times the syncing process is killed (default 25)
//	OVERSQLITE_E2E_CONVERGE  how long the devices write at random (default 4s)
//	OVERSQLITE_E2E_MODEL     how long random histories are made up and checked step by step (default 8s)
//	OVERSQLITE_E2E_LATENCY   how many writes are followed to another device (default 10); where it is set, limits hold
//	OVERSQLITE_E2E_IDLE      how much virtual time passes in which nothing happens (default 2h)
//	OVERSQLITE_E2E_CONTRACT  dialect of the servers of tests that do not choose one (default: the classic one)
//	OVERSQLITE_E2E_SEED      seed of the random writers (default: the clock; always printed)
package e2e
