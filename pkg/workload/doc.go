// Package workload reads what a user names: a Deployment, the Services that
// select its pods, the port that is meant, its pods, and the environment of one
// of its containers.
//
// It only reads. Changing objects is pkg/inject's business. A Deployment that
// already carries an agent should be given as it was before the agent came (see
// inject.Original), otherwise the agent's own ports are found as well.
//
// An error that a user can mend has a method Hint() string.
package workload
