package intercept

import (
	"context"
	"fmt"
	"strings"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// matchOf reads the conditions of a request for an intercept, and spells them.
func matchOf(asked []api.Condition) (match []agent.Condition, text string, err error) {
	for _, c := range asked {
		match = append(match, agent.Condition{On: agent.Subject(c.On), Name: c.Name, Test: agent.Test(c.Test), Value: c.Value, Any: c.Any})
	}
	return match, spell(match), agent.ValidateConditions(match)
}

func spell(match []agent.Condition) string {
	var parts []string
	for _, c := range match {
		parts = append(parts, c.String())
	}
	return strings.Join(parts, " ")
}

// rules are what agents are asked for.
func (i *Intercept) rules() []agent.Rule {
	if i.spec.FilesOnly {
		return nil
	}
	r := agent.Rule{Port: i.target.app(), Action: agent.Take, Match: i.match}
	if i.spec.Mirror {
		r.Action = agent.Mirror
	}
	if i.spec.Refuse {
		r.Down = agent.Refuse
	}
	return []agent.Rule{r}
}

// need is what an agent has to be able to.
type need struct {
	feature agent.Feature
	what    string
}

// needs is what the rule takes.
func (i *Intercept) needs() (all []need) {
	if len(i.match) > 0 {
		all = append(all, need{agent.FeatureMatch, "tell requests apart"})
	}
	if i.spec.Mirror {
		all = append(all, need{agent.FeatureMirror, "copy requests"})
	}
	if i.spec.Refuse {
		all = append(all, need{agent.FeatureDown, "refuse traffic while the handler is down"})
	}
	if i.target.app().Protocol == agent.UDP {
		all = append(all, need{agent.FeatureUDP, "take datagrams"})
	}
	if i.spec.FilesOnly {
		all = append(all, need{agent.FeatureReaders, "be there for files alone"})
	}
	if i.target.files != "" {
		all = append(all, need{agent.FeatureFiles, "show files"})
	}
	if i.spec.TakeOver {
		all = append(all, need{agent.FeatureTakeOver, "take over from a session that is not reached"})
	}
	return all
}

// checkAgents makes sure that the agents can do what the intercept needs: they may
// be of an older version that a colleague brought. What they have to tell of
// connections that they cannot look into is said.
func (i *Intercept) checkAgents(ctx context.Context) error {
	needs := i.needs()
	if len(needs) == 0 {
		return nil
	}
	whole := 0
	for _, info := range i.agents.Ask(ctx).Infos {
		for _, need := range needs {
			if !info.Has(need.feature) {
				return hint.With(
					fmt.Errorf("the agent in pod %s is of version %s, which cannot %s", info.Pod, info.Version, need.what),
					"`kubectl tele list -o wide` shows who brought it; it is replaced when all have left")
			}
		}
		for _, c := range info.Captures {
			if c.Port() == i.target.app() {
				whole += c.Whole
			}
		}
	}
	if whole > 0 && len(i.match) > 0 {
		i.progress.emit().Warn(fmt.Sprintf("%d connections that clients opened before are not looked into: their requests go to the app until they are closed", whole))
	}
	return nil
}
