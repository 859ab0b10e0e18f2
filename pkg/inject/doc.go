// Package inject puts an agent into a workload and takes it away again.
//
// A [Method] plans what it would do for an intercept as data: which objects it
// would change, what that costs, why it must not, and which rights it takes
// ([Plan]). Whoever carries the plan out knows no method by name. [Choose] tries
// the methods in their order.
//
// Changes are pure functions from object to object ([AddSidecar],
// [SwitchService], [Undo], [UndoService], [AddOwner], [RemoveOwner]); none changes
// its input. What a change did is written into one annotation of the changed
// object itself, in the same patch, so that anybody with the same rights can undo
// it from anywhere ([Record]). Undo is surgical: it removes our container, and
// restores a field only while it still holds our value. [Patch] and [Retry] bring
// a change to the API server, [Find] finds everything of ours.
//
// Which step comes after which, and talking to agents, is pkg/intercept's
// business. What a workload is, of any kind, is pkg/workload's.
//
// An error that a user can mend has a method Hint() string.
package inject
