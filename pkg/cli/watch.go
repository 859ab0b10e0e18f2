package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/intercept"
)

type watchOptions struct {
	f        *factory
	workload string
	mine     bool
	output   output
}

func newWatchCommand(f *factory) *cobra.Command {
	o := &watchOptions{f: f}
	cmd := &cobra.Command{
		Use:     "watch WORKLOAD",
		GroupID: groupCore,
		Short:   "Show the requests to an intercepted workload, and who answers them",
		Long: `Show each HTTP request to a workload that somebody intercepts, when its answer has
ended: who answered it (the app, you or a colleague), its status, how long that
took, and how many bytes went each way. All replicas are watched. Nothing of what
is carried is changed or kept.

On a terminal the requests are a list: move with the arrow keys, open one with
Enter, filter with /, leave with q. In a pipe they are lines.

Connections that were open before and that go to one place as a whole (where
nobody's requests are told apart), TLS, and what is not HTTP are not shown.`,
		Example: `  # What happens to Deployment back
  kubectl tele watch back

  # The requests that your handler answered, for a script
  kubectl tele watch back --mine -o json`,
		RunE:              runE(o),
		ValidArgsFunction: f.completeWorkloads,
	}
	cmd.Flags().BoolVar(&o.mine, "mine", false, "show only what your handlers answered")
	o.output.addFlag(cmd)
	return cmd
}

func (o *watchOptions) complete(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError(fmt.Errorf("one workload is needed, not %d", len(args)), "kubectl tele watch WORKLOAD", "kubectl tele list shows the workloads")
	}
	o.workload = args[0]
	return nil
}

func (o *watchOptions) validate() error { return o.output.validate() }

func (o *watchOptions) run(ctx context.Context) error {
	c, err := o.f.cluster()
	if err != nil {
		return err
	}
	if o.output.format == "" && isTerminal(o.f.Out) && isTerminal(o.f.In) {
		return o.runTerminal(ctx, c)
	}
	progress := newPrinter(o.f.ErrOut, false)
	defer progress.close()
	lines := &watchLines{w: o.f.Out, format: o.output.format, me: c.Owner()}
	parent := ctx
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	err = intercept.Watch(ctx, c, o.workload, o.handler(c, func(e agent.Exchange) {
		if err := lines.print(e); err != nil {
			cancel(err)
		}
	}, progress.event))
	if cause := context.Cause(ctx); err == nil && parent.Err() == nil && cause != nil && !errors.Is(cause, syscall.EPIPE) {
		return fmt.Errorf("write a request: %w", cause)
	}
	if err == nil && ctx.Err() == nil {
		progress.event(api.Event{Text: "nobody intercepts " + o.workload + " any more", Done: true})
	}
	return err
}

// handler passes on what is to be shown, one call at a time.
func (o *watchOptions) handler(c *cluster.Cluster, show func(agent.Exchange), p api.Progress) cluster.WatchHandler {
	var mu sync.Mutex
	return cluster.WatchHandler{
		Exchange: func(e agent.Exchange) {
			mu.Lock()
			defer mu.Unlock()
			me := c.Owner()
			if !o.mine || answererOf(e, me) == "me" || e.Meant != nil && e.Meant.User == me.User && e.Meant.Host == me.Host {
				show(e)
			}
		},
		Blind: func(pod string, err error) {
			p.Warn(fmt.Sprintf("the agent of pod %s does not tell of requests: %v", pod, err))
		},
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// watchLines writes a line a request.
type watchLines struct {
	w      io.Writer
	format string
	me     agent.Owner
}

func (l *watchLines) print(e agent.Exchange) error {
	switch l.format {
	case "json":
		return json.NewEncoder(l.w).Encode(e)
	case "yaml":
		data, err := yaml.Marshal(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(l.w, "---\n%s", data)
		return err
	}
	text := lineOf(e, l.me)
	if e.Missed > 0 {
		text = fmt.Sprintf("(%d more were missed)\n%s", e.Missed, text)
	}
	_, err := fmt.Fprintln(l.w, text)
	return err
}

// lineOf spells a request and its answer. Names and paths are somebody else's: they
// are quoted where a terminal would not print them.
func lineOf(e agent.Exchange, me agent.Owner) string {
	return strings.TrimRight(fmt.Sprintf("%s  %-6s %s  %s  %s  %s  %s", e.Begin.Local().Format("15:04:05.000"), printable(e.Method),
		printable(e.Host+e.Path), statusOf(e), took(e), traffic(e), answererOf(e, me)), " ")
}

// answererOf says who answered: app, me, or a colleague by name.
func answererOf(e agent.Exchange, me agent.Owner) string {
	switch {
	case e.By == nil:
		return "app"
	case e.By.User == me.User && e.By.Host == me.Host:
		return "me"
	}
	return printable(e.By.User + "@" + e.By.Host)
}

func statusOf(e agent.Exchange) string {
	status := fmt.Sprint(e.Status)
	if e.Status == 0 {
		status = "-"
	}
	if e.GRPC != "" {
		status += " grpc " + printable(e.GRPC)
	}
	if e.Failure != "" {
		status += " (" + printable(e.Failure) + ")"
	}
	if e.Instead != "" {
		status += " (handler: " + printable(e.Instead) + ")"
	}
	return status
}

func took(e agent.Exchange) string {
	d := time.Duration(e.Millis * float64(time.Millisecond))
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", e.Millis)
	}
	return d.Round(10 * time.Millisecond).String()
}

func traffic(e agent.Exchange) string { return bytesOf(e.Sent) + " > " + bytesOf(e.Got) }

func bytesOf(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// printable returns text without what would control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
