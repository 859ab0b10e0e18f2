package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/intercept"
)

// clusterLimit bounds commands that only ask the cluster a few things.
const clusterLimit = 9 * time.Second

type listOptions struct {
	flagsOnly
	f      *factory
	output output
}

func newListCommand(f *factory) *cobra.Command {
	o := &listOptions{f: f}
	cmd := &cobra.Command{
		Use:     "list",
		GroupID: groupCore,
		Short:   "List workloads, and who intercepts them",
		Long: `List the Deployments, StatefulSets and DaemonSets of the namespace and who
intercepts them: everybody's intercepts, as their agents tell. An owner whose laptop is gone is shown as such;
clean puts back what it left.`,
		Example: `  # Workloads of the current namespace
  kubectl tele list

  # With each port and its intercept's owner, for a script
  kubectl tele list -o json`,
		Args: noArgs,
		RunE: runE(o),
	}
	o.output.addFlag(cmd, "wide", "name")
	return cmd
}

func (o *listOptions) validate() error { return o.output.validate() }

func (o *listOptions) run(ctx context.Context) error {
	c, err := o.f.cluster()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, clusterLimit, fmt.Errorf("the cluster did not answer within %s", clusterLimit))
	defer cancel()
	workloads, err := intercept.List(ctx, c)
	if err != nil {
		return err
	}
	return o.output.print(o.f.Out, map[string]any{"workloads": workloads}, func(w io.Writer) {
		if o.output.format == "name" {
			for _, l := range workloads {
				_, _ = fmt.Fprintln(w, l.Kind+"."+l.Group+"/"+l.Name)
			}
			return
		}
		if len(workloads) == 0 {
			_, _ = fmt.Fprintf(o.f.ErrOut, "No workloads found in namespace %s.\n", c.Namespace())
			return
		}
		o.table(w, workloads)
	})
}

func (o *listOptions) table(w io.Writer, workloads []api.Workload) {
	wide := o.output.format == "wide"
	header := "WORKLOAD\tREPLICAS\tSTATE\tBY\tSINCE"
	if wide {
		header += "\tTAKEN\tCAPTURE\tAGENT IMAGE"
	}
	table(w, header, func(row func(string, ...any)) {
		for _, l := range workloads {
			name := nameOf(l.Kind + "/" + l.Name)
			line := fmt.Sprintf("%s\t%d/%d\t%s\t%s\t%s", name, l.Ready, l.Replicas, l.State, "<none>", "<none>")
			if len(l.Owners) > 0 {
				var by, since []string
				for _, owner := range l.Owners {
					who := fmt.Sprintf("%s@%s:%s", owner.User, owner.Host, portText(owner.Port, owner.Protocol))
					if owner.Port == 0 {
						who = fmt.Sprintf("%s@%s (files)", owner.User, owner.Host)
					}
					if owner.Match != "" {
						who += " [" + owner.Match + "]"
					}
					if owner.Mirror {
						who += " (copies)"
					}
					if !owner.Live {
						who += " (gone)"
					}
					by = append(by, who)
					since = append(since, duration.HumanDuration(time.Since(owner.Since)))
				}
				line = fmt.Sprintf("%s\t%d/%d\t%s\t%s\t%s", name, l.Ready, l.Replicas, l.State, strings.Join(by, ","), strings.Join(since, ","))
			}
			if wide {
				var taken []string
				for _, owner := range l.Owners {
					text := fmt.Sprint(owner.Taken)
					if owner.Dropped > 0 {
						text += fmt.Sprintf(" (%d dropped)", owner.Dropped)
					}
					taken = append(taken, text)
				}
				line += fmt.Sprintf("\t%s\t%s\t%s", orNone(strings.Join(taken, ",")), orNone(strings.Join(l.Capture, ",")), orNone(l.AgentImage))
			}
			row("%s", line)
		}
	})
	for _, l := range workloads {
		if text := opaque(l.Opaque); text != "" {
			_, _ = fmt.Fprintf(o.f.ErrOut, "%s: %s\n", l.Name, text)
		}
	}
}

// opaque says how many connections could not be looked into, and why; "" if none.
func opaque(counts map[string]int64) string {
	var total int64
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(counts)) {
		total += counts[why]
		parts = append(parts, fmt.Sprintf("%d %s", counts[why], why))
	}
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%d connections could not be looked into and went to the app: %s", total, strings.Join(parts, ", "))
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}
