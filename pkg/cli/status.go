package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

type statusOptions struct {
	flagsOnly
	f      *factory
	output output
}

func newStatusCommand(f *factory) *cobra.Command {
	o := &statusOptions{f: f}
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: groupCore,
		Short:   "Show the sessions of this laptop, their network and intercepts",
		Long:    "Show the sessions of this laptop: where they are connected, through which agent, and what they intercept.",
		Example: `  # What is connected and intercepted
  kubectl tele status

  # The lanes to each agent too
  kubectl tele status -o wide

  # For a script
  kubectl tele status -o json`,
		Args: noArgs,
		RunE: runE(o),
	}
	o.output.addFlag(cmd, "wide", "name")
	return cmd
}

func (o *statusOptions) validate() error { return o.output.validate() }

func (o *statusOptions) run(ctx context.Context) error {
	found, err := runningSessions(ctx)
	if err != nil {
		return err
	}
	all := make([]api.Status, 0, len(found))
	for _, r := range found {
		if r.silent != nil {
			_, _ = fmt.Fprintf(o.f.ErrOut, "warning: %v: kubectl tele quit --force ends it\n", r.silent)
			continue
		}
		all = append(all, r.status)
	}
	killed, err := helperKilled(ctx)
	if err != nil {
		return err
	}
	if killed {
		_, _ = fmt.Fprintln(o.f.ErrOut, "warning: the privileged helper is gone and has not put this machine's DNS back: kubectl tele quit does")
	}
	return o.output.print(o.f.Out, map[string]any{"sessions": all}, func(w io.Writer) {
		if o.output.format == "name" {
			for _, st := range all {
				_, _ = fmt.Fprintln(w, st.ID)
			}
			return
		}
		if len(found) == 0 {
			_, _ = fmt.Fprintln(o.f.ErrOut, "No session is running.")
		}
		for _, st := range all {
			printStatus(w, st, o.output.format == "wide")
		}
	})
}

// printStatus is for people; wide tells more of the agents.
func printStatus(w io.Writer, st api.Status, wide bool) {
	_, _ = fmt.Fprintf(w, "Session %s: context %s (%s), namespace %s, user %s, up %s\n",
		st.ID, st.Context, st.Server, st.Namespace, st.User, duration.HumanDuration(time.Since(st.Since)))
	if n := st.Network; n != nil {
		_, _ = fmt.Fprintf(w, "  network   %s, DNS %s for *.%s\n", n.Device, n.DNS, n.Domain)
		_, _ = fmt.Fprintf(w, "  services  %s\n", joinPrefixes(n.Services))
		_, _ = fmt.Fprintf(w, "  pods      %s\n", joinPrefixes(n.Pods))
		if len(n.Skipped) > 0 {
			_, _ = fmt.Fprintf(w, "  skipped   %s (routed elsewhere by this machine)\n", joinPrefixes(n.Skipped))
		}
		printAgent(w, n.Agent, wide)
	} else {
		_, _ = fmt.Fprintln(w, "  network   not connected (kubectl tele connect)")
	}
	for _, i := range st.Intercepts {
		what := ""
		if i.Match != "" {
			what = ", requests with " + i.Match
		}
		if i.Port == 0 {
			_, _ = fmt.Fprintf(w, "  mount     %s: %s\n", i.Workload, i.State)
		} else {
			_, _ = fmt.Fprintf(w, "  intercept %s port %s%s -> %s: %s\n", i.Workload, portText(i.Port, i.Protocol), what, i.Handler, i.State)
		}
		if i.Dir != "" {
			_, _ = fmt.Fprintf(w, "    files   %s, of container %s\n", i.Dir, i.Container)
		}
		if i.Shortened > 0 {
			_, _ = fmt.Fprintf(w, "    %d connections of this laptop went to the handler at once\n", i.Shortened)
		}
		if i.HandlerError != "" {
			_, _ = fmt.Fprintf(w, "    handler not reached, %s: %s\n", inPlace(i), i.HandlerError)
		}
		if i.Notice != "" {
			_, _ = fmt.Fprintf(w, "    notice  %s\n", i.Notice)
		}
		for _, a := range i.Agents {
			printAgent(w, a, wide)
		}
	}
}

func printAgent(w io.Writer, a api.AgentStatus, wide bool) {
	state := "not reached: " + a.Error
	if a.Up {
		state = fmt.Sprintf("round trip %s", a.RTT.Round(10*time.Microsecond))
		if wide {
			state += fmt.Sprintf(", lanes %d", a.Lanes)
		}
	}
	_, _ = fmt.Fprintf(w, "    agent   %s on %s (%s), %s\n", a.Pod, a.Node, a.Inject, state)
}

// inPlace says who answers in place of a handler that does not.
func inPlace(i api.InterceptStatus) string {
	if i.Mirror {
		return "copies are dropped"
	}
	if i.Refuse {
		return "requests are refused"
	}
	return "the app answers"
}
