// Package intercept owns the life of intercepts: how one begins, stays in force,
// is left, and how what a lost session left is put back.
//
// [Intercepts] holds those of one session. Each [Intercept] has one goroutine,
// which owns its state; leaving cancels a beginning and waits until what it had
// done is undone:
//
//	starting -> active -> leaving -> gone
//	    \________________/
//
// A beginning carries out an inject.Plan in the order of its parts: the arrivals,
// then every agent has the intercept, then the switches. The end is the same for
// every method, because it is decided by the undo records on the objects alone,
// as they are at the moment of writing ([release]): Services before workloads,
// and from the start again when others have changed them meanwhile. [Clean] does
// the same from any machine, and [List] shows what the records say.
//
// The package talks to agents through pkg/cluster and hands connections to
// pkg/handler. It knows no inject method or capture by name, and no kind of
// workload.
package intercept
