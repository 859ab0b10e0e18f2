package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// completionLimit bounds asking the cluster for candidates: a shell waits.
const completionLimit = 3 * time.Second

// completeWorkloads offers the workloads of the namespace.
func (f *factory) completeWorkloads(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	p, err := f.place()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	client, err := p.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	all, err := workload.AllKinds().List(ctx, client, p.Namespace)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, len(all))
	for i, w := range all {
		names[i] = nameOf(w.String())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeIntercepts offers what the running session intercepts.
func (f *factory) completeIntercepts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	_, status, err := f.client(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, i := range status.Intercepts {
		names = append(names, nameOf(i.Workload))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// nameOf returns a workload's KIND/NAME as users write it: a name alone means a Deployment.
func nameOf(ref string) string {
	return strings.TrimPrefix(ref, workload.Deployments{}.Resource().Singular+"/")
}
