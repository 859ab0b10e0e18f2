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

// checkAgents makes sure that the agents can do what the intercept needs: they may
// be of an older version that a colleague brought. What they have to tell of
// connections that they cannot look into is said.
func (i *Intercept) checkAgents(ctx context.Context) error {
	if len(i.match) == 0 {
		return nil
	}
	whole := 0
	for _, info := range i.agents.Ask(ctx).Infos {
		if !info.Has(agent.FeatureMatch) {
			return hint.With(
				fmt.Errorf("the agent in pod %s is of version %s, which cannot tell requests apart", info.Pod, info.Version),
				"`kubectl tele list -o wide` shows who brought it; it is replaced when all have left")
		}
		for _, c := range info.Captures {
			if c.App == i.target.port.Number {
				whole += c.Whole
			}
		}
	}
	if whole > 0 {
		i.progress.emit().Warn(fmt.Sprintf("%d connections that clients opened before are not looked into: their requests go to the app until they are closed", whole))
	}
	return nil
}
