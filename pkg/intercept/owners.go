package intercept

import (
	"slices"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

const (
	// registerGrace is how long an intercept may take to register with an agent
	// that listens.
	registerGrace = 10 * time.Second
	// rolloutGrace is how long it may wait for the first such agent.
	rolloutGrace = 3 * time.Minute
)

// standing is what is known of an owner in an undo record.
type standing int

const (
	lost    standing = iota // every agent was asked, and none knows the owner
	live                    // an agent has the owner's intercept in force
	unknown                 // an agent was not reached, or the owner may still be on the way
)

func (s standing) String() string { return [...]string{"lost", "live", "unknown"}[s] }

// standingOf returns what the agents' answers say of an owner.
func standingOf(w *workload.Workload, o inject.Owner, census cluster.Census) standing {
	switch {
	case census.Holds(o.ID):
		return live
	case len(census.Unreached) > 0, onTheWay(w, o, census.Infos):
		return unknown
	}
	return lost
}

// onTheWay reports whether an owner who is not registered with these agents may
// be about to: who waits for a rollout registers with the first of its agents.
func onTheWay(w *workload.Workload, o inject.Owner, infos []agent.Info) bool {
	since := time.Since(o.Since)
	waited := slices.ContainsFunc(infos, func(info agent.Info) bool { return info.UpSeconds >= registerGrace.Seconds() })
	return since < registerGrace || w.State.Rolling() && since < rolloutGrace && !waited
}
