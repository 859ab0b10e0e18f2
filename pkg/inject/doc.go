// Package inject puts an agent into a workload and takes it away again.
//
// Changes are pure functions from object to object ([Sidecar], [SwitchService],
// [Undo], [UndoService], [AddOwner], [RemoveOwner]); none changes its input. What
// a change did is written into one annotation of the changed object itself, in
// the same patch, so that anybody with the same rights can undo it from anywhere
// ([Record]). Undo is surgical: it removes our container, and restores a field
// only while it still holds our value. [Patch] and [Retry] bring a change to the
// API server, [Check] and [DryRun] refuse beforehand what would not work or would
// hurt, [WaitRollout] follows the pods, [Find] finds everything of ours.
//
// Which step comes after which, and talking to agents, is pkg/session's business.
//
// An error that a user can mend has a method Hint() string.
package inject
