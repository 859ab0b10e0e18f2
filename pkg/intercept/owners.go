package intercept

import (
	"fmt"
	"slices"
	"strings"
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
	// lostGrace is how long a session that an agent does not reach is expected
	// back: an API server restarts, a laptop changes its network.
	lostGrace = 30 * time.Second
)

// standing is what is known of an owner in an undo record.
type standing int

const (
	lost    standing = iota // every agent was asked, and none has the owner
	live                    // an agent has the owner's intercept in force
	unknown                 // an agent was not reached, or the owner may be on the way
)

func (s standing) String() string { return [...]string{"lost", "live", "unknown"}[s] }

// standingOf returns what the agents' answers say of an owner, and for unknown
// why they do not say more.
func standingOf(w *workload.Workload, o inject.Owner, census cluster.Census) (s standing, reason string) {
	missed, has := census.Missed(o.ID)
	switch {
	case census.Holds(o.ID):
		return live, ""
	case has && missed < lostGrace:
		return unknown, fmt.Sprintf("that session has not been reached for %d s and may come back", int(missed.Seconds()))
	case len(census.Unreached) > 0:
		return unknown, "the agent in pod " + strings.Join(census.Unreached, ", ") + " does not answer"
	case time.Since(o.Since) < registerGrace:
		return unknown, "that session has just begun"
	case !has && onTheWay(w, o, census.Infos):
		return unknown, fmt.Sprintf("no agent of port %d has been up for %s, in which a session registers", o.Port, registerGrace)
	}
	return lost, ""
}

// onTheWay reports whether an owner who is not registered with these agents may be
// about to: no agent that captures the owner's port has been there for long. There
// may be none at all, in a rollout or where a workload has no pod at the moment.
func onTheWay(w *workload.Workload, o inject.Owner, infos []agent.Info) bool {
	captured := slices.ContainsFunc(inject.CapturesIn(w), func(c inject.Capture) bool { return c.App == o.Port })
	return captured && !slices.ContainsFunc(infos, func(info agent.Info) bool {
		return info.UpSeconds >= registerGrace.Seconds() &&
			slices.ContainsFunc(info.Captures, func(c agent.CaptureInfo) bool { return c.App == o.Port })
	})
}
