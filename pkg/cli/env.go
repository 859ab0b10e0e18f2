package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/environ"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

type envOptions struct {
	f         *factory
	workload  string
	container string
	syntax    string
	selection environ.Selection
}

func newEnvCommand(f *factory) *cobra.Command {
	o := &envOptions{f: f}
	cmd := &cobra.Command{
		Use:     "env WORKLOAD [-c CONTAINER]",
		GroupID: groupOther,
		Short:   "Print the environment of a workload's container",
		Long: `Print the environment of a workload's container, for a process on this laptop.
Nothing in the cluster is changed.

Values are those of the running process, where its image has cat or env and you
may exec into it; else they are computed from the pod, its ConfigMaps and Secrets and the
Services. What could not be had is named, with the reason.

What is right in an image and wrong on a laptop is left out, and named, unless
--env-include says otherwise:
` + unfitNames(),
		Example: `  # Set it in this shell
  kubectl tele env back > back.sh && . ./back.sh

  # For docker run --env-file, of a certain container
  kubectl tele env back -c worker -o docker > back.env

  # Proxies too, but no keys
  kubectl tele env back --env-include 'HTTP*_PROXY' --env-exclude '*_KEY'`,
		RunE:              runE(o),
		ValidArgsFunction: f.completeWorkloads,
	}
	cmd.Flags().StringVarP(&o.container, "container", "c", "", "`NAME` of the container (default: the one that kubectl exec takes)")
	cmd.Flags().StringVarP(&o.syntax, "output", "o", string(environ.Sh), fmt.Sprintf("`SYNTAX`, one of %v", environ.Syntaxes()))
	completeSyntax(cmd, "output")
	addSelection(cmd.Flags(), &o.selection)
	return cmd
}

// unfitNames is the text of a help page.
func unfitNames() string {
	var out strings.Builder
	line := " "
	for _, name := range environ.Unfit() {
		if len(line)+len(name) > 76 {
			out.WriteString(line + "\n")
			line = " "
		}
		line += " " + name
	}
	return out.String() + line
}

func completeSyntax(cmd *cobra.Command, flag string) {
	var all []string
	for _, syntax := range environ.Syntaxes() {
		all = append(all, string(syntax))
	}
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp))
}

func addSelection(flags *pflag.FlagSet, s *environ.Selection) {
	flags.StringSliceVar(&s.Include, "env-include", nil, "`NAME,...` of variables that are left out else, or patterns such as HTTP*_PROXY; kubectl tele env --help lists what is left out")
	flags.StringSliceVar(&s.Exclude, "env-exclude", nil, "`NAME,...` of variables to leave out, or patterns such as '*_KEY'")
}

func validateEnv(syntax string, s environ.Selection) error {
	if !slices.Contains(environ.Syntaxes(), environ.Syntax(syntax)) {
		return usageError(fmt.Errorf("no environment is written as %q", syntax), fmt.Sprintf("one of %v", environ.Syntaxes()))
	}
	if err := s.Validate(); err != nil {
		return usageError(err, "--env-include HTTP_PROXY --env-exclude 'AWS_*'")
	}
	return nil
}

func (o *envOptions) complete(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError(fmt.Errorf("one workload is needed, not %d", len(args)), "kubectl tele env WORKLOAD", "kubectl tele list shows the workloads")
	}
	o.workload = args[0]
	return nil
}

func (o *envOptions) validate() error { return validateEnv(o.syntax, o.selection) }

func (o *envOptions) run(ctx context.Context) error {
	c, err := o.f.cluster()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*clusterLimit, fmt.Errorf("the cluster did not answer within %s", 2*clusterLimit))
	defer cancel()
	workloads, _, err := c.Kinds().Named(ctx, c.Client(), c.Namespace(), o.workload)
	if err != nil {
		return err
	}
	w := workload.WithPods(workloads)
	env, source, err := c.Environment(ctx, w, o.container, "")
	if err != nil {
		return err
	}
	progress := newPrinter(o.f.ErrOut, false)
	defer progress.close()
	progress.event(api.Event{Text: "environment of " + source})
	for _, missing := range env.Missing {
		progress.event(api.Event{Text: "not had: " + missing, Warning: true})
	}
	kept := selected(progress, o.selection, env.Variables)
	unwritten, err := environ.Write(o.f.Out, environ.Syntax(o.syntax), kept)
	tellUnwritten(progress, o.syntax, unwritten)
	return err
}

func tellLeft(progress *printer, left []string) {
	if len(left) > 0 {
		progress.event(api.Event{Text: "left out, as wrong on a laptop: " + strings.Join(left, ", ") + " (--env-include NAME takes it)"})
	}
}

// selected chooses variables, and tells what is left out, and what is asked for in vain.
func selected(progress *printer, s environ.Selection, all []environ.Variable) (kept []environ.Variable) {
	kept, left := s.Select(all)
	tellLeft(progress, left)
	for _, name := range s.Unmet(all) {
		progress.event(api.Event{Text: fmt.Sprintf("--env-include %s: the container has no such variable", name), Warning: true})
	}
	return kept
}

func tellUnwritten(progress *printer, syntax string, unwritten []string) {
	if len(unwritten) > 0 {
		progress.event(api.Event{Text: fmt.Sprintf("not written, as %s has no way to: %s", syntax, strings.Join(unwritten, ", ")), Warning: true})
	}
}
