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

// verdict is a standing and, for unknown, why the agents do not say more and
// whether they soon will.
type verdict struct {
	standing
	reason string
	soon   bool
}

// standingOf returns what the agents' answers say of an owner.
func standingOf(w *workload.Workload, o inject.Owner, census cluster.Census) verdict {
	missed, has := census.Missed(o.ID)
	switch {
	case census.Holds(o.ID):
		return verdict{standing: live}
	case has && missed < lostGrace:
		return verdict{unknown, fmt.Sprintf("that session has not been reached for %d s and may come back", int(missed.Seconds())), true}
	case len(census.Unreached) > 0:
		return verdict{unknown, "the agent in pod " + strings.Join(census.Unreached, ", ") + " does not answer", w.State.Rolling()}
	case time.Since(o.Since) < registerGrace:
		return verdict{unknown, "that session has just begun", true}
	case !has && (captures(w, o.Port) || o.Number == 0 && inject.ShowsFiles(&w.Template.Spec)):
		return onTheWay(o, census.Infos)
	}
	return verdict{standing: lost}
}

// captures reports whether the workload's agent captures the app's port.
func captures(w *workload.Workload, port agent.Port) bool {
	return slices.ContainsFunc(inject.CapturesIn(w), func(c inject.Capture) bool { return c.Port() == port })
}

// onTheWay says whether an owner who is not registered with these agents may be
// about to: no agent that captures the owner's port, or any for an owner of files
// alone, has been there for long. There may be none at all, in a rollout or where a
// workload has no pod at the moment.
func onTheWay(o inject.Owner, infos []agent.Info) verdict {
	longest := -1.0
	for _, info := range infos {
		if o.Number == 0 || slices.ContainsFunc(info.Captures, func(c agent.CaptureInfo) bool { return c.Port() == o.Port }) {
			longest = max(longest, info.UpSeconds)
		}
	}
	switch {
	case longest < 0:
		return verdict{unknown, fmt.Sprintf("no agent%s is there that could tell", ofPort(o.Port)), false}
	case longest < registerGrace.Seconds():
		return verdict{unknown, fmt.Sprintf("no agent%s has been up for %s, in which a session registers", ofPort(o.Port), registerGrace), true}
	}
	return verdict{standing: lost}
}

func ofPort(port agent.Port) string {
	if port.Number == 0 {
		return ""
	}
	return fmt.Sprintf(" of port %s", port)
}
