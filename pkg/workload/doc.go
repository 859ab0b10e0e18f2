// Package workload reads what a user names: a workload of any kind, the
// Services that select its pods, the port that is meant, its pods, the progress
// of its rollout, and the environment of one of its containers.
//
// A kind of workload is one value of the interface [Kind] in one file
// (deployment.go). The rest of the program sees a [Workload]: the object, its pod
// template, and a [State] that means the same for every kind.
//
// The package only reads; pkg/inject decides what is changed. A workload that
// already carries an agent should be given as it was before the agent came (see
// inject.Original), otherwise the agent's own ports are found as well.
//
// An error that a user can mend has a method Hint() string.
package workload
