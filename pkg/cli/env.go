package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	env, err := c.Environment(ctx, w, o.container, "")
	if err != nil {
		return err
	}
	progress := newPrinter(o.f.ErrOut, false)
	defer progress.close()
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

// envFile is a file that gets the environment of an intercepted container.
type envFile struct {
	path   string
	syntax environ.Syntax
}

// write replaces the file at once, with what only its owner may read; one that a link leads
// to, and what is no file, such as /dev/stdout or a pipe, is written to. It returns the
// names of what its syntax cannot say.
func (f envFile) write(all []environ.Variable) (unwritten []string, err error) {
	var text bytes.Buffer
	if unwritten, err = environ.Write(&text, f.syntax, all); err != nil {
		return nil, err
	}
	path := f.path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if info, err := os.Stat(f.path); strings.HasPrefix(f.path, "/dev/") || err == nil && !info.Mode().IsRegular() {
		out, err := os.OpenFile(f.path, os.O_WRONLY, 0)
		if err == nil {
			_, err = out.Write(text.Bytes())
			err = errors.Join(err, out.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("write the environment: %w", err)
		}
		return unwritten, nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tele-env-*") // 0600
	if err != nil {
		return nil, fmt.Errorf("write the environment: %w", err)
	}
	_, err = tmp.Write(text.Bytes())
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("write the environment: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return unwritten, nil
}

// interceptEnv is what becomes of the environment of an intercepted container.
type interceptEnv struct {
	file, json string
	syntax     string
	selection  environ.Selection
	files      []envFile
}

func (e *interceptEnv) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.file, "env-file", "", "write the container's environment to this `FILE`, as --env-syntax says")
	cmd.Flags().StringVar(&e.json, "env-json", "", "write the container's environment to this `FILE`, as JSON")
	cmd.Flags().StringVar(&e.syntax, "env-syntax", string(environ.Docker), fmt.Sprintf("`SYNTAX` of --env-file, one of %v", environ.Syntaxes()))
	completeSyntax(cmd, "env-syntax")
	addSelection(cmd.Flags(), &e.selection)
}

func (e *interceptEnv) complete() error {
	for _, f := range []envFile{{e.file, environ.Syntax(e.syntax)}, {e.json, environ.JSON}} {
		if f.path == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(f.path)); err != nil || !info.IsDir() {
			return usageError(fmt.Errorf("the environment cannot be written to %s: there is no such folder", f.path))
		}
		if info, err := os.Stat(f.path); err == nil && info.IsDir() {
			return usageError(fmt.Errorf("the environment cannot be written to %s: it is a folder", f.path))
		}
		e.files = append(e.files, f)
	}
	return nil
}

// take selects what may be set here of a container's environment, adds where its files are,
// unless root is "", and writes the files.
func (e *interceptEnv) take(all []string, root string, progress *printer) (env []string, err error) {
	kept := selected(progress, e.selection, environ.FromStrings(all))
	if root != "" {
		kept = append(kept, environ.Variable{Name: "TELE_ROOT", Value: root})
	}
	for _, f := range e.files {
		unwritten, err := f.write(kept)
		if err != nil {
			return nil, err
		}
		tellUnwritten(progress, string(f.syntax), unwritten)
		progress.event(api.Event{Text: "environment written to " + f.path})
	}
	return environ.Environment{Variables: kept}.Strings(), nil
}
